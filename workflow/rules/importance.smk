# Which groups are compared, and how much every weight matters to prediction, to bias and to each
# group: once for all methods.


def held_out_scores(wildcards):
    """What every fold's Baseline says of the images that it was not trained on."""
    keys = {"task": wildcards.task, "backbone": wildcards.backbone}
    return [folder("baseline_scores", fold=fold, **keys) for fold in FOLDS]


rule choose_groups:
    input:
        scores=held_out_scores,
        external=external_sets,
        cohort=rules.find_duplicates.output.cohort,
    output:
        folder("groups"),
    log:
        log_of("choose_groups", "task", "backbone", "attribute"),
    benchmark:
        benchmark_of("choose_groups", "task", "backbone", "attribute")
    conda:
        "../../envs/torch.yaml"
    params:
        groups=lambda wildcards: list(
            settings.attributes[wildcards.attribute].group_names
        ),
        finetuning=lambda wildcards: settings.tasks[
            wildcards.task
        ].finetuning.model_dump(mode="json", include={"min_group", "min_cell"}),
        classes=classes_of,
        code=code_id("choose_groups.py"),
    script:
        "../scripts/choose_groups.py"


rule importance:
    input:
        unpack(pool_images),
        models=all_folds("baseline_model"),
        external=external_sets,
        groups=rules.choose_groups.output,
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
        classes=classes_of,
        wanted=list(methods.importances()),
        folds=FOLDS,
        compute=compute,
        arithmetic=ARITHMETIC,
        seed=settings.seed,
        torch=TORCH,
        code=code_id("importance.py"),
    script:
        "../scripts/importance.py"
