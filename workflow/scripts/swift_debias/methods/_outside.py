"""A method in a file outside the project: read, checked, and from then on known by its name.

The file is what one of this folder is (`methods/__init__.py`), so it may be moved in here as it is:
it runs as `swift_debias.methods.<name>`, and imports that begin with dots work. It may have one
thing more, `SEARCH`: the grid over its own settings with which it is compared.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from ..config.base import explain
from ..config.names import check_name
from ..config.schema import Method
from ..errors import UserError
from . import OUTSIDE, _checked, available, load, with_settings


def load_outside(path: Path) -> str:
    """Read a method's file; the algorithm's name, by which `methods.load` knows it from now on.

    Raises:
        UserError: there is no such file, it cannot be imported, or it holds no method; one line
            that says what is missing.
    """
    name = path.stem
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"{path}: there is no such Python file; give the path of your method's .py")
    if not name.isidentifier() or name.startswith("_"):
        raise UserError(f"{path}: call the file as a Python name, such as my_method.py")
    check_name(name)
    if name in available():
        raise UserError(f"{path}: {name!r} is a method of the project; give the file another name")
    module = _imported(path, f"{__package__}.{name}")
    if problem := _checked.problem(module):
        raise UserError(f"{path}: {problem} (docs/bring_your_method.md shows a whole file)")
    OUTSIDE[name] = module
    load.cache_clear()
    return name


def grid(algorithm: str, trials: int) -> dict[str, tuple[Any, ...]] | None:
    """What an outside method is tuned over: its `SEARCH`; None where it has none.

    Args:
        algorithm: as `load_outside` named it.
        trials: how many points every method of the comparison has.

    Raises:
        UserError: it has more points than that, keys that are no settings of the method, or a value
            that its setting cannot have.
    """
    module = OUTSIDE[algorithm]
    search = getattr(module, "SEARCH", None)
    if search is None:
        return None
    if not isinstance(search, Mapping) or not all(
        isinstance(values, list | tuple) and values for values in search.values()
    ):
        raise UserError(
            f"{module.__file__}: SEARCH must be a dictionary, setting -> list of values"
        )
    fields = {*module.Settings.model_fields, "lr_factor", "epochs_percent", "batchnorm"}
    if unknown := [key for key in search if key not in fields]:
        raise UserError(f"{module.__file__}: SEARCH: Settings has no key {unknown[0]!r}")
    points = [dict(zip(search, p, strict=True)) for p in itertools.product(*search.values())]
    if len(points) > trials:
        raise UserError(
            f"{module.__file__}: SEARCH has {len(points)} points; every method here has {trials} "
            "trials"
        )
    for point in points:
        try:
            module.Settings(**with_settings(Method(algorithm=algorithm), point).settings)
        except ValidationError as error:
            raise UserError(f"{module.__file__}: SEARCH: {explain(error)}") from error
    return {key: tuple(values) for key, values in search.items()}


def _imported(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks the types of its models up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file does
        del sys.modules[name]
        where = _line_in(error, path)
        said = str(error).splitlines()[0] if str(error) else "no message"
        raise UserError(f"{path}{where}: {type(error).__name__}: {said}") from error
    return module


def _line_in(error: BaseException, path: Path) -> str:
    """':12', the line of the file in which an error arose; '' where it is not known."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    lines, frame = [], error.__traceback__
    while frame is not None:
        if Path(frame.tb_frame.f_code.co_filename) == path:
            lines.append(frame.tb_lineno)
        frame = frame.tb_next
    return f":{lines[-1]}" if lines else ""
