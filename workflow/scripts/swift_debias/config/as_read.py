"""Values that another model than `Settings` checks, as that model reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Model
from .coherence import OPTIONS, Known, searched_value
from .schema import Experiment, Method, Settings


def as_read(settings: Settings, known: Known) -> Settings:
    """Valid settings, with what other models check as these read it: 0.3 where "3e-1" is written.

    Those are settings of methods, values of a search and options of drawings. What is equal stays
    as it is written: 1 for 1.0.
    """
    methods = {
        name: method.model_copy(update=_method_as_read(method, known.algorithms[method.algorithm]))
        for name, method in settings.methods.items()
    }
    experiments = {
        name: experiment.model_copy(update={"options": _options_as_read(experiment, known)})
        for name, experiment in settings.experiments.items()
    }
    return settings.model_copy(update={"methods": methods, "experiments": experiments})


def _method_as_read(method: Method, model: type[Model]) -> dict[str, Any]:
    own, search = model.model_validate(method.settings), method.search
    found = {key: _kept(value, getattr(own, key)) for key, value in method.settings.items()}
    if isinstance(search, Mapping):
        found["search"] = {
            key: tuple(_kept(value, searched_value(method, model, key, value)) for value in values)
            for key, values in search.items()
        }
    return found


def _options_as_read(experiment: Experiment, known: Known) -> dict[str, Any]:
    drawing = (known.drawings or {}).get(experiment.plot or "")
    if drawing is None:
        return experiment.options
    return {
        key: _kept(value, OPTIONS[drawing.options[key]].validate_python(value))
        for key, value in experiment.options.items()
    }


def _kept(written: Any, read: Any) -> Any:
    return written if written == read else read
