"""Running the trials of a search: a method's grid on one part of every fold's external set."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np

from ..config.schema import Method, Selection
from ..errors import NotFiniteError, UserError
from ..files import atomic_path
from ..seeds import derive_seed
from . import load, read_importances, with_settings
from ._choice import Choice
from ._external import balance
from ._selection import Scored, Trial, auc_change, choose, judge, points, split
from .base import Outcome, Training, debias

if TYPE_CHECKING:
    from torch import Tensor

    from ..learning.networks import Classifier
    from ..learning.samples import Samples


class Fold(NamedTuple):
    """What a search needs of one fold.

    classifier: the Baseline, on its device. samples: the external set, groups 0, 1, ... patients:
    (n,), whose image each is; null: somebody of their own. seed, set_seed: see `base.debias`.
    select: bool (n,), samples that trials are judged on and not fitted on; None: some are drawn.
    """

    classifier: Classifier
    samples: Samples
    patients: np.ndarray
    seed: int
    set_seed: int
    select: np.ndarray | None = None


class Made(NamedTuple):
    """What a trial's model says of samples: P(class 1), and decisions where a rule makes them."""

    scores: np.ndarray
    decisions: np.ndarray | None


def search(
    folds: Sequence[Callable[[], Fold]],
    variant: Method,
    choice: Choice,
    training: Training,
    selection: Selection,
    journal: Path | None,
    key: str,
    log: TextIO,
) -> dict[str, Any]:
    """Try every point of a variant's grid and choose one for all folds.

    Args:
        folds: () -> a fold; called one after the other, so that one is held at a time.
        variant: with its grid in `search`.
        choice: the groups that are compared.
        training: see there.
        selection: how much to judge on, and by which rule.
        journal: folder for the scores of finished trials, so that a killed search carries on.
        key: stands for everything the trials depend on; scores under another key are not used.
        log: for the progress.

    Returns:
        chosen (settings), trials (settings and what they scored), baseline, rule, reason,
        underpowered, select_images, thresholds (a fold's, of the chosen trial), seconds and
        images_seen (of all trials).
    """
    assert isinstance(variant.search, dict)
    grid = list(points(variant.search))
    started, seen = time.perf_counter(), 0
    baseline: list[Scored] = []
    trials: list[list[Scored]] = [[] for _ in grid]
    for number, open_fold in enumerate(folds):
        held, scored, spent = _fold(
            number, open_fold(), variant, grid, choice, training, selection, journal, key, log
        )
        baseline.append(held)
        for found, of_fold in zip(trials, scored, strict=True):
            found.append(of_fold)
        seen += spent
    of_baseline = judge(baseline)
    judged = [
        Trial(settings, judge(scored), *auc_change(scored, baseline))
        for settings, scored in zip(grid, trials, strict=True)
    ]
    if all(math.isnan(trial.judged.auc) for trial in judged):
        raise UserError(
            f"{variant.algorithm}: no trial of its search can be judged, since all diverged or a "
            "class is missing: lower the learning rates in `search`, or give more external images"
        )
    verdict = choose(judged, of_baseline, selection)
    best = judged[verdict.best]
    print(f"chosen: {json.dumps(best.settings)} ({verdict.reason})", file=log)
    if verdict.underpowered:
        print(f"underpowered: the AUC's change has a standard error of {best.auc_se:.3f}", file=log)
    return {
        "chosen": best.settings,
        "rule": selection.rule,
        "reason": verdict.reason,
        "underpowered": verdict.underpowered,
        "select_images": int(sum(len(fold.labels) for fold in baseline)),
        "thresholds": list(best.judged.thresholds),
        "baseline": _plain(of_baseline._asdict()),
        "trials": [
            _plain(
                {"settings": t.settings, "auc_change": t.auc_change, "auc_se": t.auc_se}
                | t.judged._asdict()
            )
            for t in judged
        ],
        "seconds": round(time.perf_counter() - started, 3),
        "images_seen": seen,
    }


def _fold(
    number: int,
    fold: Fold,
    variant: Method,
    grid: Sequence[dict[str, Any]],
    choice: Choice,
    training: Training,
    selection: Selection,
    journal: Path | None,
    key: str,
    log: TextIO,
) -> tuple[Scored, list[Scored], int]:
    """All trials of one fold: the Baseline's scores, each trial's, and the images drawn."""
    from ..importance.shared import shared_importance
    from ..learning.inference import predict
    from ..learning.samples import ExternalSet

    samples, patients, rows = _compared(fold.samples, fold.patients, choice)
    labels = samples.labels.cpu().numpy().astype(np.int64)
    groups = samples.attributes.cpu().numpy()
    wanted = sorted({n for point in grid for n in _reads(with_settings(variant, point))})
    if fold.select is not None:
        cuts = [(~fold.select[rows], fold.select[rows])]
    else:
        cuts = split(
            labels, groups, patients, selection, training.finetuning.min_cell,
            derive_seed(fold.set_seed, "select"),
        )  # fmt: skip
    judged_on = np.concatenate([np.flatnonzero(select) for _, select in cuts])
    scores: list[list[Made]] = [[] for _ in grid]
    before: list[np.ndarray] = []
    binary = Choice(None, choice.unprivileged, {})
    samples.seen[0] = 0
    for part, (fit, select) in enumerate(cuts):
        rng = np.random.default_rng(derive_seed(fold.set_seed, "search", part))
        inner = samples.subset(fit)
        balanced = balance(labels[fit], groups[fit], rng, 1)
        external = ExternalSet(full=inner, balanced=inner.subset(balanced))
        rest = samples.subset(select)
        before.append(_probabilities(predict(fold.classifier, rest)))
        stored: dict[str, dict[str, Tensor]] = {}
        for index, point in enumerate(grid):
            path = None if journal is None else journal / f"fold{number}_part{part}_{index}.npz"
            found = _read(path, key)
            if found is None:
                print(f"fold {number} part {part + 1} of {len(cuts)}: {point}", file=log)
                if wanted and not stored:
                    stored = shared_importance(
                        fold.classifier, external, training.finetuning,
                        training.pretraining.batch_size, fold.set_seed, wanted,
                    )  # fmt: skip
                try:
                    outcome = debias(
                        copy.deepcopy(fold.classifier),
                        inner,
                        balanced,
                        2,
                        with_settings(variant, point),
                        training,
                        lambda: binary,
                        seed=fold.seed,
                        set_seed=fold.set_seed,
                        stored=lambda stored=stored: stored,  # type: ignore[misc]
                        patients=patients[fit],
                        log=log,
                    )
                    found = _made(outcome, rest)
                except NotFiniteError as error:  # a point of the grid, not the end of the search
                    print(f"this trial diverged and is not taken: {error}", file=log)
                    found = Made(np.full(len(rest), np.nan), None)
                _write(path, key, found)
            scores[index].append(found)
    truth = (labels[judged_on], groups[judged_on], patients[judged_on])
    return (
        Scored(np.concatenate(before), *truth),
        [Scored(joined.scores, *truth, joined.decisions) for joined in map(_joined, scores)],
        samples.seen[0],
    )


def _compared(
    samples: Samples, patients: np.ndarray, choice: Choice
) -> tuple[Samples, np.ndarray, np.ndarray]:
    """The samples of the two compared groups, as groups 0 and 1, and which rows they are."""
    if choice.pair is None:
        return samples, patients, np.arange(len(samples))
    groups = samples.attributes.cpu().numpy()
    rows = np.flatnonzero(np.isin(groups, choice.pair))
    kept = samples.subset(rows)
    recoded = (groups[rows] == choice.pair[1]).astype(np.int64)
    return kept.with_attributes(kept.attributes.new_tensor(recoded)), patients[rows], rows


def _reads(variant: Method) -> tuple[str, ...]:
    """The importances that a trial reads."""
    settings = load(variant.algorithm).Settings(**variant.settings)
    return read_importances(variant.algorithm, settings)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """For JSON, which has no nan."""
    return {k: None if isinstance(v, float) and v != v else v for k, v in values.items()}


def _made(outcome: Outcome, rest: Samples) -> Made:
    """What a trial's model says of samples that it was not fitted on."""
    from ..learning.inference import predict

    scores = _probabilities(predict(outcome.classifier, rest))
    if outcome.rule is None:
        return Made(scores, None)
    groups = rest.attributes.cpu().numpy()
    return Made(scores, outcome.rule.decide(scores, groups, rest.rows.tolist()))


def _joined(parts: Sequence[Made]) -> Made:
    """The parts of a fold together; one that diverged has no decisions, nor has the whole."""
    decisions = [part.decisions for part in parts if part.decisions is not None]
    scores = np.concatenate([part.scores for part in parts])
    return Made(scores, np.concatenate(decisions) if len(decisions) == len(parts) else None)


def _probabilities(logits: Tensor) -> np.ndarray:
    return logits.double().sigmoid().cpu().numpy()


def _read(path: Path | None, key: str) -> Made | None:
    """What a finished trial made, if it is there and belongs to this search."""
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            return Made(stored["scores"], stored.get("decisions"))
    except Exception:  # damaged: the trial is made again
        return None


def _write(path: Path | None, key: str, made: Made) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial, partial.open("wb") as file:
        arrays: dict[str, Any] = {"scores": made.scores, "key": np.array(key)}
        if made.decisions is not None:
            arrays["decisions"] = made.decisions
        np.savez(file, **arrays)
