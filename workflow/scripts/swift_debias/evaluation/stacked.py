"""The predictions of all models of a setup on one test set, as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd


class Scores(NamedTuple):
    """The scores of several models on the same N test images."""

    methods: list[str]
    folds: list[int]
    labels: np.ndarray  # (N,) 0 or 1
    groups: np.ndarray  # (N,) group index
    patients: np.ndarray  # (N,) whose image it is; null: unknown
    scores: np.ndarray  # (methods, models, N), of the models' own type; NaN where one is missing
    repeats: int  # models of a fold, one after the other; models = folds * repeats


def stack(part: pd.DataFrame) -> Scores:
    """The predictions of one data set as an array; rows of unknown attribute are left out.

    Args:
        part: columns method, fold, image_id, label, group, score; patient_id where it is known, and
            repeat where there are several. A method without repeats, as the Baseline is, stands
            there as often as the others.

    Raises:
        ValueError: two models scored different images.
    """
    part = part[part["group"] >= 0]
    methods = sorted(part["method"].astype(str).unique())
    folds = sorted(int(fold) for fold in part["fold"].unique())
    if "repeat" not in part:
        part = part.assign(repeat=0)
    repeats = int(part["repeat"].max()) + 1
    cells = [
        (str(method), int(fold), part[(part["method"] == method) & (part["fold"] == fold)])
        for method, fold in part[["method", "fold"]].drop_duplicates().itertuples(index=False)
    ]
    first = cells[0][2][cells[0][2]["repeat"] == 0]
    reference = pd.Index(first["image_id"])
    shape = len(methods), len(folds), repeats, len(first)
    scores = np.full(shape, np.nan, part["score"].to_numpy().dtype)
    for method, fold, cell in cells:
        models = [model for _, model in cell.groupby("repeat")]
        for model in models:
            order = pd.Index(model["image_id"]).get_indexer(reference)
            if len(model) != len(reference) or (order < 0).any():
                raise ValueError(f"{method}, fold {fold}: scored other images than the first model")
            place = methods.index(method), folds.index(fold)
            only = len(models) == 1
            repeat = slice(None) if only else int(model["repeat"].iloc[0])
            scores[*place, repeat] = model["score"].to_numpy()[order]
    patients = first["patient_id"] if "patient_id" in first else pd.Series(None, first.index)
    return Scores(
        methods,
        folds,
        first["label"].to_numpy(),
        first["group"].to_numpy(),
        patients.to_numpy(dtype=object),
        scores.reshape(len(methods), len(folds) * repeats, len(first)),
        repeats,
    )
