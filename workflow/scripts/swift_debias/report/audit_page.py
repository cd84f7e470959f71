"""The page of an audit: one HTML file that loads nothing, for people who have only scores."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

import pandas as pd

from ..evaluation.audit import CRITERIA, RATES
from ..evaluation.metrics import OF_ROWS
from ..evaluation.words import MISSING, title

STYLE = Path(__file__).with_name("assets") / "report.css"
OWN_STYLE = """
body { display: block; }
main { margin: 0 auto; max-width: 72rem; }
td.number { white-space: nowrap; }
td.number small { color: var(--grey); }
td.number svg { display: block; width: 7rem; height: .6rem; }
svg line { stroke: var(--accent); stroke-width: 3; }
svg circle { fill: var(--accent); }
svg rect { fill: #f0edf0; }
p.lead { max-width: 46rem; }
"""
NAMES = {
    "tnr": "TNR (specificity)",
    "fnr": "FNR",
    "f1": "F1",
    "prevalence": "Prevalence of class 1",
    "tpr": "TPR (sensitivity)",
    "ppv": "PPV (precision)",
    "spd": "Demographic parity difference",
    "eopp": "Equal opportunity difference",
    "eodds": "Equalized odds difference (mean)",
    "eodds_max": "Equalized odds difference (larger)",
    "auc_min": "AUC of the worst group",
    "auc_gap": "AUC gap",
}


def page(frame: pd.DataFrame, heading: str, facts: Mapping[str, str]) -> str:
    """The whole document.

    Args:
        frame: as `evaluation.audit.audit` made it.
        heading: of the page.
        facts: what was audited and how, shown at the top.
    """
    rows = {str(row.metric): row for row in frame.itertuples(index=False)}
    groups = [name[2:-1] for name in rows if name.startswith("n[")]
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    body = (
        f"<h1>{escape(heading)}</h1>\n<dl class='facts'>{listed}</dl>\n"
        "<p class='lead'>Brackets are 95 % intervals: how far another sample of such patients "
        "might lie. A difference is the largest value of a group minus the smallest, a "
        "ratio the smallest by the largest; equal treatment is a difference of 0 and a ratio "
        "of 1.</p>\n"
        f"<h2>Images</h2>\n{_counts(rows, groups)}"
        f"<h2>Fairness between the groups</h2>\n{_criteria(rows)}"
        f"<h2>Metrics by group</h2>\n{_metrics(rows, groups)}"
        f"<h2>What to mind</h2>\n{_remarks(frame)}"
    )
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    style = STYLE.read_text(encoding="utf-8") + OWN_STYLE
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(heading)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _counts(rows: Mapping[str, object], groups: list[str]) -> str:
    lines = []
    for name in groups:
        n, positive = (int(_value(rows[f"{key}[{name}]"])) for key in ("n", "n_positive"))
        lines.append([escape(name), f"{n:,}", f"{positive:,}", f"{n - positive:,}"])
    unknown = int(_value(rows["n_unknown"]))
    if unknown:
        lines.append(["unknown, left out", f"{unknown:,}", "", ""])
    return _table(["Group", "Images", "Class 1", "Class 0"], lines)


def _criteria(rows: Mapping[str, object]) -> str:
    reasons = {key: getattr(rows[key], "reason", None) for key in CRITERIA}
    told = {key: "" if pd.isna(reason) else str(reason) for key, reason in reasons.items()}
    lines = [
        [escape(_name(key)), escape(meaning), _cell(rows[key]), escape(told[key])]
        for key, meaning in CRITERIA.items()
    ]
    heads = ["Criterion", "What it is", "Value", "To mind"]
    whole = None if any(told.values()) else -1  # without a last column that is empty
    return _table(heads[:whole], [line[:whole] for line in lines])


def _metrics(rows: Mapping[str, object], groups: list[str]) -> str:
    columns = ["", *(f"[{name}]" for name in groups), "_difference", "_ratio", "_worst"]
    lines = [
        [escape(_name(metric)), *(_cell(rows.get(metric + column)) for column in columns)]
        for metric in [*RATES, *(name for name in OF_ROWS if name not in RATES)]
    ]
    heads = ["Metric", "Overall", *map(escape, groups), "Difference", "Ratio", "Worst group"]
    return _table(heads, lines)


def _remarks(frame: pd.DataFrame) -> str:
    """Every reason once, with the metrics that it concerns."""
    told = frame[frame["reason"].notna()]
    if told.empty:
        return "<p>Nothing.</p>\n"
    lines = [
        [escape(", ".join(map(_name, metrics))), escape(str(reason))]
        for reason, metrics in told.groupby("reason", sort=False)["metric"]
    ]
    return _table(["Metric", "Remark"], lines)


def _table(heads: list[str], lines: list[list[str]]) -> str:
    """A table; cells are HTML already."""
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{first}</th>'
        + "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in rest)
        + "</tr>\n"
        for first, *rest in lines
    )
    return (
        f'<div class="scroll"><table class="frame"><thead><tr>{top}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def _cell(row: object) -> str:
    """A value with its interval, in numbers and drawn between 0 and 1."""
    value = float("nan") if row is None else _value(row)
    reason = getattr(row, "reason", None)
    hint = "" if reason is None or pd.isna(reason) else f' title="{escape(str(reason))}"'
    if pd.isna(value):
        return f'<td class="number"{hint}>{MISSING}</td>'
    low, high = (float(getattr(row, name)) for name in ("low", "high"))
    known = not pd.isna(low)
    interval = f" <small>[{low:.3f}, {high:.3f}]</small>" if known else ""
    line = f'<line x1="{100 * low:.1f}" x2="{100 * high:.1f}" y1="5" y2="5"/>' if known else ""
    drawing = (
        '<svg viewBox="-4 0 108 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect x="0" y="4" width="100" height="2"/>{line}'
        f'<circle cx="{100 * value:.1f}" cy="5" r="4"/></svg>'
    )
    return f'<td class="number"{hint}>{value:.3f}{interval}{drawing}</td>'


def _value(row: object) -> float:
    return float(row.value)  # type: ignore[attr-defined]


def _name(metric: str) -> str:
    base, bracket, group = metric.partition("[")
    return f"{NAMES.get(base) or title(base)}{bracket and ' ['}{group}"
