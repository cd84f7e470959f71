"""Baseline: the pre-trained network as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..settings import Model

if TYPE_CHECKING:
    from ..networks import Classifier
    from ..training import Context, ExternalSet

NEEDS_IMPORTANCE = False


class Settings(Model):
    """Nothing to set."""


def debias(
    classifier: Classifier, external: ExternalSet, settings: Settings, context: Context
) -> Classifier:
    """Return the classifier untouched."""
    return classifier
