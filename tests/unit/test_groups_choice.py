"""Which groups are compared: one choice for all folds (methods/_groups.py)."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from swift_debias.config.schema import Finetuning
from swift_debias.errors import UserError
from swift_debias.methods._choice import Choice
from swift_debias.methods._groups import choose_groups


def scores(
    separations: dict[int, float], n: int = 60, folds: int = 3, seed: int = 0, per_patient: int = 1
) -> pd.DataFrame:
    """Held-out scores: in each group, positives lie higher by `separations`; folds are shifted."""
    rng = np.random.default_rng(seed)
    rows = []
    for fold in range(folds):
        for group, separation in separations.items():
            labels = rng.permutation(np.arange(n) % 3 == 0).astype(int)
            values = rng.normal(labels * separation + 5 * fold)
            whose = [f"{fold}-{group}-{i // per_patient}" for i in range(n)]
            rows.append(
                pd.DataFrame(
                    {
                        "fold": fold,
                        "label": labels,
                        "group": group,
                        "score": values,
                        "patient": whose,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def auc_within_folds(frame: pd.DataFrame, group: int) -> float:
    """Pairs of images of one fold only, counted one by one by scikit-learn."""
    right = total = 0.0
    for _, fold in frame[frame.group == group].groupby("fold"):
        pairs = (fold.label == 1).sum() * (fold.label == 0).sum()
        right += pairs * roc_auc_score(fold.label, fold.score)
        total += pairs
    return right / total


def test_the_pair_has_the_highest_and_the_lowest_auc_over_all_folds() -> None:
    frame = scores({0: 1.0, 1: 2.5, 2: 0.2, 3: 1.4})
    choice = choose_groups(frame, 4, Finetuning(min_cell=1))
    for group, found in choice.groups.items():
        assert found.auc == pytest.approx(auc_within_folds(frame, group), abs=1e-12)
        assert found.low < found.auc < found.high
        assert (found.n, found.patients) == (180, 180)
    assert choice.pair == (1, 2)
    assert choice.unprivileged == 1  # of the pair: group 2
    assert "group 1" in choice.note() and "group 0" not in choice.note()


def test_a_fold_alone_would_choose_otherwise() -> None:
    """Groups of nearly one AUC: each fold has its own order, all folds together have one."""
    frame = scores({0: 1.0, 1: 1.1, 2: 1.05}, n=24, folds=6)
    alone = {
        choose_groups(fold, 3, Finetuning(min_cell=1)).pair for _, fold in frame.groupby("fold")
    }
    assert len(alone) > 1
    shuffled = frame.sample(frac=1, random_state=1)
    assert (
        choose_groups(frame, 3, Finetuning(min_cell=1)).pair
        == choose_groups(shuffled, 3, Finetuning(min_cell=1)).pair
    )


def test_small_groups_and_groups_of_one_class_are_not_compared() -> None:
    frame = scores({0: 1.0, 1: 1.5, 2: 0.0, 3: 4.0})
    frame = frame[~((frame.group == 3) & (frame.label == 1))]  # one class
    frame = frame.drop(frame[frame.group == 2].index[19:])  # 19 images
    choice = choose_groups(frame, 4, Finetuning(min_cell=1))
    assert choice.pair == (0, 1)
    assert np.isnan(choice.groups[3].auc)
    with pytest.raises(UserError, match=r"min_group"):
        choose_groups(frame, 4, Finetuning(min_group=10**6, min_cell=1))


def test_of_two_groups_the_one_with_the_lower_auc_is_unprivileged() -> None:
    for worse in (0, 1):
        frame = scores({worse: 0.3, 1 - worse: 2.0})
        choice = choose_groups(frame, 2, Finetuning(min_group=10**6, min_cell=1))
        assert (choice.pair, choice.unprivileged) == (None, worse)
    frame = frame[(frame.group == 0) | (frame.label == 0)]
    assert choose_groups(frame, 2, Finetuning(min_cell=1)).unprivileged is None


def test_a_choice_is_read_back() -> None:
    frame = scores({0: 1.0, 1: 2.5, 2: 0.2})
    frame = frame[(frame.group != 0) | (frame.label == 0)]
    choice = choose_groups(frame, 3, Finetuning(min_cell=1))
    text = json.dumps(choice.to_json(), allow_nan=False)
    again = Choice.from_json(json.loads(text))
    assert again.pair == choice.pair == (1, 2)
    assert again.note() == choice.note()
    np.testing.assert_equal(again.groups, choice.groups)


def test_intervals_know_that_a_patient_has_several_images() -> None:
    """Every image five times, each under the same patient: nothing new was learned."""
    once = scores({0: 1.0, 1: 0.5}, n=60, folds=2)
    often = pd.concat([once] * 5, ignore_index=True)
    a, b = (choose_groups(frame, 2, Finetuning(min_cell=1)).groups[0] for frame in (once, often))
    assert b.auc == pytest.approx(a.auc) and b.patients == a.patients
    assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.02)
    lone = often.assign(patient=None)
    c = choose_groups(lone, 2, Finetuning(min_cell=1)).groups[0]
    assert (c.high - c.low) / (a.high - a.low) == pytest.approx(1 / np.sqrt(5), rel=0.05)
