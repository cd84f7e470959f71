"""Whether a file is a method: what it must have is looked for before anything is planned."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import ModuleType

from ..config.base import Model
from ..config.schema import Method
from ..errors import UserError, nearest
from ..importance.names import NAMES
from ._common import COMMON

TAKEN = frozenset(COMMON.model_fields) | frozenset(Method.model_fields)  # no names of own settings


def problem(module: ModuleType) -> str:
    """What a module lacks to be a method; '' for nothing."""
    run = getattr(module, "debias", None)
    if not callable(run):
        return "there is no method in it: no function debias(classifier, external, settings, ctx)"
    if len(inspect.signature(run).parameters) != 4:
        return "debias must take four arguments: classifier, external, settings, context"
    name = getattr(module, "CLASS", None)
    if not isinstance(name, str):
        return 'CLASS is missing, the name of its class, such as CLASS = "MyMethod"'
    if not name.isidentifier() or name.startswith("_"):
        return f'CLASS {name!r} is no name of a class; such as CLASS = "MyMethod"'
    settings = getattr(module, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, Model)):
        return "Settings is missing, a class derived from swift_debias.config.base.Model"
    if twice := [key for key in settings.model_fields if key in TAKEN]:
        return f"Settings: every method has a setting {twice[0]!r} already; call it otherwise"
    try:
        settings()
    except Exception:
        return "every key of Settings needs a default"
    read = getattr(module, "IMPORTANCES", None)
    if not isinstance(read, tuple):
        return "IMPORTANCES is missing; IMPORTANCES: tuple[str, ...] = () where it reads none"
    if unknown := [one for one in read if one not in NAMES]:
        return f"IMPORTANCES: there is no {unknown[0]!r}{nearest(unknown[0], NAMES)}"
    return ""


def refuse_twins(modules: Mapping[str, ModuleType]) -> None:
    """Refuse two methods with one class, of which the library would have the last alone.

    Raises:
        UserError: names both files.
    """
    found: dict[str, str] = {}
    for name, module in modules.items():
        if module.CLASS in found:
            both = f"methods/{found[module.CLASS]}.py and methods/{name}.py"
            raise UserError(f"{both}: both have CLASS = {module.CLASS!r}; give one another name")
        found[module.CLASS] = name
