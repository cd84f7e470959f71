"""The models of the configuration: every key, its unit, its default and its source.

The single place where keys are defined: the whole here, each of its sections in a file of
`sections/`; adapters and methods define their own keys in their files. `config/README.md` and
`config/schema.json` are made from these models.

Marks in the descriptions: [paper] stated in Yan et al., MELBA 2025; [code] read in the released
source of the method's authors; [derived] found by matching a count that the paper states without
its rule; [ours] our decision. A number of another method's own paper is marked with that paper.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, SerializeAsAny, model_validator

from ..errors import nearest
from .base import Integer, Model
from .names import Name, Named
from .sections.attributes import Attribute, repeated
from .sections.backbones import Backbone
from .sections.compute import Compute
from .sections.datasets import ANGLE_RULES, SKIN_TYPES, Dataset, Part, annotated
from .sections.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Duplicates,
    Images,
    SkinTone,
    normalization_problem,
)
from .sections.methods import Method, Selection
from .sections.synthetic import Bias, Population, Synthetic
from .sections.tasks import STRONGEST, Task, Tie
from .sections.training import (
    Augmentation,
    Batches,
    BatchNorm,
    EoddsKind,
    Finetuning,
    Optimizer,
    Plateau,
    Pretraining,
)
from .sections.views import Experiment, Panel, Report

__all__ = [
    "ANGLE_RULES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "SKIN_TYPES",
    "STRONGEST",
    "Attribute",
    "Augmentation",
    "Backbone",
    "BatchNorm",
    "Batches",
    "Bias",
    "Compute",
    "Dataset",
    "Duplicates",
    "EoddsKind",
    "Experiment",
    "Finetuning",
    "Images",
    "Method",
    "Optimizer",
    "Panel",
    "Part",
    "Plateau",
    "Population",
    "Pretraining",
    "Report",
    "Selection",
    "Settings",
    "SkinTone",
    "Synthetic",
    "Task",
    "Tie",
    "annotated",
    "normalization_problem",
    "repeated",
]


class Settings(Model):
    """The whole configuration of a run."""

    run: Name = Field(description="Results go to results/<run>/.")
    seed: Integer = Field(
        0, ge=-(2**63), lt=2**63, description="All random state is derived from it."
    )
    folds: Integer = Field(5, ge=2, le=100, description="[paper]")
    repeats: Integer = Field(
        1,
        ge=1,
        le=1000,
        description="How often each fold is debiased by each method, with other draws; metrics are "
        "means over the repeats. The Baseline is trained once. One draw's EOdds differs from "
        "another's by about .03 on the demo, so small differences need several [ours].",
    )
    synthetic: Synthetic | None = Field(
        None, description="Draw the raw data folders, as the demo does."
    )
    datasets: Named[SerializeAsAny[Dataset]] = Field(description="Data sets by name.")
    attributes: Named[Attribute] = Field(description="Sensitive attributes by name.")
    duplicates: Duplicates = Field(Duplicates(), description="What counts as a duplicate.")
    skin_tone: SkinTone = Field(SkinTone(), description="How skin tone is measured.")
    tasks: Named[Task] = Field(description="Classification tasks by name.")
    backbones: Named[Backbone] = Field(description="Networks by name.")
    methods: Named[Method] = Field(description="Named variants of the debiasing methods.")
    experiments: Named[Experiment] = Field(
        description="Tables and figures; what they need is computed, once. The name is the file's."
    )
    selection: Selection = Field(
        Selection(), description="How the settings of methods with a `search` are chosen."
    )
    compute: Compute = Field(Compute(), description="How the arithmetic is done.")
    only: tuple[Name, ...] = Field(
        (),
        description="The experiments to make; the others are as if they were not there, and so is "
        "all work for them alone. Default: all. On the command line: `--config 'only=[table1]'`.",
    )
    report: Report = Field(Report(), description="What the report holds.")

    @model_validator(mode="after")
    def _names_exist(self) -> Settings:
        problems = [*self._task_problems(), *self._view_problems()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _task_problems(self) -> Iterator[str]:
        for name, task in self.tasks.items():
            path = f"tasks.{name}"
            for key, named in (("train", task.train), ("external", task.external)):
                for dataset in named:
                    if dataset not in self.datasets:
                        near = nearest(dataset, self.datasets)
                        yield f"{path}.{key}: no data set {dataset!r}{near}"
            for dataset in task.external:
                if dataset in task.train:
                    yield (
                        f"{path}.external: {dataset!r} is a training set as well; debiasing needs "
                        "images that the classifier has not seen"
                    )
            yield from self._tie_problems(f"{path}.tie", task)
            for attribute, tests in task.tests.items():
                if attribute not in self.attributes:
                    yield (
                        f"{path}.tests: no attribute {attribute!r}"
                        f"{nearest(attribute, self.attributes)}"
                    )
                    continue
                for dataset in (*task.pool, *tests):
                    if dataset not in self.datasets:
                        if dataset in tests:
                            yield (
                                f"{path}.tests.{attribute}: no data set {dataset!r}"
                                f"{nearest(dataset, self.datasets)}"
                            )
                    elif column := self.datasets[dataset].lacking(self.attributes[attribute]):
                        yield (
                            f"{path}.tests.{attribute}: data set {dataset!r} has no column "
                            f"{column!r}, so the attribute is not known there; take the set out"
                        )
                for dataset in set(tests) & set(task.pool):
                    kind = "a training set" if dataset in task.train else "an external set"
                    yield f"{path}.tests.{attribute}: {dataset!r} is also {kind}"

    def _tie_problems(self, path: str, task: Task) -> Iterator[str]:
        if task.tie is None:
            return
        name = task.tie.attribute
        if name not in self.attributes:
            near = nearest(name, self.attributes)
            yield f"{path}.attribute: no attribute {name!r}{near}"
            return
        attribute = self.attributes[name]
        if len(attribute.group_names) != 2:
            count = len(attribute.group_names)
            yield f"{path}.attribute: {name!r} has {count} groups; two are tied to the two classes"
        elif task.tie.to not in (None, *attribute.group_names):
            near = nearest(str(task.tie.to), attribute.group_names)
            yield f"{path}.to: {name!r} has no group {task.tie.to!r}{near}"
        for dataset in task.train:
            if dataset in self.datasets and not self.datasets[dataset].reads(attribute):
                yield (
                    f"{path}.attribute: the table of data set {dataset!r} does not have {name!r}, "
                    "so its images cannot be chosen by it"
                )

    def _view_problems(self) -> Iterator[str]:
        for name, experiment in self.experiments.items():
            for number, panel in enumerate(experiment.panels):
                path = f"experiments.{name}.panels[{number}]"
                for method in panel.methods or experiment.methods:
                    if method not in self.methods:
                        yield f"{path}.methods: no method {method!r}{nearest(method, self.methods)}"
                if panel.backbone not in self.backbones:
                    yield (
                        f"{path}.backbone: no backbone {panel.backbone!r}"
                        f"{nearest(panel.backbone, self.backbones)}"
                    )
                if panel.task not in self.tasks:
                    yield f"{path}.task: no task {panel.task!r}{nearest(panel.task, self.tasks)}"
                    continue
                tests = self.tasks[panel.task].tests
                if panel.attribute not in tests:
                    yield (
                        f"{path}.attribute: task {panel.task!r} has no tests of attribute "
                        f"{panel.attribute!r}{nearest(panel.attribute, tests)}"
                    )
                    continue
                for dataset in panel.datasets or ():
                    if dataset not in tests[panel.attribute]:
                        near = nearest(dataset, tests[panel.attribute])
                        of = f"no test set of attribute {panel.attribute!r}"
                        yield f"{path}.datasets: {dataset!r} is {of}{near}"
