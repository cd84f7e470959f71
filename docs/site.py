"""Hooks of the site: pages and pictures from other folders, and one API page a room.

Pages link to each other as they do in the repository, relative to the file they stand in. Here the
links are turned to where the files lie on the site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).resolve().parents[1]
LIBRARY = PROJECT / "workflow" / "scripts" / "swift_debias"
PAGES = {  # file of the project -> page of the site
    "README.md": "index.md",
    "config/README.md": "config.md",
    "results/README.md": "results.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def on_config(config: Any) -> Any:
    """Add the API reference to the navigation."""
    reference = [{title: uri} for title, uri, _ in api_pages()]
    config["nav"].append({"API reference": reference})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add pages, linked files and the API reference."""
    for source, uri in PAGES.items():
        text = (PROJECT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, uri, content=text))
    for path in linked_files():
        files.append(File.generated(config, path, abs_src_path=str(PROJECT / path)))
    for _, uri, text in api_pages():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files of the project to links between pages of the site."""
    source = source_of(page.file.src_uri)
    return markdown if source is None else LINK.sub(lambda m: turned(m, source), markdown)


def turned(link: re.Match[str], source: str) -> str:
    """A link of a file of the project, for the site, where all these pages lie in one folder."""
    opening, target, anchor, closing = link.groups()
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    uri = PAGES.get(path) or path.removeprefix("docs/")
    return f"{opening}{uri}{anchor or ''}{closing}"


def source_of(uri: str) -> str | None:
    """The file of the project that a page is made of."""
    sources = {page: source for source, page in PAGES.items()}
    if uri in sources:
        return sources[uri]
    return f"docs/{uri}" if (PROJECT / "docs" / uri).is_file() else None


def linked_files() -> list[str]:
    """Pictures and other files outside of docs/ that some page links to."""
    found = set()
    for source in [*PAGES, *(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md"))]:
        for link in LINK.finditer((PROJECT / source).read_text(encoding="utf-8")):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
            if path not in PAGES and not path.startswith("docs/"):
                found.add(path)
    return sorted(found)


def api_pages() -> Iterator[tuple[str, str, str]]:
    """Title, place and text of the page of every room: its modules, from their docstrings."""
    rooms: dict[str, list[str]] = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(LIBRARY).with_suffix("").parts
        if parts != ("__init__",):
            name = ".".join(part for part in parts if part != "__init__")
            rooms.setdefault(parts[0], []).append(f"swift_debias.{name}")
    for room, modules in rooms.items():
        text = "\n\n".join([f"# {room}", *(f"::: {module}" for module in modules)])
        yield room, f"api/{room}.md", text + "\n"
