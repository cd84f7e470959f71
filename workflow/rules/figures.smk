# Figures: what each is drawn from, its arrays, and the drawing.

FIGURES = [
    name
    for name, experiment in settings.experiments.items()
    if experiment.kind == "figure"
    and LEFT_OUT.blocks(name, plan.blocks(settings, experiment))
]
TITLES = {name: method.title or name for name, method in settings.methods.items()}


def blocks(name):
    """What an experiment shows, as plain values."""
    view = settings.experiments[name]
    found = LEFT_OUT.kept(plan.blocks(settings, view))
    for block in found:
        block["metrics"] = tuple(
            metrics.at_threshold(metric, view.threshold) for metric in block["metrics"]
        )
    return found


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


def figure_input(wildcards):
    """The results that a figure is drawn from."""
    name = wildcards.figure
    paths = {
        "metrics": lambda: of_blocks(name, "setup_metrics"),
        "costs": lambda: of_blocks(name, "cost"),
        "predictions": lambda: of_blocks(name, "setup_predictions"),
        "repeats": lambda: of_blocks(name, "setup_predictions"),
        "summaries": lambda: of_blocks(name, "mask_summary"),
        "intervals": lambda: of_blocks(name, "intervals"),
        "plausibility": lambda: of_blocks(name, "setup_plausibility"),
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
        "importance": lambda: first_fold(name, "importance"),
        "importances": lambda: of_blocks(name, "importance"),
        "pixels": lambda: [folder("pixels", dataset=dataset)],
        "index": lambda: [folder("image_index", dataset=dataset)],
    }
    return {need: paths[need]() for need in facts(wildcards).arrays_need}


def variants(name, *kept):
    """Methods of an experiment with these settings of their algorithms, defaults filled in; none: all."""
    found = {}
    for method in sorted({m for block in blocks(name) for m in block["methods"]}):
        own = settings.methods[method]
        every = dump(full_settings(own)) | own.model_dump(
            mode="json", exclude={"title"}
        )
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
        "baseline": BASELINE or "",
        "swift": SWIFT or "",
        "groups": {a: list(settings.attributes[a].group_names) for a in attributes},
        "classes": {task: list(settings.tasks[task].class_names) for task in tasks},
        "epochs": {
            task: [
                settings.tasks[task].pretraining.epochs,
                settings.tasks[task].finetuning.epochs_percent,
            ]
            for task in tasks
        },
        **({"ties": ties} if (ties := strengths(tasks)) else {}),
        **(
            {"min_groups": {t: settings.tasks[t].finetuning.min_group for t in tasks}}
            if "repeats" in figures.facts(settings.experiments[name].plot).needs
            else {}
        ),
    }


def strengths(tasks):
    """How strongly an attribute is tied to the label in the pools of those tasks that say so."""
    return {
        task: tie.strength
        for task in tasks
        if (tie := settings.tasks[task].tie) is not None
    }


def facts(wildcards):
    """What a figure's drawing says of itself."""
    return figures.facts(plot_of(wildcards))


def plot_of(wildcards):
    """Which drawing a figure is."""
    return settings.experiments[wildcards.figure].plot


def options_of(wildcards):
    """Details of a figure's drawing."""
    return dump(settings.experiments[wildcards.figure])["options"]


def repeats_drawn(wildcards):
    """How often each method debiases a fold, for a drawing of all repeats."""
    if "repeats" not in facts(wildcards).needs:
        return {}
    return {
        method: plan.repeats(settings, settings.methods[method])
        for block in blocks(wildcards.figure)
        for method in block["methods"]
    }


def first_block(wildcards):
    """The first slice of the results that a figure shows."""
    return blocks(wildcards.figure)[0]


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
        figure=one_of(FIGURES),
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
        module=lambda wildcards: module_of(first_block(wildcards)["backbone"]),
        backbone=lambda wildcards: dump(
            settings.backbones[first_block(wildcards)["backbone"]]
        ),
        variants=lambda wildcards: masks_of(wildcards.figure),
        normalization=lambda wildcards: settings.tasks[
            first_block(wildcards)["task"]
        ].images.model_dump(mode="json", include={"mean", "std"}),
        compute=compute,
        arithmetic=ARITHMETIC,
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
        figure=one_of(FIGURES),
    conda:
        "../../envs/report.yaml"
    params:
        title=lambda wildcards: settings.experiments[wildcards.figure].title,
        caption=lambda wildcards: facts(wildcards).caption,
        plot=plot_of,
        blocks=lambda wildcards: blocks(wildcards.figure),
        folds=FOLDS,
        repeats=repeats_drawn,
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
