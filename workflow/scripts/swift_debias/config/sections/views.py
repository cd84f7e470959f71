"""Tables and figures: which slices of the results they show; and the report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..base import Flag, Line, Model, Plain
from ..names import Name


class Report(Model):
    """What report.html holds; docs/sharing.md says what every file of a run contains."""

    images: Flag = Field(
        True,
        description="Figures that show test images (`bias`, `cam`) are in report.html. Public data "
        "sets may be shown, and the paper shows them; pictures of your own patients leave the "
        "house with the page, hence false in own_data.yaml. The figures' own files are made "
        "either way.",
    )


class Panel(Model):
    """One slice of the results: a network and attribute, and the test sets to show."""

    task: Name
    backbone: Name
    attribute: Name
    datasets: Annotated[tuple[Name, ...], Field(min_length=1)] | None = Field(
        None, description="Default: all of the attribute's."
    )
    methods: Annotated[tuple[Name, ...], Field(min_length=1)] | None = Field(
        None, description="Default: the experiment's."
    )


class Experiment(Model):
    """A table or figure: which slices of the results it shows."""

    kind: Literal["table", "figure"]
    plot: Line | None = Field(None, description="Figures: which file of report/figures/ draws it.")
    title: Line
    methods: tuple[Name, ...] = ()
    metrics: tuple[Line, ...] = Field(("auc", "spd", "eodds"), min_length=1)
    threshold: Literal["fixed", "external"] = Field(
        "fixed",
        description="Where decisions are made: fixed: a score of 0.5 [paper]; external: where the "
        "model's balanced accuracy on external samples is best.",
    )
    panels: tuple[Panel, ...] = Field(min_length=1)
    options: dict[str, Plain] = Field({}, description="Style and details of the drawing.")
