# Settings, paths and helpers of every rule. The library does the work; nothing is computed here.

import sys
import time
from pathlib import Path

STARTED = time.monotonic()

PROJECT = Path(workflow.basedir)
SCRIPTS = PROJECT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from swift_debias import datasets, methods, settings as configuration
from swift_debias.code import code_id as code_id_of
from swift_debias.settings import UserError

try:
    settings = configuration.load(
        config,
        PROJECT,
        algorithms=methods.settings_models(),
        adapters=datasets.available(),
    )
except UserError as error:
    raise WorkflowError(str(error))

RUN = f"results/{settings.run}"
CELLS = settings.cells()
FOLDS = list(range(settings.folds))


def code_id(script, *modules):
    """Identity of a script and of all library code it imports; see swift_debias/code.py."""
    return code_id_of(SCRIPTS, script, *modules)


def dump(model):
    """A slice of the settings as plain, ordered values: what Snakemake compares between runs."""
    return model.model_dump(mode="json")


def folder(pattern):
    """A path of this run; everything a run writes is there."""
    return f"{RUN}/{pattern}"


wildcard_constraints:
    task="[^/]+",
    dataset="[^/]+",
    backbone="[^/]+",
    attribute="[^/]+",
    method="[^/]+",
    fold=r"\d+",
