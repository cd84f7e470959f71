"""The one training loop.

`fit` trains whatever is trainable in a module on a set of samples. Random state is derived anew for
every epoch from (seed, stage, epoch), so a run that is killed and resumed at an epoch's end makes
the same draws as an unbroken one, and nothing random needs to be stored in a checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Never

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..config.schema import Plateau, Pretraining
from ..errors import of_job
from ..seeds import derive_seed
from . import layouts
from .augment import draw_views
from .batches import order as order_of
from .checkpoints import AnyOptimizer
from .context import Context, Objective, make_optimizer, set_trainable
from .finite import Watch
from .inference import auc, predict
from .masked_optimizer import MaskedOptimizer
from .networks import Classifier
from .precision import autocast
from .samples import Drawable, Samples, few


def fit(
    module: nn.Module,
    samples: Drawable,
    objective: Objective,
    optimizer: AnyOptimizer,
    context: Context,
    stage: str,
    *,
    epochs: int | None = None,
    watch: Callable[[], dict[str, float]] | None = None,
    clip: float | None = None,
    rate: Callable[[list[dict[str, Any]]], float] | None = None,
    weights: Tensor | None = None,
    resume: Callable[[list[dict[str, Any]]], None] | None = None,
    before: Callable[[int], None] | None = None,
) -> None:
    """Train what is trainable in `module`; a row an epoch goes to the history and the log.

    Args:
        module: inputs -> logits (B,) or (B, C): a classifier, or a head on features. Its parts are
            in the train or eval mode they should have (see `set_trainable`).
        samples: the training set; its inputs are drawn in a random order and in random views.
        objective: what is minimized.
        optimizer: over the trainable parameters; may mask the updates.
        context: seed, batch size, augmentation, checkpoints, log.
        stage: name of this training stage, e.g. "step1"; seeds and checkpoints depend on it.
        epochs: default: the context's.
        watch: called after every epoch; its values join the epoch's row.
        clip: largest norm of a step's gradient; None: any.
        rate: rows of the epochs so far -> the learning rate of the next; None: it stays. Of the
            rows alone, so that a resumed run goes on with the same.
        weights: (n,) on the device, what the objective is given of each sample; None: nothing.
        resume: called with the rows of an earlier run, if it is carried on: for an objective that
            has a state of its own.
        before: called before every epoch with the number of those that are done, after a checkpoint
            was loaded.

    Raises:
        NotFiniteError: it diverged; names stage, epoch and step (see `finite.Watch`).
    """
    epochs = context.epochs if epochs is None else epochs
    forward: Callable[[Tensor], Tensor] = module
    enough = context.compute.compile_from
    # a head alone is not worth it
    if enough is not None and epochs * len(samples) >= enough and isinstance(samples, Samples):
        layouts.settle(module, lambda: few(samples))  # not in what is compiled
        forward = torch.compile(module)
    done, rows = context.checkpoints.load(stage, module, optimizer)
    if done:
        context.info(f"{stage}: resumed after epoch {done} of {epochs}")
        if resume is not None:
            resume(rows)
    started, first = time.monotonic(), done
    bar = _progress(f"{context.name} {stage}", epochs * len(samples), done * len(samples))
    inner = optimizer.optimizer if isinstance(optimizer, MaskedOptimizer) else optimizer
    for epoch in range(done, epochs):
        watched = Watch(f"{stage} epoch {epoch + 1}", module, inner)
        name = f"{stage}/{epoch}"
        if rate is not None:
            for group in inner.param_groups:
                group["lr"] = rate(rows)
        if before is not None:
            before(epoch)
        with torch.random.fork_rng():
            row = _epoch(
                forward, samples, objective, optimizer, context, name, bar, watched, clip, weights
            )
        # speed goes to the log alone, so that a history is the same bytes in every run
        speed = row.pop("images_per_second")
        with watched.scoring():
            row = {"stage": stage, "epoch": epoch + 1} | row | (watch() if watch else {})
        rows.append(row)
        left = (time.monotonic() - started) / (epoch + 1 - first) * (epochs - epoch - 1)
        context.info(_line(row, epochs, speed, left))
        if context.checkpoints.due():
            context.checkpoints.save(stage, epoch + 1, module, optimizer, rows)
    bar.close()
    context.history.extend(rows)


def _progress(title: str, images: int, done: int) -> tqdm[Never]:
    """A bar on the terminal, past the job's log; none in a file, a cluster job or a short stage."""
    return tqdm(
        desc=title.strip(),
        total=images,
        initial=done,
        unit="image",
        unit_scale=True,
        file=sys.__stderr__,
        disable=None,
        leave=False,
        delay=2,
    )


def _epoch(
    forward: Callable[[Tensor], Tensor],
    samples: Drawable,
    objective: Objective,
    optimizer: AnyOptimizer,
    context: Context,
    name: str,
    bar: tqdm[Never],
    watched: Watch,
    clip: float | None,
    weights: Tensor | None,
) -> dict[str, Any]:
    """One pass over the samples; returns its means."""
    started = time.monotonic()
    device = samples.labels.device
    torch.manual_seed(derive_seed(context.seed, name))  # dropout; the caller restores the state
    order, view = _draw_epoch(samples, context, name)
    in_autocast = isinstance(samples, Samples)  # a head alone gains nothing, and rounds its logits
    sums = torch.zeros(3, device=device)
    logits_seen, labels_seen = [], []
    batches = _split(order, context.batch_size)
    for index, inputs in zip(batches, samples.draws(batches, view), strict=True):
        at = index.to(device, non_blocking=True)
        with autocast(device, context.compute) if in_autocast else contextlib.nullcontext():
            logits = forward(inputs)
        logits, labels = logits.float(), samples.labels[at]
        own = () if weights is None else (weights[at],)
        parts = objective(logits, labels, samples.attributes[at], *own)
        optimizer.zero_grad(set_to_none=True)
        parts[0].backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(trained(optimizer), clip)
        optimizer.step()
        watched.step(parts[0])
        sums += torch.stack([part.detach() for part in parts]) * len(index)
        logits_seen.append(logits.detach())
        labels_seen.append(labels)
        bar.update(len(index))
    watched.check()
    total, prediction, bias = (sums / len(samples)).tolist()
    return {
        "loss": total,
        "prediction_loss": prediction,
        "bias": bias,
        "auc": auc(torch.cat(logits_seen), torch.cat(labels_seen)),
        "images_per_second": len(samples) / max(time.monotonic() - started, 1e-9),
    }


def _draw_epoch(samples: Drawable, context: Context, name: str) -> tuple[Tensor, Tensor]:
    """The order of an epoch's samples and the view of each, both int64 (n,); the same every time.

    `name` is "<stage>/<epoch>". A sample that is drawn again in an epoch has the same view.
    """
    generator = torch.Generator().manual_seed(derive_seed(context.seed, name))
    order = order_of(samples, context.finetuning.batches, generator)
    return order, draw_views(len(samples), context.augmentation, generator)


def drawn_views(samples: Drawable, context: Context, stage: str) -> Tensor:
    """Which views of which samples `fit` will draw in the context's epochs of this stage.

    Returns:
        bool (8, n): entry (v, i) says that sample i is seen in view v in some epoch.
    """
    drawn = torch.zeros(8, len(samples), dtype=torch.bool)
    for epoch in range(max(context.epochs, 1)):  # without epochs: those of the first
        order, view = _draw_epoch(samples, context, f"{stage}/{epoch}")
        drawn[view[order], order] = True
    return drawn


def _split(order: Tensor, batch_size: int) -> list[Tensor]:
    """Batches of the order; a last batch of one joins its neighbour (BatchNorm needs two)."""
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def trained(optimizer: AnyOptimizer) -> list[Tensor]:
    """What an optimizer trains."""
    inner = optimizer.optimizer if isinstance(optimizer, MaskedOptimizer) else optimizer
    return [parameter for group in inner.param_groups for parameter in group["params"]]


def plateau_rate(aucs: Sequence[float], lr: float, plateau: Plateau) -> float:
    """The learning rate after epochs with these held-out AUCs (torch's ReduceLROnPlateau).

    An AUC is better if it exceeds the best so far by more than a ten-thousandth of it, as there.
    """
    best, bad = -math.inf, 0
    for auc_of_epoch in aucs:
        if auc_of_epoch > best * (1 + 1e-4) or best == -math.inf:
            best, bad = auc_of_epoch, 0
        else:
            bad += 1
        if bad > plateau.patience:
            lr, bad = lr * plateau.factor, 0
    return lr


def _line(row: dict[str, Any], epochs: int, speed: float, left: float) -> str:
    """An epoch in the log."""
    watched = {k: v for k, v in row.items() if k.startswith("validation_")}
    extra = "".join(f"  {k.replace('_', ' ')} {v:.3f}" for k, v in watched.items())
    minutes, seconds = divmod(int(left + 0.5), 60)
    return (
        f"{row['stage']}  epoch {row['epoch']}/{epochs}  loss {row['loss']:.4f}  "
        f"prediction {row['prediction_loss']:.4f}  bias {row['bias']:.4f}  auc {row['auc']:.3f}"
        f"{extra}  {speed:.0f} images/s  left {minutes}:{seconds:02d}"
    )


def pretrain(
    classifier: Classifier,
    train: Samples,
    validation: Samples,
    recipe: Pretraining,
    context: Context,
) -> None:
    """Train everything on the weighted prediction loss (Section 4.2); watches the held-out AUC."""
    context.decide_precision(train)
    set_trainable(classifier, extractor=True, head=True)
    optimizer = make_optimizer(recipe.optimizer, classifier.parameters())

    def watch() -> dict[str, float]:
        """In the precision of the training: it is for the log, and nothing is decided by it."""
        with autocast(validation.device, context.compute):
            logits = predict(classifier, validation)
        return {"validation_auc": auc(logits.float(), validation.labels)}

    def rate(rows: list[dict[str, Any]]) -> float:
        assert recipe.plateau is not None
        aucs = [row["validation_auc"] for row in rows]
        return plateau_rate(aucs, recipe.optimizer.lr, recipe.plateau)

    with of_job(context.name):
        fit(
            classifier,
            train,
            context.objective(train, prediction=1, bias=0),
            optimizer,
            context,
            "pretraining",
            epochs=recipe.epochs,
            watch=watch,
            clip=recipe.clip,
            rate=rate if recipe.plateau else None,
        )
