"""The classes of a task with more than two: which diagnosis of a manifest is which class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..errors import UserError
from .groups import matches
from .manifest import ManifestResult
from .rows import EXAMPLES, value_counts
from .user_label import NO_CLASS
from .values import canonical


def label_classes(
    result: ManifestResult, classes: Mapping[str, Sequence[str]], dataset: str
) -> ManifestResult:
    """Label a manifest's rows 0 to C - 1 by their diagnosis; others are left out and counted.

    Values are compared as everywhere (`values.canonical`). A value that no row has is noted.

    Args:
        result: as an adapter made it, whatever its labels are.
        classes: name -> values of the column `diagnosis`, in the order of the labels.
        dataset: its name, for messages.

    Raises:
        UserError: no row is of a class, which is a misspelling more often than not.
    """
    frame, log = result
    words = frame["diagnosis"]
    label = np.full(len(frame), -1)
    found = {canonical(value) for value in words.dropna().unique()}
    notes = list(log["notes"])
    for number, (name, values) in enumerate(classes.items()):
        hits = matches(words, values).to_numpy()
        if not hits.any():
            shown = ", ".join(map(repr, sorted(words.dropna().unique())[:20]))
            raise UserError(
                f"classes.{name}: no row of {dataset} has the diagnosis {' or '.join(values)}; its "
                f"values are {shown or 'all empty'}"
            )
        absent = [value for value in values if canonical(value) not in found]
        if absent:
            text = f"values of classes.{name} that no row has"
            notes.append({"note": text, "count": len(absent), "examples": absent})
        label[hits] = number
    out = pd.Series(label < 0, frame.index)
    became = pd.Series(np.array([*classes, None], object)[label], frame.index)
    examples = frame.loc[out, "image_id"].head(EXAMPLES).tolist()
    rule = {"rule": NO_CLASS, "removed": int(out.sum()), "examples": examples}
    kept = frame.assign(label=label.astype(np.int8))[~out].reset_index(drop=True)
    changed = {
        "rows_kept": len(kept),
        "rules": [*log["rules"], rule],
        "notes": notes,
        "values": {**log["values"], "label": value_counts(words, became)},
    }
    return ManifestResult(kept, {**log, **changed})
