"""Which code and which configuration a run is of: commit and date, as git knows them.

Of what computes only, and of the files of the configuration: a commit that touches neither is none
here, so that the same code and configuration make the same bytes. Beside the commit stands what
differs from it: files that have changed since, files that git does not know, and modules of the
user's own. The run writes it down (`origin.json`); report and bundle say what stands there.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# of the project: what is computed is read from these
CODE = (
    *("Snakefile", "workflow", "envs", "requirements.txt"),
    *("resources/published_results.csv", "resources/claims.yaml", "resources/expected_counts.yaml"),
)
NONE = "not under version control"
MOST = 5  # names of files in a sentence of the report


def git(folder: Path, *words: str) -> str:
    """What git says in a folder; nothing where it fails or is not there."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.rstrip("\n")


def commit_of(folder: Path, *paths: str) -> dict[str, Any]:
    """The last commit that changed these files, its date, and what of them differs from it.

    Returns:
        commit and date, '' where git knows none of them; changed and untracked: files, by their
        names below the folder.
    """
    commit, _, date = git(folder, "log", "-1", "--format=%H %cs", "--", *paths).partition(" ")
    found: dict[str, Any] = {"commit": commit, "date": date, "changed": [], "untracked": []}
    if commit:
        # by names with NUL between them, which no name has
        listed = {
            "changed": ("diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD"),
            "untracked": ("ls-files", "--others", "--exclude-standard", "-z"),
        }
        for what, words in listed.items():
            found[what] = sorted(filter(None, git(folder, *words, "--", *paths).split("\0")))
    return found


def code(project: Path, source: tuple[Path, str] | None = None) -> dict[str, Any]:
    """Commit and date of the code, and what differs from it, as `commit_of`.

    Args:
        project: its folder.
        source: (repository, reference) where Snakemake reads the workflow from git.
    """
    if source is None:
        return commit_of(project, *CODE)
    repository, reference = source
    commit, _, date = git(repository, "log", "-1", "--format=%H %cs", reference).partition(" ")
    return {"commit": commit, "date": date, "changed": [], "untracked": []}


def modules(files: Iterable[tuple[Path, Path]]) -> list[dict[str, str]]:
    """The user's own modules: name, SHA-256, and commit in words.

    Args:
        files: (folder, file below it); the folder is not named.
    """
    return [
        {
            "file": file.as_posix(),
            "sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest(),
            "commit": in_words(commit_of((folder / file).parent, file.name), named=False),
        }
        for folder, file in files
    ]


def configuration(files: Iterable[Path]) -> str:
    """Commit and date of each file that the settings were read from; its folder is not named."""
    said = [
        f"{file.name}: {in_words(commit_of(file.resolve().parent, file.name), named=False)}"
        for file in files
    ]
    return "; ".join(said) or "values of the command line"


def in_words(found: Mapping[str, Any], named: bool = True) -> str:
    """What `commit_of` found as text.

    Args:
        found: that.
        named: whether the files that differ are named.
    """
    if not found["commit"]:
        return NONE
    text = f"{found['commit'][:12]} of {found['date']}"
    if not named:
        return f"{text}, changed since" if found["changed"] else text
    return "; ".join([text, *differing(found, MOST)])


def differing(found: Mapping[str, Any], most: int | None = None) -> list[str]:
    """What differs from the commit, a part a kind; nothing where the code is as committed."""
    kinds = {"changed since": found["changed"], NONE: found["untracked"]}
    return [f"{kind}: {_names(names, most)}" for kind, names in kinds.items() if names]


def _names(names: list[str], most: int | None) -> str:
    more = [f"{len(names) - most} more"] if most is not None and len(names) > most else []
    return ", ".join([*names[:most], *more])


def facts(origin: Mapping[str, Any]) -> dict[str, str]:
    """What the report says of a run's origin.

    Args:
        origin: what `code`, `modules` and `configuration` found, by these names.
    """
    own = [
        f"{one['file']}: {one['commit']}, SHA-256 {one['sha256'][:12]}" for one in origin["modules"]
    ]
    return {
        "code": in_words(origin["code"]),
        **({"own modules": "; ".join(own)} if own else {}),
        "configuration": origin["configuration"],
    }
