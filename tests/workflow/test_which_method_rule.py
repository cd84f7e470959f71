"""Rule which_method: which runs have it, what it is given, and who reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from dag import jobs_of

from swift_debias.config import drawn_biases

PROJECT = Path(__file__).resolve().parents[2]
CELL = "small_resnet/tone"


def planned(folder: Path, **changes: Any) -> dict[str, Any]:
    """The answer's job and the report's, of the benchmark with some keys laid over it."""
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({"extends": str(PROJECT / "config/benchmark.yaml"), **changes}))
    with jobs_of(folder, path) as (jobs, _):
        [report] = jobs["report"]
        return {"report": report, "answers": jobs.get("which_method", [])}


def read_by(report: Any) -> list[str]:
    return [str(path) for path in report.input.get("which_method")]


def test_the_rule_is_given_every_known_bias(tmp_path: Path) -> None:
    """Of a piece: two biased pools, and the clean one whose Baseline is the oracle."""
    plan = planned(tmp_path, only=["correlation"])
    [job] = plan["answers"]
    assert read_by(plan["report"]) == [str(job.output[0])] == ["results/benchmark/which_method"]
    tasks = ("clean", "correlation_50", "correlation_90")
    for kind, file in (
        ("intervals", "intervals/{}.parquet"),
        ("plausibility", "plausibility/{}.parquet"),
        ("repeats", "metrics/{}.repeats.parquet"),
    ):
        wanted = {f"results/benchmark/{file.format(f'{task}/{CELL}')}" for task in tasks}
        assert {str(path) for path in job.input.get(kind)} == wanted
    given = yaml.safe_load((PROJECT / "config/benchmark.yaml").read_text())
    params = job.params
    assert (params.run, params.folds, params.repeats) == ("benchmark", 3, 2)
    assert params.baseline == "baseline"
    methods = given["experiments"]["correlation"]["methods"]
    assert params.titles == {name: given["methods"][name]["title"] for name in methods}
    strengths = {"clean": 0.0, "correlation_50": 0.5, "correlation_90": 0.9}
    assert params.biases == {
        task: {
            "kind": "correlation" if strength else "none",
            "strength": strength,
            "external": 800,
            "external_biased": False,
        }
        for task, strength in strengths.items()
    }


PANEL = {"backbone": "small_resnet", "attribute": "tone"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"only": ["clean"]}, "no bias"),
        (
            {"experiments": {"correlation": {"panels": [PANEL | {"task": "correlation_50"}]}}},
            "no oracle",
        ),
        (
            {
                "experiments": {
                    "correlation": {
                        "panels": [
                            PANEL | {"task": "clean", "methods": ["swift"]},
                            PANEL | {"task": "correlation_50"},
                        ]
                    }
                }
            },
            "the clean pool without the Baseline",
        ),
        (
            {"tasks": {"clean": {"external": ["external_correlation"]}}},
            "the oracle's external set is biased",
        ),
        ({"tasks": {"clean": {"external": []}}}, "a fold of the pool, not drawn by itself"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_without_an_oracle_or_a_bias_the_report_has_no_answer(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    plan = planned(tmp_path, **{"only": ["correlation"], **changes})
    assert plan["answers"] == [], why
    assert read_by(plan["report"]) == []


def test_a_bias_is_known_where_every_set_is_drawn() -> None:
    """Each task by hand; the first bias of several pools is the task's, sizes are added up."""
    tied = {"kind": "correlation", "strength": 0.9}
    drawn = {
        "fair": {"images": 10, "bias": None},
        "zero": {"images": 10, "bias": {"kind": "correlation", "strength": 0}},
        "tied": {"images": 10, "bias": tied},
        "few": {"images": 10, "bias": {"kind": "imbalance", "strength": 0.9}},
        "gone": {"images": 10, "bias": {"kind": "imbalance", "strength": 1}},
        "small": {"images": 50},
        "large": {"images": 800, "bias": tied},
    }

    def task(train: list[str], external: list[str] | None) -> dict[str, Any]:
        return {"train": train, "external": external, "folds": 3}

    found = drawn_biases.of_tasks(
        drawn,
        {
            "fair": task(["fair"], ["small"]),
            "zero": task(["zero"], ["small"]),
            "tied": task(["tied"], ["small"]),
            "mixed": task(["fair", "few", "tied"], ["small", "large"]),
            "gone": task(["gone"], ["large"]),
            "own": task(["isic"], ["small"]),
            "half": task(["tied", "isic"], ["small"]),
            "real_external": task(["tied"], ["small", "isic"]),
            "folds": task(["tied"], []),
            "none": task(["tied"], None),
        },
    )
    assert {name: tuple(bias) for name, bias in found.items()} == {
        "fair": ("none", 0.0, 50, False),
        "zero": ("none", 0.0, 50, False),
        "tied": ("correlation", 0.9, 50, False),
        "mixed": ("imbalance", 0.9, 850, True),
        "gone": ("absence", 1.0, 800, True),
    }
