"""Commit and date of code and configuration, against a repository made by hand."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from swift_debias.run import code_id, origin


def said(project: Path) -> str:
    return origin.in_words(origin.code(project))


def commit(folder: Path, date: str) -> str:
    """All that has changed as a commit of that day; its name."""
    day = {f"GIT_{who}_DATE": f"{date}T12:00:00Z" for who in ("AUTHOR", "COMMITTER")}
    who = ("-c", "user.name=x", "-c", "user.email=x@x")
    for words in (("add", "-A"), (*who, "commit", "-qm", date)):
        subprocess.run(["git", *words], cwd=folder, check=True, env=os.environ | day)
    said = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    )
    return said.stdout.strip()


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
    assert said(project) == f"{first[:12]} of 2024-01-02"
    assert origin.configuration([config]) == f"own.yaml: {first[:12]} of 2024-01-02"
    config.write_text("2")
    assert origin.configuration([config]) == f"own.yaml: {first[:12]} of 2024-01-02, changed since"
    assert said(project) == f"{first[:12]} of 2024-01-02"
    second = commit(project, "2024-03-04")
    assert origin.configuration([config]) == f"own.yaml: {second[:12]} of 2024-03-04"
    (project / "requirements.txt").write_text("2")
    expected = f"{first[:12]} of 2024-01-02; changed since: requirements.txt"
    assert said(project) == expected
    assert origin.code(project)["commit"] == first


def test_every_file_that_differs_from_the_commit_is_named(project: Path) -> None:
    """Against what was done to the files, whatever their names are."""
    for name in ("workflow/old.py", "Snakefile", "workflow/x \u00e4.py", "resources/claims.yaml"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("1")
    (project / ".gitignore").write_text("__pycache__/\n")
    first = commit(project, "2024-01-02")
    assert not origin.differing(origin.code(project))
    changed = ["Snakefile", "resources/claims.yaml", "workflow/old.py", "workflow/x \u00e4.py"]
    for name in changed:
        (project / name).write_text("2")
    (project / "workflow" / "old.py").unlink()
    untracked = [f"workflow/methods/{name}.py" for name in ("a b", "shrink_head", "\u00fc")]
    for name in (*untracked, "workflow/__pycache__/a.pyc", "docs/more.md", "mine.py"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("1")
    (project / "docs" / "page.md").write_text("2")
    found = {"commit": first, "date": "2024-01-02", "changed": changed, "untracked": untracked}
    assert origin.code(project) == found
    subprocess.run(["git", "add", "Snakefile"], cwd=project, check=True)  # and not committed
    assert origin.code(project) == found
    text = f"; changed since: {', '.join(changed)}; {origin.NONE}: {', '.join(untracked)}"
    assert said(project) == f"{first[:12]} of 2024-01-02{text}"
    for number in range(9):
        (project / "workflow" / f"n{number}.py").write_text("1")
    assert said(project).endswith("workflow/n1.py, 7 more")
    assert "workflow/n8.py" in origin.differing(origin.code(project))[1]


def test_a_module_of_the_users_own_is_told_by_its_content(project: Path) -> None:
    mine = project / "config" / "nets.py"
    mine.write_text("x = 1")
    files = [(project / "config", Path("nets.py"))]
    digest = hashlib.sha256(b"x = 1").hexdigest()
    [found] = origin.modules(files)
    assert found == {"file": "nets.py", "sha256": digest, "commit": origin.NONE}
    first = commit(project, "2024-01-02")
    [found] = origin.modules(files)
    assert found["commit"] == f"{first[:12]} of 2024-01-02"
    facts = {"code": origin.code(project), "modules": [found], "configuration": "a"}
    text = f"nets.py: {first[:12]} of 2024-01-02, SHA-256 {digest[:12]}"
    assert origin.facts(facts)["own modules"] == text
    assert "own modules" not in origin.facts(facts | {"modules": []})
    mine.write_text("x = 2")
    [found] = origin.modules(files)
    assert found["commit"] == f"{first[:12]} of 2024-01-02, changed since"


def test_the_files_of_a_module_are_all_that_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "nets.py").write_text("from .parts import x\nimport torch\n")
    (tmp_path / "my_package" / "parts.py").write_text("import my_losses\nx = 1\n")
    (tmp_path / "my_losses.py").write_text("y = 1\n")
    (tmp_path / "unused.py").write_text("y = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = code_id.own_module_files("my_package.nets:make")
    names = ["my_losses.py", "my_package/nets.py", "my_package/parts.py"]
    assert found == [(tmp_path, Path(name)) for name in names]
    for network in ("resnet18", "torch:nn", "nowhere:make"):
        assert code_id.own_module_files(network) == []


def test_what_git_does_not_know_is_told_as_such(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert said(project) == origin.NONE  # no commit yet
    commit(project, "2024-01-02")
    mine = tmp_path / "mine.yaml"
    mine.write_text("1")
    (project / "config" / "new.yaml").write_text("1")
    files = [mine, project / "config" / "new.yaml"]
    assert origin.configuration(files) == f"mine.yaml: {origin.NONE}; new.yaml: {origin.NONE}"
    assert origin.configuration([]) == "values of the command line"
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert said(project) == origin.NONE


def test_a_tag_that_snakemake_reads(project: Path, tmp_path: Path) -> None:
    first = commit(project, "2024-01-02")
    subprocess.run(["git", "tag", "v1"], cwd=project, check=True)
    (project / "workflow" / "a.py").write_text("2")
    commit(project, "2024-03-04")
    source = (project / ".git", "v1")
    assert origin.in_words(origin.code(tmp_path / "checkout", source)) == (
        f"{first[:12]} of 2024-01-02"
    )
