"""The pages for people, and the blocks of code in them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md"), PROJECT / "config" / "README.md"]
)
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?: +title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block; `title` is the file that it is, if it is one."""

    page: Path
    language: str
    title: str
    text: str


def blocks(page: Path, language: str) -> list[Block]:
    """The blocks of a page in this language, in order."""
    return [block for block in _all(page) if block.language == language]


def _all(page: Path) -> Iterator[Block]:
    for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
        lines = match["text"].splitlines()
        text = "\n".join(line.removeprefix(match["indent"]) for line in lines) + "\n"
        yield Block(page, match["language"], match["title"] or "", text)


def apply(block: Block, project: Path) -> None:
    """Apply a page's diff to a copy of the project, as a reader does: with `git apply`."""
    place = {**os.environ, "GIT_CEILING_DIRECTORIES": str(project.parent)}  # in no repository
    for command in (["git", "apply", "-"], ["git", "apply", "--reverse", "--check", "-"]):
        done = subprocess.run(
            command, cwd=project, env=place, input=block.text, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{name_of(block.page)}: {done.stderr}"


def prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    """A page's path in the project."""
    return page.relative_to(PROJECT).as_posix()
