# Raw folders -> manifests -> image caches -> cohorts -> folds -> external sets.

if settings.synthetic:

    rule synthesize:
        output:
            directory(folder("raw/{dataset}")),
        log:
            folder("logs/synthesize/{dataset}.log"),
        conda:
            "../../envs/data.yaml"
        params:
            synthetic=dump(settings.synthetic),
            adapter=lambda wildcards: settings.datasets[wildcards.dataset].adapter,
            seed=settings.seed,
            code=code_id("synthesize.py"),
        script:
            "../scripts/synthesize.py"


# First of all that can run. Nothing reads its output but the report: an edge from here to the data
# would rerun everything with every new view, and where a job reads it as `ancient`, Snakemake (9.27)
# overlooks that the job's own params have changed.
rule check_data:
    input:
        raw=(
            expand(folder("raw/{dataset}"), dataset=DATASETS)
            if settings.synthetic
            else []
        ),
        expected=EXPECTED,
    output:
        json=folder("data_check.json"),
        text=folder("data_check.txt"),
    log:
        folder("logs/check_data.log"),
    benchmark:
        folder("benchmarks/check_data.tsv")
    priority: 100
    conda:
        "../../envs/data.yaml"
    params:
        settings=checked_settings(),
        code=code_id("check_data.py"),
    script:
        "../scripts/check_data.py"


rule build_manifest:
    input:
        raw=raw_folder,
    output:
        manifest=folder("manifests/{dataset}.parquet"),
        log=folder("manifests/{dataset}.log.json"),
    log:
        folder("logs/build_manifest/{dataset}.log"),
    benchmark:
        folder("benchmarks/build_manifest/{dataset}.tsv")
    conda:
        "../../envs/data.yaml"
    params:
        dataset=lambda wildcards: dump(settings.datasets[wildcards.dataset]),
        invert_labels=lambda wildcards: settings.tasks[
            task_of(wildcards.dataset)
        ].invert_labels,
        code=lambda wildcards: code_id(
            "build_manifest.py",
            f"swift_debias.datasets.{settings.datasets[wildcards.dataset].adapter}",
        ),
    script:
        "../scripts/build_manifest.py"


rule cache_images:
    input:
        raw=raw_folder,
        manifest=rules.build_manifest.output.manifest,
    output:
        pixels=folder("images/{dataset}.npy"),
        index=folder("images/{dataset}.parquet"),
    log:
        folder("logs/cache_images/{dataset}.log"),
    benchmark:
        folder("benchmarks/cache_images/{dataset}.tsv")
    conda:
        "../../envs/data.yaml"
    threads: DECODERS
    resources:
        cpus_per_task=DECODERS,
        mem_mb=memory(1000 + 1000 * DECODERS),
        runtime=minutes(30, per_input=60),
    params:
        root=lambda wildcards: settings.datasets[wildcards.dataset].root,
        images=lambda wildcards: dump(settings.tasks[task_of(wildcards.dataset)].images),
        code=code_id("cache_images.py"),
    script:
        "../scripts/cache_images.py"


rule find_duplicates:
    input:
        train_manifests=of_datasets(rules.build_manifest.output.manifest, train_sets),
        train_images=of_datasets(rules.cache_images.output.index, train_sets),
        test_manifests=of_datasets(rules.build_manifest.output.manifest, task_tests),
        test_images=of_datasets(rules.cache_images.output.index, task_tests),
    output:
        cohort=folder("cohorts/{task}.parquet"),
        duplicates=folder("cohorts/{task}.duplicates.parquet"),
        log=folder("cohorts/{task}.log.json"),
    log:
        folder("logs/find_duplicates/{task}.log"),
    benchmark:
        folder("benchmarks/find_duplicates/{task}.tsv")
    conda:
        "../../envs/data.yaml"
    resources:
        mem_mb=memory(4000, per_input=20),
        runtime=minutes(30, per_input=5),
    params:
        train=train_sets,
        tests=task_tests,
        sources=lambda wildcards: {
            name: [settings.datasets[name].root, settings.datasets[name].archive]
            for name in [*train_sets(wildcards), *task_tests(wildcards)]
        },
        duplicates=dump(settings.duplicates),
        group_by_patient=lambda wildcards: settings.tasks[
            wildcards.task
        ].group_by_patient,
        code=code_id("find_duplicates.py"),
    script:
        "../scripts/find_duplicates.py"


rule annotate_skin_tone:
    input:
        raw=raw_folder,
        manifest=rules.build_manifest.output.manifest,
        pixels=rules.cache_images.output.pixels,
        index=rules.cache_images.output.index,
    output:
        folder("skin_tone/{dataset}.parquet"),
    log:
        folder("logs/annotate_skin_tone/{dataset}.log"),
    benchmark:
        folder("benchmarks/annotate_skin_tone/{dataset}.tsv")
    conda:
        "../../envs/data.yaml"
    resources:
        mem_mb=memory(4000),
        runtime=minutes(30, per_input=0.02),
    params:
        skin_tone=dump(settings.skin_tone),
        code=code_id("annotate_skin_tone.py"),
    script:
        "../scripts/annotate_skin_tone.py"


rule make_folds:
    input:
        cohort=rules.find_duplicates.output.cohort,
        skin_tone=skin_tones(train_sets),
    output:
        folder("folds/{task}.parquet"),
    log:
        folder("logs/make_folds/{task}.log"),
    benchmark:
        folder("benchmarks/make_folds/{task}.tsv")
    conda:
        "../../envs/data.yaml"
    params:
        attributes=lambda wildcards: {
            name: dump(settings.attributes[name])
            for name in sorted(settings.tasks[wildcards.task].tests)
            if len(settings.attributes[name].group_names) == 2
        },
        # one value: Snakemake compares the values without their names, so a swap would go unseen
        split={"folds": settings.folds, "seed": settings.seed},
        code=code_id("make_folds.py"),
    script:
        "../scripts/make_folds.py"


rule make_external:
    input:
        cohort=rules.find_duplicates.output.cohort,
        folds=rules.make_folds.output,
        skin_tone=skin_tones(train_sets),
    output:
        all_folds(folder(EXTERNAL)),
    log:
        folder("logs/make_external/{task}/{attribute}.log"),
    benchmark:
        folder("benchmarks/make_external/{task}/{attribute}.tsv")
    conda:
        "../../envs/data.yaml"
    params:
        attribute=lambda wildcards: dump(settings.attributes[wildcards.attribute]),
        min_cell=lambda wildcards: settings.tasks[wildcards.task].finetuning.min_cell,
        seed=settings.seed,
        code=code_id("make_external.py"),
    script:
        "../scripts/make_external.py"


rule set_sizes:
    input:
        cohort=rules.find_duplicates.output.cohort,
        folds=folder("folds/{task}.parquet"),
        external=external_of_task,
        skin_tone=skin_tones(train_sets),
        expected=EXPECTED,
    output:
        csv=folder("folds/{task}.sizes.csv"),
        md=folder("folds/{task}.sizes.md"),
    log:
        folder("logs/set_sizes/{task}.log"),
    benchmark:
        folder("benchmarks/set_sizes/{task}.tsv")
    conda:
        "../../envs/report.yaml"
    params:
        adapters=lambda wildcards: [
            settings.datasets[name].adapter for name in train_sets(wildcards)
        ],
        attributes=lambda wildcards: {
            name: dump(settings.attributes[name])
            for name in used_attributes(wildcards)
        },
        synthetic=settings.synthetic is not None,
        code=code_id("set_sizes.py"),
    script:
        "../scripts/set_sizes.py"
