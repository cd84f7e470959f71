# Raw folders -> manifests -> image caches -> cohorts -> folds -> external sets.

import functools

from swift_debias.data import check, fingerprint, listing


def task_of(dataset):
    """The task whose image settings a data set's cache follows."""
    for name, task in settings.tasks.items():
        tests = {test for tests in task.tests.values() for test in tests}
        if dataset in (*task.pool, *tests):
            return name


def missing_data():
    """Raw folders that are not there, unless what is made of them is there already."""
    made = ("manifest", "pixels", "image_index")
    return [
        absent
        for absent in check.missing_folders(
            settings, Path(), check.load_expected(Path(EXPECTED))
        )
        if not all(
            Path(placed(folder(name, dataset=absent.dataset))).is_file()
            for name in made
        )
    ]


MISSING = {absent.dataset: str(absent) for absent in missing_data()}
# What only draws the plan needs no data.
DRAWS = {"--rulegraph", "--dag", "--filegraph"} & set(sys.argv)


def raw_folder(wildcards):
    """The demo draws its raw folders; elsewhere they are there, and far too large to track.

    One that is absent stops only what needs it, and that before anything is run.
    """
    if wildcards.dataset in MISSING and not DRAWS:
        raise WorkflowError(absent_sets())
    return folder("raw", dataset=wildcards.dataset) if settings.synthetic else []


def absent_sets():
    """The data sets that are not there, and what can be made without them."""
    can = [
        name
        for name, experiment in settings.experiments.items()
        if not MISSING.keys()
        & set(plan.used_datasets(settings, {panel.task for panel in experiment.panels}))
    ]
    able = (
        f"Without them can be made: {', '.join(can)}. Name one of their files, or set "
        f"only: [{', '.join(can)}] in the config."
        if can
        else "No experiment can do without them."
    )
    return (
        "data sets that are needed are not there:\n\n"
        + "\n".join(MISSING.values())
        + "\n\nPut each where it is expected, or change datasets.<name>.root in the config.\n"
        + able
    )


@functools.cache
def files_of(dataset):
    """The fingerprint of a data set's files, as a param: they are too many to be inputs.

    Jobs on other machines do not look: Snakemake compares params in its main process only. The
    folders that the demo draws are inputs.
    """
    if settings.synthetic or not workflow.is_main_process:
        return ""
    made = [
        Path(placed(folder(name, dataset=dataset)))
        for name in ("manifest", "image_index")
    ]
    return fingerprint.fingerprint(
        dataset,
        settings.datasets[dataset],
        Path(),
        Path(placed(folder("seen", dataset=dataset))),
        lambda: fingerprint.cached_digests(*made),
        remember=not workflow.dryrun,
    )


def contents(dataset):
    """What a data set's entry in the config says, but not where its files lie."""
    options = settings.datasets[dataset]
    return {key: v for key, v in dump(options).items() if key not in options.places}


def places(dataset):
    """Where a data set's files lie."""
    options = settings.datasets[dataset]
    return {key: v for key, v in dump(options).items() if key in options.places}


def checked_settings():
    """What the look at the raw folders depends on: the data, and who needs them."""
    slices = dump(settings)
    recipe = {"epochs": 1, "optimizer": {"name": "sgd", "lr": 1}}
    for name, task in slices["tasks"].items():
        names = (
            "train",
            "external",
            "tests",
            "invert_labels",
            "group_by_patient",
            "tie",
        )
        names += ("positive", "negative", "classes")
        kept = {key: task[key] for key in names}
        sizes = ("min_cell", "min_group")
        kept["finetuning"] = {key: task["finetuning"][key] for key in sizes}
        slices["tasks"][name] = kept | {"pretraining": recipe}
    for name, experiment in slices["experiments"].items():
        panels = [panel | {"methods": None} for panel in experiment["panels"]]
        kept = {key: experiment[key] for key in ("kind", "title")}
        slices["experiments"][name] = kept | {"panels": panels}
    slices["duplicates"] = {key: slices["duplicates"][key] for key in ("keep", "leaks")}
    kept = ("run", "seed", "folds", "synthetic", "datasets", "attributes", "duplicates")
    kept += ("tasks", "experiments", "skin_tone")
    return {key: slices[key] for key in kept} | {
        "backbones": {name: {"architecture": "none"} for name in settings.backbones},
        "methods": {},
    }


def tie_of(task):
    """How a task's pool is tied to an attribute; None where it is not."""
    tie = settings.tasks[task].tie
    if tie is None:
        return None
    attribute = dump(settings.attributes[tie.attribute])
    said = {key: value for key, value in dump(tie).items() if value is not None}
    return {"tie": said, "attribute": attribute, "seed": settings.seed}


def task_tests(wildcards):
    """All test sets of a task."""
    return plan.tests_of(settings, wildcards.task)


def task_sets(wildcards):
    """All data sets of a task."""
    return unique([*pool_sets(wildcards), *task_tests(wildcards)])


def compared_pixels(wildcards):
    """Image caches in which recoloured copies are looked for; none unless that is asked."""
    sets = [*pool_sets(wildcards), *task_tests(wildcards)]
    return [
        folder("pixels", dataset=name)
        for name in sets
        if settings.duplicates.recoloured
    ]


def used_attributes(wildcards):
    """The attributes of a task that some experiment needs."""
    return sorted(
        {attribute for task, _, attribute in PLANNED if task == wildcards.task}
    )


def external_of_task(wildcards):
    """External sets of all attributes and folds of a task."""
    return [
        folder("external", task=wildcards.task, attribute=attribute, fold=fold)
        for attribute in used_attributes(wildcards)
        for fold in FOLDS
    ]


def drawn_of(dataset):
    """What a folder that is drawn depends on: its name for who draws it, and the settings."""
    drawn = dump(settings.synthetic)
    populations = drawn.pop("populations")
    if dataset not in populations:
        return {"name": settings.datasets[dataset].adapter, "settings": drawn}
    own = {"images": {}, "populations": {dataset: populations[dataset]}}
    return {"name": dataset, "settings": drawn | own}


if settings.synthetic:

    rule synthesize:
        output:
            directory(folder("raw")),
        log:
            log_of("synthesize", "dataset"),
        conda:
            "../../envs/data.yaml"
        params:
            drawn=lambda wildcards: drawn_of(wildcards.dataset),
            seed=settings.seed,
            code=code_id("synthesize.py"),
        script:
            "../scripts/synthesize.py"


# First of all that can run. Nothing reads its output but the report: an edge from here to the data
# would rerun everything with every new experiment, and where a job reads it as `ancient`, Snakemake (9.27)
# overlooks that the job's own params have changed.
rule check_data:
    input:
        raw=(expand(folder("raw"), dataset=DATASETS) if settings.synthetic else []),
        expected=EXPECTED,
    output:
        json=folder("check_json"),
        text=folder("check_text"),
    log:
        log_of("check_data"),
    benchmark:
        benchmark_of("check_data")
    priority: 100
    conda:
        "../../envs/data.yaml"
    params:
        settings=checked_settings(),
        data=lambda wildcards: {name: files_of(name) for name in DATASETS},
        seen={name: placed(folder("seen", dataset=name)) for name in DATASETS},
        code=code_id(
            "check_data.py",
            *(
                f"swift_debias.data.adapters.{settings.datasets[name].adapter}"
                for name in DATASETS
            ),
        ),
    script:
        "../scripts/check_data.py"


# check_data tells what it found in any case. Here the run ends if that is too little for an experiment,
# before hours are spent.
rule data_suffices:
    input:
        json=rules.check_data.output.json,
        text=rules.check_data.output.text,
    output:
        folder("data_suffices"),
    log:
        log_of("data_suffices"),
    priority: 100
    localrule: True
    conda:
        "../../envs/data.yaml"
    params:
        code=code_id("data_suffices.py"),
    script:
        "../scripts/data_suffices.py"


rule build_manifest:
    input:
        raw=raw_folder,
    output:
        manifest=folder("manifest"),
        log=folder("manifest_log"),
    log:
        log_of("build_manifest", "dataset"),
    benchmark:
        benchmark_of("build_manifest", "dataset")
    conda:
        "../../envs/data.yaml"
    params:
        dataset=lambda wildcards: contents(wildcards.dataset),
        # a function that takes `output` is not compared between runs: a moved folder reruns nothing
        places=lambda wildcards, output: places(wildcards.dataset),
        data=lambda wildcards: files_of(wildcards.dataset),
        invert_labels=lambda wildcards: settings.tasks[
            task_of(wildcards.dataset)
        ].invert_labels,
        classes=lambda wildcards: dump(settings.tasks[task_of(wildcards.dataset)])[
            "classes"
        ],
        code=lambda wildcards: code_id(
            "build_manifest.py",
            f"swift_debias.data.adapters.{settings.datasets[wildcards.dataset].adapter}",
        ),
    script:
        "../scripts/build_manifest.py"


rule cache_images:
    input:
        raw=raw_folder,
        manifest=rules.build_manifest.output.manifest,
    output:
        pixels=folder("pixels"),
        index=folder("image_index"),
    log:
        log_of("cache_images", "dataset"),
    benchmark:
        benchmark_of("cache_images", "dataset")
    conda:
        "../../envs/data.yaml"
    threads: DECODERS
    resources:
        cpus_per_task=DECODERS,
        mem_mb=memory(1000 + 1000 * DECODERS),
        runtime=minutes(30, per_input=60),
    params:
        root=lambda wildcards, output: settings.datasets[wildcards.dataset].root,
        data=lambda wildcards: files_of(wildcards.dataset),
        images=lambda wildcards: settings.tasks[
            task_of(wildcards.dataset)
        ].images.model_dump(mode="json", exclude={"mean", "std"}),
        code=code_id("cache_images.py"),
    script:
        "../scripts/cache_images.py"


rule find_duplicates:
    input:
        train_manifests=of_datasets("manifest", pool_sets),
        train_images=of_datasets("image_index", pool_sets),
        test_manifests=of_datasets("manifest", task_tests),
        test_images=of_datasets("image_index", task_tests),
        pixels=compared_pixels,
    output:
        cohort=folder("cohort"),
        duplicates=folder("duplicates"),
        log=folder("cohort_log"),
    log:
        log_of("find_duplicates", "task"),
    benchmark:
        benchmark_of("find_duplicates", "task")
    conda:
        "../../envs/data.yaml"
    resources:
        # pixels are read picture by picture, the tables and hashes whole
        mem_mb=(
            memory(16000)
            if settings.duplicates.recoloured
            else memory(4000, per_input=20)
        ),
        runtime=(
            minutes(120)
            if settings.duplicates.recoloured
            else minutes(30, per_input=5)
        ),
    params:
        train=pool_sets,
        tests=task_tests,
        sources=lambda wildcards: {
            name: [
                plan.archives(settings)[name],
                listing.PAIRS[0] in settings.datasets[name].tables,
            ]
            for name in task_sets(wildcards)
        },
        roots=lambda wildcards, output: {
            name: settings.datasets[name].root for name in task_sets(wildcards)
        },
        data=lambda wildcards: {name: files_of(name) for name in task_sets(wildcards)},
        duplicates=dump(settings.duplicates),
        external=lambda wildcards: list(settings.tasks[wildcards.task].external),
        class_names=class_names,
        tie=lambda wildcards: tie_of(wildcards.task),
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
        tones=folder("skin_tone"),
        sheet=folder("skin_tone_sheet"),
    log:
        log_of("annotate_skin_tone", "dataset"),
    benchmark:
        benchmark_of("annotate_skin_tone", "dataset")
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
        skin_tone=skin_tones(pool_sets),
    output:
        folder("folds"),
    log:
        log_of("make_folds", "task"),
    benchmark:
        benchmark_of("make_folds", "task")
    conda:
        "../../envs/data.yaml"
    params:
        attributes=lambda wildcards: {
            name: dump(settings.attributes[name])
            for name in plan.strata(settings, wildcards.task)
        },
        # one value: Snakemake compares the values without their names, so a swap would go unseen
        split={"folds": settings.folds, "seed": settings.seed},
        classes=classes_of,
        class_names=class_names,
        code=code_id("make_folds.py"),
    script:
        "../scripts/make_folds.py"


rule make_external:
    input:
        cohort=rules.find_duplicates.output.cohort,
        folds=rules.make_folds.output,
        skin_tone=skin_tones(pool_sets),
    output:
        all_folds("external"),
    log:
        log_of("make_external", "task", "attribute"),
    benchmark:
        benchmark_of("make_external", "task", "attribute")
    conda:
        "../../envs/data.yaml"
    params:
        attribute=lambda wildcards: dump(settings.attributes[wildcards.attribute]),
        min_cell=lambda wildcards: settings.tasks[wildcards.task].finetuning.min_cell,
        classes=classes_of,
        class_names=class_names,
        seed=settings.seed,
        code=code_id("make_external.py"),
    script:
        "../scripts/make_external.py"


rule set_sizes:
    input:
        cohort=rules.find_duplicates.output.cohort,
        folds=folder("folds"),
        external=external_of_task,
        skin_tone=skin_tones(pool_sets),
        expected=EXPECTED,
    output:
        csv=folder("sizes_csv"),
        md=folder("sizes_md"),
    log:
        log_of("set_sizes", "task"),
    benchmark:
        benchmark_of("set_sizes", "task")
    conda:
        "../../envs/report.yaml"
    params:
        adapters=lambda wildcards: [
            settings.datasets[name].adapter for name in pool_sets(wildcards)
        ],
        attributes=lambda wildcards: {
            name: dump(settings.attributes[name])
            for name in used_attributes(wildcards)
        },
        classes=classes_of,
        synthetic=settings.synthetic is not None,
        code=code_id("set_sizes.py"),
    script:
        "../scripts/set_sizes.py"
