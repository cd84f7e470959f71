# The biased Baseline of every task, network and fold.


# A file that the config names lies where it says (`local`), whatever the `prefix:` of a module.
def own_baseline(wildcards):
    """A user's trained classifier, where the config names one."""
    path = settings.backbones[wildcards.backbone].baseline
    keys = {"task": wildcards.task, "backbone": wildcards.backbone}
    return local(path.format(**keys, fold=int(wildcards.fold))) if path else []


def own_weights(wildcards):
    """Weights of a user's own that the training starts from."""
    weights = settings.backbones[wildcards.backbone].weights
    ours = weights in (None, "imagenet", "pretrained")
    return [] if ours else local(weights)


def baseline_files(wildcards):
    """The user's trained classifiers of all folds, each file once."""
    path = settings.backbones[wildcards.backbone].baseline
    keys = {"task": wildcards.task, "backbone": wildcards.backbone}
    return unique(path.format(**keys, fold=fold) for fold in FOLDS) if path else []


def given_images(wildcards):
    """What the network of a task is given: pixels a side, and channels."""
    images = settings.tasks[wildcards.task].images
    return {"size": images.size, "channels": len(images.mean)}


def extractor_is_trained(wildcards):
    """Whether a method that is run on a task's network trains its extractor."""
    names = {
        name
        for setup, run in SETUPS.items()
        if setup[:2] == (wildcards.task, wildcards.backbone)
        for name in run
    }
    used = [settings.methods[name] for name in names]
    return not all(
        methods.keeps_extractor(one.algorithm, full_settings(one)) for one in used
    )


# Where one types, like downloads, and first of all: nothing is decoded for a network that cannot be
# built. A training waits for it, and its params are a part of what the training depends on anyway:
# so it runs again only where the training would, and has no `code`. What it prints reruns nothing.
rule check_models:
    output:
        text=folder("model_check"),
    log:
        log_of("check_models", "task", "backbone"),
    benchmark:
        benchmark_of("check_models", "task", "backbone")
    priority: 100
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        module=lambda wildcards: module_of(wildcards.backbone),
        images=given_images,
        classes=classes_of,
        # a function that takes `output` is not compared between runs: one fold's file concerns that fold
        files=lambda wildcards, output: baseline_files(wildcards),
        # nor is this: a method that is added later finds out by itself
        extractor=lambda wildcards, output: extractor_is_trained(wildcards),
    script:
        "../scripts/check_models.py"


rule train_baseline:
    input:
        unpack(pool_images),
        cohort=rules.find_duplicates.output.cohort,
        folds=rules.make_folds.output,
        own=own_baseline,
        weights=own_weights,
        checked=rules.check_models.output.text,
    output:
        model=folder("baseline_model"),
        history=folder("baseline_history"),
        cost=folder("baseline_cost"),
        source=folder("baseline_source"),
        scores=folder("baseline_scores"),
        threshold=folder("baseline_threshold"),
    log:
        log_of("train_baseline", "task", "backbone", "fold"),
    benchmark:
        benchmark_of("train_baseline", "task", "backbone", "fold")
    conda:
        "../../envs/torch.yaml"
    threads: settings.compute.threads
    resources:
        gpu=1,
        cpus_per_task=settings.compute.threads,
        mem_mb=memory(6000, per_input=2.2),
        runtime=minutes(30, training_passes),
    params:
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        module=lambda wildcards: module_of(wildcards.backbone),
        task=task_slice("pretraining", "augmentation"),
        classes=classes_of,
        normalization=normalization,
        compute=compute,
        arithmetic=ARITHMETIC,
        seed=settings.seed,
        checkpoints=placed(folder("baseline_checkpoints")),
        torch=TORCH,
        code=code_id("train_baseline.py"),
    script:
        "../scripts/train_baseline.py"
