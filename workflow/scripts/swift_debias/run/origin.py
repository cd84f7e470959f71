"""Which code and which configuration a run is of: commit and date, as git knows them.

Of what computes only, and of the files of the configuration: a commit that touches neither is none
here, so that the same code and configuration make the same bytes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

CODE = ("workflow", "envs", "requirements.txt")  # of the project
NONE = "not under version control"


def git(folder: Path, *words: str) -> str:
    """What git says in a folder; nothing where it fails or is not there."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def commit_of(folder: Path, *paths: str) -> str:
    """The last commit that changed these files, its date, and whether they have changed since."""
    last = git(folder, "log", "-1", "--abbrev=12", "--format=%h of %cs", "--", *paths)
    if not last:
        return NONE
    changed = git(folder, "status", "--porcelain", "--untracked-files=no", "--", *paths)
    return f"{last}, changed since" if changed else last


def code(project: Path, source: tuple[Path, str] | None = None) -> str:
    """Commit and date of the code.

    Args:
        project: its folder.
        source: (repository, reference) where Snakemake reads the workflow from git.
    """
    if source is None:
        return commit_of(project, *CODE)
    repository, reference = source
    return git(repository, "log", "-1", "--abbrev=12", "--format=%h of %cs", reference) or NONE


def configuration(files: Iterable[Path]) -> str:
    """Commit and date of each file that the settings were read from; its folder is not named."""
    said = [f"{file.name}: {commit_of(file.resolve().parent, file.name)}" for file in files]
    return "; ".join(said) or "values of the command line"
