# The biased Baseline of every task, network and fold.


def own_baseline(wildcards):
    """A user's trained classifier, where the config names one."""
    path = settings.backbones[wildcards.backbone].baseline
    keys = {"task": wildcards.task, "backbone": wildcards.backbone}
    return path.format(**keys, fold=int(wildcards.fold)) if path else []


def own_weights(wildcards):
    """Weights of a user's own that the training starts from."""
    weights = settings.backbones[wildcards.backbone].weights
    return [] if weights in (None, "imagenet") else weights


rule train_baseline:
    input:
        unpack(pool_images),
        cohort=rules.find_duplicates.output.cohort,
        folds=rules.make_folds.output,
        own=own_baseline,
        weights=own_weights,
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
        normalization=normalization,
        compute=dump(settings.compute),
        seed=settings.seed,
        checkpoints=folder("baseline_checkpoints"),
        torch=TORCH,
        code=code_id("train_baseline.py"),
    script:
        "../scripts/train_baseline.py"
