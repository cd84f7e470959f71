"""What may be a mistake in a config, seen in the data: advice that stops nothing.

Each function here looks for one thing and yields a sentence for every place where it is so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..config import plan, schema
from ..config.coherence import opposed

if TYPE_CHECKING:
    import pandas as pd


Values: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]
"""Label or attribute -> entries of `rows.value_counts`."""


def notes(
    config: schema.Settings,
    manifests: Mapping[str, pd.DataFrame],
    project: Path,
    values: Mapping[str, Values],
) -> tuple[str, ...]:
    """All of them.

    Args:
        config: the settings.
        manifests: of the data sets that could be read.
        project: the folder that relative roots start from.
        values: data set -> what the values of its label and attributes became.
    """
    return (
        *_opposite_labels(config, values),
        *_opposite_groups(config, values),
        *_same_ids(config, manifests),
        *_nearly_same_ids(config, manifests),
        *_unused_values(config, manifests),
        *_empty_cells(config, manifests),
        *_seen_before(config),
        *_moved_ages(config, manifests),
        *_skin_tone_rule(config, manifests, project),
    )


def _opposite_labels(config: schema.Settings, values: Mapping[str, Values]) -> Iterator[str]:
    """Cells that are class 1 in a data set of a task and class 0 in another one of it.

    Words that two entries name themselves are refused before (`coherence.py`); here are codes, what
    is in `rest_is_negative`, and tables beside data sets that have a label of their own.
    """
    told: set[tuple[str, str]] = set()
    for task in dict.fromkeys(task for task, _, _ in plan.setups(config)):
        if config.tasks[task].classes is not None:
            continue  # the task itself says it, of all its data sets
        sets = (*config.tasks[task].pool, *plan.tests_of(config, task))
        meanings = {
            name: _meanings(values[name].get("label", ()))
            for name in dict.fromkeys(sets)
            if name in values
        }
        for one, other, found in _of_tables(config, meanings):
            if (one, other) in told:
                continue
            told.add((one, other))
            value, there, here = found[0]
            yield (
                f"{one} and {other}, both of task {task}: {value!r}{_more(found)} is class {there} "
                f"of {one} and class {here} of {other}; if it means the same in both, labels of "
                f"one are inverted: change positive: and negative: of {_tables(config, one, other)}"
            )


def _opposite_groups(config: schema.Settings, values: Mapping[str, Values]) -> Iterator[str]:
    """Cells that are in another group of an attribute in another data set of a task."""
    from .values import canonical

    told: set[tuple[str, str, str]] = set()
    for task, _, whole in plan.setups(config):
        spec = config.attributes[whole]
        parts = {whole: spec} if spec.cross is None else spec.cross
        sets = dict.fromkeys((*config.tasks[task].pool, *config.tasks[task].tests[whole]))
        for name, attribute in parts.items():
            of_value = {
                canonical(value): group
                for group, some in (attribute.groups or {}).items()
                for value in some
            }
            meanings = {
                dataset: _meanings(_entries(values[dataset], attribute), of_value)
                for dataset in sets
                if dataset in values and config.datasets[dataset].reads(attribute)
            }
            for one, other, found in _of_tables(config, meanings):
                if (name, one, other) in told:
                    continue
                told.add((name, one, other))
                value, there, here = found[0]
                yield (
                    f"{one} and {other}, both of task {task}: {value!r}{_more(found)} is in group "
                    f"{there} of {name} in {one} and in group {here} in {other}; if it means the "
                    f"same in both, change values: of attributes.{attribute.column} of "
                    f"{_tables(config, one, other)}"
                )


def _entries(values: Values, attribute: schema.Attribute) -> Sequence[Mapping[str, Any]]:
    """What the values of an attribute's column became."""
    from .manifest import stored_column

    column = str(attribute.column)
    return values.get(stored_column(column)) or values.get(schema.annotated(column), ())


def _meanings(
    entries: Sequence[Mapping[str, Any]], groups: Mapping[Any, str] | None = None
) -> dict[Any, tuple[str, Any]]:
    """Value in the form it is compared in -> as written, and its class, or its group if given.

    Values of several meanings, and those of none, have no entry.
    """
    from .rows import OTHERS
    from .values import canonical

    found: dict[Any, tuple[str, Any]] = {}
    several = set()
    for entry in entries:
        value, means = entry["value"], entry["became"]
        if groups is not None and means is not None:
            means = groups.get(canonical(means))
        if value is None or means is None or value.endswith(f" {OTHERS}"):
            continue
        if found.setdefault(canonical(value), (value, means))[1] != means:
            several.add(canonical(value))
    return {key: said for key, said in found.items() if key not in several}


def _of_tables(
    config: schema.Settings, meanings: Mapping[str, Mapping[Any, tuple[str, Any]]]
) -> Iterator[tuple[str, str, list[tuple[str, Any, Any]]]]:
    """What is opposed and of a user's table; adapters of published sets agree with each other."""
    for pair in itertools.combinations(meanings, 2):
        if any(config.datasets[name].adapter == "table" for name in pair):
            yield from opposed({name: meanings[name] for name in pair})


def _tables(config: schema.Settings, *names: str) -> str:
    """The entries of these that are a user's to change."""
    own = [f"datasets.{name}" for name in names if config.datasets[name].adapter == "table"]
    return " or ".join(own)


def _more(found: Sequence[Any]) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""


def _same_ids(config: schema.Settings, manifests: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Ids of patients and lesions that two data sets of a task have, but of two archives.

    Nothing is made of them then (`plan.archives`). An entry that names its archive has said whose
    ids it has; who is in a set that the run draws, its config says.
    """
    from . import persons

    archives = plan.archives(config)
    drawn = config.synthetic.populations if config.synthetic else {}
    told: set[tuple[str, str]] = set()
    for task in dict.fromkeys(task for task, _, _ in plan.setups(config)):
        pool, tests = config.tasks[task].pool, plan.tests_of(config, task)
        sets = dict.fromkeys((*pool, *tests))
        for one, other in itertools.combinations(sets, 2):
            entries = config.datasets[one], config.datasets[other]
            said = archives[one] == archives[other] or all(e.archive for e in entries)
            if said or (one, other) in told or one not in pool:
                continue
            if not all(name in manifests and name not in drawn for name in (one, other)):
                continue
            if not any(entry.adapter == "table" for entry in entries):
                continue  # those of published sets are known
            told.add((one, other))
            harm = "training images of theirs stay" if other not in pool else "folds share them"
            for kind in ("patient", "lesion"):
                if any(entry.adapter == "table" and not getattr(entry, kind) for entry in entries):
                    continue  # the row's number stands for the lesion of its images
                ours, theirs = (
                    {persons.same(found) for found in manifests[name][f"{kind}_id"].dropna()}
                    for name in (one, other)
                )
                if not (both := ours & theirs):
                    continue
                chance = (
                    "they are whole numbers, which unrelated sets share by chance; "
                    if all(str(found).isdecimal() for found in both)
                    else ""
                )
                yield (
                    f"{len(both):,} of {len(theirs):,} {kind} ids of {other} are in {one} too, "
                    f"such as {min(both)!r}: {chance}if they are the same, {harm}: write one "
                    f"archive: in datasets.{one} and datasets.{other}; if not, two different ones"
                )


def _nearly_same_ids(
    config: schema.Settings, manifests: Mapping[str, pd.DataFrame]
) -> Iterator[str]:
    """Ids of two data sets of a task that differ in leading zeros alone: 007 and 7 are two people.

    Where the sets name different archives, their ids have nothing in common.
    """
    from . import persons

    told: set[tuple[str, str]] = set()
    for task in dict.fromkeys(task for task, _, _ in plan.setups(config)):
        pool, tests = config.tasks[task].pool, plan.tests_of(config, task)
        for pair in itertools.combinations(dict.fromkeys((*pool, *tests)), 2):
            entries = [config.datasets[name] for name in pair]
            apart = all(e.archive for e in entries) and entries[0].archive != entries[1].archive
            if apart or pair in told or pair[0] not in pool or not {*pair} <= manifests.keys():
                continue
            told.add(pair)
            for kind in ("patient", "lesion"):
                if any(entry.adapter == "table" and not getattr(entry, kind) for entry in entries):
                    continue
                bare = [
                    {persons.without_zeros(found): found for found in sorted(ids)}
                    for ids in ({*manifests[name][f"{kind}_id"].dropna()} for name in pair)
                ]
                near = sorted(
                    (ours, bare[1][key])
                    for key, ours in bare[0].items()
                    if key in bare[1] and persons.same(ours) != persons.same(bare[1][key])
                )
                if near:
                    yield (
                        f"{len(near):,} {kind} ids of {pair[0]} and {pair[1]} differ in leading "
                        f"zeros alone, such as {near[0][0]!r} and {near[0][1]!r}: taken as "
                        "different; if they are the same, write them alike"
                    )


def _unused_values(config: schema.Settings, manifests: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Values of the groups that no data set has: misspelt, or not in these data."""
    from .groups import are_in, column_of
    from .values import canonical

    used = [config.attributes[attribute] for _, _, attribute in plan.setups(config)]
    parts = {name: part for one in used for name, part in (one.cross or {}).items()}
    names = (attribute for _, _, attribute in plan.setups(config))
    for name, attribute in ({name: config.attributes[name] for name in names} | parts).items():
        if attribute.cross is not None:
            continue  # its parts are looked at
        (column,) = attribute.columns
        present: set[Any] = set()
        for dataset, frame in manifests.items():
            if config.datasets[dataset].reads(attribute) and are_in(frame, attribute):
                found = column_of(frame, column).dropna().unique()
                present |= {canonical(value) for value in found}
            elif config.datasets[dataset].measures(column):
                present |= {float(skin_type) for skin_type in range(1, 7)}
        for group, values in (attribute.groups or {}).items():
            absent = [str(value) for value in values if canonical(value) not in present]
            if absent and manifests:
                yield f"attributes.{name}.groups.{group}: no image has {', '.join(absent)}"


def _empty_cells(config: schema.Settings, manifests: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Groups of test sets that lack a label: what the metrics will have no value for."""
    from .demands import class_called
    from .groups import are_in, groups_in

    seen = {
        (attribute, dataset): config.tasks[task]
        for task, _, attribute in plan.setups(config)
        for dataset in config.tasks[task].tests[attribute]
    }
    for (name, dataset), task in seen.items():
        attribute, frame = config.attributes[name], manifests.get(dataset)
        if frame is None or frame.empty or not are_in(frame, attribute):
            continue
        if not config.datasets[dataset].reads(attribute):
            continue
        index = groups_in(frame, attribute)
        labels = frame["label"].to_numpy()
        for number, group in enumerate(attribute.group_names):
            for label in range(len(task.class_names)):
                stored = 1 - label if task.invert_labels else label
                if not ((index == number) & (labels == stored)).any():
                    yield (
                        f"{dataset}: no image of {class_called(label, task.class_names)} in group "
                        f"{group} of {name}; what needs it (AUC, rates, EOdds of this group) will "
                        "have no value"
                    )


def _seen_before(config: schema.Settings) -> Iterator[str]:
    """Classifiers that were brought along and are debiased on what may be their training images."""
    for task, backbone in dict.fromkeys((task, b) for task, b, _ in plan.setups(config)):
        train = config.tasks[task].train
        if config.backbones[backbone].baseline is not None and not config.tasks[task].external:
            yield (
                f"backbone {backbone} brings its own classifier, which is debiased on folds of "
                f"{', '.join(train)}. If it was trained on these images they are no external set: "
                f"name others in tasks.{task}.external"
            )


def _moved_ages(config: schema.Settings, manifests: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """How many images change group because the age is that at the study (`age: at_study`)."""
    from .groups import group_index
    from .manifest import ANCHOR_AGE

    for dataset, frame in manifests.items():
        if config.datasets[dataset].adapter != "mimic_cxr" or ANCHOR_AGE not in frame:
            continue
        for name in plan.attributes_of(config, dataset):
            attribute = config.attributes[name]
            if attribute.column == "age" and attribute.cuts is not None:
                now, before = (group_index(frame[age], attribute) for age in ("age", ANCHOR_AGE))
                yield (
                    f"{dataset}: {int((now != before).sum()):,} images are in another group of "
                    f"{name} by their age at the study than by anchor_age"
                )


def _skin_tone_rule(
    config: schema.Settings, manifests: Mapping[str, pd.DataFrame], project: Path
) -> Iterator[str]:
    """By which rule skin tones will be measured, and how many of some images that concerns."""
    from .skin_tone import count_bluish

    for dataset, frame in manifests.items():
        options = config.datasets[dataset]
        if not options.measures("fitzpatrick"):
            continue
        paths = [project / options.root / path for path in frame["path"]]
        blue, looked = count_bluish(paths, config.skin_tone)
        yield (
            f"{dataset}: skin tone is measured from the pixels by skin_tone.angle: "
            f"{config.skin_tone.angle}; of {looked:,} images looked at {blue:,} have b* not above "
            "0, where the rules differ. All are counted in the log of annotate_skin_tone and in "
            "the report"
        )
