"""report.html: one page that holds everything and loads nothing.

Styles, script and figures (as data URIs) are inside the file, and a content security policy forbids
it to fetch anything. Tables can be sorted and filtered, figures enlarged. No date is written: the
same results give the same bytes.
"""

from __future__ import annotations

import base64
import importlib.metadata
import platform
import struct
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from . import tables
from .settings import UserError
from .tables import title

MANY_ROWS = 15  # longer tables can be filtered
ASSETS = Path(__file__).with_name("report_assets")


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


# --- building blocks ------------------------------------------------------------------------------


def grid(frame: pd.DataFrame, name: str, caption: str, decimals: int = 3) -> str:
    """A plain frame with a heading; where it is empty a sentence says so."""
    head = f"<h3>{escape(caption)}</h3>\n"
    if frame.empty:
        return f"{head}<p>Nothing.</p>\n"
    many = ' class="many"' if len(frame) > MANY_ROWS else ""
    table = tables.frame_html(frame, name, decimals)
    return f'{head}<div class="scroll"><div{many}>{table}</div></div>\n'


def fragment(path: Path) -> str:
    """The body of one of the run's own HTML files."""
    text = path.read_text(encoding="utf-8")
    start, end = text.find("<body>"), text.rfind("</body>")
    if start < 0 or end < start:
        raise UserError(f"{path} is not one of this workflow's HTML files; delete it and run again")
    return text[start + len("<body>") : end].strip() + "\n"


def image(path: Path, alternative: str) -> str:
    """A PNG inside the page, with its size so that nothing jumps."""
    data = path.read_bytes()
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise UserError(f"{path} is not a PNG file; delete it and run again")
    width, height = struct.unpack(">II", data[16:24])
    source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
    size = f'width="{width}" height="{height}"'
    return f'<img src="{source}" {size} alt="{escape(alternative, quote=True)}">'


# --- what was run ---------------------------------------------------------------------------------


def software(requirements: Path) -> pd.DataFrame:
    """Pinned versions beside those that this job found."""
    rows = [("python", "", platform.python_version())]
    for line in requirements.read_text(encoding="utf-8").splitlines():
        name, _, pinned = line.partition("#")[0].strip().partition("==")
        if pinned:
            rows.append((name, pinned, _installed(name)))
    return pd.DataFrame(rows, columns=["package", "pinned", "here"])


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not in this job's environment"


def configuration(settings: Mapping[str, Any], versions: pd.DataFrame) -> str:
    """Seed, folds, all settings and software versions."""
    views = settings["experiments"].values()
    panels = [(view, panel) for view in views for panel in view["panels"]]
    methods = {m for view, panel in panels for m in panel["methods"] or view["methods"]}
    facts = {
        "run": settings["run"],
        "seed": settings["seed"],
        "folds": settings["folds"],
        "tasks": ", ".join(dict.fromkeys(title(panel["task"]) for _, panel in panels)),
        "networks": ", ".join(dict.fromkeys(title(panel["backbone"]) for _, panel in panels)),
        "attributes": ", ".join(dict.fromkeys(title(panel["attribute"]) for _, panel in panels)),
        "methods": f"{len(methods)}, variants included",
        "platform": platform.machine(),
    }
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=100)
    return (
        f'<dl class="facts">{items}</dl>\n'
        f"<details><summary>All settings</summary><pre>{escape(text)}</pre></details>\n"
        f"<details><summary>Software</summary>{tables.frame_html(versions, 'software')}</details>"
    )


def checked_data(check: Mapping[str, Any]) -> pd.DataFrame:
    """What rule check_data found: a row a data set, beside the official counts.

    Args:
        check: data_check.json.
    """
    rows = []
    for data in check["datasets"]:
        expected = (data.get("expected") or {}).get("label") or {}
        counts = (data.get("counts") or {}).get("label") or {}
        rows.append(
            {
                "data set": title(data["name"]),
                "source": data["origin"]["title"],
                "licence": data["origin"]["licence"],
                "rows read": data["rows_read"],
                "images found": data["images_found"],
                "images missing": data["images_missing"],
                "class 0 / 1": _pair(counts),
                "officially": _pair(expected),
                "in the paper": data.get("paper_images"),
            }
        )
    frame = pd.DataFrame(rows)
    numbers = ["rows read", "images found", "images missing", "in the paper"]
    return frame.astype(dict.fromkeys(numbers, "Int64")) if rows else frame


def _pair(counts: Mapping[str, int]) -> str:
    return " / ".join(f"{counts[k]:,}" for k in ("0", "1")) if {"0", "1"} <= counts.keys() else ""


def external_sizes(files: Iterable[Path]) -> pd.DataFrame:
    """Size of every external set and of its balanced part.

    With more than two groups the two to be balanced are chosen by each Baseline: nothing is said.

    Args:
        files: `external/{task}/{attribute}/fold{fold}.parquet`.
    """
    rows = []
    for path in files:
        frame = pd.read_parquet(path, columns=["label", "attribute", "balanced"])
        cells = frame[frame["balanced"]].groupby(["label", "attribute"]).size()
        rows.append(
            {
                "task": title(path.parts[-3]),
                "attribute": title(path.parts[-2]),
                "fold": int(path.stem.removeprefix("fold")),
                "images": len(frame),
                "balanced": int(cells.sum()) or None,
                "smallest cell": int(cells.min()) if len(cells) else None,
            }
        )
    frame = pd.DataFrame(rows)
    return frame.astype(dict.fromkeys(("balanced", "smallest cell"), "Int64")) if rows else frame


# --- what was left out ----------------------------------------------------------------------------


def cohort_facts(logs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What the duplicate search did, a row a number.

    Args:
        logs: task -> cohorts/{task}.log.json.
    """
    rows = []
    for task, log in logs.items():
        for what, value in log.items():
            parts = value.items() if isinstance(value, Mapping) else [("", value)]
            rows += [
                (title(task), what.replace("_", " "), str(of).replace("_", " "), n)
                for of, n in parts
            ]
    return pd.DataFrame(rows, columns=["task", "what", "of", "images or pairs"])


def metrics_left_out(metrics: pd.DataFrame) -> pd.DataFrame:
    """Every reason for which a metric has no value, or leaves something out, and how often.

    Args:
        metrics: the tidy metrics.
    """
    told = metrics[metrics["reason"].notna()]
    keys = ["task", "attribute", "dataset", "metric", "reason"]
    rows = [
        {
            "task": title(str(key[0])),
            "attribute": title(str(key[1])),
            "test set": title(str(key[2])),
            "metric": title(str(key[3])),
            "why": key[4],
            "without a value": int(part["value"].isna().sum()),
            "with a value": int(part["value"].notna().sum()),
        }
        for key, part in told.groupby(keys)
    ]
    return pd.DataFrame(rows)


def unknown_groups(metrics: pd.DataFrame) -> pd.DataFrame:
    """Test images whose group is unknown: left out of every metric of that attribute."""
    first = metrics[metrics["metric"] == "n_unknown"].drop_duplicates(
        ["task", "attribute", "dataset"]
    )
    frame = pd.DataFrame(
        {
            "task": first["task"].map(title),
            "attribute": first["attribute"].map(title),
            "test set": first["dataset"].map(title),
            "images": first["n"].astype(int),
            "of unknown group": first["value"].astype(int),
        }
    )
    return frame[frame["of unknown group"] > 0]


# --- statistics -----------------------------------------------------------------------------------


def fold_tests(compared: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Paired tests over folds for readers (`statistics.compare`)."""
    if compared.empty:
        return compared
    interval = _ranges(compared, "low", "high", sign="+")
    return pd.DataFrame(
        {
            "table": compared["table"],
            "attribute": compared["attribute"].map(title),
            "network": compared["backbone"].map(title),
            "test set": compared["dataset"].map(title),
            "metric": compared["metric"].map(title),
            "method": compared["method"].map(lambda m: titles.get(m, m)),
            "against": compared["other"].map(lambda m: titles.get(m, m)),
            "folds": compared["n_folds"],
            "difference": compared["difference"],
            "95 % interval (t)": interval,
            "p (t)": compared["p_t"],
            "Holm": compared["p_t_holm"],
            "p (sign flips)": compared["p_permutation"],
            "Holm ": compared["p_permutation_holm"],
            "lowest possible p": compared["p_floor"],
            "remark": compared["reason"],
        }
    )


def _ranges(frame: pd.DataFrame, low: str, high: str, sign: str = "") -> list[str]:
    """Two columns as 'from to to'; '' where there is none."""
    return [
        "" if np.isnan(a) else f"{a:{sign}.3f} to {b:{sign}.3f}"
        for a, b in frame[[low, high]].to_numpy(float)
    ]


def bootstrap_intervals(
    intervals: pd.DataFrame, titles: Mapping[str, str], shown: Sequence[str]
) -> pd.DataFrame:
    """Bootstrap intervals over test images for readers (`statistics.bootstrap`).

    Args:
        intervals: of all cells.
        titles: display names of the methods.
        shown: metrics to show.
    """
    part = intervals[intervals["metric"].isin(shown)]
    return pd.DataFrame(
        {
            "attribute": part["attribute"].map(title),
            "network": part["backbone"].map(title),
            "test set": part["dataset"].map(title),
            "metric": part["metric"].map(title),
            "method": part["method"].map(lambda m: titles.get(m, m)),
            "images": part["n_images"],
            "value": part["value"],
            "95 % interval": _ranges(part, "low", "high"),
            "difference to Baseline": part["difference"].astype(float),
            "its 95 % interval": _ranges(part, "difference_low", "difference_high", sign="+"),
            "remark": part["reason"],
        }
    )


# --- tables and figures ---------------------------------------------------------------------------


def result_tables(files: Iterable[Path]) -> str:
    """The tables as the run wrote them."""
    return "".join(fragment(path) for path in files) or "<p>None.</p>"


def figure_gallery(figures: Iterable[Shown]) -> str:
    """The figures, each with its caption and the names of its files."""
    parts = []
    for shown in figures:
        digits = shown.name.removeprefix("figure")
        name = f"Figure {digits}. {shown.title}" if digits.isdigit() else shown.title
        files = ", ".join(f"figures/{shown.name}.{suffix}" for suffix in ("pdf", "png", "csv"))
        parts.append(
            f'<figure id="figure-{escape(shown.name)}">\n'
            '<button type="button" class="zoom" title="Enlarge">'
            f"{image(shown.png, name)}</button>\n"
            f"<figcaption><strong>{escape(name)}.</strong> {escape(shown.caption)} "
            f'<span class="files">{escape(files)}</span></figcaption>\n</figure>\n'
        )
    return "".join(parts) or "<p>None.</p>"
