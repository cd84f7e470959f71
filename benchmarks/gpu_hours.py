"""GPU hours of the whole paper, projected from measured speeds.

    python -m benchmarks.gpu_hours

Reads results/training_step.json and results/importance.json of a GPU and counts, from
config/config.yaml and the paper's numbers of images (resources/expected_counts.yaml), how many
images each stage passes through each network:

- training: Baselines with their validation after each epoch, and the fine-tuning passes of the
  methods (their steps, searches and epochs)
- evaluation (forwards only, fp32): features of the frozen extractor, evaluations of DiffGda and
  DiffPrune, test sets
- importance: of all methods, once a fold and attribute; FairPrune's own iterations; DiffPrune's

Only passes count: reading images, starting jobs and what runs on CPUs come on top. The sizes of the
external sets are the paper's where it gives them, else a fold.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import yaml
from benchmarks.common import RESULTS, expected_views, parser, write

from swift_debias import methods
from swift_debias.config import load
from swift_debias.config.schema import Settings, Task
from swift_debias.data.adapters import available

PROJECT = Path(__file__).parents[1]
Passes = Counter[str]  # "training", "evaluation", "importance" -> images


def read_settings() -> Settings:
    raw = yaml.safe_load((PROJECT / "config" / "config.yaml").read_text())
    models, adapters = methods.settings_models(), available()
    return load.load(raw, PROJECT, algorithms=models, adapters=adapters)


def of_method(algorithm: str, options: Any, full: float, balanced: float, epochs: int) -> Passes:
    """Image passes of one method on one fold; each importance comes with a forward pass."""
    if algorithm == "baseline":
        return Passes()
    if algorithm == "fullft":
        return Passes(training=epochs * (balanced if options.balanced else full))
    if algorithm == "llft":
        return Passes(evaluation=full)
    if algorithm == "diffgda":
        evaluations = 1 + epochs * options.evaluations
        return Passes(training=epochs * full, evaluation=evaluations * full)
    if algorithm == "diffprune":
        steps = options.max_steps
        return Passes(evaluation=(1 + steps) * full, importance=steps * full)
    if algorithm == "fairprune":
        return Passes(evaluation=full, importance=(options.iterations - 1) * full)
    features = expected_views(epochs)
    if algorithm == "bmft":
        return Passes(training=epochs * full, evaluation=features * full)
    if algorithm == "swift":
        searched = len(options.hard_rates) if options.mask == "hard" else 1
        return Passes(
            training=searched * epochs * balanced * options.step1,
            evaluation=searched * features * balanced * options.step2,
        )
    raise ValueError(f"no count of the passes of {algorithm!r}: add it here")


def count(settings: Settings) -> dict[str, dict[str, Passes]]:
    """Architecture -> stage -> passes."""
    known = yaml.safe_load((PROJECT / "resources" / "expected_counts.yaml").read_text())
    adapters = {name: dataset.adapter for name, dataset in settings.datasets.items()}

    def pool(task: Task) -> dict[str, Any]:
        trained = [adapters[name] for name in task.train]
        return next(entry for entry in known["pools"] if entry["adapters"] == trained)

    found: dict[str, dict[str, Passes]] = defaultdict(lambda: defaultdict(Passes))
    folds = settings.folds
    cells = settings.cells()
    for task_name, backbone in sorted({(task, backbone) for task, backbone, _ in cells}):
        task = settings.tasks[task_name]
        sizes, epochs = pool(task), task.pretraining.epochs
        found[settings.backbones[backbone].architecture]["Baselines"] += Passes(
            # Watching the held-out AUC is a forward pass in bf16, counted as a whole step: at most.
            training=folds * epochs * (sizes["paper_train"] + sizes["paper_validation"])
        )
    for (task_name, backbone, attribute), names in cells.items():
        task, stages = settings.tasks[task_name], found[settings.backbones[backbone].architecture]
        full = pool(task)["paper_validation"]
        balanced = pool(task)["paper_external"].get(attribute, full)
        images = sum(known["datasets"][adapters[name]]["paper"] for name in task.tests[attribute])
        stages["evaluation"] += Passes(evaluation=folds * len(names) * images)
        stages["importances"] += Passes(importance=folds * (full + balanced))
        for name in names:
            method = settings.methods[name]
            percent = method.epochs_percent or task.finetuning.epochs_percent
            options = methods.load(method.algorithm).Settings(**method.settings)
            share, steps = method.external_fraction, round(task.pretraining.epochs * percent / 100)
            passes = of_method(method.algorithm, options, share * full, share * balanced, steps)
            stages["debiasing"] += Passes({kind: folds * n for kind, n in passes.items()})
            if share < 1:  # a part of the external set has importances of its own
                own = share * (full + balanced)
                stages["importances"] += Passes(importance=folds * own)
    return found


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__).parse_args(arguments)
    step, importance = (
        json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("training_step", "importance")
    )
    if not step["machine"]["gpu"]:
        print("GPU hours: results/training_step.json was not measured on a GPU")
        return
    results: dict[str, Any] = {}
    for network, stages in count(read_settings()).items():
        speed, cost = step["results"][network], importance["results"][network]
        rates = {
            "training": speed["images_per_second"],
            "evaluation": speed["evaluation_images_per_second"],
            "importance": cost["floor_images_per_second"] / cost["ratio_to_floor"]["both"],
        }
        hours = {
            stage: sum(n / rates[kind] for kind, n in passes.items()) / 3600
            for stage, passes in stages.items()
        }
        results[network] = {
            "images_per_second": {kind: round(rate, 1) for kind, rate in rates.items()},
            "million_passes": {
                stage: {kind: round(n / 1e6, 2) for kind, n in passes.items() if n}
                for stage, passes in stages.items()
            },
            "gpu_hours": {stage: round(value, 2) for stage, value in hours.items()},
            "gpu_hours_in_all": round(sum(hours.values()), 1),
        }
    results["gpu"] = step["machine"]["gpu"]
    results["gpu_hours_of_the_paper"] = round(
        sum(found["gpu_hours_in_all"] for found in results.values() if isinstance(found, dict)), 1
    )
    write("gpu_hours", options, results)


if __name__ == "__main__":
    main()
