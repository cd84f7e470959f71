"""A plain frame in the five formats of the run's tables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd

from ..files import write_text
from . import escaping, render


def write(
    name: str,
    title: str,
    caption: Sequence[str],
    frame: pd.DataFrame,
    shown: pd.DataFrame,
    folder: Path,
) -> list[Path]:
    """Write `{name}.csv`, `.md`, `.tex`, `.html` and `.txt`; returns their paths.

    Args:
        name: of the files.
        title, caption: what stands above.
        frame: for machines: the csv.
        shown: for people; without rows the caption says why.
        folder: of the tables.
    """
    texts = {
        "csv": escaping.csv(frame),
        "md": _markdown(title, caption, shown),
        "tex": _latex(name, title, caption, shown),
        "html": render.page(title, _html(name, title, caption, shown)),
        "txt": _text(title, caption, shown),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        write_text(folder / f"{name}.{suffix}", text)
    return [folder / f"{name}.{suffix}" for suffix in texts]


def _markdown(title: str, caption: Sequence[str], shown: pd.DataFrame) -> str:
    lines = [f"### {escaping.markdown(title)}", "", *(f"- {escaping.markdown(c)}" for c in caption)]
    grid = ["", render.frame_markdown(shown).rstrip()] if len(shown) else []
    return "\n".join([*lines, *grid]) + "\n"


def _html(name: str, title: str, caption: Sequence[str], shown: pd.DataFrame) -> str:
    parts = [
        f'<section class="result-table" id="{escaping.anchor(name)}">',
        f"<h3>{escape(title)}</h3>",
        *(f"<p>{escape(line)}</p>" for line in caption),
    ]
    if len(shown):
        grid = render.frame_html(shown, f"{escaping.anchor(name)}-0")
        parts.append(f'<div class="scroll">{grid}</div>')
    return "\n".join([*parts, "</section>"]) + "\n"


def _latex(name: str, title: str, caption: Sequence[str], shown: pd.DataFrame) -> str:
    right = ["r" if pd.api.types.is_numeric_dtype(kind) else "l" for kind in shown.dtypes]
    above = " ".join([f"{title.rstrip('.')}.", *caption])
    lines = [
        "% \\usepackage{booktabs,graphicx}",
        "\\begin{table*}[t]",
        "\\centering",
        f"\\caption{{{escaping.latex(above)}}}",
        f"\\label{{tab:{escaping.anchor(name)}}}",
    ]
    if len(shown):
        rows = [list(shown.columns), *shown.itertuples(index=False, name=None)]
        head, *body = [
            " & ".join(escaping.latex(render.plain(value)) for value in row) + " \\\\"
            for row in rows
        ]
        lines += ["\\resizebox{\\textwidth}{!}{%", f"\\begin{{tabular}}{{{''.join(right)}}}"]
        lines += ["\\toprule", head, "\\midrule", *body, "\\bottomrule", "\\end{tabular}}"]
    return "\n".join([*lines, "\\end{table*}"]) + "\n"


def _text(title: str, caption: Sequence[str], shown: pd.DataFrame) -> str:
    lines = [escaping.one_line(title), *map(escaping.one_line, caption)]
    if len(shown):
        rows = [[str(c) for c in shown.columns]]
        rows += [[render.plain(value) for value in row] for row in shown.itertuples(index=False)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(shown.columns))]
        lines.append("")
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"
