# The biased Baseline of every task, network and fold.


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
        cpus_per_task=settings.compute.threads,
        mem_mb=memory(6000, per_input=2.2),
        runtime=minutes(30, training_passes),
    params:
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        task=task_slice("pretraining", "augmentation"),
        compute=dump(settings.compute),
        seed=settings.seed,
        checkpoints=folder("checkpoints/baseline/{task}/{backbone}/fold{fold}"),
        torch=TORCH,
        code=code_id("train_baseline.py"),
    script:
        "../scripts/train_baseline.py"
