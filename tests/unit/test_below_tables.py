"""The pool by group and label, searches, and groups that were compared: against plain counts."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from swift_debias.config.schema import Method
from swift_debias.evaluation.label_by_group import auc_of_the_group, sentence
from swift_debias.files import write_json, write_parquet
from swift_debias.methods import trial_epochs
from swift_debias.methods._choice import Choice, GroupAuc
from swift_debias.report import (
    compared_groups,
    plain_tables,
    pool_table,
    render,
    search_table,
    tables,
)

GROUPS = {"sex": ("female", "male"), "tone": ("I", "II", "III")}
CLASSES = {"skin": ("benign", "melanoma")}


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=5))
def test_the_auc_of_the_group_is_that_of_its_share(counts: list[tuple[int, int]]) -> None:
    labels = [y for n0, n1 in counts for y, n in ((0, n0), (1, n1)) for _ in range(n)]
    scores = [n1 / (n0 + n1) for n0, n1 in counts for _ in range(n0 + n1)]
    found = auc_of_the_group({str(i): pair for i, pair in enumerate(counts)})
    if len(set(labels)) < 2:
        assert found is None
    else:
        assert found == pytest.approx(roc_auc_score(labels, scores))


def test_the_sentence() -> None:
    told = sentence("sex", {"women": (760, 240), "men": (390, 610)}, ("nevus", "melanoma"))
    assert told == (
        "Share of melanoma by sex: women 24 % (240 of 1,000), men 61 % (610 of 1,000). A "
        "classifier can win by knowing the sex: the sex alone has an AUC of 0.69."
    )
    even = sentence("sex", {"women": (50, 50), "men": (51, 49)}, ("nevus", "melanoma"))
    assert even.endswith("Knowing the sex hardly helps: the sex alone has an AUC of 0.51.")
    assert "no other group" in sentence(
        "sex", {"women": (5, 5), "men": (0, 0)}, ("nevus", "melanoma")
    )
    assert "one class only" in sentence(
        "sex", {"women": (0, 5), "men": (0, 5)}, ("nevus", "melanoma")
    )
    assert sentence("sex", {"women": (0, 0)}, ("nevus", "melanoma")) == "No image has a known sex."


@pytest.mark.parametrize("tied", [False, True])
def test_the_pool_is_all_external_sets_together(tmp_path: Path, tied: bool) -> None:
    rng = np.random.default_rng(0)
    frames, paths = {}, []
    for attribute, fold in itertools.product(GROUPS, range(3)):
        n = int(rng.integers(20, 40))
        frame = pd.DataFrame(
            {
                "label": rng.integers(0, 2, n).astype("int8"),
                "attribute": rng.integers(0, 2, n).astype("int16"),  # nobody of type III
                "balanced": rng.random(n) < 0.5,
                "dataset": "isic",
                "image_id": [f"{fold}_{i}" for i in range(n)],
            }
        )
        path = tmp_path / f"external/skin/{attribute}/fold{fold}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(frame, path)
        paths.append(path)
        frames[attribute, fold] = frame
    ids = [f"{fold}_{i}" for fold in range(3) for i in range(40)]
    cohort = pd.DataFrame({"dataset": "isic", "image_id": ids})
    if tied:  # half of the images are for external sets alone
        cohort["trains"] = rng.random(len(ids)) < 0.5
    (tmp_path / "cohorts").mkdir()
    write_parquet(cohort, tmp_path / "cohorts/skin.parquet")
    found = pool_table.count(paths, GROUPS, [tmp_path / "cohorts/skin.parquet"])
    found = found.set_index(["attribute", "group"])
    if tied:
        trains = set(cohort.loc[cohort["trains"], "image_id"])
        frames = {key: frame[frame["image_id"].isin(trains)] for key, frame in frames.items()}
    for attribute, names in GROUPS.items():
        pooled = pd.concat([frames[attribute, fold] for fold in range(3)])
        for group, name in enumerate(names):
            own = pooled[pooled["attribute"] == group]["label"]
            row = found.loc[attribute, name]
            assert (row["class_0"], row["class_1"]) == ((own == 0).sum(), (own == 1).sum())
    assert set(found["set"]) == {"pool"}
    told = pool_table.sentences(found.reset_index(), CLASSES)
    assert len(told) == 2 and told[0].startswith("Skin lesions: share of melanoma by sex: female ")
    shown = pool_table.for_readers(found.reset_index(), CLASSES)
    assert set(shown["class 1 is"]) == {"melanoma"} and shown["its share"].isna().sum() == 1


def test_an_external_set_of_ones_own_is_counted_once_and_is_no_pool(tmp_path: Path) -> None:
    ids = [f"{i:02d}" for i in range(30)]
    whole = pd.DataFrame({"dataset": "mine", "image_id": ids, "label": np.arange(30) % 2})
    whole["attribute"] = np.arange(30) // 3 % 2
    paths = []
    for fold in range(3):  # an image is in the sets of all folds but its own
        path = tmp_path / f"external/skin/sex/fold{fold}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(whole[np.arange(30) % 3 != fold].astype({"attribute": "int16"}), path)
        paths.append(path)
    cohort = tmp_path / "cohorts/skin.parquet"
    cohort.parent.mkdir()
    write_parquet(whole[["dataset", "image_id"]].assign(external=True, trains=False), cohort)
    found = pool_table.count(paths, GROUPS, [cohort])
    counts = pd.crosstab(whole["attribute"], whole["label"])
    assert found[["class_0", "class_1"]].to_numpy()[:2].tolist() == counts.to_numpy().tolist()
    assert set(found["set"]) == {"external set"}
    assert pool_table.sentences(found, CLASSES) == []


# --- searches -------------------------------------------------------------------------------------


def write_search(folder: Path, method: str, chosen: int, weak: bool, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    trials = [
        {"settings": {"lr": lr, "beta": 0.5}, "auc_change": -0.01, "auc_se": 0.02 + 0.01 * weak}
        | {"eodds": float(rng.random()), "auc": None if lr == 0.1 else 0.7, "dtpr": 0.1}
        for lr in (0.1, 0.01, 0.001)
    ]
    found = {
        "chosen": trials[chosen]["settings"],
        "rule": "constrained",
        "reason": "lowest EOdds of 2",
        "underpowered": weak,
        "select_images": 90,
        "thresholds": [0.5],
        "baseline": {},
        "trials": trials,
        "seconds": 12.5,
        "images_seen": 1000 * (seed + 1),
    }
    path = folder / f"search/skin/net/sex/{method}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    return found


def test_every_trial_is_in_the_table(tmp_path: Path) -> None:
    written = {"swift": write_search(tmp_path, "swift", 1, False, 0)}
    written["bmft"] = write_search(tmp_path, "bmft", 2, True, 1)
    files = [tmp_path / f"search/skin/net/sex/{name}.json" for name in written]
    trials, budgets = search_table.read(files)
    assert len(trials) == 6
    for row in trials.itertuples():
        trial = written[str(row.method)]["trials"][row.trial - 1]  # type: ignore[operator]
        assert row.settings == f"lr {trial['settings']['lr']}, beta 0.5"
        assert row.eodds == trial["eodds"] and row.auc_se == trial["auc_se"]
        assert row.chosen == (trial["settings"] == written[str(row.method)]["chosen"])
    assert budgets["images_seen"].tolist() == [1000, 2000]
    shown = search_table.for_readers(trials, {"swift": "SWiFT"})
    assert shown["chosen"].tolist() == ["", "yes", "", "", "", "yes"]
    assert shown["underpowered"].tolist() == [""] * 3 + ["yes"] * 3
    told = search_table.budget(budgets, {"swift": [10, 20]}, {"swift": "SWiFT"}, 5)
    assert told == [
        "Searched settings, over 5 folds of a setup: SWiFT 3 trials of 10 to 20 epochs a step, "
        "1,000 images seen; bmft 3 trials, 2,000 images seen.",
        "Underpowered: bmft (1 of 2 searches); the AUC's change was too uncertain to hold it to "
        "the tolerance.",
    ]


@pytest.mark.parametrize(("folds", "said"), [(1, "1 fold"), (2, "2 folds"), (10, "10 folds")])
def test_one_fold_is_told_as_one(tmp_path: Path, folds: int, said: str) -> None:
    write_search(tmp_path, "swift", 1, False, 0)
    _, budgets = search_table.read([tmp_path / "search/skin/net/sex/swift.json"])
    [told] = search_table.budget(budgets, {}, {}, folds)
    assert told.startswith(f"Searched settings, over {said} of a setup: ")


def test_nothing_searched_nothing_told() -> None:
    trials, budgets = search_table.read([])
    assert trials.empty and search_table.budget(budgets, {}, {}, 5) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"algorithm": "swift", "search": {"lr_factor": [0.5, 1.0]}}, (10,)),
        ({"algorithm": "swift", "epochs_percent": 20, "search": {"lr_factor": [1.0]}}, (20,)),
        ({"algorithm": "swift", "search": {"epochs_percent": [5, 40, 0.1]}}, (1, 5, 40)),
        ({"algorithm": "fairprune", "search": {"beta": [0.1, 0.2]}}, ()),
        ({"algorithm": "swift"}, ()),
    ],
)
def test_epochs_of_the_trials(settings: dict[str, Any], expected: tuple[int, ...]) -> None:
    assert trial_epochs(Method(**settings), 100, 10) == expected


# --- compared groups ------------------------------------------------------------------------------


def write_choice(folder: Path, attribute: str, choice: Choice) -> Path:
    path = folder / f"groups/skin/resnet50/{attribute}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, choice.to_json())
    return path


AUCS = {g: GroupAuc(0.7 + g / 10, 0.6 + g / 10, 0.8 + g / 10, 50, 40) for g in range(3)}


def test_the_chosen_pair_and_the_unprivileged_group(tmp_path: Path) -> None:
    many = write_choice(tmp_path, "tone", Choice((0, 2), 0, AUCS))
    two = write_choice(tmp_path, "sex", Choice(None, 1, {g: AUCS[g] for g in (0, 1)}))
    interval = "AUC of the Baseline on held-out images of all folds: "
    assert compared_groups.remarks([many, two], GROUPS, ()) == [
        "Tone (Skin lesions, ResNet-50): methods that compare two groups compare I and III. "
        f"{interval}I 0.700 [0.600, 0.800], III 0.900 [0.800, 1.000]."
    ]
    both = compared_groups.remarks([many, two], GROUPS, ["FairPrune"])
    assert "compare I and III; for FairPrune, I is the unprivileged group (lower AUC)." in both[0]
    assert both[1].startswith(
        "Sex (Skin lesions, ResNet-50): for FairPrune, male is the unprivileged group (lower AUC). "
    )
    none = write_choice(tmp_path, "tone", Choice(None, None, AUCS))
    [text] = compared_groups.remarks([none], GROUPS, ["FairPrune"])
    assert "no two groups can be compared; for FairPrune, no group is unprivileged" in text


# --- how they are written -------------------------------------------------------------------------


def test_remarks_stand_below_a_table_in_every_format(tmp_path: Path) -> None:
    table = tables.assemble("mine", "T", [], {}, {}, {}, False, remarks=["Of 5 % & <more>_."])
    render.write(table, tmp_path)
    texts = {f: (tmp_path / f"mine.{f}").read_text() for f in ("md", "tex", "html", "txt")}
    assert "- Of 5 % &amp; &lt;more&gt;" in texts["md"]
    assert r"Of 5 \% \& \textless{}more\textgreater{}\_." in texts["tex"]
    assert '<p class="remark">Of 5 % &amp; &lt;more&gt;_.</p>' in texts["html"]
    assert "\nOf 5 % & <more>_.\n" in texts["txt"]


@pytest.mark.parametrize("rows", [0, 2])
def test_a_plain_table_in_five_formats(tmp_path: Path, rows: int) -> None:
    frame = pd.DataFrame({"na|me": ["=1+1", "<b>&_"], "value": [0.12345, np.nan]})[:rows]
    paths = plain_tables.write("p", "Ti_tle", ["First <line>."], frame, frame, tmp_path)
    assert [path.suffix for path in paths] == [".csv", ".md", ".tex", ".html", ".txt"]
    texts = {path.suffix: path.read_text() for path in paths}
    assert "First &lt;line&gt;." in texts[".html"] and "<line>" not in texts[".html"]
    assert ("<b>" in texts[".html"], "<b>" in texts[".md"]) == (False, False)
    assert texts[".tex"].count("\\begin{") == texts[".tex"].count("\\end{")
    assert texts[".tex"].count("\\\\\n") == (rows + 1) * bool(rows)
    assert ("0.123" in texts[".txt"]) == bool(rows)
    assert pd.read_csv(paths[0])["value"].tolist()[:1] == [0.12345][:rows]
    assert ("'=1+1" in texts[".csv"]) == bool(rows)
