# How much every weight matters to prediction, to bias and to each group: once for all methods.


rule importance:
    input:
        unpack(pool_images),
        model=rules.train_baseline.output.model,
        external=external_set,
    output:
        importance=folder(
            "importance/{task}/{backbone}/{attribute}/fold{fold}.safetensors"
        ),
        summary=folder(
            "importance/{task}/{backbone}/{attribute}/fold{fold}.mask_summary.parquet"
        ),
    log:
        folder("logs/importance/{task}/{backbone}/{attribute}/fold{fold}.log"),
    benchmark:
        folder("benchmarks/importance/{task}/{backbone}/{attribute}/fold{fold}.tsv")
    conda:
        "../../envs/torch.yaml"
    threads: settings.compute.threads
    resources:
        gpu=1,
    params:
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        finetuning=lambda wildcards: dump(settings.tasks[wildcards.task].finetuning),
        batch_size=lambda wildcards: settings.tasks[
            wildcards.task
        ].pretraining.batch_size,
        groups=groups_of,
        compute=dump(settings.compute),
        seed=settings.seed,
        code=code_id("importance.py"),
    script:
        "../scripts/importance.py"
