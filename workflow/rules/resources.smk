# What a job asks of a cluster: memory, run time, and what your cluster wants to know.
#
# A job that is killed for memory or time comes back with `attempt` times as much. Threads are asked for
# as cpus_per_task: `threads:` is cut to the cores of the machine that submits, where that is given
# --cores. Nothing of this is in a profile: whoever gives --default-resources or --set-resources on the
# command line replaces all of a profile's.

import math

from swift_debias.config import cluster
from swift_debias.data import staging

# Which partition a job goes to. No key of the profile: a relative path would be looked for in the folder
# that --directory names.
PARTITIONS = PROJECT / "profiles" / "slurm" / "partitions.yaml"
if PARTITIONS.is_file():
    os.environ.setdefault("SNAKEMAKE_SLURM_PARTITIONS", str(PARTITIONS))
CLUSTER_FILE = os.environ.get("SWIFT_CLUSTER") or PROJECT.joinpath(
    "profiles", "slurm", "cluster.yaml"
)
try:
    CLUSTER = cluster.read(Path(CLUSTER_FILE))
except UserError as error:
    raise WorkflowError(str(error))
if CLUSTER.stage:
    os.environ.setdefault(staging.SWITCH, "1")  # for jobs

IMAGES_PER_SECOND = (
    400  # training passes on a modest GPU; an H100 does 1,600 to 2,900 at 256 pixels
)
DECODERS = 1 if settings.synthetic else 8  # threads that decode images


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
    percent = variant(wildcards).epochs_percent
    percent = percent or settings.tasks[wildcards.task].finetuning.epochs_percent
    every = 10 * training_passes(wildcards, input) * percent / 100
    return every / len(FOLDS) if wildcards.get("fold") else every


def search_passes(wildcards, input):
    """Every point of the grid is fitted once, on a part of the external sets."""
    points = math.prod(map(len, variant(wildcards).search.values()))
    share = len(SEARCHED_FOLDS) / len(FOLDS)
    return debias_passes(wildcards, input) * points * share


def importance_passes(wildcards, input):
    """Samples one by one: a few times the cost of a batch."""
    return 10 * images_in(wildcards, input.pixels)


def prediction_passes(wildcards, input):
    """Every model sees every test image once, forwards only."""
    return images_in(wildcards, input.pixels) * len(input.models) / 3


USES_GPU = []  # the rules that do
STAGE_OF = {}  # rule -> the file of its stage


def ask():
    """Let every rule of this workflow ask for what it does not say itself. Called after the last rule.

    What the command line says of a rule or as a default goes before (of memory as `mem_mb`), but not
    what Snakemake takes for a default by itself: it does not know how large a job here is.
    """
    wanted = {
        "cpus_per_task": 1,
        "mem_mb": lambda wildcards, attempt: 2000 * attempt,
        "runtime": lambda wildcards, attempt: 10 * attempt,
        "gpu": 0,
        "turn": 1,  # see groups of profiles/slurm
    } | CLUSTER.of_every_job()
    # Snakemake's own have no text, those of the command line have
    default = getattr(workflow.resource_settings, "_parsed_default_resources", {})
    unsaid = [name for name in default if default[name].raw is None]
    for each in workflow.rules:
        if each.module_globals is not globals():  # of a workflow that uses this one
            continue
        file = Path(str(each.snakefile))
        if file.suffix == ".smk":
            STAGE_OF[each.name] = file.stem
        asked = each.resources
        if "gpu" in asked and asked["gpu"] != 0:
            USES_GPU.append(each.name)
            if CLUSTER.gpu_model:
                asked["gpu_model"] = CLUSTER.gpu_model
            if CLUSTER.gres:  # on this machine cards are counted by `gpu`
                asked["gres"] = CLUSTER.gres
                asked["gpu"] = lambda wildcards: int(workflow.local_exec)
        for name, resource in wanted.items():
            if name not in asked or (name in unsaid and asked[name] == default[name]):
                asked[name] = resource
