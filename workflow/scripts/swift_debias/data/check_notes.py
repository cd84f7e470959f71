"""What may be a mistake in a config, seen in the data: advice that stops nothing.

Each function here looks for one thing and yields a sentence for every place where it is so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import plan, schema

if TYPE_CHECKING:
    import pandas as pd


def notes(
    config: schema.Settings, manifests: Mapping[str, pd.DataFrame], project: Path
) -> tuple[str, ...]:
    """All of them.

    Args:
        config: the settings.
        manifests: of the data sets that could be read.
        project: the folder that relative roots start from.
    """
    return (
        *_unused_values(config, manifests),
        *_empty_cells(config, manifests),
        *_seen_before(config),
        *_moved_ages(config, manifests),
        *_skin_tone_rule(config, manifests, project),
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
                        f"{dataset}: no image of label {label} in group {group} of {name}; what "
                        "needs it (AUC, rates, EOdds of this group) will have no value"
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
