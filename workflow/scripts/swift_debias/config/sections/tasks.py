"""A classification task: what is trained on, tied, and tested."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..base import Flag, Label, Line, Model, Number, shown
from ..classes import Classes, check_task
from ..names import Name
from .attributes import compared
from .images import Images
from .training import Augmentation, Finetuning, Optimizer, Pretraining

STRONGEST = 0.95  # of a tie; pools of all strengths are as large as this one allows


class Tie(Model):
    """A pool in which an attribute is tied to the label: bias as a variable (`data/tie.py`).

    The pool is subsampled by patient so that P(group 1 | class 1) = P(group 0 | class 0) =
    (1 + strength) / 2, where group 1 is `to`. Its size and its share of class 1 are the same for
    every strength. Images of unknown group are left out; test sets stay as they are.
    """

    attribute: Name = Field(description="An attribute of two groups.")
    strength: Number = Field(
        ge=0, le=STRONGEST, description="0: independent; 0.95: 97.5 % of a class are of its group."
    )
    to: Line | None = Field(
        None, description="The group that class 1 is tied to; default: the attribute's second."
    )
    external: Literal["natural", "tied"] = Field(
        "natural",
        description="natural: Baselines are trained on the tied pool, and the external set of a "
        "fold has all of its images, as debiasing supposes; tied: it has those of the tied pool, "
        "where a strong tie leaves few images of the rare cells [ours].",
    )


class Task(Model):
    """One classification task: its training pool, its test sets and how it is trained."""

    train: tuple[Name, ...] = Field((), description="Data sets pooled for training.")
    external: tuple[Name, ...] = Field(
        (),
        description="Data sets that debiasing works on, such as a hospital's small labelled set. "
        "Nothing is pre-trained on them. Folds are folds of them: one part is kept to choose "
        "thresholds and settings on, methods are fitted on the others. Default: none, and a fold's "
        "external set is its validation images of the training pool [paper].",
    )
    tests: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] = Field(
        description="Attribute -> test data sets that carry it."
    )
    positive: Label | None = Field(
        None, description="Name of class 1, for tables and figures; needed unless `classes`."
    )
    negative: Label | None = Field(None, description="Name of class 0; needed unless `classes`.")
    classes: Classes | None = Field(
        None,
        description="Three classes or more, instead of positive and negative: name -> values of "
        "the source's own diagnosis (column `diagnosis` of a manifest; of a table the fields of "
        "`label.column`, with neither positive nor negative there), in the order of labels 0, 1, "
        "... Rows of other values are left out and counted; a class that a data set does not have "
        "is refused. An image is decided for its most probable class. Metrics are means over the "
        "classes, each against the rest; `auc@mel` is that of one class (docs/classes.md) [ours].",
    )
    disease: Label | None = Field(
        None,
        description="Which of the classes is the disease, as it is called. "
        "Sensitivity, specificity and sensitivity at 80 and 90 % specificity are then reported for "
        "it, over all images and by group; null: they are not [ours].",
    )
    invert_labels: Flag = Field(
        False,
        description="Swap the classes. The adapters label as the paper does: melanoma and "
        "no finding are class 0.",
    )
    tie: Tie | None = Field(
        None, description="Tie an attribute to the label in the training pool [ours]."
    )
    group_by_patient: Flag = Field(
        True, description="Keep one patient's images in one fold; the paper splits by image."
    )
    images: Images = Images()
    augmentation: Augmentation = Augmentation()
    pretraining: Pretraining = Field(
        Pretraining(epochs=200, optimizer=Optimizer(name="sgd", lr=1e-4)),
        description="May be left out where every network brings its trained classifier. "
        "Fine-tuning takes its optimizer, its batch size and a share of its epochs from here "
        "[paper].",
    )
    finetuning: Finetuning = Finetuning()

    @property
    def pool(self) -> tuple[str, ...]:
        """Data sets that may be learnt from: what is trained on, and external ones."""
        return (*self.train, *self.external)

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> Task:
        if not self.pool:
            raise ValueError(
                "train: is missing. Name the data sets that a classifier is trained on; or, for a "
                "classifier of your own, those that it is debiased on (external:)"
            )
        if self.train and "pretraining" not in self.model_fields_set:
            raise ValueError("pretraining: is missing: epochs, batch_size, optimizer")
        return self

    @model_validator(mode="after")
    def _two_classes_or_more(self) -> Task:
        check_task(self, compared)
        return self

    @model_validator(mode="after")
    def _disease_is_a_class(self) -> Task:
        if self.disease not in (None, *self.class_names):
            first, *rest = map(shown, reversed(self.class_names))
            both = f"{first} and {rest[0]}" if len(rest) == 1 else ", ".join([*rest[::-1], first])
            raise ValueError(f"disease: the classes are {both}, not {shown(self.disease)}")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes 0, 1, ... are called."""
        if self.classes is not None:
            return tuple(self.classes)
        return (self.negative or "", self.positive or "")

    @property
    def disease_class(self) -> int | None:
        """The class that is the disease; None where the task does not say."""
        return None if self.disease is None else self.class_names.index(self.disease)
