"""Pools tied to an attribute, and parts of a data set: counted by hand."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.adversarial import settings_world as world
from tests.keys.conftest import changed

from swift_debias.config import schema
from swift_debias.config.schema import STRONGEST, Part, Tie
from swift_debias.data import check, parts
from swift_debias.data.manifest import ManifestResult
from swift_debias.data.tie import tie_pool
from swift_debias.errors import UserError

STRENGTHS = (0.0, 0.1, 0.25, 0.5, 0.7, 0.85, 0.9, 0.95)


def pool(rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Patients of one sex each, with one to six images of either label; some sexes are unknown."""
    people = int(rng.integers(60, 300))
    male = rng.uniform(0.2, 0.8)
    sex = rng.choice([-1, 0, 1], people, p=[0.05, 0.95 * (1 - male), 0.95 * male])
    who = np.repeat(np.arange(people), rng.integers(1, 7, people))
    label = (rng.random(len(who)) < rng.uniform(0.2, 0.9)).astype(int)
    order = rng.permutation(len(who))
    who, label = who[order], label[order]
    frame = pd.DataFrame({"label": label, "cluster": [f"p{one}" for one in who]})
    frame["image_id"] = [f"i{n}" for n in range(len(frame))]
    return frame, sex[who]


def test_counts_over_many_strengths() -> None:
    """Size and rate are the same for every strength, and the tie is what it should be."""
    rng, pools, cut_patients = np.random.default_rng(0), 0, []
    for _ in range(40):
        frame, groups = pool(rng)
        frame["group"] = groups
        known = frame[groups >= 0]
        rate = known.label.mean()
        sizes, kept_by = set(), {}
        for strength in STRENGTHS:
            tie = Tie(attribute="sex", strength=strength, external="tied")
            tied = tie_pool(frame, groups, ("f", "m"), tie, 7)
            natural = tie.model_copy(update={"external": "natural"})
            marked = tie_pool(frame, groups, ("f", "m"), natural, 7)
            assert marked.log == tied.log
            assert (
                marked.frame[marked.frame.trains].image_id.tolist() == tied.frame.image_id.tolist()
            )
            assert marked.frame.drop(columns="trains").equals(frame)
            kept_by[strength] = tied.frame
            counts = pd.crosstab(tied.frame.label, tied.frame.group).reindex(
                index=[0, 1], columns=[0, 1], fill_value=0
            )
            ones, zeros = counts.loc[1].sum(), counts.loc[0].sum()
            sizes.add((ones, zeros))
            assert abs(counts.loc[1, 1] - ones * (1 + strength) / 2) <= 0.5
            assert abs(counts.loc[0, 0] - zeros * (1 + strength) / 2) <= 0.5
            assert abs(ones - rate * (ones + zeros)) <= 1
            assert tied.frame.image_id.is_unique
            assert tied.log["kept"] == len(tied.frame)
            assert tied.log["left out"] == len(known) - len(tied.frame)
            assert tied.log["left out, of unknown group"] == (groups < 0).sum()
            assert tied.log["label 1, m"] == counts.loc[1, 1]
            # whole patients but for one a cell
            for (label, group), cell in known.groupby(["label", "group"]):
                stays = cell.image_id.isin(tied.frame.image_id)
                of_patient = stays.groupby(cell.cluster).agg(["any", "all"])
                cut_patients.append(int((of_patient["any"] & ~of_patient["all"]).sum()))
                assert cut_patients[-1] <= 1, (label, group)
        assert len(sizes) == 1
        # some cell is used up at one end or the other: no larger pool has all strengths
        ones, zeros = sizes.pop()
        cells = pd.crosstab(known.label, known.group)
        needed = {
            (1, 1): ones * (1 + STRONGEST) / 2,
            (1, 0): ones / 2,
            (0, 0): zeros * (1 + STRONGEST) / 2,
            (0, 1): zeros / 2,
        }
        assert min(cells.loc[cell] - n for cell, n in needed.items()) < 3
        # who stays in a growing cell stays in it when the tie is stronger
        for weaker, stronger in itertools.pairwise(STRENGTHS):
            one, other = kept_by[weaker], kept_by[stronger]
            grown = one[one.label == one.group].image_id
            assert set(grown) <= set(other.image_id)
        pools += 1
    assert pools == 40
    assert sum(cut_patients) > 0


@pytest.mark.key("tie.to")
@pytest.mark.parametrize("strength", [0.0, 0.6, 0.95])
def test_class_1_is_tied_to_the_group_that_is_named(strength: float) -> None:
    """As if the groups stood there the other way round."""
    frame, groups = pool(np.random.default_rng(2))
    tie = Tie(attribute="sex", strength=strength, external="tied")
    turned = np.where(groups < 0, groups, 1 - groups)
    other_way = tie_pool(frame, turned, ("m", "f"), tie, 0)
    for to, found in (("f", other_way), ("m", tie_pool(frame, groups, ("f", "m"), tie, 0))):
        named = tie_pool(frame, groups, ("f", "m"), tie.model_copy(update={"to": to}), 0)
        pd.testing.assert_frame_equal(named.frame, found.frame)
        assert named.log == found.log
    female = groups[frame["image_id"].isin(other_way.frame["image_id"])] == 0
    ones = other_way.frame["label"].to_numpy() == 1
    assert female[ones].mean() == pytest.approx((1 + strength) / 2, abs=0.5 / ones.sum())
    refused = world.read(
        changed({"tasks.skin.tie": {"attribute": "sex", "strength": 0.5, "to": "femal"}})
    )
    assert isinstance(refused, str)
    world.assert_one_line_each(
        refused, "tasks.skin.tie.to: 'sex' has no group 'femal'; did you mean"
    )


def test_the_draw_is_of_the_seed_alone() -> None:
    frame, groups = pool(np.random.default_rng(1))
    tie = Tie(attribute="sex", strength=0.5, external="tied")
    first = tie_pool(frame, groups, ("f", "m"), tie, 0).frame
    pd.testing.assert_frame_equal(tie_pool(frame, groups, ("f", "m"), tie, 0).frame, first)
    other = tie_pool(frame, groups, ("f", "m"), tie, 1).frame
    assert set(other.image_id) != set(first.image_id)
    with pytest.raises(UserError, match="no image of label 1 in group m of sex"):
        lone = np.where(frame.label == 1, 0, groups)
        tie_pool(frame, lone, ("f", "m"), tie, 0)


@pytest.mark.key("tie.attribute", "tie.strength")
@pytest.mark.parametrize("attribute", ["sex", "age"])
def test_the_pool_of_a_task_is_tied(make: Any, attribute: str) -> None:
    """The cohort, its log and the check agree; the test sets are whole."""
    sizes = set()
    for strength in (0, 0.9):
        tie = {"attribute": attribute, "strength": strength, "external": "tied"}
        made = make("cohorts/skin.parquet", {"tasks.skin.tie": tie})
        cohort = pd.read_parquet(made)
        older = cohort["sex"].eq("male") if attribute == "sex" else cohort["age"] >= 50
        ones = cohort.label == 1
        sizes.add((int(ones.sum()), int((~ones).sum())))
        share = (1 + strength) / 2
        assert abs(older[ones].sum() - share * ones.sum()) <= 0.5
        assert abs((~older)[~ones].sum() - share * (~ones).sum()) <= 0.5
        log = json.loads(made.with_name("skin.log.json").read_text())["tie"]
        assert log["kept"] == len(cohort)
        assert len(pd.read_parquet(made.parents[1] / "manifests" / "east.parquet")) == 24
    assert len(sizes) == 1


def test_the_check_says_what_a_tie_keeps(drawn: Any) -> None:
    tie = {"attribute": "sex", "strength": 0.5}
    settings = world.read(changed({"tasks.skin.tie": tie}))
    assert isinstance(settings, schema.Settings)
    report = check.check(settings, drawn, {"datasets": {}, "pools": []})
    (found,) = report.pools
    (note,) = [note for note in found.notes if note.startswith("tie of sex, strength 0.5: kept")]
    assert found.images_left == 80  # external sets have them all
    assert int(note.split("kept ")[1].split(",")[0]) < 60
    assert "label 1, male" in note


@pytest.mark.key("tie.external")
@pytest.mark.parametrize("external", ["natural", "tied"])
def test_external_sets_of_a_tied_pool(
    make: Any, monkeypatch: pytest.MonkeyPatch, external: str
) -> None:
    """The Baseline sees the tied pool alone; its fold's other images are for debiasing or gone."""
    from swift_debias.learning import loop

    seen: list[tuple[int, int]] = []
    pretrain = loop.pretrain

    def watched(classifier: Any, train: Any, validation: Any, *rest: Any) -> None:
        seen.append((len(train), len(validation)))
        pretrain(classifier, train, validation, *rest)

    monkeypatch.setattr(loop, "pretrain", watched)
    tie = {"attribute": "sex", "strength": 0.9, "external": external}
    changes = {"tasks.skin.tie": tie, "tasks.skin.finetuning.min_cell": 1}
    made = make("baseline/skin/net/fold0/held_out.parquet", changes)
    run = made.parents[4]
    cohort = pd.read_parquet(run / "cohorts/skin.parquet")
    fold = pd.read_parquet(run / "folds/skin.parquet").fold == 0
    trains = cohort.trains if external == "natural" else pd.Series(True, cohort.index)
    assert seen == [(int((~fold & trains).sum()), int(fold.sum()))]
    assert ("trains" in cohort) == (external == "natural")
    kept = json.loads((run / "cohorts/skin.log.json").read_text())["tie"]["kept"]
    assert trains.sum() == kept
    assert (len(cohort) == kept) == (external == "tied")
    make_sizes = make("folds/skin.sizes.csv", changes) if external == "natural" else None
    if make_sizes is not None:
        sizes = pd.read_csv(make_sizes).query("attribute == 'all' and label == 'all'")
        assert sizes.query("set == 'pool'").n.item() == kept
        of_fold = sizes.query("fold == 0").set_index("set").n
        assert tuple(of_fold[["train", "validation"]]) == seen[0]


@pytest.mark.parametrize(
    ("tie", "said"),
    [
        ({"attribute": "sxe", "strength": 0.5}, "tie.attribute: no attribute 'sxe'; did you mean"),
        ({"attribute": "bands", "strength": 0.5}, "tie.attribute: 'bands' has 3 groups; two are"),
        ({"attribute": "sex", "strength": 0.96}, "tasks.skin.tie.strength: "),
        ({"attribute": "sex", "strength": -0.1}, "tasks.skin.tie.strength: "),
        ({"attribute": "sex"}, "tasks.skin.tie.strength: "),
        ({"attribute": "sex", "strength": True}, "tasks.skin.tie.strength: is a truth value"),
    ],
)
def test_a_tie_that_cannot_be_is_refused(tie: dict[str, Any], said: str) -> None:
    bands = {"column": "age", "cuts": [40, 60], "names": ["a", "b", "c"]}
    message = world.read(changed({"tasks.skin.tie": tie, "attributes.bands": bands}))
    assert isinstance(message, str)
    world.assert_one_line_each(message, said)


def test_what_only_pixels_tell_is_not_tied() -> None:
    config = world.valid()
    config["datasets"]["isic2019"]["skin_tone"] = "ita"
    config["tasks"]["skin"] |= {
        "train": ["isic2019"],
        "tests": {"sex": ["atlas"]},
        "tie": {"attribute": "tone", "strength": 0.5},
    }
    message = world.read(config)
    assert isinstance(message, str)
    assert "the table of data set 'isic2019' does not have 'tone'" in message


# --- parts ----------------------------------------------------------------------------------------


def manifest(n: int, seed: int = 0) -> ManifestResult:
    rng = np.random.default_rng(seed)
    lesion = rng.integers(0, n // 2, n)
    frame = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in rng.permutation(n)],
            "lesion_id": pd.Series([f"l{k}" if k % 9 else None for k in lesion], dtype="str"),
            "patient_id": pd.Series([f"p{k // 3}" for k in lesion], dtype="str"),
        }
    )
    return ManifestResult(frame, {"rows_read": n, "rows_kept": n, "rules": []})


@pytest.mark.parametrize("by", ["lesion", "patient", "image"])
def test_parts_share_nobody_and_lose_nobody(by: Any) -> None:
    """Random cuts of random tables: each row is in one part, and an id in one part alone."""
    rng = np.random.default_rng(0)
    for seed in range(20):
        whole = manifest(int(rng.integers(20, 400)), seed)
        cuts = [0, *sorted(rng.choice(np.arange(1, 100), 2, replace=False) / 100), 1]
        found = [
            parts.take(whole, Part(by=by, between=pair, seed=seed))
            for pair in itertools.pairwise(cuts)
        ]
        ids = [set(part.frame["image_id"]) for part in found]
        assert sum(map(len, ids)) == len(set().union(*ids)) == len(whole.frame)
        own = [set(part.frame[f"{by}_id"].dropna()) for part in found]
        assert sum(map(len, own)) == whole.frame[f"{by}_id"].nunique()
        for part in found:
            assert part.log["rows_kept"] == len(part.frame)
            assert part.log["rules"][-1]["removed"] == len(whole.frame) - len(part.frame)
    more = manifest(4000)
    held_out = parts.take(more, Part(by=by, between=(0.75, 1)))
    assert len(held_out.frame) / 4000 == pytest.approx(0.25, abs=0.03)
    fewer = ManifestResult(more.frame[::2].reset_index(drop=True), more.log)
    still = parts.take(fewer, Part(by=by, between=(0.75, 1))).frame["image_id"]
    assert set(still) == set(held_out.frame["image_id"]) & set(fewer.frame["image_id"])


@pytest.mark.key("part.by", "part.between", "part.seed")
def test_two_entries_of_one_folder(make: Any) -> None:
    """The one trains and the other tests; another seed deals anew; a patient's images stay."""
    entry = changed({})["datasets"]["north"]
    dealt = []
    for seed, by in ((0, "patient"), (1, "patient"), (0, "image")):
        made = make(
            "cohorts/skin.parquet",
            {
                "datasets.north.part": {"by": by, "between": [0, 0.6], "seed": seed},
                "datasets.held": entry | {"part": {"by": by, "between": [0.6, 1], "seed": seed}},
                "tasks.skin.tests.sex": ["held"],
                "tasks.skin.train": ["north"],
            },
        )
        manifests = made.parents[1] / "manifests"
        one, other = (pd.read_parquet(manifests / f"{name}.parquet") for name in ("north", "held"))
        assert len(one) + len(other) == 40
        assert not set(one.image_id) & set(other.image_id)
        assert bool(set(one.patient_id) & set(other.patient_id)) == (by == "image")
        assert set(pd.read_parquet(made).patient_id).isdisjoint(other.patient_id)  # no leak
        dealt.append(set(one.image_id))
    assert dealt[0] != dealt[1]
    message = world.read(changed({"datasets.north.part": {"by": "image", "between": [1, 0]}}))
    assert isinstance(message, str)
    world.assert_one_line_each(message, "datasets.north.part: between: nothing lies there")


def test_lesions_that_nobody_recorded() -> None:
    whole = manifest(20)
    whole.frame["lesion_id"] = pd.Series([None] * 20, dtype="str")
    with pytest.raises(UserError, match="no image has a known lesion; say by: image"):
        parts.take(whole, Part(by="lesion", between=(0, 0.5)))
