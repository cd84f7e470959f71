"""The debiasing methods, one file each, and their registry.

A method is a file in this folder with

    CLASS          name of its estimator class, for `swift_debias.<CLASS>`
    Settings       a `config.base.Model` with the method's own keys and their defaults
    IMPORTANCES    which of the shared parameter importances it may read (importance/shared.py)
    debias         (classifier, external set, Settings, Context) -> classifier
    reads          optional: Settings -> which of IMPORTANCES a variant reads; default: all
    first_half     optional: Settings -> settings of a first half and of the rest, or None. Run one
                   after the other they give what the whole gives, and variants whose first halves
                   are equal share the work; with it SECOND_ONLY, the keys that only the rest reads
    holds_out      optional: Settings -> whether it chooses something on external samples that it
                   holds out (_held_out.py); then it is handed whose images they are
    keeps_extractor  optional: Settings -> whether it changes no weight of the extractor, which then
                   needs no gradient there; default: it does
    foreign        optional: (Settings, classifier) -> why the weights of a network that is no
                   `Classifier` cannot hold what the variant makes (one line); None, the default:
                   they can

To add one, add a file and an entry under `methods:` in the config; nothing else changes. The top of
a method's file imports nothing heavy: the config is validated where torch is not installed, so
`debias` imports what it computes with. The history of a method is what it appends to
`context.history`: a dictionary an epoch or step, with `stage`, one of `epoch` and `step`, counted
from 1, and what there is to say.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ..config.base import Model
from ..config.schema import Method
from ..errors import UserError, nearest
from ._checked import problem, refuse_twins

OUTSIDE: dict[str, ModuleType] = {}
"""Methods whose files lie elsewhere, by name; `_outside.py` fills it."""


def available() -> list[str]:
    """Names of the algorithms: the files of this folder."""
    return sorted(p.stem for p in Path(__file__).parent.glob("[a-z]*.py") if p.stem != "base")


@functools.cache  # asked once a job when the workflow is planned
def load(algorithm: str) -> ModuleType:
    """The module of an algorithm.

    Raises:
        UserError: there is no such file, which names the nearest, or it holds no method.
    """
    if algorithm in OUTSIDE:
        return OUTSIDE[algorithm]
    if algorithm not in available():
        raise UserError(f"no algorithm {algorithm!r}{nearest(algorithm, available())}")
    module = importlib.import_module(f"{__name__}.{algorithm}")
    if lack := problem(module):
        raise UserError(f"methods/{algorithm}.py: {lack} (docs/extend.md shows a whole file)")
    return module


@functools.cache
def modules() -> dict[str, ModuleType]:
    """The module of every algorithm of this folder.

    Raises:
        UserError: one of them holds no method, or two have one class.
    """
    found = {name: load(name) for name in available()}
    refuse_twins(found)
    return found


def settings_models() -> dict[str, type[Model]]:
    """The settings model of every algorithm; imports nothing heavy."""
    return {name: module.Settings for name, module in modules().items()}


def importances() -> tuple[str, ...]:
    """All importances that some method may read: what rule `importance` measures."""
    return tuple(sorted({name for each in modules().values() for name in each.IMPORTANCES}))


def read_importances(algorithm: str, settings: Model) -> tuple[str, ...]:
    """The importances that a method reads with these settings."""
    method = load(algorithm)
    reads = getattr(method, "reads", None)
    return reads(settings) if reads else method.IMPORTANCES


def holds_out(methods: Mapping[str, Method], name: str) -> bool:
    """Whether a variant holds external samples out, as it is or with what a search tries."""
    own = getattr(load(methods[name].algorithm), "holds_out", None)
    if own is None:
        return False
    owner, keys = searched(methods, name)
    grid = methods[owner].search if owner else {}
    assert not isinstance(grid, str)
    tried = {key: values for key, values in (grid or {}).items() if key in keys}
    model = load(methods[name].algorithm).Settings
    return any(
        own(model(**with_settings(methods[name], dict(zip(tried, values, strict=True))).settings))
        for values in itertools.product(*tried.values())
    )


def keeps_extractor(algorithm: str, settings: Model) -> bool:
    """Whether a variant changes no weight of the extractor."""
    own = getattr(load(algorithm), "keeps_extractor", None)
    return own is not None and own(settings)


def first_half(algorithm: str, settings: Any) -> tuple[Any, Any]:
    """A variant's settings in two halves, run one after the other; (None, None): it has none."""
    halves = getattr(load(algorithm), "first_half", None)
    return (halves(settings) if halves else None) or (None, None)


def shared_first(variant: Method) -> Method | None:
    """The first half of a variant as a variant of its own, in its only form; None: it has none.

    A part of the external set has importances of its own, which the second half would measure on
    the wrong network: such a variant is run whole.
    """
    first, _ = first_half(variant.algorithm, load(variant.algorithm).Settings(**variant.settings))
    if first is None or variant.external_fraction < 1:
        return None
    keys = {"algorithm", "epochs_percent", "batchnorm", "batches", "lr_factor"}
    return Method(**variant.model_dump(include=keys), **first.model_dump())


def searched(methods: Mapping[str, Method], name: str) -> tuple[str | None, tuple[str, ...]]:
    """Whose search sets a variant, and which of its keys.

    Returns:
        The variant with the grid, and the grid's keys except those that have another value in this
        variant: an ablation differs from what was found by its own setting alone. (None, ()):
        nothing is searched.
    """
    owner = name
    while isinstance(grid := methods[owner].search, str):
        owner = grid
    if grid is None:
        return None, ()
    own, theirs = _all_settings(methods[name]), _all_settings(methods[owner])
    return owner, tuple(key for key in grid if own.get(key) == theirs.get(key))


def epochs(percent: float, of: int) -> int:
    """Epochs of a fine-tuning step: a share, in percent, of the pre-training's."""
    return max(1, round(of * percent / 100))


def trial_epochs(variant: Method, of: int, percent: float) -> tuple[int, ...]:
    """Epochs of a step in the trials of a searched variant; (): its length is no epochs.

    Args:
        variant: with its grid.
        of: epochs of the pre-training.
        percent: the task's share of them.
    """
    grid = variant.search
    if not isinstance(grid, dict) or "epochs_percent" in getattr(
        load(variant.algorithm).Settings, "ignores", ()
    ):
        return ()
    percents = grid.get("epochs_percent", [variant.epochs_percent])
    return tuple(sorted({epochs(value or percent, of) for value in percents}))


def first_keys(variant: Method, keys: Iterable[str]) -> tuple[str, ...]:
    """Those of a variant's settings that its first half reads."""
    second = getattr(load(variant.algorithm), "SECOND_ONLY", ())
    return tuple(key for key in keys if key not in second)


def _all_settings(variant: Method) -> dict[str, Any]:
    """Every setting of a variant, defaults filled in."""
    own = load(variant.algorithm).Settings(**variant.settings)
    return variant.model_dump(exclude={"title", "search"}) | own.model_dump()


def with_settings(variant: Method, settings: Mapping[str, Any]) -> Method:
    """A variant with some of its settings replaced, and nothing left to search."""
    return Method(**{**variant.model_dump(exclude={"search"}), **settings})
