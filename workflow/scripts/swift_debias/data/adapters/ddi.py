"""Diverse Dermatology Images (DDI).

Folder: `ddi_metadata.csv` and `000001.png` ... beside it. Skin types come in pairs (12, 34, 56) and
are recorded as their midpoints 1.5, 3.5 and 5.5: the paper groups I-III against IV-VI and does not
say where 34 goes, so the attribute's groups in the config decide. Neither sex nor age nor patient.

Inclusion rule: every row with an image. `target` says what is class 0: melanoma (default, as for
the training data: any disease whose name has 'melanoma' in it) or everything malignant.
"""

from __future__ import annotations

from pathlib import Path

from ...config.schema import Ddi
from .. import groups, manifest, raw_files
from ..rows import Rows

MIDPOINTS = {"12": 1.5, "34": 3.5, "56": 5.5}


def read(options: Ddi, project: Path) -> manifest.ManifestResult:
    """Manifest of DDI."""
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
    frame = rows.frame
    if options.target == "melanoma":
        disease = frame["disease"].str.contains("melanoma", case=False, na=False)
    else:
        disease = groups.matches(frame["malignant"], (True,))
    frame["label"] = (~disease).astype("int8")
    frame["diagnosis"] = frame["disease"].fillna("unknown")
    frame["image_id"] = frame["DDI_file"]
    frame["fitzpatrick"] = frame["skin_tone"].map(MIDPOINTS).astype("float64")
    unknown = frame["fitzpatrick"].isna()
    rows.note(unknown, "skin tone is none of 12, 34, 56; recorded as unknown")
    return rows.result(folder)
