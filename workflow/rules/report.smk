# Statistics, tables, figures, verdict and report: they read results and never recompute them.

import time

STARTED = time.monotonic()
PUBLISHED = os.path.relpath(PROJECT / "resources" / "published_results.csv")
CLAIMS = os.path.relpath(PROJECT / "resources" / "claims.yaml")
REQUIREMENTS = os.path.relpath(PROJECT / "requirements.txt")
ASSETS = sorted(map(os.path.relpath, SCRIPTS.glob("swift_debias/report/assets/*")))
TABLES = [
    name
    for name, experiment in settings.experiments.items()
    if experiment.kind == "table"
]


def of_setups(file):
    """A file of every (task, backbone, attribute)."""
    return [
        folder(file, task=task, backbone=backbone, attribute=attribute)
        for task, backbone, attribute in SETUPS
    ]


def debias_costs(wildcards):
    """What every training and debiasing job cost."""
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
        for fold in FOLDS
    ]


def trained_costs(wildcards):
    """The same without the methods that train nothing."""
    return [
        path
        for path in debias_costs(wildcards)
        if layout.keys("cost", path)["method"] not in UNTOUCHED
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


rule plausibility:
    input:
        metrics=rules.merge_metrics.output,
    output:
        folder("plausibility"),
    log:
        log_of("plausibility"),
    benchmark:
        benchmark_of("plausibility")
    conda:
        "../../envs/report.yaml"
    params:
        groups={
            attribute: list(settings.attributes[attribute].group_names)
            for attribute in unique(attribute for *_, attribute in SETUPS)
        },
        min_group={
            task: settings.tasks[task].finetuning.min_group
            for task in unique(task for task, *_ in SETUPS)
        },
        baseline=BASELINE,
        code=code_id("plausibility.py"),
    script:
        "../scripts/plausibility.py"


rule table:
    input:
        metrics=rules.merge_metrics.output,
        plausibility=rules.plausibility.output,
        published=PUBLISHED,
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
        synthetic=settings.synthetic is not None,
        code=code_id("table.py"),
    script:
        "../scripts/table.py"


rule cost_table:
    input:
        trained_costs,
        pretraining_costs,
    output:
        [
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
        groups=lambda wildcards: len(
            settings.attributes[wildcards.attribute].group_names
        ),
        min_group=lambda wildcards: settings.tasks[wildcards.task].finetuning.min_group,
        permutations=1000,
        baseline=BASELINE,
        seed=settings.seed,
        code=code_id("intervals.py"),
    script:
        "../scripts/intervals.py"


rule compare:
    input:
        metrics=rules.merge_metrics.output,
    output:
        folder("statistics"),
    log:
        log_of("compare"),
    benchmark:
        benchmark_of("compare")
    conda:
        "../../envs/report.yaml"
    params:
        tables={name: blocks(name) for name in TABLES},
        baseline=BASELINE,
        code=code_id("compare.py"),
    script:
        "../scripts/compare.py"


rule verdict:
    input:
        metrics=rules.merge_metrics.output,
        plausibility=rules.plausibility.output,
        published=PUBLISHED,
        claims=CLAIMS,
        costs=debias_costs,
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
        tables={name: blocks(name) for name in TABLES},
        methods={name: dump(method) for name, method in settings.methods.items()},
        epochs_percent={
            name: task.finetuning.epochs_percent
            for name, task in settings.tasks.items()
        },
        synthetic=settings.synthetic is not None,
        code=code_id("verdict.py"),
    script:
        "../scripts/verdict.py"


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
        metrics=rules.merge_metrics.output,
        check=rules.check_data.output.json,
        manifests=expand(rules.build_manifest.output.manifest, dataset=DATASETS),
        manifest_logs=expand(rules.build_manifest.output.log, dataset=DATASETS),
        cohort_logs=expand(
            rules.find_duplicates.output.log, task=unique(task for task, *_ in SETUPS)
        ),
        external=unique(
            folder("external", task=task, attribute=attribute, fold=fold)
            for task, _, attribute in SETUPS
            for fold in FOLDS
        ),
        tables=[folder("table", table=name, format="html") for name in TABLES],
        figures=[folder("figure", figure=name, format="png") for name in FIGURES],
        plausibility=rules.plausibility.output,
        statistics=rules.compare.output,
        intervals=of_setups("intervals"),
        verdict=rules.verdict.output.html,
        costs=folder("table", table="cost", format="html"),
        sources=[
            folder("baseline_source", task=task, backbone=backbone, fold=fold)
            for task, backbone in unique(setup[:2] for setup in SETUPS)
            for fold in FOLDS
        ],
        requirements=REQUIREMENTS,
        assets=ASSETS,
    output:
        folder("report"),
    log:
        log_of("report"),
    benchmark:
        benchmark_of("report")
    conda:
        "../../envs/report.yaml"
    params:
        run=settings.run,
        settings=dump(settings),
        titles=TITLES,
        groups={name: list(a.group_names) for name, a in settings.attributes.items()},
        figures={
            name: [
                settings.experiments[name].title,
                figures.facts(settings.experiments[name].plot).caption,
            ]
            for name in FIGURES
        },
        hidden=hidden_figures(),
        metrics=["auc", "spd", "eodds", "auc_min", "auc_gap"],
        synthetic=settings.synthetic is not None,
        code=code_id("report.py"),
    script:
        "../scripts/report.py"


rule summary:
    input:
        tables=[folder("table", table=name, format="txt") for name in TABLES],
        costs=debias_costs,
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
        code=code_id("summary.py"),
    script:
        "../scripts/summary.py"


onsuccess:
    summary = Path(rules.summary.output[0])
    if summary.is_file():
        print(summary.read_text())
        minutes, seconds = divmod(int(time.monotonic() - STARTED), 60)
        print(f"This run took {minutes} min {seconds} s. Results: {RUN}/")
