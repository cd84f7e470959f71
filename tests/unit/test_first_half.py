"""A first step that variants share: its halves, one after the other, give the whole to the bit."""

from __future__ import annotations

import copy
import io
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from swift_debias import methods
from swift_debias.config.schema import (
    Augmentation,
    Backbone,
    Compute,
    Finetuning,
    Method,
    Optimizer,
    Pretraining,
)
from swift_debias.learning import networks
from swift_debias.learning.networks import Classifier
from swift_debias.learning.samples import ExternalSet, Samples
from swift_debias.methods import base
from swift_debias.methods._choice import Choice
from swift_debias.methods.swift import Settings

# SWiFT's settings of step 1, each with another value than the default, and those of step 2 alone.
# With `step1` and `step2` these are all; `title` and `external_fraction` are the variant's.
STEP_1: dict[str, Any] = {
    "mask": "random",
    "estimator": "per_sample",
    "normalization": "zscore",
    "percentile": 90.0,
    "hard_rates": (0.2, 0.4),
    "prediction_weight_1": 0.4,
    "masked": "gradient",
    "refresh_mask": 3,
}
STEP_2: dict[str, Any] = {
    "prediction_weight_2": 0.6,
    "reinit": "full",
    "threshold": 0.7,
    "reinit_bias": True,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "swift": {},
    "random": {"mask": "random"},
    "none": {"mask": "none", "prediction_weight_1": 0.7},
    "zscore": {"normalization": "zscore", "reinit": "none"},
    "percentile": {"normalization": "percentile", "percentile": 80.0, "reinit": "full"},
    "per_sample": {"estimator": "per_sample", "threshold": 0.4},
    "gradient": {"masked": "gradient", "reinit_bias": True, "prediction_weight_2": 0.2},
    "no_step2": {"step2": False},
    "epochs": {"epochs_percent": 30},
    "refresh": {"refresh_mask": 1},
}


def variant(**keys: Any) -> Method:
    return Method(algorithm="swift", **keys)


def training(optimizer: str = "sgd", batchnorm: Any = "train", epochs: int = 20) -> base.Training:
    """Two epochs a step by default; flips are drawn, and batches."""
    recipe = Optimizer(name=optimizer, lr=0.01)
    finetuning = Finetuning(lr_extractor=0.02, lr_head=0.1, batchnorm=batchnorm, min_cell=1)
    return base.Training(
        Pretraining(epochs=epochs, batch_size=16, optimizer=recipe),
        finetuning,
        Augmentation(),
        Compute(device="cpu"),
    )


def run(
    classifier: Classifier,
    external: ExternalSet,
    method: Method,
    recipe: base.Training,
    importance: Any,
    first: base.First | None = None,
    seed: int = 5,
) -> base.Outcome:
    """A variant, by the road of rule `debias`, from a copy of the classifier."""
    balanced = np.isin(external.full.rows, external.balanced.rows)
    return base.debias(
        copy.deepcopy(classifier), external.full, balanced, 2, method, recipe,
        lambda: Choice(None, 0, {}),
        seed=seed, set_seed=9, stored=lambda: importance, first=first, log=io.StringIO(),
    )  # fmt: skip


def with_a_bias_to_zero(importance: Any) -> Any:
    """The mask of the head's bias is 1, so that `reinit_bias` makes a difference."""
    for name, value in (("bias", 1.0), ("prediction", 0.01)):
        importance[f"minibatch.balanced.{name}"]["head.1.bias"].fill_(value)
    return importance


def first_of(outcome: base.Outcome) -> base.First:
    """What the files of a first step hold."""
    state = {name: value.clone() for name, value in outcome.classifier.state_dict().items()}
    return base.First(state, copy.deepcopy(outcome.history), dict(outcome.cost))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def assert_halves_are_the_whole(
    classifier: Classifier,
    external: ExternalSet,
    whole: Method,
    recipe: base.Training,
    importance: Any,
) -> base.Outcome:
    """Of one variant: weights, buffers, history, masks, and the summed cost."""
    external.full.seen[0] = 0
    expected = run(classifier, external, whole, recipe, importance)
    shared = methods.shared_first(whole)
    assert shared is not None
    external.full.seen[0] = 0
    half = run(classifier, external, shared, recipe, importance)
    assert {row["stage"] for row in half.history} == {"step1"}
    first = first_of(half)
    first.cost.update(seconds=1000.0, peak_memory_mb=10.0**6)
    external.full.seen[0] = 0
    found = run(classifier, external, whole, recipe, importance, first)
    assert_same(found.classifier.state_dict(), expected.classifier.state_dict())
    assert_same(found.masks, expected.masks)
    assert found.history == expected.history
    for key in ("images_seen", "parameters_changed", "buffers_changed", "parameters", "device"):
        assert found.cost[key] == expected.cost[key], key
    assert found.cost.keys() == expected.cost.keys()
    assert 1000 <= found.cost["seconds"] < 1100
    assert found.cost["peak_memory_mb"] == 10.0**6
    assert found.cost["images_seen"] > half.cost["images_seen"] or not whole.settings.get(
        "step2", True
    )
    return found


@pytest.mark.key("method.batchnorm")
@pytest.mark.parametrize("batchnorm", ["train", "eval", "masked"])
@pytest.mark.parametrize("name", VARIANTS)
def test_two_halves_are_the_whole(
    name: str,
    batchnorm: Any,
    make_classifier: Any,
    make_external: Any,
    make_importance: Any,
) -> None:
    """The task's BatchNorm is another: the variant's own holds in both halves."""
    classifier, external = make_classifier(), make_external(80, 1)
    recipe = training(batchnorm="eval" if batchnorm == "train" else "train")
    whole = variant(**VARIANTS[name], batchnorm=batchnorm)
    importance = make_importance(classifier)
    found = assert_halves_are_the_whole(classifier, external, whole, recipe, importance)
    assert (found.cost["buffers_changed"] == 0) == (batchnorm == "eval")
    epochs = 6 if name == "epochs" else 2
    stages = ["step1", "step2"] if name != "no_step2" else ["step1"]
    assert [(row["stage"], row["epoch"]) for row in found.history] == [
        *itertools.product(stages, range(1, epochs + 1))
    ]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("architecture", ["small_resnet", "small_densenet"])
@pytest.mark.parametrize("mask", ["soft", "random"])
def test_two_halves_are_the_whole_of_real_networks(
    architecture: str, optimizer: str, mask: str, make_external: Any, make_importance: Any
) -> None:
    classifier = networks.build(Backbone(architecture=architecture), seed=1).eval()
    whole, recipe = variant(mask=mask), training(optimizer, epochs=10)
    small = make_external(48, 1)
    pixels = small.full.source.repeat_interleave(3, 2).repeat_interleave(3, 3)  # 36 a side
    full = Samples(pixels, small.full.rows, small.full.labels, small.full.attributes)
    external = ExternalSet(full, full.subset(small.balanced.rows))
    importance = make_importance(classifier)
    assert_halves_are_the_whole(classifier, external, whole, recipe, importance)


def test_one_first_step_serves_every_variant_that_has_it(
    make_classifier: Any, make_external: Any, make_importance: Any
) -> None:
    """It is not changed by those that go on from it."""
    classifier, external, recipe = make_classifier(), make_external(80, 1), training()
    importance, outcomes = with_a_bias_to_zero(make_importance(classifier)), []
    step = methods.shared_first(variant())
    assert step is not None
    first = first_of(run(classifier, external, step, recipe, importance))
    for keys in ({}, *({key: value} for key, value in STEP_2.items()), {"step2": False}, {}):
        whole = variant(**keys)
        assert methods.shared_first(whole) == step
        expected = run(classifier, external, whole, recipe, importance)
        found = run(classifier, external, whole, recipe, importance, first)
        assert_same(found.classifier.state_dict(), expected.classifier.state_dict())
        assert found.history == expected.history
        outcomes.append(torch.cat([p.flatten() for p in found.classifier.head.parameters()]))
    assert torch.equal(outcomes[0], outcomes[-1])
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(outcomes[:-1], 2))


@pytest.mark.parametrize(("key", "value"), STEP_2.items())
def test_variants_that_differ_in_step_2_have_the_same_rows_of_step_1(
    key: str, value: Any, make_classifier: Any, make_external: Any, make_importance: Any
) -> None:
    """Run whole, each by itself: the draws are paired. Another seed gives others."""
    classifier, external, recipe = make_classifier(), make_external(80, 1), training()
    importance = with_a_bias_to_zero(make_importance(classifier))

    def steps(seed: int, **keys: Any) -> tuple[list[Any], list[Any]]:
        outcome = run(classifier, external, variant(**keys), recipe, importance, seed=seed)
        rows = [[r for r in outcome.history if r["stage"] == s] for s in ("step1", "step2")]
        return rows[0], rows[1]

    mine, yours, other = steps(5), steps(5, **{key: value}), steps(6)
    assert mine[0] == yours[0] and len(mine[0]) == 2
    assert mine[1] != yours[1]
    assert mine[0] != other[0]


def test_every_setting_belongs_to_a_step() -> None:
    learned = {"thresholds"}  # read with `threshold: learned` alone, which shares nothing
    assert {*STEP_1, *STEP_2, "step1", "step2"} | learned == set(Settings.model_fields)


def test_the_first_step_is_the_same_for_the_same_computation_only() -> None:
    """Settings of step 2, and how a variant is called, do not matter; each of step 1 does."""
    step = methods.shared_first(variant())
    for keys in ({"title": "Ours"}, {"step2": False}, STEP_2, {"mask": "soft"}):
        assert methods.shared_first(variant(**keys)) == step, keys
    of_step_1 = STEP_1 | {"epochs_percent": 30, "batchnorm": "eval", "batches": "cells"}
    others = [methods.shared_first(variant(**{k: v})) for k, v in of_step_1.items()]
    assert None not in others and step not in others
    for one, other in itertools.combinations(others, 2):
        assert one != other
    # an override that says what the task says anyway may be another one's tomorrow
    assert methods.shared_first(variant(batchnorm="train")) != step


@pytest.mark.parametrize(
    "keys",
    [
        {"external_fraction": 0.5},  # its importances are of its own part, and of the start model
        {"mask": "hard"},  # a rate is judged after both steps
        {"step1": False},
        {"threshold": "learned"},  # judged after both steps on a part
    ],
    ids=str,
)
def test_what_has_no_first_step_to_share(keys: dict[str, Any]) -> None:
    assert methods.shared_first(variant(**keys)) is None


@pytest.mark.parametrize("algorithm", sorted({*methods.available()} - {"swift"}))
def test_no_other_method_shares(algorithm: str) -> None:
    assert methods.shared_first(Method(algorithm=algorithm)) is None
