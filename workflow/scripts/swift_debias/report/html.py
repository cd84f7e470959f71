"""report.html: one page that holds everything and loads nothing.

Styles, script and figures (as data URIs) are inside the file, and a content security policy forbids
it to fetch anything. Tables can be sorted and filtered, figures enlarged. No date is written: the
same results give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import platform
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from ..evaluation.words import title
from ..files import damaged, read_text
from . import escaping, render, sharing

ABSENT = "not in this job's environment"
MANY_ROWS = 15  # longer tables can be filtered


ASSETS = Path(__file__).with_name("assets")


class Section(NamedTuple):
    """A chapter of the page; `body` is HTML."""

    anchor: str
    title: str
    body: str


class Shown(NamedTuple):
    """A figure of the page."""

    name: str
    title: str
    caption: str
    png: Path
    hidden: bool = False  # pictures of patients, which the report is to have none of
    files: tuple[str, ...] = ()  # default: pdf, png and csv of the figure


def page(run: str, sections: Sequence[Section], synthetic: bool) -> str:
    """The whole document."""
    banner = (
        '<p class="banner" role="note">Synthetic data: everything below was computed on made-up '
        "images and says nothing about real ones.</p>"
        if synthetic
        else ""
    )
    links = "".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in sections)
    chapters = "".join(
        f'<section id="{s.anchor}">\n<h2>{escape(s.title)}</h2>\n{s.body}\n</section>\n'
        for s in sections
    )
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    )
    style = (ASSETS / "report.css").read_text(encoding="utf-8")
    script = (ASSETS / "report.js").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>SWiFT workflow: {escape(run)}</title>\n<style>\n{style}</style>\n</head>\n"
        '<body>\n<nav aria-label="Contents"><strong>SWiFT workflow</strong>'
        f"<ul>{links}</ul></nav>\n"
        f"<main>\n<h1>Results of run “{escape(run)}”</h1>\n{banner}\n{chapters}</main>\n"
        '<dialog id="zoom" aria-label="Enlarged figure"><img alt=""></dialog>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def grid(frame: pd.DataFrame, name: str, caption: str, decimals: int = 3) -> str:
    """A plain frame with a heading; where it is empty a sentence says so."""
    head = f"<h3>{escape(caption)}</h3>\n"
    if frame.empty:
        return f"{head}<p>Nothing.</p>\n"
    many = ' class="many"' if len(frame) > MANY_ROWS else ""
    table = render.frame_html(frame, name, decimals)
    return f'{head}<div class="scroll"><div{many}>{table}</div></div>\n'


def bullets(sentences: Iterable[str]) -> str:
    """Sentences as a list."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>\n"


def missing(failed: Sequence[Sequence[str]], left_out: Sequence[Sequence[str]]) -> str:
    """What a report goes without after a run in which jobs failed (run/unfinished.py).

    Args:
        failed: (job, why, its log).
        left_out: (table or figure, setup, methods).
    """
    said = (
        "<p>Some jobs of this run failed. All that needs them is left out below; a method is shown "
        "where all its folds are there. When the cause is mended the same command makes the rest, "
        "and the whole report.</p>\n"
    )
    jobs = pd.DataFrame([*failed], columns=["job", "why", "log"])
    gone = pd.DataFrame([*left_out], columns=["table or figure", "setup", "without"])
    return said + grid(jobs, "failed", "Jobs that failed") + grid(gone, "gone", "Left out")


def fragment(path: Path) -> str:
    """The body of one of the run's own HTML files."""
    text = read_text(path)
    start, end = text.find("<body>"), text.rfind("</body>")
    if start < 0 or end < start:
        raise damaged(path, "it is not one of this workflow's HTML files")
    return text[start + len("<body>") : end].strip() + "\n"


def image(path: Path, alternative: str) -> str:
    """A PNG inside the page, with its size so that nothing jumps."""
    data = path.read_bytes()
    if not _is_whole_png(data):
        raise damaged(path, "it is no whole PNG file")
    width, height = struct.unpack(">II", data[16:24])
    source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
    size = f'width="{width}" height="{height}"'
    return f'<img src="{source}" {size} alt="{escape(alternative, quote=True)}">'


def _is_whole_png(data: bytes) -> bool:
    """Whether all chunks of a PNG file are there and fit their checksums."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    place, name = 8, b""
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        name, end = data[place + 4 : place + 8], place + 8 + length
        if data[end : end + 4] != struct.pack(">I", zlib.crc32(data[place + 4 : end])):
            return False
        place = end + 4
    return name == b"IEND" and place == len(data)


def software(requirements: Path) -> pd.DataFrame:
    """Pinned versions beside those that this job found."""
    rows = [("python", "", platform.python_version())]
    for line in requirements.read_text(encoding="utf-8").splitlines():
        name, _, pinned = line.partition("#")[0].strip().partition("==")
        if pinned:
            rows.append((name, pinned, _installed(name)))
    return pd.DataFrame(rows, columns=["package", "pinned", "here"])


def found_here(versions: pd.DataFrame) -> dict[str, str]:
    """Package -> version, of what `software` found in this job's environment."""
    found = versions[versions["here"] != ABSENT]
    return dict(zip(found["package"], found["here"], strict=True))


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ABSENT


def configuration(
    settings: Mapping[str, Any], versions: pd.DataFrame, origin: Mapping[str, str]
) -> str:
    """Seed, folds, all settings but paths, where both come from, and software versions.

    Args:
        settings: all of them.
        versions: what `software` gives.
        origin: what is said of the code and of the configuration's files (`origin.facts`).
    """
    text = settings_text(settings)
    experiments = settings["experiments"].values()
    panels = [(experiment, panel) for experiment in experiments for panel in experiment["panels"]]
    methods = {m for experiment, panel in panels for m in panel["methods"] or experiment["methods"]}
    facts = {
        "run": settings["run"],
        "seed": settings["seed"],
        "folds": settings["folds"],
        "tasks": ", ".join(dict.fromkeys(title(panel["task"]) for _, panel in panels)),
        "networks": ", ".join(dict.fromkeys(title(panel["backbone"]) for _, panel in panels)),
        "attributes": ", ".join(dict.fromkeys(title(panel["attribute"]) for _, panel in panels)),
        "methods": f"{len(methods)}, variants included",
        "platform": platform.machine(),
        "settings": f"sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]}",
        **origin,
    }
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    return (
        f'<dl class="facts">{items}</dl>\n'
        f"<details><summary>All settings</summary><pre>{escape(text)}</pre></details>\n"
        f"<details><summary>Software</summary>{render.frame_html(versions, 'software')}</details>"
    )


def settings_text(settings: Mapping[str, Any]) -> str:
    """All settings as YAML, without what must not be handed on."""
    return yaml.safe_dump(sharing.shown(settings), sort_keys=False, allow_unicode=True, width=100)


def result_tables(files: Iterable[Path]) -> str:
    """The tables as the run wrote them."""
    return "".join(fragment(path) for path in files) or "<p>None.</p>"


def contact_sheets(sheets: Iterable[Path], pictures: bool) -> str:
    """Random images of each measured skin type, one sheet a data set.

    Args:
        sheets: `skin_tone/{dataset}.png`.
        pictures: whether the report may show images.
    """
    shown = [
        Shown(
            f"skin_tone-{path.stem}",
            f"Measured skin types, {title(path.stem)}",
            "Random images of each type: do eyes agree? Light skin under bluish light may be "
            "called dark (skin_tone.angle).",
            path,
            not pictures,
            (f"skin_tone/{path.name}",),
        )
        for path in sheets
    ]
    return figure_gallery(shown)


def figure_gallery(figures: Iterable[Shown]) -> str:
    """The figures, each with its caption and the names of its files."""
    parts = []
    for shown in figures:
        digits = shown.name.removeprefix("figure")
        name = f"Figure {digits}. {shown.title}" if digits.isdigit() else shown.title
        own = [f"figures/{shown.name}.{suffix}" for suffix in ("pdf", "png", "csv")]
        files = ", ".join(shown.files or own)
        drawing = (
            "<p>Shows images, which this page does not (<code>report: images: false</code>); "
            "it is in the run's folder.</p>"
            if shown.hidden
            else '<button type="button" class="zoom" title="Enlarge">'
            f"{image(shown.png, name)}</button>"
        )
        parts.append(
            f'<figure id="figure-{escaping.anchor(shown.name)}">\n{drawing}\n'
            f"<figcaption><strong>{escape(name)}.</strong> {escape(shown.caption)} "
            f'<span class="files">{escape(files)}</span></figcaption>\n</figure>\n'
        )
    return "".join(parts) or "<p>None.</p>"
