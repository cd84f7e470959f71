# What every rule needs: the settings, where a run writes, and the identity of code.

import os
import re
import sys
from pathlib import Path

import yaml

from swift_debias import methods
from swift_debias.config import load, plan
from swift_debias.data import adapters
from swift_debias.errors import UserError
from swift_debias.evaluation import metrics
from swift_debias.learning import architectures
from swift_debias.report import figures
from swift_debias.run import code_id as identity, forked, layout, unfinished

# A module of the user's own may lie beside the configuration. Last, so that it hides nothing; jobs are
# told by the environment.
BESIDE = [str(Path(file).resolve().parent) for file in workflow.configfiles]
sys.path += [folder for folder in dict.fromkeys(BESIDE) if folder not in sys.path]
os.environ[architectures.MODULES] = os.pathsep.join(dict.fromkeys(BESIDE))

try:
    settings = load.load(
        config,
        PROJECT,
        algorithms=methods.settings_models(),
        adapters=adapters.options_models(),
        networks=architectures.available(),
        drawings=figures.all_facts(),
        metrics=metrics.catalogue(),
        of_disease=metrics.OF_DISEASE,
        undirected=metrics.undirected(),
        files=workflow.configfiles,
        folder=Path(),
    )
except UserError as error:
    raise WorkflowError(str(error))
if settings.synthetic:  # its raw folders are drawn by a rule
    settings = settings.model_copy(
        update={
            "datasets": {
                name: dataset.model_copy(update={"root": placed(dataset.root)})
                for name, dataset in settings.datasets.items()
            }
        }
    )

# On this machine jobs share their imports: it saves time and changes nothing else.
forked.use(workflow)

RUN = f"results/{settings.run}"
PLANNED = plan.setups(settings)  # (task, backbone, attribute) -> its methods
LEFT_OUT = (
    unfinished.read()
)  # what a report goes without after a run in which jobs failed
SETUPS = LEFT_OUT.shown(PLANNED)  # the same, of those that are scored and shown
DATASETS = plan.used_datasets(settings)
USED = {  # the methods that some experiment shows, in the order of the config
    name: method
    for name, method in settings.methods.items()
    if any(name in names for names in SETUPS.values())
}
BASELINE = plan.first_variant(USED, "baseline")  # None: no method is the Baseline
SWIFT = plan.first_variant(USED, "swift")
FOLDS = list(range(settings.folds))
TORCH = [  # names and ranges: weights and scores depend on it; other packages move data and draw
    entry
    for entry in yaml.safe_load((PROJECT / "envs" / "torch.yaml").read_text())[
        "dependencies"
    ]
    if str(entry).split()[0] in ("pytorch", "torchvision")
]
EXPECTED = own("resources/expected_counts.yaml")


def one_of(names):
    """A regular expression of exactly these names; of none, one that matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    task=one_of(settings.tasks),
    dataset=one_of(settings.datasets),
    backbone=one_of(settings.backbones),
    attribute=one_of(settings.attributes),
    method=one_of(settings.methods),
    fold=r"\d+",
    repeat=r"[1-9]\d*",


def folder(name, **keys):
    """A file of this run by its name in run/layout.py; keys that are not given stay wildcards."""
    return f"{RUN}/{layout.path(name, **keys)}"


def of_setups(file):
    """A file of every (task, backbone, attribute)."""
    return [
        folder(file, task=task, backbone=backbone, attribute=attribute)
        for task, backbone, attribute in SETUPS
    ]


def log_of(rule, *names):
    """The log of a rule whose jobs have these wildcards."""
    return f"{RUN}/{layout.log(rule, *names)}"


def benchmark_of(rule, *names):
    """The benchmark file of a rule whose jobs have these wildcards."""
    return f"{RUN}/{layout.benchmark(rule, *names)}"


def code_id(script, *modules):
    """Identity of a script and of all library code it imports; see run/code_id.py."""
    return identity.code_id(SCRIPTS, script, *modules)


def module_of(backbone):
    """Identity of the user's module that makes a network; empty where the network is ours."""
    architecture = settings.backbones[backbone].architecture
    own = architectures.library_of(architecture)[0] == "own"
    return identity.own_module_id(architecture) if own else ""


def dump(model):
    """A slice of the settings as plain, ordered values: what Snakemake compares between runs."""
    return model.model_dump(mode="json")


# How arithmetic is done decides last bits, so it is compared between runs. With how many threads, how
# often a state is saved and where images are held do not: `compute` is a function of `output`, which
# Snakemake does not compare.
ARITHMETIC = settings.compute.arithmetic()


def compute(wildcards, output):
    """How a job computes, whole."""
    return dump(settings.compute)


def unique(values):
    """The values without repeats, in order."""
    return list(dict.fromkeys(values))


# --- functions of the wildcards that several stages use -------------------------------------------


def of_datasets(name, datasets):
    """A function of the wildcards that names a file of each data set."""
    return lambda wildcards: [
        folder(name, dataset=dataset) for dataset in datasets(wildcards)
    ]


def pool_sets(wildcards):
    """The data sets that a task learns from: its training pool, and external sets of one's own."""
    return list(plan.pool(settings, wildcards.task))


def own_external(wildcards):
    """Whether a task has external sets of its own."""
    return bool(settings.tasks[wildcards.task].external)


def attribute_tests(wildcards):
    """The test sets of a task that carry the attribute."""
    return list(settings.tasks[wildcards.task].tests[wildcards.attribute])


def skin_tones(datasets):
    """Skin tone files of those data sets whose tone is measured."""
    return lambda wildcards: [
        folder("skin_tone", dataset=name)
        for name in datasets(wildcards)
        if settings.datasets[name].skin_tone == "ita"
    ]


def pool_images(wildcards):
    """Image caches of a task's training pool."""
    names = pool_sets(wildcards)
    return {
        "pixels": [folder("pixels", dataset=name) for name in names],
        "index": [folder("image_index", dataset=name) for name in names],
    }


def task_slice(*names):
    """Parts of a task's settings."""
    return lambda wildcards: {
        name: dump(getattr(settings.tasks[wildcards.task], name)) for name in names
    }


def normalization(wildcards):
    """Mean and standard deviation that a task's networks were trained with."""
    return settings.tasks[wildcards.task].images.model_dump(
        mode="json", include={"mean", "std"}
    )


def all_folds(name):
    """A file of every fold; the other wildcards stay."""
    return [folder(name, fold=fold) for fold in FOLDS]


def external_sets(wildcards):
    """The external set of every fold."""
    keys = {"task": wildcards.task, "attribute": wildcards.attribute}
    return [folder("external", fold=fold, **keys) for fold in FOLDS]


def classes_of(wildcards):
    """How many classes the task has, where they are more than two; else None.

    Not a number alone: Snakemake compares values without their names, so that a swap with another
    number would go unseen.
    """
    classes = settings.tasks[wildcards.task].classes
    return classes and {"classes": len(classes)}


def class_names(wildcards, output):
    """Names of the task's classes, for messages: a function of `output`, which is not compared."""
    return list(settings.tasks[wildcards.task].class_names)


def more_classes(wildcards):
    """Names of a task's classes where there are more than two; else None."""
    return list(settings.tasks[wildcards.task].classes or ()) or None


def groups_of(wildcards):
    """How many groups the attribute has."""
    return len(settings.attributes[wildcards.attribute].group_names)


def setup_methods(wildcards):
    """All methods of a (task, backbone, attribute)."""
    return list(SETUPS[wildcards.task, wildcards.backbone, wildcards.attribute])
