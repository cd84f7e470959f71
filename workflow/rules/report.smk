# Statistics, tables, figures and the summary: they read metrics and never recompute them.


rule table:
    input:
        metrics=rules.merge_metrics.output,
        published=PUBLISHED,
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
