"""A part of a data set: some of its lesions, patients or images, decided by their ids alone.

Every id gets a number between 0 and 1 from a hash of the seed and the id, and a part has those in
its interval. Entries of one folder with intervals that do not meet share nobody, on every machine
and in any order of rows; whatever is added to the folder later moves nobody.
"""

from __future__ import annotations

import pandas as pd

from ..config.schema import Part
from ..errors import UserError
from ..seeds import derive_seed
from .manifest import ManifestResult

EXAMPLES = 10  # ids named in the log


def numbers(ids: pd.Series, seed: int) -> pd.Series:
    """The number of each id, float64 in [0, 1)."""
    found = {one: (derive_seed(seed, "part", one) >> 10) / 2**53 for one in ids.unique()}
    return ids.map(found)


def take(result: ManifestResult, part: Part) -> ManifestResult:
    """The rows of a part; the others are counted in the log, by a rule of their own.

    An image without a lesion (or patient) is one of its own.

    Raises:
        UserError: no image has one.
    """
    frame, log = result
    own = part.by + "/" + frame[f"{part.by}_id"]
    if len(frame) and own.isna().all():
        raise UserError(f"part: no image has a known {part.by}; say by: image")
    low, high = part.between
    inside = numbers(own.fillna("image/" + frame["image_id"]), part.seed)
    inside = (inside >= low) & (inside < high)
    rule = {
        "rule": f"outside of the part, {low:g} to {high:g} of every {part.by}",
        "removed": int((~inside).sum()),
        "examples": frame["image_id"][~inside].head(EXAMPLES).tolist(),
    }
    kept = frame[inside].reset_index(drop=True)
    rules = [*log["rules"], rule]
    return ManifestResult(kept, {**log, "rows_kept": len(kept), "rules": rules})
