"""Variants of methods, and the grids that are searched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ...errors import nearest
from ..base import Model, explain, place, shown
from ..schema import Method, Settings
from .known import Known

# beside an algorithm's own settings
SEARCHABLE = ("lr_factor", "epochs_percent", "batchnorm", "batches")
MOST_TRIALS = 1000


def problems(
    settings: Settings, known: Known, written: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Keys of an algorithm, and those that this variant would not read.

    Only keys of a variant's own entry count: what it takes over with `like` may be idle.
    """
    for name, method in settings.methods.items():
        path = place("methods", name)
        if method.algorithm not in known.algorithms:
            near = nearest(method.algorithm, known.algorithms)
            yield f"{path}.algorithm: no algorithm {shown(method.algorithm)}{near}"
            continue
        model = known.algorithms[method.algorithm]
        if unknown := [key for key in method.settings if key not in model.model_fields]:
            near = nearest(unknown[0], [*model.model_fields, *type(method).model_fields])
            yield f"{path}: unknown key {shown(unknown[0])}{near}"
            continue
        try:
            own = model.model_validate(method.settings)
        except ValidationError as error:
            yield explain(error, f"{path}.")
            continue
        yield from _search(name, settings, model)
        entry = written.get(name, {})
        for key in model.ignores:
            if entry.get(key) is not None:
                yield f"{path}.{key}: {method.algorithm} would ignore it; leave it out"
        for key in model.only_with:
            if key not in entry or getattr(own, key) == model.model_fields[key].get_default():
                continue
            if idle := _idle(model, own, key, {}):
                yield f"{path}.{key}: {idle}"


def _search(name: str, settings: Settings, model: type[Model]) -> Iterator[str]:
    """What is wrong with a variant's search."""
    methods, search, path = settings.methods, settings.methods[name].search, place("methods", name)
    if isinstance(search, str):
        seen = [name]
        while isinstance(search, str):
            if search not in methods:
                yield f"{path}.search: no method {shown(search)}{nearest(search, methods)}"
                return
            if search in seen:
                yield f"{path}.search: {shown(search)} is in the end what it searches itself"
                return
            seen.append(search)
            search = methods[search].search
        if search is None:
            yield f"{path}.search: {shown(seen[-1])} has no search of its own"
        return
    if search is None:
        return
    if not search:
        yield f"{path}.search: is empty, so nothing would be searched; name values, or leave it out"
    own = model.model_validate(methods[name].settings)
    for key, values in search.items():
        if key not in (*model.model_fields, *SEARCHABLE) or key in model.ignores:
            near = nearest(key, [*model.model_fields, *SEARCHABLE])
            algorithm = methods[name].algorithm
            yield f"{path}.search: {algorithm} has no setting {shown(key)}{near}"
            return
        tried: list[Any] = []
        for value in values:
            try:
                read = searched_value(methods[name], model, key, value)
            except ValidationError as error:
                yield explain(error, f"{path}.search.")
                continue
            if read in tried:
                yield f"{path}.search.{key}: {shown(value)} stands there twice"
            tried.append(read)
        if idle := _idle(model, own, key, search):
            yield f"{path}.search.{key}: {idle}"
    count = math.prod(len(values) for values in search.values())
    wanted = settings.selection.trials
    if count > MOST_TRIALS:
        yield f"{path}.search has {count} points; {MOST_TRIALS} are the most"
    elif wanted is not None and count != wanted:
        yield (
            f"{path}.search has {count} points, but selection.trials says {wanted}: all methods "
            "get the same number"
        )


def searched_value(method: Method, model: type[Model], key: str, value: Any) -> Any:
    """A value of a grid as it is read.

    Raises:
        ValidationError: the setting may not have it.
    """
    if key in SEARCHABLE:
        entry = {"algorithm": method.algorithm, key: value}
        return getattr(type(method).model_validate(entry), key)
    return getattr(model.model_validate({**method.settings, key: value}), key)


def _idle(model: type[Model], own: Model, key: str, searched: Mapping[str, Any]) -> str:
    """Why a setting would not be read beside the others of a variant, or ''.

    Args:
        model: of the algorithm's settings.
        own: the variant's.
        key: the setting.
        searched: settings that are tried with several values.
    """
    for other, values in model.only_with.get(key, {}).items():
        has = searched.get(other, (getattr(own, other),))
        if not any(value in values for value in has):
            wanted = " or ".join(str(v).lower() for v in values)
            tried = ", ".join(str(v).lower() for v in has)
            return f"would be ignored with {other}: {tried}; it goes with {other}: {wanted}"
    return ""
