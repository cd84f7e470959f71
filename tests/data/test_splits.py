"""Folds and external sets: properties over random populations, and the paper's sizes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.real import METADATA

from swift_debias.data.folds import SIZE_COLUMNS, make_folds, sizes
from swift_debias.errors import UserError
from swift_debias.methods import _external

ISIC = METADATA / "isic"


def population(seed: int, n: int = 600, patients: int = 150) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A pool with patients of different sizes, rare label 0, and unknown attributes."""
    rng = np.random.default_rng(seed)
    weight = rng.exponential(size=patients) + 0.05
    patient = rng.choice(patients, n, p=weight / weight.sum())
    sex = rng.integers(-1, 2, patients)[patient]
    cohort = pd.DataFrame(
        {
            "dataset": "a",
            "image_id": [f"i{i}" for i in range(n)],
            "label": (rng.random(n) < 0.8).astype(np.int8),
            "cluster": [f"a/{one}" for one in patient],
        }
    )
    return cohort, pd.DataFrame({"sex": sex})


# --- folds ----------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_no_group_in_two_folds_and_every_image_in_one(seed: int, folds: int) -> None:
    cohort, attributes = population(seed)
    table = make_folds(cohort, attributes, folds, seed)
    assert table["image_id"].tolist() == cohort["image_id"].tolist()
    assert sorted(table["fold"].unique()) == list(range(folds))
    assert (
        len(set(zip(cohort["cluster"], table["fold"], strict=True))) == cohort["cluster"].nunique()
    )


def test_folds_are_stratified_by_label_and_attribute() -> None:
    cohort, attributes = population(1, n=6000, patients=2000)
    fold = make_folds(cohort, attributes, 5, 0)["fold"]
    sizes = fold.value_counts()
    assert sizes.max() - sizes.min() < 0.05 * 1200
    for stratum in (cohort["label"], attributes["sex"], cohort["label"] + 2 * attributes["sex"]):
        share = pd.crosstab(fold, stratum, normalize="index")
        assert (share.max() - share.min()).max() < 0.03
    plain = np.random.default_rng(0).integers(0, 5, 2000)  # whole patients at random, for scale
    by_chance = plain[pd.factorize(cohort["cluster"])[0]]
    chance = pd.crosstab(by_chance, attributes["sex"], normalize="index")
    ours = pd.crosstab(fold, attributes["sex"], normalize="index")
    assert (ours.max() - ours.min()).max() < (chance.max() - chance.min()).max()


def test_the_seed_decides() -> None:
    cohort, attributes = population(2)
    one, again, other = (make_folds(cohort, attributes, 3, seed) for seed in (1, 1, 2**40))
    pd.testing.assert_frame_equal(one, again)
    assert (one["fold"] != other["fold"]).any()


def test_folds_of_any_index_and_rare_strata() -> None:
    cohort, attributes = population(3)
    attributes.iloc[0] = 7  # a stratum of one image
    shuffled = cohort.set_axis(np.arange(len(cohort))[::-1] * 3)
    one = make_folds(cohort, attributes, 3, 0)
    pd.testing.assert_frame_equal(one, make_folds(shuffled, attributes, 3, 0))


def test_pools_that_cannot_be_cut_are_refused() -> None:
    cohort, attributes = population(4)
    with pytest.raises(UserError, match="5 folds need as many groups of images, there are 1"):
        make_folds(cohort.assign(cluster="x"), attributes, 5, 0)
    one_class = cohort.assign(label=np.int8(1))
    with pytest.raises(UserError, match=r"5 folds need .* with label 0, there are 0"):
        make_folds(one_class, attributes, 5, 0)
    rare = one_class.assign(label=(np.arange(600) > 2).astype(np.int8))  # three of label 0
    with pytest.raises(UserError, match=r"5 folds need .* with label 0, there are 3"):
        make_folds(rare, attributes, 5, 0)
    few = cohort.head(4).assign(cluster=list("abcd"), label=np.int8([0, 0, 1, 1]))
    with pytest.raises(
        UserError, match=r"3 folds need .* label 0, there are 2; 3 folds .* label 1"
    ):
        make_folds(few, pd.DataFrame({"sex": [0, 1, 0, 1]}), 3, 0)
    called = ("nevus", "melanoma")
    with pytest.raises(UserError, match=r"3 folds need .* nevus, there are 2; .* with melanoma"):
        make_folds(few, pd.DataFrame({"sex": [0, 1, 0, 1]}), 3, 0, 2, called)
    # enough patients with each label, and yet the cut leaves a fold without one of them
    rng = np.random.default_rng(185)
    k = int(rng.integers(5, 9))
    unlucky = cohort.head(40).assign(
        cluster=[f"c{one}" for one in rng.integers(0, k, 40)],
        label=(rng.random(40) < 0.85).astype(np.int8),
    )
    with pytest.raises(UserError, match=r"of 4 folds lack images of one label, .* fold \d with"):
        make_folds(unlucky, pd.DataFrame({"sex": np.zeros(40, int)}), 4, 0)
    with pytest.raises(UserError, match="images of nevus / melanoma: take fewer folds"):
        make_folds(unlucky, pd.DataFrame({"sex": np.zeros(40, int)}), 4, 0, 2, called)


@pytest.mark.parametrize("folds", [10, 30, 40])
@pytest.mark.parametrize("classes", [2, 3])
def test_folds_that_lack_a_label_are_said_in_one_line(folds: int, classes: int) -> None:
    """Of 40 patients with each label, a few with most images: not every fold can have both."""
    label = np.repeat(np.arange(classes, dtype=np.int8), 200)
    patient = np.tile(np.r_[np.zeros(161, int), np.arange(1, 40)], classes)
    cohort = pd.DataFrame({"label": label, "cluster": [f"{p}" for p in patient]})
    cohort = cohort.assign(dataset="d", image_id=[f"i{n}" for n in range(len(cohort))])
    attributes = pd.DataFrame({"sex": np.arange(len(cohort)) % 7 == 0}).astype(int)
    try:
        made = make_folds(cohort, attributes, folds, 1, classes)
    except UserError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 200
        return
    counts = pd.crosstab(made["fold"], label)
    assert counts.shape == (folds, classes)
    assert counts.to_numpy().all()


# --- the balanced part ----------------------------------------------------------------------------

cells = st.lists(st.integers(1, 40), min_size=4, max_size=4)


def arrays(counts: list[int], unknown: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups with these cell counts ((0, 0), (0, 1), (1, 0), (1, 1)), shuffled."""
    labels = np.repeat([0, 0, 1, 1, 1], [*counts, unknown])
    groups = np.repeat([0, 1, 0, 1, -1], [*counts, unknown])
    order = np.random.default_rng(seed).permutation(len(labels))
    return labels[order], groups[order]


@settings(max_examples=100, deadline=None)
@given(cells, st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_balance_gives_both_groups_the_same_labels(
    counts: list[int], unknown: int, seed: int
) -> None:
    labels, groups = arrays(counts, unknown, seed)
    mask = _external.balance(labels, groups, np.random.default_rng(seed), min_cell=1)
    assert mask.dtype == bool  # a mask of positions: no image can be drawn twice
    table = pd.crosstab(labels[mask], groups[mask]).reindex(index=[0, 1], columns=[0, 1])
    assert (table[0] == table[1]).all()  # equal size and equal ratio of labels
    assert table.loc[0, 0] == min(counts[0], counts[1])  # and no smaller than need be
    assert table.loc[1, 0] == min(counts[2], counts[3])
    assert not mask[groups < 0].any()


def test_balance_keeps_the_smaller_group_whole_where_the_larger_can_match_it() -> None:
    labels, groups = arrays([30, 12, 200, 50], 5, 0)
    mask = _external.balance(labels, groups, np.random.default_rng(0), min_cell=10)
    assert mask[groups == 1].all()
    assert mask.sum() == 2 * 62


def test_balance_draws_evenly_and_by_the_generator() -> None:
    labels, groups = arrays([20, 10, 20, 10], 0, 0)
    masks = [_external.balance(labels, groups, np.random.default_rng(s), 1) for s in range(400)]
    assert (masks[3] == _external.balance(labels, groups, np.random.default_rng(3), 1)).all()
    share = np.mean(masks, axis=0)[groups == 0]
    assert np.abs(share - 0.5).max() < 0.12  # 5 standard deviations of 400 draws at 1/2


def test_balance_refuses_small_cells_with_the_counts() -> None:
    labels, groups = arrays([9, 30, 50, 40], 3, 0)
    with pytest.raises(UserError, match=r"but has label 0 in group 0: 9\. Use"):
        _external.balance(labels, groups, np.random.default_rng(0), min_cell=10)
    with pytest.raises(UserError, match="label 1 in group 1: 0"):
        _external.balance(np.zeros(9, int), np.zeros(9, int), np.random.default_rng(0), min_cell=1)


def test_balance_of_many_groups_takes_as_many_of_each() -> None:
    rng = np.random.default_rng(4)
    labels, groups = rng.integers(0, 2, 900), rng.choice([-1, 0, 1, 2, 3], 900)
    mask = _external.balance(labels, groups, np.random.default_rng(0), 1, among=(0, 1, 3))
    for label in (0, 1):
        sizes = {g: ((labels == label) & (groups == g)).sum() for g in (0, 1, 3)}
        chosen = {g: (mask & (labels == label) & (groups == g)).sum() for g in range(-1, 4)}
        assert chosen == {-1: 0, 2: 0, **dict.fromkeys(sizes, min(sizes.values()))}


# --- external sets --------------------------------------------------------------------------------


def with_folds(seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    cohort, attributes = population(seed, n=900)
    table = make_folds(cohort, attributes, 3, 0)
    return cohort.assign(fold=table["fold"]), attributes["sex"].to_numpy()


def test_external_set_is_the_validation_fold_with_known_groups() -> None:
    cohort, sex = with_folds(0)
    frame, log = _external.make_external(cohort, sex, 1, 2, 5, np.random.default_rng(0))
    expected = cohort[(cohort["fold"] == 1) & (sex >= 0)]
    assert frame["image_id"].tolist() == expected["image_id"].tolist()
    assert frame["label"].tolist() == expected["label"].tolist()
    assert frame["attribute"].tolist() == sex[expected.index].tolist()
    assert [str(dtype) for dtype in frame.dtypes] == ["str", "str", "int8", "int16", "bool"]
    chosen = frame[frame["balanced"]]
    table = pd.crosstab(chosen["label"], chosen["attribute"])
    assert (table[0] == table[1]).all()
    in_fold = cohort["fold"] == 1
    assert log["images"] == in_fold.sum()
    assert log["group_unknown"] == (in_fold & (sex < 0)).sum()
    assert log["kept"] == len(frame) == sum(cell["images"] for cell in log["cells"])
    assert sum(cell["balanced"] for cell in log["cells"]) == frame["balanced"].sum()


def test_groups_that_are_too_small_are_not_balanced() -> None:
    cohort, sex = with_folds(1)
    frame, log = _external.make_external(cohort, sex + 1, 0, 3, 10**6, np.random.default_rng(0))
    assert not frame["balanced"].any()
    assert len(log["cells"]) == 6


@settings(max_examples=60, deadline=None)
@given(cells, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 2**32 - 1))
def test_subsample_is_stratified_and_nested(
    counts: list[int], one: float, other: float, seed: int
) -> None:
    labels, groups = arrays(counts, 7, seed)
    small, large = (
        _external.subsample(labels, groups, fraction, np.random.default_rng(seed))
        for fraction in sorted((one, other))
    )
    assert not (small & ~large).any()
    for label, group, count in zip((0, 0, 1, 1), (0, 1, 0, 1), counts, strict=True):
        taken = (large & (labels == label) & (groups == group)).sum()
        assert abs(taken - max(one, other) * count) <= 1
        assert taken >= 1


def test_the_whole_is_the_whole() -> None:
    labels, groups = arrays([5, 6, 7, 8], 3, 0)
    assert _external.subsample(labels, groups, 1.0, np.random.default_rng(0)).all()


# --- sizes ----------------------------------------------------------------------------------------


def test_sizes_agree_with_plain_counting() -> None:
    cohort, sex = with_folds(2)
    rng = np.random.default_rng(0)
    frames = [_external.make_external(cohort, sex, fold, 2, 5, rng).frame for fold in range(3)]
    paper = {"paper": 1000, "paper_train": 600, "paper_external": {"sex": 100}}
    table = sizes(cohort, cohort, {"sex": (sex, ("female", "male"))}, {"sex": frames}, paper)
    assert list(table) == SIZE_COLUMNS

    def n(**where: object) -> int:
        rows = table
        for column, value in where.items():
            rows = rows[rows[column] == value]
        assert len(rows) == 1
        return rows["n"].item()

    assert n(set="pool", attribute="all", label="all") == 900
    first = cohort["fold"] == 0
    zero, one = cohort["label"] == 0, cohort["label"] == 1
    assert n(set="validation", fold=0, attribute="all", label="all") == first.sum()
    assert n(set="train", fold=0, attribute="all", label="0") == (~first & zero).sum()
    where = {"set": "validation", "fold": 0, "attribute": "sex"}
    assert n(**where, group="male", label="1") == (first & (sex == 1) & one).sum()
    assert n(**where, group="unknown", label="all") == (first & (sex < 0)).sum()
    balanced = {"set": "balanced", "fold": 2, "attribute": "sex", "group": "all", "label": "all"}
    assert n(**balanced) == frames[2]["balanced"].sum()
    pool = table[table["set"] == "pool"].iloc[0]
    assert (pool["paper"], pool["difference"]) == (1000, -100)
    beside = table[table["paper"].notna()]
    assert beside["set"].value_counts().to_dict() == {"pool": 1, "train": 3, "balanced": 3}
    assert (beside["difference"] == beside["n"] - beside["paper"]).all()


@pytest.mark.skipif(not ISIC.exists(), reason="the real metadata is absent")
def test_isic_folds_beside_the_papers() -> None:
    """ISIC 2019 and 2020 without the listed duplicates: 58,032 images, in the paper 56,863."""
    old = pd.read_csv(ISIC / "ISIC_2019_Training_GroundTruth.csv").merge(
        pd.read_csv(ISIC / "ISIC_2019_Training_Metadata.csv"), on="image"
    )
    new = pd.read_csv(ISIC / "ISIC_2020_Training_GroundTruth_v2.csv")
    listed = pd.read_csv(ISIC / "ISIC_2020_Training_Duplicates.csv")
    new = new[~new["image_name"].isin(listed["image_name_2"])]
    cohort = pd.DataFrame(
        {
            "dataset": ["isic2019"] * len(old) + ["isic2020"] * len(new),
            "image_id": [*old["image"], *new["image_name"]],
            "label": np.int8([*(old["MEL"] == 0), *(new["target"] == 0)]),
            "cluster": [*old["lesion_id"].fillna(old["image"]), *new["patient_id"]],
        }
    )
    sex = pd.concat([old["sex"], new["sex"]]).map({"female": 0, "male": 1}).fillna(-1).to_numpy(int)
    folds = make_folds(cohort, pd.DataFrame({"sex": sex}), 5, 0)
    assert len(folds) == 58_032
    counts = folds["fold"].value_counts()
    assert counts.between(11_500, 11_700).all()  # the paper: 11,374 of 56,863
    melanoma = cohort["label"].eq(0).groupby(folds["fold"]).mean()
    assert melanoma.max() - melanoma.min() < 0.002
    cohort = cohort.assign(fold=folds["fold"])
    for fold in range(5):
        frame, _ = _external.make_external(cohort, sex, fold, 2, 10, np.random.default_rng(fold))
        assert 10_400 < frame["balanced"].sum() < 11_400  # the paper: "c. 11,000"
