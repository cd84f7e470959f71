"""Anybody's own data: one CSV or Parquet file with a row an image, described in the config.

Inclusion rule: the rows that `only` keeps, whose label is one of the values named, and whose path
is a plain path below the data set's root where an image lies. Paths that are absolute or climb out
with '..' are left out and counted; a path whose file has another image extension or letter case is
found all the same, and noted.

Attributes are copied under the names that the config gives them. Those named sex, age or
fitzpatrick are brought into the manifest's own form (female/male, years, 1 to 6).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from ...config.base import File, Flag, Line, Model, Text
from ...config.schema import Dataset
from ..values import canonical

if TYPE_CHECKING:
    from ..manifest import ManifestResult

TITLE = "A table"


class LabelColumn(Model):
    """The label of a user's table: which values are the positive and the negative class.

    A row whose value is in neither class is left out and counted, and so is one whose cell is
    empty or says 'not known' in any of the words of `data/values.py` (NA, unknown, '-' ...).
    """

    column: Line
    positive: tuple[Text, ...] = Field(min_length=1, description="Values of class 1.")
    negative: tuple[Text, ...] | None = Field(
        None,
        min_length=1,
        description="Values of class 0; needed unless `rest_is_negative`. Rows of other values "
        "are left out.",
    )
    rest_is_negative: Flag = Field(
        False, description="Every value that is neither positive nor unknown is of class 0."
    )
    unknown: tuple[Text, ...] = Field(
        (),
        description="Further values that mean 'not known', such as -1; their rows are left out.",
    )
    separator: str | None = Field(
        None,
        min_length=1,
        description="What stands between several findings in one cell, such as '|'. A row is of "
        "the class that one of its findings has; of both classes it is left out, unless "
        "`rest_is_negative`: then one positive finding makes it positive. Without it, cells that "
        "hold a class's value among others are refused, or left out.",
    )

    @model_validator(mode="after")
    def _each_value_once(self) -> LabelColumn:
        if (self.negative is None) != self.rest_is_negative:
            raise ValueError(
                "say which values are class 0: `negative: [...]`, or `rest_is_negative: true` "
                "where every other value is"
                if self.negative is None
                else "either negative: or rest_is_negative:, not both"
            )
        owner: dict[str | float | None, str] = {}
        for key in ("positive", "negative", "unknown"):
            for value in getattr(self, key) or ():
                if owner.setdefault(canonical(value), key) != key:
                    raise ValueError(
                        f"{value!r} stands in both {owner[canonical(value)]} and {key}"
                    )
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """All values that the config names."""
        return (*self.positive, *(self.negative or ()), *self.unknown)


class AttributeColumn(Model):
    """One sensitive attribute of a user's table, copied into the manifest under its own name."""

    column: Line
    kind: Literal["category", "number"] = "category"
    unknown: tuple[Text, ...] = Field(
        (),
        description="Further values that mean 'not known'; the usual words (NA, unknown ...) do.",
    )
    known: tuple[Text, ...] = Field(
        (), description="Words that are values here although they usually mean 'not known': none."
    )

    @model_validator(mode="after")
    def _known_or_unknown(self) -> AttributeColumn:
        unknown = {canonical(value) for value in self.unknown}
        for value in self.known:
            if canonical(value) in unknown:
                raise ValueError(f"{value!r} stands in both known and unknown")
        return self


class Options(Dataset):
    """Anybody's own data: a CSV or Parquet file with one row an image."""

    tables = ()

    adapter: Literal["table"]
    table: Annotated[Line, File(below="root")] = Field(
        description="CSV or Parquet file, relative to root."
    )
    path: Line = Field(description="Column of the image's path, relative to `image_folder`.")
    image_folder: Line = Field(".", description="Folder of the images, relative to root.")
    image_suffix: Text = Field("", description="Appended to the path column, e.g. '.jpg'.")
    image_id: Line | None = Field(None, description="Column of a unique id; default: the path.")
    patient: Line | None = Field(None, description="Column of the patient; default: unknown.")
    label: LabelColumn
    attributes: dict[Line, AttributeColumn] = Field(
        {}, description="Name of an attribute -> its column."
    )
    only: dict[Line, Annotated[tuple[Text, ...], Field(min_length=1)]] = Field(
        {}, description="Keep only rows whose column has one of these values."
    )
    citation: Text = Field("", description="Licence and citation, shown in the report.")

    def named_tables(self) -> dict[str, str]:
        """The table."""
        return {"table": f"{self.root}/{self.table}"}

    def has_column(self, column: str) -> bool:
        """Whether the config names this attribute."""
        measured = column == "fitzpatrick" and self.skin_tone == "ita"
        return measured or column in self.attributes


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of a user's table."""
    from ..user_table import read

    return read(options, project)
