# Scores on the test sets, then metrics. Only from here on are test labels read.


def all_folds(pattern):
    """The files of every fold; one job takes all folds, since its fixed cost is its imports."""
    return expand(pattern, fold=FOLDS, allow_missing=True)


def test_files(pattern):
    """A file of each of the attribute's test sets."""
    return lambda wildcards: expand(
        pattern, dataset=settings.tasks[wildcards.task].tests[wildcards.attribute]
    )


rule evaluate:
    input:
        models=all_folds(rules.debias.output.model),
        manifests=test_files(rules.build_manifest.output.manifest),
        pixels=test_files(rules.cache_images.output.pixels),
        index=test_files(rules.cache_images.output.index),
        skin_tone=lambda wildcards: skin_tones(
            settings.tasks[wildcards.task].tests[wildcards.attribute]
        ),
    output:
        all_folds(
            folder(
                "predictions/{task}/{backbone}/{attribute}/{method}/fold{fold}.parquet"
            )
        ),
    log:
        folder("logs/evaluate/{task}/{backbone}/{attribute}/{method}.log"),
    benchmark:
        folder("benchmarks/evaluate/{task}/{backbone}/{attribute}/{method}.tsv")
    conda:
        "../../envs/torch.yaml"
    threads: settings.compute.threads
    resources:
        gpu=1,
    params:
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        attribute=lambda wildcards: dump(settings.attributes[wildcards.attribute]),
        datasets=lambda wildcards: list(
            settings.tasks[wildcards.task].tests[wildcards.attribute]
        ),
        compute=dump(settings.compute),
        code=code_id("evaluate.py"),
    script:
        "../scripts/evaluate.py"


def cell_predictions(wildcards):
    """Predictions of all methods of a (task, backbone, attribute)."""
    cell = (wildcards.task, wildcards.backbone, wildcards.attribute)
    return expand(rules.evaluate.output, method=CELLS[cell], **wildcards)


rule score:
    input:
        cell_predictions,
    output:
        folder("metrics/{task}/{backbone}/{attribute}.parquet"),
    log:
        folder("logs/score/{task}/{backbone}/{attribute}.log"),
    benchmark:
        folder("benchmarks/score/{task}/{backbone}/{attribute}.tsv")
    conda:
        "../../envs/report.yaml"
    params:
        cell=lambda wildcards: [wildcards.task, wildcards.backbone, wildcards.attribute],
        methods=lambda wildcards: list(
            CELLS[wildcards.task, wildcards.backbone, wildcards.attribute]
        ),
        folds=FOLDS,
        groups=lambda wildcards: list(
            settings.attributes[wildcards.attribute].group_names
        ),
        min_group=lambda wildcards: settings.tasks[wildcards.task].finetuning.min_group,
        code=code_id("score.py"),
    script:
        "../scripts/score.py"


rule merge_metrics:
    input:
        [
            folder(f"metrics/{task}/{backbone}/{attribute}.parquet")
            for task, backbone, attribute in CELLS
        ],
    output:
        folder("metrics.parquet"),
    log:
        folder("logs/merge_metrics.log"),
    benchmark:
        folder("benchmarks/merge_metrics.tsv")
    conda:
        "../../envs/report.yaml"
    params:
        code=code_id("merge_metrics.py"),
    script:
        "../scripts/merge_metrics.py"
