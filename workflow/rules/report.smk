# Statistics, tables, figures, verdict and report: they read results and never recompute them.

import time

from snakemake.logging import logger

from swift_debias.run import job, origin, progress, recorded, unfinished

STARTED = time.time()
PUBLISHED = own("resources/published_results.csv")
CLAIMS = own("resources/claims.yaml")
REQUIREMENTS = own("requirements.txt")
ASSETS = [
    own(path.relative_to(PROJECT).as_posix())
    for path in sorted(SCRIPTS.glob("swift_debias/report/assets/*"))
]
# Views that have something to show, and the tables of them that can be drawn.
VIEWS = [name for name in settings.experiments if blocks(name)]
OF_TABLES = [name for name in VIEWS if settings.experiments[name].kind == "table"]
TABLES = [name for name in OF_TABLES if name not in LEFT_OUT.views]


# The cases that methods are ranked over: those of the figures of ranks; without one, of the tables.
RANKED = [
    name for name in VIEWS if settings.experiments[name].plot == "ranks"
] or OF_TABLES


def ranked_blocks():
    """The slices of the results that methods are ranked over."""
    return [block for name in RANKED for block in blocks(name)]


def block_files(parts, file):
    """A file of every (task, backbone, attribute) of some blocks."""
    return unique(folder(file, **setup_of(block)) for block in parts)


def compared_groups(name):
    """What was chosen for a table's setups of more than two groups, or where a method prunes by group."""
    return block_files(
        [
            block
            for block in blocks(name)
            if len(settings.attributes[block["attribute"]].group_names) > 2
            or any(method in PRUNE_BY_GROUP for method in block["methods"])
        ],
        "groups",
    )


def own_modules():
    """The files of the user's own modules that make the run's networks, each with its folder."""
    networks = unique(settings.backbones[name].architecture for _, name, _ in PLANNED)
    return unique(
        file
        for network in networks
        if architectures.library_of(network)[0] == "own"
        for file in identity.own_module_files(network)
    )


PRUNE_BY_GROUP = [
    name for name, method in USED.items() if method.algorithm == "fairprune"
]


def searches(parts):
    """What the searches of the methods of some blocks found."""
    return unique(
        folder("search", **setup_of(block), method=owner)
        for block in parts
        for method in block["methods"]
        for owner, keys in [methods.searched(settings.methods, method)]
        if keys
    )


def search_files():
    """What all searches of the run found."""
    return searches(
        dict(task=task, backbone=backbone, attribute=attribute, methods=names)
        for (task, backbone, attribute), names in SETUPS.items()
    )


def searched_variants(name):
    """Whose searches set a table's methods: title, and epochs of a step in the trials, few to many."""
    found = {}
    for block in blocks(name):
        task = settings.tasks[block["task"]]
        for method in block["methods"]:
            owner, keys = methods.searched(settings.methods, method)
            if keys:
                epochs = methods.trial_epochs(
                    settings.methods[owner],
                    task.pretraining.epochs,
                    task.finetuning.epochs_percent,
                )
                found.setdefault(owner, set()).update(epochs)
    return {
        owner: {"title": TITLES[owner], "epochs": sorted(epochs)}
        for owner, epochs in found.items()
    }


def trained_costs(wildcards):
    """What every debiasing job cost, without the methods that train nothing."""
    return [
        folder(
            "cost",
            task=task,
            backbone=backbone,
            attribute=attribute,
            method=method,
            fold=fold,
        )
        for (task, backbone, attribute), names in SETUPS.items()
        for method in names
        if method not in UNTOUCHED
        for fold in FOLDS
    ]


def pretraining_costs(wildcards):
    """What every training of a Baseline cost."""
    return [
        folder("baseline_cost", task=task, backbone=backbone, fold=fold)
        for task, backbone in unique(setup[:2] for setup in SETUPS)
        for fold in FOLDS
    ]


def mask_summaries(wildcards):
    """Of all setups that measure an importance for SWiFT's mask."""
    return [
        folder(
            "mask_summary", task=task, backbone=backbone, attribute=attribute, fold=fold
        )
        for (task, backbone, attribute), names in SETUPS.items()
        for fold in FOLDS
        if any(settings.methods[name].algorithm == "swift" for name in names)
    ]


# A table or figure reads the files of its own setups, so that it can be had alone.
rule table:
    input:
        metrics=lambda wildcards: of_blocks(wildcards.table, "setup_metrics"),
        intervals=lambda wildcards: of_blocks(wildcards.table, "intervals"),
        plausibility=lambda wildcards: of_blocks(wildcards.table, "setup_plausibility"),
        published=PUBLISHED,
        groups=lambda wildcards: compared_groups(wildcards.table),
        searches=lambda wildcards: searches(blocks(wildcards.table)),
    output:
        csv=folder("table", format="csv"),
        md=folder("table", format="md"),
        tex=folder("table", format="tex"),
        html=report(
            folder("table", format="html"),
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        txt=folder("table", format="txt"),
        recipe=folder("table_recipe"),
    log:
        log_of("table", "table"),
    benchmark:
        benchmark_of("table", "table")
    wildcard_constraints:
        table=one_of(TABLES),
    conda:
        "../../envs/report.yaml"
    params:
        title=lambda wildcards: settings.experiments[wildcards.table].title,
        blocks=lambda wildcards: blocks(wildcards.table),
        titles=lambda wildcards: titles(wildcards.table),
        groups=lambda wildcards: {
            block["attribute"]: list(
                settings.attributes[block["attribute"]].group_names
            )
            for block in blocks(wildcards.table)
        },
        prune_by_group=lambda wildcards: [
            TITLES[name] for name in titles(wildcards.table) if name in PRUNE_BY_GROUP
        ],
        searched=lambda wildcards: searched_variants(wildcards.table),
        folds=len(SEARCHED_FOLDS),
        synthetic=settings.synthetic is not None,
        code=code_id("table.py"),
    script:
        "../scripts/table.py"


rule cost_table:
    input:
        trained_costs,
        pretraining_costs,
    output:
        costs=folder("costs"),
        table=[
            folder("table", table="cost", format=format)
            for format in ("csv", "md", "tex", "html", "txt")
        ],
    log:
        log_of("cost_table"),
    benchmark:
        benchmark_of("cost_table")
    conda:
        "../../envs/report.yaml"
    params:
        titles=TITLES,
        synthetic=settings.synthetic is not None,
        code=code_id("cost_table.py"),
    script:
        "../scripts/cost_table.py"


rule compare:
    input:
        metrics=rules.merge_metrics.output.metrics,
        plausibility=rules.merge_metrics.output.plausibility,
        intervals=of_setups("intervals"),
    output:
        folder("statistics"),
    log:
        log_of("compare"),
    benchmark:
        benchmark_of("compare")
    conda:
        "../../envs/report.yaml"
    params:
        tables={name: blocks(name) for name in OF_TABLES},
        baseline=BASELINE,
        code=code_id("compare.py"),
    script:
        "../scripts/compare.py"


rule ranks:
    input:
        metrics=rules.merge_metrics.output.metrics,
        plausibility=rules.merge_metrics.output.plausibility,
    output:
        [
            folder("table", table="ranks", format=format)
            for format in ("csv", "md", "tex", "html", "txt")
        ],
    log:
        log_of("ranks"),
    benchmark:
        benchmark_of("ranks")
    conda:
        "../../envs/report.yaml"
    params:
        blocks=ranked_blocks(),
        titles={
            method: TITLES[method]
            for block in ranked_blocks()
            for method in block["methods"]
        },
        code=code_id("ranks.py"),
    script:
        "../scripts/ranks.py"


rule search_table:
    input:
        search_files(),
    output:
        [
            folder("table", table="search", format=format)
            for format in ("csv", "md", "tex", "html", "txt")
        ],
    log:
        log_of("search_table"),
    benchmark:
        benchmark_of("search_table")
    conda:
        "../../envs/report.yaml"
    params:
        titles={name: TITLES[name] for name in SEARCHED if name in USED},
        code=code_id("search_table.py"),
    script:
        "../scripts/search_table.py"


rule in_words:
    input:
        metrics=rules.merge_metrics.output.metrics,
        plausibility=rules.merge_metrics.output.plausibility,
        intervals=of_setups("intervals"),
    output:
        folder("in_words"),
    log:
        log_of("in_words"),
    benchmark:
        benchmark_of("in_words")
    conda:
        "../../envs/report.yaml"
    params:
        blocks=ranked_blocks(),
        # what the verdict counts; without tables, what the figures show
        shown=[block for name in OF_TABLES or VIEWS for block in blocks(name)],
        titles={name: TITLES[name] for name in USED},
        baseline=BASELINE,
        swift=SWIFT,
        code=code_id("in_words.py"),
    script:
        "../scripts/in_words.py"


rule verdict:
    input:
        metrics=rules.merge_metrics.output.metrics,
        intervals=of_setups("intervals"),
        in_words=rules.in_words.output,
        plausibility=rules.merge_metrics.output.plausibility,
        published=PUBLISHED,
        claims=CLAIMS,
        costs=rules.cost_table.output.costs,
        summaries=mask_summaries,
    output:
        cells=folder("verdict_cells"),
        claims=folder("verdict_claims"),
        instances=folder("verdict_instances"),
        md=folder("verdict", format="md"),
        html=report(
            folder("verdict", format="html"),
            caption="../report/verdict.rst",
            category="Verdict",
        ),
    log:
        log_of("verdict"),
    benchmark:
        benchmark_of("verdict")
    conda:
        "../../envs/report.yaml"
    params:
        tables={name: blocks(name) for name in OF_TABLES},
        methods={name: dump(method) for name, method in settings.methods.items()},
        epochs_percent={
            name: task.finetuning.epochs_percent
            for name, task in settings.tasks.items()
        },
        synthetic=settings.synthetic is not None,
        code=code_id("verdict.py"),
    script:
        "../scripts/verdict.py"


# Data sets of the tasks that are shown; and those whose skin tone is measured and shown.
SHOWN_SETS = plan.used_datasets(settings, {task for task, *_ in SETUPS})
MEASURED = [
    name
    for name in SHOWN_SETS
    if settings.datasets[name].measures("fitzpatrick")
    and any(
        name in (*settings.tasks[task].pool, *settings.tasks[task].tests[attribute])
        for task, _, attribute in SETUPS
    )
]


def missing():
    """What the tables and figures go without; empty but after a run in which jobs failed."""
    views = {
        name: plan.blocks(settings, experiment)
        for name, experiment in settings.experiments.items()
    }
    told = LEFT_OUT.told(views, TITLES)
    if which_method_of_run(PLANNED) and not which_method_of_run():
        told.append(["which_method", "", "not made"])
    return {"failed": LEFT_OUT.failed, "left_out": told}


def hidden_figures():
    """Figures that are drawn from pixels, where the report is to have none."""
    return [
        name
        for name in FIGURES
        if not settings.report.images
        and "pixels" in figures.facts(settings.experiments[name].plot).arrays_need
    ]


rule report:
    input:
        metrics=rules.merge_metrics.output.metrics,
        check=rules.check_data.output.json,
        manifests=expand(rules.build_manifest.output.manifest, dataset=SHOWN_SETS),
        manifest_logs=expand(rules.build_manifest.output.log, dataset=SHOWN_SETS),
        cohort_logs=expand(
            rules.find_duplicates.output.log, task=unique(task for task, *_ in SETUPS)
        ),
        external=unique(
            folder("external", task=task, attribute=attribute, fold=fold)
            for task, _, attribute in SETUPS
            for fold in FOLDS
        ),
        in_words=rules.in_words.output,
        tables=[
            folder("table", table=name, format="html")
            for name in (*TABLES, "ranks", *(["search"] if search_files() else []))
        ],
        figures=[folder("figure", figure=name, format="png") for name in FIGURES],
        plausibility=rules.merge_metrics.output.plausibility,
        statistics=rules.compare.output,
        intervals=of_setups("intervals"),
        verdict=rules.verdict.output.html,
        which_method=which_method_of_run(),
        cohorts=expand(
            rules.find_duplicates.output.cohort,
            task=unique(task for task, *_ in SETUPS),
        ),
        costs=folder("table", table="cost", format="html"),
        sources=[
            folder("baseline_source", task=task, backbone=backbone, fold=fold)
            for task, backbone in unique(setup[:2] for setup in SETUPS)
            for fold in FOLDS
        ],
        tones=[folder("skin_tone", dataset=name) for name in MEASURED],
        sheets=[folder("skin_tone_sheet", dataset=name) for name in MEASURED],
        requirements=REQUIREMENTS,
        assets=ASSETS,
    output:
        folder("report"),
        settings=folder("settings"),
        origin=folder("origin"),
    log:
        log_of("report"),
    benchmark:
        benchmark_of("report")
    conda:
        "../../envs/report.yaml"
    params:
        run=settings.run,
        settings=dump(settings),
        # a function that takes `output` is not compared between runs: a commit reruns nothing
        origin=lambda wildcards, output: {
            "code": origin.code(PROJECT, FROM_GIT),
            "modules": origin.modules(own_modules()),
            "configuration": origin.configuration(map(Path, workflow.configfiles)),
        },
        titles=TITLES,
        groups={name: list(a.group_names) for name, a in settings.attributes.items()},
        classes={name: list(task.class_names) for name, task in settings.tasks.items()},
        figures={
            name: [
                settings.experiments[name].title,
                figures.facts(settings.experiments[name].plot).caption,
            ]
            for name in FIGURES
        },
        hidden=hidden_figures(),
        pictures=settings.report.images,
        metrics=["auc", "spd", "eodds", "auc_min", "auc_gap"],
        missing=missing(),
        synthetic=settings.synthetic is not None,
        code=code_id("report.py"),
    script:
        "../scripts/report.py"


rule summary:
    input:
        in_words=rules.in_words.output,
        tables=[
            folder("table", table=name, format="txt") for name in (*TABLES, "ranks")
        ],
    output:
        folder("summary"),
    log:
        log_of("summary"),
    benchmark:
        benchmark_of("summary")
    conda:
        "../../envs/report.yaml"
    params:
        run=lambda wildcards, output: str(Path(output[0]).parent),
        missing=missing(),
        code=code_id("summary.py"),
    script:
        "../scripts/summary.py"


# A copy without Snakemake's own folder looks finished whatever has changed: said of a dry run too.
if workflow.is_main_process:
    if said := recorded.told(
        RUN,
        [
            *(placed(folder("manifest", dataset=name)) for name in DATASETS),
            *map(placed, of_setups("setup_metrics")),
        ],
    ):
        print(said, file=sys.stderr)


onstart:
    listener = progress.Stages(
        [
            each.rule.name
            for each in workflow.dag.needrun_jobs(exclude_finished=False)
        ],
        STAGE_OF,
        logger.info,
    )
    logger.addHandler(listener)


onsuccess:
    asked = {file for each in workflow.dag.jobs for file in each.output}
    if (summary := rules.summary.output[0]) in asked:
        print(Path(summary).read_text())
        minutes, seconds = divmod(int(time.time() - STARTED), 60)
        print(f"This run took {minutes} min {seconds} s. Results: {RUN}/")
    if rules.report.output[0] in asked and not any(LEFT_OUT):
        Path(folder("unfinished")).unlink(missing_ok=True)


onerror:
    failed = [
        (path, said)
        for path in Path(RUN, "logs").rglob("*.log")
        if path.stat().st_mtime >= STARTED and (said := job.last_error(path))
    ]
    for path, said in failed[:5]:
        print(f"{path}: {said}")
    print(
        f"The run did not end well; what is finished is kept. Logs of jobs: {RUN}/logs/; of Snakemake: {log}.\n"
        "When the cause is mended type the same command again: it goes on from what is there."
    )
    unfinished.make_report(workflow, Path(RUN), PLANNED)
