"""The one training loop, and what every method needs around it.

`fit` trains whatever is trainable in a module on a set of samples. Random state is derived anew for
every epoch from (seed, stage, epoch), so a run that is killed and resumed at an epoch's end makes
the same draws as an unbroken one, and nothing random needs to be stored in a checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Never, TextIO, TypeAlias

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from . import losses
from .augment import draw_views
from .masks import MaskedOptimizer
from .networks import Classifier, changed_parameters
from .samples import Drawable, Features, Samples
from .seeds import derive_seed
from .settings import (
    Augmentation,
    Compute,
    EoddsKind,
    Finetuning,
    Optimizer,
    Pretraining,
)

# (logits, labels, attributes) -> (what is minimized, prediction loss, bias)
Objective: TypeAlias = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
AnyOptimizer: TypeAlias = torch.optim.Optimizer | MaskedOptimizer
History: TypeAlias = list[dict[str, Any]]


@dataclass
class ExternalSet:
    """The external set of one fold and one binary attribute (methods.md, SWiFT 1).

    full: every sample of the validation fold whose attribute is known.
    balanced: the part of it in which both groups have the same size and label ratio.
    """

    full: Samples
    balanced: Samples


# --- precision ------------------------------------------------------------------------------------


def autocast(device: torch.device, compute: Compute) -> contextlib.AbstractContextManager[Any]:
    """bf16 where it pays: on a GPU that has it. Weights, updates and losses stay fp32."""
    precision = compute.precision
    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        precision = "bf16" if fast else "fp32"
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


# --- objectives -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Combined:
    """Weighted sum of prediction loss (Eq. 1) and fairness proxy (Eq. 2); Eq. 10 is (l, 1 - l).

    class_weights: (positive, negative) of Eq. 1, or None to count each batch.
    """

    prediction: float
    bias: float
    class_weights: tuple[float, float] | None
    eodds: EoddsKind

    def __call__(
        self, logits: Tensor, labels: Tensor, attributes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Total, prediction loss and bias; a part that has no weight is only watched."""
        with contextlib.nullcontext() if self.prediction else torch.no_grad():
            prediction = losses.weighted_bce(logits, labels, self.class_weights)
        with contextlib.nullcontext() if self.bias else torch.no_grad():
            bias = losses.eodds_gap(logits, labels, attributes, self.eodds)
        return self.prediction * prediction + self.bias * bias, prediction, bias


# --- checkpoints ----------------------------------------------------------------------------------


class Checkpoints:
    """Epoch-end states of a job's training stages, so that a killed job carries on.

    A checkpoint is used only if its key equals the job's: the key stands for all the settings, code
    and inputs of the job. Everything is stored as safetensors with a JSON header.
    """

    def __init__(self, folder: Path | None, key: str = "", every_seconds: float = 60.0) -> None:
        self.folder, self.key, self.every_seconds = folder, key, every_seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to save again."""
        return self.folder is not None and time.monotonic() - self._last >= self.every_seconds

    def save(
        self, stage: str, epoch: int, module: nn.Module, optimizer: AnyOptimizer, history: History
    ) -> None:
        """Store a stage's state after `epoch` epochs, whole or not at all."""
        assert self.folder is not None
        tensors = {f"module/{name}": value for name, value in module.state_dict().items()}
        plain: dict[str, Any] = {}
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{index}/{name}"] = value
                else:
                    plain[f"{index}/{name}"] = value
        header = {"key": self.key, "epoch": epoch, "history": history, "plain": plain}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{stage}.safetensors"
        partial = path.with_suffix(".partial")
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(contiguous, partial, metadata={"state": json.dumps(header)})
        partial.replace(path)
        self._last = time.monotonic()

    def load(self, stage: str, module: nn.Module, optimizer: AnyOptimizer) -> tuple[int, History]:
        """Restore a stage; returns the epochs done and its history, (0, []) if there is none."""
        path = self.folder / f"{stage}.safetensors" if self.folder is not None else None
        if path is None or not path.is_file():
            return 0, []
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception:  # a damaged checkpoint is no checkpoint
            return 0, []
        if header["key"] != self.key:
            return 0, []
        own = {k.removeprefix("module/"): v for k, v in tensors.items() if k.startswith("module/")}
        module.load_state_dict(own)
        state: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "optimizer":
                index, _, entry = rest.partition("/")
                state.setdefault(int(index), {})[entry] = value
        for name, value in header["plain"].items():
            index, _, entry = name.partition("/")
            state.setdefault(int(index), {})[entry] = value
        # In the layout of the parameters, as it was: fused optimizers go through memory in order.
        inner = optimizer.optimizer if isinstance(optimizer, MaskedOptimizer) else optimizer
        parameters = [p for group in inner.param_groups for p in group["params"]]
        for index, entries in state.items():
            for name, value in entries.items():
                if isinstance(value, Tensor) and value.shape == parameters[index].shape:
                    entries[name] = torch.empty_like(parameters[index].detach()).copy_(value)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return header["epoch"], header["history"]

    def clear(self) -> None:
        """Remove them: the job's results are written."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


# --- what a method is handed ----------------------------------------------------------------------


@dataclass
class Context:
    """Everything a method may use besides the classifier, the external set and its settings.

    Attributes:
        seed: derived from (seed, task, backbone, attribute, method, fold); methods derive from it.
        epochs: E, epochs of each fine-tuning step.
        batch_size: images a batch, as in pre-training.
        optimizer: the task's optimizer; its learning rate is replaced step by step.
        importance: () -> the shared diagonal importances, objective (`external.SHARED`) ->
            parameter name -> tensor.
        name: of the job, on the progress bar.
    """

    seed: int
    epochs: int
    batch_size: int
    optimizer: Optimizer
    finetuning: Finetuning
    augmentation: Augmentation
    compute: Compute
    importance: Callable[[], Mapping[str, dict[str, Tensor]]] = dict
    checkpoints: Checkpoints = field(default_factory=lambda: Checkpoints(None))
    log: TextIO = field(default_factory=lambda: sys.stderr)
    history: History = field(default_factory=list)
    name: str = ""

    def make_optimizer(
        self, parameters: Iterable[nn.Parameter] | list[dict[str, Any]], lr: float | None = None
    ) -> torch.optim.Optimizer:
        """The task's optimizer on these parameters, at this learning rate.

        `parameters` may be torch's parameter groups with a learning rate each.
        """
        return make_optimizer(self.optimizer, parameters, lr)

    def objective(self, samples: Drawable, prediction: float, bias: float) -> Combined:
        """`prediction` x Eq. 1 + `bias` x Eq. 2, with the class weights of these samples."""
        dataset = self.finetuning.class_weights == "dataset"
        weights = losses.class_weights(samples.labels) if dataset else None
        return Combined(prediction, bias, weights, self.finetuning.eodds)

    def say(self, text: str) -> None:
        """A line in the job's log."""
        print(text, file=self.log, flush=True)


def make_optimizer(
    settings: Optimizer,
    parameters: Iterable[nn.Parameter] | list[dict[str, Any]],
    lr: float | None = None,
) -> torch.optim.Optimizer:
    """SGD or Adam with L2 weight decay, as the paper pre-trains (Section 4.2).

    `lr` defaults to the settings' learning rate. Fused: a pass over the weights instead of several.
    """
    lr, decay = settings.lr if lr is None else lr, settings.weight_decay
    if settings.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=lr, momentum=settings.momentum, weight_decay=decay, fused=True
        )
    return torch.optim.Adam(parameters, lr=lr, weight_decay=decay, fused=True)


def set_trainable(classifier: Classifier, *, extractor: bool, head: bool) -> None:
    """Choose what is trained. A frozen part is in eval mode too.

    A frozen network in train mode would still move its BatchNorm statistics and drop features.
    """
    for part, on in ((classifier.extractor, extractor), (classifier.head, head)):
        part.requires_grad_(on)
        part.train(on)


# --- the loop -------------------------------------------------------------------------------------


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
) -> None:
    """Train what is trainable in `module`; a row an epoch goes to the history and the log.

    Args:
        module: inputs -> logits (B,): a classifier, or a head on features. Its parts are in the
            train or eval mode they should have (see `set_trainable`).
        samples: the training set; its inputs are drawn in a random order and in random views.
        objective: what is minimized.
        optimizer: over the trainable parameters; may mask the updates.
        context: seed, batch size, augmentation, checkpoints, log.
        stage: name of this training stage, e.g. "step1"; seeds and checkpoints depend on it.
        epochs: default: the context's.
        watch: called after every epoch; its values join the epoch's row.
    """
    epochs = context.epochs if epochs is None else epochs
    forward: Callable[[Tensor], Tensor] = module
    enough = context.compute.compile_from
    # a head alone is not worth it
    if enough is not None and epochs * len(samples) >= enough and isinstance(samples, Samples):
        forward = torch.compile(module)
    done, rows = context.checkpoints.load(stage, module, optimizer)
    if done:
        context.say(f"{stage}: resumed after epoch {done} of {epochs}")
    started, first = time.monotonic(), done
    bar = _progress(f"{context.name} {stage}", epochs * len(samples), done * len(samples))
    for epoch in range(done, epochs):
        with torch.random.fork_rng():
            row = _epoch(forward, samples, objective, optimizer, context, f"{stage}/{epoch}", bar)
        # speed goes to the log alone, so that a history is the same bytes in every run
        speed = row.pop("images_per_second")
        row = {"stage": stage, "epoch": epoch + 1} | row | (watch() if watch else {})
        rows.append(row)
        left = (time.monotonic() - started) / (epoch + 1 - first) * (epochs - epoch - 1)
        context.say(_line(row, epochs, speed, left))
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
) -> dict[str, Any]:
    """One pass over the samples; returns its means."""
    started = time.monotonic()
    device = samples.labels.device
    torch.manual_seed(derive_seed(context.seed, name))  # dropout; the caller restores the state
    order, view = _draw_epoch(len(samples), context, name)
    sums = torch.zeros(3, device=device)
    logits_seen, labels_seen = [], []
    batches = _split(order, context.batch_size)
    for index, inputs in zip(batches, samples.draws(batches, view), strict=True):
        at = index.to(device, non_blocking=True)
        with autocast(device, context.compute):
            logits = forward(inputs)
        logits, labels = logits.float(), samples.labels[at]
        parts = objective(logits, labels, samples.attributes[at])
        optimizer.zero_grad(set_to_none=True)
        parts[0].backward()
        optimizer.step()
        sums += torch.stack([part.detach() for part in parts]) * len(index)
        logits_seen.append(logits.detach())
        labels_seen.append(labels)
        bar.update(len(index))
    total, prediction, bias = (sums / len(samples)).tolist()
    if not all(map(_finite, (total, prediction, bias))):
        raise FloatingPointError(f"{name}: the loss is not finite; lower the learning rate")
    return {
        "loss": total,
        "prediction_loss": prediction,
        "bias": bias,
        "auc": auc(torch.cat(logits_seen), torch.cat(labels_seen)),
        "images_per_second": len(samples) / max(time.monotonic() - started, 1e-9),
    }


def _draw_epoch(n: int, context: Context, name: str) -> tuple[Tensor, Tensor]:
    """The order of an epoch's samples and the view of each, both int64 (n,); the same every time.

    `name` is "<stage>/<epoch>".
    """
    generator = torch.Generator().manual_seed(derive_seed(context.seed, name))
    order = torch.randperm(n, generator=generator)
    return order, draw_views(n, context.augmentation, generator)


def drawn_views(n: int, context: Context, stage: str) -> Tensor:
    """Which views of which of n samples `fit` will draw in the context's epochs of this stage.

    Returns:
        bool (8, n): entry (v, i) says that sample i is seen in view v in some epoch.
    """
    drawn = torch.zeros(8, n, dtype=torch.bool)
    for epoch in range(max(context.epochs, 1)):  # without epochs: those of the first
        _, view = _draw_epoch(n, context, f"{stage}/{epoch}")
        drawn[view, torch.arange(n)] = True
    return drawn


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")


def _split(order: Tensor, batch_size: int) -> list[Tensor]:
    """Batches of the order; a last batch of one joins its neighbour (BatchNorm needs two)."""
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


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


def auc(logits: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve for the progress log, ties counted half; nan with one class.

    The pooled ranks of a device tensor; reported metrics use scikit-learn (metrics.py).
    """
    positive, negative = logits[labels > 0.5], logits[labels <= 0.5].sort().values
    if not len(positive) or not len(negative):
        return float("nan")
    below = torch.searchsorted(negative, positive) + torch.searchsorted(
        negative, positive, right=True
    )
    return float((below.double() / 2).mean() / len(negative))


def pretrain(
    classifier: Classifier,
    train: Samples,
    validation: Samples,
    recipe: Pretraining,
    context: Context,
) -> None:
    """Train everything on the weighted prediction loss (Section 4.2); watches the held-out AUC."""
    set_trainable(classifier, extractor=True, head=True)
    optimizer = make_optimizer(recipe.optimizer, classifier.parameters())

    def watch() -> dict[str, float]:
        """In the precision of the training: it is for the log, and nothing is decided by it."""
        with autocast(validation.device, context.compute):
            logits = predict(classifier, validation)
        return {"validation_auc": auc(logits.float(), validation.labels)}

    fit(
        classifier,
        train,
        context.objective(train, prediction=1, bias=0),
        optimizer,
        context,
        "pretraining",
        epochs=recipe.epochs,
        watch=watch,
    )


# --- inference ------------------------------------------------------------------------------------


@contextlib.contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; the train or eval mode of every part is restored."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def predict(classifier: Classifier, samples: Samples, batch_size: int = 256) -> Tensor:
    """Logits of the whole set, float32 (n,) on the device: eval mode, fp32, no augmentation.

    Inside autocast they have its precision.
    """
    with inference(classifier):
        return torch.cat([classifier(batch.images) for batch in samples.batches(batch_size)])


def extract_features(
    classifier: Classifier,
    samples: Samples,
    drawn: Tensor | None = None,
    batch_size: int = 256,
) -> Features:
    """Features of the frozen extractor, in every view that the training of a head will draw.

    Training a head on them is the same as passing the augmented images through the frozen extractor
    in every epoch, at a fraction of the cost: the set of views is finite (augment.py), so epochs
    meet the same views again.

    Args:
        drawn: bool (views, n) of `drawn_views`; None: the original view only. Features of what is
            never drawn are nan, so that a training that draws them all the same would fail.
    """
    wanted = torch.ones(1, len(samples), dtype=torch.bool) if drawn is None else drawn
    views = tuple(view for view in range(len(wanted)) if wanted[view].any())
    values: list[Tensor] = []
    with inference(classifier):
        for view in views:
            some = samples.subset(wanted[view]).batches(batch_size, view)
            found = torch.cat([classifier.extractor(batch.images) for batch in some])
            full = found.new_full((len(samples), found.shape[1]), float("nan"))
            full[wanted[view].to(found.device)] = found
            values.append(full)
        stacked = torch.stack(values)
    # inference tensors cannot take part in autograd
    return Features(stacked.clone(), views, samples.labels, samples.attributes)


def external_score(classifier: Classifier, samples: Samples) -> float:
    """Balanced accuracy minus EOdds gap at threshold 0.5: how settings are searched.

    Only ever on the external set; a group or class without samples drops its term.
    """
    positive = predict(classifier, samples) > 0
    labels = samples.labels > 0.5
    rates = {
        (label, group): positive[cell].double().mean().item()
        for label in (True, False)
        for group in (0, 1)
        if (cell := (labels == label) & (samples.attributes == group)).any()
    }
    gaps = [
        abs(rates[label, 0] - rates[label, 1])
        for label in (True, False)
        if (label, 0) in rates and (label, 1) in rates
    ]
    recall = positive[labels].double().mean() + (~positive[~labels]).double().mean()
    return float(recall / 2) - sum(gaps) / 2


# --- cost -----------------------------------------------------------------------------------------


class Cost:
    """What a job cost, for the cost table; the clock starts when the object is made."""

    def __init__(self, classifier: Classifier, device: torch.device) -> None:
        self.started, self.device = time.perf_counter(), device
        self.before = {
            name: value.detach().cpu().clone() for name, value in classifier.named_parameters()
        }
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def measure(self, classifier: Classifier, images_seen: int) -> dict[str, Any]:
        """Seconds, peak memory (MB), images drawn, weights changed and weights in all."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            peak = torch.cuda.max_memory_allocated(self.device) / 2**20
            name = torch.cuda.get_device_name(self.device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            name = "cpu"
        return {
            "seconds": round(time.perf_counter() - self.started, 3),
            "peak_memory_mb": round(peak, 1),
            "images_seen": images_seen,
            "parameters_changed": changed_parameters(self.before, classifier),
            "parameters": sum(p.numel() for p in classifier.parameters()),
            "device": name,
        }
