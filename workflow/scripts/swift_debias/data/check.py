"""Are the data there? What each data set holds beside what it should, before any heavy work.

`check` reads every table and lists every folder that the chosen experiments need, in seconds, and
opens no image; check_notes.py has the advice, check_text.py the text. `missing_folders` only looks
whether the folders exist: it imports neither pandas nor an adapter, so that the Snakefile can call
it while it is parsed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .. import errors
from ..config import plan, schema
from ..evaluation.label_by_group import sentence
from . import check_notes, check_text
from .adapters import read

if TYPE_CHECKING:
    import pandas as pd

    from .manifest import ManifestResult
    from .pool_check import PoolOutlook

Counts = dict[str, dict[str, int]]
"""Label or attribute -> group -> images."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a data set comes from, and what its folder holds."""

    title: str
    url: str
    licence: str
    folder: str


@dataclasses.dataclass(frozen=True)
class MissingFolder:
    """A data set whose folder is not there, and where to get it."""

    dataset: str
    folder: Path
    origin: Origin

    def __str__(self) -> str:
        return (
            f"{self.dataset}: no folder {self.folder}\n"
            f"    {self.origin.title} ({self.origin.licence})\n"
            f"    get it from {self.origin.url}\n"
            f"    it holds {self.origin.folder}"
        )


@dataclasses.dataclass(frozen=True)
class DatasetCheck:
    """What was found of one data set."""

    name: str
    adapter: str
    origin: Origin
    folder: str
    found: bool
    error: str | None = None
    columns_missing: tuple[str, ...] = ()
    rows_read: int = 0
    images_found: int = 0
    images_missing: int = 0
    missing_examples: tuple[str, ...] = ()
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: dict[str, int] = dataclasses.field(default_factory=dict)
    tables: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    counts: Counts = dataclasses.field(default_factory=dict)
    expected: Counts = dataclasses.field(default_factory=dict)
    expected_source: str = ""
    paper_images: int | None = None
    rule: str = ""
    values: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    patients: int = 0
    images_without_patient: int = 0
    largest_patient: str | None = None
    largest_patient_images: int = 0


@dataclasses.dataclass(frozen=True)
class PoolCheck:
    """What a task learns from, its sets together, by image id; `what` says what they are."""

    task: str
    datasets: tuple[str, ...]
    images: int
    distinct_ids: int
    expected_distinct_ids: int | None
    expected_without_listed: int | None
    paper_images: int | None
    note: str
    leaks_rule: str = ""
    leaks: dict[str, int] = dataclasses.field(default_factory=dict)
    images_left: int | None = None
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ("class 0", "class 1")
    cells: dict[str, dict[str, tuple[int, ...]]] = dataclasses.field(default_factory=dict)
    in_words: dict[str, str] = dataclasses.field(default_factory=dict)
    what: str = check_text.POOL


@dataclasses.dataclass(frozen=True)
class ExperimentCheck:
    """Whether an experiment can run; `reasons` say why not."""

    name: str
    title: str
    reasons: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """The whole check; `ok` says whether every chosen experiment can run."""

    datasets: tuple[DatasetCheck, ...]
    pools: tuple[PoolCheck, ...]
    experiments: tuple[ExperimentCheck, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Every experiment can run."""
        return not any(experiment.reasons for experiment in self.experiments)

    def as_json(self) -> dict[str, Any]:
        """The report as builtin types."""
        return {"ok": self.ok, **dataclasses.asdict(self)}

    def as_text(self) -> str:
        """The report for people."""
        blocks = [check_text.dataset_text(data) for data in self.datasets]
        blocks += [check_text.pool_text(pool) for pool in self.pools]
        lines = []
        for experiment in self.experiments:
            verdict = (
                f"cannot run: {'; '.join(experiment.reasons)}" if experiment.reasons else "can run"
            )
            lines.append(f"{experiment.name}: {verdict}")
        if self.notes:
            blocks.append("\n".join(["notes", *(f"  {note}" for note in self.notes)]))
        return "\n\n".join([*blocks, "\n".join(["experiments", *(f"  {line}" for line in lines)])])


def load_expected(path: Path) -> dict[str, Any]:
    """Pages, licences and known counts: resources/expected_counts.yaml."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def missing_folders(
    config: schema.Settings, project: Path, expected: Mapping[str, Any]
) -> tuple[MissingFolder, ...]:
    """Data sets that an experiment needs and whose folder is not there.

    Folders that the run draws itself (`synthetic`) are not missed.

    Args:
        config: the settings.
        project: the folder that relative roots start from.
        expected: what `load_expected` returns.
    """
    drawn = {**config.synthetic.images, **config.synthetic.populations} if config.synthetic else {}
    missing = []
    for name in plan.used_datasets(config):
        options = config.datasets[name]
        folder = project / options.root
        if name not in drawn and not folder.is_dir():
            missing.append(MissingFolder(name, folder, _origin(name, options, expected)))
    return tuple(missing)


def check(
    config: schema.Settings,
    project: Path,
    expected: Mapping[str, Any],
    changed: Mapping[str, Sequence[str]] | None = None,
) -> CheckReport:
    """Look at every data set that an experiment needs.

    Args:
        config: the settings.
        project: the folder that relative roots start from.
        expected: what `load_expected` returns.
        changed: data set -> what changed in its files since an earlier run.
    """
    datasets: dict[str, DatasetCheck] = {}
    manifests: dict[str, pd.DataFrame] = {}
    for name in plan.used_datasets(config):
        found, result = _check_dataset(name, config, project, expected)
        datasets[name] = dataclasses.replace(found, changed=tuple((changed or {}).get(name, ())))
        if result is not None:
            manifests[name] = result.frame
    used_tasks = dict.fromkeys(task for task, _, _ in plan.setups(config))
    outlooks = {task: _outlook(task, config, manifests, project) for task in used_tasks}
    return CheckReport(
        datasets=tuple(datasets.values()),
        pools=tuple(
            _check_pool(task, config, manifests, expected, outlook)
            for task, outlook in outlooks.items()
        ),
        experiments=tuple(
            ExperimentCheck(
                name, experiment.title, tuple(_reasons(experiment, config, datasets, outlooks))
            )
            for name, experiment in config.experiments.items()
        ),
        notes=check_notes.notes(
            config, manifests, project, {name: found.values for name, found in datasets.items()}
        ),
    )


def _outlook(
    task: str, config: schema.Settings, manifests: Mapping[str, pd.DataFrame], project: Path
) -> PoolOutlook | None:
    """What the rules will say of a task's pool; None where a data set of it is not there."""
    from .pool_check import outlook

    tests = plan.tests_of(config, task)
    needed = {*config.tasks[task].pool, *tests}
    if not all(name in manifests and len(manifests[name]) for name in needed):
        return None
    return outlook(task, config, manifests, tests, project)


def _check_dataset(
    name: str, config: schema.Settings, project: Path, expected: Mapping[str, Any]
) -> tuple[DatasetCheck, ManifestResult | None]:
    # Imported here, because the Snakefile imports this module and must stay quick.
    from .raw_tables import ColumnError
    from .rows import NO_FILE

    options = config.datasets[name]
    known: dict[str, Any] = expected["datasets"].get(options.adapter, {})
    if options.part is not None:
        known = {}  # those are counts of the whole
    rule = ""
    if getattr(options, "paper_rule", False) and "derived" in known:
        rule = known["derived"]["rule"]
        known = {**known, "counts": known["derived"]["counts"]}
    report = DatasetCheck(
        name=name,
        adapter=options.adapter,
        origin=_origin(name, options, expected),
        folder=options.root,
        found=(project / options.root).is_dir(),
        expected=_expected_counts(name, config, known),
        expected_source=known.get("source", ""),
        paper_images=known.get("paper"),
        rule=rule,
    )
    try:
        result = read(options, project)
        if classes := _classes_of(name, config):
            from .classes import label_classes

            result = label_classes(result, classes, name)
    except errors.UserError as error:
        columns = error.missing if isinstance(error, ColumnError) else ()
        return dataclasses.replace(report, error=str(error), columns_missing=columns), None
    of_patients = result.frame["patient_id"].value_counts()
    rules = {rule["rule"]: rule for rule in result.log["rules"]}
    missing = rules.pop(NO_FILE)
    report = dataclasses.replace(
        report,
        rows_read=result.log["rows_read"],
        images_found=result.log["rows_kept"],
        images_missing=missing["removed"],
        missing_examples=tuple(missing["examples"]),
        left_out={rule: entry["removed"] for rule, entry in rules.items() if entry["removed"]},
        notes={note["note"]: note["count"] for note in result.log["notes"]},
        tables=tuple(result.log["tables"]),
        hints=tuple(missing.get("found", ())),
        counts=_counts(name, config, result.frame),
        values=result.log["values"],
        patients=len(of_patients),
        images_without_patient=int(result.frame["patient_id"].isna().sum()),
        largest_patient=str(of_patients.index[0]) if len(of_patients) else None,
        largest_patient_images=int(of_patients.max()) if len(of_patients) else 0,
    )
    return report, result


def _origin(name: str, options: schema.Dataset, expected: Mapping[str, Any]) -> Origin:
    """Where a data set comes from; a user's own table brings its own citation."""
    known: dict[str, str] = expected["datasets"].get(options.adapter, {})
    citation = getattr(options, "citation", "")
    return Origin(
        title=known.get("title", name),
        url=known.get("url", "its owner"),
        licence=known.get("licence", citation or "its owner's terms"),
        folder=known.get("folder", "what its entry in the config says"),
    )


def _expected_counts(name: str, config: schema.Settings, known: Mapping[str, Any]) -> Counts:
    """The known counts, cut into the config's groups."""
    import pandas as pd

    expected: Counts = {}
    for column, counts in known.get("counts", {}).items():  # of no two columns together
        if column == "label" and _classes_of(name, config):
            continue  # the table of known counts has two classes
        values = [value for value, number in counts.items() for _ in range(number)]
        expected |= _counts(name, config, pd.DataFrame({column: values}))
    for groups in expected.values():
        groups.pop(check_text.UNKNOWN, None)  # the table of known counts has no unknown ones
    return expected


def _counts(name: str, config: schema.Settings, frame: pd.DataFrame) -> Counts:
    """Images by label, and by group of each attribute that is used on the data set."""
    from .groups import are_in, groups_in

    found: Counts = {}
    if "label" in frame:
        classes = range(len(_classes_of(name, config) or (0, 1)))
        found["label"] = {str(c): int((frame["label"] == c).sum()) for c in classes}
    for attribute_name in plan.attributes_of(config, name):
        attribute = config.attributes[attribute_name]
        if are_in(frame, attribute) and config.datasets[name].reads(attribute):
            index = groups_in(frame, attribute)
            groups = {g: int((index == i).sum()) for i, g in enumerate(attribute.group_names)}
            found[_counted_as(attribute_name)] = {
                **groups,
                check_text.UNKNOWN: int((index < 0).sum()),
            }
    return found


def _classes_of(dataset: str, config: schema.Settings) -> Mapping[str, tuple[str, ...]] | None:
    """The classes of the tasks that read a data set, where they have more than two."""
    for task in config.tasks.values():
        tests = {test for tests in task.tests.values() for test in tests}
        if dataset in (*task.pool, *tests):
            return task.classes
    return None


def _counted_as(attribute: str) -> str:
    """Under which name an attribute's groups are counted; the label itself is among them."""
    return f"attribute {attribute}" if attribute == "label" else attribute


def _check_pool(
    task: str,
    config: schema.Settings,
    manifests: Mapping[str, pd.DataFrame],
    expected: Mapping[str, Any],
    outlook: PoolOutlook | None,
) -> PoolCheck:
    train = config.tasks[task].pool
    adapters = sorted(config.datasets[name].adapter for name in train)
    pools: list[dict[str, Any]] = expected["pools"]
    known = next((pool for pool in pools if sorted(pool["adapters"]) == adapters), {})
    present = [manifests[name]["image_id"] for name in train if name in manifests]
    cells = {name: dict(groups) for name, groups in outlook.cells.items()} if outlook else {}
    return PoolCheck(
        task=task,
        datasets=train,
        images=sum(len(series) for series in present),
        distinct_ids=len(set().union(*present)),
        expected_distinct_ids=known.get("distinct_ids"),
        expected_without_listed=known.get("distinct_ids_without_listed"),
        paper_images=known.get("paper"),
        note=known.get("note", ""),
        leaks_rule=config.duplicates.leaks,
        leaks=dict(outlook.leaks) if outlook else {},
        images_left=outlook.images if outlook and not outlook.problems else None,
        notes=outlook.notes if outlook else (),
        classes=config.tasks[task].class_names,
        cells=cells,
        in_words={
            attribute: sentence(attribute.replace("_", " "), groups, config.tasks[task].class_names)
            for attribute, groups in cells.items()
        },
        what=check_text.what_it_learns_from(config.tasks[task]),
    )


def _reasons(
    experiment: schema.Experiment,
    config: schema.Settings,
    datasets: Mapping[str, DatasetCheck],
    outlooks: Mapping[str, PoolOutlook | None],
) -> list[str]:
    """Why an experiment cannot run; empty where it can."""
    reasons: dict[str, None] = {}
    for panel in experiment.panels:
        task = config.tasks[panel.task]
        tests = panel.datasets or task.tests[panel.attribute]
        problems = {name: _problem(datasets[name]) for name in (*task.pool, *tests)}
        reasons.update({f"{name}: {text}": None for name, text in problems.items() if text})
        # The training sets are pooled: one that knows the attribute is enough.
        for names in (task.external or task.train, *((name,) for name in tests)):
            usable = [datasets[name] for name in names if not problems[name]]
            if usable and not any(_knows(data, panel.attribute) for data in usable):
                reasons[f"{' + '.join(names)}: no image has a known {panel.attribute}"] = None
        if not reasons and (outlook := outlooks[panel.task]) is not None:
            pool = f"{check_text.what_it_learns_from(task)} of {panel.task}"
            reasons.update({f"{pool}: {text}": None for text in outlook.problems})
            for text in outlook.by_attribute.get(panel.attribute, ()):
                reasons[f"{pool}, {panel.attribute}: {text}"] = None
    return list(reasons)


def _problem(data: DatasetCheck) -> str:
    if not data.found:
        return "folder not found"
    if data.error is not None:
        return data.error
    return "" if data.images_found else "no image found"


def _knows(data: DatasetCheck, attribute: str) -> bool:
    """Whether some image is in a group; what is measured from the pixels will be known later."""
    groups = data.counts.get(_counted_as(attribute))
    return groups is None or any(n for group, n in groups.items() if group != check_text.UNKNOWN)
