"""Rows with label and group: measured skin tone fills gaps, unreadable images are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from swift_debias.labelled import read_labelled, with_skin_tone
from swift_debias.settings import Attribute

TYPES = Attribute(column="fitzpatrick", groups={"light": (1, 2, 3), "dark": (4, 5, 6)})


def tones(folder: Path, dataset: str, values: dict[str, float]) -> Path:
    """A file as rule annotate_skin_tone writes it."""
    path = folder / f"{dataset}.parquet"
    frame = pd.DataFrame({"image_id": list(values), "fitzpatrick": list(values.values())})
    frame.assign(ita=0.0).to_parquet(path)
    return path


def test_skin_tone_fills_what_the_source_does_not_know(tmp_path: Path) -> None:
    rows = [("x", "1", 2.0), ("x", "2", np.nan), ("y", "2", np.nan), ("z", "1", np.nan)]
    frame = pd.DataFrame(rows, columns=["dataset", "image_id", "fitzpatrick"])
    files = [
        tones(tmp_path, "x", {"1": 6.0, "2": 5.0, "3": 1.0}),
        tones(tmp_path, "y", {"2": 3.0}),
    ]
    found = with_skin_tone(frame, files)
    assert list(found.columns) == list(frame.columns)
    np.testing.assert_equal(found["fitzpatrick"].to_numpy(), [2, 5, 3, np.nan])
    pd.testing.assert_frame_equal(with_skin_tone(frame, []), frame)


def test_an_image_that_was_measured_twice_is_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"dataset": ["x"], "image_id": ["1"], "fitzpatrick": [np.nan]})
    path = tones(tmp_path, "x", {"1": 1.0})
    pd.concat([pd.read_parquet(path)] * 2).to_parquet(path)
    with pytest.raises(pd.errors.MergeError):
        with_skin_tone(frame, [path])


def test_readable_images_of_several_sets_with_their_groups(tmp_path: Path) -> None:
    manifests, indexes = [], []
    for dataset, types, errors in (
        ("x", [1.0, 4.0, np.nan], [None, "broken", None]),
        ("y", [np.nan, 6.0], [None, None]),
    ):
        ids = [f"{dataset}{place}" for place in range(len(types))]
        manifests.append(tmp_path / f"{dataset}.manifest.parquet")
        frame = pd.DataFrame({"image_id": ids, "fitzpatrick": types})
        frame["label"] = np.array([1, 0, 1][: len(ids)], dtype=np.int8)
        frame.to_parquet(manifests[-1])
        indexes.append(tmp_path / f"{dataset}.index.parquet")
        pd.DataFrame({"image_id": ids, "error": errors}).to_parquet(indexes[-1])
    measured = [tones(tmp_path, "y", {"y0": 2.0, "y1": 1.0})]
    found = read_labelled(
        ["x", "y"],
        list(map(str, manifests)),
        list(map(str, indexes)),
        list(map(str, measured)),
        TYPES,
    )
    assert found[["dataset", "image_id", "label", "attribute"]].to_numpy().tolist() == [
        ["x", "x0", 1, 0],
        ["x", "x2", 1, -1],  # neither annotated nor measured
        ["y", "y0", 1, 0],  # measured
        ["y", "y1", 0, 1],  # annotated: the measurement has no say
    ]
