# Settings, paths and helpers of every rule. The library does the work; nothing is computed here.

import os
import sys
import time
from pathlib import Path

STARTED = time.monotonic()
PROJECT = Path(workflow.basedir)
SCRIPTS = PROJECT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from swift_debias import code, datasets, methods, settings as configuration
from swift_debias.datasets import check

try:
    settings = configuration.load(
        config,
        PROJECT,
        algorithms=methods.settings_models(),
        adapters=datasets.available(),
    )
except configuration.UserError as error:
    raise WorkflowError(str(error))

RUN = f"results/{settings.run}"
CELLS = settings.cells()
DATASETS = settings.used_datasets()
FOLDS = list(range(settings.folds))
UNTOUCHED = [
    name for name, method in settings.methods.items() if method.algorithm == "baseline"
]
TABLES = [name for name, view in settings.experiments.items() if view.kind == "table"]
EXPECTED = os.path.relpath(PROJECT / "resources" / "expected_counts.yaml")
PUBLISHED = os.path.relpath(PROJECT / "resources" / "published_results.csv")


wildcard_constraints:
    task="[^/]+",
    dataset="[^/]+",
    backbone="[^/]+",
    attribute="[^/]+",
    method="[^/]+",
    fold=r"\d+",


def folder(pattern):
    """A path of this run; everything a run writes is there."""
    return f"{RUN}/{pattern}"


def code_id(script, *modules):
    """Identity of a script and of all library code it imports; see swift_debias/code.py."""
    return code.code_id(SCRIPTS, script, *modules)


def dump(model):
    """A slice of the settings as plain, ordered values: what Snakemake compares between runs."""
    return model.model_dump(mode="json")


# --- prepare --------------------------------------------------------------------------------------


def task_of(dataset):
    """The task whose image settings a data set's cache follows."""
    for name, task in settings.tasks.items():
        tests = {test for tests in task.tests.values() for test in tests}
        if dataset in (*task.train, *tests):
            return name


def tests_of(task):
    """All test sets of a task that some experiment needs, in a fixed order."""
    used = [
        d
        for cell in CELLS
        if cell[0] == task
        for d in settings.tasks[task].tests[cell[2]]
    ]
    return sorted(set(used))


def raw_folder(wildcards):
    """The demo draws its raw folders; elsewhere they are there, and far too large to track."""
    return folder(f"raw/{wildcards.dataset}") if settings.synthetic else []


def checked_settings():
    """What the look at the raw folders depends on: the data, and who needs them."""
    slices = dump(settings)
    recipe = {"epochs": 1, "optimizer": {"name": "sgd", "lr": 1}}
    for name, task in slices["tasks"].items():
        kept = ("train", "tests", "positive", "negative", "invert_labels")
        slices["tasks"][name] = {key: task[key] for key in kept} | {
            "pretraining": recipe
        }
    for name, view in slices["experiments"].items():
        kept = ("kind", "title", "panels", "methods")
        slices["experiments"][name] = {key: view[key] for key in kept}
    kept = ("run", "synthetic", "datasets", "attributes", "tasks", "experiments")
    return {key: slices[key] for key in kept} | {
        "backbones": {name: {"architecture": ""} for name in settings.backbones},
        "methods": {name: {"algorithm": ""} for name in settings.methods},
    }


def of_datasets(pattern, names):
    """A function of the wildcards that names a file of each data set."""
    return lambda wildcards: expand(pattern, dataset=names(wildcards))


def train_sets(wildcards):
    """The data sets of a task's training pool."""
    return list(settings.tasks[wildcards.task].train)


def task_tests(wildcards):
    """All test sets of a task."""
    return tests_of(wildcards.task)


def attribute_tests(wildcards):
    """The test sets of a task that carry the attribute."""
    return list(settings.tasks[wildcards.task].tests[wildcards.attribute])


def skin_tones(names):
    """Skin tone files of those data sets whose tone is measured."""
    return lambda wildcards: [
        folder(f"skin_tone/{name}.parquet")
        for name in names(wildcards)
        if settings.datasets[name].skin_tone == "ita"
    ]


def used_attributes(wildcards):
    """The attributes of a task that some experiment needs."""
    return sorted({cell[2] for cell in CELLS if cell[0] == wildcards.task})


def external_of_task(wildcards):
    """External sets of all attributes and folds of a task."""
    return [
        folder(f"external/{wildcards.task}/{attribute}/fold{fold}.parquet")
        for attribute in used_attributes(wildcards)
        for fold in FOLDS
    ]


def missing_data():
    """Raw folders that are not there, unless what is made of them is there already."""
    made = ("manifests/{}.parquet", "images/{}.npy", "images/{}.parquet")
    return [
        absent
        for absent in check.missing_folders(
            settings, Path(), check.load_expected(Path(EXPECTED))
        )
        if not all(
            Path(folder(pattern.format(absent.dataset))).is_file() for pattern in made
        )
    ]


if missing := missing_data():
    raise WorkflowError(
        "data sets that the experiments need are not there:\n\n"
        + "\n".join(map(str, missing))
        + "\n\nPut each where it is expected, or change datasets.<name>.root in the config."
    )


# --- train, importance, debias --------------------------------------------------------------------


def pool_images(wildcards):
    """Image caches of a task's training pool."""
    train = train_sets(wildcards)
    return {
        "pixels": expand(rules.cache_images.output.pixels, dataset=train),
        "index": expand(rules.cache_images.output.index, dataset=train),
    }


def own_baseline(wildcards):
    """A user's trained classifier, where the config names one."""
    path = settings.backbones[wildcards.backbone].baseline
    return path.format(fold=wildcards.fold) if path else []


def task_slice(*names):
    """Parts of a task's settings."""
    return lambda wildcards: {
        name: dump(getattr(settings.tasks[wildcards.task], name)) for name in names
    }


def external_set(wildcards):
    """The external set of a fold; `make_external` writes all folds in one job."""
    return folder(
        f"external/{wildcards.task}/{wildcards.attribute}/fold{wildcards.fold}.parquet"
    )


def groups_of(wildcards):
    """How many groups the attribute has."""
    return len(settings.attributes[wildcards.attribute].group_names)


def algorithm(wildcards):
    """The algorithm of a named variant."""
    return settings.methods[wildcards.method].algorithm


def shared_importance(wildcards):
    """The importances, for the methods that read them."""
    if methods.load(algorithm(wildcards)).NEEDS_IMPORTANCE:
        return expand(rules.importance.output.importance, **wildcards)[0]
    return []


# --- evaluate, report -----------------------------------------------------------------------------


def cell_methods(wildcards):
    """All methods of a (task, backbone, attribute)."""
    return list(CELLS[wildcards.task, wildcards.backbone, wildcards.attribute])


def cell_models(wildcards):
    """Models of all methods and folds of a (task, backbone, attribute)."""
    return expand(
        rules.debias.output.model,
        method=cell_methods(wildcards),
        fold=FOLDS,
        **wildcards,
    )


def debias_costs(wildcards):
    """What every training and debiasing job cost."""
    return [
        folder(f"debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/cost.json")
        for (task, backbone, attribute), names in CELLS.items()
        for method in names
        for fold in FOLDS
    ]
