# Statistics, tables, figures, verdict and report: they read results and never recompute them.

import time

from swift_debias.errors import nearest
from swift_debias.report import figures

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
FIGURES = [
    name
    for name, experiment in settings.experiments.items()
    if experiment.kind == "figure"
]
TITLES = {name: method.title or name for name, method in settings.methods.items()}

for name in FIGURES:
    if settings.experiments[name].plot not in figures.available():
        near = nearest(str(settings.experiments[name].plot), figures.available())
        raise WorkflowError(f"experiments.{name}.plot: no such drawing{near}")


def blocks(name):
    """What an experiment shows, as plain values."""
    return plan.blocks(settings, settings.experiments[name])


def of_blocks(name, file):
    """A file of every task, network, attribute and method of an experiment, and of every fold."""
    return unique(
        folder(file, **setup_of(block), method=method, fold=fold)
        for block in blocks(name)
        for method in block["methods"]
        for fold in FOLDS
    )


def setup_of(block):
    """Task, network and attribute of a block."""
    return {key: block[key] for key in ("task", "backbone", "attribute")}


def first_fold(name, file):
    """A file of every method of an experiment's first block, of the first fold."""
    block = blocks(name)[0]
    return unique(
        folder(file, **setup_of(block), method=method, fold=FOLDS[0])
        for method in block["methods"]
    )


def of_setups(file):
    """A file of every (task, backbone, attribute)."""
    return [
        folder(file, task=task, backbone=backbone, attribute=attribute)
        for task, backbone, attribute in SETUPS
    ]


def figure_input(wildcards):
    """The results that a figure is drawn from."""
    name = wildcards.figure
    paths = {
        "metrics": lambda: [folder("metrics")],
        "costs": lambda: of_blocks(name, "cost"),
        "predictions": lambda: of_blocks(name, "setup_predictions"),
        "summaries": lambda: of_blocks(name, "mask_summary"),
        "intervals": lambda: of_blocks(name, "intervals"),
        "arrays": lambda: [folder("arrays", figure=name)],
    }
    return {need: paths[need]() for need in facts(wildcards).needs}


def arrays_input(wildcards):
    """What a figure's arrays are computed from."""
    name = wildcards.figure
    dataset = blocks(name)[0]["datasets"][0]
    paths = {
        "predictions": lambda: first_fold(name, "setup_predictions"),
        "models": lambda: first_fold(name, "model"),
        "summaries": lambda: first_fold(name, "mask_summary"),
        "importances": lambda: of_blocks(name, "importance"),
        "pixels": lambda: [folder("pixels", dataset=dataset)],
        "index": lambda: [folder("image_index", dataset=dataset)],
    }
    return {need: paths[need]() for need in facts(wildcards).arrays_need}


def variants(name, *kept):
    """Methods of an experiment with these settings of their algorithms, defaults filled in; none: all."""
    found = {}
    for method in sorted({m for block in blocks(name) for m in block["methods"]}):
        every = dump(full_settings(method)) | recipe(method)
        found[method] = {k: v for k, v in every.items() if not kept or k in kept}
    return found


def drawn_variants(wildcards):
    """What a figure shows of its methods' settings."""
    shown = facts(wildcards).shows
    return variants(wildcards.figure, *(() if "*" in shown else ("algorithm", *shown)))


def masks_of(name):
    """How those of an experiment's methods that are SWiFT make their masks."""
    mask = ("estimator", "normalization", "percentile", "threshold")
    found = variants(name, "algorithm", *mask)
    return {k: v for k, v in found.items() if v["algorithm"] == "swift"}


def titles(name):
    """Display names of the methods that an experiment shows."""
    return {
        method: TITLES[method] for block in blocks(name) for method in block["methods"]
    }


def figure_names(name):
    """What a figure calls its methods, groups and classes, and how long it trained."""
    tasks = unique(block["task"] for block in blocks(name))
    attributes = unique(block["attribute"] for block in blocks(name))
    return {
        "titles": titles(name),
        "baseline": plan.first_variant(settings.methods, "baseline") or "",
        "swift": plan.first_variant(settings.methods, "swift") or "",
        "groups": {a: list(settings.attributes[a].group_names) for a in attributes},
        "classes": {
            task: [settings.tasks[task].negative, settings.tasks[task].positive]
            for task in tasks
        },
        "epochs": {
            task: [
                settings.tasks[task].pretraining.epochs,
                settings.tasks[task].finetuning.epochs_percent,
            ]
            for task in tasks
        },
    }


def facts(wildcards):
    """What a figure's drawing says of itself."""
    return figures.facts(plot_of(wildcards))


def plot_of(wildcards):
    """Which drawing a figure is."""
    return settings.experiments[wildcards.figure].plot


def options_of(wildcards):
    """Details of a figure's drawing."""
    return settings.experiments[wildcards.figure].options


def first_block(wildcards):
    """The first slice of the results that a figure shows."""
    return blocks(wildcards.figure)[0]


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


rule figure_arrays:
    input:
        unpack(arrays_input),
    output:
        folder("arrays"),
    log:
        log_of("figure_arrays", "figure"),
    benchmark:
        benchmark_of("figure_arrays", "figure")
    wildcard_constraints:
        figure="|".join(FIGURES) or "(?!)",
    conda:
        "../../envs/torch.yaml"
    resources:
        gpu=1,
        mem_mb=memory(6000, per_input=2.2),
    params:
        plot=plot_of,
        options=options_of,
        dataset=lambda wildcards: first_block(wildcards)["datasets"][0],
        methods=lambda wildcards: list(first_block(wildcards)["methods"]),
        fold=FOLDS[0],
        groups=lambda wildcards: len(
            settings.attributes[first_block(wildcards)["attribute"]].group_names
        ),
        backbone=lambda wildcards: dump(
            settings.backbones[first_block(wildcards)["backbone"]]
        ),
        variants=lambda wildcards: masks_of(wildcards.figure),
        normalization=lambda wildcards: settings.tasks[
            first_block(wildcards)["task"]
        ].images.model_dump(mode="json", include={"mean", "std"}),
        compute=dump(settings.compute),
        torch=TORCH,
        code=lambda wildcards: code_id(
            "figure_arrays.py", f"swift_debias.report.figures.{plot_of(wildcards)}"
        ),
    script:
        "../scripts/figure_arrays.py"


rule figure:
    input:
        unpack(figure_input),
    output:
        pdf=folder("figure", format="pdf"),
        png=report(
            folder("figure", format="png"),
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        csv=folder("figure", format="csv"),
    log:
        log_of("figure", "figure"),
    benchmark:
        benchmark_of("figure", "figure")
    wildcard_constraints:
        figure="|".join(FIGURES) or "(?!)",
    conda:
        "../../envs/report.yaml"
    params:
        title=lambda wildcards: settings.experiments[wildcards.figure].title,
        caption=lambda wildcards: facts(wildcards).caption,
        plot=plot_of,
        blocks=lambda wildcards: blocks(wildcards.figure),
        options=options_of,
        variants=drawn_variants,
        names=lambda wildcards: figure_names(wildcards.figure),
        synthetic=settings.synthetic is not None,
        code=lambda wildcards: code_id(
            "figure.py",
            f"swift_debias.report.figures.{plot_of(wildcards)}",
        ),
    script:
        "../scripts/figure.py"


rule table:
    input:
        metrics=rules.merge_metrics.output,
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
        table="|".join(TABLES) or "(?!)",
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
        groups=lambda wildcards: len(
            settings.attributes[wildcards.attribute].group_names
        ),
        min_group=lambda wildcards: settings.tasks[wildcards.task].finetuning.min_group,
        resamples=1000,
        baseline=plan.first_variant(settings.methods, "baseline"),
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
        baseline=plan.first_variant(settings.methods, "baseline"),
        code=code_id("compare.py"),
    script:
        "../scripts/compare.py"


rule verdict:
    input:
        metrics=rules.merge_metrics.output,
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
        statistics=rules.compare.output,
        intervals=of_setups("intervals"),
        verdict=rules.verdict.output.html,
        costs=folder("table", table="cost", format="html"),
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
