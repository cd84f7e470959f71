"""The wiring of a whole run against an oracle: the shared cut (tests/cut.py), computed anew.

What a rule hands to the next one is compared with pandas, scikit-learn, fairlearn and plain torch.
Of the library only the network's builder is used. The numbers mean nothing; that each is what its
name says, of that method, fold, image and group, is what is tested.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from tests import cut

from swift_debias.config.schema import Backbone
from swift_debias.learning import networks

pytestmark = pytest.mark.slow

MODELS = [
    (*cell, method, fold)
    for cell, (methods, _) in cut.CELLS.items()
    for method in methods
    for fold in cut.FOLDS
]
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
LIGHT, DARK = (1, 1.5, 2, 3), (4, 5, 5.5, 6)  # skin types
EPOCHS = {  # of each step of fine-tuning: half of the pre-training, of one variant three quarters
    (task, method): round(epochs * (0.75 if method == "swift_long" else 0.5))
    for task, epochs in cut.EPOCHS.items()
    for method in cut.METHODS
}


@pytest.fixture(scope="module")
def run(cut_run: Path) -> Path:
    return cut_run / cut.RESULTS


# --- the oracle -----------------------------------------------------------------------------------


def folder(run: Path, kind: str, task: str, attribute: str, method: str, fold: int) -> Path:
    return run / kind / task / "small_resnet" / attribute / method / f"fold{fold}"


@functools.cache
def pixels(run: Path, dataset: str) -> tuple[np.ndarray, dict[str, int]]:
    """The cache of a data set, and the row of each image that could be read."""
    index = pd.read_parquet(run / "images" / f"{dataset}.parquet")
    readable = index[index.error.isna()]
    return np.load(run / "images" / f"{dataset}.npy"), dict(
        zip(readable.image_id, readable.row, strict=True)
    )


@functools.cache
def plain_network(model: Path) -> torch.nn.Module:
    backbone = Backbone(architecture="small_resnet", options={"width": 8, "pool": True})
    network = networks.build(backbone, seed=1)
    network.load_state_dict(load_file(model))
    return network.eval()


def scores(run: Path, model: Path, frame: pd.DataFrame) -> np.ndarray:
    """P(class 1) of these images by this model file, float64."""
    images = np.stack(
        [
            pixels(run, dataset)[0][pixels(run, dataset)[1][image_id]]
            for dataset, image_id in zip(frame.dataset, frame.image_id, strict=True)
        ]
    )
    if images.shape[-1] == 1:  # X-rays are grey
        images = np.repeat(images, 3, axis=-1)
    z = (images / 255.0 - IMAGENET["mean"]) / IMAGENET["std"]
    with torch.no_grad():
        logits = plain_network(model)(torch.tensor(z.transpose(0, 3, 1, 2), dtype=torch.float32))
    return torch.sigmoid(logits.double()).numpy()


def groups_of(frame: pd.DataFrame, attribute: str) -> np.ndarray:
    """Index of each row's group, -1 where it is not known."""
    if attribute == "sex":
        return frame.sex.map({"female": 0, "male": 1}).fillna(-1).to_numpy(int)
    if attribute == "skin_tone":
        dark = frame.fitzpatrick.isin(DARK).to_numpy(int)
        return np.where(frame.fitzpatrick.isin([*LIGHT, *DARK]), dark, -1)
    found = np.full(len(frame), -1)
    for index, (low, high) in enumerate(cut.AGES.values()):
        found[((frame.age >= low) & (frame.age < high)).to_numpy(bool, na_value=False)] = index
    return found


@functools.cache
def pool(run: Path, task: str) -> pd.DataFrame:
    """The training pool with each image's fold; the skin tone of ISIC is the measured one."""
    cohort = pd.read_parquet(run / "cohorts" / f"{task}.parquet")
    folds = pd.read_parquet(run / "folds" / f"{task}.parquet")
    frame = cohort.merge(folds, on=["dataset", "image_id"], validate="one_to_one")
    assert len(frame) == len(cohort) == len(folds)
    for dataset in cut.TRAIN[task] if task == "skin" else ():
        tone = pd.read_parquet(run / "skin_tone" / f"{dataset}.parquet")
        rows = frame.dataset == dataset
        assert frame.fitzpatrick[rows].isna().all()
        known = tone.set_index("image_id").fitzpatrick
        frame.loc[rows, "fitzpatrick"] = frame.image_id[rows].map(known)
    return frame


def external(run: Path, task: str, attribute: str, fold: int) -> pd.DataFrame:
    return pd.read_parquet(run / "external" / task / attribute / f"fold{fold}.parquet")


def baseline(run: Path, task: str, fold: int) -> Path:
    return run / "baseline" / task / "small_resnet" / f"fold{fold}"


def area(run: Path, task: str, fold: int, frame: pd.DataFrame) -> float:
    """AUC of the fold's Baseline on these images."""
    found = scores(run, baseline(run, task, fold) / "model.safetensors", frame)
    return float(roc_auc_score(frame.label, found))


@functools.cache
def areas_of_groups(run: Path, task: str, attribute: str) -> dict[int, tuple[float, int, int]]:
    """Group -> AUC, images and patients of all folds' held-out images.

    The AUC is the share of the pairs of a positive and a negative of one fold that this fold's
    Baseline ranks right.
    """
    parts = [external(run, task, attribute, fold).assign(fold=fold) for fold in cut.FOLDS]
    frame = pd.concat(parts, ignore_index=True)
    people = pool(run, task).set_index(["dataset", "image_id"]).patient_id
    found = {}
    for group, rows in frame.groupby("attribute"):
        right = pairs = 0.0
        for fold, part in rows.groupby("fold"):
            if part.label.nunique() == 2:
                here = int((part.label == 1).sum() * (part.label == 0).sum())
                right += here * area(run, task, int(fold), part)
                pairs += here
        who = people.loc[list(zip(rows.dataset, rows.image_id, strict=True))]
        n_people = who.nunique() + int(who.isna().sum())
        found[int(group)] = (right / pairs, len(rows), n_people)
    return found


def chosen_pair(run: Path, task: str, attribute: str) -> tuple[int, int]:
    """The groups of the highest and the lowest AUC of those with enough images, over all folds."""
    areas = {
        group: auc
        for group, (auc, n, _) in areas_of_groups(run, task, attribute).items()
        if n >= cut.MIN_GROUP
    }
    low, high = sorted([min(areas, key=areas.__getitem__), max(areas, key=areas.__getitem__)])
    return int(low), int(high)


def external_of(run: Path, task: str, attribute: str, method: str, fold: int) -> pd.DataFrame:
    """Counts of the (label, group) cells that a method works on: columns full and balanced."""
    frame = external(run, task, attribute, fold)
    if task == "cxr":
        frame = frame[frame.attribute.isin(chosen_pair(run, task, attribute))]
    cells = frame.groupby(["label", "attribute"]).size().rename("full")
    assert len(cells) == 4
    if method == "swift_part":
        cells = (0.6 * cells).round().astype(int)
    return cells.to_frame().assign(balanced=cells.groupby("label").transform("min"))


def log_by_fold(run: Path, rule: str, task: str, attribute: str, method: str = "") -> list[str]:
    """What a job's log says of each fold."""
    name = "/".join(filter(None, [rule, task, "small_resnet", attribute, method]))
    text = (run / "logs" / f"{name}.log").read_text()
    parts = re.split(r"^fold (\d+)$", text, flags=re.MULTILINE)[1:]
    assert parts[::2] == [str(fold) for fold in cut.FOLDS]
    return parts[1::2]


# --- data -----------------------------------------------------------------------------------------


def test_external_sets_are_the_folds_images_of_a_known_group(run: Path) -> None:
    for (task, attribute), fold in itertools.product(cut.CELLS, cut.FOLDS):
        frame = pool(run, task)
        expected = frame.assign(group=groups_of(frame, attribute))
        expected = expected[(expected.fold == fold) & (expected.group >= 0)]
        found = external(run, task, attribute, fold)
        names = ["dataset", "image_id", "label"]
        rows = [
            set(map(tuple, frame[[*names, column]].to_numpy().tolist()))
            for frame, column in ((expected, "group"), (found, "attribute"))
        ]
        assert rows[0] == rows[1]
        assert len(rows[0]) == len(found) == len(expected)
        assert set(found.attribute) == set(range(4 if attribute == "age_4" else 2))
        # Which two of many groups are compared depends on the Baseline: all large ones are
        # balanced.
        sizes = pd.crosstab(found.label, found.attribute)
        large = sizes.columns[sizes.min() >= cut.MIN_CELL]
        assert len(large) >= 2
        balanced = pd.crosstab(found.label[found.balanced], found.attribute[found.balanced])
        assert list(balanced.columns) == list(large)
        smallest = sizes[large].min(axis=1)
        assert balanced.eq(smallest, axis="index").all(axis=None)


def test_folds_are_stratified_by_label_and_both_attributes(run: Path) -> None:
    frame = pool(run, "skin")
    frame = frame.assign(
        sex_group=groups_of(frame, "sex"), tone_group=groups_of(frame, "skin_tone")
    )
    strata = pd.crosstab([frame.label, frame.sex_group, frame.tone_group], frame.fold)
    assert (strata.sum(axis=1) > 10).sum() >= 6
    assert (strata[0] - strata[1]).abs().max() <= 2


def test_sizes_are_those_of_folds_and_external_sets(run: Path) -> None:
    for task in cut.TRAIN:
        sizes = pd.read_csv(run / "folds" / f"{task}.sizes.csv", dtype={"label": str})
        frame = pool(run, task)
        groups_in_pool = {name: groups_of(frame, name) for t, name in cut.CELLS if t == task}
        names = {
            "sex": ["female", "male"],
            "skin_tone": ["light", "dark"],
            "age_4": list(cut.AGES),
        }
        for row in sizes.itertuples():
            if row.set in ("external", "balanced"):
                part = external(run, task, row.attribute, int(row.fold))
                part = part[part.balanced] if row.set == "balanced" else part
                groups = part.attribute.to_numpy()
            else:
                held_out = (frame.fold == row.fold).to_numpy()
                inside = {"pool": held_out | True, "train": ~held_out, "validation": held_out}
                part = frame[inside[row.set]]
                groups = groups_in_pool.get(row.attribute, held_out)[inside[row.set]]
            mask = np.ones(len(part), bool)
            if row.label != "all":
                mask &= (part.label == int(row.label)).to_numpy()
            if row.group != "all":
                wanted = -1 if row.group == "unknown" else names[row.attribute].index(row.group)
                mask &= groups == wanted
            assert row.n == mask.sum(), row
        shown = set(sizes.attribute) - {"all"}
        assert shown == {attribute for t, attribute in cut.CELLS if t == task}


def test_no_image_or_patient_is_on_both_sides(run: Path) -> None:
    for task in cut.TRAIN:
        frame = pool(run, task)
        assert frame.groupby("cluster").fold.nunique().max() == 1
        known = frame[frame.patient_id.notna()]
        assert known.groupby(["dataset", "patient_id"]).fold.nunique().max() == 1
        hashes = {
            path.stem: pd.read_parquet(path).set_index("image_id").sha256
            for path in (run / "images").glob("*.parquet")
        }
        training = {
            hashes[dataset][image_id]
            for dataset, image_id in zip(frame.dataset, frame.image_id, strict=True)
        }
        for (t, _), (_, tests) in cut.CELLS.items():
            for test in tests if t == task else ():
                assert not training & set(hashes[test].dropna())


# --- training -------------------------------------------------------------------------------------


def test_baseline_never_sees_its_held_out_fold(run: Path) -> None:
    others: dict[str, list[float]] = {task: [] for task in cut.TRAIN}
    for task, fold in itertools.product(cut.TRAIN, cut.FOLDS):
        frame, place = pool(run, task), baseline(run, task, fold)
        held_out = frame[frame.fold == fold]
        log = (run / f"logs/train_baseline/{task}/small_resnet/fold{fold}.log").read_text()
        train, validation = len(frame) - len(held_out), len(held_out)
        assert f"{train} training and {validation} validation images" in log
        cost = json.loads((place / "cost.json").read_text())
        assert cost["images_seen"] == cut.EPOCHS[task] * (train + validation)
        history = pd.read_parquet(place / "history.parquet")
        assert list(history.epoch) == list(range(1, cut.EPOCHS[task] + 1))
        # which of the two sets is watched, not only how large it is
        watched = history.validation_auc.iloc[-1]
        assert watched == pytest.approx(area(run, task, fold, held_out), abs=1e-3)
        others[task].append(abs(watched - area(run, task, fold, frame[frame.fold != fold])))
    assert all(max(differences) > 0.01 for differences in others.values())


def test_held_out_scores_are_the_baselines(run: Path) -> None:
    """Of the images of its fold, and of no other."""
    for task, fold in itertools.product(cut.TRAIN, cut.FOLDS):
        frame, place = pool(run, task), baseline(run, task, fold)
        held_out = frame[frame.fold == fold]
        found = pd.read_parquet(place / "held_out.parquet")
        names = ["dataset", "image_id", "label"]
        assert list(found.columns) == [*names, "logit"]
        rows = [set(map(tuple, part[names].to_numpy().tolist())) for part in (found, held_out)]
        assert rows[0] == rows[1] and len(found) == len(held_out)
        expected = scores(run, place / "model.safetensors", found)
        assert 1 / (1 + np.exp(-found.logit.to_numpy())) == pytest.approx(expected, abs=2e-5)


def test_baseline_is_handed_on_untouched(run: Path) -> None:
    for (task, attribute), fold in itertools.product(cut.CELLS, cut.FOLDS):
        trained, kept = (
            baseline(run, task, fold),
            folder(run, "debiased", task, attribute, "baseline", fold),
        )
        for name in ("model.safetensors", "history.parquet", "cost.json"):
            assert (trained / name).read_bytes() == (kept / name).read_bytes()


def choice_of(run: Path, task: str, attribute: str) -> dict[str, Any]:
    path = run / "groups" / task / "small_resnet" / f"{attribute}.json"
    return dict(json.loads(path.read_text()))


def test_groups_are_chosen_by_the_areas_of_all_folds(run: Path) -> None:
    """One choice for a setup; its two groups, and the unprivileged one, in every job's log.

    Of groups with `min_group` images in all folds together, which leaves one out here.
    """
    sizes = [n for _, n, _ in areas_of_groups(run, "cxr", "age_4").values()]
    assert [n < cut.MIN_GROUP for n in sizes].count(True) == 1
    for (task, attribute), (methods, _) in cut.CELLS.items():
        found, expected = choice_of(run, task, attribute), areas_of_groups(run, task, attribute)
        assert set(found["groups"]) == {str(group) for group in expected}
        for group, (auc, n, people) in expected.items():
            entry = found["groups"][str(group)]
            assert entry["auc"] == pytest.approx(auc, abs=1e-3)  # nearly equal scores
            assert (entry["n"], entry["patients"]) == (n, people)
            assert entry["low"] < entry["auc"] < entry["high"]
        many = attribute == "age_4"
        pair = chosen_pair(run, task, attribute) if many else (0, 1)
        low, high = (expected[group][0] for group in pair)
        assert abs(low - high) > 4e-3  # rounding decides nothing
        assert found["pair"] == (list(pair) if many else None)
        assert found["unprivileged"] == int(high < low)
        for fold in cut.FOLDS:
            said = f"groups with the highest and the lowest AUC: {pair}, recoded as 0 and 1"
            logs = [log_by_fold(run, "importance", task, attribute)[fold]]
            for method in set(methods) - {"baseline"}:
                logs.append(log_by_fold(run, "debias", task, attribute, method)[fold])
                favoured = f"group {found['unprivileged']} is the unprivileged one"
                assert (favoured in logs[-1]) == (method == "fairprune")
            assert all((said in log) == many for log in logs)


def test_the_first_step_is_what_a_variant_without_a_second_one_would_be(run: Path) -> None:
    """SWiFT goes on from the shared step: same extractor, its rows of history, its images."""
    for (task, attribute), fold in itertools.product(cut.CELLS, cut.FOLDS):
        [place] = (run / "first_steps" / task / "small_resnet" / attribute).glob(f"*/fold{fold}")
        whole = folder(run, "debiased", task, attribute, "swift", fold)
        start, step, final = (
            load_file(path / "model.safetensors")
            for path in (baseline(run, task, fold), place, whole)
        )
        heads = {name for name in start if name.startswith("head.")}
        for name, value in step.items():
            same_as_start = torch.equal(value, start[name])
            assert torch.equal(value, final[name]) == (name not in heads), name
            assert not (name in heads and not same_as_start), name
        assert any(not torch.equal(step[name], start[name]) for name in step)
        rows = [pd.read_parquet(path / "history.parquet") for path in (place, whole)]
        assert set(rows[0].stage) == {"step1"}
        mine = rows[1][rows[1].stage == "step1"].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows[0], mine[rows[0].columns], check_dtype=False)
        costs = [json.loads((path / "cost.json").read_text()) for path in (place, whole)]
        balanced = int(external_of(run, task, attribute, "swift", fold).balanced.sum())
        assert costs[0]["images_seen"] == EPOCHS[task, "swift"] * balanced
        for what, kinds in (
            ("parameters_changed", ("weight", "bias")),
            ("buffers_changed", ("running_mean", "running_var")),
        ):
            for cost, state in zip(costs, (step, final), strict=True):
                names = [n for n in start if n.endswith(kinds)]
                assert cost[what] == sum(int((state[n] != start[n]).sum()) for n in names)
        assert costs[1]["seconds"] > costs[0]["seconds"] > 0


@pytest.mark.parametrize(("task", "attribute", "method", "fold"), MODELS)
def test_every_method_sees_its_external_set_for_its_epochs(
    run: Path, task: str, attribute: str, method: str, fold: int
) -> None:
    """History and images seen, from counts of the external set alone."""
    if method == "baseline":
        return
    place = folder(run, "debiased", task, attribute, method, fold)
    cost = json.loads((place / "cost.json").read_text())
    history = pd.read_parquet(place / "history.parquet")
    cells = external_of(run, task, attribute, method, fold)
    full, balanced = int(cells.full.sum()), int(cells.balanced.sum())
    said = f"external set: {full} images, {balanced} balanced"
    assert said in log_by_fold(run, "debias", task, attribute, method)[fold]
    seen = cost["images_seen"]
    epochs = EPOCHS[task, method]
    if method == "fairprune":  # the choice of groups and the importances are other jobs'
        assert seen == 0
    elif method == "llft":  # features of equally many images of each cell
        assert seen == 4 * cells.full.min()
    else:
        steps = history.groupby("stage").epoch.agg(list).to_dict()
        assert steps == {name: list(range(1, epochs + 1)) for name in ("step1", "step2")}
        # importances of its own, where the external set is its own: a pass over the balanced part,
        # which is all that SWiFT reads by default, and its first batch once more
        seen -= balanced + min(balanced, cut.BATCH) if method == "swift_part" else 0
        views = seen - epochs * balanced  # features of the head's step: each drawn view once
        assert balanced < views <= min(8, epochs) * balanced


# --- scores ---------------------------------------------------------------------------------------


def predictions(run: Path, task: str, attribute: str, method: str, fold: int) -> pd.DataFrame:
    path = folder(run, "predictions", task, attribute, method, fold).with_suffix(".parquet")
    return pd.read_parquet(path)


@pytest.mark.parametrize(("task", "attribute", "method", "fold"), MODELS)
def test_a_prediction_file_holds_the_scores_of_its_model(
    run: Path, task: str, attribute: str, method: str, fold: int
) -> None:
    found = predictions(run, task, attribute, method, fold)
    model = folder(run, "debiased", task, attribute, method, fold) / "model.safetensors"
    assert found.score.to_numpy() == pytest.approx(scores(run, model, found), abs=2e-5)
    assert sorted(set(found.dataset)) == sorted(cut.CELLS[task, attribute][1])
    for dataset, part in found.groupby("dataset"):
        manifest = pd.read_parquet(run / "manifests" / f"{dataset}.parquet").set_index("image_id")
        assert set(part.image_id) == set(pixels(run, str(dataset))[1])
        manifest = manifest.loc[part.image_id]
        assert (part.label.to_numpy() == manifest.label.to_numpy()).all()
        assert (part.group.to_numpy() == groups_of(manifest, attribute)).all()
        patients = manifest.patient_id.fillna("")
        assert (part.patient_id.fillna("").to_numpy() == patients.to_numpy()).all()


def test_scores_of_different_models_differ(run: Path) -> None:
    """So that the test above would notice scores under another method's or fold's name."""
    for (task, attribute), (methods, _) in cut.CELLS.items():
        names = list(itertools.product(methods, cut.FOLDS))
        found = {name: predictions(run, task, attribute, *name).score for name in names}
        for one, other in itertools.combinations(names, 2):
            assert (found[one] - found[other]).abs().max() > 1e-3, (one, other)


# --- metrics, tables, figures ---------------------------------------------------------------------


def expected_metrics(frame: pd.DataFrame, groups: int) -> dict[str, float]:
    """The metrics that the tables show, of one test set; small groups of many do not count."""
    known = frame[frame.group >= 0]
    guess = (known.score >= 0.5).astype(int)
    counted = known.groupby("group").filter(
        lambda part: groups == 2 or (len(part) >= cut.MIN_GROUP and part.label.nunique() == 2)
    )
    decided = guess[counted.index]
    areas = [roc_auc_score(part.label, part.score) for _, part in counted.groupby("group")]
    selected = decided.groupby(counted.group).mean()
    rates = decided.groupby([counted.label, counted.group]).mean()
    signed = {}
    if groups == 2:  # group 1 minus group 0
        signed = {
            "dtpr": rates[1][1] - rates[1][0],
            "dfpr": rates[0][1] - rates[0][0],
            "dspd": selected[1] - selected[0],
            "dauc": areas[1] - areas[0],
        }
    return signed | {
        "auc": roc_auc_score(known.label, known.score),
        "spd": np.ptp(selected),
        "eodds": (np.ptp(rates[1]) + np.ptp(rates[0])) / 2,
        "auc_min": min(areas),
        "auc_gap": np.ptp(areas),
        "balanced_accuracy": balanced_accuracy_score(known.label, guess),
        "selection_rate": guess.mean(),
        "tpr_min": rates[1].min(),
        "tnr_min": 1 - rates[0].max(),
    }


@pytest.fixture(scope="module")
def expected(run: Path) -> pd.Series:
    """Every metric anew from the predictions, by task, attribute, method, fold, data set, name."""
    rows: dict[tuple[Any, ...], float] = {}
    for key in MODELS:
        for dataset, part in predictions(run, *key).groupby("dataset"):
            found = expected_metrics(part, 4 if key[1] == "age_4" else 2)
            rows |= {(*key, dataset, name): value for name, value in found.items()}
    return pd.Series(rows)


def test_metrics_are_what_the_predictions_say(run: Path, expected: pd.Series) -> None:
    metrics = pd.read_parquet(run / "metrics.parquet")
    assert set(metrics.backbone) == {"small_resnet"}
    keys = ["task", "attribute", "method", "fold", "dataset", "metric"]
    values = metrics.set_index(keys).value
    assert not values.index.duplicated().any()
    assert set(values.index.droplevel("metric")) == set(expected.index.droplevel(-1))
    for key, value in expected.items():
        assert values[key] == pytest.approx(value, abs=1e-9), key


def test_tables_are_means_and_deviations_over_folds(run: Path, expected: pd.Series) -> None:
    expected.index.names = ["task", "attribute", "method", "fold", "dataset", "metric"]
    keys = ["task", "attribute", "method", "dataset", "metric"]
    over_folds = expected.groupby(keys)
    shown = set()
    for name in ("table1", "table5"):
        table = pd.read_csv(run / "tables" / f"{name}.csv").set_index(keys)
        assert table.published_mean.isna().all()
        assert (table.n_folds == len(cut.FOLDS)).all()
        for key, row in table.iterrows():
            assert row["mean"] == pytest.approx(over_folds.mean()[key], abs=1e-9)
            assert row["std"] == pytest.approx(over_folds.std(ddof=1)[key], abs=1e-9)
        shown |= set(table.index)
    wanted = {
        (*cell, method, dataset, metric)
        for cell, (methods, tests) in cut.CELLS.items()
        for method, dataset in itertools.product(methods, tests)
        for metric in (
            *(
                ("auc", "auc_min", "auc_gap")
                if cell[0] == "cxr"
                else ("auc", "spd", "eodds", "dtpr", "dfpr", "dspd", "dauc")
            ),
            *("balanced_accuracy", "selection_rate", "tpr_min", "tnr_min"),
        )
    }
    assert shown == wanted


@pytest.mark.parametrize("name", ["table1", "table5"])
def test_the_best_of_a_column_is_bold(run: Path, name: str) -> None:
    """By the arrow in its heading, at the precision that is printed, of those that are ranked.

    Gaps below their noise floor share the first place, and none is bold.
    """
    for block in (run / "tables" / f"{name}.md").read_text().split("\n\n**")[1:]:
        lines = [
            line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("|")
        ]
        heading, _, *body = lines
        for column, title in list(enumerate(heading))[1:]:
            cells = [row[column] for row in body]
            means = [float(re.sub(r"[*]|<.*?>", "", cell).split()[0]) for cell in cells]
            lower = any(word in title for word in ("SPD", "EOdds", "Gap"))
            assert title.endswith("↓" if lower else "↑"), title
            marks = [set("".join(re.findall(r"<sup>(.*?)</sup>", cell))) for cell in cells]
            ranked = [not own & set("ikcl") for own in marks]  # all but small groups
            kept = [mean for mean, counts in zip(means, ranked, strict=True) if counts]
            best = (min(kept) if lower else max(kept)) if kept else None
            floored = any("f" in own and counts for own, counts in zip(marks, ranked, strict=True))
            bold = [
                mean == best and counts and not floored
                for mean, counts in zip(means, ranked, strict=True)
            ]
            assert [("**" in cell) for cell in cells] == bold, title


def test_names_of_classes_and_groups_belong_to_the_right_images(run: Path) -> None:
    """From the source's own words: a melanoma is called one in the figure."""
    shown = pd.read_csv(run / "figures" / "figure1.csv")
    images = shown[shown.kind == "image"]
    assert set(images.class_name) == {"melanoma", "benign"}
    manifest = pd.read_parquet(run / "manifests" / "atlas.parquet").set_index("image_id")
    rows = manifest.loc[images.image_id]
    melanoma = rows.diagnosis.str.contains("melanoma").to_numpy()
    assert ((images.class_name == "melanoma").to_numpy() == melanoma).all()
    assert (images.group_name.to_numpy() == rows.sex.to_numpy()).all()
    found = predictions(run, "skin", "sex", "baseline", 0)
    score = found[found.dataset == "atlas"].set_index("image_id").score
    assert images.score.to_numpy() == pytest.approx(score[images.image_id].to_numpy(), abs=1e-6)
    # the histograms are of both folds, all images of a class and group
    both = pd.concat(
        predictions(run, "skin", "sex", "baseline", fold).assign(fold=fold) for fold in cut.FOLDS
    )
    both = both[(both.dataset == "atlas") & (both.group >= 0)]
    diseased = manifest.loc[both.image_id].diagnosis.str.contains("melanoma").to_numpy()
    sexes = manifest.loc[both.image_id].sex.to_numpy()
    bars = shown[shown.kind == "histogram"]
    for (kind, group), part in bars.groupby(["class_name", "group_name"]):
        cell = both[(diseased == (kind == "melanoma")) & (sexes == group)]
        above = (cell.score >= 0.5).groupby(cell.fold).mean().mean()
        assert part["mean"][part.low >= 0.5 - 1e-9].sum() == pytest.approx(above, abs=1e-5)
    assert len(bars.groupby(["class_name", "group_name"])) == 4


def test_the_pareto_front_is_of_the_tables_means(run: Path) -> None:
    points = pd.read_csv(run / "figures" / "pareto.csv")
    table = pd.read_csv(run / "tables" / "table1.csv")
    means = table[table.attribute == "sex"].set_index(["dataset", "method", "metric"])["mean"]
    assert len(points) == 2 * len(cut.METHODS)
    for row in points.itertuples():
        here = means[row.dataset].unstack()  # noqa: PD010
        auc, eodds = here.auc[row.method], here.eodds[row.method]
        assert (row.auc_mean, row.eodds_mean) == pytest.approx((auc, eodds), abs=1e-5)
        beaten = (here.auc >= auc) & (here.eodds <= eodds)
        beaten &= (here.auc > auc) | (here.eodds < eodds)
        assert row.non_dominated == (not beaten.any())


def test_the_cost_table_shows_each_methods_own_costs(run: Path) -> None:
    table = pd.read_csv(run / "tables" / "cost.csv")
    table = table[table.metric == "images_seen"].set_index(["task", "attribute", "method"])["mean"]
    for (task, attribute), (methods, _) in cut.CELLS.items():
        for method in set(methods) - {"baseline"}:
            costs = [
                json.loads(
                    (
                        folder(run, "debiased", task, attribute, method, fold) / "cost.json"
                    ).read_text()
                )["images_seen"]
                for fold in cut.FOLDS
            ]
            assert table[task, attribute, method] == pytest.approx(np.mean(costs))


def test_the_report_shows_every_view(run: Path) -> None:
    text = (run / "report.html").read_text()
    for view in cut.VIEWS.values():
        assert view["title"] in text
    first = re.search(r"(\d\.\d+)\W+± \d", (run / "tables" / "table1.md").read_text())
    assert first is not None
    assert first[1] in text


# --- the same bytes -------------------------------------------------------------------------------


@pytest.mark.ci
def test_same_bytes_with_one_core(run: Path, tmp_path: Path, snakemake: Callable[..., Any]) -> None:
    """From the raw folders to a debiased model, one job at a time in another folder."""
    cut.copy_project(tmp_path / "one")
    again = tmp_path / "one" / cut.RESULTS
    shutil.copytree(run / "raw", again / "raw")
    target = "debiased/skin/small_resnet/skin_tone/swift/fold1/model.safetensors"
    config = str(tmp_path / "one" / "cut.yaml")
    words = ["--cores", "1", "--configfile", config, "--", str(cut.RESULTS / target)]
    snakemake(tmp_path / "one", *words, project=tmp_path / "one")

    def compared() -> Iterator[Path]:
        for kind in ("manifests", "images", "cohorts", "skin_tone", "folds", "external"):
            yield from (again / kind).rglob("*.parquet")
            yield from (again / kind).rglob("*.npy")
        yield from (again / "baseline").rglob("held_out.parquet")
        yield from (again / "groups").rglob("*.json")
        for kind in ("baseline", "importance", "first_steps", "debiased"):
            yield from (again / kind).rglob("*.safetensors")
            yield from (again / kind).rglob("history.parquet")

    files = [path.relative_to(again) for path in compared()]
    assert len(files) > 25
    assert Path(target) in files
    assert not [str(f) for f in files if (again / f).read_bytes() != (run / f).read_bytes()]
