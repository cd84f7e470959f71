"""Reading a configuration: merge the YAML files, check, and return one frozen `Settings`.

Every problem is reported with the path of its key and the nearest valid name. Neither torch nor
pandas is imported: this runs whenever the Snakefile is parsed, on login nodes too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import UserError, nearest
from . import strict_yaml
from .base import Model, explain
from .schema import Dataset, Settings


def load(
    raw: Mapping[str, Any],
    project: Path,
    *,
    algorithms: Mapping[str, type[Model]],
    adapters: Mapping[str, type[Dataset]],
    files: Iterable[str | Path] = (),
) -> Settings:
    """Check a configuration and return it typed.

    Args:
        raw: what YAML gave. A key `extends` names another YAML file, relative to `project`, on
            which this one is laid: mappings are merged, everything else replaces, and an entry
            (a data set, a method, an experiment ...) set to null is left out. A method with
            `like: other` takes over the settings of another, its title excepted.
        project: the folder of the Snakefile.
        algorithms: name of each method's file -> its settings model.
        adapters: name of each adapter's file -> its options model.
        files: where `raw` was read from by somebody else; they are checked for what YAML reads
            otherwise than people mean it (`strict_yaml`).

    Raises:
        UserError: every problem found, each with the path of its key and the nearest valid name.
    """
    for file in files:
        strict_yaml.read(Path(file))
    merged = _extend(dict(raw), project, ())
    for section in ("datasets", "attributes", "tasks", "backbones", "methods", "experiments"):
        if isinstance(merged.get(section), Mapping):
            merged[section] = {k: v for k, v in merged[section].items() if v is not None}
    if isinstance(merged.get("methods"), Mapping):
        merged["methods"] = _inherit(merged["methods"])
    settings = typed(merged, adapters)
    problems = []
    for name, method in settings.methods.items():
        if method.algorithm not in algorithms:
            problems.append(
                f"methods.{name}.algorithm: no algorithm {method.algorithm!r}"
                f"{nearest(method.algorithm, algorithms)}"
            )
            continue
        try:
            algorithms[method.algorithm].model_validate(method.settings)
        except ValidationError as error:
            problems.append(explain(error, f"methods.{name}."))
        problems += _search_problems(name, settings, algorithms)
    if problems:
        raise UserError("the configuration is not valid:\n" + "\n".join(problems))
    return settings


def _search_problems(
    name: str, settings: Settings, algorithms: Mapping[str, type[Model]]
) -> Iterator[str]:
    """What is wrong with a variant's search."""
    methods, search, path = settings.methods, settings.methods[name].search, f"methods.{name}"
    if isinstance(search, str):
        seen = [name]
        while isinstance(search, str):
            if search not in methods:
                yield f"{path}.search: no method {search!r}{nearest(search, methods)}"
                return
            if search in seen:
                yield f"{path}.search: {search!r} is in the end what it searches itself"
                return
            seen.append(search)
            search = methods[search].search
        if search is None:
            yield f"{path}.search: {seen[-1]!r} has no search of its own"
        return
    if search is None:
        return
    own = algorithms[methods[name].algorithm]
    shared = ("lr_factor", "epochs_percent", "batchnorm")
    for key, values in search.items():
        if key not in own.model_fields and key not in shared:
            near = nearest(key, [*own.model_fields, *shared])
            yield f"{path}.search: {methods[name].algorithm} has no setting {key!r}{near}"
            return
        for value in values:
            given = {**methods[name].settings, key: value} if key in own.model_fields else {}
            try:
                own.model_validate(given)
                type(methods[name]).model_validate(
                    {"algorithm": methods[name].algorithm} | ({key: value} if key in shared else {})
                )
            except ValidationError as error:
                yield explain(error, f"{path}.search.")
    count = math.prod(len(values) for values in search.values())
    wanted = settings.selection.trials
    if wanted is not None and count != wanted:
        yield (
            f"{path}.search has {count} points, but selection.trials says {wanted}: all methods "
            "get the same number"
        )


def typed(raw: Mapping[str, Any], adapters: Mapping[str, type[Dataset]]) -> Settings:
    """A complete configuration as `Settings`; see `load`."""
    datasets = raw.get("datasets")
    if isinstance(datasets, Mapping):
        raw = {**raw, "datasets": _typed_datasets(datasets, adapters)}
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise UserError("the configuration is not valid:\n" + explain(error)) from error


def _typed_datasets(
    datasets: Mapping[str, Any], adapters: Mapping[str, type[Dataset]]
) -> dict[str, Dataset]:
    """Each data set by the model of its adapter."""
    found, problems = {}, []
    for name, entry in datasets.items():
        entry = entry if isinstance(entry, Mapping) else {}
        adapter = entry.get("adapter")
        if adapter is not None and adapter not in adapters:
            near = nearest(str(adapter), adapters)
            problems.append(f"datasets.{name}.adapter: no adapter {adapter!r}{near}")
            continue
        try:
            found[name] = adapters.get(str(adapter), Dataset).model_validate(entry)
        except ValidationError as error:
            problems.append(explain(error, f"datasets.{name}."))
    if problems:
        raise UserError("the configuration is not valid:\n" + "\n".join(problems))
    return found


def _extend(raw: dict[str, Any], project: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Lay a configuration on the one it extends; `above` are the files that extend this one."""
    base = raw.pop("extends", None)
    if base is None:
        return raw
    path = (project / str(base)).resolve()
    if not path.is_file():
        raise UserError(f"extends: no file {path}")
    if path in above:
        raise UserError(f"extends: {path} extends itself, by way of {above[-1]}")
    return _merge(_extend(strict_yaml.read(path), project, (*above, path)), raw)


def _inherit(methods: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve `like` of the methods: the other's settings below one's own, without its title."""

    def resolved(name: str, above: tuple[str, ...]) -> Any:
        entry = methods[name]
        if not isinstance(entry, Mapping) or "like" not in entry:
            return entry
        other = entry["like"]
        if other not in methods:
            near = nearest(str(other), [m for m in methods if m != name])
            raise UserError(f"methods.{name}.like: no method {other!r}{near}")
        if other in (*above, name):
            raise UserError(f"methods.{name}.like: {other!r} is in the end like itself")
        below = resolved(other, (*above, name))
        if not isinstance(below, Mapping):
            return below
        own = {key: value for key, value in entry.items() if key != "like"}
        if below.get("search") is not None:  # what is found for the other holds for this one
            found = below["search"]
            own = {"search": found if isinstance(found, str) else str(other)} | own
        kept = {k: v for k, v in below.items() if k not in ("title", "search")}
        return _merge(kept, own)

    return {name: resolved(name, ()) for name in methods}


def _merge(below: Any, above: Any) -> Any:
    """Mappings are merged key by key; anything else replaces. A key set to null stays null."""
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {
            key: _merge(below[key], above[key])
            if key in below and key in above
            else above.get(key, below.get(key))
            for key in [*below, *(k for k in above if k not in below)]
        }
    return above
