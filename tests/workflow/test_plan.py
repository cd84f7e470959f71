"""The paper is planned where its data are; where they are not, each folder is named."""

from pathlib import Path

import pytest
import yaml

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
    assert jobs["copy_baseline"] >= cells * folds
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
