"""Baseline: the pre-trained network as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..config.base import Model

if TYPE_CHECKING:
    from ..learning.context import Context
    from ..learning.networks import Classifier
    from ..learning.samples import ExternalSet

CLASS = "Baseline"
IMPORTANCES: tuple[str, ...] = ()


class Settings(Model):
    """Nothing to set."""

    ignores: ClassVar = ("external_fraction", "epochs_percent", "batches")  # nothing is trained


def keeps_extractor(settings: Settings) -> bool:
    """Nothing is trained."""
    return True


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Return the classifier untouched."""
    return classifier
