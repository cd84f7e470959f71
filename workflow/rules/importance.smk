# How much every weight matters to prediction, to bias and to each group: once for all methods.


rule importance:
    input:
        unpack(pool_images),
        models=all_folds("baseline_model"),
        external=external_sets,
    output:
        importance=all_folds("importance"),
        summary=all_folds("mask_summary"),
    log:
        log_of("importance", "task", "backbone", "attribute"),
    benchmark:
        benchmark_of("importance", "task", "backbone", "attribute")
    conda:
        "../../envs/torch.yaml"
    threads: settings.compute.threads
    resources:
        gpu=1,
        cpus_per_task=settings.compute.threads,
        mem_mb=memory(6000, per_input=2.2),
        runtime=minutes(30, importance_passes),
    params:
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        module=lambda wildcards: module_of(wildcards.backbone),
        finetuning=lambda wildcards: dump(settings.tasks[wildcards.task].finetuning),
        batch_size=lambda wildcards: settings.tasks[
            wildcards.task
        ].pretraining.batch_size,
        normalization=normalization,
        groups=groups_of,
        wanted=list(methods.importances()),
        folds=FOLDS,
        compute=dump(settings.compute),
        seed=settings.seed,
        torch=TORCH,
        code=code_id("importance.py"),
    script:
        "../scripts/importance.py"
