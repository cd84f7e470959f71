# Scores on the test sets, then metrics. Only from here on are test labels read.


# One job scores all models of a (task, backbone, attribute): a job's fixed cost is its imports. Its
# output is a folder with {method}/fold{fold}.parquet, since the methods differ from cell to cell.
rule evaluate:
    input:
        models=cell_models,
        manifests=of_datasets(rules.build_manifest.output.manifest, attribute_tests),
        pixels=of_datasets(rules.cache_images.output.pixels, attribute_tests),
        index=of_datasets(rules.cache_images.output.index, attribute_tests),
        skin_tone=skin_tones(attribute_tests),
    output:
        directory(folder(PREDICTIONS)),
    log:
        folder("logs/evaluate/{task}/{backbone}/{attribute}.log"),
    benchmark:
        folder("benchmarks/evaluate/{task}/{backbone}/{attribute}.tsv")
    conda:
        "../../envs/torch.yaml"
    threads: settings.compute.threads
    resources:
        gpu=1,
        cpus_per_task=settings.compute.threads,
        mem_mb=memory(6000, per_input=2.2),
        runtime=minutes(30, evaluation_passes),
    params:
        methods=cell_methods,
        folds=FOLDS,
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        attribute=lambda wildcards: dump(settings.attributes[wildcards.attribute]),
        datasets=attribute_tests,
        compute=dump(settings.compute),
        torch=TORCH,
        code=code_id("evaluate.py"),
    script:
        "../scripts/evaluate.py"


rule score:
    input:
        rules.evaluate.output,
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
        methods=cell_methods,
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
