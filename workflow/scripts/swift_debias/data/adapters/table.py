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
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ...config.base import Model, Text
from ...config.schema import Dataset

if TYPE_CHECKING:
    from ..manifest import ManifestResult

TITLE = "A table"


class LabelColumn(Model):
    """The label of a user's table: which values are the positive and the negative class."""

    column: str
    positive: tuple[Text, ...] = Field(min_length=1, description="Values of class 1.")
    negative: tuple[Text, ...] | None = Field(
        None, description="Values of class 0; default: every other value. Others are left out."
    )


class AttributeColumn(Model):
    """One sensitive attribute of a user's table, copied into the manifest under its own name."""

    column: str
    kind: Literal["category", "number"] = "category"
    unknown: tuple[Text, ...] = Field((), description="Values that mean 'not known'.")


class Options(Dataset):
    """Anybody's own data: a CSV or Parquet file with one row an image."""

    tables = ()

    adapter: Literal["table"]
    table: str = Field(description="CSV or Parquet file, relative to root.")
    path: str = Field(description="Column of the image's path, relative to `image_folder`.")
    image_folder: str = Field(".", description="Folder of the images, relative to root.")
    image_suffix: str = Field("", description="Appended to the path column, e.g. '.jpg'.")
    image_id: str | None = Field(None, description="Column of a unique id; default: the path.")
    patient: str | None = Field(None, description="Column of the patient; default: unknown.")
    label: LabelColumn
    attributes: dict[str, AttributeColumn] = Field(
        {}, description="Name of an attribute -> its column."
    )
    only: dict[str, tuple[Text, ...]] = Field(
        {}, description="Keep only rows whose column has one of these values."
    )
    citation: str = Field("", description="Licence and citation, shown in the report.")

    def named_tables(self) -> dict[str, str]:
        """The table."""
        return {"table": f"{self.root}/{self.table}"}

    def has_column(self, column: str) -> bool:
        """Whether the config names this attribute."""
        return column in self.attributes


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of a user's table."""
    from ..user_table import read

    return read(options, project)
