"""The training loop: reproducible, resumable, and true to what is frozen; and its samples."""

from __future__ import annotations

import copy
import io
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn

from swift_debias.config.schema import Augmentation, Compute, Finetuning, Optimizer
from swift_debias.errors import NotFiniteError
from swift_debias.learning import devices, inference, loop, samples
from swift_debias.learning.augment import views
from swift_debias.learning.checkpoints import Checkpoints
from swift_debias.learning.context import Context, make_optimizer, set_trainable
from swift_debias.learning.cost import Cost
from swift_debias.learning.loop import fit
from swift_debias.learning.networks import Classifier, Head
from swift_debias.learning.precision import autocast
from swift_debias.learning.samples import Features, Samples, make_samples, read_ahead


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    """Names whose bits differ."""
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def train_all(
    classifier: Classifier, samples: Samples, context: Context, **options: Any
) -> Classifier:
    """Everything trainable, on both losses."""
    set_trainable(classifier, extractor=True, head=True)
    optimizer = context.make_optimizer(classifier.parameters())
    objective = context.objective(samples, prediction=0.5, bias=0.5)
    fit(classifier, samples, objective, optimizer, context, "all", **options)
    return classifier


# --- reproducible and resumable -------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_same_seed_same_bits_whatever_the_global_state(
    optimizer: str, make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    samples, states = make_samples(), []
    for noise, seed in ((1, 7), (2, 7), (3, 8)):
        torch.manual_seed(noise)
        before = torch.random.get_rng_state()
        context = make_context(optimizer, seed=seed)
        states.append(state_of(train_all(make_classifier(), samples, context)))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert not differing(states[0], states[1])
    assert differing(states[0], states[2])


@pytest.mark.ci
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler for torch.compile")
def test_a_compiled_network_learns_the_same(
    make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    """Batches of two sizes; BatchNorm statistics included, without dropout."""
    samples, found = make_samples(40), []
    for enough in (40 * 3 + 1, 40 * 3):
        compute = Compute(device="cpu", compile_from=enough)
        context = make_context(compute=compute, epochs=3)
        classifier = train_all(make_classifier(dropout=0), samples, context)
        found.append((state_of(classifier), context.history))
    (eager, rows), (compiled, compiled_rows) = found
    assert eager.keys() == compiled.keys()
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-5)
    assert [row["loss"] for row in compiled_rows] == pytest.approx(
        [r["loss"] for r in rows], rel=1e-4
    )
    assert any(not torch.equal(compiled[name], eager[name]) for name in eager)  # it was compiled


class KilledError(Exception):
    """Stands for the machine that dies."""


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("killed_in", [1, 3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_killed_and_resumed_equals_unbroken(
    optimizer: str,
    killed_in: int,
    layout: torch.memory_format,
    tmp_path: Path,
    make_classifier: Any,
    make_samples: Any,
    make_context: Any,
) -> None:
    samples, epochs = make_samples(), []

    def watch() -> dict[str, float]:
        epochs.append(len(epochs) + 1)
        if len(epochs) == killed_in:
            raise KilledError
        return {"watched": float(len(epochs))}

    def train(context: Context, watch: Callable[[], dict[str, float]]) -> dict[str, Tensor]:
        classifier = make_classifier().to(memory_format=layout)
        return state_of(train_all(classifier, samples, context, watch=watch))

    unbroken = make_context(optimizer, epochs=5)
    expected = train(unbroken, lambda: {"watched": 0.0})

    def context() -> Context:
        return make_context(optimizer, epochs=5, checkpoints=Checkpoints(tmp_path, "key", 0))

    with pytest.raises(KilledError):
        train(context(), watch)
    second = context()
    found = train(second, lambda: {"watched": 0.0})
    assert not differing(expected, found)
    resumed = f"resumed after epoch {killed_in - 1} of 5" in second.log.getvalue()
    assert resumed == (killed_in > 1)
    for row, other in zip(unbroken.history, second.history, strict=True):
        assert {**row, "watched": 0} == {**other, "watched": 0}


def test_a_finished_stage_is_not_trained_again(
    tmp_path: Path, make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    samples = make_samples()
    states = []
    for _ in range(2):
        context = make_context(checkpoints=Checkpoints(tmp_path, "key", 0))
        states.append(state_of(train_all(make_classifier(), samples, context)))
        assert [row["epoch"] for row in context.history] == [1, 2]
    assert not differing(*states)
    assert "epoch 2/2" not in context.log.getvalue()


@pytest.mark.parametrize("damage", ["other key", "torn file", "no file"])
def test_checkpoints_of_another_job_are_not_used(
    damage: str, tmp_path: Path, make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    samples = make_samples()
    expected = state_of(train_all(make_classifier(), samples, make_context()))
    first = make_context(seed=99, checkpoints=Checkpoints(tmp_path, "old", 0))
    train_all(make_classifier(), samples, first)
    (file,) = tmp_path.glob("*.safetensors")
    if damage == "torn file":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "no file":
        file.unlink()
    key = "new" if damage == "other key" else "old"
    context = make_context(checkpoints=Checkpoints(tmp_path, key, 0))
    assert not differing(expected, state_of(train_all(make_classifier(), samples, context)))


def test_checkpoints_wait_for_their_interval(
    tmp_path: Path, make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    context = make_context(checkpoints=Checkpoints(tmp_path / "job", "key", 3600))
    train_all(make_classifier(), make_samples(), context)
    assert not (tmp_path / "job").exists()


# --- frozen means frozen --------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["extractor", "head"])
def test_frozen_parts_do_not_move(
    part: str, make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    """Not even the BatchNorm statistics of a frozen extractor."""
    samples, context, classifier = make_samples(), make_context(), make_classifier()
    before = state_of(classifier)
    set_trainable(classifier, extractor=part == "head", head=part == "extractor")
    trained = [p for p in classifier.parameters() if p.requires_grad]
    objective = context.objective(samples, prediction=1, bias=1)
    fit(classifier, samples, objective, context.make_optimizer(trained), context, "part")
    changed = differing(before, state_of(classifier))
    assert changed
    assert not any(name.startswith(part) for name in changed)
    if part == "head":  # the other way round: a trained extractor does move them
        assert "extractor.1.running_mean" in changed


def test_inference_restores_the_mode_of_every_part(make_classifier: Any, make_samples: Any) -> None:
    classifier = make_classifier()
    set_trainable(classifier, extractor=False, head=True)
    before = [module.training for module in classifier.modules()]
    assert True in before
    assert False in before
    inference.predict(classifier, make_samples(8))
    assert [module.training for module in classifier.modules()] == before


# --- features of a frozen extractor ---------------------------------------------------------------


@pytest.mark.parametrize(("flips", "transpose"), [(True, True), (False, True), (False, False)])
def test_features_of_drawn_views_equal_real_passes(
    flips: bool, transpose: bool, make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    augmentation, samples, classifier = (
        Augmentation(flips=flips, transpose=transpose),
        make_samples(20),
        make_classifier(),
    )
    context = make_context(epochs=2, augmentation=augmentation)
    drawn = loop.drawn_views(samples, context, "head")
    features = inference.extract_features(classifier, samples, drawn, batch_size=7)
    assert set(features.views) <= set(views(augmentation))
    for slot, code in enumerate(features.views):
        seen = torch.nonzero(drawn[code]).squeeze(1)
        with torch.inference_mode():
            expected = classifier.extractor(samples.draw(seen, code))
        view = torch.full((len(seen),), code)
        torch.testing.assert_close(features.draw(seen, view), expected)
        assert features.values[slot, ~drawn[code]].isnan().all()


def test_drawn_views_are_those_that_training_draws(make_samples: Any, make_context: Any) -> None:
    class Watched(Features):
        def draw(self, index: Tensor, view: Tensor | None = None) -> Tensor:
            assert view is not None
            seen[view, index] = True
            return super().draw(index, view)

    context, samples = make_context(epochs=3), make_samples(20)
    seen = torch.zeros(8, 20, dtype=torch.bool)
    features = Watched(torch.randn(8, 20, 4), tuple(range(8)), samples.labels, samples.attributes)
    head = Head(4, 0.5)
    optimizer = context.make_optimizer(head.parameters())
    fit(head, features, context.objective(samples, 1, 0), optimizer, context, "head")
    drawn = loop.drawn_views(samples, context, "head")
    assert torch.equal(drawn, seen)
    assert 20 < drawn.sum() <= 60


def test_head_on_features_equals_head_on_images(
    make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    """Same seed, same order, same views, same dropout: the same head, up to rounding."""
    samples, heads = make_samples(), []
    for cached in (True, False):
        context, classifier = make_context(epochs=3), make_classifier()
        set_trainable(classifier, extractor=False, head=True)
        optimizer = context.make_optimizer(classifier.head.parameters())
        objective = context.objective(samples, prediction=0.9, bias=0.1)
        if cached:
            drawn = loop.drawn_views(samples, context, "head")
            features = inference.extract_features(classifier, samples, drawn)
            fit(classifier.head, features, objective, optimizer, context, "head")
        else:
            fit(classifier, samples, objective, optimizer, context, "head")
        heads.append(classifier.head.linear)
    assert not torch.equal(heads[0].weight, make_classifier().head.linear.weight)
    torch.testing.assert_close(heads[0].weight, heads[1].weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(heads[0].bias, heads[1].bias, rtol=1e-4, atol=1e-6)


# --- objectives and batches -----------------------------------------------------------------------


def test_combined_is_the_weighted_sum(make_samples: Any, make_context: Any) -> None:
    """Against Eq. 1, 2 and 10 in plain Python."""
    samples = make_samples(40)
    logits = torch.linspace(-2, 2, 40)
    total, prediction, bias = make_context().objective(samples, prediction=0.3, bias=0.7)(
        logits, samples.labels, samples.attributes
    )
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    y, a = samples.labels.numpy(), samples.attributes.numpy()
    n, n_p = len(y), y.sum()
    bce = np.mean(
        [
            -(n - n_p) / n * np.log(q) if label else -n_p / n * np.log(1 - q)
            for q, label in zip(p, y, strict=True)
        ]
    )
    gap = sum(
        abs(p[(y == label) & (a == 1)].mean() - p[(y == label) & (a == 0)].mean()) / 2
        for label in (0, 1)
    )
    np.testing.assert_allclose(prediction.item(), bce, rtol=1e-5)
    np.testing.assert_allclose(bias.item(), gap, rtol=1e-5)
    np.testing.assert_allclose(total.item(), 0.3 * bce + 0.7 * gap, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "attributes"),
    [
        (np.ones(32), np.arange(32) % 2),  # one class
        (np.arange(32) % 2, np.zeros(32)),  # one group
        (np.arange(32) % 2, np.arange(32) % 2),  # two empty cells: label and group are one
        (np.arange(32) % 2, np.full(32, -1)),  # no attribute known
    ],
)
@pytest.mark.parametrize("class_weights", ["dataset", "batch"])
def test_empty_cells_and_one_class_give_no_nan(
    labels: np.ndarray,
    attributes: np.ndarray,
    class_weights: str,
    make_classifier: Any,
    make_samples: Any,
    make_context: Any,
) -> None:
    samples = make_samples(labels=labels, attributes=attributes.astype(int))
    context = make_context()
    context.finetuning = context.finetuning.model_copy(update={"class_weights": class_weights})
    classifier = train_all(make_classifier(), samples, context)
    assert all(value.isfinite().all() for value in classifier.state_dict().values())
    assert all(np.isfinite(row["loss"]) for row in context.history)


def test_no_batch_of_one(make_classifier: Any, make_samples: Any, make_context: Any) -> None:
    """BatchNorm cannot train on one sample of one pixel; 33 = 16 + 17."""
    sizes = []
    classifier = make_classifier()
    classifier.extractor.register_forward_hook(lambda _, inputs, out: sizes.append(len(out)))
    train_all(classifier, make_samples(33), make_context(epochs=1))
    assert sizes == [16, 17]


def test_every_sample_is_seen_once_an_epoch(
    make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    samples, seen = make_samples(50), []
    pixels = samples.pixels
    samples.pixels = lambda index: seen.append(index) or pixels(index)
    train_all(make_classifier(), samples, make_context(epochs=2))
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(50))
    assert not torch.equal(first, second)
    assert samples.seen == [100]


def test_a_loss_that_is_not_finite_stops_the_job(
    make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    context = make_context(epochs=4)
    context.optimizer = Optimizer(name="sgd", lr=1e30)
    with pytest.raises(
        NotFiniteError, match=r"^all epoch 1 step 2: the loss .*learning rate \(here 1e\+30\)"
    ):
        train_all(make_classifier(), make_samples(), context)


def test_log_has_a_line_an_epoch(
    make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    context = make_context(log=io.StringIO())
    train_all(make_classifier(), make_samples(), context, watch=lambda: {"validation_auc": 0.75})
    lines = context.log.getvalue().splitlines()
    assert len(lines) == 2
    for word in ("epoch 2/2", "loss", "bias", "validation auc 0.750", "images/s", "left 0:00"):
        assert word in lines[1]
    assert [row["validation_auc"] for row in context.history] == [0.75, 0.75]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_pretraining_learns_the_label(
    precision: str, make_classifier: Any, make_samples: Any, make_context: Any
) -> None:
    from swift_debias.config.schema import Pretraining

    recipe = Pretraining(epochs=20, batch_size=16, optimizer=Optimizer(name="adam", lr=1e-2))
    train, validation = make_samples(96, 0), make_samples(96, 1)
    classifier = make_classifier()
    context = make_context(compute=Compute(device="cpu", precision=precision))
    start = inference.auc(inference.predict(classifier, validation), validation.labels)
    loop.pretrain(classifier, train, validation, recipe, context)
    end = inference.auc(inference.predict(classifier, validation), validation.labels)
    assert end > max(start, 0.8)
    watched = context.history[-1]["validation_auc"]  # in the precision of the training
    assert watched == end if precision == "fp32" else watched == pytest.approx(end, abs=0.02)
    assert len(context.history) == 20


# --- scores ---------------------------------------------------------------------------------------


def test_auc_is_scikit_learns_also_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.integers(0, 2, 50)
        scores = rng.integers(0, 8, 50).astype(np.float32)
        found = inference.auc(torch.from_numpy(scores), torch.from_numpy(labels).float())
        np.testing.assert_allclose(found, roc_auc_score(labels, scores), rtol=1e-12)
    assert np.isnan(inference.auc(torch.ones(3), torch.ones(3)))


def test_external_score_is_balanced_accuracy_minus_gap(
    make_classifier: Any, make_samples: Any, train: Any
) -> None:
    samples = make_samples(80)
    classifier = train(make_classifier(), samples, steps=20)
    decisions = (inference.predict(classifier, samples) > 0).numpy()
    y, a = samples.labels.numpy(), samples.attributes.numpy()
    gap = sum(
        abs(decisions[(y == label) & (a == 0)].mean() - decisions[(y == label) & (a == 1)].mean())
        for label in (0, 1)
    )
    expected = balanced_accuracy_score(y, decisions) - gap / 2
    np.testing.assert_allclose(inference.external_score(classifier, samples), expected, rtol=1e-9)


def test_predictions_do_not_depend_on_the_batches(make_classifier: Any, make_samples: Any) -> None:
    classifier, samples = make_classifier().train(), make_samples(30)
    whole, parts = (inference.predict(classifier, samples, size) for size in (30, 7))
    torch.testing.assert_close(whole, parts)


# --- samples --------------------------------------------------------------------------------------


class Cache:
    """An image source, as images.CachedImages is one."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def gather(self, rows: np.ndarray) -> np.ndarray:
        return self.images[rows]


def test_resident_and_cached_samples_draw_the_same() -> None:
    rng = np.random.default_rng(0)
    cache = Cache(rng.integers(0, 256, (40, 6, 6, 3), dtype=np.uint8))
    rows, labels, groups = rng.permutation(40)[:30], rng.integers(0, 2, 30), rng.integers(0, 2, 30)
    on, off, auto = (
        make_samples(cache, rows, labels, groups, torch.device("cpu"), resident)
        for resident in ("on", "off", "auto")
    )
    index, view = torch.tensor([3, 0, 29, 7]), torch.tensor([0, 5, 7, 2])
    assert isinstance(on.source, Tensor)
    assert isinstance(off.source, Cache)
    assert torch.equal(on.draw(index, view), off.draw(index, view))
    assert torch.equal(auto.draw(index, view), off.draw(index, view))
    expected = torch.from_numpy(cache.images[rows[[3, 0, 29, 7]]]).permute(0, 3, 1, 2)
    assert torch.equal(on.pixels(index), expected)


@pytest.mark.parametrize("free", [1, 10**9])
def test_images_are_held_in_memory_only_where_they_fit(
    monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    monkeypatch.setattr(samples, "_free_memory", lambda _device: free)
    cache = Cache(np.zeros((4, 6, 6, 3), dtype=np.uint8))
    rows, zeros = np.arange(4), np.zeros(4)
    made = make_samples(cache, rows, zeros, zeros, torch.device("cpu"), "auto")
    assert isinstance(made.source, Tensor) == (free > 1)


def test_batches_drawn_one_after_the_other_are_those_drawn_alone(make_samples: Any) -> None:
    samples = make_samples(30)
    batches = list(torch.randperm(30, generator=torch.Generator().manual_seed(0)).split(8))
    view = torch.arange(30) % 8
    for index, images in zip(batches, samples.draws(batches, view), strict=True):
        assert torch.equal(images, samples.draw(index, view[index]))


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_reading_ahead_keeps_the_order_and_its_distance(ahead: int) -> None:
    begun: list[int] = []

    def read(item: int) -> int:
        begun.append(item)
        return item**2

    for number, value in enumerate(read_ahead(read, range(10), ahead)):
        assert value == number**2
        due, patience = min(number + ahead + 1, 10), time.monotonic() + 10
        while len(begun) < due and time.monotonic() < patience:
            time.sleep(0.001)  # the other thread's turn
        assert len(begun) == due
    assert begun == list(range(10))


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_while_reading_ahead_comes_at_its_turn(ahead: int) -> None:
    seen = []
    with pytest.raises(ZeroDivisionError):
        for value in read_ahead(lambda item: 1 / item, [2, 1, 0, 1], ahead):
            seen.append(value)
    assert seen == [0.5, 1.0]


@pytest.mark.parametrize("as_mask", [True, False])
def test_subset_of_a_subset(as_mask: bool, make_samples: Any) -> None:
    samples = make_samples(30)
    chosen = samples.attributes == 1
    index = chosen if as_mask else torch.nonzero(chosen).squeeze(1).numpy()
    subset = samples.subset(index).subset(np.array([4, 2]))
    at = torch.nonzero(chosen).squeeze(1)[[4, 2]]
    assert torch.equal(subset.draw(torch.tensor([0, 1])), samples.draw(at))
    assert torch.equal(subset.labels, samples.labels[at])
    assert subset.attributes.tolist() == [1, 1]
    assert samples.seen == [4]  # counted over all subsets


def test_batches_cover_the_set_in_order(make_samples: Any) -> None:
    samples = make_samples(10)
    batches = list(samples.batches(4))
    assert [len(batch.labels) for batch in batches] == [4, 4, 2]
    images = torch.cat([batch.images for batch in batches])
    assert torch.equal(images, samples.draw(torch.arange(10)))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), samples.labels)
    flipped = torch.cat([batch.images for batch in samples.batches(4, view=1)])
    assert torch.equal(flipped, images.flip(-1))


def test_other_groups_for_the_same_images(make_samples: Any) -> None:
    samples = make_samples(6)
    recoded = samples.with_attributes(torch.tensor([2, 2, 0, 0, 1, -1]))
    assert recoded.attributes.tolist() == [2, 2, 0, 0, 1, -1]
    assert torch.equal(recoded.pixels(torch.arange(6)), samples.pixels(torch.arange(6)))
    recoded.draw(torch.arange(4))
    assert samples.seen == [4]  # they count as the same images


def test_features_of_a_view_that_was_not_computed_are_refused() -> None:
    features = Features(torch.zeros(1, 3, 2), (0,), torch.zeros(3), torch.zeros(3).long())
    with pytest.raises(ValueError, match="not in tuple"):
        features.draw(torch.tensor([0]), torch.tensor([5]))


def test_prepare_device_sets_threads_and_determinism() -> None:
    from swift_debias.config.schema import Compute

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = True
    try:
        device = devices.prepare_device(Compute(device="cpu", threads=1, deterministic=True))
        assert device == torch.device("cpu")
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.empty(1 << 20).isnan().all()  # new memory is not filled
        assert not any(backend.allow_tf32 for backend in backends)  # scores are fp32 throughout
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def test_progress_bar_is_drawn_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parent, child = os.openpty()
    with os.fdopen(child, "w") as terminal, (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "__stderr__", terminal)
        with loop._progress("resnet50 sex swift fold 0 step1", images=200, done=50) as bar:
            bar.delay = bar.mininterval = 0
            bar.update(50)
        drawn = os.read(parent, 4096).decode()
        monkeypatch.setattr(sys, "__stderr__", log)
        with loop._progress("step1", images=200, done=0) as bar:
            bar.update(200)
    os.close(parent)
    assert "resnet50 sex swift fold 0 step1:  50%" in drawn and "100/200" in drawn
    assert not (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)],
)
def test_precision_follows_the_device_and_the_setting(
    precision: Any, expected: torch.dtype
) -> None:
    one = torch.ones(1, 1)
    with autocast(torch.device("cpu"), Compute(precision=precision)):
        assert (one @ one).dtype == expected


@pytest.mark.parametrize(("kind", "weights"), [("dataset", (0.75, 0.25)), ("batch", None)])
def test_class_weights_are_those_of_the_set_or_of_the_batch(
    kind: Any, weights: tuple[float, float] | None, make_samples: Any, make_context: Any
) -> None:
    samples = make_samples(labels=np.array([1, 0, 0, 0]))
    context = make_context(finetuning=Finetuning(class_weights=kind))
    assert context.objective(samples, prediction=1, bias=0).class_weights == weights


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_two_steps_of_an_optimizer_by_hand(kind: Any) -> None:
    """L2 decay joins the gradient; then SGD's momentum, or Adam's two averages."""
    lr, decay, momentum, gradient = 0.1, 0.5, 0.7, 2.0
    parameter = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    settings = Optimizer(name=kind, lr=lr, weight_decay=decay, momentum=momentum)
    optimizer = make_optimizer(settings, [parameter])
    value, velocity, first, second = 1.0, 0.0, 0.0, 0.0
    for step in (1, 2):
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        g = gradient + decay * value
        velocity = momentum * velocity + g
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        corrected = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)) ** 0.5 + 1e-8)
        value -= lr * (velocity if kind == "sgd" else corrected)
        assert parameter.item() == pytest.approx(value, rel=1e-6)


def test_cost_on_a_card_is_the_cards(make_classifier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its peak since the start, after all that was asked of it has ended. No card is needed."""
    asked: list[str] = []
    for name, answer in (
        ("reset_peak_memory_stats", None),
        ("synchronize", None),
        ("max_memory_allocated", 3 * 2**20),
        ("get_device_name", "a card"),
    ):
        told = lambda *_, name=name, answer=answer: asked.append(name) or answer  # noqa: E731
        monkeypatch.setattr(torch.cuda, name, told)
    cost = Cost(make_classifier(), torch.device("cuda"))
    assert asked == ["reset_peak_memory_stats"]
    found = cost.measure(make_classifier(), images_seen=1)
    assert (found["peak_memory_mb"], found["device"]) == (3.0, "a card")
    assert asked.index("synchronize") < asked.index("max_memory_allocated")


def test_cost_counts_what_changed(make_classifier: Any) -> None:
    classifier = make_classifier()
    cost = Cost(classifier, torch.device("cpu"))
    with torch.no_grad():
        classifier.head.linear.weight[0, :4] += 1
        classifier.extractor[1].running_mean += 1  # a buffer is no weight
        classifier.extractor[1].running_var[0] += 1
        classifier.extractor[1].num_batches_tracked += 1  # no statistic of the images
    found = cost.measure(classifier, images_seen=12)
    assert found["parameters_changed"] == 4
    assert found["buffers_changed"] == 4 + 1
    assert found["parameters"] == 3 * 4 * 9 + 2 * 4 + (4 * 9 + 1) * 6 + 2 * 6 + 6 + 1
    assert found["images_seen"] == 12
    assert found["seconds"] >= 0
    assert found["peak_memory_mb"] > 10  # Python alone is more
