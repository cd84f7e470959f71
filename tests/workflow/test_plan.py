"""The paper is planned where its data are; where they are not, each folder is named."""

import re
from pathlib import Path

import pytest
import yaml
from dag import jobs_of

PROJECT = Path(__file__).resolve().parents[2]
PAPER = PROJECT / "config" / "config.yaml"


def test_missing_folders_are_named_with_their_page(tmp_path: Path, snakemake) -> None:
    done = snakemake(tmp_path, "--cores", "1", "-n", "--configfile", str(PAPER), check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for name in yaml.safe_load(PAPER.read_text())["datasets"]:
        assert f"{name}: no folder data/{name}" in said
    assert "https://physionet.org/content/mimic-cxr-jpg" in said
    assert "datasets.<name>.root" in said


@pytest.mark.parametrize(
    "absent", ["mimic_cxr", *(pytest.param(name, marks=pytest.mark.ci) for name in ("nih", "ddi"))]
)
def test_an_absent_data_set_stops_only_what_needs_it(
    tmp_path: Path, snakemake, absent: str
) -> None:
    config = yaml.safe_load(PAPER.read_text())
    for name in config["datasets"]:
        if name != absent:
            (tmp_path / "data" / name).mkdir(parents=True)
    words = ("--cores", "1", "--configfile", str(PAPER), "-n", "-q", "all", "--")
    needing = {"skin"} if absent == "ddi" else {"cxr"}

    def tasks_of(experiment: dict) -> set[str]:
        return {panel["task"] for panel in experiment["panels"]}

    tables = {n: e for n, e in config["experiments"].items() if e["kind"] == "table"}
    without = [name for name, entry in tables.items() if not tasks_of(entry) & needing]
    with_it = [name for name, entry in tables.items() if tasks_of(entry) & needing]
    assert without and with_it
    made = [f"results/paper/tables/{name}.csv" for name in without]
    assert snakemake(tmp_path, *words, "results/paper/data_check.txt", *made).returncode == 0
    for target in (f"results/paper/tables/{with_it[0]}.csv", "all"):
        done = snakemake(tmp_path, *words, target, check=False)
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert f"{absent}: no folder data/{absent}" in said
        assert "no folder" not in said.replace(f"no folder data/{absent}", "")
        able = set(said.partition("can be made: ")[2].partition(".")[0].split(", "))
        assert able >= set(without)
        assert not able & set(with_it)


def test_what_needs_no_data_runs_without(tmp_path: Path, snakemake) -> None:
    for word in ("--list-rules", "--lint", "--rulegraph"):
        done = snakemake(tmp_path, "--cores", "1", "--configfile", str(PAPER), word, check=False)
        assert "no folder" not in done.stdout + done.stderr, word
        assert done.returncode == 0 or word == "--lint"


def test_the_whole_paper_is_planned(tmp_path: Path, snakemake) -> None:
    for name in yaml.safe_load(PAPER.read_text())["datasets"]:
        (tmp_path / "data" / name).mkdir(parents=True)
    done = snakemake(tmp_path, "--cores", "1", "-n", "-q", "all", "--configfile", str(PAPER))
    assert done.returncode == 0
    done = snakemake(tmp_path, "--cores", "1", "-n", "--configfile", str(PAPER))
    rows = [row.split() for row in done.stdout.splitlines() if len(row.split()) == 2]
    jobs = {name: int(count) for name, count in rows if count.isdigit()}
    folds, networks = 5, 4
    assert jobs["build_manifest"] == jobs["cache_images"] == 11
    assert jobs["train_baseline"] == networks * folds
    cells = 2 * networks  # two attributes a network
    assert jobs["importance"] >= cells  # a job takes all folds
    assert jobs["debias"] >= cells * 9
    assert jobs["copy_baseline"] >= cells
    assert jobs["table"] == 9
    assert jobs["figure"] >= 9


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("sede: 1", "did you mean 'seed'"),
        ("methods: {swift: {algorithm: swfit}}", "did you mean 'swift'"),
        ("tasks: {skin: {tests: {sex: [ddi]}}}", "'ddi' has no column 'sex'"),
    ],
)
def test_a_bad_config_is_refused_before_the_dag(
    tmp_path: Path, snakemake, key: str, expected: str
) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(f"extends: config/demo.yaml\n{key}\n")
    done = snakemake(tmp_path, "--cores", "1", "-n", "--configfile", str(config), check=False)
    assert done.returncode != 0
    assert expected in done.stdout + done.stderr
    assert "Building DAG" not in done.stdout + done.stderr


def test_an_ablation_is_a_config_entry(tmp_path: Path, snakemake) -> None:
    """A new variant in a view adds its own debiasing job and nothing else."""

    def planned(text: str) -> dict[str, int]:
        config = tmp_path / "config.yaml"
        config.write_text(f"extends: config/demo.yaml\n{text}")
        done = snakemake(tmp_path, "--cores", "1", "-n", "--configfile", str(config))
        rows = [row.split() for row in done.stdout.splitlines() if len(row.split()) == 2]
        return {name: int(count) for name, count in rows if count.isdigit()}

    before = planned("")
    after = planned(
        "methods:\n"
        "  swift_percentile_95: {algorithm: swift, normalization: percentile, percentile: 95}\n"
        "experiments:\n"
        "  table7: {methods: [swift_zscore, swift_percentile, swift_percentile_95, swift]}\n"
    )
    panels = 2
    new = {"debias": panels, "total": panels}
    assert after == {name: count + new.get(name, 0) for name, count in before.items()}


@pytest.mark.ci
def test_a_run_that_fails_says_where_to_look(tmp_path: Path, snakemake) -> None:
    for name in yaml.safe_load(PAPER.read_text())["datasets"]:
        (tmp_path / "data" / name).mkdir(parents=True)  # and nothing in them
    words = ("--cores", "1", "--configfile", str(PAPER), "--", "results/paper/data_suffices.txt")
    done = snakemake(tmp_path, *words, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    log = "results/paper/logs/data_suffices.log"
    assert (tmp_path / log).is_file()
    assert re.search(rf"{re.escape(log)}: error: [\w, ]+: cannot run: ", said)
    assert "type the same command again" in said


@pytest.mark.parametrize("base", ["demo", "benchmark", "swift_parts"])
@pytest.mark.parametrize("by", ["command line", "overlay"])
def test_another_run_reads_the_pictures_that_it_draws(tmp_path: Path, base: str, by: str) -> None:
    """A run that is renamed, and draws other pictures, must not find the first one's."""
    config, values = PROJECT / "config" / f"{base}.yaml", {"run": "mine", "seed": 5}
    if by == "overlay":
        overlay = {"extends": f"config/{base}.yaml", **values}
        config, values = tmp_path / "mine.yaml", {}
        config.write_text(yaml.safe_dump(overlay))
    sets = {"demo": ["ddi", "nih"]}.get(base, ["test", "pool_absence"])
    targets = [f"results/mine/images/{name}.npy" for name in sets]
    with jobs_of(tmp_path, config, values, targets) as (jobs, _):
        for rule in ("build_manifest", "cache_images"):
            assert sorted(job.wildcards.dataset for job in jobs[rule]) == sorted(sets)
            for job in jobs[rule]:
                own = f"results/mine/raw/{job.wildcards.dataset}"
                assert list(map(str, job.input.raw)) == [own] or str(job.input.raw) == own
                assert job.params.get("root", own) == own
                assert job.params.get("places", {"root": own})["root"] == own
        drawn = {str(path) for job in jobs["synthesize"] for path in job.output}
        assert drawn == {f"results/mine/raw/{name}" for name in sets}
