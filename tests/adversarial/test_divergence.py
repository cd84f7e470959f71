"""A training that diverges says so in one line and leaves nothing; one that does not is finite.

Every method, and the Baseline's training, at learning rates drawn from usual to absurd.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from swift_debias import methods
from swift_debias.api import choice_of
from swift_debias.config.schema import (
    Augmentation,
    Backbone,
    Compute,
    Finetuning,
    Method,
    Optimizer,
    Pretraining,
)
from swift_debias.errors import NotFiniteError
from swift_debias.evaluation import metrics, thresholds
from swift_debias.learning import networks
from swift_debias.learning.context import Context
from swift_debias.learning.inference import auc
from swift_debias.learning.loop import pretrain
from swift_debias.learning.samples import Samples
from swift_debias.methods import base

NETWORK = Backbone(architecture="small_resnet", options={"width": 8}, dropout=0.0)
RATES = (1e-3, 1.0, 1e3, 1e10, 1e20, 1e30, 1e38)
NAME = "variant skin net sex fold 3"
# a variant of every algorithm that has a learning rate of its own, or takes the shared ones
TRAINED: dict[str, dict[str, Any]] = {
    "fullft": {"prediction_weight": 0.5},
    "bmft": {},
    "swift": {},
    "swift step 2": {"step1": False},
    "llft": {"steps": 110},
    "diffgda": {},
    "groupdro": {},
    "peft": {},
}


def draw_samples(seed: int, n: int = 32) -> Samples:
    """Images of every label and group, from which both can be seen."""
    rng = np.random.default_rng(seed)
    cells = np.arange(n) % 4
    pixels = rng.integers(60, 160, (n, 3, 12, 12)) + 40 * (cells // 2)[:, None, None, None]
    return Samples(
        torch.from_numpy(pixels.astype(np.uint8)),
        torch.arange(n),
        torch.tensor(cells % 2, dtype=torch.float32),
        torch.tensor(cells // 2),
    )


def recipe(optimizer: str, lr: float) -> base.Training:
    return base.Training(
        Pretraining(epochs=1, batch_size=16, optimizer=Optimizer(name=optimizer, lr=lr)),
        Finetuning(epochs_percent=100, lr_extractor=lr, lr_head=lr, min_cell=2, min_group=2),
        Augmentation(),
        Compute(device="cpu"),
    )


def run(variant: Method, training: base.Training, classifier: networks.Classifier) -> Any:
    samples = draw_samples(1)
    return base.debias(
        classifier,
        samples,
        np.ones(len(samples), bool),
        2,
        variant,
        training,
        lambda: choice_of(classifier, samples, 2, training.finetuning),
        seed=0,
        set_seed=0,
        log=io.StringIO(),
        name=NAME,
    )


def assert_finite(classifier: torch.nn.Module) -> None:
    for name, value in classifier.state_dict().items():
        assert value.isfinite().all(), name


def test_every_algorithm_is_tried() -> None:
    untrained = {"baseline", "bn_recalibrate", "dfr", "diffprune", "fairprune", "ssd"}
    untrained |= {"threshold_optimizer"}
    as_fullft = {"reweight", "jtt"}  # the same road, and no state of their own
    tried = {name.split()[0] for name in TRAINED} | untrained | as_fullft
    assert tried == set(methods.available())


@pytest.mark.parametrize("name", TRAINED)
def test_a_method_diverges_in_one_line_or_is_finite(name: str) -> None:
    algorithm, counts = name.split()[0], {"diverged": 0, "finite": 0}
    for optimizer in ("sgd", "adam"):
        for lr in RATES[:: 1 if optimizer == "sgd" else 3]:
            own = {"lr": lr} if algorithm in ("llft", "diffgda") else {}
            variant = Method(algorithm=algorithm, **TRAINED[name], **own)
            try:
                outcome = run(variant, recipe(optimizer, lr), networks.build(NETWORK, 0))
            except NotFiniteError as error:
                (line,) = str(error).splitlines()
                assert line.startswith(f"{NAME}: {'step2' if 'step 2' in name else ''}"), line
                assert "step" in line and "Lower the learning rate" in line, line
                assert f"{lr:g}" in line, line
                counts["diverged"] += 1
            else:
                assert_finite(outcome.classifier)
                for row in outcome.history:
                    numbers = [v for k, v in row.items() if k not in ("stage", "auc")]
                    assert np.isfinite(numbers).all(), row
                counts["finite"] += 1
    print(name, counts)
    assert counts["finite"] >= 2  # at the usual rates
    assert counts["diverged"] >= 1


@pytest.mark.parametrize("lr", RATES)
def test_the_baselines_training_too(lr: float) -> None:
    """Also where it diverges in its very last step, after which no loss is computed."""
    for batch_size in (16, 32):  # 32: one step an epoch
        training = recipe("sgd", lr)
        context = Context(
            seed=0,
            epochs=1,
            batch_size=batch_size,
            optimizer=training.pretraining.optimizer,
            finetuning=training.finetuning,
            augmentation=training.augmentation,
            compute=training.compute,
            log=io.StringIO(),
            name="skin net fold 2",
        )
        classifier = networks.build(NETWORK, 0)
        one = training.pretraining.model_copy(update={"epochs": 1})
        try:
            pretrain(classifier, draw_samples(0), draw_samples(1), one, context)
        except NotFiniteError as error:
            (line,) = str(error).splitlines()
            assert line.startswith("skin net fold 2: ")
            assert lr >= 1e3
        else:
            assert_finite(classifier)
            assert all(np.isfinite(row["validation_auc"]) for row in context.history)


@pytest.mark.parametrize("algorithm", ["baseline", "diffprune", "fairprune", "threshold_optimizer"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["extractor.conv1.weight", "head.1.bias"])
def test_methods_without_a_training_refuse_a_network_that_is_not_finite(
    algorithm: str, value: float, place: str
) -> None:
    classifier = networks.build(NETWORK, 0)
    with torch.no_grad():
        classifier.get_parameter(place).view(-1)[0] = value
    with pytest.raises(NotFiniteError, match=f"^{NAME}: [^\n]* not finite[^\n]*$"):
        run(Method(algorithm=algorithm), recipe("sgd", 1e-3), classifier)


def test_logits_that_are_no_numbers_have_no_auc() -> None:
    labels = torch.tensor([0.0, 1, 0, 1, 1, 0])
    assert np.isnan(auc(torch.full((6,), float("nan")), labels))
    assert np.isnan(auc(torch.tensor([0.1, 0.2, 0.3, 0.4, float("nan"), 0.6]), labels))
    infinite = torch.tensor([-float("inf"), float("inf"), 0.0, 1.0, 2.0, -1.0])
    assert auc(infinite, labels) == 1.0  # these have an order


@pytest.mark.parametrize("seed", range(8))
def test_metrics_of_scores_that_are_no_numbers_have_no_value_but_a_reason(seed: int) -> None:
    rng, n = np.random.default_rng(seed), 60
    groups = rng.integers(-1, 2, n)
    scores = rng.random(n)
    spoiled = rng.choice(np.flatnonzero(groups >= 0), int(rng.integers(1, 20)), replace=False)
    scores[spoiled] = rng.choice([np.nan, np.inf, -np.inf], len(spoiled))
    rows = pd.DataFrame(
        {"dataset": "a", "label": rng.integers(0, 2, n), "group": groups, "score": scores}
    )
    found = metrics.score(rows, groups=2).set_index("metric")
    touched = {f"[{group}]" for group in groups[spoiled]}
    for name, row in found.iterrows():
        if str(name).startswith("n"):  # counts
            continue
        if "[" not in str(name) or str(name)[-3:] in touched:
            assert np.isnan(row["value"]) and "not finite" in row["reason"], name
        else:
            assert np.isfinite(row["value"]), name
    with pytest.raises(ValueError, match="not finite"):
        thresholds.best_threshold(rows["label"].to_numpy(), scores)
