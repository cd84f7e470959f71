"""A data set: its adapter, its folder, and what it can say of a column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..base import Integer, Line, Model, Place, Share
from .attributes import Attribute

# Columns of a manifest that mean the same in every data set: attributes are cut from these, and
# from the attributes of a user's own table.
SHARED_COLUMNS = ("sex", "age", "fitzpatrick", "view", "split")
# Rules by which lightness and b* become an angle; each has a column of its own beside
# `fitzpatrick`, for attributes that compare them (config/skin_tone_rule.yaml).
ANGLE_RULES = ("arctan", "atan2", "unknown_if_blue")
SKIN_TYPES = ("fitzpatrick", *(f"fitzpatrick_{rule}" for rule in ANGLE_RULES))


class Part(Model):
    """A part of a data set, by the ids of its lesions, patients or images (`data/parts.py`).

    Two entries of one folder, `between: [0, 0.75]` and `between: [0.75, 1]`, train on some and hold
    out the others.
    """

    by: Literal["lesion", "patient", "image"] = Field(
        description="What stays together; an image without a known one is one of its own."
    )
    between: tuple[Share, Share] = Field(
        description="Each id has a number from 0 to 1, by a hash: those from the first of the two "
        "on, and below the second, are the part."
    )
    seed: Integer = Field(0, ge=-(2**63), lt=2**63, description="Another one deals anew.")

    @model_validator(mode="after")
    def _not_empty(self) -> Part:
        if not self.between[0] < self.between[1]:
            raise ValueError("between: nothing lies there; the first number is below the second")
        return self


def annotated(column: str) -> str:
    """The manifest's column that holds what people annotated: of a skin type by any rule one."""
    return "fitzpatrick" if column in SKIN_TYPES else column


class Dataset(Model):
    """One data set: its adapter (a file of `data/adapters/`) and its folder.

    An adapter's `Options` add its own keys.
    """

    lacks: ClassVar[tuple[str, ...]] = ()  # manifest columns that its source does not have
    # names of the tables that its adapter reads, '*' allowed: an edit of one reruns what uses it
    tables: ClassVar[tuple[str, ...]] = ("*.csv", "*.tsv", "*.tab", "*.txt", "*.parquet", "*.pq")
    tables_beside: ClassVar[bool] = False  # they may also lie next to the root
    places: ClassVar[tuple[str, ...]] = ("root",)  # keys that only say where: a move reruns nothing

    adapter: Line = Field(description="A file of workflow/scripts/swift_debias/data/adapters/.")
    root: Place = Field(
        description="Folder, as unpacked from the official archives; `~` and `$NAME` may be in it. "
        "Beside `synthetic` it is left out: each run draws its own."
    )
    archive: Line | None = Field(
        None,
        description="Data sets of one archive share the ids of images, patients and lesions, as "
        "the ISIC years do; default: the data set alone, with others that read the same folder "
        "and table. Equal ids of different archives mean nothing.",
    )
    skin_tone: Literal["manifest", "ita"] = Field(
        "manifest",
        description="Where the skin type comes from: the data set's own annotation, or the "
        "individual typology angle of the image (ISIC has no annotation) [paper].",
    )
    part: Part | None = Field(
        None, description="Only a part of it, such as held-out lesions; null: all of it [ours]."
    )

    def named_tables(self) -> dict[str, str]:
        """Key -> table that the config names, a path relative to the project."""
        return {}

    def has_column(self, column: str) -> bool:
        """Whether the manifest can fill this column (known before any file is read)."""
        if self.measures(column):
            return True
        column = annotated(column)
        return column in SHARED_COLUMNS and column not in self.lacks

    def measures(self, column: str) -> bool:
        """Whether this column comes from the pixels and not from the data set's own table."""
        return column in SKIN_TYPES and self.skin_tone == "ita"

    def classes_of_words(self) -> Mapping[Any, tuple[str, int]]:
        """Words, in the form they are compared in -> as written, and the class they are said to be.

        Empty where the entry names no values of classes; codes such as 0 and yes are no words.
        """
        return {}

    def groups_of_words(self, attribute: Attribute) -> Mapping[Any, tuple[str, str]]:
        """The same of an attribute that is no intersection: as written, and the group."""
        return {}

    def lacking(self, attribute: Attribute) -> str | None:
        """The first column of an attribute that the manifest cannot fill, or None."""
        return next((c for c in attribute.columns if not self.has_column(c)), None)

    def reads(self, attribute: Attribute) -> bool:
        """Whether an attribute is known from the data set's own table, pixels not needed."""
        return all(self.has_column(c) and not self.measures(c) for c in attribute.columns)
