"""SWiFT: soft-mask weight fine-tuning of biased medical-image classifiers, and nine baselines.

The front door is here: `ImageSet`, `audit`, `predict_proba` and a class for every method (`SWiFT`,
`BMFT`, ...), all of `swift_debias.api` and imported when first asked for; see there.

Rooms, from top to bottom (a module imports only from its own room and from those below):

    cli         the command line
    api         the front door
    report      tables, figures, the verdict, report.html, the page of an audit
    methods     one file a debiasing method
    importance  how much every weight matters, and the masks made of it
    learning    networks, samples, losses, the training loop
    data        data sets, image cache, folds; anybody's images as an ImageSet
    evaluation  metrics, intervals, tests, the audit of scores
    run         files of a run, jobs, identity of code
    config      typed settings
    seeds, files, errors
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import ImageSet, audit, predict_proba

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the front door when one of its names is asked for.

    `from swift_debias import methods` asks here before it looks for the file: a room is none of
    those names, and the front door costs pandas.
    """
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}") is None:
        door = importlib.import_module(f"{__name__}.api")
        if name in door.__all__:
            return getattr(door, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """With the front door's names."""
    return sorted({*globals(), *importlib.import_module(f"{__name__}.api").__all__})


__all__ = ["ImageSet", "__version__", "audit", "predict_proba"]
