"""Numbers of 16 and 32 bits beside numbers that somebody wrote: 0.7 reaches 0.7 in every type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics as reference

import swift_debias as sd
from swift_debias import cli
from swift_debias.data.raw_tables import read_table
from swift_debias.data.values import as_written
from swift_debias.errors import UserError
from swift_debias.evaluation import setup_intervals
from swift_debias.evaluation.audit import audit
from swift_debias.evaluation.intervals import TestSet, rates
from swift_debias.evaluation.metrics import score
from swift_debias.evaluation.thresholds import THRESHOLDS, best_threshold, reached, threshold_curve

NARROW = ("float16", "float32")
GRID = [round(0.01 * n, 2) for n in range(1, 100)]


def drawn(dtype: str, seed: int = 0, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, groups and scores of two decimals, many of which lie on a threshold of `GRID`."""
    rng = np.random.default_rng(seed)
    y, g = rng.integers(0, 2, n), rng.integers(0, 2, n)
    p = np.round((0.4 * y + rng.random(n)) / 1.4, 2).clip(0, 1)
    return y, g, p.astype(dtype)


def test_what_the_reviewer_saw() -> None:
    y = np.array([0, 1] * 40)
    ims = sd.ImageSet.from_arrays(np.zeros((80, 2, 2, 1), np.uint8), y, [0, 0, 1, 1] * 20, None,
                                  (0.5,), (0.5,))  # fmt: skip
    frame = sd.audit(np.where(y == 1, 0.7, 0.3).astype(np.float32), ims, threshold=0.7)
    found = dict(zip(frame["metric"], frame["value"], strict=True))
    assert (found["tpr"], found["fpr"], found["tpr[1]"]) == (1, 0, 1)


@pytest.mark.parametrize("dtype", [*NARROW, "float64"])
def test_decisions_are_numpys_in_the_scores_own_type(dtype: str) -> None:
    y, g, p = drawn(dtype)
    kind = np.dtype(dtype).type
    on = 0
    for t in GRID:
        d = p >= kind(t)  # both of one type: no rule of promotion is asked
        on += int((p == kind(t)).sum())
        assert (reached(p, t) == d).all() and (reached(p, np.float64(t)) == d).all()
        found = audit(y, g, p, ["a", "b"], threshold=t).set_index("metric")["value"]
        assert found["selection_rate"] == pytest.approx(d.mean())
        for group, name in enumerate("ab"):
            of = g == group
            recall = reference.recall_score(y[of], d[of])
            assert found[f"tpr[{name}]"] == pytest.approx(recall)
            negative = reference.recall_score(1 - y[of], 1 - d[of].astype(int))
            assert found[f"tnr[{name}]"] == pytest.approx(negative)
    assert on > 300


@pytest.mark.parametrize("dtype", [*NARROW, "float64"])
def test_the_thresholds_grid_counts_what_lies_on_it(dtype: str) -> None:
    y, g, p = drawn(dtype, 1)
    kind = np.dtype(dtype).type
    accuracy = [reference.balanced_accuracy_score(y, p >= kind(t)) for t in THRESHOLDS]
    best = best_threshold(y, p)
    assert accuracy[int(np.flatnonzero(best == THRESHOLDS)[0])] == pytest.approx(max(accuracy))
    curve = threshold_curve(pd.DataFrame({"dataset": "d", "label": y, "group": g, "score": p}), 2)
    assert curve["balanced_accuracy"].to_numpy() == pytest.approx(accuracy)


def test_metrics_and_intervals_of_a_run_decide_alike() -> None:
    """At the fixed and at the external threshold, on scores of 32 bits that lie on it."""
    y, g, p = drawn("float32", 2)
    on = 0
    for t in (0.2, 0.35, 0.7, 0.83, 0.9):
        d = p >= np.float32(t)
        on += int((d != (p.astype(float) >= t)).sum())
        frame = pd.DataFrame({"dataset": "d", "label": y, "group": g, "score": p, "threshold": t})
        one = score(frame, 2, threshold=t).set_index("metric")["value"]
        tpr = [reference.recall_score(y[g == k], d[g == k]) for k in (0, 1)]
        share = [d[g == k].mean() for k in (0, 1)]
        model = frame.assign(method="m", fold=0, patient_id=None, image_id=np.arange(len(y)))
        table = setup_intervals.setup_intervals(model, 2, 0, 20, threshold=t, baseline=None)
        widths = table.set_index("metric")["value"]
        for end in ("", "@external"):
            assert one[f"eopp{end}"] == pytest.approx(abs(tpr[0] - tpr[1]))
            assert one[f"spd{end}"] == pytest.approx(abs(share[0] - share[1]))
            assert widths[f"spd{end}"] == pytest.approx(one[f"spd{end}"])
            assert widths[f"eodds{end}"] == pytest.approx(one[f"eodds{end}"])
        test = TestSet.of(y, g, None, 2)
        by_group = rates(test, p[None], t).by_group["selection_rate"]
        assert [part.value for part in by_group if part] == pytest.approx(share)
    assert on > 0


@pytest.mark.parametrize("dtype", NARROW)
def test_shortest_decimals(dtype: str) -> None:
    rng = np.random.default_rng(3)
    kind = np.dtype(dtype).type
    numbers = np.concatenate([GRID, rng.random(500), rng.normal(0, 1000, 500)]).astype(dtype)
    found = as_written(numbers)
    assert found.dtype == np.float64 and (found.astype(dtype) == numbers).all()
    assert found[: len(GRID)].tolist() == GRID
    for number, text in zip(numbers, found, strict=True):
        assert text == float(np.format_float_positional(kind(number), unique=True))


@pytest.mark.parametrize("dtype", [*NARROW, "float64"])
def test_a_csv_and_a_parquet_file_of_one_column_are_the_same_table(
    dtype: str, tmp_path: Path
) -> None:
    y, g, p = drawn(dtype, 4)
    rng = np.random.default_rng(5)
    more = rng.normal(0, 50, len(y)).astype(dtype)
    more[::7] = np.nan
    frame = pd.DataFrame({"y": y, "sex": np.where(g, "f", "m"), "p": p, "age": more})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    texts = [read_table(tmp_path / f"t.{end}", ("p", "age")) for end in ("csv", "parquet")]
    for column in ("p", "age"):
        one, other = (pd.to_numeric(text[column]).to_numpy(float) for text in texts)
        np.testing.assert_array_equal(one, other)
    for t in (0.3, 0.7, 0.9):
        audits = []
        for end in ("csv", "parquet"):
            out = tmp_path / f"{end}{t}"
            words = [str(tmp_path / f"t.{end}"), "--label", "y", "--score", "p", "--group", "sex"]
            assert cli.main(["audit", *words, "--threshold", str(t), "--out", str(out)]) == 0
            audits.append(pd.read_csv(f"{out}.csv"))
        pd.testing.assert_frame_equal(*audits)
        rate = audits[0].set_index("metric")["value"]["selection_rate"]
        assert rate == pytest.approx((p >= np.dtype(dtype).type(t)).mean())


@pytest.mark.parametrize("dtype", [*NARROW, "float64", "Float32", "float[pyarrow]"])
def test_cuts_labels_and_groups_of_a_frame(dtype: str, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    for value in (0.7, 3.1, 64.1):
        frame = pd.DataFrame({"f": ["a.png", "b.png"], "y": [0.1, value], "x": [0.2, value]})
        frame = frame.astype({"y": dtype, "x": dtype})
        made = {"size": 8, "root": tmp_path, "positive": value}
        cut = sd.ImageSet.from_frame(frame, "f", "y", "x", cuts=(value,), **made)
        assert cut.groups.tolist() == [0, 1] and cut.labels.tolist() == [0, 1]
        given = {"low": [0.2], "high": [value]}
        named = sd.ImageSet.from_frame(frame, "f", "y", "x", groups=given, **made)
        assert named.groups.tolist() == [0, 1]
        each = sd.ImageSet.from_frame(frame, "f", "y", "x", **made)
        assert each.group_names == ("0.2", str(value))
        pixels = np.zeros((2, 4, 4, 3), np.uint8)
        arrays = sd.ImageSet.from_arrays(pixels, [0, 1], frame["x"])
        assert arrays.group_names == ("0.2", str(value))


def test_two_columns_of_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The library says what the command line says, of every column that is asked for."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    row = {"f": "a.png", "y": 1, "g": "a", "p": 7, "other": 0}
    frame = pd.DataFrame([row, row | {"y": 0, "g": "b"}])
    for column in "fygp":
        twice = pd.concat([frame, frame[[column]]], axis=1)
        said = f"two columns are named {column!r}; rename one, or take it out"
        with pytest.raises(UserError) as error:
            sd.ImageSet.from_frame(twice, "f", "y", "g", "p", size=8, root=tmp_path)
        assert str(error.value) == said
        table = tmp_path / "t.csv"
        twice.to_csv(table, index=False)
        words = ["--label", "y", "--group", "g", "--patient", "p", "--score", "y"]
        if column != "f":
            assert cli.main(["audit", str(table), *words]) == 2
            assert capsys.readouterr().err == f"swift-debias: error: {table}: {said}\n"
    spare = pd.concat([frame, frame[["other"]]], axis=1)  # one that is not asked for
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    spare["f"] = ["a.png", "b.png"]
    assert len(sd.ImageSet.from_frame(spare, "f", "y", "g", "p", size=8, root=tmp_path)) == 2
