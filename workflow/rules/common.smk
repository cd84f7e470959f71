# Settings, paths and helpers of every rule. The library does the work; nothing is computed here.

import math
import os
import sys
import time
from pathlib import Path

import yaml

STARTED = time.monotonic()
PROJECT = Path(workflow.basedir)
SCRIPTS = PROJECT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from swift_debias import code, datasets, methods, settings as configuration
from swift_debias.captions import CAPTIONS
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
TORCH = [  # names and ranges: weights and scores depend on it; other packages move data and draw
    entry
    for entry in yaml.safe_load((PROJECT / "envs" / "torch.yaml").read_text())[
        "dependencies"
    ]
    if str(entry).split()[0] in ("pytorch", "torchvision")
]
TABLES = [name for name, view in settings.experiments.items() if view.kind == "table"]
EXPECTED = os.path.relpath(PROJECT / "resources" / "expected_counts.yaml")
PUBLISHED = os.path.relpath(PROJECT / "resources" / "published_results.csv")
EXTERNAL = "external/{task}/{attribute}/fold{fold}.parquet"
IMPORTANCES = "importance/{task}/{backbone}/{attribute}/fold{fold}.safetensors"
SUMMARIES = "importance/{task}/{backbone}/{attribute}/fold{fold}.mask_summary.parquet"
MODELS = "debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/model.safetensors"
HISTORIES = "debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/history.parquet"
COSTS = "debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/cost.json"
PREDICTIONS = "predictions/{task}/{backbone}/{attribute}"


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


# --- what a job asks of a cluster -----------------------------------------------------------------

# What is not said here or in a rule is a default of profiles/slurm. A job that is killed for memory
# or time comes back with `attempt` times as much. Threads are asked for as cpus_per_task: `threads:`
# is cut to the cores of the machine that submits, where that is given --cores.
IMAGES_PER_SECOND = (
    400  # training passes on a modest GPU; an H100 does 1,600 to 2,900 at 256 pixels
)


def megabytes(paths):
    """Size of those files that are there; in a dry run most are not made yet."""
    return sum(os.path.getsize(path) for path in paths if os.path.isfile(path)) / 1e6


def images_in(wildcards, paths):
    """How many images of a task these caches hold."""
    kept = settings.tasks[wildcards.task].images
    return 1e6 * megabytes(paths) / (kept.size**2 * kept.channels)


def memory(base, per_input=0):
    """Megabytes: `base`, and `per_input` for each megabyte of input.

    Measured (benchmarks/memory.py): 2.15 for each megabyte of cached pixels. Activations are not in
    it, since they are on the card; without one they take 9 (ResNet-50) to 18 MiB (EfficientNet-B3) an
    image of a batch at 64 pixels, and sixteen times that at 256.
    A job with a card took 1.2 to 2.3 GB on the host besides its pixels.
    """
    return lambda wildcards, input, attempt: attempt * math.ceil(
        base + per_input * megabytes(input)
    )


def minutes(base, passes=None, per_input=0):
    """Run time: `base`, the passes of images through a network, the megabytes of input."""
    return lambda wildcards, input, attempt: attempt * math.ceil(
        base
        + (passes(wildcards, input) if passes else 0) / (60 * IMAGES_PER_SECOND)
        + per_input * megabytes(input)
    )


def training_passes(wildcards, input):
    """Images that the training of a Baseline draws."""
    epochs = settings.tasks[wildcards.task].pretraining.epochs
    return images_in(wildcards, input.pixels) * epochs


def debias_passes(wildcards, input):
    """All folds' external sets are the pool once; two steps, and a search over a few settings."""
    percent = settings.methods[wildcards.method].epochs_percent
    percent = percent or settings.tasks[wildcards.task].finetuning.epochs_percent
    return 10 * training_passes(wildcards, input) * percent / 100


def importance_passes(wildcards, input):
    """Samples one by one: a few times the cost of a batch."""
    return 10 * images_in(wildcards, input.pixels)


def evaluation_passes(wildcards, input):
    """Every model sees every test image once, forwards only."""
    return images_in(wildcards, input.pixels) * len(input.models) / 3


# --- prepare --------------------------------------------------------------------------------------


DECODERS = 1 if settings.synthetic else 8  # threads that decode images


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
        kept = {key: task[key] for key in ("train", "tests", "invert_labels")}
        blank = {"pretraining": recipe, "positive": "", "negative": ""}
        slices["tasks"][name] = kept | blank
    for name, view in slices["experiments"].items():
        panels = [panel | {"methods": None} for panel in view["panels"]]
        kept = {key: view[key] for key in ("kind", "title")}
        slices["experiments"][name] = kept | {"panels": panels}
    kept = ("run", "synthetic", "datasets", "attributes", "tasks", "experiments")
    return {key: slices[key] for key in kept} | {
        "backbones": {name: {"architecture": ""} for name in settings.backbones},
        "methods": {},
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
        folder(EXTERNAL).format(task=wildcards.task, attribute=attribute, fold=fold)
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


def all_folds(pattern):
    """A file of every fold; the other wildcards stay."""
    return expand(pattern, fold=FOLDS, allow_missing=True)


def external_sets(wildcards):
    """The external set of every fold."""
    return expand(folder(EXTERNAL), fold=FOLDS, **wildcards)


def groups_of(wildcards):
    """How many groups the attribute has."""
    return len(settings.attributes[wildcards.attribute].group_names)


def recipe(method):
    """Settings of a named variant; its title is for tables and figures only."""
    return settings.methods[method].model_dump(mode="json", exclude={"title"})


def algorithm(wildcards):
    """The algorithm of a named variant."""
    return settings.methods[wildcards.method].algorithm


def shared_importance(wildcards):
    """The importances, for the methods that read them."""
    if methods.load(algorithm(wildcards)).NEEDS_IMPORTANCE:
        return expand(folder(IMPORTANCES), fold=FOLDS, **wildcards)
    return []


# --- evaluate, report -----------------------------------------------------------------------------


def cell_methods(wildcards):
    """All methods of a (task, backbone, attribute)."""
    return list(CELLS[wildcards.task, wildcards.backbone, wildcards.attribute])


def cell_models(wildcards):
    """Models of all methods and folds of a (task, backbone, attribute), method by method."""
    return [
        folder(MODELS).format(**wildcards, method=method, fold=fold)
        for method in cell_methods(wildcards)
        for fold in FOLDS
    ]


def debias_costs(wildcards):
    """What every training and debiasing job cost."""
    return [
        folder(f"debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/cost.json")
        for (task, backbone, attribute), names in CELLS.items()
        for method in names
        for fold in FOLDS
    ]


# --- to be appended to workflow/rules/common.smk, section "evaluate, report" ------------------------
# (its imports: add `from swift_debias.captions import CAPTIONS`; constants: as here)

FIGURES = [name for name, view in settings.experiments.items() if view.kind == "figure"]
TITLES = {name: method.title or name for name, method in settings.methods.items()}
CLAIMS = os.path.relpath(PROJECT / "resources" / "claims.yaml")
REQUIREMENTS = os.path.relpath(PROJECT / "requirements.txt")
ASSETS = sorted(map(os.path.relpath, SCRIPTS.glob("swift_debias/report_assets/*")))

# Drawing -> the module it is in, and which results it reads.
PLOTS = {
    "bias": ("figure_images", ["predictions", "arrays"]),
    "method": ("figure_images", []),
    "importance": ("figure_images", ["arrays"]),
    "cam": ("figure_images", ["arrays"]),
    "epochs": ("figure_metrics", ["metrics", "costs"]),
    "reinit": ("figure_metrics", ["metrics", "arrays"]),
    "external": ("figure_metrics", ["metrics"]),
    "masks": ("figure_metrics", ["summaries"]),
    "pareto": ("figure_metrics", ["metrics"]),
    "cost": ("figure_metrics", ["costs"]),
    "groups": ("figure_metrics", ["metrics"]),
    "intervals": ("figure_metrics", ["intervals"]),
    "thresholds": ("figure_metrics", ["predictions"]),
    "estimators": ("figure_metrics", ["metrics", "arrays"]),
}
# Drawing -> what figure_arrays.py reads for it.
ARRAYS = {
    "bias": ["predictions", "images"],
    "cam": ["predictions", "images", "models"],
    "importance": ["importances", "summaries"],
    "reinit": ["importances"],
    "estimators": ["importances"],
}

for name in FIGURES:
    if settings.experiments[name].plot not in PLOTS:
        near = configuration.nearest(str(settings.experiments[name].plot), PLOTS)
        raise WorkflowError(f"experiments.{name}.plot: no such drawing{near}")


def blocks(name):
    """What a view shows, as plain values."""
    return settings.blocks(settings.experiments[name])


def of_blocks(name, pattern):
    """A file of every task, network, attribute and method of a view, and of every fold."""
    return unique(
        folder(pattern).format(**block, method=method, fold=fold)
        for block in blocks(name)
        for method in block["methods"]
        for fold in FOLDS
    )


def unique(values):
    """The values without repeats, in order."""
    return list(dict.fromkeys(values))


def first_fold(name, pattern):
    """A file of every method of a view's first block, of the first fold."""
    block = blocks(name)[0]
    return unique(
        folder(pattern).format(**block, method=method, fold=FOLDS[0])
        for method in block["methods"]
    )


INTERVALS = "intervals/{task}/{backbone}/{attribute}.parquet"


def figure_input(wildcards):
    """The results that a figure is drawn from."""
    name = wildcards.figure
    paths = {
        "metrics": lambda: [folder("metrics.parquet")],
        "costs": lambda: of_blocks(name, COSTS),
        "predictions": lambda: of_blocks(name, PREDICTIONS),
        "summaries": lambda: of_blocks(name, SUMMARIES),
        "intervals": lambda: of_blocks(name, INTERVALS),
        "arrays": lambda: [folder(f"figures/arrays/{name}.npz")],
    }
    _, needs = PLOTS[settings.experiments[name].plot]
    return {need: paths[need]() for need in needs}


def arrays_input(wildcards):
    """What a figure's arrays are computed from."""
    name = wildcards.figure
    view, block = settings.experiments[name], blocks(name)[0]
    single = view.plot == "importance"
    found = {}
    for need in ARRAYS[view.plot]:
        if need == "images":
            dataset = block["datasets"][0]
            found["pixels"] = expand(rules.cache_images.output.pixels, dataset=dataset)
            found["index"] = expand(rules.cache_images.output.index, dataset=dataset)
        elif need == "predictions":
            found[need] = first_fold(name, PREDICTIONS)
        elif need == "models":
            found[need] = first_fold(name, MODELS)
        elif need == "summaries":
            found[need] = first_fold(name, SUMMARIES)
        else:
            found[need] = (first_fold if single else of_blocks)(name, IMPORTANCES)
    return found


# Drawing -> the one setting of its methods that it shows itself (method: all of them).
DRAWN = {"epochs": "epochs_percent", "external": "external_fraction"}


def variants(name, *kept):
    """Methods of a view with these settings of their algorithms, defaults filled in; none: all."""
    models = methods.settings_models()
    found = {}
    for method in sorted({m for block in blocks(name) for m in block["methods"]}):
        variant = settings.methods[method]
        full = models[variant.algorithm].model_validate(variant.settings)
        every = dump(full) | recipe(method)
        found[method] = {k: v for k, v in every.items() if not kept or k in kept}
    return found


def drawn_variants(wildcards):
    """What a figure shows of its methods' settings."""
    plot = plot_of(wildcards)
    kept = () if plot == "method" else ("algorithm", DRAWN.get(plot))
    return variants(wildcards.figure, *kept)


def masks_of(name):
    """How those of a view's methods that are SWiFT make their masks."""
    mask = ("estimator", "normalization", "percentile", "threshold")
    found = variants(name, "algorithm", *mask)
    return {k: v for k, v in found.items() if v["algorithm"] == "swift"}


def titles(name):
    """Display names of the methods that a view shows."""
    return {
        method: TITLES[method] for block in blocks(name) for method in block["methods"]
    }


def figure_names(name):
    """What a figure calls its methods, groups and classes, and how long it trained."""
    tasks = unique(block["task"] for block in blocks(name))
    attributes = unique(block["attribute"] for block in blocks(name))
    return {
        "titles": titles(name),
        "groups": {a: list(settings.attributes[a].group_names) for a in attributes},
        "classes": {
            task: [settings.tasks[task].negative, settings.tasks[task].positive]
            for task in tasks
        },
        "epochs": {
            task: [
                settings.tasks[task].pretraining.epochs,
                settings.tasks[task].finetuning.epochs_percent,
            ]
            for task in tasks
        },
    }


def plot_of(wildcards):
    """Which drawing a figure is."""
    return settings.experiments[wildcards.figure].plot


def options_of(wildcards):
    """Details of a figure's drawing."""
    return settings.experiments[wildcards.figure].options


def first_block(wildcards):
    """The first slice of the results that a figure shows."""
    return blocks(wildcards.figure)[0]


def pretraining_costs():
    """What every training of a Baseline cost."""
    return [
        folder(f"baseline/{task}/{backbone}/fold{fold}/cost.json")
        for task, backbone in unique(cell[:2] for cell in CELLS)
        for fold in FOLDS
    ]


def mask_summaries():
    """Of all cells that measure an importance."""
    return [
        folder(SUMMARIES).format(
            task=task, backbone=backbone, attribute=attribute, fold=fold
        )
        for (task, backbone, attribute), names in CELLS.items()
        for fold in FOLDS
        if "swift" in names
    ]
