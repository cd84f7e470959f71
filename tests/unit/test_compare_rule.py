"""`swift-debias compare`: a method that decides by a rule is judged by its decisions."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fairlearn.metrics import equalized_odds_difference

from swift_debias import methods
from swift_debias.compare import run
from swift_debias.config.schema import Method
from swift_debias.evaluation.cells import Block
from swift_debias.learning import devices, networks
from swift_debias.methods._outside import load_outside

PROJECT = Path(__file__).resolve().parents[2]
TASK = "correlation_90"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[str]:
    """The threshold optimizer as somebody's own file."""
    source = PROJECT / "workflow/scripts/swift_debias/methods/threshold_optimizer.py"
    (tmp_path / "my_thresholds.py").write_text(source.read_text())
    yield load_outside(tmp_path / "my_thresholds.py")
    methods.OUTSIDE.clear()
    methods.load.cache_clear()


def test_what_a_rule_decides_is_judged(
    outside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = run.read_settings(PROJECT / "config/benchmark.yaml")
    drawn = settings.synthetic
    assert drawn is not None
    few = {name: one.model_copy(update={"images": 160}) for name, one in drawn.populations.items()}
    settings = settings.model_copy(
        update={
            "folds": 2,
            "repeats": 1,
            "synthetic": drawn.model_copy(update={"populations": few}),
        }
    )
    made: list[Any] = []
    original = run.debias

    def kept(*arguments: Any, **options: Any) -> Any:
        made.append(original(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(run, "debias", kept)
    variants = {
        outside: Method(algorithm=outside, title="Mine"),
        "baseline": settings.methods["baseline"],
    }
    case = run.case_of(settings, TASK, "tone")
    (tmp_path / TASK).mkdir()
    bench = run._Bench(settings, variants, case, "small_resnet", tmp_path, lambda _: None)
    network = devices.place(
        networks.build(settings.backbones["small_resnet"], 0), bench.device, settings.compute
    )
    monkeypatch.setattr(bench, "model", lambda _fold: copy.deepcopy(network))

    found, _ = bench.predictions(outside)
    assert [one.rule is not None for one in made] == [True, True]
    for fold, part in found.groupby("fold"):
        names = [f"{row.dataset}/{row.image_id}" for row in part.itertuples()]
        scores, groups = part["score"].to_numpy(), part["group"].to_numpy()
        expected = made[fold].rule.decide(scores, groups, names)
        np.testing.assert_array_equal(part["decision"], expected)
    assert (found["decision"] != (found["score"] >= 0.5)).any()

    block = Block(TASK, "small_resnet", "tone", ("test",), (outside,), ("eodds", "auc"))
    tidy = found.assign(**run._panel(block), method=outside)
    spent = run.pd.DataFrame([{**run._panel(block), "method": outside, "seconds": 1.0}])
    entries = run._judged(settings, [block], tidy, spent).entries
    eodds = entries.loc[entries["method"] == outside, "eodds"].item()
    theirs = [
        equalized_odds_difference(
            part["label"], part["decision"], sensitive_features=part["group"], agg="mean"
        )
        for _, part in found.groupby("fold")
    ]
    assert eodds == pytest.approx(np.mean(theirs))
