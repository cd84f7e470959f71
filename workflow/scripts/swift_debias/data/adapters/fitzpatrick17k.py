"""Fitzpatrick-17k.

Folder: `fitzpatrick17k.csv` and the images, named by their hash (`<md5hash>.jpg`) or, as fetched
from their pages, by `url_alphanum`. Older copies of the CSV call the skin type `fitzpatrick`. Some
pages have vanished: their rows are counted as having no image file. No patient ids exist.

Inclusion rule: every row with an image; images of unknown skin type (-1) stay, with a null type.
`target` says what is class 0: melanoma (default), everything malignant, or malignant against benign
with non-neoplastic images left out. Rows that the quality check calls wrongly labelled stay, and
are counted, since the paper counts them (16,577 images).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ...config.schema import Dataset

if TYPE_CHECKING:
    from ..manifest import ManifestResult


TABLES = ("fitzpatrick17k.csv", "fitzpatrick17k*.csv")
MELANOMA = ("melanoma", "superficial spreading melanoma ssm", "malignant melanoma")
PARTITIONS = ("malignant", "benign", "non-neoplastic")

TITLE = "Fitzpatrick-17k"


class Options(Dataset):
    """Options of Fitzpatrick-17k."""

    lacks = ("sex", "age")
    tables = TABLES

    adapter: Literal["fitzpatrick17k"]
    target: Literal["melanoma", "malignant", "malignant_neoplastic"] = Field(
        "melanoma",
        description="What counts as the disease; the paper does not say [ours: melanoma against "
        "the rest]. malignant: malignant against all others; malignant_neoplastic: malignant "
        "against benign, non-neoplastic images left out.",
    )


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of Fitzpatrick-17k."""
    from .. import groups, raw_files
    from ..rows import Rows

    folder = raw_files.scan_dataset(options, project)
    rows = Rows.read(
        folder.table(*TABLES),
        key="md5hash",
        required=(
            "md5hash",
            ("fitzpatrick_scale", "fitzpatrick"),
            "label",
            "three_partition_label",
        ),
        optional=("qc", "url_alphanum"),
    )
    frame = rows.frame
    frame["path"] = folder.find(frame["md5hash"]).fillna(folder.find(frame["url_alphanum"]))
    rows.drop(frame["label"].isna(), "no label")
    if options.target != "melanoma":
        strange = ~groups.matches(rows.frame["three_partition_label"], PARTITIONS)
        rows.drop(strange, f"three_partition_label is none of {', '.join(PARTITIONS)}")
    if options.target == "malignant_neoplastic":
        other = groups.matches(rows.frame["three_partition_label"], ("non-neoplastic",))
        rows.drop(other, "non-neoplastic (options.target)")
    frame = rows.frame
    wrong = frame["qc"].str.startswith("3").eq(True)
    rows.note(wrong, "wrongly labelled by the data set's quality check; kept")
    if options.target == "melanoma":
        disease = groups.matches(frame["label"], MELANOMA)
    else:
        disease = groups.matches(frame["three_partition_label"], ("malignant",))
    frame["diagnosis"] = frame["label"]
    frame["label"] = (~disease).astype("int8")
    frame["image_id"] = frame["md5hash"]
    frame["fitzpatrick"] = rows.skin_types("fitzpatrick_scale")
    return rows.result(folder)
