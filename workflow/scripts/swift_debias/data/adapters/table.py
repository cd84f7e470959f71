"""Anybody's own data: CSV or Parquet files, described in the config; docs/tables.md has examples.

Inclusion rule: the rows that `only` keeps, whose label is one of the values named, and whose path
is a plain path below the data set's root where an image lies. Paths that are absolute or climb out
with '..' are left out and counted, unless `lookup: name` reads no more of them than the name. A
path whose file has another image extension or letter case is found all the same, and noted.

The order: `joins` add columns, `only` leaves rows out, the label decides each row, `several_rows`
makes one row of those of an image, and attributes are read.

Attributes are copied under the names that the config gives them. Those named sex, age or
fitzpatrick are brought into the manifest's own form (female/male, years, 1 to 6).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from ...config.base import File, Flag, Fraction, Line, Model, Text, place
from ...config.schema import Attribute, Dataset, annotated
from ..age_columns import hold_ages, unit_named
from ..templates import columns_in
from ..values import canonical, is_code

if TYPE_CHECKING:
    from ..manifest import ManifestResult

TITLE = "A table"


def _listed(value: Any) -> Any:
    """One value where a list of them is meant."""
    return value if isinstance(value, list | tuple) else (value,)


# One value or several, as people write it: `only: { Projection: PA }`.
Texts: TypeAlias = Annotated[
    tuple[Text, ...],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=str | float | tuple[str | float, ...]),
]
Lines: TypeAlias = Annotated[
    tuple[Line, ...],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]),
]


class LabelColumn(Model):
    """The label of a user's table: which values are the positive and the negative class.

    For a task of more classes (`tasks.<name>.classes`) the task says it, and here stand neither.

    A row whose value is in neither class is left out and counted, and so is one whose field is
    empty or says 'not known' in any of the words of `data/values.py` (NA, unknown, '-' ...).
    """

    column: Line
    positive: tuple[Text, ...] | None = Field(
        None,
        min_length=1,
        description="Values of class 1; needed unless the task has `classes`.",
    )
    negative: tuple[Text, ...] | None = Field(
        None,
        min_length=1,
        description="Values of class 0; needed unless `rest_is_negative`. Rows of other values "
        "are left out. With `rest_is_negative`: values of class 0 that would be refused without "
        "being named.",
    )
    rest_is_negative: Flag = Field(
        False,
        description="Every value that is neither positive nor unknown is of class 0. Refused is "
        "what looks like none: a field or finding that holds a named value among others ('atypical "
        "nevus' beside `nevus`), unless a word such as 'no' before it denies it; words for "
        "'uncertain'; and -1 beside 0 and 1. Name such fields as a whole.",
    )
    unknown: tuple[Text, ...] = Field(
        (),
        description="Further values that mean 'not known', such as -1; their rows are left out.",
    )
    separator: str | None = Field(
        None,
        min_length=1,
        description="What stands between several findings in one field, such as '|'. A row is of "
        "the class that one of its findings has; of both classes it is left out, unless "
        "`rest_is_negative`: then one positive finding makes it positive. Without it, fields that "
        "hold a class's value among others are refused, or left out. A list as Python writes it "
        "(`['A', 'B']`) is read as one, quotes and commas inside a finding included.",
    )
    contains: Flag = Field(
        False,
        description="A value counts where its words stand in a finding, next to others: melanoma "
        "in 'melanoma (in situ)', but not in 'melanomatosis'. So it does in 'no melanoma' and "
        "'non-melanoma': data_check names such fields; put them under `unknown`, or leave this "
        "out and name whole fields.",
    )
    least_weight: Fraction | None = Field(
        None,
        description="For fields that weigh their findings, `{'Eczema': 0.67, 'Psoriasis': 0.33}`: "
        "those of at least this weight count.",
    )
    uncertain: tuple[Text, ...] = Field(
        (), description="Values that say that a finding is uncertain, such as CheXpert's -1."
    )
    uncertain_is: Literal["drop", "positive", "negative"] = Field(
        "drop", description="What becomes of their rows: left out, class 1, or class 0."
    )
    empty_is_negative: Flag = Field(
        False,
        description="Cells with nothing in them are class 0, where a finding that is not "
        "mentioned is taken to be absent; words for 'not known' stay unknown.",
    )
    several_rows: Literal["refuse", "any", "all", "majority"] = Field(
        "refuse",
        description="Rows of one image, such as one a reader or a box. refuse: they must be "
        "equal; else class 1 where any, all, or most of those that are of a class are. A tie is "
        "left out.",
    )
    reader: Line | None = Field(
        None,
        description="Column of who read the image, with `several_rows`: all rows of a reader are "
        "one vote, positive where any of them is.",
    )

    @model_validator(mode="after")
    def _each_value_once(self) -> LabelColumn:
        if self.positive is None:
            self._classes_are_the_tasks()
        elif self.negative is None and not self.rest_is_negative:
            raise ValueError(
                "say which values are class 0: `negative: [...]`, or `rest_is_negative: true` "
                "where every other value is"
            )
        owner: dict[str | float | None, str] = {}
        for key in ("positive", "negative", "unknown", "uncertain"):
            for value in getattr(self, key) or ():
                if owner.setdefault(canonical(value), key) != key:
                    raise ValueError(
                        f"{value!r} stands in both {owner[canonical(value)]} and {key}"
                    )
        if self.reader is not None and self.several_rows == "refuse":
            raise ValueError("reader: says whose rows are one vote; several_rows: says how to vote")
        if self.uncertain_is != "drop" and not self.uncertain:
            raise ValueError("uncertain_is: needs uncertain:, the values that it is about")
        return self

    def _classes_are_the_tasks(self) -> None:
        """Refuse what means nothing without a positive class."""
        usual = type(self).model_fields
        for key in sorted(self.model_fields_set - {"column", "unknown"}):
            if getattr(self, key) != usual[key].get_default():
                raise ValueError(
                    f"{key}: goes with positive:, which is missing (the values of class 1); a task "
                    "with classes: names the values of its classes itself"
                )

    @property
    def named(self) -> tuple[str, ...]:
        """All values that the config names."""
        return (*(self.positive or ()), *(self.negative or ()), *self.unknown, *self.uncertain)


class AttributeColumn(Model):
    """One sensitive attribute of a user's table, copied into the manifest under its own name."""

    column: Line
    kind: Literal["category", "number", "birth", "band"] = Field(
        "category",
        description="birth: a date or year of birth, which `at` makes an age in years. band: "
        "AGE_30_TO_39, [30, 40), 80+, <18, 6-12 months, taken as the middle (35), or the bound "
        "where there is one only. Ages with a unit (058Y, 011M) are read as they are, under the "
        "name `age` or of a column so called.",
    )
    at: Line | None = Field(
        None,
        description="Column of the date at which the age is wanted, for `kind: birth`. Dates are "
        "YYYY, YYYYMMDD or YYYY-MM-DD; where one is a year alone, years are subtracted.",
    )
    unit: Literal["years", "months", "weeks", "days"] = Field(
        "years",
        description="Of ages that have none in their fields: of `kind: band`, and of numbers whose "
        "attribute or column is called an age. They become years. To be said where a name says "
        "months, weeks or days. Ages outside 0 to 120 years, such as -1 and 999, are unknown and "
        "counted.",
    )
    values: dict[Text, Texts] = Field(
        {}, description="New value -> the values of the column that become it; others: unknown."
    )
    unknown: tuple[Text, ...] = Field(
        (),
        description="Further values that mean 'not known'; the usual words (NA, unknown ...) do.",
    )
    known: tuple[Text, ...] = Field(
        (), description="Words that are values here although they usually mean 'not known': none."
    )

    def holds_ages(self, name: str) -> bool:
        """Whether these are ages, which become years from 0 to 120.

        Args:
            name: of the attribute.
        """
        if self.kind == "number":
            return hold_ages(name, self.column)
        return name == "age" or self.kind in ("birth", "band")

    def unit_missing(self, name: str) -> str:
        """The unit that a name says and the entry does not; '' where none is missing."""
        if not self.holds_ages(name) or self.kind == "birth" or "unit" in self.model_fields_set:
            return ""
        units = {unit_named(one) for one in (name, self.column)} - {"years"}
        return min(units, default="")

    @model_validator(mode="after")
    def _known_or_unknown(self) -> AttributeColumn:
        unknown = {canonical(value) for value in self.unknown}
        for value in self.known:
            if canonical(value) in unknown:
                raise ValueError(f"{value!r} stands in both known and unknown")
        if (self.kind == "birth") != (self.at is not None):
            raise ValueError("kind: birth and at: (the column of the date) go together")
        if self.kind == "birth" and self.unit != "years":
            raise ValueError("unit: goes with numbers and bands; dates make years")
        owner: dict[str | float | None, str] = {}
        for name, values in self.values.items():
            for value in values:
                if owner.setdefault(canonical(value), name) != name:
                    raise ValueError(f"values: {value!r} becomes two values")
        return self


class Join(Model):
    """A further table, whose columns are added where its key equals ours (a left join).

    A row that finds several rows there becomes several: `label.several_rows` says what is made of
    them. One that finds none keeps empty fields, and is noted.
    """

    table: Annotated[Line, File(below="root")] = Field(
        description="CSV or Parquet file, relative to the data set's root."
    )
    by: Lines = Field(description="Column, or columns, of the key in the tables before.")
    to: Lines | None = Field(None, description="What they are called in this table; default: so.")
    prefix: Text = Field(
        "", description="Put before the names of its columns where both tables have one so called."
    )

    @model_validator(mode="after")
    def _equally_many(self) -> Join:
        if self.to is not None and len(self.to) != len(self.by):
            raise ValueError(f"by: has {len(self.by)} columns, to: has {len(self.to)}")
        return self

    @property
    def their(self) -> tuple[str, ...]:
        """The key's columns in this table."""
        return self.by if self.to is None else self.to


class Options(Dataset):
    """Anybody's own data: CSV or Parquet files with one row an image, or several."""

    tables = ()

    adapter: Literal["table"]
    table: Annotated[Line, File(below="root")] | None = Field(
        None,
        description="CSV or Parquet file, relative to root; not needed where DICOM files alone "
        "are the data set (`dicom`).",
    )
    joins: tuple[Join, ...] = Field((), description="Further tables, joined by a key.")
    dicom: tuple[Line, ...] = Field(
        (),
        description="Tags of DICOM files that become columns: PatientSex, PatientAge, "
        "ViewPosition, Manufacturer. Without a `table` every DICOM file is a row, with the columns "
        "`file` (below `image_folder`) and `folder` (that it lies in) too. Needs the extra "
        "`dicom`.",
    )
    deidentify: Flag = Field(
        True,
        description="Ids that are read from DICOM tags (PatientID, AccessionNumber, UIDs) are "
        "replaced by a hash, after joins; false keeps them.",
    )
    path: Lines | None = Field(
        None,
        description="Column of the image's path, relative to `image_folder`, or a template of "
        "columns: `{ImageDir}/{ImageID}.png`. Several where a row, such as a case, has several "
        "images.",
    )
    several_images: Literal["each", "first"] = Field(
        "each",
        description="Of a row's several images: each is an image of its own (those of a row are "
        "bound together as one lesion, unless `lesion` says otherwise), or the first that is "
        "named alone.",
    )
    lookup: Literal["path", "name"] = Field(
        "path",
        description="path: the image lies there. name: a file of this name is looked for anywhere "
        "below `image_folder`, whatever folder the path names (`C:\\scans\\1.png`); where several "
        "have it, or rows of several paths name one, they are left out.",
    )
    image_folder: Line = Field(".", description="Folder of the images, relative to root.")
    image_suffix: Text = Field("", description="Appended to the path, e.g. '.jpg'.")
    image_id: Line | None = Field(None, description="Column of a unique id; default: the path.")
    patient: Line | None = Field(None, description="Column of the patient; default: unknown.")
    lesion: Line | None = Field(
        None, description="Column of the lesion, whose images stay together; default: unknown."
    )
    unknown_ids: tuple[Text, ...] = Field(
        (),
        description="Further values of `patient` and `lesion` that are nobody's, such as 0 or a "
        "name that stands for all; words for 'not known', `anonymous`, -1 and their like are. "
        "Each image of theirs is as of a person of its own.",
    )
    label: LabelColumn
    attributes: dict[Line, AttributeColumn] = Field(
        {}, description="Name of an attribute -> its column."
    )
    only: dict[Line, Texts] = Field(
        {},
        description="Keep only rows whose column has this value, or one of these: "
        "`{Projection: PA}`.",
    )
    citation: Text = Field("", description="Licence and citation, shown in the report.")

    @model_validator(mode="after")
    def _a_table_or_dicom(self) -> Options:
        if self.table is None and not self.dicom:
            raise ValueError("table: is missing; or name tags in dicom:, where files are the rows")
        if (self.table is None) != (self.path is None):
            raise ValueError(
                "path: is missing: the column of the image's path"
                if self.path is None
                else "path: is a column of a table; without one every DICOM file is a row"
            )
        return self

    @model_validator(mode="after")
    def _the_patient_has_a_column(self) -> Options:
        """Not the label's or an attribute's; those two may share one, for different tasks."""
        if self.unknown_ids and not (self.patient or self.lesion):
            raise ValueError("unknown_ids: are of patient: or lesion:, and neither is given")
        label = self.label.column
        if self.patient == label:
            raise ValueError(f"patient: and label.column: name the same column {label!r}")
        for name, one in self.attributes.items():
            key = f"attributes.{place(name)}.column"
            if one.column == self.patient:
                raise ValueError(f"patient: and {key}: name the same column {one.column!r}")
        return self

    @model_validator(mode="after")
    def _units_are_of_ages(self) -> Options:
        for name, one in self.attributes.items():
            if one.unit != "years" and not one.holds_ages(name):
                raise ValueError(
                    f"attributes.{place(name)}.unit: is of ages: call the attribute age, or give "
                    "it kind: band"
                )
            if unit := one.unit_missing(name):
                raise ValueError(
                    f"attributes.{place(name)}.unit: is missing: by its name column "
                    f"{one.column!r} holds ages in {unit}; say unit: {unit}, and cut them in "
                    "years, which they become; or unit: years, if they are"
                )
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """Columns or templates of the images' paths."""
        return ("file",) if self.path is None else self.path

    def named_tables(self) -> dict[str, str]:
        """The tables."""
        joined = {f"joins.{n}.table": join.table for n, join in enumerate(self.joins)}
        tables = ({} if self.table is None else {"table": self.table}) | joined
        return {key: f"{self.root}/{table}" for key, table in tables.items()}

    def named_columns(self) -> Iterator[str]:
        """Every column of a table that the config names, but keys of joins."""
        if self.image_id is not None:
            yield self.image_id
        for path in self.paths:
            yield from columns_in(path)
        yield self.label.column
        yield from (one for one in (self.patient, self.lesion, self.label.reader) if one)
        yield from self.only
        for attribute in self.attributes.values():
            yield attribute.column
            if attribute.at is not None:
                yield attribute.at

    def classes_of_words(self) -> Mapping[Any, tuple[str, int]]:
        """Words of `label.positive` and `label.negative`."""
        named = {1: self.label.positive or (), 0: self.label.negative or ()}
        return {
            canonical(value): (value, number)
            for number, values in named.items()
            for value in values
            if not is_code(value)
        }

    def groups_of_words(self, attribute: Attribute) -> Mapping[Any, tuple[str, str]]:
        """Words of the attribute's column, by way of its `values` where it has them."""
        own = self.attributes.get(annotated(attribute.column or ""))
        if own is None or self.measures(attribute.column or ""):
            return {}
        groups = {
            canonical(value): (str(value), group)
            for group, values in (attribute.groups or {}).items()
            for value in values
        }
        if own.values:
            groups = {
                canonical(value): (value, groups[canonical(name)][1])
                for name, values in own.values.items()
                if canonical(name) in groups
                for value in values
            }
        return {key: found for key, found in groups.items() if not is_code(found[0])}

    def has_column(self, column: str) -> bool:
        """Whether the config names this attribute."""
        return self.measures(column) or annotated(column) in self.attributes


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of a user's table."""
    from ..user_table import read

    return read(options, project)
