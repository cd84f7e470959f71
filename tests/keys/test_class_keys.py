"""More than two classes: what the key does, and every wrong configuration in one line."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.adversarial import settings_world as world
from tests.keys.conftest import changed
from tests.keys.test_workflow_keys import table_of

from swift_debias.config import schema

Make = Callable[..., Path]
CLASSES = {"young": [20, 35], "middle": [50], "old": [65, 80]}
SETS = ("north", "south", "east", "west")
TASK = {"tasks.skin.classes": CLASSES, "tasks.skin.positive": None, "tasks.skin.negative": None}
LABELS = {f"datasets.{name}.label": {"column": "years"} for name in SETS}


@pytest.mark.key("task.classes", "label_column.positive")
@pytest.mark.parametrize("left_out", [[], [80]])
def test_classes_label_a_manifest(make: Make, left_out: list[int]) -> None:
    """By the cells of the table's column, in the order of the config; other values leave."""
    classes = {**CLASSES, "old": [value for value in CLASSES["old"] if value not in left_out]}
    made = make("manifests/north.parquet", TASK | LABELS | {"tasks.skin.classes": classes})
    rows = table_of(made, "north").set_index("id")["years"].astype(int)
    index = {value: c for c, values in enumerate(classes.values()) for value in values}
    found = pd.read_parquet(made).set_index("image_id")
    expected = rows[rows.isin(index)].map(index)
    assert len(found) == len(expected) and (found["label"] == expected[found.index]).all()
    assert set(found["label"]) == {0, 1, 2}
    kept = found["diagnosis"].astype(int).sort_index()
    assert kept.tolist() == rows[rows.isin(index)].sort_index().tolist()


def refused(changes: dict[str, Any], *said: str) -> None:
    found = world.read(changed(TASK | LABELS | changes))
    assert isinstance(found, str), "it is not refused"
    world.assert_one_line_each(found, *said)


def test_a_task_of_three_classes_is_read() -> None:
    read = world.read(changed(TASK | LABELS | {"tasks.skin.disease": "old"}))
    assert isinstance(read, schema.Settings)
    task = read.tasks["skin"]
    assert task.class_names == ("young", "middle", "old") and task.disease_class == 2
    two = world.read(changed({"tasks.skin.disease": "malignant"}))
    assert isinstance(two, schema.Settings)
    assert two.tasks["skin"].class_names == ("malignant", "benign")
    assert two.tasks["skin"].disease_class == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks.skin.positive": "old"}, "has the classes' names already; leave out positive:"),
        ({"tasks.skin.classes": None}, "positive: is missing: the name of class 1; or classes:"),
        ({"tasks.skin.classes": {"a": ["1"], "b": ["2"]}}, "two are called positive: and"),
        ({"tasks.skin.classes": {**CLASSES, "new": ["50.0"]}}, "'50.0' is of two classes, middle"),
        ({"tasks.skin.classes": {**CLASSES, "new": []}}, "classes.new"),
        ({"tasks.skin.classes": {**CLASSES, "a@b": ["1"]}}, "is no class's name"),
        ({"tasks.skin.classes": {**CLASSES, "external": ["1"]}}, "is no class's name"),
        ({"tasks.skin.disease": "benign"}, "classes are 'young', 'middle', 'old', not 'benign'"),
        ({"tasks.skin.invert_labels": True}, "invert_labels: swaps two classes"),
        ({"tasks.skin.tie": {"attribute": "sex", "strength": 0.5}}, "tie: ties two groups to two"),
        (
            {"datasets.north.label": {"column": "years", "positive": ["20"], "negative": ["35"]}},
            "datasets.north.label.positive: tasks.skin.classes says which values",
        ),
        (
            {"datasets.north.label": {"column": "years", "rest_is_negative": True}},
            "rest_is_negative: goes with positive:",
        ),
        (
            {"datasets.north.label": {"column": "years", "separator": "|"}},
            "separator: goes with positive:",
        ),
        ({"experiments.table1.threshold": "external"}, "threshold: external cuts one score"),
        ({"experiments.table1.metrics": ["auc@old", "auc@sick"]}, "the classes are young, middle"),
        ({"experiments.table1.metrics": ["tpr[2]@old"]}, "there are 2 groups"),
        ({"experiments.table1.metrics": ["ouc@old"]}, "no metric 'ouc'"),
        (
            {"experiments.table1.kind": "figure", "experiments.table1.plot": "bias"},
            "plot: bias shows the score of class 1; tasks.skin has more",
        ),
        (
            {"experiments.table1.kind": "figure", "experiments.table1.plot": "thresholds"},
            "plot: thresholds cuts the score of class 1; tasks.skin has more",
        ),
        (
            {"methods.fullft.search": {"prediction_weight": [0.1, 0.9]}},
            "methods.fullft.search chooses settings by one score of class 1",
        ),
        (
            {"methods.fullft": {"algorithm": "threshold_optimizer"}},
            "methods.fullft: threshold_optimizer cuts the score of class 1; tasks.skin has more",
        ),
        (
            {"methods.fullft": {"algorithm": "swift", "threshold": "learned"}},
            "methods.fullft: threshold: learned chooses by one score of class 1",
        ),
    ],
)
def test_what_means_nothing_for_more_classes_is_refused(changes: dict[str, Any], said: str) -> None:
    refused(changes, said)


@pytest.mark.parametrize("order", list(itertools.permutations(CLASSES)))
def test_tasks_that_share_a_data_set_have_the_classes_in_one_order(order: tuple[str, ...]) -> None:
    """The order says which label is whose, and labels of a data set are read once."""
    config = changed(TASK | LABELS)
    ordered = {name: CLASSES[name] for name in order}
    config["tasks"]["other"] = config["tasks"]["skin"] | {"classes": ordered}
    found = world.read(config)
    if order == tuple(CLASSES):
        assert isinstance(found, schema.Settings)
    else:
        assert isinstance(found, str)
        world.assert_one_line_each(found, "tasks.other.classes: ")


def test_what_goes_with_two_classes_alone() -> None:
    """A label without positive, and a metric of a class, need a task with classes."""
    for changes, said in (
        ({"datasets.north.label": {"column": "years"}}, "tasks.skin has two"),
        ({"experiments.table1.metrics": ["auc@old"]}, "tasks.skin has no classes"),
    ):
        found = world.read(changed(changes))
        assert isinstance(found, str)
        world.assert_one_line_each(found, said)
