"""Metrics and intervals of more than two classes, made of each class against the rest.

An image is decided for its most probable class: there is no threshold. Of each class the labels,
the probabilities and the decisions are those of a problem of two classes, and every metric of it is
what metrics.py makes of that: `auc@mel`, `tpr[0]@mel`, `eodds@mel`. The name without a class is the
*macro* metric: the mean over the classes, all of which have to have a value. Exceptions:

- `accuracy` is the share of right decisions, `balanced_accuracy` the mean recall: scikit-learn's.
- `auc_min`, `auc_gap` and `dauc` compare the groups' macro AUCs.
- `prevalence` and `selection_rate` of all classes add up to 1, and signed gaps cancel: they are of
  single classes only.
- Those of the disease are of that class against the rest.

Intervals are in `class_intervals.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from . import metrics
from .metrics import BETWEEN_GROUPS, OF_DISEASE, OF_ROWS, Row, Sample
from .thresholds import OF_CLASS

OF_CLASSES = "each class has its own: see {}@<class>"
SUM_TO_ONE = ("prevalence", "selection_rate")
SIGNED = ("eodds_signed", "dtpr", "dfpr", "dspd")
OF_MACRO = ("auc_min", "auc_gap", "dauc")


def score_columns(classes: int, kind: str = "score") -> list[str]:
    """Columns of scores: `score` of two classes, of more `score_0` to `score_{C-1}`."""
    return [kind] if classes == 2 else [f"{kind}_{c}" for c in range(classes)]


def probabilities(frame: pd.DataFrame, classes: int) -> np.ndarray:
    """The classes' probabilities, float64 (n, C), of a table of predictions."""
    return frame[score_columns(classes)].to_numpy(dtype=np.float64)


def decide(scores: np.ndarray) -> np.ndarray:
    """The most probable class of each image, int (n,); the first of equal ones."""
    return scores.argmax(axis=1)


def score(
    predictions: pd.DataFrame,
    groups: int,
    classes: Sequence[str],
    min_group: int = 20,
    disease: int | None = None,
) -> pd.DataFrame:
    """Every metric of every data set in a predictions table, as `metrics.score` gives them.

    Args:
        predictions: columns dataset, label (0 to C - 1), group, score_0 to score_{C-1}.
        groups, min_group: as of `metrics.score`.
        classes: names of the classes.
        disease: the class that is the disease; None: the metrics of a disease are left out.
    """
    rows: list[tuple[Any, ...]] = []
    for dataset, part in predictions.groupby("dataset", observed=True):
        found = score_dataset(part, groups, classes, min_group, disease)
        rows += [(str(dataset), *row) for row in found]
    frame = pd.DataFrame(rows, columns=["dataset", "metric", "value", "n", "reason"])
    return frame.astype({"value": "float64", "n": "int64", "reason": "string"})


def score_dataset(
    part: pd.DataFrame,
    groups: int,
    classes: Sequence[str],
    min_group: int = 20,
    disease: int | None = None,
) -> list[Row]:
    """Every metric of one data set; arguments as in `score`."""
    attributes = part["group"].to_numpy()
    known = attributes >= 0
    scores = probabilities(part, len(classes))[known]
    labels, attributes = part["label"].to_numpy()[known], attributes[known]
    decided = decide(scores)
    rows = [Row("n_unknown", float(np.sum(~known)), len(part))]
    rows += [
        Row(f"n[{group}]", float(n), n)
        for group, n in enumerate(np.bincount(attributes, minlength=groups)[:groups].tolist())
    ]
    problems = [
        metrics.of_sample(
            against_rest(labels, attributes, scores, decided, c),
            groups,
            min_group,
            1 if c == disease else None,
            (f"other than {name}", name),
        )
        for c, name in enumerate(classes)
    ]
    by_class = [{row.metric: row for row in found} for found in problems]
    for suffix in ("", *(f"[{group}]" for group in range(groups))):
        inside = np.ones(len(labels), bool)
        if suffix:
            inside = attributes == int(suffix[1:-1])
        right = labels[inside] == decided[inside]
        rows += _macro_rows(by_class, suffix, classes, right)
        if disease is not None:
            rows += [by_class[disease][name + suffix] for name in OF_DISEASE]
    found = {row.metric: row for row in rows}
    rows += [_macro_gap(name, by_class, classes, found, groups) for name in BETWEEN_GROUPS]
    for name, of_class in zip(classes, by_class, strict=True):
        rows += [
            row._replace(metric=row.metric + OF_CLASS + name)
            for row in of_class.values()
            if row.metric.partition("[")[0] in (*OF_ROWS, *BETWEEN_GROUPS)
        ]
    return rows


def against_rest(
    labels: np.ndarray, attributes: np.ndarray, scores: np.ndarray, decided: np.ndarray, c: int
) -> Sample:
    """One class's problem of two classes."""
    finite = np.isfinite(scores).all(axis=1)
    return Sample(
        (labels == c).astype(np.int8),
        attributes,
        np.where(finite, scores[:, c], np.nan),
        (decided == c).astype(np.int8),
    )


def _macro_rows(
    by_class: Sequence[Mapping[str, Row]],
    suffix: str,
    classes: Sequence[str],
    right: np.ndarray,
) -> list[Row]:
    """The macro metrics of all images, or of a group ('[0]')."""
    found = []
    for name in OF_ROWS:
        rows = {c: of[name + suffix] for c, of in zip(classes, by_class, strict=True)}
        if name in SUM_TO_ONE:
            row = Row(name + suffix, None, len(right), OF_CLASSES.format(name))
        elif name == "accuracy":
            row = next(iter(rows.values()))
            row = row if row.reason else row._replace(value=float(np.mean(right)))
        elif name == "balanced_accuracy":  # not the mean of the problems': the mean recall
            recalls = {c: of["tpr" + suffix] for c, of in zip(classes, by_class, strict=True)}
            row = _mean(recalls, name + suffix, len(right))
        else:
            row = _mean(rows, name + suffix, len(right))
        found.append(row)
    return found


def _macro_gap(
    name: str,
    by_class: Sequence[Mapping[str, Row]],
    classes: Sequence[str],
    of_groups: Mapping[str, Row],
    groups: int,
) -> Row:
    """A macro metric between groups."""
    rows = {c: of[name] for c, of in zip(classes, by_class, strict=True)}
    n = max(row.n for row in rows.values())
    if name in SIGNED:
        return Row(name, None, n, OF_CLASSES.format(name))
    mean = _mean(rows, name, n)
    if name not in OF_MACRO or mean.value is None:
        return mean
    if groups > 2 and any(row.reason for row in rows.values()):  # groups are left out
        return Row(name, None, n, OF_CLASSES.format(name))
    aucs = np.array([of_groups[f"auc[{group}]"].value for group in range(groups)], np.float64)
    return mean._replace(value=float(BETWEEN_GROUPS[name].function(aucs)))


def _mean(rows: Mapping[str, Row], metric: str, n: int) -> Row:
    """The mean over classes; none where a class has no value."""
    missing = next(((c, row) for c, row in rows.items() if row.value is None), None)
    if missing is not None:
        return Row(
            metric, None, n, f"{missing[1].metric}{OF_CLASS}{missing[0]}: {missing[1].reason}"
        )
    remarks = dict.fromkeys(row.reason for row in rows.values() if row.reason)
    value = float(np.mean([row.value for row in rows.values()]))
    return Row(metric, value, n, "; ".join(remarks) or None)
