"""Diverse Dermatology Images (DDI).

Folder: `ddi_metadata.csv` and `000001.png` ... beside it. Skin types come in pairs (12, 34, 56) and
are recorded as their midpoints 1.5, 3.5 and 5.5: the paper groups I-III against IV-VI and does not
say where 34 goes, so the attribute's groups in the config decide. Neither sex nor age nor patient.

Inclusion rule: every row with an image, but for malignant ones without a disease.
`target` says what is class 0: melanoma (default, as for the training data: any disease whose name
has 'melanoma' in it) or everything malignant.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ...config.schema import Dataset

if TYPE_CHECKING:
    from ..manifest import ManifestResult


MIDPOINTS = {"12": 1.5, "34": 3.5, "56": 5.5}

TITLE = "DDI"


class Options(Dataset):
    """Options of DDI."""

    lacks = ("sex", "age")
    tables = ("ddi_metadata.csv",)

    adapter: Literal["ddi"]
    target: Literal["melanoma", "malignant"] = Field(
        "melanoma",
        description="What counts as the disease; the paper does not say [ours: melanoma against "
        "the rest, as in training; 21 of 656 images, 171 are malignant].",
    )


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of DDI."""
    from .. import groups, raw_files
    from ..rows import Rows

    folder = raw_files.scan_dataset(options, project)
    rows = Rows.read(
        folder.table("ddi_metadata.csv"),
        key="DDI_file",
        required=("DDI_file", "skin_tone", "malignant", "disease"),
    )
    rows.frame["path"] = folder.find(rows.frame["DDI_file"])
    malignant = groups.matches(rows.frame["malignant"], (True,))
    benign = groups.matches(rows.frame["malignant"], (False,))
    rows.drop(~malignant & ~benign, "malignant is neither true nor false")
    if options.target == "melanoma":
        unnamed = rows.frame["disease"].isna() & groups.matches(rows.frame["malignant"], (True,))
        rows.drop(unnamed, "malignant, but no disease is named")
    frame = rows.frame
    if options.target == "melanoma":
        disease = frame["disease"].str.contains("melanoma", case=False, na=False)
    else:
        disease = groups.matches(frame["malignant"], (True,))
    frame["label"] = (~disease).astype("int8")
    frame["diagnosis"] = frame["disease"].fillna("unknown")
    frame["image_id"] = frame["DDI_file"]
    tones = frame["skin_tone"].map(MIDPOINTS).astype("float64")
    rows.attribute("fitzpatrick", "skin_tone", tones)
    unknown = frame["fitzpatrick"].isna()
    rows.note(unknown, "skin tone is none of 12, 34, 56; recorded as unknown")
    return rows.result(folder)
