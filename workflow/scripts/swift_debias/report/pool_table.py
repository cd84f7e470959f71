"""How many images of each class each group of what is learnt from has: the cause of the bias."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from ..data.own_external import EXTERNAL, TRAINS
from ..evaluation.label_by_group import sentence
from ..evaluation.words import title
from ..files import read_parquet
from ..run import layout

IMAGE = ["dataset", "image_id"]
COLUMNS = ["task", "set", "attribute", "group", "class_0", "class_1"]


def count(
    external: Iterable[Path], groups: Mapping[str, Sequence[str]], cohorts: Iterable[Path]
) -> pd.DataFrame:
    """Images of the pool by group and class, also where the group was measured from the pixels.

    The external sets of all folds together are the pool's images of known group. Those of a tied
    pool may have more, which nothing is trained on (column `trains` of the cohort). Of a task with
    an external set of its own that set is counted: a classifier that was brought along has no pool.

    Args:
        external: `external/{task}/{attribute}/fold{fold}.parquet`, of all folds.
        groups: attribute -> names of its groups, in the order of their indices.
        cohorts: `cohorts/{task}.parquet` of the tasks.

    Returns:
        COLUMNS, a row a task, attribute and group; `class_2` and so on where a task has more.
    """
    pools = {layout.keys("cohort", path)["task"]: read_parquet(path) for path in cohorts}
    parts: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for path in external:
        keys = layout.keys("external", path)
        parts.setdefault((keys["task"], keys["attribute"]), []).append(read_parquet(path))
    found = [frame["label"].max() for frames in parts.values() for frame in frames if len(frame)]
    classes = range(max(2, *(int(label) + 1 for label in found)) if found else 2)
    rows = []
    for (task, attribute), frames in parts.items():
        frame, pool = pd.concat(frames).drop_duplicates(IMAGE), pools[task]
        own = EXTERNAL in pool
        if TRAINS in pool and not own:
            frame = frame.merge(pool.loc[pool[TRAINS], IMAGE], on=IMAGE)
        for number, name in enumerate(groups[attribute]):
            labels = frame.loc[frame["attribute"] == number, "label"]
            counts = [int((labels == c).sum()) for c in classes]
            rows.append((task, "external set" if own else "pool", attribute, name, *counts))
    return pd.DataFrame(rows, columns=[*COLUMNS[:4], *(f"class_{c}" for c in classes)])


def sentences(counted: pd.DataFrame, classes: Mapping[str, Sequence[str]]) -> list[str]:
    """One a task and attribute: what a classifier could learn from the pool that it is trained on.

    Args:
        counted: as `count` gives it.
        classes: task -> names of the classes.
    """
    found = []
    pool = counted[counted["set"] == "pool"]
    for (task, attribute), part in pool.groupby(["task", "attribute"], sort=False):
        names = classes[str(task)]
        columns = ["group", *(f"class_{c}" for c in range(len(names)))]
        # a class of which no task has an image has no column
        rows = part.reindex(columns=columns, fill_value=0).itertuples(index=False, name=None)
        cells = {group: counts for group, *counts in rows}
        name = title(str(attribute))
        said = sentence(name[:1].lower() + name[1:], cells, names)
        found.append(f"{title(str(task))}: {said[:1].lower()}{said[1:]}")
    return found


def for_readers(counted: pd.DataFrame, classes: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The counts, with the names of things and the share of class 1."""
    more = [str(column) for column in counted if column not in COLUMNS]
    return pd.DataFrame(
        {
            "task": counted["task"].map(title),
            "set": counted["set"],
            "attribute": counted["attribute"].map(title),
            "group": counted["group"],
            "class 0": counted["class_0"],
            "class 1": counted["class_1"],
            **{column.replace("_", " "): counted[column] for column in more},
            "class 1 is": counted["task"].map(lambda task: _class_1(classes[task])),
            "its share": counted["class_1"] / counted[["class_0", "class_1", *more]].sum(axis=1),
        }
    )


def _class_1(names: Sequence[str]) -> str:
    """What class 1 is called; of more than two classes all are named in their order."""
    return names[1] if len(names) == 2 else f"{names[1]} (of {', '.join(names)})"
