"""What training does, step by step, against autograd in plain torch (plain.py).

Full batches without augmentation make training deterministic, so that every weight after two steps
can be foretold: from the right set, loss, learning rate, mask, decay and mode of BatchNorm. No two
settings are equal here that could be mistaken for each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plain import (
    CELLS,
    above,
    assert_agrees,
    cross_entropy,
    descend,
    double,
    eodds,
    expected_masks,
    external_score,
    forward,
    rate_gaps,
    ratios,
    rows_of,
)
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from swift_debias import methods
from swift_debias.config.schema import (
    Augmentation,
    Compute,
    Finetuning,
    Method,
    Optimizer,
    Pretraining,
)
from swift_debias.errors import UserError
from swift_debias.learning import loop
from swift_debias.learning.context import Context
from swift_debias.learning.networks import Classifier, Head
from swift_debias.learning.samples import ExternalSet, Features, Samples

EPOCHS = 2
LR_EXTRACTOR, LR_HEAD = 0.03, 0.2
OPTIMIZERS = {  # their own learning rate is for pre-training alone
    "sgd": Optimizer(name="sgd", lr=0.7, momentum=0.8, weight_decay=0.04),
    "adam": Optimizer(name="adam", lr=0.01, weight_decay=0.04),
}
both_ways = pytest.mark.parametrize(
    ("optimizer", "kind"), [("sgd", "mean_abs"), ("adam", "signed_mean")]
)


@pytest.fixture
def external(make_external: Any) -> ExternalSet:
    """Cells of four sizes: label 1 is rarer in the full set than in its balanced part."""
    cells = np.random.default_rng(0).permutation(np.repeat(CELLS, (16, 4, 5, 7), axis=0))
    made = make_external(labels=cells[:, 0], attributes=cells[:, 1], seed=3)
    sizes = [(len(s), int(s.labels.sum())) for s in (made.full, made.balanced)]
    assert sizes == [(32, 12), (18, 10)]
    return made


@pytest.fixture
def classifier(make_classifier: Any, external: ExternalSet) -> Classifier:
    """Without dropout; the gaps at label 0 and 1 have opposite signs, so the forms of Eq. 2 differ.

    In train mode and without gradients: a method chooses both itself.
    """
    made = make_classifier(5, dropout=0.0)
    for samples in (external.full, external.balanced):
        network, (x, y, a) = double(made).train(), rows_of(samples)
        gaps = rate_gaps(network(x), y, a)
        assert gaps.prod() < 0 and gaps.abs().min() > 0.01
    return made.train().requires_grad_(False)


@pytest.fixture
def make(make_context: Any) -> Any:
    """A context in which an epoch is one step."""

    def make(optimizer: str = "sgd", **options: Any) -> Context:
        finetuning = {"lr_extractor": LR_EXTRACTOR, "lr_head": LR_HEAD}
        chosen = {
            k: options.pop(k) for k in ("eodds", "class_weights", "batchnorm") if k in options
        }
        defaults = {
            "epochs": EPOCHS,
            "batch_size": 64,
            "augmentation": Augmentation(flips=False, transpose=False),
            "finetuning": Finetuning(**finetuning, **chosen),
        }
        context = make_context(**(defaults | options))
        context.optimizer = OPTIMIZERS[optimizer]
        return context

    return make


def run(
    algorithm: str, classifier: Classifier, external: ExternalSet, context: Context, **options: Any
) -> Classifier:
    method = methods.load(algorithm)
    return method.debias(classifier, external, method.Settings(**options), context)


def losses(context: Context, stage: str) -> list[float]:
    return [row["loss"] for row in context.history if row["stage"] == stage]


# --- pre-training and full fine-tuning ------------------------------------------------------------


def watch_batches(monkeypatch: pytest.MonkeyPatch, total: int) -> list[Tensor]:
    """The rows of each batch that training draws; `total` images are drawn in order to predict."""
    drawn: list[Tensor] = []
    pixels = Samples.pixels

    def watched(samples: Samples, index: Tensor) -> Tensor:
        if len(samples) == total:
            drawn.append(index)
        return pixels(samples, index)

    monkeypatch.setattr(Samples, "pixels", watched)
    return drawn


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("class_weights", ["dataset", "batch"])
@pytest.mark.parametrize("batch_size", [64, 20])
def test_pretraining(
    optimizer: str,
    class_weights: str,
    batch_size: int,
    classifier: Classifier,
    make_samples: Any,
    make: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prediction loss alone, by the recipe's optimizer and epochs; unknown groups take part."""
    labels, groups = np.repeat((0, 1), (30, 10)), np.arange(40) % 3 - 1
    train, validation = (
        make_samples(labels=labels, attributes=groups, seed=0),
        make_samples(labels=1 - labels[9:], attributes=groups[9:], seed=1),
    )
    other = {"sgd": "adam", "adam": "sgd"}[optimizer]
    context = make(other, epochs=1, batch_size=batch_size, class_weights=class_weights)
    network, (x, y, _) = double(classifier).train(), rows_of(train)
    drawn = watch_batches(monkeypatch, total=40)
    recipe = Pretraining(epochs=3, batch_size=8, optimizer=OPTIMIZERS[optimizer])
    loop.pretrain(classifier, train, validation, recipe, context)

    share = y.mean() if class_weights == "dataset" else None
    steps = [lambda r=r: cross_entropy(network(x[r]), y[r], share) for r in drawn]
    assert sorted(torch.cat(drawn).tolist()) == sorted(3 * list(range(40)))
    rate = OPTIMIZERS[optimizer].lr
    seen = descend(network, steps, {"": rate}, OPTIMIZERS[optimizer])
    assert_agrees(classifier, network)
    by_epoch = np.reshape(seen, (3, -1)) @ [len(r) / 40 for r in drawn[: len(drawn) // 3]]
    assert losses(context, "pretraining") == pytest.approx(by_epoch, rel=1e-4)
    x, y, _ = rows_of(validation)
    expected = roc_auc_score(y, network.eval()(x).detach())
    assert context.history[-1]["validation_auc"] == pytest.approx(expected)


@pytest.mark.key(
    "finetuning.lr_extractor",
    "finetuning.lr_head",
    "finetuning.eodds",
    "fullft.balanced",
    "fullft.prediction_weight",
)
@both_ways
@pytest.mark.parametrize(
    ("balanced", "weight"), [(True, 1.0), (False, 0.3), (True, 0.3)], ids=["rw", "reg", "fdr"]
)
def test_fullft(
    optimizer: str,
    kind: str,
    balanced: bool,
    weight: float,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
) -> None:
    network, context = double(classifier).train(), make(optimizer, eodds=kind)
    x, y, a = rows_of(external.balanced if balanced else external.full)

    def loss() -> Tensor:
        z = network(x)
        return weight * cross_entropy(z, y) + (1 - weight) * eodds(z, y, a, kind)

    run("fullft", classifier, external, context, balanced=balanced, prediction_weight=weight)
    rates = {"extractor": LR_EXTRACTOR, "head": LR_HEAD}
    seen = descend(network, [loss] * EPOCHS, rates, OPTIMIZERS[optimizer])
    assert_agrees(classifier, network)
    assert losses(context, "fullft") == pytest.approx(seen, rel=1e-4)


@pytest.mark.key("fullft.epochs_of")
def test_fullft_for_as_many_epochs_as_both_steps_of_swift(
    classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    network, context = double(classifier).train(), make()
    x, y, _ = rows_of(external.balanced)
    run("fullft", classifier, external, context, prediction_weight=1, epochs_of="both")
    rates = {"extractor": LR_EXTRACTOR, "head": LR_HEAD}
    steps = [lambda: cross_entropy(network(x), y)] * (2 * EPOCHS)
    descend(network, steps, rates, OPTIMIZERS["sgd"])
    assert_agrees(classifier, network)


@pytest.mark.key("method.lr_factor")
def test_a_variant_multiplies_both_learning_rates(
    classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    from swift_debias.methods.base import Training

    variant = Method(algorithm="fullft", lr_factor=0.25)
    shared = make().finetuning
    training = Training(
        Pretraining(epochs=1, optimizer=OPTIMIZERS["sgd"]), shared, Augmentation(), Compute()
    )
    network, context = double(classifier).train(), make(finetuning=training.finetuning_of(variant))
    x, y, _ = rows_of(external.balanced)
    run("fullft", classifier, external, context, prediction_weight=1)
    rates = {"extractor": LR_EXTRACTOR / 4, "head": LR_HEAD / 4}
    descend(network, [lambda: cross_entropy(network(x), y)] * EPOCHS, rates, OPTIMIZERS["sgd"])
    assert_agrees(classifier, network)


@pytest.mark.key("finetuning.class_weights")
@pytest.mark.parametrize("class_weights", ["dataset", "batch"])
def test_fullft_in_batches(
    class_weights: str,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Batches of other shares of label 1 than the set."""
    network, (x, y, _) = double(classifier).train(), rows_of(external.full)
    drawn = watch_batches(monkeypatch, total=32)
    context = make(batch_size=12, class_weights=class_weights)
    run("fullft", classifier, external, context, balanced=False, prediction_weight=1)
    share = y.mean() if class_weights == "dataset" else None
    steps = [lambda r=r: cross_entropy(network(x[r]), y[r], share) for r in drawn]
    assert [len(r) for r in drawn] == [12, 12, 8] * EPOCHS
    descend(network, steps, {"extractor": LR_EXTRACTOR, "head": LR_HEAD}, OPTIMIZERS["sgd"])
    assert_agrees(classifier, network)


# --- swift ----------------------------------------------------------------------------------------


def swift_in_plain_torch(
    classifier: Classifier,
    samples: Samples,
    importance: Any,
    context: Context,
    options: dict[str, Any],
) -> tuple[Classifier, dict[str, list[float]]]:
    """Both steps; returns the network and the losses of each step."""
    network, (x, y, a), seen = double(classifier), rows_of(samples), {}
    masks = expected_masks(network, importance, context.seed, options)

    def loss(weight: float) -> Tensor:
        z = network(x)
        bias = eodds(z, y, a, context.finetuning.eodds)
        return weight * cross_entropy(z, y) + (1 - weight) * bias

    if options.get("step1", True):
        network.extractor.train()
        mode = context.finetuning.batchnorm

        def masked_loss() -> Tensor:
            z = forward(network, x, mode, masks)
            bias = eodds(z, y, a, context.finetuning.eodds)
            return 0.2 * cross_entropy(z, y) + 0.8 * bias

        seen["step1"] = descend(
            network, [masked_loss] * EPOCHS, {"extractor": LR_EXTRACTOR}, context.optimizer,
            masks, options.get("masked", "update"),
        )  # fmt: skip
    if options.get("step2", True):
        network.extractor.eval()
        judged = ["weight", "bias"] if options.get("reinit_bias") else ["weight"]
        mask = torch.cat([masks[f"head.1.{name}"].flatten() for name in judged])
        zeroed, threshold = mask > mask.mean(), options.get("threshold", "mean")
        if threshold != "mean":
            highest = np.argsort(-mask.numpy(), kind="stable")[: round((1 - threshold) * len(mask))]
            zeroed = torch.isin(torch.arange(len(mask)), torch.from_numpy(highest))
        width = network.head.linear.in_features
        if len(judged) == 1:
            zeroed = torch.cat([zeroed, torch.tensor([False])])
        zeroed = {"none": zeroed & False, "full": zeroed | True}.get(options.get("reinit"), zeroed)
        network.head.linear.weight.data[0, zeroed[:width]] = 0
        network.head.linear.bias.data[zeroed[width:]] = 0
        step = [lambda: loss(0.7)] * EPOCHS
        seen["step2"] = descend(network, step, {"head": LR_HEAD}, context.optimizer)
    return network, seen


LAMBDAS = {"prediction_weight_1": 0.2, "prediction_weight_2": 0.7}
SWIFT: dict[str, dict[str, Any]] = {
    "soft": {},
    "zscore": {"normalization": "zscore"},
    "percentile": {"normalization": "percentile", "percentile": 70},
    "per_sample": {"estimator": "per_sample"},
    "gradient": {"masked": "gradient"},
    "hard": {"mask": "hard", "hard_rates": (0.3,)},
    "random": {"mask": "random"},
    "none": {"mask": "none"},  # all masks are 1 and none is above the mean: the head is kept
    "no_step1": {"step1": False},
    "no_step2": {"step2": False},
    "no_reinit": {"reinit": "none"},
    "full_reinit": {"reinit": "full"},
    "quantile": {"threshold": 0.6},
    "bias": {"reinit_bias": True},
}


@pytest.mark.key(
    "swift.mask",
    "swift.estimator",
    "swift.normalization",
    "swift.percentile",
    "swift.hard_rates",
    "swift.step1",
    "swift.step2",
    "swift.prediction_weight_1",
    "swift.prediction_weight_2",
    "swift.masked",
    "swift.reinit",
    "swift.threshold",
    "swift.reinit_bias",
)
@both_ways
@pytest.mark.parametrize("variant", SWIFT)
def test_swift(
    optimizer: str,
    kind: str,
    variant: str,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
    make_importance: Any,
) -> None:
    importance, options = make_importance(classifier), SWIFT[variant]
    if variant == "bias":  # its mask is 1 then, above the mean: the bias is zeroed
        for name, value in (("bias", 1.0), ("prediction", 0.01)):
            importance[f"minibatch.balanced.{name}"]["head.1.bias"].fill_(value)
    if variant == "no_step2":
        classifier.head[0].p = 0.5  # a frozen head drops nothing
    context = make(optimizer, eodds=kind, importance=lambda: importance)
    expected, seen = swift_in_plain_torch(
        classifier, external.balanced, importance, context, options
    )
    found = run("swift", classifier, external, context, **LAMBDAS, **options)
    if (variant, optimizer) == ("full_reinit", "adam"):
        # the gradient of a zero head's bias is 0 but for rounding, and Adam takes its sign
        assert_agrees(found, expected, "extractor")
        return
    assert_agrees(found, expected)
    suffix = "_rate0.3" if variant == "hard" else ""
    for step, values in seen.items():
        assert losses(context, step + suffix) == pytest.approx(values, rel=1e-4, abs=1e-7)


@pytest.mark.key("finetuning.batchnorm")
@pytest.mark.parametrize("batchnorm", ["eval", "masked"])
def test_batchnorm_of_swift(
    batchnorm: str, classifier: Classifier, external: ExternalSet, make: Any, make_importance: Any
) -> None:
    importance = make_importance(classifier)
    context = make(batchnorm=batchnorm, importance=lambda: importance)
    before = {n: b.clone() for n, b in classifier.named_buffers()}
    expected, seen = swift_in_plain_torch(classifier, external.balanced, importance, context, {})
    found = run("swift", classifier, external, context, **LAMBDAS)
    assert_agrees(found, expected)
    for step, values in seen.items():
        assert losses(context, step) == pytest.approx(values, rel=1e-4, abs=1e-7)
    for index in (1, 4):  # of a channel without importance to bias the mask is 0
        frozen = context.masks[f"extractor.{index}.weight"] == 0
        for kind in ("running_mean", "running_var"):
            name = f"extractor.{index}.{kind}"
            same = found.get_buffer(name) == before[name]
            assert torch.equal(same, frozen | (batchnorm == "eval"))


@pytest.mark.key("finetuning.batchnorm")
@pytest.mark.parametrize("batchnorm", ["eval", "masked"])
@pytest.mark.parametrize("algorithm", ["fullft", "bmft"])
def test_batchnorm_of_other_methods(
    algorithm: str,
    batchnorm: str,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
    make_importance: Any,
) -> None:
    """Without masks every channel's statistics move freely; a hard mask frees some."""
    network, importance = double(classifier), make_importance(classifier)
    context = make(batchnorm=batchnorm, importance=lambda: importance)
    x, y, a = rows_of(external.full)
    masks, options = None, {"balanced": False, "prediction_weight": 0.3}
    rates, weights = {"extractor": LR_EXTRACTOR, "head": LR_HEAD}, (0.3, 0.7)
    if algorithm == "bmft":
        bias, prediction = (
            {n: v for n, v in importance[f"minibatch.full.{of}"].items() if n.startswith("extr")}
            for of in ("bias", "prediction")
        )
        masks, options = above(ratios(bias, prediction), 50), {}
        rates, weights = {"extractor": LR_EXTRACTOR}, (0, 1)

    def loss() -> Tensor:
        z = forward(network, x, batchnorm, masks)
        return weights[0] * cross_entropy(z, y) + weights[1] * eodds(z, y, a)

    descend(network, [loss] * EPOCHS, rates, OPTIMIZERS["sgd"], masks)
    found = run(algorithm, classifier, external, context, **options)
    assert_agrees(found, network, "" if algorithm == "fullft" else "extractor")


@pytest.mark.parametrize("batch_size", [64, 7])
def test_bn_recalibrate(
    batch_size: int, classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    """Statistics are means over the balanced set's batches; weights are as they were."""
    network, context = double(classifier), make(batch_size=batch_size)
    parts: list[Tensor] = []
    handle = classifier.register_forward_pre_hook(lambda _, inputs: parts.append(inputs[0]))
    found = run("bn_recalibrate", classifier, external, context)
    handle.remove()
    x, _, _ = rows_of(external.balanced)
    order = [int((x - row).abs().sum(dim=(1, 2, 3)).argmin()) for part in parts for row in part]
    assert sorted(order) == list(range(18)) and order != sorted(order)
    sums: dict[int, list[tuple[Tensor, Tensor]]] = {1: [], 4: []}
    for part in parts:
        h = part.double()
        for index, layer in enumerate(network.extractor):
            if index in sums:
                flat = h.transpose(0, 1).flatten(1)
                mean, variance = flat.mean(dim=1), flat.var(dim=1)
                sums[index].append((mean.detach(), variance.detach()))
                centred = (h - mean[:, None, None]) / (
                    flat.var(dim=1, correction=0)[:, None, None] + layer.eps
                ).sqrt()
                h = centred * layer.weight[:, None, None] + layer.bias[:, None, None]
            else:
                h = layer(h.clone())
    for index, seen in sums.items():
        layer = network.extractor[index]
        layer.running_mean.copy_(torch.stack([mean for mean, _ in seen]).mean(dim=0))
        layer.running_var.copy_(torch.stack([variance for _, variance in seen]).mean(dim=0))
        layer.num_batches_tracked.fill_(len(parts))
    assert_agrees(found, network)
    assert not any(part.training for part in found.modules())
    assert [layer.momentum for layer in (found.extractor[1], found.extractor[4])] == [0.1, 0.1]


def test_bn_recalibrate_needs_batchnorm(external: ExternalSet, make: Any) -> None:
    extractor = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 6))
    with pytest.raises(UserError, match="the network has no BatchNorm"):
        run("bn_recalibrate", Classifier(extractor, 6, 0), external, make())


def test_swift_searches_the_hard_rate_on_the_balanced_set(
    classifier: Classifier, make_external: Any, make: Any, make_importance: Any, train: Any
) -> None:
    """On the full set another rate would be best."""
    external, importance = make_external(100, 1, correlation=0.2), make_importance(classifier, 1)
    train(classifier, external.full, steps=12)
    rates, context = (0.1, 0.25, 0.4, 0.6), make(batch_size=128, importance=lambda: importance)
    candidates = [
        swift_in_plain_torch(
            classifier, external.balanced, importance, context,
            {"mask": "hard", "hard_rates": (rate,)},
        )[0]
        for rate in rates
    ]  # fmt: skip
    balanced, full = (
        int(np.argmax([external_score(candidate, samples) for candidate in candidates]))
        for samples in (external.balanced, external.full)
    )
    assert balanced != full
    found = run("swift", classifier, external, context, **LAMBDAS, mask="hard", hard_rates=rates)
    assert_agrees(found, candidates[balanced])
    assert context.history[-1]["hard_rate"] == rates[balanced]


# --- bmft -----------------------------------------------------------------------------------------


@pytest.mark.key("bmft.rate", "bmft.bias_weight")
@pytest.mark.parametrize(
    ("optimizer", "dropout", "kind"),
    [
        ("sgd", 0, "mean_abs"),
        ("sgd", 0, "signed_mean"),
        ("sgd", 0.5, "mean_abs"),
        ("adam", 0, "mean_abs"),
    ],
)
@pytest.mark.parametrize(("rate", "bias_weight"), [(0.5, 0.1), (0.2, 0.9)])
def test_bmft(
    optimizer: str,
    dropout: float,
    kind: str,
    rate: float,
    bias_weight: float,
    classifier: Classifier,
    external: ExternalSet,
    make: Any,
    make_importance: Any,
) -> None:
    """Step 1: bias alone, full set, hard mask. Step 2: balanced set, the whole head from zero."""
    network, importance = double(classifier), make_importance(classifier)
    classifier.head[0].p = dropout
    context = make(optimizer, eodds=kind, epochs=3, importance=lambda: importance)
    bias, prediction = (
        {n: v for n, v in importance[f"minibatch.full.{of}"].items() if n.startswith("extractor")}
        for of in ("bias", "prediction")
    )
    x, y, a = rows_of(external.full)
    network.extractor.train()
    first = descend(
        network, [lambda: eodds(network(x), y, a, kind)] * 3, {"extractor": LR_EXTRACTOR},
        context.optimizer, above(ratios(bias, prediction), 100 * (1 - rate)),
    )  # fmt: skip
    run("bmft", classifier, external, context, rate=rate, bias_weight=bias_weight)
    assert losses(context, "step1") == pytest.approx(first, rel=1e-4, abs=1e-7)
    assert_agrees(classifier, network, "extractor")
    if dropout or optimizer == "adam":  # the head's dropout is random; Adam: see test_swift
        return
    x, y, a = rows_of(external.balanced)
    network.extractor.eval()
    network.head.linear.weight.data.zero_()
    network.head.linear.bias.data.zero_()

    def loss() -> Tensor:
        z = network(x)
        return cross_entropy(z, y) + bias_weight * eodds(z, y, a, kind)

    second = descend(network, [loss] * 3, {"head": LR_HEAD}, context.optimizer)
    assert losses(context, "step2") == pytest.approx(second, rel=1e-4, abs=1e-7)
    assert_agrees(classifier, network)


# --- dropout --------------------------------------------------------------------------------------


def test_every_epoch_and_stage_drops_other_features(make_samples: Any, make: Any) -> None:
    """Features of one: what is dropped can be seen. The same in every run of the same job."""
    samples, patterns = make_samples(40), {}
    for run_number in range(2):
        for stage in ("step1", "step2"):
            features = Features(torch.ones(1, 40, 30), (0,), samples.labels, samples.attributes)
            head, context = Head(30, 0.5), make(batch_size=20)
            head[0].register_forward_hook(
                lambda module, inputs, out, key=(run_number, stage): patterns.setdefault(
                    key, []
                ).append(out != 0)
            )
            objective, optimizer = (
                context.objective(samples, 1, 0),
                context.make_optimizer(head.parameters()),
            )
            loop.fit(head, features, objective, optimizer, context, stage)
    seen = patterns[0, "step1"] + patterns[0, "step2"]
    assert len(seen) == 2 * 2 * EPOCHS
    assert all(0.4 < pattern.float().mean() < 0.6 for pattern in seen)
    assert not any(torch.equal(one, other) for i, one in enumerate(seen) for other in seen[:i])
    for stage in ("step1", "step2"):
        assert all(map(torch.equal, patterns[0, stage], patterns[1, stage]))
