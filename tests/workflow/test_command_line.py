"""The configuration as Snakemake's command line gives it: refused or completed before any job."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.conftest import Snakemake
from tests.keys.conftest import SETS, configuration

# A file that there is with three folds or more, and not with the demo's two.
THIRD = "results/demo/external/skin/sex/fold2.parquet"


@pytest.mark.parametrize("file", [(), ("--configfile", "config/demo.yaml")])
def test_a_value_of_the_command_line_changes_the_demo(
    tmp_path: Path, snakemake: Snakemake, file: tuple[str, ...]
) -> None:
    arguments = ("-n", "--cores", "1", *file)
    (tmp_path / "config").symlink_to(Path(__file__).resolve().parents[2] / "config")
    refused = snakemake(tmp_path, *arguments, THIRD, check=False)
    assert refused.returncode != 0
    planned = snakemake(tmp_path, *arguments, "--config", "folds=3", "--", THIRD)
    assert "make_external" in planned.stdout


@pytest.mark.parametrize("key", ["baseline", "weights"])
def test_a_missing_file_is_no_reason_to_show_old_results(
    tmp_path: Path, snakemake: Snakemake, key: str
) -> None:
    """Everything else may be there: the configuration is refused when it is read."""
    for name in SETS:
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "table.csv").write_text("id\n1\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine_0.safetensors").write_text("x")
    config = configuration()
    table = tmp_path / "results" / config["run"] / "tables" / "table1.md"
    table.parent.mkdir(parents=True)
    table.touch()
    name = "models/mien_0.safetensors"
    config["backbones"]["net"][key] = name if key == "weights" else name.replace("0", "{fold}")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    target = str(table.relative_to(tmp_path))
    arguments = ("-n", "--cores", "1", "--configfile", str(tmp_path / "config.yaml"), "--", target)
    done = snakemake(tmp_path, *arguments, check=False)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    (line,) = (line for line in said.splitlines() if f"backbones.net.{key}" in line)
    assert "no such file: models/mien_0.safetensors" in line
    assert "did you mean 'mine_0.safetensors'" in line
    assert "Traceback" not in said
