"""The drawings: numbers against an independent recomputation, and the look of them.

Every drawing is laid out once on a mock run; then nothing may overlap, be cut off or be too small
to read.
"""

from __future__ import annotations

import itertools
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mock_run as mock
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from swift_debias.errors import UserError
from swift_debias.evaluation import plausibility
from swift_debias.evaluation.cells import KEYS, Block
from swift_debias.evaluation.setup_intervals import setup_intervals
from swift_debias.methods.swift import Settings
from swift_debias.report import figures
from swift_debias.report.costs import COSTS, read_costs
from swift_debias.report.figures import (
    _parts,
    _style,
    _write,
    bias,
    cost,
    estimators,
    pareto,
)
from swift_debias.report.figures._parts import Drawing, Request, Sources
from swift_debias.report.figures.method import stages
from swift_debias.run import results

PLOTS = {name: figures.load(name).draw for name in figures.available()}
SWIFT = {**Settings().model_dump(mode="json"), **mock.VARIANTS["swift"]}
FEW = mock.FEW


def two(methods: tuple[str, ...]) -> tuple[Block, ...]:
    return (
        mock.block("skin", "skin_tone", methods, datasets=("fitzpatrick17k",)),
        mock.block("cxr", "age", methods, datasets=("chexpert",)),
    )


BLOCKS: dict[str, tuple[Block, ...]] = {
    "epochs": two(("baseline", "swift_epochs_05", "swift", "swift_epochs_20", "swift_epochs_40")),
    "external": two(("baseline", "swift_external_20", "swift_external_60", "swift")),
    "reinit": two(("baseline", "swift_reinit_10", "swift", "swift_reinit_50", "swift_reinit_90")),
    "pareto": (
        mock.block("skin", "skin_tone"),
        mock.block("skin", "sex", FEW),
        mock.block("cxr", "age", FEW),
    ),
    "dose": (mock.block("skin", "sex", FEW), mock.block("cxr", "age", FEW)),
    "effects": two(
        ("swift", "swift_epochs_20", "swift_external_20", "swift_external_20_epochs_20")
    ),
    "cost": (mock.block("skin", "skin_tone"), mock.block("cxr", "age", FEW)),
    "ranks": (mock.block("skin", "skin_tone"),),
    "groups": (mock.block("skin", "sex", FEW), mock.block("cxr", "age_5", ("baseline", "swift"))),
    "intervals": (mock.block("skin", "skin_tone"), mock.block("skin", "sex", FEW)),
    "thresholds": two(FEW),
    "masks": two(("swift",)),
    "estimators": two(("baseline", "swift", "swift_per_sample")),
    "bias": two(("baseline",))[:1],
    "cam": two(("baseline", "llft", "diffprune", "swift"))[:1],
    "importance": two(("swift",))[:1],
    "method": two(("swift",))[:1],
}


def request_of(plot: str, synthetic: bool = True, **options: Any) -> Request:
    return Request(
        name=plot,
        blocks=BLOCKS[plot],
        titles=mock.TITLES,
        groups=mock.GROUPS,
        classes=mock.CLASSES,
        epochs=mock.EPOCHS,
        ties={"skin": 0.0, "cxr": 0.9},
        variants=mock.VARIANTS if plot == "effects" else {**mock.VARIANTS, "swift": SWIFT},
        min_groups={"skin": 20, "cxr": 20},
        options=options,
        synthetic=synthetic,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    mock.make_run(folder)
    return folder


@pytest.fixture(scope="module")
def sources(run: Path) -> Sources:
    predictions = results.read("predictions", sorted(run.glob("predictions/*/*/*/*/*.parquet")))
    intervals = []
    for block in BLOCKS["pareto"]:
        part = _parts.of_block(predictions, block)
        part = part[part["method"].isin(block.methods)]
        part = part.drop(columns=["task", "backbone", "attribute"])
        drawn = setup_intervals(part, 2, 0, 50)
        keys = {"task": block.task, "backbone": block.backbone, "attribute": block.attribute}
        intervals.append(drawn.assign(**keys))
    return Sources(
        metrics=pd.read_parquet(run / "metrics.parquet"),
        costs=read_costs(run.glob("debiased/*/*/*/*/*/cost.json")),
        predictions=predictions,
        repeats=predictions.assign(repeat=0),
        summaries=results.read(
            "mask_summary", sorted(run.glob("importance/*/*/*/*.mask_summary.parquet"))
        ),
        intervals=pd.concat(intervals, ignore_index=True),
        plausibility=plausibility.judge(
            pd.read_parquet(run / "metrics.parquet"),
            mock.GROUPS,
            dict.fromkeys(("skin", "cxr"), 20),
            intervals=pd.concat(intervals, ignore_index=True),
        ),
    )


def arrays_of(plot: str) -> dict[str, np.ndarray]:
    """What script figure_arrays.py would have computed."""
    rng = np.random.default_rng(3)
    if plot in ("bias", "cam"):
        each = 3 if plot == "bias" else 1
        n = 4 * each
        arrays = {
            "images": rng.integers(0, 256, (n, 24, 24, 3), np.uint8),
            "image_id": np.array([f"i{place}" for place in range(n)]),
            "label": np.repeat([1, 0], 2 * each),
            "group": np.tile(np.repeat([0, 1], each), 2),
            "score": rng.random(n),
        }
        methods = BLOCKS["cam"][0].methods
        maps = {"maps": rng.normal(size=(4, n, 7, 7)), "scores": rng.random((4, n))}
        return arrays | maps | {"methods": np.array(methods), "kinds": np.array(["CAM"] * 4)}
    if plot == "importance":
        shown = {kind: rng.random((32, 48)) for kind in ("bias", "prediction", "mask")}
        return {**shown, "layer": np.array("layer3.0.conv2"), "shape": np.array([256, 256, 3, 3])}
    rows: list[tuple[Any, ...]] = []
    for block, fold in itertools.product(BLOCKS.get(plot, ()), range(mock.FOLDS)):
        if plot == "reinit":
            for method, share in zip(block.methods[1:], (0.1, 0.6, 0.5, 0.9), strict=True):
                rows.append((*block[:3], method, fold, share + 0.01 * fold))
        elif plot == "estimators":
            for name in ("minibatch", "per_sample"):
                shares = rng.dirichlet(np.ones(20))
                rows += [(*block[:3], name, fold, i / 20, s, 0.5) for i, s in enumerate(shares)]
    names = {
        "reinit": ("task", "backbone", "attribute", "method", "fold", "share"),
        "estimators": estimators._MASK_COLUMNS,
    }.get(plot, ())
    columns = zip(*rows, strict=True)
    return {name: np.array(column) for name, column in zip(names, columns, strict=True)}


@pytest.fixture(scope="module")
def drawings(sources: Sources) -> dict[str, Drawing]:
    return {
        plot: _write.draw(
            PLOTS[plot],
            request_of(plot),
            Sources(**{**vars(sources), "arrays": arrays_of(plot)}),
        )
        for plot in PLOTS
    }


# --- the look of it -------------------------------------------------------------------------------


def texts(drawing: Drawing) -> Iterator[tuple[Text, Bbox]]:
    """Everything written in a figure, and where."""
    renderer = FigureCanvasAgg(drawing.figure).get_renderer()
    hidden = {id(text) for axes in drawing.figure.get_axes() for text in _not_drawn(axes)}
    for text in drawing.figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden:
            yield text, text.get_window_extent(renderer)


def _not_drawn(axes: Axes) -> Iterator[Any]:
    """Texts of axes that are hidden, and of ticks outside of the limits."""
    if not axes.get_visible():
        yield from axes.findobj(Text)
        return
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        low, high = sorted(limits)
        margin = 1e-6 * (high - low)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not axes.axison or not low - margin <= tick.get_loc() <= high + margin:
                yield from (tick.label1, tick.label2)


def text_mistakes(drawing: Drawing) -> list[str]:
    """Texts that leave the page or lie on one another."""
    found = list(texts(drawing))
    width, height = drawing.figure.get_size_inches() * drawing.figure.dpi
    mistakes = [
        f"{text.get_text()!r} is cut off"
        for text, box in found
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]
    for (one, a), (two, b) in itertools.combinations(found, 2):
        overlap = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if min(overlap) > 1:
            mistakes.append(f"{one.get_text()!r} runs into {two.get_text()!r}")
    return mistakes


@pytest.mark.parametrize("plot", PLOTS)
def test_no_text_is_cut_off_or_runs_into_another(plot: str, drawings: dict[str, Drawing]) -> None:
    assert list(texts(drawings[plot]))
    assert text_mistakes(drawings[plot]) == []


@pytest.mark.parametrize("plot", PLOTS)
def test_text_is_readable_at_the_width_of_a_page(plot: str, drawings: dict[str, Drawing]) -> None:
    assert all(text.get_fontsize() >= 6 for text, _ in texts(drawings[plot]))
    width, height = drawings[plot].figure.get_size_inches()
    assert width <= _style.PAGE + 1e-9
    assert height <= 9.5  # fits on a page


@pytest.mark.parametrize("plot", PLOTS)
def test_every_figure_of_a_demo_says_synthetic(plot: str, drawings: dict[str, Drawing]) -> None:
    assert "synthetic data" in [text.get_text() for text, _ in texts(drawings[plot])]


def test_figures_of_real_data_do_not(sources: Sources) -> None:
    real = _write.draw(PLOTS["masks"], request_of("masks", synthetic=False), sources)
    assert not any("synthetic" in text.get_text() for text, _ in texts(real))


def test_methods_are_told_apart_and_look_the_same_everywhere() -> None:
    looks = [_style.method_style(method) for method in mock.TEN]
    assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == 10
    variants = [
        _style.method_style(f"swift_{name}") for name in ("zscore", "no_step1", "per_sample")
    ]
    assert all(variant != _style.method_style("swift") for variant in variants)
    assert _style.method_style("somebodys_method") == _style.method_style("somebodys_method")


def _after_protanopia(color: str) -> np.ndarray:
    """Linear RGB as seen without long-wave cones (Vienot, Brettel and Mollon, 1999), in Lab."""
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    simulated = np.array([[0.112, 0.888, 0], [0.112, 0.888, 0], [0.004, -0.004, 1]]) @ linear
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(to_xyz) @ simulated.clip(0, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_groups_are_told_apart_by_the_colour_blind() -> None:
    seen = [_after_protanopia(_style.group_color(group)) for group in range(5)]
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(one - other) > 10


# --- files ----------------------------------------------------------------------------------------


def test_files_are_vector_and_300_dpi_and_the_same_twice(sources: Sources, tmp_path: Path) -> None:
    request = request_of("masks")
    paths = _write.write(PLOTS["masks"], request, sources, tmp_path / "a" / "figure8")
    again = _write.write(PLOTS["masks"], request, sources, tmp_path / "b" / "figure8")
    assert [path.name for path in paths] == ["figure8.pdf", "figure8.png", "figure8.csv"]
    for one, other in zip(paths, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    pdf, png, csv = (path.read_bytes() for path in paths)
    assert b"/Subtype /Type0" in pdf or b"/FontFile2" in pdf  # TrueType, not Type 3
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    assert struct.unpack(">I", png[16:20])[0] == round(_style.PAGE * 300)
    assert len(csv.decode().splitlines()) == 1 + 2 * 6 * 20  # blocks, layer groups, bins
    assert not list(tmp_path.rglob("*.partial"))


def test_drawing_needs_no_torch() -> None:
    code = (
        "import sys; from swift_debias.report import figures, html, tables; "
        "[figures.load(name) for name in figures.available()]; assert 'torch' not in sys.modules"
    )
    scripts = Path(_parts.__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], cwd=scripts, check=True)


def test_every_drawing_has_a_caption() -> None:
    assert {name for name in figures.available() if figures.facts(name).caption} == set(PLOTS)


# --- the numbers ----------------------------------------------------------------------------------


def recomputed(sources: Sources, **cell: str) -> tuple[float, float]:
    """Mean and standard deviation of a cell, straight from the metrics."""
    frame = sources.metrics
    for column, value in cell.items():
        frame = frame[frame[column] == value]
    assert len(frame) == mock.FOLDS
    return float(np.mean(frame["value"])), float(np.std(frame["value"], ddof=1))


@pytest.mark.parametrize(
    ("plot", "expected"),
    [
        ("epochs", {"skin": [0, 10, 20, 40, 80], "cxr": [0, 5, 10, 20, 40]}),
        ("external", {"skin": [0, 0.2, 0.6, 1], "cxr": [0, 0.2, 0.6, 1]}),
        ("reinit", {"skin": [11, 51, 61, 91, np.nan], "cxr": [11, 51, 61, 91, np.nan]}),
    ],
)
def test_sweeps(
    plot: str, expected: dict[str, list[float]], drawings: dict[str, Drawing], sources: Sources
) -> None:
    data = drawings[plot].data
    for task, places in expected.items():
        curve = data[(data["task"] == task) & (data["metric"] == "auc")]
        np.testing.assert_allclose(curve["x"], places)
    for row in data[data["metric"] != "seconds"].itertuples():
        cell = {name: str(getattr(row, name)) for name in KEYS}
        assert (row.mean, row.std) == pytest.approx(recomputed(sources, **cell))


def test_time_of_a_sweep_is_that_of_the_jobs(drawings: dict[str, Drawing], run: Path) -> None:
    data = drawings["epochs"].data
    times = data[(data["metric"] == "seconds") & (data["task"] == "cxr")].set_index("method")
    assert times["mean"]["baseline"] == 0
    files = run.glob("debiased/cxr/*/age/swift_epochs_20/*/cost.json")
    seconds = [float(re.findall(r'"seconds": ([\d.]+)', path.read_text())[0]) for path in files]
    assert times["mean"]["swift_epochs_20"] == pytest.approx(np.mean(seconds))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_non_dominated_front_against_its_definition(points: list[tuple[int, int]]) -> None:
    high, low = np.array(points, dtype=float).T
    expected = [
        not any((a >= x and b <= y) and (a > x or b < y) for a, b in points) for x, y in points
    ]
    assert pareto.non_dominated(high, low).tolist() == expected


def test_a_missing_value_is_never_on_the_front() -> None:
    high, low = np.array([0.9, np.nan, 0.8]), np.array([np.nan, 0.1, 0.2])
    assert pareto.non_dominated(high, low).tolist() == [False, False, True]


def test_pareto(drawings: dict[str, Drawing], sources: Sources) -> None:
    data = drawings["pareto"].data
    assert len(data) == 2 * (10 + 3 + 3)
    for row in data.iloc[::7].itertuples():
        cell = {name: str(getattr(row, name)) for name in KEYS[:-1]}
        found = (row.auc_mean, row.auc_std), (row.eodds_mean, row.eodds_std)
        for metric, pair in zip(("auc", "eodds"), found, strict=True):
            assert pair == pytest.approx(recomputed(sources, **cell, metric=metric))
    for _, part in data.groupby(["task", "attribute", "dataset"]):
        best = part[part["non_dominated"]]
        assert {part["auc_mean"].idxmax(), part["eodds_mean"].idxmin()} <= set(best.index)


@pytest.mark.parametrize(
    "axes",
    [*itertools.permutations(("auc", "auc_min", "eodds", "auc_gap"), 2), ("spd@external", "auc")],
)
def test_the_front_of_any_two_metrics(axes: tuple[str, str]) -> None:
    """Which way is better is the metric's own; the one worst in all is never on the front."""
    better = {"auc": 1, "auc_min": 1, "eodds": -1, "auc_gap": -1, "spd@external": -1}
    rng = np.random.default_rng(len(axes[0]) + 10 * len(axes[1]))
    methods = [*"abcdefgh", "worst"]
    frame = pd.DataFrame(
        [
            ("skin", "net", "sex", method, "ddi", metric, fold, value, 100, None)
            for metric in axes
            for method, good in zip(methods, [*rng.uniform(0.3, 0.8, 8), 0.2], strict=True)
            for fold, value in enumerate([good if better[metric] > 0 else 1 - good] * 2)
        ],
        columns=[*KEYS, "fold", "value", "n", "reason"],
    )
    block = Block("skin", "net", "sex", ("ddi",), tuple(methods), axes)
    floors = frame.drop_duplicates(KEYS).assign(floor_95=0.3)
    floors = floors[floors["metric"].isin([m for m in axes if better[m] < 0])]
    given = Request("front", (block,), options={"axes": axes})
    drawing = _write.draw(PLOTS["pareto"], given, Sources(metrics=frame, intervals=floors))
    data = drawing.data.set_index("method")
    signed = pd.DataFrame({m: better[m] * data[f"{m}_mean"] for m in axes})
    for method, row in signed.iterrows():
        beaten = ((signed >= row).all(axis=1) & (signed > row).any(axis=1)).any()
        assert data.loc[method, "non_dominated"] == (not beaten)
    assert not data.loc["worst", "non_dominated"]
    # the staircase: from any beaten point one meets it on the way to the better end of either axis
    (panel,) = drawing.figure.axes
    (stairs,) = (line for line in panel.lines if line.get_linestyle() == "--")
    xs, ys = (np.array(values, dtype=float) for values in stairs.get_data())
    for method in methods:
        x, y = (data.loc[method, f"{m}_mean"] for m in axes)
        ahead = (better[axes[0]] * (xs - x) >= -1e-9) & (better[axes[1]] * (ys - y) >= -1e-9)
        assert ahead.any()
    front = data.loc[data["non_dominated"], [f"{m}_mean" for m in axes]].to_numpy()
    assert {tuple(point) for point in front} <= set(zip(xs, ys, strict=True))
    # a band for each gap, along its own axis
    spans = [patch.get_extents().transformed(panel.transData.inverted()) for patch in panel.patches]
    for place, metric in enumerate(axes):
        ends = [(span.x0, span.x1) if place == 0 else (span.y0, span.y1) for span in spans]
        assert any(end == pytest.approx((0, 0.3)) for end in ends) == (better[metric] < 0)


def test_an_axis_needs_a_better_way(sources: Sources) -> None:
    given = request_of("pareto", axes=("auc", "selection_rate"))
    with pytest.raises(
        UserError, match=r"options\.axes: neither way of 'selection_rate' is better"
    ):
        _write.draw(PLOTS["pareto"], given, sources)


def test_bands_are_the_noise_floors(drawings: dict[str, Drawing], sources: Sources) -> None:
    """Pareto's: from 0 to the methods' smallest and largest floor; intervals': of each method."""
    floors = sources.intervals[sources.intervals["metric"] == "eodds"]
    block, dataset = BLOCKS["pareto"][0], "fitzpatrick17k"
    part = _parts.of_block(floors, block, dataset=dataset)
    shown = _parts.of_block(drawings["pareto"].data, block, dataset=dataset)
    expected = part.set_index("method")["floor_95"]
    assert shown.set_index("method")["eodds_floor_95"].to_dict() == expected.to_dict()
    first = drawings["pareto"].figure.axes[0]
    bands = [patch.get_extents().transformed(first.transData.inverted()) for patch in first.patches]
    ends = [(0, expected.min()), (expected.min(), expected.max())]
    assert [(band.y0, band.y1) for band in bands] == [pytest.approx(pair) for pair in ends]
    baseline = part.set_index("method")["value"]["baseline"]
    (axes,) = (
        axes
        for place, axes in enumerate(drawings["intervals"].figure.axes)
        if place == 2  # AUC, SPD, EOdds of the first test set
    )
    bars = {round(bar.get_y() + 0.4): (bar.get_x(), bar.get_width()) for bar in axes.patches}
    methods = BLOCKS["intervals"][0].methods[1:]
    assert bars == {y: pytest.approx((-baseline, expected[m])) for y, m in enumerate(methods)}


@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_points_are_spread_and_those_with_room_stay(n: int) -> None:
    rng = np.random.default_rng(n)
    for scale in (0.0, 0.01, 0.2, 5.0):
        points = scale * rng.random((n, 2))
        moved = _parts.spread(points, 0.1)
        gaps = [np.linalg.norm(a - b) for a, b in itertools.combinations(moved, 2)]
        assert min(gaps, default=1.0) >= 0.1
        for i in range(n):
            others = [np.linalg.norm(points[i] - points[j]) for j in range(n) if j != i]
            if min(others, default=1.0) > 0.1 + np.abs(moved - points).max() + 1e-3:
                assert np.abs(moved[i] - points[i]).max() < 1e-3
        assert np.abs(moved - points).max() < 0.1 * n


def test_no_marker_hides_another(drawings: dict[str, Drawing]) -> None:
    """Equal results are the worst case: every method's marker is seen, next to the others."""
    request = request_of("pareto")
    equal = pd.concat(
        [
            pd.DataFrame({"metric": ["auc", "eodds"], "value": [0.8, 0.1]}).assign(
                **dict(zip(KEYS[:-1], key[:-1], strict=True)), fold=fold, reason=None
            )
            for block in request.blocks
            for key in block._replace(metrics=("auc",)).cell_keys()
            for fold in (0, 1)
        ],
        ignore_index=True,
    )
    same = _write.draw(PLOTS["pareto"], request, Sources(metrics=equal))
    for drawing, panels in ((drawings["pareto"], 6), (same, 6)):
        inch = drawing.figure.dpi
        assert len(drawing.figure.axes) == panels
        for axes, (block, _) in zip(drawing.figure.axes, request.panels(), strict=True):
            places = [
                axes.transData.transform(line.get_xydata()[0]) / inch
                for line in axes.lines
                if len(line.get_xdata()) == 1 and line.get_marker() not in (".", "None", "")
            ]
            assert len(places) == len(block.methods)
            apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2)]
            assert min(apart) > 4.5 / 72  # as far as a marker is wide


@pytest.mark.parametrize(("datasets", "metrics"), [(2, 5), (4, 3), (1, 8), (7, 1)])
def test_intervals_of_many_cells_have_rows_that_can_be_read(
    sources: Sources, datasets: int, metrics: int
) -> None:
    block = BLOCKS["intervals"][0]
    names = ("auc", "spd", "eodds", "eopp", "auc_min", "auc_gap", "eodds_max", "balanced_accuracy")
    part = _parts.of_block(sources.intervals, block, dataset="ddi")
    sets = [f"set{place}" for place in range(datasets)]
    many = pd.concat([part.assign(dataset=name) for name in sets], ignore_index=True)
    wide = block._replace(datasets=tuple(sets), metrics=names[:metrics])
    request = Request(**{**vars(request_of("intervals")), "blocks": (wide,)})
    drawing = _write.draw(PLOTS["intervals"], request, Sources(intervals=many))
    axes = [a for a in drawing.figure.get_axes() if a.get_visible()]
    assert len(axes) == datasets * metrics
    heights = [round(a.get_window_extent().y0) for a in axes]
    assert max(heights.count(y) for y in heights) <= 6
    assert sum(a.get_title(loc="left") != "" for a in axes) == datasets
    assert text_mistakes(drawing) == []


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_title_of_a_colour_bar_has_a_line_of_its_own(n: int) -> None:
    given = arrays_of("cam")
    given |= {name: given[name][:n] for name in ("maps", "scores", "methods", "kinds")}
    drawing = _write.draw(PLOTS["cam"], request_of("cam"), Sources(arrays=given))
    assert text_mistakes(drawing) == []
    bar = drawing.figure.axes[-1]
    ticks = [text for text in bar.get_xticklabels() if text.get_text()]
    renderer = FigureCanvasAgg(drawing.figure).get_renderer()
    lowest = min(text.get_window_extent(renderer).y0 for text in ticks)
    assert bar.xaxis.label.get_window_extent(renderer).y1 <= lowest


def test_curves_pass_through_the_tables_at_the_threshold_in_use(
    drawings: dict[str, Drawing], sources: Sources
) -> None:
    data = drawings["thresholds"].data
    at_half = data[np.isclose(data["threshold"], 0.5)]
    cells = at_half.groupby(list(KEYS[:-1]))
    assert len(cells) == 6
    for key, folds in cells:
        cell = dict(zip(KEYS[:-1], map(str, key), strict=True))
        for metric in ("spd", "eodds", "balanced_accuracy"):
            pair = folds[metric].mean(), folds[metric].std()
            assert pair == pytest.approx(recomputed(sources, **cell, metric=metric), abs=1e-6)


def test_groups_and_cost(drawings: dict[str, Drawing], sources: Sources) -> None:
    data = drawings["groups"].data
    five = data[data["attribute"] == "age_5"]
    assert set(five["metric"]) == {f"{m}[{g}]" for m in ("auc", "ece") for g in range(5)}
    row = five.iloc[3]
    cell = {name: str(row[name]) for name in KEYS}
    assert (row["mean"], row["std"]) == pytest.approx(recomputed(sources, **cell))
    costs = drawings["cost"].data
    assert set(costs["metric"]) == set(COSTS) - {"buffers_changed"}  # four axes
    assert len(costs) == (10 + 3) * 4


def test_mask_shares(drawings: dict[str, Drawing], sources: Sources) -> None:
    data = drawings["masks"].data
    keys = ["task", "attribute", "group"]
    np.testing.assert_allclose(data.groupby(keys)["share"].sum(), 1)
    part = _parts.of_block(sources.summaries, BLOCKS["masks"][0])
    layer1 = part[part["group"] == "layer1"]  # two layers of equal size
    means = layer1.groupby("fold")["mean"].mean()
    row = _parts.of_block(data, BLOCKS["masks"][0], group="layer1").iloc[0]
    assert (row["mean"], row["std"]) == pytest.approx((means.mean(), means.std()))
    counts = np.array([np.stack(list(f["counts"])).sum(0) for _, f in layer1.groupby("fold")])
    expected = (counts / counts.sum(1, keepdims=True)).mean(0)
    drawn = _parts.of_block(data, BLOCKS["masks"][0], group="layer1")["share"]
    np.testing.assert_allclose(drawn, expected)


def test_score_histograms(sources: Sources) -> None:
    block = BLOCKS["bias"][0]
    scores = _parts.of_block(
        sources.predictions, block, method="baseline", dataset="fitzpatrick17k"
    )
    found = bias.score_histograms(scores, 2)
    cell = scores[(scores["label"] == 0) & (scores["group"] == 1)]
    shares = []
    for fold in range(mock.FOLDS):
        values = cell.loc[cell["fold"] == fold, "score"].to_numpy()
        shares.append(np.mean((values >= 0.25) & (values < 0.3)))
    row = found[(found["label"] == 0) & (found["group"] == 1) & np.isclose(found["low"], 0.25)]
    expected = [np.mean(shares), np.std(shares, ddof=1)]
    np.testing.assert_allclose(row[["mean", "std"]].to_numpy()[0], expected)


def test_examples_are_named_by_their_class(sources: Sources) -> None:
    """Class 1 is the upper row of the figure, class 0 the lower one."""
    given = Sources(**{**vars(sources), "arrays": arrays_of("bias")})
    axes = PLOTS["bias"](request_of("bias"), given).figure.axes
    heights = {a.get_ylabel().replace("\n", " "): a.get_position().y0 for a in axes}
    negative, positive = mock.CLASSES[BLOCKS["bias"][0].task]
    assert heights[positive] > heights[negative]


def test_panels_that_differ_in_the_task_alone_name_it() -> None:
    one = mock.block("skin", "sex", FEW, datasets=("atlas", "pad_ufes_20"))
    other = one._replace(task="cxr", datasets=("atlas",))
    elsewhere = one._replace(task="third", backbone="vit")
    blocks = (one, other, elsewhere)
    assert _parts.heading(one, "atlas", blocks) == "Atlas\nSex, Skin lesions, ResNet-50"
    assert _parts.heading(one, "pad_ufes_20", blocks) == "PAD-UFES-20\nSex, ResNet-50"
    assert _parts.heading(one, "atlas", (one, elsewhere)) == "Atlas\nSex, ResNet-50"
    assert _parts.heading(one, among=blocks) == "Sex, Skin lesions, ResNet-50"
    assert _parts.heading(one, "atlas", (one, other)) == "Atlas\nSex, Skin lesions"


@pytest.mark.parametrize("plot", ["intervals", "effects", "pareto", "groups", "thresholds"])
def test_tasks_are_told_apart_in_a_drawing(sources: Sources, plot: str) -> None:
    """As in a study of several pools that are tested on the same images."""
    tasks = ("tied_by_0.00", "tied_by_0.95")
    first = mock.block("skin", "sex" if plot != "effects" else "skin_tone", FEW)
    if plot == "effects":
        first = first._replace(methods=BLOCKS["effects"][0].methods)

    def twice(frame: pd.DataFrame) -> pd.DataFrame:
        if "task" not in frame:
            return frame
        own = _parts.of_block(frame, first)
        return pd.concat([own.assign(task=task) for task in tasks], ignore_index=True)

    given = Sources(
        **{k: twice(v) if isinstance(v, pd.DataFrame) else v for k, v in vars(sources).items()}
    )
    request = Request(
        plot,
        tuple(first._replace(task=task) for task in tasks),
        titles=mock.TITLES,
        groups=mock.GROUPS,
        variants=mock.VARIANTS,
    )
    drawing = _write.draw(PLOTS[plot], request, given)
    assert text_mistakes(drawing) == []
    words = " ".join(text.get_text() for text in drawing.figure.findobj(Text))
    assert all(word in words for word in ("0.00", "0.95"))


def test_dose(sources: Sources) -> None:
    """Five pools tied more and more strongly: each value at its strength, floors at the largest."""
    strengths = {"tie_00": 0.0, "tie_95": 0.95, "tie_50": 0.5}
    block = mock.block("skin", "sex", FEW)
    own = _parts.of_block(sources.metrics, block)
    gaps = _parts.of_block(sources.intervals, block)
    rng = np.random.default_rng(0)
    metrics = pd.concat(
        [own.assign(task=t, value=rng.random(len(own))) for t in strengths], ignore_index=True
    )
    floors = pd.concat([gaps.assign(task=t, floor_95=s / 9 + 0.01) for t, s in strengths.items()])
    floors.loc[floors["method"] == "swift", "floor_95"] += 0.02
    floors.loc[floors["metric"] == "auc", "floor_95"] = np.nan
    request = Request(
        "dose", tuple(block._replace(task=t) for t in strengths), ties=strengths, titles=mock.TITLES
    )
    drawing = _write.draw(PLOTS["dose"], request, Sources(metrics=metrics, intervals=floors))
    shown = drawing.data.set_index(["strength", "dataset", "method", "metric"])
    cells = metrics[metrics["method"].isin(FEW) & metrics["metric"].isin(block.metrics)]
    mean = cells.groupby(["task", "dataset", "method", "metric"])["value"].mean()
    mean = mean[[key[1] in block.datasets for key in mean.index]]
    assert len(shown) == len(mean)
    for (task, *rest), value in mean.items():
        row = shown.loc[(strengths[task], *rest)]
        assert row["mean"] == pytest.approx(value)
        highest = strengths[task] / 9 + 0.03  # SWiFT's, of the three methods
        expected = np.nan if rest[2] == "auc" else highest
        assert row["floor_95"] == pytest.approx(expected, nan_ok=True)
    axes = drawing.figure.axes
    assert len(axes) == len(block.datasets) * len(block.metrics)
    lines = axes[0].get_lines()
    assert [list(line.get_xdata()) for line in lines] == [[0, 0.5, 0.95]] * len(FEW)
    assert text_mistakes(drawing) == []


def test_ranks(drawings: dict[str, Drawing], sources: Sources) -> None:
    """Mean ranks over two test sets; of gaps, those below the floor share the first places."""
    data = drawings["ranks"].data
    block = BLOCKS["ranks"][0]
    implausible = plausibility.marks(sources.plausibility)
    for metric, sign in (("auc", -1), ("eodds", 1)):
        part = _parts.of_block(sources.intervals, block, metric=metric)
        below = part["below_floor"].fillna(False).to_numpy(bool)
        score = (sign * part["value"].round(3)).where(~below, -np.inf)
        out = [
            not implausible.ranked((*block[:3], row.method, row.dataset, metric))
            for row in part.itertuples()
        ]
        part = part.assign(score=score.where(~np.array(out), np.inf))
        wide = part.pivot_table(index="dataset", columns="method", values="score")
        found = data[data["metric"] == metric].set_index("method")["mean_rank"]
        pd.testing.assert_series_equal(
            found.sort_index(), wide.rank(axis=1).mean(), check_names=False
        )


@pytest.mark.parametrize("count", [1, 2, 3, 14])
@pytest.mark.parametrize("cases", [1, 2, 9])
@pytest.mark.parametrize("long", [False, True])
def test_ranks_of_any_size_and_names_do_not_overlap(count: int, cases: int, long: bool) -> None:
    rng = np.random.default_rng([count, cases])
    methods = tuple(f"m{i}" for i in range(count))
    titles = {m: f"{'A method with a long name ' * 3 * long}$_{m}" for m in methods}
    sets = tuple(f"d{i}" for i in range(cases))
    keys = pd.DataFrame(
        itertools.product(["skin"], ["net"], ["sex"], methods, sets, ["auc", "eodds"]), columns=KEYS
    )
    metrics = keys.assign(fold=0, value=rng.random(len(keys)), reason=None)
    block = Block("skin", "net", "sex", sets, methods, ("auc",))
    nothing = pd.DataFrame(columns=plausibility.COLUMNS)
    drawing = _write.draw(
        PLOTS["ranks"],
        Request(name="ranks", blocks=(block,), titles=titles, synthetic=True),
        Sources(metrics=metrics, plausibility=nothing),
    )
    assert text_mistakes(drawing) == []
    assert len(drawing.data) == 2 * count * (count > 1 and cases > 1)


# --- the method's diagram -------------------------------------------------------------------------


def stage_titles(**changes: Any) -> list[str]:
    return [stage.title for stage in stages({**SWIFT, **changes}, 10)]


def test_stages_are_those_of_the_settings() -> None:
    all_of_it = ["Biased classifier", "Importance", "Mask"]
    steps = ["Step 1: extractor", "Re-initialize", "Step 2: head"]
    assert stage_titles() == [*all_of_it, *steps]
    assert stage_titles(step1=False) == [*all_of_it, *steps[1:]]
    assert stage_titles(step2=False) == [*all_of_it, *steps[:1]]
    assert stage_titles(reinit="none") == [*all_of_it, steps[0], steps[2]]
    assert "Importance" not in stage_titles(mask="random")


def test_weights_and_epochs_of_the_diagram_come_from_the_settings() -> None:
    changed = {**SWIFT, "prediction_weight_1": 0.25, "threshold": 0.3}
    text = " ".join(line for stage in stages(changed, 7.5) for line in stage.lines)
    assert r"0.25\,L_{pred} + 0.75\,L_{bias}" in text
    assert "7.5 % of the epochs" in text
    assert "quantile 0.3" in text
    learned = {**SWIFT, "threshold": "learned"}
    assert r"$\tau$ learned" in [line for stage in stages(learned, 10) for line in stage.lines]
    extractor = {stage.title: stage.extractor for stage in stages(SWIFT, 10)}
    assert extractor["Step 1: extractor"] == "masked"
    assert extractor["Step 2: head"] == "frozen"


@pytest.mark.parametrize(
    "changes", [{"mask": "hard"}, {"mask": "none"}, {"reinit": "full"}, {"step1": False}]
)
def test_diagrams_of_variants_do_not_overlap(changes: dict[str, Any]) -> None:
    request = request_of("method")
    variants = {"swift": {**SWIFT, **changes}}
    changed = Request(**{**vars(request), "variants": variants})
    assert text_mistakes(_write.draw(PLOTS["method"], changed, Sources())) == []


# --- mistakes -------------------------------------------------------------------------------------


def test_a_wrong_drawing_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no drawing 'parto'.*'pareto'"):
        figures.load("parto")


def test_nothing_to_draw_is_said(sources: Sources) -> None:
    lost = Request(name="pareto", blocks=(mock.block("skin", "sex", ("nobody",)),))
    with pytest.raises(UserError, match="nobody"):
        _write.draw(PLOTS["pareto"], lost, sources)
    with pytest.raises(UserError, match="intervals"):
        _write.draw(PLOTS["intervals"], request_of("intervals"), Sources())
    with pytest.raises(UserError, match="metrics"):
        _write.draw(PLOTS["ranks"], request_of("ranks"), Sources())
    empty = Sources(summaries=sources.summaries[:0])
    with pytest.raises(UserError, match="mask summaries"):
        _write.draw(PLOTS["masks"], request_of("masks"), empty)


@pytest.mark.parametrize("limits", [(0.02, 7e6), (1.0, 9.0), (41.0, 44.0)])
def test_a_logarithmic_axis_has_one_to_four_ticks_within_its_limits(
    limits: tuple[float, float],
) -> None:
    axes = Figure().subplots()
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    cost._log_ticks(axes)
    ticks = axes.get_xticks()
    assert 1 <= len(ticks) <= 4 and limits[0] <= min(ticks) and max(ticks) <= limits[1]
