# Scores on the test sets, then metrics, their intervals and what to mind about them. Only from here on are
# test labels read.


def setup_models(wildcards):
    """Models of all methods and folds of a (task, backbone, attribute), method by method."""
    return [
        folder("model", **wildcards, method=method, fold=fold)
        for method in setup_methods(wildcards)
        for fold in FOLDS
    ]


def setup_thresholds(wildcards):
    """The external thresholds of the models."""
    return [
        folder("threshold", **wildcards, method=method, fold=fold)
        for method in setup_methods(wildcards)
        for fold in FOLDS
    ]


def repeats(wildcards):
    """How often each method of a setup debiases a fold."""
    return {
        method: plan.repeats(settings, settings.methods[method])
        for method in setup_methods(wildcards)
    }


def of_repeats(name):
    """A file of every repeat but the first, of all methods and folds of a setup."""
    return lambda wildcards: [
        folder(name, **wildcards, method=method, fold=fold, repeat=repeat)
        for method, count in repeats(wildcards).items()
        for repeat in range(1, count)
        for fold in FOLDS
    ]


# One job scores all models of a (task, backbone, attribute): a job's fixed cost is its imports. Its
# output is a folder with {method}/fold{fold}.parquet, since the methods differ from cell to cell.
rule predict:
    input:
        models=setup_models,
        repeat_models=of_repeats("repeat_model"),
        thresholds=lambda wildcards: [
            *setup_thresholds(wildcards),
            *of_repeats("repeat_threshold")(wildcards),
        ],
        manifests=of_datasets("manifest", attribute_tests),
        pixels=of_datasets("pixels", attribute_tests),
        index=of_datasets("image_index", attribute_tests),
        skin_tone=skin_tones(attribute_tests),
    output:
        directory(folder("setup_predictions")),
    log:
        log_of("predict", "task", "backbone", "attribute"),
    benchmark:
        benchmark_of("predict", "task", "backbone", "attribute")
    conda:
        "../../envs/torch.yaml"
    threads: settings.compute.threads
    resources:
        gpu=1,
        cpus_per_task=settings.compute.threads,
        mem_mb=memory(6000, per_input=2.2),
        runtime=minutes(30, prediction_passes),
    params:
        methods=setup_methods,
        folds=FOLDS,
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        module=lambda wildcards: module_of(wildcards.backbone),
        attribute=lambda wildcards: dump(settings.attributes[wildcards.attribute]),
        normalization=normalization,
        datasets=attribute_tests,
        classes=classes_of,
        compute=compute,
        arithmetic=ARITHMETIC,
        torch=TORCH,
        code=code_id("predict.py"),
    script:
        "../scripts/predict.py"


rule evaluate:
    input:
        rules.predict.output,
    output:
        **({"repeats": folder("setup_repeats")} if settings.repeats > 1 else {}),
        metrics=folder("setup_metrics"),
    log:
        log_of("evaluate", "task", "backbone", "attribute"),
    benchmark:
        benchmark_of("evaluate", "task", "backbone", "attribute")
    conda:
        "../../envs/report.yaml"
    params:
        methods=setup_methods,
        folds=FOLDS,
        repeats=repeats,
        groups=lambda wildcards: list(
            settings.attributes[wildcards.attribute].group_names
        ),
        min_group=lambda wildcards: settings.tasks[wildcards.task].finetuning.min_group,
        disease=lambda wildcards: settings.tasks[wildcards.task].disease_class,
        classes=more_classes,
        code=code_id("evaluate.py"),
    script:
        "../scripts/evaluate.py"


rule intervals:
    input:
        rules.predict.output,
    output:
        folder("intervals"),
    log:
        log_of("intervals", "task", "backbone", "attribute"),
    benchmark:
        benchmark_of("intervals", "task", "backbone", "attribute")
    conda:
        "../../envs/report.yaml"
    resources:
        runtime=minutes(30),
    params:
        methods=setup_methods,
        folds=FOLDS,
        repeats=repeats,
        groups=lambda wildcards: len(
            settings.attributes[wildcards.attribute].group_names
        ),
        min_group=lambda wildcards: settings.tasks[wildcards.task].finetuning.min_group,
        permutations=1000,
        classes=more_classes,
        baseline=BASELINE,
        seed=settings.seed,
        code=code_id("intervals.py"),
    script:
        "../scripts/intervals.py"


rule plausibility:
    input:
        **({"repeats": folder("setup_repeats")} if settings.repeats > 1 else {}),
        metrics=rules.evaluate.output.metrics,
        intervals=folder("intervals"),
    output:
        folder("setup_plausibility"),
    log:
        log_of("plausibility", "task", "backbone", "attribute"),
    benchmark:
        benchmark_of("plausibility", "task", "backbone", "attribute")
    conda:
        "../../envs/report.yaml"
    params:
        groups=lambda wildcards: {
            wildcards.attribute: list(
                settings.attributes[wildcards.attribute].group_names
            )
        },
        min_group=lambda wildcards: {
            wildcards.task: settings.tasks[wildcards.task].finetuning.min_group
        },
        baseline=BASELINE,
        code=code_id("plausibility.py"),
    script:
        "../scripts/plausibility.py"


rule merge_metrics:
    input:
        metrics=of_setups("setup_metrics"),
        plausibility=of_setups("setup_plausibility"),
    output:
        metrics=folder("metrics"),
        plausibility=folder("plausibility"),
    log:
        log_of("merge_metrics"),
    benchmark:
        benchmark_of("merge_metrics")
    conda:
        "../../envs/report.yaml"
    params:
        code=code_id("merge_metrics.py"),
    script:
        "../scripts/merge_metrics.py"
