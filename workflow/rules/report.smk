# Statistics, tables, figures, verdict and report: they read results and never recompute them.


rule figure_arrays:
    input:
        unpack(arrays_input),
    output:
        folder("figures/arrays/{figure}.npz"),
    log:
        folder("logs/figure_arrays/{figure}.log"),
    benchmark:
        folder("benchmarks/figure_arrays/{figure}.tsv")
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
        compute=dump(settings.compute),
        torch=TORCH,
        code=code_id("figure_arrays.py"),
    script:
        "../scripts/figure_arrays.py"


rule figure:
    input:
        unpack(figure_input),
    output:
        pdf=folder("figures/{figure}.pdf"),
        png=report(
            folder("figures/{figure}.png"),
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        csv=folder("figures/{figure}.csv"),
    log:
        folder("logs/figure/{figure}.log"),
    benchmark:
        folder("benchmarks/figure/{figure}.tsv")
    wildcard_constraints:
        figure="|".join(FIGURES) or "(?!)",
    conda:
        "../../envs/report.yaml"
    params:
        title=lambda wildcards: settings.experiments[wildcards.figure].title,
        caption=lambda wildcards: CAPTIONS[plot_of(wildcards)],
        plot=plot_of,
        module=lambda wildcards: PLOTS[plot_of(wildcards)][0],
        blocks=lambda wildcards: blocks(wildcards.figure),
        options=options_of,
        variants=drawn_variants,
        names=lambda wildcards: figure_names(wildcards.figure),
        synthetic=settings.synthetic is not None,
        code=lambda wildcards: code_id(
            "figure.py",
            f"swift_debias.{PLOTS[plot_of(wildcards)][0]}",
        ),
    script:
        "../scripts/figure.py"


rule table:
    input:
        metrics=rules.merge_metrics.output,
        published=PUBLISHED,
    output:
        csv=folder("tables/{table}.csv"),
        md=folder("tables/{table}.md"),
        tex=folder("tables/{table}.tex"),
        html=report(
            folder("tables/{table}.html"),
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        txt=folder("tables/{table}.txt"),
    log:
        folder("logs/table/{table}.log"),
    benchmark:
        folder("benchmarks/table/{table}.tsv")
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
        [path for path in debias_costs(None) if path.split("/")[-3] not in UNTOUCHED],
        pretraining_costs(),
    output:
        multiext(folder("tables/cost"), ".csv", ".md", ".tex", ".html", ".txt"),
    log:
        folder("logs/cost_table.log"),
    benchmark:
        folder("benchmarks/cost_table.tsv")
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
        rules.evaluate.output,
    output:
        folder("intervals/{task}/{backbone}/{attribute}.parquet"),
    log:
        folder("logs/intervals/{task}/{backbone}/{attribute}.log"),
    benchmark:
        folder("benchmarks/intervals/{task}/{backbone}/{attribute}.tsv")
    conda:
        "../../envs/report.yaml"
    resources:
        runtime=minutes(30),
    params:
        cell=lambda wildcards: [wildcards.task, wildcards.backbone, wildcards.attribute],
        groups=lambda wildcards: len(
            settings.attributes[wildcards.attribute].group_names
        ),
        min_group=lambda wildcards: settings.tasks[wildcards.task].finetuning.min_group,
        resamples=1000,
        seed=settings.seed,
        code=code_id("intervals.py"),
    script:
        "../scripts/intervals.py"


rule compare:
    input:
        metrics=rules.merge_metrics.output,
    output:
        folder("statistics.parquet"),
    log:
        folder("logs/compare.log"),
    benchmark:
        folder("benchmarks/compare.tsv")
    conda:
        "../../envs/report.yaml"
    params:
        tables={name: blocks(name) for name in TABLES},
        code=code_id("compare.py"),
    script:
        "../scripts/compare.py"


rule verdict:
    input:
        metrics=rules.merge_metrics.output,
        published=PUBLISHED,
        claims=CLAIMS,
        costs=debias_costs,
        summaries=mask_summaries(),
    output:
        cells=folder("verdict_cells.csv"),
        claims=folder("verdict_claims.csv"),
        instances=folder("verdict_instances.csv"),
        md=folder("verdict.md"),
        html=report(
            folder("verdict.html"), caption="../report/verdict.rst", category="Verdict"
        ),
    log:
        folder("logs/verdict.log"),
    benchmark:
        folder("benchmarks/verdict.tsv")
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
            rules.find_duplicates.output.log, task=unique(task for task, *_ in CELLS)
        ),
        external=unique(
            folder(f"external/{task}/{attribute}/fold{fold}.parquet")
            for task, _, attribute in CELLS
            for fold in FOLDS
        ),
        tables=expand(folder("tables/{table}.html"), table=TABLES),
        figures=expand(folder("figures/{figure}.png"), figure=FIGURES),
        statistics=rules.compare.output,
        intervals=[
            folder(INTERVALS).format(task=task, backbone=backbone, attribute=attribute)
            for task, backbone, attribute in CELLS
        ],
        verdict=rules.verdict.output.html,
        costs=folder("tables/cost.html"),
        requirements=REQUIREMENTS,
        assets=ASSETS,
    output:
        folder("report.html"),
    log:
        folder("logs/report.log"),
    benchmark:
        folder("benchmarks/report.tsv")
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
                CAPTIONS[settings.experiments[name].plot],
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
        tables=expand(folder("tables/{table}.txt"), table=TABLES),
        costs=debias_costs,
    output:
        folder("summary.txt"),
    log:
        folder("logs/summary.log"),
    benchmark:
        folder("benchmarks/summary.tsv")
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
