"""The seven classes of HAM10000 by the library alone: the settings of config/ham10000_classes.yaml.

    python benchmarks/seven_classes.py FOLDER fold N     # one fold: trains, debiases, scores
    python benchmarks/seven_classes.py FOLDER report     # tables of all folds that were made

The same steps as the workflow's rules, without the search for duplicates (the parts of the pool and
of the test set share no lesion) and in one process a fold. FOLDER gets scores and tables.
"""

from __future__ import annotations

import copy
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from swift_debias.config.schema import Attribute, Backbone, Compute, Method, Task
from swift_debias.data import adapters
from swift_debias.data.classes import label_classes
from swift_debias.data.folds import make_folds
from swift_debias.data.groups import groups_in
from swift_debias.data.image_set import HeldImages, read_files
from swift_debias.data.normalization import Normalization
from swift_debias.evaluation import class_intervals, one_vs_rest
from swift_debias.learning import inference, loop, networks, objectives
from swift_debias.learning.context import Context
from swift_debias.learning.samples import Samples, make_samples
from swift_debias.methods import _external, base
from swift_debias.methods._choice import Choice
from swift_debias.seeds import debias_seed, derive_seed, external_seed

PROJECT = Path(__file__).resolve().parents[1]
NAMES = ("seven", "small_resnet", "sex")
SHOWN = ("auc", "balanced_accuracy", "accuracy", "spd", "eopp", "eodds", "auc_min")
SHOWN += ("sensitivity_at_90",)


class Setup:
    """The configuration's one setup, and its images."""

    def __init__(self) -> None:
        config = yaml.safe_load((PROJECT / "config/ham10000_classes.yaml").read_text())
        self.config, self.seed, self.folds = config, config["seed"], config["folds"]
        self.task = Task(**config["tasks"]["seven"])
        self.classes = self.task.class_names
        self.attribute = Attribute(**config["attributes"]["sex"])
        self.backbone = Backbone(**config["backbones"]["small_resnet"])
        self.compute = Compute(device="cpu")
        self.pool, self.test = (self.manifest(n) for n in ("ham10000", "ham10000_held_out"))
        cut = self.pool.assign(cluster=self.pool["lesion_id"])
        groups = pd.DataFrame({"sex": groups_in(cut, self.attribute)}, index=cut.index)
        made = make_folds(cut, groups, self.folds, self.seed, len(self.classes))
        self.pool["fold"] = made["fold"].to_numpy()

    def manifest(self, name: str) -> pd.DataFrame:
        options = adapters.make_options(self.config["datasets"][name])
        result = label_classes(adapters.read(options, Path()), self.task.classes or {}, name)
        return result.frame.assign(dataset=name, root=options.root)

    def samples(self, frame: pd.DataFrame, groups: np.ndarray) -> Samples:
        images = self.task.images
        paths = [Path(root) / path for root, path in zip(frame["root"], frame["path"], strict=True)]
        return make_samples(
            HeldImages(read_files(paths, images, workers=1)),
            np.arange(len(frame)),
            frame["label"].to_numpy(),
            groups,
            torch.device("cpu"),
            "off",
            Normalization.of(images.mean, images.std),
            len(self.classes),
        )


def run_fold(setup: Setup, fold: int, folder: Path) -> None:
    """Baseline, external set and every method of one fold; scores of the test set."""
    task, pool, seed = setup.task, setup.pool, setup.seed
    groups = groups_in(pool, setup.attribute)
    samples = setup.samples(pool, groups)
    held_out = (pool["fold"] == fold).to_numpy()
    context = Context(
        seed=derive_seed(seed, "baseline", *NAMES[:2], fold),
        epochs=task.pretraining.epochs,
        batch_size=task.pretraining.batch_size,
        optimizer=task.pretraining.optimizer,
        finetuning=task.finetuning,
        augmentation=task.augmentation,
        compute=setup.compute,
    )
    baseline = networks.build(setup.backbone, context.seed, len(setup.classes))
    inner, validation = samples.subset(~held_out), samples.subset(held_out)
    loop.pretrain(baseline, inner, validation, task.pretraining, context)
    draws = external_seed(seed, NAMES[0], NAMES[2], fold)
    made = _external.make_external(
        pool, groups, fold, 2, task.finetuning.min_cell, np.random.default_rng(draws),
        setup.attribute.group_names, len(setup.classes),
    )  # fmt: skip
    external = samples.subset(held_out & (groups >= 0))
    test = setup.samples(setup.test, groups_in(setup.test, setup.attribute))
    training = base.Training(task.pretraining, task.finetuning, task.augmentation, setup.compute)
    for name, entry in setup.config["methods"].items():
        started = time.process_time()
        outcome = base.debias(
            copy.deepcopy(baseline.eval()), external, made.frame["balanced"].to_numpy(), 2,
            Method(**entry), training, lambda: Choice(None, None, {}),
            seed=debias_seed(seed, *NAMES, fold, 0), set_seed=draws, name=f"{name} fold {fold}",
        )  # fmt: skip
        scores = objectives.probabilities(inference.predict(outcome.classifier, test)).numpy()
        columns = dict(zip(one_vs_rest.score_columns(len(setup.classes)), scores.T, strict=True))
        frame = setup.test[["dataset", "image_id", "patient_id", "label"]].assign(
            **columns, group=test.attributes.numpy(), method=name, fold=fold
        )
        frame["patient_id"] = setup.test["lesion_id"]  # who a patient is is not known: lesions
        frame.to_parquet(folder / f"{name}_{fold}.parquet")
        print(f"{name} fold {fold}: {time.process_time() - started:.0f} CPU seconds", flush=True)


def report(setup: Setup, folder: Path) -> None:
    """Means over folds, with intervals where there are any."""
    frame = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*_?.parquet"))])
    frame = frame.reset_index(drop=True)
    disease = setup.task.disease_class
    scored = [
        one_vs_rest.score(part, 2, setup.classes, task_min_group(setup), disease).assign(
            method=method, fold=fold
        )
        for (method, fold), part in frame.groupby(["method", "fold"])
    ]
    metrics = pd.concat(scored)
    means = metrics.pivot_table(index="method", columns="metric", values="value", dropna=False)
    order = [name for name in setup.config["methods"] if name in means.index]
    tables = [list(SHOWN)]
    tables += [[f"{kind}@{name}" for name in setup.classes] for kind in ("auc", "eodds", "tpr")]
    for columns in tables:
        print(means.loc[order, columns].round(3).to_markdown())
    known = frame[(frame["method"] == order[0]) & (frame["fold"] == frame["fold"].min())]
    print(pd.crosstab(known["label"].map(dict(enumerate(setup.classes))), known["group"]))
    found = class_intervals.class_intervals(frame, setup.classes, 2, setup.seed)
    wanted = [*class_intervals.LINEAR, *(f"eodds@{name}" for name in setup.classes)]
    columns = ["metric", "method", "value", "low", "high", "difference", "difference_low"]
    columns += ["difference_high", "floor_95", "below_floor"]
    shown = found[found["metric"].isin(wanted)][columns].round(3)
    print(shown.to_markdown(index=False))
    metrics.to_csv(folder / "metrics.csv", index=False)
    found.to_csv(folder / "intervals.csv", index=False)


def task_min_group(setup: Setup) -> int:
    return setup.task.finetuning.min_group


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    if sys.argv[2] == "fold":
        run_fold(Setup(), int(sys.argv[3]), place)
    else:
        report(Setup(), place)
