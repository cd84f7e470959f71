"""One self-contained page with everything that a reader asks for."""

from pathlib import Path

from swift_debias import __version__
from swift_debias.files import read_json, read_parquet, write_json, write_text
from swift_debias.report import (
    costs,
    data_tables,
    html,
    marks_table,
    pool_table,
    statistics_tables,
)
from swift_debias.report.html import Section, Shown, grid
from swift_debias.run import origin, results
from swift_debias.run.job import logged

with logged(snakemake):
    params, given = snakemake.params, snakemake.input
    run = Path(snakemake.output[0]).parent

    def logs(paths: list[str]) -> dict:
        """Name of the data set or task -> its log."""
        return {Path(p).name.removesuffix(".log.json"): read_json(p) for p in paths}

    metrics = read_parquet(str(given.metrics))
    read, pooled = logs(given.manifest_logs), logs(given.cohort_logs)
    manifests = {Path(path).stem: read_parquet(path) for path in given.manifests}
    check = read_json(str(given.check))
    data = [
        grid(data_tables.checked_data(check), "checked", "Folders"),
        grid(data_tables.data_sizes(manifests, read), "sizes", "Images in use"),
        grid(data_tables.group_sizes(metrics, params.groups), "groups", "Groups of the test sets"),
        grid(data_tables.external_sizes(map(Path, given.external)), "external", "External sets"),
    ]
    if given.tones:
        data += [
            grid(data_tables.skin_tones(map(Path, given.tones)), "tones", "Measured skin tone"),
            html.contact_sheets(map(Path, given.sheets), params.pictures),
        ]
    dropped = [
        grid(data_tables.exclusions(read), "exclusions", "Rows of the sources"),
        grid(
            data_tables.cohort_facts(pooled), "duplicates", "Duplicates and test images in the pool"
        ),
        grid(data_tables.unknown_groups(metrics), "unknown", "Test images of unknown group"),
        grid(
            data_tables.metrics_left_out(metrics),
            "reasons",
            "Metrics without a value, or with less",
        ),
    ]
    compared = statistics_tables.fold_tests(read_parquet(str(given.statistics)), params.titles)
    measured = results.joined(given.intervals)
    told = statistics_tables.sentences(measured, params.metrics)
    intervals = statistics_tables.intervals(measured, params.titles, params.metrics)
    tests = [
        html.bullets(told),
        grid(statistics_tables.test_sizes(measured), "power", "What the test sets can show"),
        grid(intervals, "intervals", "Over patients and folds: intervals, noise floors"),
        grid(compared, "tests", "Against the Baseline and the best other method"),
    ]
    pictures = [
        Shown(name, *params.figures[name], Path(png), hidden=name in params.hidden)
        for name, png in ((Path(png).stem, png) for png in given.figures)
    ]
    pool = pool_table.count(map(Path, given.external), params.groups, map(Path, given.cohorts))
    short = [
        html.bullets(read_json(str(given.in_words))["sentences"]),
        grid(
            pool_table.for_readers(pool, params.classes),
            "pool",
            "What is learnt from, by group and label",
        ),
        html.bullets(pool_table.sentences(pool, params.classes)),
    ]
    which = [
        Section("which", "Which method?", html.fragment(Path(folder) / "which_method.html"))
        for folder in given.which_method
    ]
    stages = grid(costs.stage_times(run / "benchmarks"), "stages", "Stages of the workflow", 1)
    versions = html.software(Path(given.requirements))
    weights = grid(data_tables.weight_files(map(Path, given.sources)), "weights", "Weight files")
    failed = params.missing["failed"]
    sections = [
        *([Section("missing", "What is missing", html.missing(**params.missing))] * bool(failed)),
        Section("short", "In short", "".join(short)),
        *which,
        Section(
            "run",
            "What was run",
            html.configuration(params.settings, versions, origin.facts(params.origin)) + weights,
        ),
        Section("data", "Data", "".join(data)),
        Section(
            "plausibility",
            "What to mind",
            marks_table.section(read_parquet(str(given.plausibility)), params.titles),
        ),
        Section("tables", "Tables", html.result_tables(map(Path, given.tables))),
        Section("figures", "Figures", html.figure_gallery(pictures)),
        Section("statistics", "Statistics", "".join(tests)),
        Section("reproduction", "Reproduction verdict", html.fragment(Path(given.verdict))),
        Section("costs", "Costs", html.fragment(Path(given.costs)) + stages),
        Section("dropped", "Everything left out", "".join(dropped)),
    ]
    write_text(snakemake.output.settings, html.settings_text(params.settings))
    packages = html.found_here(versions)
    made_by = {**params.origin, "version": __version__, "packages": packages}
    write_json(Path(snakemake.output.origin), made_by)
    write_text(snakemake.output[0], html.page(params.run, sections, params.synthetic))
