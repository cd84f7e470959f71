"""Commit and date of code and configuration, against a repository made by hand."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from swift_debias.run import origin


def commit(folder: Path, date: str) -> str:
    """All that has changed as a commit of that day; its name."""
    day = {f"GIT_{who}_DATE": f"{date}T12:00:00Z" for who in ("AUTHOR", "COMMITTER")}
    who = ("-c", "user.name=x", "-c", "user.email=x@x")
    for words in (("add", "-A"), (*who, "commit", "-qm", date)):
        subprocess.run(["git", *words], cwd=folder, check=True, env=os.environ | day)
    said = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    )
    return said.stdout.strip()[:12]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("workflow/a.py", "config/own.yaml", "docs/page.md", "requirements.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def test_only_commits_that_touch_it_count(project: Path) -> None:
    first = commit(project, "2024-01-02")
    config = project / "config" / "own.yaml"
    (project / "docs" / "page.md").write_text("2")
    commit(project, "2024-02-03")
    assert origin.code(project) == f"{first} of 2024-01-02"
    assert origin.configuration([config]) == f"own.yaml: {first} of 2024-01-02"
    config.write_text("2")
    assert origin.configuration([config]) == f"own.yaml: {first} of 2024-01-02, changed since"
    assert origin.code(project) == f"{first} of 2024-01-02"
    second = commit(project, "2024-03-04")
    assert origin.configuration([config]) == f"own.yaml: {second} of 2024-03-04"
    (project / "requirements.txt").write_text("2")
    assert origin.code(project) == f"{first} of 2024-01-02, changed since"


def test_what_git_does_not_know_is_told_as_such(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert origin.code(project) == origin.NONE  # no commit yet
    commit(project, "2024-01-02")
    mine = tmp_path / "mine.yaml"
    mine.write_text("1")
    (project / "config" / "new.yaml").write_text("1")
    files = [mine, project / "config" / "new.yaml"]
    assert origin.configuration(files) == f"mine.yaml: {origin.NONE}; new.yaml: {origin.NONE}"
    assert origin.configuration([]) == "values of the command line"
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert origin.code(project) == origin.NONE


def test_a_tag_that_snakemake_reads(project: Path, tmp_path: Path) -> None:
    first = commit(project, "2024-01-02")
    subprocess.run(["git", "tag", "v1"], cwd=project, check=True)
    (project / "workflow" / "a.py").write_text("2")
    commit(project, "2024-03-04")
    source = (project / ".git", "v1")
    assert origin.code(tmp_path / "checkout", source) == f"{first} of 2024-01-02"
