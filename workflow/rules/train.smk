# The biased Baseline of every task, network and fold.

MODEL_SLICES = ["pretraining", "augmentation", "images"]


def pool_images(wildcards):
    """Image caches of a task's training pool."""
    train = settings.tasks[wildcards.task].train
    return {
        "pixels": expand(rules.cache_images.output.pixels, dataset=train),
        "index": expand(rules.cache_images.output.index, dataset=train),
    }


def own_baseline(wildcards):
    """A user's trained classifier, where the config names one."""
    path = settings.backbones[wildcards.backbone].baseline
    return path.format(fold=wildcards.fold) if path else []


rule train_baseline:
    input:
        unpack(pool_images),
        cohort=rules.find_duplicates.output.cohort,
        folds=rules.make_folds.output,
        own=own_baseline,
    output:
        model=folder("baseline/{task}/{backbone}/fold{fold}/model.safetensors"),
        history=folder("baseline/{task}/{backbone}/fold{fold}/history.parquet"),
        cost=folder("baseline/{task}/{backbone}/fold{fold}/cost.json"),
    log:
        folder("logs/train_baseline/{task}/{backbone}/fold{fold}.log"),
    benchmark:
        folder("benchmarks/train_baseline/{task}/{backbone}/fold{fold}.tsv")
    conda:
        "../../envs/torch.yaml"
    threads: settings.compute.threads
    resources:
        gpu=1,
    params:
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        task=lambda wildcards: {
            name: dump(getattr(settings.tasks[wildcards.task], name))
            for name in MODEL_SLICES
        },
        datasets=lambda wildcards: list(settings.tasks[wildcards.task].train),
        compute=dump(settings.compute),
        seed=settings.seed,
        checkpoints=folder("checkpoints/baseline/{task}/{backbone}/fold{fold}"),
        code=code_id("train_baseline.py"),
    script:
        "../scripts/train_baseline.py"
