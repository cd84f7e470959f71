"""DiffGda: bias gradient descent/ascent (Marcinkevics et al., MLHC 2022).

All weights follow the gradient of a signed, differentiable bias, towards zero, with no task loss;
the least biased iterate that is still accurate is kept (_iterate.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..config.base import Count, Positive, Share
from ._iterate import Evaluation, Proxy, Selection, SelectionSettings, directed_gap, evaluate

if TYPE_CHECKING:
    from torch import Tensor

    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet, Samples

CLASS = "DiffGda"
IMPORTANCES: tuple[str, ...] = ()
STAGE = "diffgda"


class Settings(SelectionSettings):
    """Steps of the descent, and which iterate is kept."""

    lr: Positive = Field(1e-5, description="Adam [code].")
    evaluations: Count = Field(5, description="Evaluations an epoch, at most one a batch [code].")
    stop_balanced_accuracy: Share = Field(
        0.52, description="The search ends at or below this balanced accuracy [code]."
    )


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """E epochs on the full external set, without augmentation and dropout.

    BatchNorm does as `finetuning.batchnorm` says; the iterates are judged in eval mode [code: train
    mode for both].
    """
    descent = _Descent(classifier, external.full, settings, context)
    with context.moving_batchnorm(classifier):
        descent.run()
    return descent.best


class _Descent:
    """The search: the current network, the best one so far, and what was measured.

    Both networks are checkpointed together; the state of the selection follows from the history.
    """

    def __init__(
        self, classifier: Classifier, samples: Samples, settings: Settings, context: Context
    ) -> None:
        import copy

        import torch

        self.samples, self.settings, self.context = samples, settings, context
        # On the CPU, so that to look at a batch's cells does not wait for a GPU.
        self.labels, self.attributes = samples.labels.cpu(), samples.attributes.cpu()
        self.now, self.best = classifier, copy.deepcopy(classifier)
        self.selection = Selection(self.evaluate(), settings, settings.stop_balanced_accuracy)
        classifier.eval().requires_grad_(True)
        self.optimizer = torch.optim.Adam(classifier.parameters(), lr=settings.lr, fused=True)
        self.rows: list[dict[str, Any]] = []
        self.over = False

    def run(self) -> None:
        """All epochs that are left, or until accuracy is gone."""
        from torch import nn

        context, start = self.context, self.selection.best
        direction = "ascent" if self.selection.ascend else "descent"
        context.info(f"{STAGE}  {direction} from {_text(start)}")
        networks = nn.ModuleDict({"now": self.now, "best": self.best})
        done, rows = context.checkpoints.load(STAGE, networks, self.optimizer)
        for row in rows:
            self.record(_measured(row), row["epoch"], row["batch"])
        for epoch in range(done + 1, context.epochs + 1):
            if self.over:
                break
            self.epoch(epoch)
            if context.checkpoints.due():
                context.checkpoints.save(STAGE, epoch, networks, self.optimizer, self.rows)
        context.history.extend(self.rows)
        context.info(f"{STAGE}  {self.selection.verdict()}")

    def epoch(self, epoch: int) -> None:
        """One pass over the samples; the best network takes over each iterate that is better."""
        import torch

        from ..learning import batches as batches_of
        from ..learning.finite import Watch
        from ..seeds import derive_seed

        started, context, drawn, skipped = time.monotonic(), self.context, 0, 0
        watched = Watch(f"{STAGE} epoch {epoch}", self.now, self.optimizer)
        generator = torch.Generator().manual_seed(derive_seed(context.seed, f"{STAGE}/{epoch}"))
        order = batches_of.order(self.samples, context.finetuning.batches, generator)
        batches = order.split(context.batch_size)
        evaluations = min(self.settings.evaluations, len(batches))
        due = {len(batches) * k // evaluations for k in range(1, evaluations + 1)}
        for number, index in enumerate(batches, start=1):
            drawn += len(index)
            gap = self.step(index)
            if gap is None:
                skipped += 1
            else:
                watched.step(gap)
            if number in due:
                watched.check()
                with watched.scoring():
                    found = self.evaluate()
                if self.record(found, epoch, number):
                    self.best.load_state_dict(self.now.state_dict())
            if self.over:
                break
        speed = drawn / max(time.monotonic() - started, 1e-9)
        left = (time.monotonic() - started) * (context.epochs - epoch)
        context.info(
            f"{STAGE}  epoch {epoch}/{context.epochs}  {_text(_measured(self.rows[-1]))}  "
            f"{skipped} batches skipped for an empty cell  {speed:.0f} images/s  left {left:.0f} s"
        )

    def step(self, index: Tensor) -> Tensor | None:
        """One step on one batch; its bias, or None, and no step, if it lacks a cell that counts."""
        from ..learning.precision import autocast

        has = has_cells(
            self.labels[index], self.attributes[index], self.settings.proxy, self.samples.classes
        )
        if not has:
            return None
        at = index.to(self.samples.device, non_blocking=True)
        labels, attributes = self.samples.labels[at], self.samples.attributes[at]
        with autocast(self.samples.device, self.context.compute):
            logits = self.now(self.samples.draw(index))
        proxy, signs = self.settings.proxy, self.selection.signs
        gap = directed_gap(proxy, logits.float(), labels, attributes, signs)
        self.optimizer.zero_grad(set_to_none=True)
        (-gap if self.selection.ascend else gap).backward()
        self.optimizer.step()
        return gap

    def evaluate(self) -> Evaluation:
        """The current network on the external set."""
        from ..learning.inference import predict

        logits, samples = predict(self.now, self.samples), self.samples
        return evaluate(logits, samples.labels, samples.attributes, self.settings.proxy)

    def record(self, now: Evaluation, epoch: int, batch: int) -> bool:
        """Note an evaluation; whether it is the best so far."""
        row = {"stage": STAGE, "epoch": epoch, "batch": batch} | {
            "balanced_accuracy": now.balanced_accuracy,
            "hard_bias": now.bias,
            "threshold": now.threshold,
        }
        self.rows.append(row)
        self.over = self.selection.over(now)
        return self.selection.offer(now)


def has_cells(labels: Tensor, attributes: Tensor, proxy: Proxy, classes: int = 2) -> bool:
    """Whether a batch has every cell whose rate the proxy compares; of C classes, of some class.

    A batch hardly ever has all cells of all classes; those without drop their term.
    """
    from ..learning import losses

    if classes > 2:
        against = [(labels == c).to(labels.dtype) for c in range(classes)]
        return any(has_cells(y, attributes, proxy) for y in against)

    if proxy == "spd":
        return bool((attributes == 0).any() and (attributes == 1).any())
    true_positive, false_positive = losses.usable_terms(labels, attributes)
    return true_positive and (false_positive or proxy == "eopp")


def _measured(row: dict[str, Any]) -> Evaluation:
    return Evaluation(row["balanced_accuracy"], row["hard_bias"], row["threshold"])


def _text(now: Evaluation) -> str:
    return f"hard bias {now.bias:+.4f}  balanced accuracy {now.balanced_accuracy:.4f}"
