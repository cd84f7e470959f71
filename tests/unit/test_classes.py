"""Three classes: losses, importances and one step of the methods, against plain torch and loops.

The oracle knows the softmax and the formulas of two classes (plain.py), and nothing of the library
but the network's layers.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from plain import assert_agrees, descend, double, expected_masks, ratios, rows_of
from torch import Tensor

from swift_debias import methods
from swift_debias.config.schema import Augmentation, Finetuning, Optimizer
from swift_debias.importance import estimators
from swift_debias.importance.shared import shared_importance
from swift_debias.learning import inference, losses, objectives
from swift_debias.learning.networks import Classifier
from swift_debias.learning.samples import Batch, ExternalSet, Samples
from swift_debias.methods import _iterate, llft

C = 3
SGD = Optimizer(name="sgd", lr=0.7, momentum=0.8, weight_decay=0.04)
LR = {"extractor": 0.03, "head": 0.2}
COUNTS = {(0, 0): 9, (0, 1): 5, (1, 0): 3, (1, 1): 6, (2, 0): 4, (2, 1): 4}


# --- the formulas ---------------------------------------------------------------------------------


def cross_entropy(z: Tensor, y: Tensor, labels: Tensor | None = None) -> Tensor:
    """Each image's weight by counting, in a loop; `labels`: whose counts weigh, default: these."""
    counted = y if labels is None else labels
    shares = [(counted == c).double().mean() for c in range(C)]
    mean_weight = sum(p * (1 - p) for p in shares)
    p = z.softmax(dim=1)
    terms = [
        -mean_weight / (C * shares[int(c)]) * p[i, int(c)].log() for i, c in enumerate(y.tolist())
    ]
    return torch.stack(terms).mean()


def gaps(z: Tensor, y: Tensor, a: Tensor) -> Tensor:
    """(C, 2): mean probability of group 0 minus group 1, among the rest and among the class."""
    p = z.softmax(dim=1)
    return torch.stack(
        [
            torch.stack(
                [
                    p[inside & (a == 0), c].mean() - p[inside & (a == 1), c].mean()
                    for inside in (y != c, y == c)
                ]
            )
            for c in range(C)
        ]
    )


def eodds(z: Tensor, y: Tensor, a: Tensor, kind: str = "mean_abs") -> Tensor:
    found = gaps(z, y, a)
    of_class = found.abs().mean(dim=1) if kind == "mean_abs" else found.mean(dim=1).abs()
    return of_class.mean()


# --- what they are made on ------------------------------------------------------------------------


def classifier_of(make_classifier: Any, seed: int = 5) -> Classifier:
    two = make_classifier(seed, dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Classifier(two.extractor, 6, 0.0, classes=C)
        made.head.linear.weight.data.mul_(3)
    return made.train().requires_grad_(False)


@pytest.fixture
def classifier(make_classifier: Any) -> Classifier:
    return classifier_of(make_classifier)


@pytest.fixture
def external(make_samples: Any) -> ExternalSet:
    cells = [cell for cell, n in COUNTS.items() for _ in range(n)]
    cells = np.random.default_rng(0).permutation(np.array(cells))
    full = make_samples(labels=cells[:, 0], attributes=cells[:, 1], seed=3)
    full = Samples(full.source, full.rows, full.labels, full.attributes, classes=C)
    rows: list[int] = []
    for c in range(C):
        of_group = [np.flatnonzero((cells == (c, g)).all(axis=1)) for g in (0, 1)]
        rows += [row for cell in of_group for row in cell[: min(map(len, of_group))]]
    return ExternalSet(full, full.subset(np.sort(np.array(rows))))


@pytest.fixture
def make(make_context: Any) -> Any:
    def make(**options: Any) -> Any:
        shared = {"lr_extractor": LR["extractor"], "lr_head": LR["head"]}
        chosen = {k: options.pop(k) for k in ("eodds", "class_weights") if k in options}
        context = make_context(
            epochs=2,
            batch_size=64,
            augmentation=Augmentation(flips=False, transpose=False),
            finetuning=Finetuning(**shared, **chosen),
            **options,
        )
        context.optimizer = SGD
        return context

    return make


def run(algorithm: str, *given: Any, **options: Any) -> Classifier:
    method = methods.load(algorithm)
    classifier, external, context = given
    return method.debias(classifier, external, method.Settings(**options), context)


def logits_of(seed: int = 0, n: int = 90, classes: int = C) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(n, classes, dtype=torch.float64, generator=generator)
    y = torch.randint(classes, (n,), generator=generator).double()
    return z, y, torch.randint(-1, 2, (n,), generator=generator)


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["mean_abs", "signed_mean"])
def test_losses_are_the_formulas(seed: int, kind: Any) -> None:
    z, y, a = logits_of(seed)
    weights = objectives.class_weights(y, C)
    for given in (None, weights):
        found = objectives.prediction_loss(z, y, given)
        assert found.item() == pytest.approx(cross_entropy(z, y).item(), rel=1e-9)
    total = [w * float((y == c).double().mean()) for c, w in enumerate(weights)]
    assert total == pytest.approx([total[0]] * C)  # every class weighs alike in sum
    assert objectives.eodds_gap(z, y, a, kind).item() == pytest.approx(eodds(z, y, a, kind).item())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["mean_abs", "signed_mean"])
def test_two_classes_with_the_logits_0_and_z_are_today_s(seed: int, kind: Any) -> None:
    z, y, a = logits_of(seed, classes=2)
    one = z[:, 1] - z[:, 0]
    pair = torch.stack([torch.zeros_like(one), one], dim=1)
    for logits in (pair, z):
        loss = objectives.prediction_loss(logits, y)
        torch.testing.assert_close(loss, losses.weighted_bce(one, y))
        gap = objectives.eodds_gap(logits, y, a, kind)
        torch.testing.assert_close(gap, losses.eodds_gap(one, y, a, kind))
    assert objectives.class_weights(y) == losses.class_weights(y)


def test_log_odds_of_sure_scores_are_exact_and_have_gradients() -> None:
    z = torch.tensor([[400.0, 0.0, -400.0]], dtype=torch.float64, requires_grad=True)
    odds = objectives.log_odds(z)
    assert odds.tolist() == [[400.0, -400.0, -800.0]]
    (gradient,) = torch.autograd.grad(odds.sum(), z)
    assert gradient.isfinite().all()


def test_a_missing_class_drops_its_terms_and_a_single_class_has_loss_0() -> None:
    z, y, a = logits_of(1)
    y[y == 2] = 1
    present = torch.stack([losses.eodds_gap(w, (y == c).double(), a) for c, w in
                           enumerate(objectives.log_odds(z).unbind(1))])  # fmt: skip
    assert objectives.eodds_gap(z, y, a).item() == pytest.approx(present.sum().item() / C)
    assert objectives.class_weights(y, C)[2] == 0
    assert objectives.prediction_loss(z, torch.ones_like(y)).item() == 0


# --- importances ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mean_abs", "signed_mean"])
def test_importances_are_those_of_a_loop(
    kind: Any, classifier: Classifier, external: ExternalSet
) -> None:
    """Of every sample its own loss, differentiated alone, with C logits; and of mini-batches."""
    network, finetuning = double(classifier), Finetuning(eodds=kind)
    external = _mixed(external)
    found = shared_importance(network, external, finetuning, 11, 0, methods.importances())
    parameters = dict(network.named_parameters())

    def squares(loss: Tensor) -> dict[str, Tensor]:
        grads = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
        return {name: g.square() for name, g in zip(parameters, grads, strict=True)}

    def agrees(name: str, expected: dict[str, Tensor]) -> None:
        for key, value in expected.items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-7, atol=1e-12)

    for part, samples in (("full", external.full), ("balanced", external.balanced)):
        x, y, a = samples.source, samples.labels, samples.attributes
        z = network(x)
        signs = gaps(z, y, a).sign()
        assert (signs[:, 0] != signs[:, 1]).any()  # else the two kinds would be the same
        if kind == "signed_mean":
            signs = gaps(z, y, a).mean(dim=1).sign()[:, None].expand(C, 2)

        def of_row(
            i: int, y: Tensor = y, a: Tensor = a, z: Tensor = z, s: Tensor = signs
        ) -> Tensor:
            """A row's own part of the bias, times the rows: +- P(class) / (2 C n of its cell)."""
            terms = []
            for c in range(C):
                own = int(y[i] == c)
                cell = ((y == c) == bool(own)) & (a == a[i])
                sign = s[c, own] * (1 if a[i] == 0 else -1)
                terms.append(sign * z[i].softmax(0)[c] / (2 * C * cell.sum()))
            return len(y) * torch.stack(terms).sum()

        def mean(rows: list[int], loss: Any) -> dict[str, Tensor]:
            each = [squares(loss(i)) for i in rows]
            return {key: torch.stack([one[key] for one in each]).mean(0) for key in parameters}

        def of_class(i: int, y: Tensor = y, z: Tensor = z) -> Tensor:
            return cross_entropy(z[i : i + 1], y[i : i + 1], y)

        every = list(range(len(y)))
        if part == "balanced":
            agrees("per_sample.balanced.prediction", mean(every, of_class))
            agrees("per_sample.balanced.bias", mean(every, of_row))
        else:
            for group in (0, 1):
                rows = [i for i in every if a[i] == group]
                agrees(f"per_sample.full.group{group}", mean(rows, of_class))


def _mixed(external: ExternalSet) -> ExternalSet:
    """In float64, the groups dealt anew in each class, so that gaps of a class differ in sign."""
    full, balanced = _double(external.full), _double(external.balanced)
    draw = torch.Generator().manual_seed(1)
    for c in range(C):
        rows = (full.labels == c).nonzero().flatten()
        full.attributes[rows] = full.attributes[rows[torch.randperm(len(rows), generator=draw)]]
    places = [full.rows.tolist().index(row) for row in balanced.rows.tolist()]
    balanced.attributes[:] = full.attributes[places]
    return ExternalSet(full, balanced)


def _double(samples: Samples) -> Samples:
    """Pixels that are normalized already, in float64, so that a loop agrees to rounding."""
    x, y, a = rows_of(samples)
    return _Held(x, samples.rows, y, a, normalization=samples.normalization, classes=C)


class _Held(Samples):
    """Samples in float64."""

    def draws(self, batches: Any, view: Any) -> Any:
        return (self.source[index] for index in batches)

    def batches(self, batch_size: int, view: int = 0) -> Any:
        parts = torch.arange(len(self)).split(batch_size)
        for index, images in zip(parts, self.draws(parts, view), strict=True):
            yield Batch(images, self.labels[index], self.attributes[index])

    def subset(self, index: Any) -> Samples:
        at = torch.as_tensor(index)
        at = torch.nonzero(at).squeeze(1) if at.dtype == torch.bool else at
        return _Held(
            self.source[at], self.rows[at], self.labels[at], self.attributes[at], classes=C
        )


def test_minibatch_importances_are_squares_of_batch_gradients(
    classifier: Classifier, external: ExternalSet
) -> None:
    network, samples = double(classifier), _double(external.full)
    batches = list(samples.batches(11))
    found = estimators.minibatch(network, lambda: batches)
    parameters = dict(network.named_parameters())
    for name, loss in (("prediction", cross_entropy), ("bias", None)):
        total = {key: torch.zeros_like(p) for key, p in parameters.items()}
        for batch in batches:
            z = network(batch.images)
            if loss is None:
                value = objectives.eodds_gap(z, batch.labels, batch.attributes)
            else:
                value = loss_of_present(z, batch.labels)
            grads = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for key, g in zip(parameters, grads, strict=True):
                total[key] += g.square() / len(batches)
        for key, value in total.items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-7, atol=1e-12)


def loss_of_present(z: Tensor, y: Tensor) -> Tensor:
    assert len(y.unique()) == C
    return cross_entropy(z, y)


# --- one step -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mean_abs", "signed_mean"])
@pytest.mark.parametrize(
    ("balanced", "weight"), [(True, 1.0), (False, 0.3), (True, 0.3)], ids=["rw", "reg", "fdr"]
)
def test_fullft(
    balanced: bool, weight: float, kind: str, classifier: Any, external: ExternalSet, make: Any
) -> None:
    network, context = double(classifier).train(), make(eodds=kind)
    x, y, a = rows_of(external.balanced if balanced else external.full)

    def loss() -> Tensor:
        z = network(x)
        return weight * cross_entropy(z, y) + (1 - weight) * eodds(z, y, a, kind)

    given = (classifier, external, context)
    run("fullft", *given, balanced=balanced, prediction_weight=weight)
    seen = descend(network, [loss] * 2, LR, SGD)
    assert_agrees(classifier, network)
    assert [row["loss"] for row in context.history] == pytest.approx(seen, rel=1e-4)


def test_swift(
    classifier: Classifier, external: ExternalSet, make: Any, make_importance: Any
) -> None:
    """Step 1 under the mask, then the rows of the head with a high mask set to zero, and step 2."""
    importance = make_importance(classifier)
    context = make(importance=lambda: importance)
    network, (x, y, a) = double(classifier), rows_of(external.balanced)
    masks = expected_masks(network, importance, context.seed, {})

    def loss(weight: float) -> Tensor:
        z = network(x)
        return weight * cross_entropy(z, y) + (1 - weight) * eodds(z, y, a)

    network.extractor.train()
    descend(network, [lambda: loss(0.2)] * 2, {"extractor": LR["extractor"]}, SGD, masks)
    network.extractor.eval()
    mask = masks["head.1.weight"]
    zeroed = mask > mask.mean()
    assert zeroed.shape == (C, 6) and 0 < zeroed.sum() < zeroed.numel()
    network.head.linear.weight.data[zeroed] = 0
    descend(network, [lambda: loss(0.7)] * 2, {"head": LR["head"]}, SGD)
    options = {"prediction_weight_1": 0.2, "prediction_weight_2": 0.7}
    assert_agrees(run("swift", classifier, external, context, **options), network)


def test_bmft(
    classifier: Classifier, external: ExternalSet, make: Any, make_importance: Any
) -> None:
    importance = make_importance(classifier)
    context = make(importance=lambda: importance)
    network = double(classifier)
    bias, prediction = (
        {n: v for n, v in importance[f"minibatch.full.{of}"].items() if n.startswith("extractor")}
        for of in ("bias", "prediction")
    )
    pool = {n: r.numpy() for n, r in ratios(bias, prediction).items()}
    middle = np.percentile(
        np.concatenate([r.ravel() for r in pool.values()]), 50, method="inverted_cdf"
    )
    masks = {n: torch.from_numpy((r > middle).astype(float)) for n, r in pool.items()}
    x, y, a = rows_of(external.full)
    network.extractor.train()
    descend(network, [lambda: eodds(network(x), y, a)] * 2, {"extractor": 0.03}, SGD, masks)
    network.extractor.eval()
    for parameter in network.head.parameters():
        parameter.data.zero_()
    xb, yb, _ = rows_of(external.balanced)

    # without the bias: a head of zeros has gaps of 0, whose sign is rounding
    descend(network, [lambda: cross_entropy(network(xb), yb)] * 2, {"head": 0.2}, SGD)
    assert_agrees(run("bmft", classifier, external, context, bias_weight=0), network)


def test_llft(classifier: Classifier, external: ExternalSet, make: Any) -> None:
    from swift_debias.methods import llft
    from swift_debias.seeds import derive_seed

    context = make()
    drawn = llft.draw_cells(external.full, derive_seed(context.seed, "draw"))
    samples = external.full.subset(drawn)
    sizes = [int(((samples.labels == c) & (samples.attributes == g)).sum()) for c, g in COUNTS]
    assert sizes == [min(COUNTS.values())] * 6
    network, (x, y, a) = double(classifier), rows_of(samples)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(context.seed, "head"))
        head = torch.nn.Linear(6, C)
    network.head[1] = head.double()

    def loss() -> Tensor:
        z = network(x)
        p = z.softmax(dim=1)
        gap = []
        for c in range(C):
            own = (y == c).double()
            errors = torch.stack([p[:, c] * (1 - own), (1 - p[:, c]) * own])
            means = [errors[:, a == g].mean(dim=1) for g in (0, 1)]
            gap.append((means[0] - means[1]).abs().sum())
        plain = torch.nn.functional.cross_entropy(z, y.long())
        return plain + 2 * torch.stack(gap).mean()

    steps = Optimizer(name="sgd", lr=1, momentum=0.9, weight_decay=5e-4)
    descend(network, [loss] * 3, {"head": 0.01}, steps)
    assert_agrees(run("llft", classifier, external, context, steps=3), network)


def test_dfr(classifier: Classifier, external: ExternalSet, make: Any) -> None:
    """scikit-learn's softmax regression on standardized features of equal cells."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from swift_debias.seeds import derive_seed

    context, network, (x, y, _) = make(), double(classifier), rows_of(external.full)
    drawn = llft.draw_cells(external.full, derive_seed(context.seed, "draw", 0)).numpy()
    with torch.no_grad():
        features = network.extractor(x).numpy()
    scaled = StandardScaler().fit_transform(features)
    model = LogisticRegression(C=1.0, l1_ratio=1, solver="saga", tol=1e-9, max_iter=100_000)
    model.fit(scaled[drawn], y.numpy()[drawn])
    made = run("dfr", classifier, external, context, strengths=(1.0,), draws=1)
    with torch.no_grad():
        found = double(made)(x).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, model.predict_proba(scaled), atol=2e-3)
    assert context.history[-1]["strength"] == 1


@pytest.mark.parametrize("proxy", ["spd", "eopp", "eodds"])
def test_diffgda_lowers_each_class_s_gap_by_the_start_model_s_sign(
    proxy: Any, classifier: Classifier, external: ExternalSet, make: Any
) -> None:
    network, (x, y, a) = double(classifier), rows_of(external.full)

    def found(z: Tensor) -> Tensor:
        if proxy == "spd":
            p = z.softmax(dim=1)
            return p[a == 0].mean(dim=0) - p[a == 1].mean(dim=0)
        return gaps(z, y, a)[:, 1] if proxy == "eopp" else gaps(z, y, a).mean(dim=1)

    with torch.no_grad():
        hard = network(x).argmax(dim=1, keepdim=True)
        one_hot = torch.full((len(y), C), -1e9, dtype=torch.float64).scatter(1, hard, 1e9)
        signs = torch.where(found(one_hot) < 0, -1.0, 1.0)
    optimizer = Optimizer(name="adam", lr=1, weight_decay=0)
    start = _iterate.evaluate(network(x).detach(), y, a, proxy)
    assert start.signs == tuple(signs.tolist())
    assert start.bias == pytest.approx(found(one_hot).abs().mean().item())
    # one step; whichever iterate is kept, the walk itself is compared
    method = methods.load("diffgda")
    settings = method.Settings(proxy=proxy, lr=1e-3, evaluations=1, stop_balanced_accuracy=0)
    context = make()
    descent = method._Descent(classifier, external.full, settings, context)
    with context.moving_batchnorm(classifier):
        descent.epoch(1)
    network.extractor.train()
    loss = lambda: (found(network(x)) * signs).mean()  # noqa: E731
    descend(network, [loss], {"": 1e-3}, optimizer)
    for name, value in network.named_parameters():
        if name == "extractor.3.bias":
            continue  # BatchNorm takes it off again: its gradient is rounding, and Adam's its sign
        torch.testing.assert_close(
            dict(descent.now.named_parameters())[name].double(), value, rtol=1e-3, atol=2e-5
        )


@pytest.mark.parametrize(
    "algorithm",
    ["diffprune", "fairprune", "bn_recalibrate", "diffgda", "reweight", "groupdro", "jtt", "ssd"],
)
def test_the_others_give_a_classifier_of_as_many_classes(
    algorithm: str, classifier: Classifier, external: ExternalSet, make: Any, make_importance: Any
) -> None:
    importance = make_importance(classifier)
    context = make(importance=lambda: importance, unprivileged=lambda: 1)
    made = run(algorithm, copy.deepcopy(classifier), external, context)
    assert made.classes == C
    assert inference.predict(made, external.full).shape == (34 - 3, C)
