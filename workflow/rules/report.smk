# Statistics, tables, figures and the summary: they read metrics and never recompute them.

TABLES = [name for name, view in settings.experiments.items() if view.kind == "table"]


def debias_costs(wildcards):
    """What every debiasing job cost."""
    return [
        folder(f"debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/cost.json")
        for (task, backbone, attribute), names in CELLS.items()
        for method in names
        for fold in FOLDS
    ]


rule table:
    input:
        metrics=rules.merge_metrics.output,
        published=str(PROJECT / "resources" / "published_results.csv"),
    output:
        multiext(folder("tables/{table}"), ".csv", ".md", ".tex", ".html", ".txt"),
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
        blocks=lambda wildcards: settings.blocks(settings.experiments[wildcards.table]),
        titles={name: method.title or name for name, method in settings.methods.items()},
        synthetic=settings.synthetic is not None,
        code=code_id("table.py"),
    script:
        "../scripts/table.py"


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
        run=RUN,
        synthetic=settings.synthetic is not None,
        code=code_id("summary.py"),
    script:
        "../scripts/summary.py"


onsuccess:
    summary = Path(rules.summary.output[0])
    if summary.is_file():
        print(summary.read_text())
        minutes, seconds = divmod(int(time.monotonic() - STARTED), 60)
        print(f"This run took {minutes} min {seconds} s. Results: {RUN}/")
