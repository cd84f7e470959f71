"""Reading a configuration: merge the YAML files, check, and return one frozen `Settings`.

Every problem is reported with the path of its key and the nearest valid name. Neither torch nor
pandas is imported: this runs whenever the Snakefile is parsed, on login nodes too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import UserError, nearest
from .base import Model, explain
from .schema import Dataset, Settings


def load(
    raw: Mapping[str, Any],
    project: Path,
    *,
    algorithms: Mapping[str, type[Model]],
    adapters: Mapping[str, type[Dataset]],
) -> Settings:
    """Check a configuration and return it typed.

    Args:
        raw: what YAML gave. A key `extends` names another YAML file, relative to `project`, on
            which this one is laid: mappings are merged, everything else replaces, and an entry
            (a data set, a method, an experiment ...) set to null is left out.
        project: the folder of the Snakefile.
        algorithms: name of each method's file -> its settings model.
        adapters: name of each adapter's file -> its options model.

    Raises:
        UserError: every problem found, each with the path of its key and the nearest valid name.
    """
    merged = _extend(dict(raw), project)
    for section in ("datasets", "attributes", "tasks", "backbones", "methods", "experiments"):
        if isinstance(merged.get(section), Mapping):
            merged[section] = {k: v for k, v in merged[section].items() if v is not None}
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
    if problems:
        raise UserError("the configuration is not valid:\n" + "\n".join(problems))
    return settings


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


def _extend(raw: dict[str, Any], project: Path) -> dict[str, Any]:
    """Lay a configuration on the one it extends."""
    base = raw.pop("extends", None)
    if base is None:
        return raw
    path = project / str(base)
    if not path.is_file():
        raise UserError(f"extends: no file {path}")
    below = yaml.safe_load(path.read_text()) or {}
    return _merge(_extend(below, project), raw)


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
