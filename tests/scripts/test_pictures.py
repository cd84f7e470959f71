"""figure_arrays.py, figure.py and report.py: what they read, and what of it is shown."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from prepared import (
    BACKBONE,
    COMPUTE,
    NORMALIZATION,
    DataSet,
    caches,
    read_model,
    write_data_set,
    write_json,
    write_model,
    write_parquet,
)
from results_world import (
    BLOCK,
    CELL,
    FOLDS,
    METHODS,
    TITLES,
    auc,
    draw_metrics,
    known,
    value_of,
    write_costs,
    write_predictions,
)
from tests.written import write_cache

from swift_debias import __version__
from swift_debias.files import write_arrays, write_text
from swift_debias.learning import tensor_files

ORIGIN = {
    "code": {
        **{"commit": "0a" * 20, "date": "2026-01-02"},
        **{"changed": ["Snakefile"], "untracked": ["m<.py"]},
    },
    "modules": [{"file": "my.py", "sha256": "1" * 64, "commit": "abc"}],
    "configuration": "a.yaml: changed <since>",
}

SWIFT = {"algorithm": "swift", "estimator": "minibatch", "normalization": "minmax"}
SWIFT |= {"percentile": 99.0, "threshold": "mean"}
PLACE = "skin/net/tone"


# --- figure_arrays.py -----------------------------------------------------------------------------


def arrays(run: Callable[..., str], folder: Path, **job: Any) -> dict[str, np.ndarray]:
    params = {"options": {}, "dataset": "ddi", "methods": ["swift", "baseline"], "fold": 1}
    params |= {"groups": 2, "backbone": BACKBONE, "compute": COMPUTE, "variants": {}}
    params |= {"normalization": NORMALIZATION}
    run(
        "figure_arrays.py",
        input=job.pop("input"),
        output=["figures/arrays/mine.npz"],
        params=params | job,
        wildcards={"figure": "mine"},
    )
    with np.load(folder / "figures/arrays/mine.npz") as file:
        return dict(file)


@pytest.fixture
def shown(tmp_path: Path) -> tuple[DataSet, pd.DataFrame]:
    """20 images of a test set, and one model's predictions of them, of fold 1."""
    one = write_data_set(tmp_path, "ddi", {"label": [0, 1] * 10})
    rows = one.frame[["image_id", "label"]].assign(dataset="ddi")
    rows["group"] = np.arange(20) // 2 % 2
    rows["score"] = np.random.default_rng(0).permutation(20) / 20
    other = rows.assign(dataset="atlas", image_id="foreign", score=0.5)
    for method, fold in itertools.product(("swift", "baseline"), (0, 1)):
        mine = (method, fold) == ("swift", 1)
        frame = pd.concat([other, rows if mine else rows.assign(score=1 - rows["score"])])
        write_parquet(tmp_path / f"predictions/{PLACE}/{method}/fold{fold}.parquet", frame)
    return one, rows


@pytest.mark.parametrize("options", [{}, {"quantiles": [0.0, 1.0]}])
def test_example_images_lie_at_the_quantiles(
    run: Callable[..., str],
    tmp_path: Path,
    shown: tuple[DataSet, pd.DataFrame],
    options: dict[str, Any],
) -> None:
    one, rows = shown
    inputs = {"predictions": [f"predictions/{PLACE}"], **caches([one])}
    found = arrays(run, tmp_path, input=inputs, plot="bias", options=options)
    expected = []
    for label, group in ((1, 0), (1, 1), (0, 0), (0, 1)):
        cell = rows[(rows.label == label) & (rows.group == group)].sort_values("score")
        assert len(cell) == 5
        places = [0, 4] if options else [0, 2, 4]  # of 0.1, 0.5 and 0.9
        expected.append(cell.iloc[places])
    expected = pd.concat(expected)
    assert found["image_id"].tolist() == expected["image_id"].tolist()
    assert found["score"].tolist() == expected["score"].tolist()
    assert found["group"].tolist() == expected["group"].tolist()
    assert (found["images"] == one.images[expected.index]).all()


def test_activation_maps_add_up_to_each_methods_logit(
    run: Callable[..., str], tmp_path: Path, shown: tuple[DataSet, pd.DataFrame]
) -> None:
    one, _ = shown
    models = [write_model(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    inputs = {"predictions": [f"predictions/{PLACE}"], "models": models, **caches([one])}
    # larger than elsewhere: 12 pixels leave a single position after four stages
    images = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    write_cache(one.pixels, list(one.frame["image_id"]), images)
    found = arrays(run, tmp_path, input=inputs, plot="cam")
    assert found["methods"].tolist() == ["swift", "baseline"]
    assert len(found["image_id"]) == 4  # the median of each class and group
    place = {name: row for row, name in enumerate(one.frame["image_id"])}
    chosen = images[[place[name] for name in found["image_id"]]]
    seen = one._replace(images=chosen, frame=pd.DataFrame({"image_id": found["image_id"]}))
    sign = np.where(found["label"] == 1, 1, -1)
    for row, path in enumerate(models):
        network = read_model(path)
        with torch.no_grad():
            logits = network(seen.inputs(found["image_id"]))
        np.testing.assert_allclose(found["scores"][row], logits.sigmoid(), atol=1e-5)
        evidence = found["maps"][row].mean(axis=(1, 2)) * sign
        bias = network.head.linear.bias.item()
        np.testing.assert_allclose(evidence + bias, logits, atol=1e-4)


def write_importances(folder: Path, fold: int, seed: int) -> dict[str, torch.Tensor]:
    """Of two convolutions and a head, for both estimators."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {
        "extractor.a.weight": (6, 3, 3, 3),
        "extractor.b.weight": (5, 6, 1, 1),
        "extractor.c.weight": (5,),
        "head.1.weight": (1, 40),
        "head.1.bias": (1,),
    }
    found = {
        f"{estimator}.balanced.{objective}/{name}": torch.rand(shape, generator=draw) + 0.01
        for estimator in ("minibatch", "per_sample")
        for objective in ("bias", "prediction")
        for name, shape in shapes.items()
    }
    path = folder / f"importance/{PLACE}/fold{fold}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    tensor_files.write(path, found)
    return found


def scaled(values: np.ndarray) -> np.ndarray:
    if values.min() == values.max():
        return values
    return (values - values.min()) / (values.max() - values.min())


def mask_of(found: dict[str, torch.Tensor], name: str, estimator: str = "minibatch") -> np.ndarray:
    """Eq. 9."""
    bias, prediction = (
        found[f"{estimator}.balanced.{objective}/{name}"].double().numpy()
        for objective in ("bias", "prediction")
    )
    return np.abs(np.tanh(scaled(bias) / (scaled(prediction) + 1e-10)))


@pytest.mark.parametrize(
    ("options", "layer", "shape"),
    [
        ({}, "extractor.b", (5, 6)),
        ({"layer": "extractor.a", "size": 4}, "extractor.a", (4, 4)),
    ],
    ids=["the middle convolution", "named, cut"],
)
def test_importances_of_a_layer(
    run: Callable[..., str],
    tmp_path: Path,
    options: dict[str, Any],
    layer: str,
    shape: tuple[int, int],
) -> None:
    written = write_importances(tmp_path, 0, seed=3)
    layers = pd.DataFrame({"layer": ["extractor.a", "extractor.b", "extractor.c", "head.1"]})
    inputs = {
        "importance": [f"importance/{PLACE}/fold0.safetensors"],
        "summaries": [write_parquet(tmp_path / "summary.parquet", layers)],
    }
    variants = {"swift": SWIFT}
    job = {"plot": "importance", "options": options, "variants": variants}
    found = arrays(run, tmp_path, input=inputs, **job)
    assert str(found["layer"]) == layer
    name = f"{layer}.weight"
    rows, columns = shape
    for kind in ("bias", "prediction"):
        whole = scaled(written[f"minibatch.balanced.{kind}/{name}"].numpy())
        expected = whole.reshape(len(whole), -1)[:rows, :columns]
        np.testing.assert_allclose(found[kind], expected, atol=1e-6)
    mask = mask_of(written, name).reshape(len(whole), -1)[:rows, :columns]
    np.testing.assert_allclose(found["mask"], mask, atol=1e-5)


def test_shares_of_the_head_and_masks_of_both_estimators(
    run: Callable[..., str], tmp_path: Path
) -> None:
    written = {fold: write_importances(tmp_path, fold, seed=fold) for fold in (0, 1)}
    paths = [tmp_path / f"importance/{PLACE}/fold{fold}.safetensors" for fold in (1, 0)]
    variants = {"swift": SWIFT, "swift_reinit_30": SWIFT | {"threshold": 0.7}}
    job = {"input": {"importances": paths}, "variants": variants}
    found = pd.DataFrame(arrays(run, tmp_path, plot="reinit", **job))
    assert (found[["task", "backbone", "attribute"]] == [*CELL.values()]).all(axis=None)
    shares = found.set_index(["method", "fold"])["share"]
    for fold, importances in written.items():
        head = [mask_of(importances, f"head.1.{part}").ravel() for part in ("weight", "bias")]
        values = np.concatenate(head)
        assert shares["swift", fold] == pytest.approx((values > values.mean()).mean())
        assert shares["swift_reinit_30", fold] == pytest.approx(12 / 41)  # 30 % of 41

    found = pd.DataFrame(arrays(run, tmp_path, plot="estimators", **job))
    names = [name.partition("/")[2] for name in written[0] if name.startswith("minibatch")]
    for fold, estimator in itertools.product((0, 1), ("minibatch", "per_sample")):
        part = found[(found.fold == fold) & (found.estimator == estimator)].sort_values("low")
        masks = [mask_of(written[fold], name, estimator).ravel() for name in set(names)]
        counts, _ = np.histogram(np.concatenate(masks), 20, (0, 1))
        np.testing.assert_allclose(part["share"], counts / counts.sum(), atol=0.006)


# --- figure.py ------------------------------------------------------------------------------------


def draw(
    run: Callable[..., str], folder: Path, inputs: dict[str, Any], **params: Any
) -> pd.DataFrame:
    names = {
        "titles": TITLES,
        "groups": {"tone": ["light", "middle", "dark"]},
        "classes": {"skin": ["melanoma", "benign"]},
        "epochs": {"skin": [200, 25]},
        "baseline": "baseline",
        "swift": "swift",
    }
    given = {"blocks": [BLOCK], "options": {}, "variants": {}, "names": names, "synthetic": True}
    given |= {"folds": FOLDS, "repeats": {}}
    said = run(
        "figure.py",
        input=inputs,
        output={kind: f"figures/mine.{kind}" for kind in ("pdf", "png", "csv")},
        params=given | params,
        wildcards={"figure": "mine"},
    )
    assert (folder / "figures/mine.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(folder / "figures/mine.png") as image:
        assert min(image.size) > 300
    assert "mine.pdf" in said
    return pd.read_csv(folder / "figures/mine.csv")


def test_a_figure_of_metrics(run: Callable[..., str], tmp_path: Path) -> None:
    metrics = draw_metrics()
    halves = [metrics.iloc[::2], metrics.iloc[1::2]]
    paths = [write_parquet(tmp_path / f"{i}.parquet", half) for i, half in enumerate(halves)]
    block = {**BLOCK, "datasets": ["ddi"], "metrics": ["auc", "eodds"]}
    job = {"plot": "pareto", "blocks": [block]}
    found = draw(run, tmp_path, {"metrics": paths}, **job)
    assert set(found["method"]) == set(METHODS)
    for row in found.itertuples():
        values = value_of(metrics, method=row.method, dataset="ddi", metric="auc")
        assert row.auc_mean == pytest.approx(values.mean(), rel=1e-5)


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What figure.py draws, before it is written."""
    from swift_debias.report.figures import _write

    drawn, real = [], _write.draw
    monkeypatch.setattr(_write, "draw", lambda *request: drawn.append(real(*request)) or drawn[-1])
    return drawn


def test_a_figure_of_costs(run: Callable[..., str], tmp_path: Path) -> None:
    costs = list(write_costs(tmp_path).values())
    block = {**BLOCK, "methods": ["swift", "llft"]}
    job = {"plot": "cost", "blocks": [block]}
    found = draw(run, tmp_path, {"costs": costs}, **job)
    seconds = found[found["metric"] == "seconds"].set_index("method")["mean"]
    assert (seconds["swift"], seconds["llft"]) == (30.5, 10.5)


def test_a_figure_of_predictions_reads_its_methods_only(
    run: Callable[..., str], tmp_path: Path, drawings: list[Any]
) -> None:
    predictions = write_predictions(tmp_path / f"predictions/{PLACE}")
    block = {**BLOCK, "methods": ["llft", "baseline"], "datasets": ["ddi"]}
    job = {"plot": "thresholds", "blocks": [block]}
    found = draw(run, tmp_path, {"predictions": [f"predictions/{PLACE}"]}, **job)
    assert set(found["method"]) == {"llft", "baseline"}
    [legend] = drawings[0].figure.legends
    assert {text.get_text() for text in legend.get_texts()} >= {TITLES["llft"], TITLES["baseline"]}
    half = found[np.isclose(found["threshold"], 0.5)]
    assert len(half) == 2 * len(FOLDS)
    for row in half.itertuples():
        rows = known(predictions[row.method, row.fold], "ddi")
        right = (rows.score >= 0.5) == (rows.label == 1)
        recall = right.groupby(rows.label).mean()
        assert row.balanced_accuracy == pytest.approx(recall.mean(), rel=1e-5)


def test_a_figure_of_effects_reads_every_repeat(run: Callable[..., str], tmp_path: Path) -> None:
    """Two methods: the effect is the difference of their means, over folds and repeats."""
    folder = tmp_path / f"predictions/{PLACE}"
    predictions = write_predictions(folder)
    models = {key: [frame] for key, frame in predictions.items()}
    for fold in FOLDS:
        again = predictions["swift", fold].assign(score=lambda rows: 1 - rows["score"])
        write_parquet(folder / f"swift/fold{fold}.repeat1.parquet", again)
        models["swift", fold].append(again)
    block = {**BLOCK, "methods": ["baseline", "swift"], "datasets": ["ddi"], "metrics": ["auc"]}
    variants = {"baseline": {"algorithm": "baseline"}, "swift": {"algorithm": "swift", "mask": "x"}}
    job = {"plot": "effects", "blocks": [block], "variants": variants}
    inputs = {"repeats": [f"predictions/{PLACE}"]}
    found = draw(run, tmp_path, inputs, **job, repeats={"baseline": 1, "swift": 2})
    [row] = found.to_dict("records")
    means = {
        method: np.mean([auc(known(f, "ddi")) for n in FOLDS for f in models[method, n]])
        for method in ("baseline", "swift")
    }
    assert row["value"] == pytest.approx(means["swift"] - means["baseline"], abs=1e-5)
    assert row["setting"] == "algorithm: baseline to swift"
    assert row["n_folds"] == len(FOLDS)


def test_a_figure_of_images_names_the_classes(
    run: Callable[..., str], tmp_path: Path, drawings: list[Any]
) -> None:
    predictions = write_predictions(tmp_path / f"predictions/{PLACE}")
    rng = np.random.default_rng(0)
    label, group = np.array([1, 1, 1, 0, 0, 0]), np.array([0, 1, 2] * 2)
    shown = {
        "images": rng.integers(0, 255, (6, 9, 9, 3), dtype=np.uint8),
        "image_id": np.array([f"i{row}" for row in range(6)]),
        "label": label,
        "group": group,
        "score": np.linspace(0.1, 0.9, 6),
    }
    write_arrays(tmp_path / "arrays.npz", shown)
    inputs = {"predictions": [f"predictions/{PLACE}"], "arrays": ["arrays.npz"]}
    block = {**BLOCK, "methods": ["swift"], "datasets": ["atlas"]}
    job = {"plot": "bias", "blocks": [block]}
    found = draw(run, tmp_path, inputs, **job)
    [drawing] = drawings
    rows = {axes.get_ylabel(): axes.get_subplotspec().rowspan.start for axes in drawing.figure.axes}
    assert (rows["benign"], rows["melanoma"]) == (0, 1)  # images of class 1 stand above
    labels = [axes.get_xlabel() for axes in drawing.figure.axes]
    assert "SWiFT's score, P(benign)" in labels
    titles = [axes.get_title(loc="left") for axes in drawing.figure.axes]
    assert [title for title in titles if title] == ["light", "middle", "dark"]
    bins = found[found["kind"] == "histogram"]
    for (label, group), part in bins.groupby(["label", "group"]):
        shares = []
        for fold in FOLDS:
            rows = known(predictions["swift", fold], "atlas", group)
            rows = rows[rows.label == label]
            shares.append(np.histogram(rows.score, len(part), (0, 1))[0] / len(rows))
        mean = part.sort_values("low")["mean"]
        np.testing.assert_allclose(mean, np.mean(shares, axis=0), atol=1e-5)
    images = found[found["kind"] == "image"]
    assert images["image_id"].tolist() == shown["image_id"].tolist()


# --- report.py ------------------------------------------------------------------------------------


def table_text(html: str, caption: str) -> list[list[str]]:
    """Cells of the table below a heading, row by row."""
    part = html[html.index(f"<h3>{caption}</h3>") :]
    part = part[: part.index("</table>")]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", part, flags=re.S)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.S) for row in rows]


@pytest.mark.parametrize("hidden", [False, True])
def test_report(run: Callable[..., str], tmp_path: Path, hidden: bool) -> None:
    metrics = pd.concat(
        [
            draw_metrics(),
            draw_metrics().assign(metric="n[1]", value=12.0).drop_duplicates(["dataset"]),
        ]
    )
    ids = ["Anna Schmidt/1.png", "/home/ward7/b.png"]
    log = {"rows_read": 9, "rules": [{"rule": "no image", "removed": 4, "examples": ids}]}
    marked = pd.DataFrame([{**CELL, "method": "swift", "dataset": "ddi", "mark": "collapsed"}])
    marked["metric"] = ""
    checked = {"name": "ddi", "origin": {"title": "Origin", "licence": "CC"}, "rows_read": 17}
    checked |= {"folder": "/mnt/clinic", "missing_examples": ["Bodo Klein.png"]}
    checked |= {"images_found": 16, "images_missing": 1, "counts": {"label": {"0": 3, "1": 13}}}
    manifest = write_data_set(
        tmp_path, "ddi", {"label": [0, 1, 1], "sex": ["female", None, "male"]}
    )
    external = pd.DataFrame({"label": [0, 0, 1, 1, 1], "attribute": [0, 1, 0, 1, 1]})
    external["balanced"] = [True, True, True, True, False]
    external = external.assign(dataset="isic", image_id=list("abcde"))
    compared = pd.DataFrame({"table": ["table1"], **CELL, "method": ["swift"]})
    compared = compared.assign(dataset="ddi", metric="auc", other="llft", n_folds=3)
    compared = compared.assign(difference=0.25, low=0.1, high=0.4)
    compared = compared.assign(p_permutation=0.2, p_permutation_holm=0.3, p_floor=0.1, reason=None)
    interval = pd.DataFrame({**CELL, "dataset": ["ddi", "ddi"], "metric": ["auc", "ece"]})
    interval = interval.assign(method="swift", n_images=34, value=0.5, low=0.4, high=0.6)
    interval = interval.assign(difference=0.1, difference_low=0.0, difference_high=0.2, reason=None)
    interval = interval.assign(n_patients=9, variance_test=0.01, variance_folds=0.01, power=0.5)
    interval = interval.assign(floor_mean=0.1, floor_95=0.2, below_floor=True, smallest_cell=7.0)
    for name in ("b", "a"):
        path = tmp_path / f"figures/{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (7, 5), "red" if name == "b" else "blue").save(path)
    for name, text in {"table1": "Table one", "verdict": "The verdict", "cost": "Costs"}.items():
        write_text(tmp_path / f"{name}.html", f"<html><body><p>{text} here</p></body></html>\n")
    answer = tmp_path / "which_method"  # where the run drew its biases
    answer.mkdir()
    write_text(answer / "which_method.html", "<html><body><p>Take it here</p></body></html>\n")
    types = pd.DataFrame({"image_id": ["a", "b", "c"], "fitzpatrick": [1.0, 6.0, None]})
    types = types.assign(ita=0.0, b_star=[5.0, -2.0, 0.0], fitzpatrick_arctan=[1.0, 6.0, 6.0])
    types = types.assign(fitzpatrick_atan2=1.0, fitzpatrick_unknown_if_blue=[1.0, None, None])
    (tmp_path / "skin_tone").mkdir()
    Image.new("RGB", (9, 4), "green").save(tmp_path / "skin_tone/isic2019.png")
    stage = tmp_path / "results/mine/benchmarks/evaluate/a.tsv"
    stage.parent.mkdir(parents=True)
    stage.write_text("s\tmax_rss\n3.5\t100\n")
    (tmp_path / "requirements.txt").write_text("numpy==0.1\n")
    run(
        "report.py",
        input={
            "metrics": write_parquet(tmp_path / "metrics.parquet", metrics),
            "check": write_json(tmp_path / "data_check.json", {"datasets": [checked]}),
            "sources": [],
            "manifests": [manifest.manifest],
            "manifest_logs": [write_json(tmp_path / "manifests/ddi.log.json", log)],
            "cohort_logs": [
                write_json(
                    tmp_path / "cohorts/skin.log.json", {"clusters": 77, "largest": "Dora Weiss"}
                )
            ],
            "external": [write_parquet(tmp_path / "external/skin/tone/fold4.parquet", external)],
            "cohorts": [write_parquet(tmp_path / "cohorts/skin.parquet", external)],
            "tables": [tmp_path / "table1.html"],
            "figures": [tmp_path / "figures/b.png", tmp_path / "figures/a.png"],
            "plausibility": write_parquet(
                tmp_path / "plausibility.parquet", marked.assign(text="it is .51")
            ),
            "statistics": write_parquet(tmp_path / "statistics.parquet", compared),
            "in_words": write_json(tmp_path / "in_words.json", {"sentences": ["It <fell>."]}),
            "intervals": [
                write_parquet(tmp_path / f"i{i}.parquet", interval.iloc[i : i + 1]) for i in (0, 1)
            ],
            "verdict": tmp_path / "verdict.html",
            "which_method": [] if hidden else [answer],
            "costs": tmp_path / "cost.html",
            "tones": [write_parquet(tmp_path / "skin_tone/isic2019.parquet", types)],
            "sheets": [tmp_path / "skin_tone/isic2019.png"],
            "requirements": tmp_path / "requirements.txt",
            "assets": [],
        },
        output={
            "report": "results/mine/report.html",
            "settings": "results/mine/settings.yaml",
            "origin": "results/mine/origin.json",
        },
        params={
            "run": "mine",
            "settings": {"run": "mine", "seed": 41, "folds": 3, "experiments": {}}
            | {"datasets": {"ddi": {"root": "data/Gruber", "only": {"name": ["Carl Gross"]}}}},
            "titles": TITLES,
            "missing": {
                "failed": [["debias ssd", "the <loss> is not finite", "logs/debias/ssd.log"]],
                "left_out": [["a", "skin, net, tone", "SSD"]],
            }
            if hidden
            else {"failed": (), "left_out": []},
            "origin": ORIGIN,
            "groups": {"tone": ["light", "middle", "dark"]},
            "classes": {"skin": ["mole", "melanoma"]},
            "figures": {"a": ["Title of a", "Caption of a"], "b": ["Title of b", "Caption of b"]},
            "metrics": ["auc"],
            "hidden": ["b"] if hidden else [],
            "pictures": not hidden,
            "synthetic": True,
        },
    )
    html = (tmp_path / "results/mine/report.html").read_text()
    assert "Results of run “mine”" in html and "<dd>41</dd>" in html
    said = (
        f"{'0a' * 6} of 2026-01-02; changed since: Snakefile; not under version control: m&lt;.py"
    )
    assert f"<dt>code</dt><dd>{said}</dd>" in html
    assert f"<dt>own modules</dt><dd>my.py: abc, SHA-256 {'1' * 12}</dd>" in html
    assert "<dd>a.yaml: changed &lt;since&gt;</dd>" in html
    recorded = json.loads((tmp_path / "results/mine/origin.json").read_text())
    assert {name: recorded[name] for name in ORIGIN} == ORIGIN
    assert recorded["packages"]["python"] == platform.python_version()
    assert recorded["version"] == __version__
    written = (tmp_path / "results/mine/settings.yaml").read_text()
    assert f"sha256 {hashlib.sha256(written.encode()).hexdigest()[:12]}</dd>" in html
    assert "Synthetic data: everything below" in html
    assert ["DDI", "Origin", "CC", "17", "16", "1", "3 / 13", "", ""] in table_text(html, "Folders")
    [size] = [row for row in table_text(html, "Images in use") if row[0] == "DDI"]
    assert size == ["DDI", "9", "3", "1", "2", "", "1", "1", "0", "0"]
    groups = table_text(html, "Groups of the test sets")
    assert [row[3:5] for row in groups if row[2] == "DDI"] == [
        ["light", "0"],
        ["middle", "12"],
        ["dark", "0"],
    ]
    pool = table_text(html, "What is learnt from, by group and label")
    assert pool[1:] == [
        ["Skin lesions", "pool", "Tone", "light", "1", "1", "melanoma", "0.500"],
        ["Skin lesions", "pool", "Tone", "middle", "1", "2", "melanoma", "0.667"],
        ["Skin lesions", "pool", "Tone", "dark", "0", "0", "melanoma", ""],
    ]
    first = html[: html.index("<h2>What was run</h2>")]  # the first screen
    assert "<h2>In short</h2>" in first and "<li>It &lt;fell&gt;.</li>" in first
    assert "light 50 % (1 of 2), middle 67 % (2 of 3)" in first
    assert table_text(html, "External sets")[-1] == ["Skin lesions", "Tone", "4", "5", "4", "1"]
    assert table_text(html, "Rows of the sources")[-1] == ["DDI", "no image", "4"]
    pool = table_text(html, "Duplicates and test images in the pool")[-1]
    assert pool == ["Skin lesions", "clusters", "", "77"]
    tests = table_text(html, "Against the Baseline and the best other method")[-1]
    assert tests[5:10] == ["SWiFT", "LLFT", "3", "0.250", "+0.100 to +0.400"]
    intervals = table_text(html, "Over patients and folds: intervals, noise floors")
    assert [row[3] for row in intervals[1:]] == ["AUC"]  # ECE is not among the metrics to show
    sections = re.findall(r"<h2>(.*?)</h2>", html)
    body = {name: html[html.index(f"<h2>{name}</h2>") :] for name in sections}
    inside = {"Tables": "Table one", "Costs": "Costs", "Reproduction verdict": "The verdict"}
    assert ("Which method?" in sections) == (not hidden)
    assert (sections[0] == "What is missing") == ("What is missing" in sections) == hidden
    if hidden:
        lost = ["debias ssd", "the &lt;loss&gt; is not finite", "logs/debias/ssd.log"]
        assert table_text(html, "Jobs that failed")[1:] == [lost]
        assert table_text(html, "Left out")[1:] == [["a", "skin, net, tone", "SSD"]]
    inside |= {} if hidden else {"Which method?": "Take it"}
    for name, text in inside.items():
        assert f"<p>{text} here</p>" in body[name].partition("</section>")[0]
    picture = r'<figure id="figure-(\w)">(?:(?!</figure>).)*?base64,([^"]+)"'
    text = r"<strong>Title of (\w)\.</strong> Caption of (\w)"
    figures = re.findall(f"{picture}.*?{text}", html, re.S)
    shown = ("a",) if hidden else ("b", "a")
    assert ("Shows images, which this page does not" in html) == hidden
    for (name, data, title, caption), expected in zip(figures, shown, strict=True):
        assert name == title == caption == expected
        assert base64.b64decode(data) == (tmp_path / f"figures/{name}.png").read_bytes()
    tones = table_text(html, "Measured skin tone")[-1]  # types, unknown, b*, dark by each rule
    assert tones == ["ISIC 2019", "3", "1", *"0000", "1", "1", "2", "2", "0", "0"]
    sheet = base64.b64encode((tmp_path / "skin_tone/isic2019.png").read_bytes()).decode()
    assert (sheet in html) == (not hidden) and "skin_tone/isic2019.png" in html
    assert ["evaluate", "1", "3.5", "3.5", "100"] in table_text(html, "Stages of the workflow")
    assert ">0.1<" in html  # what is pinned, beside what is there
    mind = body["What to mind"].partition("</section>")[0]
    assert "Collapsed (c)" in mind and "(SWiFT 1)" in mind and "it is .51" in mind
    planted = ["Schmidt", "ward7", "clinic", "Bodo", "Gruber", "Gross", "Dora"]
    assert [word for word in planted if word in html] == []
    assert str(tmp_path) not in html
