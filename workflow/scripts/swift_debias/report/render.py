"""Tables as csv, Markdown, LaTeX, HTML and text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..evaluation.cells import KEYS, Block
from ..evaluation.words import DECIMALS, HIGHER_IS_BETTER, LOWER_IS_BETTER, arrow, number, title
from ..files import write_text
from . import escaping
from .tables import Table


def ranks(values: Sequence[float], metric: str, shared: Sequence[bool] = ()) -> list[int]:
    """1 for the best value, 2 for the second, 0 for the others, NaN and metrics without a better.

    Values that are equal at the printed precision share a rank, and those that are `shared`
    (plausibility.py: gaps below their noise floor) share the first one.
    """
    if metric not in HIGHER_IS_BETTER | LOWER_IS_BETTER:
        return [0] * len(values)
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    printed = [sign * round(float(v), DECIMALS.get(metric, 3)) for v in values]
    for place in np.flatnonzero(shared):
        if not np.isnan(printed[place]):
            printed[place] = -np.inf
    order = sorted({v for v in printed if not np.isnan(v)})
    return [order.index(v) + 1 if v in order[:2] else 0 for v in printed]


class Entry(NamedTuple):
    """One printed cell."""

    mean: str
    std: str  # '' where there is none
    published: str  # '' where there is none
    rank: int  # 1 best, 2 second, 0 neither
    marks: str = ""  # letters of the checks that concern it: 'c,k'


def entries(table: Table, block: Block) -> list[list[Entry]]:
    """The printed cells of a block: one row a method, one column a (test set, metric).

    A number that is not to be ranked (`plausibility`) leaves its place to the next one. Those that
    share the first place keep it, but none of them is printed as the best.
    """
    values = table.cells[["mean", "std", "published_mean", "published_std"]].to_numpy(float)
    found = dict(zip(table.cells[KEYS].itertuples(index=False, name=None), values, strict=True))
    columns = []
    for dataset in block.datasets:
        for metric in block.metrics:
            keys = [(*block[:3], method, dataset, metric) for method in block.methods]
            ranked = [found[k][0] if table.marks.ranked(k) else float("nan") for k in keys]
            shared = [table.marks.shared(key) for key in keys]
            places = ranks(ranked, metric, shared) if table.best else [0] * len(keys)
            places = [0 if s else place for s, place in zip(shared, places, strict=True)]
            letters = [",".join(one.letter for one in table.marks.about(key)) for key in keys]
            column = [
                _entry(found[key], metric, place, marks)
                for key, place, marks in zip(keys, places, letters, strict=True)
            ]
            columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]


def _entry(values: np.ndarray, metric: str, rank: int, marks: str) -> Entry:
    mean, std, published, published_std = values
    beside = f"{number(published, metric)} ± {number(published_std, metric)}"
    return Entry(
        number(mean, metric),
        "" if np.isnan(std) else number(std, metric),
        "" if np.isnan(published) else beside,
        rank,
        "" if np.isnan(mean) else marks,
    )


def heading(block: Block) -> str:
    """What a block is about: 'Skin tone (Skin lesions, ResNet-50)'."""
    return f"{title(block.attribute)} ({title(block.task)}, {title(block.backbone)})"


def _numbered(table: Table) -> str:
    digits = table.name.removeprefix("table")
    return f"Table {digits}. {table.title}" if digits.isdigit() else table.title


def legend(table: Table) -> list[tuple[str, str]]:
    """(letter, what it means) of the marks in a table."""
    return [(one.letter, one.meaning) for one in table.legend]


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, one grid a block."""
    lines = [f"### {escaping.markdown(_numbered(table))}", "", table.caption, ""]
    for block in table.blocks:
        columns = [
            escaping.markdown(f"{title(dataset)} {title(metric)} {arrow(metric)}")
            for dataset in block.datasets
            for metric in block.metrics
        ]
        lines += [f"**{escaping.markdown(heading(block))}**", "", _pipe(["Method", *columns])]
        lines.append(_pipe(["---", *["---:"] * len(columns)]))
        for method, row in zip(block.methods, entries(table, block), strict=True):
            name = escaping.markdown(table.titles.get(method, method))
            lines.append(_pipe([name, *map(_markdown_cell, row)]))
        lines.append("")
    lines += [f"- <sup>{letter}</sup> {meaning}" for letter, meaning in legend(table)]
    lines += [f"- {escaping.markdown(remark)}" for remark in table.remarks]
    lines += [f"- Note: {escaping.markdown(note)}" for note in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def _pipe(parts: Sequence[str]) -> str:
    return "| " + " | ".join(parts) + " |"


def _markdown_cell(entry: Entry) -> str:
    marks = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}
    text = marks[entry.rank].format(entry.mean) + (f" ± {entry.std}" if entry.std else "")
    text += f" <sup>{entry.marks}</sup>" if entry.marks else ""
    return text + (f" <sub>({entry.published})</sub>" if entry.published else "")


def latex(table: Table) -> str:
    """The table for a two-column journal; needs the packages booktabs, xcolor and graphicx."""
    width = max((len(b.datasets) * len(b.metrics) for b in table.blocks), default=1)
    lines = [
        "% \\usepackage{booktabs,xcolor,graphicx}",
        "\\begin{table*}[t]",
        "\\centering",
        f"\\caption{{{escaping.latex(table.title)}. {escaping.latex(table.caption)}}}",
        f"\\label{{tab:{escaping.anchor(table.name)}}}",
        "\\resizebox{\\textwidth}{!}{%",
        f"\\begin{{tabular}}{{l{'c' * width}}}",
        "\\toprule",
    ]
    for place, block in enumerate(table.blocks):
        lines += ["\\midrule"] * (place > 0) + _latex_block(table, block, width)
    lines += ["\\bottomrule", "\\end{tabular}}"]
    raised = [
        f"\\textsuperscript{{{letter}}}~{escaping.latex(meaning)}"
        for letter, meaning in legend(table)
    ]
    lines += [f"\\par\\smallskip{{\\footnotesize {'; '.join(raised)}.}}"] * bool(raised)
    lines += [
        f"\\par\\smallskip{{\\footnotesize {escaping.latex(remark)}}}" for remark in table.remarks
    ]
    lines.append("\\end{table*}")
    lines += [f"% note: {escaping.one_line(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def _latex_block(table: Table, block: Block, width: int) -> list[str]:
    span, used = len(block.metrics), len(block.datasets) * len(block.metrics)
    padding = [""] * (width - used)
    starts = [2 + span * i for i in range(len(block.datasets))]
    spanners = [
        f"\\multicolumn{{{span}}}{{c}}{{{escaping.latex(title(d))}}}" for d in block.datasets
    ]
    metrics = [f"{escaping.latex(title(m))} {escaping.latex(arrow(m))}" for m in block.metrics]
    lines = [
        f"\\multicolumn{{{width + 1}}}{{l}}{{\\textbf{{{escaping.latex(heading(block))}}}}} \\\\",
        " & ".join(["", *spanners, *padding]) + " \\\\",
        " ".join(f"\\cmidrule(lr){{{start}-{start + span - 1}}}" for start in starts),
        " & ".join(["Method", *metrics * len(block.datasets), *padding]) + " \\\\",
        "\\midrule",
    ]
    for method, row in zip(block.methods, entries(table, block), strict=True):
        name = escaping.latex(table.titles.get(method, method))
        lines.append(" & ".join([name, *map(_latex_cell, row), *padding]) + " \\\\")
    return lines


def _latex_cell(entry: Entry) -> str:
    marks = {0: "{}", 1: "\\textbf{{{}}}", 2: "\\underline{{{}}}"}
    text = marks[entry.rank].format(escaping.latex(entry.mean))
    if entry.std:
        text += f"{{\\scriptsize$\\,\\pm\\,${entry.std}}}"
    if entry.marks:
        text += f"\\textsuperscript{{{entry.marks}}}"
    if entry.published:
        text += f" {{\\tiny\\color{{gray}}({escaping.latex(entry.published)})}}"
    return text


def html(table: Table) -> str:
    """The table as an HTML fragment that loads nothing: a section with one grid a block."""
    from great_tables import GT

    parts = [
        f'<section class="result-table" id="{escaping.anchor(table.name)}">',
        f"<h3>{escape(_numbered(table))}</h3>",
        f"<p>{escape(table.caption)}</p>",
    ]
    for place, block in enumerate(table.blocks):
        columns = {f"{d}:{m}": (d, m) for d in block.datasets for m in block.metrics}
        rows = [[_html_cell(entry) for entry in row] for row in entries(table, block)]
        frame = pd.DataFrame(rows, columns=list(columns))
        frame.insert(0, "Method", [table.titles.get(m, m) for m in block.methods])
        grid = GT(frame, rowname_col="Method", id=f"{escaping.anchor(table.name)}-{place}")
        grid = grid.tab_header(title=heading(block)).tab_stubhead(label="Method")
        for dataset in filter(None, block.datasets):
            spanned = [column for column, (d, _) in columns.items() if d == dataset]
            grid = grid.tab_spanner(label=_html_label(title(dataset)), columns=spanned, id=dataset)
        for column, (_, metric) in columns.items():
            grid = grid.cols_label({column: _html_label(f"{title(metric)} {arrow(metric)}")})
        grid = grid.fmt(escape, columns="Method")  # great_tables 0.22 leaves that to us
        grid = grid.fmt(str, columns=list(columns)).cols_align("center", columns=list(columns))
        parts.append(grid.as_raw_html())
    if table.legend:
        items = "; ".join(f"<sup>{letter}</sup> {escape(text)}" for letter, text in legend(table))
        parts.append(f'<p class="marks">{items}.</p>')
    parts += [f'<p class="remark">{escape(remark)}</p>' for remark in table.remarks]
    if table.notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
        parts.append(f"<details><summary>Notes</summary><ul>{items}</ul></details>")
    return "\n".join([*parts, "</section>"]) + "\n"


def _html_label(text: str) -> Any:
    """A heading for great_tables, which would take braces for units, and then escapes nothing."""
    from great_tables import html as raw

    return raw(escape(text).replace("{", "&#123;"))


def _html_cell(entry: Entry) -> str:
    marks = {0: "{}", 1: "<b>{}</b>", 2: "<u>{}</u>"}
    text = marks[entry.rank].format(entry.mean)
    if entry.std:
        text += f" ± {entry.std}"
    if entry.marks:
        text += f" <sup>{entry.marks}</sup>"
    if entry.published:
        text += f'<br><small style="color:#767676">{entry.published}</small>'
    return text


def page(name: str, body: str) -> str:
    """A whole HTML document around a fragment; opens offline."""
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{escape(name)}</title>\n"
        "<style>body{font-family:system-ui,sans-serif;margin:2rem;color:#222}"
        "table.frame{border-collapse:collapse}.frame td,.frame th{padding:.3rem .6rem;"
        "text-align:left;vertical-align:top;border-bottom:1px solid #ddd}</style></head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    )


def terminal(table: Table) -> str:
    """The means in plain text, best marked with *, for the end of a run."""
    numbered = escaping.one_line(_numbered(table))
    lines = [numbered + (" [synthetic data]" if table.synthetic else "")]
    for block in table.blocks:
        names = [escaping.one_line(table.titles.get(m, m)) for m in block.methods]
        first = max(len(name) for name in [*names, "Method"]) + 2
        labels = [title(metric) for metric in block.metrics]
        texts = [[_terminal_cell(entry) for entry in row] for row in entries(table, block)]
        widths = [len(label) + 2 for label in labels]
        wide = max(8, *widths, *(len(text) + 1 for row in texts for text in row))
        lines += ["", escaping.one_line(heading(block))]
        spanners = [escaping.one_line(title(d)).center(wide * len(labels)) for d in block.datasets]
        if any(block.datasets):
            lines.append((" " * first + "".join(spanners)).rstrip())
        header = "".join(label.rjust(wide) for label in labels) * len(block.datasets)
        lines.append("Method".ljust(first) + header)
        for name, row in zip(names, texts, strict=True):
            lines.append(name.ljust(first) + "".join(text.rjust(wide) for text in row))
    lines += [""] * bool(table.legend) + [f"^{letter}: {text}" for letter, text in legend(table)]
    lines += [""] * bool(table.remarks) + [escaping.one_line(text) for text in table.remarks]
    return "\n".join(lines) + "\n"


def _terminal_cell(entry: Entry) -> str:
    best = "*" if entry.rank == 1 else ""
    return best + entry.mean + (f"^{entry.marks}" if entry.marks else "")


FORMATS = ("csv", "md", "tex", "html", "txt")  # of a table


def texts(table: Table) -> dict[str, str]:
    """Format -> the table in it."""
    return {
        "csv": escaping.csv(table.cells),
        "md": markdown(table),
        "tex": latex(table),
        "html": page(table.title, html(table)),
        "txt": terminal(table),
    }


def write(table: Table, folder: Path) -> list[Path]:
    """Write `{name}.csv`, `.md`, `.tex`, `.html` and `.txt`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {folder / f"{table.name}.{suffix}": text for suffix, text in texts(table).items()}
    for path, text in written.items():
        write_text(path, text)
    return [*written]


def frame_markdown(frame: pd.DataFrame, decimals: int = 3) -> str:
    """A plain frame as a Markdown grid."""
    rows = [
        [escaping.markdown(plain(value, decimals)) for value in row]
        for row in frame.itertuples(index=False)
    ]
    rule = ["---:" if pd.api.types.is_numeric_dtype(kind) else "---" for kind in frame.dtypes]
    return (
        "\n".join(map(_pipe, [[escaping.markdown(str(c)) for c in frame.columns], rule, *rows]))
        + "\n"
    )


def frame_html(frame: pd.DataFrame, name: str, decimals: int = 3) -> str:
    """A plain frame as an HTML grid with class `frame` and the given id; cells are escaped."""
    texts = frame.map(lambda value: plain(value, decimals))
    with pd.option_context("display.max_colwidth", None):
        return texts.to_html(index=False, border=0, classes="frame", table_id=name) + "\n"


def plain(value: Any, decimals: int = 3) -> str:
    """A value of a plain frame as text."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    number = isinstance(value, int | np.integer)
    return f"{value:,}" if number else escaping.one_line(str(value))
