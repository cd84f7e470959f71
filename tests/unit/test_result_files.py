"""Many result files become one table, with keys from their paths."""

from pathlib import Path

import pandas as pd

from swift_debias.files import write_parquet
from swift_debias.run import results


def test_predictions_carry_the_keys_of_their_path(tmp_path: Path) -> None:
    paths = []
    for method, fold, score in (("swift", 0, 0.1), ("swift", 12, 0.2), ("llft", 1, 0.3)):
        paths.append(tmp_path / f"predictions/skin/resnet50/sex/{method}/fold{fold}.parquet")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        write_parquet(pd.DataFrame({"group": [1], "score": [score]}), paths[-1])
    found = results.read("predictions", paths)
    keys = ["task", "backbone", "attribute", "method", "fold", "group", "score"]
    assert found[keys].to_numpy().tolist() == [
        ["skin", "resnet50", "sex", "swift", 0, 1, 0.1],
        ["skin", "resnet50", "sex", "swift", 12, 1, 0.2],
        ["skin", "resnet50", "sex", "llft", 1, 1, 0.3],
    ]


def test_summaries_carry_the_keys_of_their_path(tmp_path: Path) -> None:
    path = tmp_path / "importance/cxr/densenet121/age/fold3.mask_summary.parquet"
    path.parent.mkdir(parents=True)
    write_parquet(pd.DataFrame({"layer": ["head"], "mean": [0.5]}), path)
    (row,) = results.read("mask_summary", [path]).to_dict("records")
    place = {"task": "cxr", "backbone": "densenet121", "attribute": "age", "fold": 3}
    assert row == {"layer": "head", "mean": 0.5} | place


def test_no_files_are_an_empty_table() -> None:
    assert results.read("mask_summary", []).empty
