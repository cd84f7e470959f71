"""Keys that the rules read: followed from the configuration to a file of results."""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import json
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from snakemake.exceptions import WorkflowError
from tests.keys.conftest import changed, plan

from swift_debias.config.schema import Backbone
from swift_debias.evaluation import plausibility, setup_intervals
from swift_debias.files import write_arrays, write_json, write_parquet, write_text
from swift_debias.learning import networks

Make = Callable[..., Path]
FOLDS, COHORT = "folds/skin.parquet", "cohorts/skin.parquet"


def table_of(made: Path, name: str) -> pd.DataFrame:
    """A raw table, beside what was made of it."""
    root = next(parent for parent in made.parents if (parent / "data").exists())
    return pd.read_csv(root / "data" / name / "table.csv", dtype=str, keep_default_na=False)


# --- the run --------------------------------------------------------------------------------------


@pytest.mark.key("run")
def test_results_are_in_the_folder_of_the_run(make: Make) -> None:
    for run in ("mine", "other.1"):
        made = make("manifests/north.parquet", {"run": run})
        assert made.is_file()
        assert [path.name for path in made.parents[1].parent.iterdir()] == [run]


@pytest.mark.key("seed")
def test_the_seed_decides_every_draw(make: Make) -> None:
    external = "external/skin/sex/fold0.parquet"
    found = {seed: pd.read_parquet(make(FOLDS, {"seed": seed})) for seed in (0, 1)}
    assert (found[0]["fold"] != found[1]["fold"]).any()
    pd.testing.assert_frame_equal(found[1], pd.read_parquet(make(FOLDS, {"seed": 1})))
    balanced = [pd.read_parquet(make(external, {"seed": seed})) for seed in (0, 1)]
    assert set(balanced[0]["image_id"]) != set(balanced[1]["image_id"])


@pytest.mark.key("folds")
@pytest.mark.parametrize("folds", [2, 3])
def test_folds(make: Make, folds: int) -> None:
    found = pd.read_parquet(make(FOLDS, {"folds": folds}))
    assert sorted(found["fold"].unique()) == list(range(folds))


# --- data -----------------------------------------------------------------------------------------


@pytest.mark.key("dataset.root")
def test_a_data_set_is_read_from_its_root(make: Make) -> None:
    for name in ("north", "south"):
        made = make("manifests/north.parquet", {"datasets.north.root": f"data/{name}"})
        assert pd.read_parquet(made)["image_id"].tolist() == table_of(made, name)["id"].tolist()


@pytest.mark.key("dataset.archive")
def test_data_sets_of_one_archive_share_ids(make: Make) -> None:
    """The first three ids are in every table."""
    apart = pd.read_parquet(make(COHORT))
    assert len(apart) == 80
    archives = {f"datasets.{name}.archive": "theirs" for name in ("north", "south")}
    together = pd.read_parquet(make(COHORT, archives))
    gone = {*zip(apart.dataset, apart.image_id, strict=True)} - {
        *zip(together.dataset, together.image_id, strict=True)
    }
    assert gone == {("north", f"shared_{i}") for i in range(3)}


@pytest.mark.key("dataset.skin_tone")
def test_a_measured_skin_tone_fills_what_the_table_does_not_know(make: Make) -> None:
    measured = {f"datasets.{name}.skin_tone": "ita" for name in ("north", "south")}
    for changes in ({}, measured):
        made = make("external/skin/tone/fold0.parquet", changes)
        folds = pd.read_parquet(made.parents[3] / FOLDS)
        rows = folds[folds["fold"] == 0]
        tones = pd.concat(
            [table_of(made, name).assign(dataset=name) for name in ("north", "south")]
        ).rename(columns={"id": "image_id"})
        known = rows.merge(tones, on=["dataset", "image_id"])["tone"] != ""
        assert 0 < known.sum() < len(rows)
        assert len(pd.read_parquet(made)) == (len(rows) if changes else known.sum())


@pytest.mark.key("task.train", "task.tests")
def test_training_sets_are_pooled_without_what_is_in_a_test_set(make: Make) -> None:
    """Ids that a test set of the same archive has leave the pool."""
    archive = {f"datasets.{name}.archive": "theirs" for name in ("south", "west")}
    sizes = {}
    for train in (["north", "south"], ["south"]):
        for tests in (["east"], ["east", "west"]):
            changes = {"tasks.skin.train": train, "tasks.skin.tests": {"sex": tests}}
            pool = pd.read_parquet(make(COHORT, archive | changes))
            sizes[len(train), len(tests)] = pool["dataset"].value_counts().to_dict()
    assert sizes == {
        (2, 1): {"north": 40, "south": 40},
        (2, 2): {"north": 40, "south": 37},
        (1, 1): {"south": 40},
        (1, 2): {"south": 37},
    }


@pytest.mark.key("task.invert_labels")
@pytest.mark.parametrize("invert", [False, True])
def test_inverted_labels(make: Make, invert: bool) -> None:
    made = make("manifests/north.parquet", {"tasks.skin.invert_labels": invert})
    findings = table_of(made, "north")["finding"].astype(int).tolist()
    expected = [1 - finding for finding in findings] if invert else findings
    assert pd.read_parquet(made)["label"].tolist() == expected


@pytest.mark.key("task.group_by_patient")
@pytest.mark.parametrize("by_patient", [True, False])
def test_images_of_a_patient_share_a_fold(make: Make, by_patient: bool) -> None:
    made = make(FOLDS, {"tasks.skin.group_by_patient": by_patient})
    rows = pd.concat([table_of(made, name).assign(dataset=name) for name in ("north", "south")])
    rows = rows.rename(columns={"id": "image_id"}).merge(pd.read_parquet(made))
    folds_of = rows.groupby("who")["fold"].agg(set)
    assert len(folds_of) == 40
    assert (folds_of.map(len).max() == 1) == by_patient


@pytest.mark.key("table.citation")
def test_the_check_shows_the_citation(make: Make) -> None:
    made = make("data_check.json", {"datasets.north.citation": "CC0, by North"})
    origins = {d["name"]: d["origin"]["licence"] for d in json.loads(made.read_text())["datasets"]}
    assert origins["north"] == "CC0, by North"
    assert origins["east"] == "its owner's terms"


@pytest.mark.key("attribute.names")
def test_names_of_groups_are_in_the_sizes(make: Make) -> None:
    changes = {"experiments.table1.panels.0.attribute": "age"}
    for names in (["younger", "older"], ["below 50", "from 50"]):
        made = make("folds/skin.sizes.csv", changes | {"attributes.age.names": names})
        rows = pd.concat([table_of(made, name) for name in ("north", "south")])
        expected = [(rows["years"].astype(int) < 50).sum(), (rows["years"].astype(int) >= 50).sum()]
        sizes = pd.read_csv(made, dtype={"label": str})
        pool = sizes[(sizes.set == "pool") & (sizes.attribute == "age") & (sizes.label == "all")]
        found = pool.set_index("group")["n"].to_dict()
        assert found == dict(zip(names, expected, strict=True)) | {"all": 80, "unknown": 0}


# --- training -------------------------------------------------------------------------------------


@pytest.mark.key("finetuning.min_cell")
def test_the_smallest_cell_of_an_external_set(make: Make) -> None:
    made = make("external/skin/sex/fold0.parquet")
    sizes = [
        pd.read_parquet(made.with_name(f"fold{fold}.parquet"))
        .groupby(["label", "attribute"])
        .size()
        for fold in (0, 1)
    ]
    smallest = min(map(min, sizes))
    assert 2 <= smallest < 10
    key, target = "tasks.skin.finetuning.min_cell", "external/skin/sex/fold0.parquet"
    make(target, {key: int(smallest)})
    with pytest.raises(SystemExit):
        make(target, {key: int(smallest) + 1})


@pytest.mark.key("pretraining.batch_size", "pretraining.epochs")
@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 8), (3, 12)])
def test_steps_of_pretraining(make: Make, epochs: int, batch_size: int) -> None:
    """BatchNorm counts the batches that it has seen."""
    recipe = {"epochs": epochs, "batch_size": batch_size, "optimizer": {"name": "sgd", "lr": 0.05}}
    made = make("baseline/skin/net/fold0/model.safetensors", {"tasks.skin.pretraining": recipe})
    folds = pd.read_parquet(made.parents[4] / FOLDS)
    n = int((folds["fold"] != 0).sum())
    assert n % batch_size != 1  # a last batch of one joins its neighbour
    counts = {int(v) for k, v in load_file(made).items() if k.endswith("num_batches_tracked")}
    assert counts == {epochs * ceil(n / batch_size)}


@pytest.mark.key("compute.resident")
@pytest.mark.parametrize("resident", ["on", "off"])
def test_resident_images_are_read_at_once(
    make: Make, monkeypatch: pytest.MonkeyPatch, resident: str
) -> None:
    """Training and validation images; the others are read batch by batch."""
    from swift_debias.data.image_cache import CachedImages

    read: list[int] = []
    gather = CachedImages.gather

    def watched(images: CachedImages, rows: np.ndarray) -> np.ndarray:
        read.append(len(rows))
        return gather(images, rows)

    monkeypatch.setattr(CachedImages, "gather", watched)
    made = make("baseline/skin/net/fold0/model.safetensors", {"compute.resident": resident})
    fold = pd.read_parquet(made.parents[4] / FOLDS)["fold"]
    whole = [(fold != 0).sum(), (fold == 0).sum()]
    read = [n for n in read if n > 1]  # one is looked at for its size
    assert (read == whole) == (resident == "on")
    # two epochs of training in batches of 32, as many looks at the held-out images, and one more
    # for the scores that are kept
    assert sum(read) == (2 * sum(whole) + whole[1] if resident == "off" else sum(whole))


@pytest.mark.key("backbone.baseline")
def test_a_users_classifier_is_the_baseline(make: Make, tmp_path: Path) -> None:
    """Every fold's file has to be there; the one of the fold is taken, and its sum is noted."""
    files = [tmp_path / f"skin_net_{fold}.safetensors" for fold in (0, 1)]
    for seed, file in enumerate(files):
        networks.save(
            networks.build(Backbone(architecture="small_resnet", options={"width": 8}), seed), file
        )
    own = {"backbones.net.baseline": f"{tmp_path}/{{task}}_{{backbone}}_{{fold}}.safetensors"}
    made = make("baseline/skin/net/fold1/model.safetensors", own)
    taken = load_file(made)
    assert all(np.array_equal(taken[name], value) for name, value in load_file(files[1]).items())
    source = json.loads((made.parent / "source.json").read_text())
    sha256 = hashlib.sha256(files[1].read_bytes()).hexdigest()
    source.pop("digest")
    assert source == {"kind": "baseline", "file": str(files[1]), "sha256": sha256}


@pytest.mark.key("images.mean", "images.std")
@pytest.mark.parametrize("own", [{}, {"mean": [0.7, 0.5, 0.2]}, {"std": [0.4, 0.15, 0.3]}])
def test_a_network_is_fed_with_the_mean_and_std_of_its_task(
    make: Make, tmp_path: Path, own: dict[str, list[float]]
) -> None:
    """Scores of a user's own classifier; the pixels of the cache are normalized in numpy."""
    network = networks.build(Backbone(architecture="small_resnet", options={"width": 8}), seed=1)
    networks.save(network, tmp_path / "own.safetensors")
    changes = {
        "backbones.net.baseline": str(tmp_path / "own.safetensors"),
        "experiments.table1.methods": ["baseline"],
        "tasks.skin.images": {"size": 12} | own,
    }
    made = make("predictions/skin/net/sex", changes)
    found = pd.read_parquet(made / "baseline" / "fold0.parquet").query("dataset == 'east'")
    cache = made.parents[3] / "images"
    rows = pd.read_parquet(cache / "east.parquet").set_index("image_id")["row"]
    pixels = np.load(cache / "east.npy")[rows[found["image_id"]]] / 255
    # without numbers of its own a task has ImageNet's
    mean, std = own.get("mean", [0.485, 0.456, 0.406]), own.get("std", [0.229, 0.224, 0.225])
    inputs = torch.from_numpy((pixels - np.array(mean)) / np.array(std)).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = network.double().eval()(inputs).sigmoid().numpy()
    np.testing.assert_allclose(found["score"], expected, rtol=1e-4)


# --- tables and figures ---------------------------------------------------------------------------

TASKS, NETS, ATTRIBUTES = ("skin", "other"), ("net", "wide"), ("sex", "age")
METHODS, TESTS = ("baseline", "fullft", "llft"), ("east", "west")
METRICS = ("auc", "spd", "eodds", "auc_min", "spd@external", "eodds@external")


def planted() -> pd.DataFrame:
    """A value of its own for every cell, the same in both folds."""
    index = pd.MultiIndex.from_product(
        [TASKS, NETS, ATTRIBUTES, METHODS, TESTS, METRICS],
        names=["task", "backbone", "attribute", "method", "dataset", "metric"],
    )
    cells = pd.DataFrame({"value": (1 + np.arange(len(index))) / 1000}, index=index).reset_index()
    both = pd.concat([cells.assign(fold=fold) for fold in (0, 1)], ignore_index=True)
    return both.assign(n=20, reason=None)


KEYS = ["task", "backbone", "attribute", "method", "dataset", "metric"]
NOTHING_IMPLAUSIBLE = pd.DataFrame(columns=plausibility.COLUMNS, dtype="object")
NO_INTERVALS = pd.DataFrame(columns=[*KEYS, *setup_intervals.COLUMNS[3:]])


def planted_in(*cell: str) -> pd.DataFrame:
    """The planted metrics of one task, network and attribute."""
    metrics = planted()
    return metrics[(metrics[KEYS[:3]] == list(cell)).all(axis=1)]


GIVEN = {
    f"{kind}/{'/'.join(cell)}.parquet": functools.partial(write_parquet, f)
    for cell in itertools.product(TASKS, NETS, ATTRIBUTES)
    for kind, f in {
        "intervals": NO_INTERVALS,
        "metrics": planted_in(*cell),
        "plausibility": NOTHING_IMPLAUSIBLE,
    }.items()
}
PANEL = {"task": "skin", "backbone": "net", "attribute": "sex"}
EXPERIMENT = {
    "kind": "table",
    "title": "Second",
    "methods": ["baseline", "fullft"],
    "panels": [PANEL],
}
SECOND_TASK = {
    "train": ["south"],
    "tests": {"sex": ["east", "west"]},
    "positive": "b",
    "negative": "m",
    "images": {"size": 12},  # as the first task: both read the same test sets
    "pretraining": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
}


@pytest.mark.key(
    "panel.task",
    "panel.backbone",
    "panel.attribute",
    "panel.datasets",
    "panel.methods",
    "experiment.methods",
    "experiment.metrics",
    "experiment.threshold",
)
@pytest.mark.parametrize(
    ("experiment", "panel", "shown"),
    [
        ({}, {}, {}),
        ({}, {"task": "other"}, {"task": ["other"]}),
        ({}, {"backbone": "wide"}, {"backbone": ["wide"]}),
        ({}, {"attribute": "age"}, {"attribute": ["age"]}),
        ({}, {"datasets": ["west"]}, {"dataset": ["west"]}),
        ({}, {"methods": ["llft"]}, {"method": ["llft"]}),
        ({"methods": ["llft", "baseline"]}, {}, {"method": ["llft", "baseline"]}),
        ({"metrics": ["spd", "auc_min"]}, {}, {"metric": ["spd", "auc_min"]}),
        ({"threshold": "external"}, {}, {"metric": ["auc", "spd@external", "eodds@external"]}),
    ],
)
def test_a_table_shows_the_cells_of_its_panels(
    make: Make, experiment: dict[str, Any], panel: dict[str, Any], shown: dict[str, list[str]]
) -> None:
    changes = {
        "tasks.other": SECOND_TASK,
        "experiments.table2": EXPERIMENT | {"panels": [PANEL | panel]} | experiment,
    }
    found = pd.read_csv(make("tables/table2.csv", changes, GIVEN))
    wanted = {"task": ["skin"], "backbone": ["net"], "attribute": ["sex"]}
    wanted |= {"method": ["baseline", "fullft"], "dataset": list(TESTS)}
    wanted |= {"metric": ["auc", "spd", "eodds"]} | shown
    cells = planted().drop_duplicates(KEYS).set_index(KEYS)["value"]
    expected = pd.MultiIndex.from_product([wanted[key] for key in KEYS])
    assert list(found[KEYS].itertuples(index=False, name=None)) == list(expected)
    assert found["mean"].tolist() == pytest.approx(cells[expected].tolist())


def method_names(made: Path) -> list[str]:
    """The first column of a table in Markdown, below its head."""
    lines = [line for line in made.read_text().splitlines() if line.startswith("| ")]
    names = [line.split("|")[1].strip() for line in lines]
    head, *below = [name for name in names if name.strip("-:")]
    assert head == "Method"
    return below


@pytest.mark.key("experiment.title", "method.title")
def test_titles_of_tables_and_methods(make: Make) -> None:
    changes = {"experiments.table1.title": "A title", "methods.fullft.title": "All of it"}
    made = make("tables/table1.md", changes, GIVEN)
    assert "A title" in made.read_text().splitlines()[0]
    assert method_names(made) == ["baseline", "All of it"]
    second = make("tables/table1.md", {"experiments.table1.title": "Another"}, GIVEN).read_text()
    assert "Another" in second.splitlines()[0]


@pytest.mark.key("method.like")
def test_a_method_like_another_has_its_settings_but_not_its_title(make: Make) -> None:
    """Settings that are written beside `like` go before."""
    other = {"methods.fullft.external_fraction": 0.5, "methods.fullft.title": "Half"}
    figure = EXPERIMENT | {"kind": "figure", "plot": "external", "methods": list(METHODS)}
    for like, share in (
        ({"algorithm": "fullft", "like": "fullft"}, 0.5),
        ({"like": "fullft", "external_fraction": 0.25}, 0.25),
    ):
        changes = other | {"methods.llft": like}
        made = make("figures/shown.csv", changes | {"experiments.shown": figure}, GIVEN)
        places = pd.read_csv(made).groupby("method")["x"].unique()
        assert places.to_dict() == {"baseline": [0], "fullft": [0.5], "llft": [share]}
    table = {"experiments.table1.methods": list(METHODS)}
    names = method_names(make("tables/table1.md", changes | table, GIVEN))
    assert names == ["baseline", "Half", "llft"]


@pytest.mark.key("experiment.kind", "experiment.plot", "experiment.options")
def test_kind_and_drawing_of_an_experiment(make: Make) -> None:
    figure = EXPERIMENT | {"kind": "figure", "plot": "pareto"}
    axes = {"options": {"axes": ["auc_min", "spd"]}}
    cells = planted().drop_duplicates(KEYS).set_index(KEYS)["value"]
    for options, metrics in (({}, ("auc", "eodds")), (axes, ("auc_min", "spd"))):
        made = make("figures/shown.csv", {"experiments.shown": figure | options}, GIVEN)
        found = pd.read_csv(made).set_index(["method", "dataset"])
        for (method, dataset), row in found.iterrows():
            for metric in metrics:
                expected = cells["skin", "net", "sex", method, dataset, metric]
                assert row[f"{metric}_mean"] == pytest.approx(expected, rel=1e-5)
        assert len(found) == 4
    made = make("figures/shown.csv", {"experiments.shown": figure | {"plot": "external"}}, GIVEN)
    places = pd.read_csv(made).groupby("method")["x"].unique()
    assert places.to_dict() == {"baseline": [0], "fullft": [1]}  # shares of the external set
    assert make("tables/shown.csv", {"experiments.shown": EXPERIMENT}, GIVEN).is_file()


@pytest.mark.key("only")
def test_only_these_experiments(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None
) -> None:
    """As if the others were not there: no work is done for them alone."""
    (tmp_path / "data").symlink_to(drawn / "data")
    monkeypatch.chdir(tmp_path)
    first, last = EXPERIMENT | {"methods": ["fullft"]}, EXPERIMENT | {"methods": ["llft"]}
    figure = first | {"kind": "figure", "plot": "pareto"}
    both = {"experiments": {"table1": first, "table2": last, "pareto": figure}}

    def made(only: list[str]) -> tuple[set[str], set[str]]:
        jobs = plan(changed(both | {"only": only}), ["results/mine/report.html"])
        shown = [w.get("table") or w.get("figure") for w in (job.wildcards for job in jobs)]
        methods = {job.wildcards.method for job in jobs if job.rule.name == "debias"}
        return {name for name in shown if name}, methods

    assert made([]) == ({"table1", "table2", "pareto"}, {"fullft", "llft"})
    assert made(["table2"]) == ({"table2"}, {"llft"})
    assert made(["pareto", "table1"]) == ({"pareto", "table1"}, {"fullft"})
    with pytest.raises(WorkflowError, match="only: there is no experiment 'table3'"):
        made(["table3"])


@pytest.mark.key("report.images")
@pytest.mark.parametrize("images", [None, True, False])
def test_pictures_of_the_report(make: Make, images: bool | None) -> None:
    """Figures of test images are left out, those of numbers are not; nothing else is asked for."""
    blue, red = (Image.new("RGB", (9, 9), color) for color in ("blue", "red"))
    empty = pd.DataFrame(columns=["mark", "method"])
    page = "<html><body><p>Here</p></body></html>"
    frames = {
        "statistics.parquet": empty,
        "intervals/skin/net/sex.parquet": NO_INTERVALS,
        "plausibility.parquet": NOTHING_IMPLAUSIBLE,
        "metrics.parquet": planted(),
    }
    frames |= {
        f"external/skin/sex/fold{fold}.parquet": pd.DataFrame(
            {
                "dataset": ["north"],
                "image_id": ["0"],
                "label": [0],
                "attribute": [1],
                "balanced": [True],
            }
        )
        for fold in (0, 1)
    }
    frames |= {COHORT: pd.DataFrame({"dataset": ["north"], "image_id": ["0"], "label": [0]})}
    columns = ["label", "patient_id", "sex", "age", "fitzpatrick"]
    sets = ("north", "south", *TESTS)
    frames |= {f"manifests/{name}.parquet": pd.DataFrame(columns=columns) for name in sets}
    texts = {
        f"{name}.html": page for name in ("tables/table1", "tables/cost", "tables/ranks", "verdict")
    }
    texts |= {"data_check.json": json.dumps({"datasets": []}), "cohorts/skin.log.json": "{}"}
    texts |= {"in_words.json": '{"sentences": []}'}
    texts |= {f"baseline/skin/net/fold{fold}/source.json": '{"file": null}' for fold in (0, 1)}
    log = json.dumps({"rows_read": 1, "rules": []})
    texts |= {f"manifests/{name}.log.json": log for name in sets}
    given = {name: functools.partial(write_parquet, of) for name, of in frames.items()}
    given |= {
        name: (lambda path, text=text: write_json(path, json.loads(text)))
        if name.endswith("json")
        else (lambda path, text=text: write_text(path, text))
        for name, text in texts.items()
    }
    given |= {"figures/cams.png": blue.save, "figures/pareto.png": red.save}
    pictures = EXPERIMENT | {"kind": "figure", "plot": "cam", "title": "Pictures"}
    numbers = EXPERIMENT | {"kind": "figure", "plot": "pareto", "title": "Numbers"}
    changes = {"experiments.cams": pictures, "experiments.pareto": numbers}
    if images is not None:
        changes["report.images"] = images
    made = make("report.html", changes, given)
    html = made.read_text()
    shown = {
        name: base64.b64encode((made.parent / f"figures/{name}.png").read_bytes()).decode() in html
        for name in ("cams", "pareto")
    }
    assert shown == {"cams": images is not False, "pareto": True}
    assert "Pictures" in html and "Numbers" in html
    assert ("data/north" in html, "(not shown)" in html) == (False, True)


@pytest.mark.key("task.positive", "task.negative")
def test_figures_name_the_classes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.text import Text

    from swift_debias.report.figures import _write

    texts: list[set[str]] = []
    write = _write.write

    def spy(plot: Any, request: Any, sources: Any, stem: Path) -> list[Path]:
        drawing = plot(request, sources)
        texts.append({text.get_text() for text in drawing.figure.findobj(Text)})
        return write(plot, request, sources, stem)

    monkeypatch.setattr(_write, "write", spy)
    scores = pd.DataFrame(
        {
            "dataset": "east",
            "image_id": [f"i{i}" for i in range(12)],
            "patient_id": [f"p{i}" for i in range(12)],
            "label": np.arange(12) % 2,
            "group": np.arange(12) // 2 % 2,
            "score": np.linspace(0.1, 0.9, 12).astype("float32"),
        }
    )

    def write_scores(folder: Path) -> None:
        for fold in (0, 1):
            path = folder / f"baseline/fold{fold}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_parquet(scores, path)

    chosen = scores.iloc[[0, 1, 2, 3]]
    arrays = {
        "image_id": chosen["image_id"].to_numpy(str),
        "label": chosen["label"].to_numpy(),
        "group": chosen["group"].to_numpy(),
        "score": chosen["score"].to_numpy(),
        "quantile": np.full(4, 0.5),
        "images": np.zeros((4, 12, 12, 3), np.uint8),
    }
    given = {
        "predictions/skin/net/sex": write_scores,
        "figures/arrays/shown.npz": lambda path: write_arrays(path, arrays),
    }
    figure = EXPERIMENT | {"kind": "figure", "plot": "bias", "methods": ["baseline"]}
    for positive, negative in (("benign", "melanoma"), ("finding", "none")):
        names = {"tasks.skin.positive": positive, "tasks.skin.negative": negative}
        make("figures/shown.csv", names | {"experiments.shown": figure}, given)
        assert {positive, negative, f"baseline's score, P({positive})"} <= texts[-1]
