"""choose_groups.py: one choice for all folds, by AUCs of pairs of images that are counted here."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prepared import write_parquet

WILDCARDS = {"task": "skin", "backbone": "net", "attribute": "tone"}
NAMES = ["light", "medium", "dark"]
FOLDS = 3
# How far positives lie above negatives in each group, fold by fold.
APART = {0: (1.0, 0.9, 1.1), 1: (0.1, 0.2, 0.0), 2: (2.0, 2.2, 1.8)}


@pytest.fixture
def world(tmp_path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """All rows with fold, patient and score; and the files of the rule.

    Both data sets number their images and their patients alike. The scores of a fold are shifted
    against the others', its file holds images of unknown group too, in another order; the cohort
    holds images of other folds.
    """
    rng = np.random.default_rng(4)
    rows = [
        (fold, label, group, 7 * fold + rng.normal(label * APART[group][fold]))
        for fold in range(FOLDS)
        for group in APART
        for label in (0, 1)
        for _ in range(9 + 2 * group + fold + 3 * label)
    ]
    frame = pd.DataFrame(rows, columns=["fold", "label", "attribute", "logit"])
    frame = frame.sample(frac=1, random_state=5, ignore_index=True)
    frame["dataset"] = np.where(np.arange(len(frame)) % 2 == 0, "north", "south")
    frame["image_id"] = [f"i{row // 2}" for row in range(len(frame))]
    number = rng.integers(0, 6, len(frame)).astype(str)
    person = frame.fold.astype(str) + frame.attribute.astype(str) + number
    frame["patient_id"] = ("p" + person).where(rng.random(len(frame)) < 0.8)
    inputs: dict[str, Any] = {"scores": [], "external": []}
    for fold, part in frame.groupby("fold"):
        names = ["dataset", "image_id", "label"]
        external = part[["image_id", "dataset", "label", "attribute"]].assign(balanced=True)
        inputs["external"].append(write_parquet(tmp_path / f"external/{fold}.parquet", external))
        unknown = part[:3].assign(image_id=[f"u{fold}{i}" for i in range(3)], logit=-99.0)
        scores = pd.concat([part, unknown])[[*names, "logit"]].sample(frac=1, random_state=6)
        inputs["scores"].append(write_parquet(tmp_path / f"scores/{fold}.parquet", scores))
    others = frame[:5].assign(image_id=[f"x{i}" for i in range(5)])
    cohort = pd.concat([frame, others])[["dataset", "image_id", "label", "patient_id"]]
    inputs["cohort"] = write_parquet(tmp_path / "cohort.parquet", cohort.sample(frac=1))
    return frame, inputs


def choose(
    run: Callable[..., str],
    folder: Path,
    inputs: dict[str, Any],
    groups: list[str],
    min_group: int = 20,
    min_cell: int = 1,
) -> tuple[dict[str, Any], str]:
    """The file, and what the log says."""
    said = run(
        "choose_groups.py",
        input=inputs,
        output=[folder / "groups/skin/net/tone.json"],
        params={
            "groups": groups,
            "finetuning": {"min_group": min_group, "min_cell": min_cell},
        },
        wildcards=WILDCARDS,
    )
    return json.loads((folder / "groups/skin/net/tone.json").read_text()), said


def area(rows: pd.DataFrame) -> float:
    """Share of the pairs of a positive and a negative of one fold that are ranked right."""
    right = pairs = 0.0
    for _, fold in rows.groupby("fold"):
        for high, low in itertools.product(
            fold.logit[fold.label == 1], fold.logit[fold.label == 0]
        ):
            right += (high > low) + (high == low) / 2
            pairs += 1
    return right / pairs


def people(rows: pd.DataFrame) -> int:
    """Patients of a data set; an image without a patient is somebody of their own."""
    known = rows.dropna(subset=["patient_id"])
    return known.patient_id.nunique() + len(rows) - len(known)


@pytest.mark.key("finetuning.min_group")
def test_the_pair_of_three_groups(
    run: Callable[..., str], tmp_path: Path, world: tuple[pd.DataFrame, dict[str, Any]]
) -> None:
    frame, inputs = world
    found, said = choose(run, tmp_path, inputs, NAMES)
    assert found["pair"] == [1, 2] and found["unprivileged"] == 0  # of the pair: medium
    assert set(found["groups"]) == {"0", "1", "2"}
    for group, part in frame.groupby("attribute"):
        entry = found["groups"][str(group)]
        assert entry["auc"] == pytest.approx(area(part), abs=1e-12)
        assert 0 <= entry["low"] < entry["auc"] < entry["high"] <= 1
        assert entry["n"] == len(part)
        assert entry["patients"] == people(part) < len(part)
        # folds are shifted: one AUC of all their scores together would be another
        mixed = area(part.assign(fold=0))
        assert abs(mixed - entry["auc"]) > 0.02
    for name, group in (("medium", "1"), ("dark", "2")):
        low, high = (f"{found['groups'][group][end]:.3f}" for end in ("low", "high"))
        assert f"{name} {found['groups'][group]['auc']:.3f} [{low}, {high}]" in said
    assert "light" not in said
    # the smallest group that is compared: light has the fewest images
    # that counts in every fold by itself
    sizes = frame.groupby(["attribute", "fold"]).size().groupby("attribute").min()
    assert sizes[0] < sizes[1] < sizes[2]
    assert choose(run, tmp_path, inputs, NAMES, int(sizes[0]) + 1)[0]["pair"] == [1, 2]
    with pytest.raises(SystemExit):
        choose(run, tmp_path, inputs, NAMES, int(sizes[1]) + 1)
    log = (tmp_path / "logs/choose_groups.py.log").read_text()
    assert "fewer than two of the 3 groups" in log


@pytest.mark.key("finetuning.min_group")
def test_a_group_that_is_too_small_is_not_chosen(
    run: Callable[..., str], tmp_path: Path, world: tuple[pd.DataFrame, dict[str, Any]]
) -> None:
    """Light has the AUC in the middle, until medium, the lowest, is too small."""
    _, inputs = world
    for path in inputs["external"]:
        external = pd.read_parquet(path)
        write_parquet(path, external[(external.attribute != 1) | (external.index % 2 == 0)])
    kept = pd.concat(
        pd.read_parquet(path).assign(fold=fold) for fold, path in enumerate(inputs["external"])
    )
    by_fold = kept.groupby(["attribute", "fold"]).size().groupby("attribute").min()
    found, _ = choose(run, tmp_path, inputs, NAMES, int(by_fold[1]) + 1)
    assert by_fold[1] < by_fold[0]
    assert found["pair"] == [0, 2] and found["unprivileged"] == 0
    cells = kept.groupby(["attribute", "label", "fold"]).size().groupby("attribute").min()
    assert cells[1] < cells[0]
    found, _ = choose(run, tmp_path, inputs, NAMES, 2, int(cells[1]) + 1)
    assert found["pair"] == [0, 2]


@pytest.mark.parametrize("swapped", [False, True])
def test_two_groups_have_no_pair_but_an_unprivileged_one(
    run: Callable[..., str],
    tmp_path: Path,
    world: tuple[pd.DataFrame, dict[str, Any]],
    swapped: bool,
) -> None:
    """Even where both are smaller than the smallest that would be compared among many."""
    frame, inputs = world
    for path in inputs["external"]:
        external = pd.read_parquet(path)
        external = external[external.attribute < 2]
        if swapped:
            external = external.assign(attribute=1 - external.attribute)
        write_parquet(path, external)
    found, said = choose(run, tmp_path, inputs, NAMES[:2], min_group=10**6)
    lower = int(not swapped)
    assert found["pair"] is None and found["unprivileged"] == lower
    expected = [area(frame[frame.attribute == group]) for group in (0, 1)]
    expected = expected[::-1] if swapped else expected
    assert [found["groups"][g]["auc"] for g in "01"] == pytest.approx(expected, abs=1e-12)
    assert "light" in said and "medium" in said
