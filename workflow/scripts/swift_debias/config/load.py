"""Reading a configuration: merge the YAML files, check, and return one frozen `Settings`.

Every problem is reported with the path of its key and the nearest valid name. Neither torch nor
pandas is imported: this runs whenever the Snakefile is parsed, on login nodes too.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import UserError, nearest
from . import coherence, named_files, strict_yaml
from .as_read import as_read
from .base import Model, explain, place, shown
from .names import as_name, check_name
from .schema import Dataset, Settings, repeated


def load(
    raw: Mapping[str, Any],
    project: Path,
    *,
    algorithms: Mapping[str, type[Model]],
    adapters: Mapping[str, type[Dataset]],
    networks: Mapping[str, type[Model]] | None = None,
    drawings: Mapping[str, coherence.Drawing] | None = None,
    metrics: Mapping[str, bool] | None = None,
    of_disease: Container[str] = (),
    undirected: Container[str] = (),
    files: Iterable[str | Path] = (),
    folder: Path | None = None,
) -> Settings:
    """Check a configuration and return it typed.

    Args:
        raw: what YAML gave. A key `extends` names another YAML file, relative to `project`, on
            which this one is laid: mappings are merged, everything else replaces, `groups`,
            `classes` and `search` too, and an entry (a data set, a method, an experiment ...) set
            to null is left out. A method with `like: other` takes over the settings of another,
            its title excepted.
        project: the folder of the Snakefile.
        algorithms: name of each method's file -> its settings model.
        adapters: name of each adapter's file -> its options model.
        networks, drawings, metrics, of_disease, undirected: as in `coherence.Known`; None: their
            names are not checked.
        files: where `raw` was read from and merged by somebody else; they are checked for what
            YAML reads otherwise than people mean it (`strict_yaml`).
        folder: in which the workflow runs: the files and modules that the configuration names are
            looked for from there; None: they are not looked for.

    Raises:
        UserError: every problem found, each with the path of its key and the nearest valid name.
    """
    read = {str(file): strict_yaml.read(Path(file)) for file in files}
    _refuse(list(_mixed(read)))
    strict_yaml.bounded(raw, "the configuration")
    merged = _extend(dict(raw), project, (), tuple(read.values()))
    for section in SECTIONS:
        if isinstance(merged.get(section), Mapping):
            merged[section] = {k: v for k, v in merged[section].items() if v is not None}
    written: Mapping[str, Mapping[str, Any]] = {}
    if isinstance(merged.get("methods"), Mapping):
        written = {
            str(name): entry
            for name, entry in merged["methods"].items()
            if isinstance(entry, Mapping)
        }
        merged["methods"] = _inherit(_with_grids(merged["methods"], algorithms))
    if isinstance(merged.get("attributes"), Mapping):
        merged["attributes"] = _crossed(merged["attributes"])
    if merged.get("synthetic") is not None and isinstance(merged.get("datasets"), Mapping):
        merged["datasets"] = _drawn(merged["datasets"], merged.get("run"))
    settings = typed(merged, adapters)
    known = coherence.Known(
        algorithms, adapters, networks, drawings, metrics, of_disease, undirected
    )
    _refuse(list(coherence.problems(settings, known, written)))
    settings = as_read(settings, known)
    if settings.only:
        chosen = {name: settings.experiments[name] for name in settings.only}
        settings = settings.model_copy(update={"experiments": chosen})
    if folder is not None:
        _refuse(list(named_files.problems(settings, folder)))
    return settings


def _refuse(problems: list[str]) -> None:
    if problems:
        raise UserError("the configuration is not valid:\n" + "\n".join(problems))


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
    found: dict[str, Dataset] = {}
    problems: list[str] = []
    for name, entry in datasets.items():
        if not isinstance(entry, Mapping):
            problems.append(f"{place('datasets', name)}: is no mapping of keys to values")
            continue
        adapter = entry.get("adapter")
        path = place("datasets", name)
        if isinstance(adapter, str) and adapter not in adapters:
            near = nearest(adapter, adapters)
            problems.append(f"{path}.adapter: no adapter {shown(adapter)}{near}")
            continue
        try:
            found[name] = adapters.get(str(adapter), Dataset).model_validate(entry)
        except ValidationError as error:
            problems.append(explain(error, f"{path}."))
    _refuse(problems)
    return found


def _extend(
    raw: dict[str, Any],
    project: Path,
    above: tuple[Path, ...],
    files: tuple[Mapping[str, Any], ...] = (),
) -> dict[str, Any]:
    """Lay a configuration on the one it extends.

    Args:
        raw: the configuration.
        project: as in `load`.
        above: files that extend this one.
        files: what it was merged of.
    """
    base = raw.pop("extends", None)
    if base is None:
        if above or files:  # else nobody knows what it was merged of
            _refuse(list(_left_out_in_vain(raw, {}, files)))
        return raw
    if not isinstance(base, str) or "\0" in base:
        raise UserError(f"extends: the path of a YAML file is needed, not {shown(base)}")
    try:
        path = (project / base).resolve()
        found = path.is_file()
    except (OSError, RuntimeError) as error:  # a loop of links, a name too long
        raise UserError(f"extends: {shown(base)}: {error}") from error
    if not found:
        raise UserError(f"extends: no file {path}")
    if path in above:
        raise UserError(f"extends: {path} extends itself, by way of {above[-1]}")
    below = _extend(strict_yaml.read(path), project, (*above, path))
    _refuse(list(_left_out_in_vain(raw, below, files)))
    if raw.get("synthetic") is not None and below.get("synthetic") is None:
        below = _without_roots(below)
    return _merge(below, raw)


# Sections whose entries have names, and what one of them is called.
SECTIONS = {
    "datasets": "data set",
    "attributes": "attribute",
    "tasks": "task",
    "backbones": "backbone",
    "methods": "method",
    "experiments": "experiment",
}


def _left_out_in_vain(
    raw: Mapping[str, Any], below: Mapping[str, Any], files: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """Entries set to null that are nowhere: a name that is misspelt leaves nothing out.

    Args:
        raw: a configuration.
        below: what it is laid on.
        files: what it was merged of.
    """
    for section, kind in SECTIONS.items():
        known = list(map(str, _entries(below, section)))
        for file in files:
            known += [str(k) for k, held in _entries(file, section).items() if held is not None]
        for name, entry in _entries(raw, section).items():
            if entry is None and str(name) not in known:
                near = nearest(str(name), known)
                yield f"{place(section, name)}: no {kind} {shown(name)} to leave out{near}"


def _mixed(files: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Mappings that are one value (`WHOLE`) and stand in two files, which Snakemake has merged."""
    seen: dict[tuple[str, str, str], str] = {}
    for file, raw in files.items():
        for section, key in WHOLE.items():
            for name, entry in _entries(raw, section).items():
                if not isinstance(entry, Mapping) or not isinstance(entry.get(key), Mapping):
                    continue
                first = seen.setdefault((section, str(name), key), file)
                if first != file:
                    yield (
                        f"{place(section, name, key)}: stands in {first} and in {file}, and "
                        "Snakemake mixes what two --configfile say; let one extend the other"
                    )


def _entries(raw: Mapping[str, Any], section: str) -> Mapping[Any, Any]:
    entries = raw.get(section)
    return entries if isinstance(entries, Mapping) else {}


def _without_roots(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of real folders without them: laid on it is one whose folders are drawn."""
    datasets = raw.get("datasets")
    if not isinstance(datasets, Mapping):
        return dict(raw)
    rootless = {
        name: {key: value for key, value in entry.items() if key != "root"}
        if isinstance(entry, Mapping)
        else entry
        for name, entry in datasets.items()
    }
    return {**raw, "datasets": rootless}


def _drawn(datasets: Mapping[str, Any], run: Any) -> dict[str, Any]:
    """Data sets with the folder that each is drawn to, where none is named."""

    def root(name: Any) -> str:
        try:
            return coherence.drawn_root(check_name(as_name(run)), check_name(as_name(name)))
        except (TypeError, ValueError):
            return "none"  # of a name that is none, which is refused

    return {
        name: {"root": root(name), **entry} if isinstance(entry, Mapping) else entry
        for name, entry in datasets.items()
    }


MOST_LIKE = 50  # methods of which each is like the next


def _with_grids(
    methods: Mapping[str, Any], algorithms: Mapping[str, type[Model]]
) -> dict[str, Any]:
    """Replace `search: default` by the grid of the variant's algorithm.

    A variant of that name would make it ambiguous, so there may be none.
    """

    def algorithm(name: Any, above: tuple[Any, ...] = ()) -> Any:
        entry = methods.get(name) if isinstance(name, str) and name not in above else None
        if not isinstance(entry, Mapping) or len(above) > MOST_LIKE:
            return None
        return entry.get("algorithm") or algorithm(entry.get("like"), (*above, name))

    found = dict(methods)
    for name, entry in methods.items():
        if not isinstance(entry, Mapping) or entry.get("search") != "default":
            continue
        if "default" in methods:
            raise UserError(
                "methods.default: a variant may not be called so where a search: is `default`"
            )
        model = algorithms.get(str(algorithm(name)))
        if model is None:
            continue  # it is said of `algorithm` or `like`
        if not model.grid:
            path = place("methods", name, "search")
            raise UserError(f"{path}: {algorithm(name)} has no default grid; write one")
        grid = {key: list(values) for key, values in model.grid.items()}
        found[name] = {**entry, "search": grid}
    return found


def _inherit(methods: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve `like` of the methods: the other's settings below one's own, without its title."""

    def resolved(name: str, above: tuple[str, ...]) -> Any:
        entry = methods[name]
        if not isinstance(entry, Mapping) or "like" not in entry:
            return entry
        other, path = entry["like"], place("methods", name, "like")
        if len(above) > MOST_LIKE:
            raise UserError(f"{path}: more than {MOST_LIKE} methods in a row are like another")
        if not isinstance(other, str) or other not in methods:
            near = nearest(str(other), [m for m in methods if m != name])
            raise UserError(f"{path}: no method {shown(other)}{near}")
        if other in (*above, name):
            raise UserError(f"{path}: {shown(other)} is in the end like itself")
        below = resolved(other, (*above, name))
        if not isinstance(below, Mapping):
            return below
        own = {key: value for key, value in entry.items() if key != "like"}
        if below.get("search") is not None:  # what is found for the other holds for this one
            found = below["search"]
            own = {"search": found if isinstance(found, str) else str(other)} | own
        kept = {k: v for k, v in below.items() if k not in ("title", "search")}
        return _merge(kept, own, ("methods", name))

    return {name: resolved(name, ()) for name in methods}


def _crossed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve `cross` of the attributes: what its names stand for, by name."""
    found = dict(attributes)
    for name, entry in attributes.items():
        if not isinstance(entry, Mapping) or entry.get("cross") is None:
            continue
        parts, path = entry["cross"], place("attributes", name, "cross")
        if not isinstance(parts, list | tuple) or not all(isinstance(p, str) for p in parts):
            raise UserError(f"{path}: a list of attributes is needed, not {shown(parts)}")
        for part in parts:
            if part not in attributes:
                near = nearest(part, [other for other in attributes if other != name])
                raise UserError(f"{path}: no attribute {shown(part)}{near}")
            if isinstance(attributes[part], Mapping) and attributes[part].get("cross") is not None:
                raise UserError(f"{path}: {shown(part)} is a cross itself; name its parts here")
        if len(set(parts)) < len(parts):
            raise UserError(f"{path}: {shown(repeated(parts))} stands there twice")
        found[name] = {**entry, "cross": {part: attributes[part] for part in parts}}
    return found


# Mappings that are one value: groups and classes are numbered in their order, and another grid is
# not the product of both. Section -> key of its entries.
WHOLE = {"attributes": "groups", "tasks": "classes", "methods": "search"}


def _merge(below: Any, above: Any, path: tuple[str, ...] = ()) -> Any:
    """Mappings are merged key by key; anything else replaces. A key set to null stays null.

    So do mappings that are one value (`WHOLE`); `path` says where the two stand.
    """
    whole = len(path) == 3 and WHOLE.get(path[0]) == path[2]
    if whole or not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {
        key: _merge(below[key], above[key], (*path, str(key)))
        if key in below and key in above
        else above.get(key, below.get(key))
        for key in [*below, *(k for k in above if k not in below)]
    }
