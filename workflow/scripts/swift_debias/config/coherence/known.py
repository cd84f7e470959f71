"""What a configuration can name, beside itself: methods, adapters, networks, drawings, metrics."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple, Protocol

from ..base import Model
from ..schema import Dataset


class Drawing(Protocol):
    """What a drawing says of itself; see `report/figures/__init__.py`."""

    @property
    def options(self) -> Mapping[str, str]: ...

    @property
    def ignores(self) -> tuple[str, ...]: ...

    @property
    def first(self) -> tuple[str, ...]: ...

    @property
    def task_sets(self) -> tuple[str, ...]: ...

    @property
    def two_classes(self) -> str: ...

    @property
    def metrics(self) -> tuple[str, ...]: ...

    @property
    def crossed(self) -> bool: ...


class Known(NamedTuple):
    """What there is to be named in a configuration; what is None is not checked.

    Attributes:
        algorithms: name of each method's file -> its settings model.
        adapters: name of each adapter's file -> its options model.
        networks: architecture -> model of its options.
        drawings: name of each drawing's file -> what it says of itself.
        metrics: name -> whether each group has a value of it too.
        of_disease: metrics that a task has only if it names its disease.
        undirected: metrics of which neither way is better.
    """

    algorithms: Mapping[str, type[Model]]
    adapters: Mapping[str, type[Dataset]]
    networks: Mapping[str, type[Model]] | None = None
    drawings: Mapping[str, Drawing] | None = None
    metrics: Mapping[str, bool] | None = None
    of_disease: Container[str] = ()
    undirected: Container[str] = ()

    @property
    def of_two_classes(self) -> dict[str, str]:
        """Drawings that are of two classes only, each with the reason."""
        drawings = self.drawings or {}
        return {name: of.two_classes for name, of in drawings.items() if of.two_classes}
