"""The conda environments and the pip lock pin the same versions."""

from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
CONDA_NAMES = {"pytorch": "torch"}  # conda-forge -> PyPI, where they differ


def pip_pins() -> dict[str, str]:
    rows = (PROJECT / "requirements.txt").read_text().splitlines()
    return dict(row.split("==") for row in rows if row and not row.startswith("#"))


@pytest.mark.parametrize("path", sorted((PROJECT / "envs").glob("*.yaml")), ids=lambda p: p.stem)
def test_pins_agree_with_the_lock(path: Path) -> None:
    environment = yaml.safe_load(path.read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert set(environment) == {"channels", "dependencies"}
    pins = pip_pins()
    for entry in environment["dependencies"]:
        assert isinstance(entry, str), f"{path.name}: no pip section, found {entry}"
        name, version = entry.split("=")
        if name != "python":
            assert pins[CONDA_NAMES.get(name, name)] == version, entry


def test_every_rule_with_a_script_has_an_environment() -> None:
    known = {path.name for path in (PROJECT / "envs").glob("*.yaml")}
    for rules in (PROJECT / "workflow" / "rules").glob("*.smk"):
        for block in rules.read_text().split("\nrule ")[1:]:
            used = [row.strip() for row in block.splitlines() if "/envs/" in row]
            assert len(used) == 1, f"{rules.name}: rule {block.splitlines()[0]}"
            assert used[0].strip('"').rsplit("/", 1)[1] in known


def test_the_installed_versions_are_the_pinned_ones() -> None:
    from importlib.metadata import version

    wrong = {n: v for n, v in pip_pins().items() if version(n).split("+")[0] != v}
    assert not wrong, f"the environment differs from requirements.txt: {wrong}"
