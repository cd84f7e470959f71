"""Interactive Atlas of Dermoscopy, in the release of Kawahara et al. (derm7pt).

Folder: `release_v0/` with `meta/meta.csv`, `meta/{train,valid,test}_indexes.csv` and `images/`,
whose subfolders and mixed letter case the metadata repeats. Every case has a dermoscopic and a
clinical image; nine of the clinical ones are missing and point to the dermoscopic one.

Inclusion rule: one image a case, of the kind that `image` chooses (default: dermoscopic). Label 0:
the six diagnoses that begin with 'melanoma' ('melanosis' is not one). No age, no patient ids; a
case is a lesion.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ...config.schema import Dataset
from ...errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from .. import raw_files
    from ..manifest import ManifestResult


SPLITS = ("train", "valid", "test")

TITLE = "Atlas"


class Options(Dataset):
    """Options of the Interactive Atlas of Dermoscopy (derm7pt)."""

    lacks = ("age", "fitzpatrick")
    tables = ("meta.csv", *(f"{split}_indexes.csv" for split in SPLITS))

    adapter: Literal["atlas"]
    image: Literal["dermoscopic", "clinical"] = Field(
        "dermoscopic", description="Which of a case's two images; the paper does not say [ours]."
    )


def read(options: Options, project: Path) -> ManifestResult:
    """Manifest of the Atlas."""
    from .. import raw_files
    from ..rows import Rows

    folder = raw_files.scan_dataset(options, project)
    rows = Rows.read(
        folder.table("meta.csv"),
        key="case_num",
        required=("case_num", "diagnosis", "sex", "clinic", "derm"),
    )
    frame = rows.frame
    column = "derm" if options.image == "dermoscopic" else "clinic"
    # Both are looked up, so that the other kind is not reported as files without a row.
    paths = {kind: folder.find(frame[kind], parts=2) for kind in ("derm", "clinic")}
    frame["path"] = paths[column]
    rows.drop(frame["diagnosis"].isna(), "no diagnosis")
    frame = rows.frame
    frame["label"] = (~frame["diagnosis"].str.casefold().str.startswith("melanoma")).astype("int8")
    frame["image_id"] = frame[column]
    frame["lesion_id"] = frame["case_num"]
    frame["sex"] = rows.sexes("sex")
    frame["split"] = _splits(folder, frame["case_num"])
    return rows.result(folder)


def _splits(folder: raw_files.Folder, cases: pd.Series) -> pd.Series:
    """The authors' split; their index files count the cases from 0.

    Raises:
        UserError: an index is no whole number.
    """
    from ..raw_tables import read_table
    from ..rows import clean_column

    of_case: dict[str, str] = {}
    for split in SPLITS:
        path = folder.optional_table(f"{split}_indexes.csv")
        if path is not None:
            cells = clean_column(read_table(path, ("indexes",))["indexes"]).dropna()
            odd = cells[~cells.str.isdecimal()]
            if len(odd):
                raise UserError(
                    f"{path}, row {odd.index[0] + 1}: {odd.iloc[0]!r} is no index of a case "
                    "(0, 1, ...)"
                )
            indexes = cells.astype(int)
            of_case.update({str(index + 1): split for index in indexes})
    return cases.map(of_case)
