"""Tables: cells over folds, beside the published values, as csv, Markdown, LaTeX, HTML and text.

Everything is read from the tidy metrics table (task, backbone, attribute, method, fold, dataset,
metric, value, n, reason); nothing is recomputed here. A table is a *view* of the config: blocks of
(task, backbone, attribute), rows are methods, columns are test set x metric, as in the paper.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .job import write_text
from .settings import UserError

KEYS = ["task", "backbone", "attribute", "method", "dataset", "metric"]
CSV_COLUMNS = ["table", *KEYS, "mean", "std", "n_folds", "published_mean", "published_std"]

HIGHER_IS_BETTER = {"auc", "auc_min", "accuracy", "balanced_accuracy"}
LOWER_IS_BETTER = {
    *("spd", "eodds", "eodds_max", "eodds_signed", "eopp", "auc_gap", "ece", "brier"),
    *("seconds", "peak_memory_mb", "images_seen"),
}

_TITLES = {
    "auc": "AUC",
    "auc_min": "Min. AUC",
    "auc_gap": "Gap AUC",
    "spd": "SPD",
    "eodds": "EOdds",
    "eodds_max": "EOdds (max)",
    "eodds_signed": "EOdds (signed)",
    "eopp": "EOpp",
    "ece": "ECE",
    "brier": "Brier score",
    "tpr": "TPR",
    "fpr": "FPR",
    "n": "Images",
    "seconds": "Seconds",
    "peak_memory_mb": "Peak memory (MB)",
    "images_seen": "Images seen",
    "parameters_changed": "Parameters changed",
    "isic2017": "ISIC 2017",
    "isic2018": "ISIC 2018",
    "isic2019": "ISIC 2019",
    "isic2020": "ISIC 2020",
    "mimic_cxr": "MIMIC-CXR",
    "fitzpatrick17k": "Fitzpatrick-17k",
    "ddi": "DDI",
    "atlas": "Atlas",
    "pad_ufes_20": "PAD-UFES-20",
    "chexpert": "CheXpert",
    "nih": "NIH ChestX-ray14",
    "resnet50": "ResNet-50",
    "efficientnet_b3": "EfficientNet-B3",
    "densenet121": "DenseNet-121",
    "small_resnet": "small ResNet",
    "small_densenet": "small DenseNet",
    "skin_tone_6": "Skin tone, six types",
    "age_5": "Age, five bands",
    "skin": "Skin lesions",
    "cxr": "Chest X-rays",
}
_DECIMALS = {"seconds": 1, "peak_memory_mb": 0, "images_seen": 0, "parameters_changed": 0, "n": 0}
MISSING = "–"


# --- cells ----------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """One table cell: mean and sample standard deviation over the folds that have a value."""

    mean: float  # NaN where no fold has a value
    std: float  # NaN with fewer than two folds
    n_folds: int  # folds that have a value
    n_null: int  # folds that have none
    reason: str | None  # why not, or what the value leaves out; the first fold's that has one


EMPTY = Cell(float("nan"), float("nan"), 0, 0, "not computed in this run")


def summarize(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation (n - 1) over folds of every cell [paper's format].

    Args:
        metrics: columns of KEYS, fold, value, reason.

    Returns:
        One row a cell: KEYS, mean, std, n_folds, n_null, reason.
    """
    plain = metrics.astype(dict.fromkeys(KEYS, "object"))
    groups = plain.groupby(KEYS, sort=True)["value"]
    cells = groups.agg(mean="mean", std="std", n_folds="count", rows="size").reset_index()
    cells["n_null"] = cells.pop("rows") - cells["n_folds"]
    reasons = plain[plain["reason"].notna()].groupby(KEYS)["reason"].first().reset_index()
    return cells.merge(reasons, on=KEYS, how="left")


def lookup(metrics: pd.DataFrame) -> dict[tuple[str, ...], Cell]:
    """Every cell by its key (task, backbone, attribute, method, dataset, metric)."""
    frame = summarize(metrics)
    frame["reason"] = frame["reason"].astype("object").where(frame["reason"].notna(), None)
    values = frame[["mean", "std", "n_folds", "n_null", "reason"]].itertuples(index=False)
    keys = frame[KEYS].itertuples(index=False, name=None)
    return {key: Cell(*row) for key, row in zip(keys, values, strict=True)}


def cell(cells: Mapping[tuple[str, ...], Cell], *key: str) -> Cell:
    """The cell of (task, backbone, attribute, method, dataset, metric), or `EMPTY`."""
    return cells.get(key, EMPTY)


def read_published(path: Path) -> pd.DataFrame:
    """The paper's numbers: table, KEYS, mean, std; the same cell may stand in several tables."""
    published = pd.read_csv(path, dtype=dict.fromkeys(KEYS, "object"))
    missing = sorted({"table", *KEYS, "mean", "std"} - set(published.columns))
    if missing:
        raise UserError(f"{path}: columns missing: {', '.join(missing)}")
    return published


def published_lookup(published: pd.DataFrame) -> dict[tuple[str, ...], Cell]:
    """The published cells by the key of `lookup`; five folds each [paper, Section 4.1]."""
    keys = published[KEYS].itertuples(index=False, name=None)
    values = published[["mean", "std"]].itertuples(index=False, name=None)
    return {key: Cell(mean, std, 5, 0, None) for key, (mean, std) in zip(keys, values, strict=True)}


# --- tables ---------------------------------------------------------------------------------------


class Block(NamedTuple):
    """One part of a view: the rows (methods) and columns (test sets x metrics).

    `Block(**panel) for panel in settings.blocks(view)` makes them.
    """

    task: str
    backbone: str
    attribute: str
    datasets: Sequence[str]
    methods: Sequence[str]
    metrics: Sequence[str]

    def cell_keys(self) -> list[tuple[str, ...]]:
        """Keys of the block's cells, row by row."""
        return [
            (self.task, self.backbone, self.attribute, method, dataset, metric)
            for method in self.methods
            for dataset in self.datasets
            for metric in self.metrics
        ]


@dataclass(frozen=True)
class Table:
    """A table ready to be written.

    `cells` has the CSV columns, one row a cell; `notes` says what is missing or left out;
    `titles` names the methods.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    cells: pd.DataFrame
    notes: tuple[str, ...]
    titles: Mapping[str, str]
    synthetic: bool = False
    best: bool = True

    @property
    def caption(self) -> str:
        """What the numbers are, for below the title."""
        folds = sorted({int(n) for n in self.cells["n_folds"] if n > 0})
        count = "no" if not folds else " to ".join(str(n) for n in sorted({folds[0], folds[-1]}))
        parts = [f"Mean ± sample standard deviation over {count} fold{'s' * (count != '1')}."]
        if self.best:
            parts.append("Best in bold, second underlined; equal at the printed precision share.")
        if self.synthetic:
            parts.insert(0, "Synthetic data: not comparable with the paper.")
        elif self.cells["published_mean"].notna().any():
            parts.append("Grey: published (Yan et al., MELBA 2025).")
        return " ".join(parts)


def assemble(
    name: str,
    title: str,
    parts: Sequence[Block],
    ours: Mapping[tuple[str, ...], Cell],
    theirs: Mapping[tuple[str, ...], Cell],
    titles: Mapping[str, str],
    synthetic: bool,
    best: bool = True,
) -> Table:
    """A table of the cells of `parts`, ours beside theirs.

    Args:
        name: e.g. table1; names the files.
        title: without number.
        parts: the blocks of the table, in order.
        ours: the run's cells (`lookup`).
        theirs: the published cells (`published_lookup`); empty for synthetic data.
        titles: display names of the methods.
        synthetic: the data are made up; the caption says so.
        best: mark the best and the second best.
    """
    keys = list(dict.fromkeys(key for part in parts for key in part.cell_keys()))
    rows, reasons = [], []
    for key in keys:
        own, other = ours.get(key, EMPTY), theirs.get(key, EMPTY)
        rows.append((name, *key, own.mean, own.std, own.n_folds, other.mean, other.std))
        if own.reason:
            folds = f" ({own.n_null} of {own.n_folds + own.n_null} folds)" if own.n_null else ""
            place = " ".join(part for part in (titles.get(key[3], key[3]), *key[4:]) if part)
            reasons.append((f"{'/'.join(key[:3])}: {own.reason}", place + folds))
    frame = pd.DataFrame(rows, columns=CSV_COLUMNS)
    return Table(name, title, tuple(parts), frame, _merge_reasons(reasons), titles, synthetic, best)


def _merge_reasons(reasons: list[tuple[str, str]], shown: int = 4) -> tuple[str, ...]:
    """One line a reason: how many cells it concerns, and the first few of them."""
    lines = []
    for reason, group in groupby(sorted(reasons, key=lambda pair: pair[0]), lambda pair: pair[0]):
        places = [place for _, place in group]
        more = f" and {len(places) - shown} more" if len(places) > shown else ""
        lines.append(f"{reason}: {', '.join(places[:shown])}{more}")
    return tuple(lines)


# --- costs and sizes ------------------------------------------------------------------------------

COSTS = ("seconds", "peak_memory_mb", "images_seen", "parameters_changed")
PRETRAINING = "pretraining"


def read_costs(files: Iterable[Path]) -> pd.DataFrame:
    """What training and debiasing cost, as metrics rows without a data set.

    Args:
        files: `baseline/{task}/{backbone}/fold{fold}/cost.json` and
            `debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/cost.json`, anywhere; each
            an object with some of seconds, peak_memory_mb, images_seen, parameters_changed.

    Returns:
        KEYS, fold, value, n, reason. The Baseline's training has the method `pretraining` and no
        attribute ('').
    """
    rows = []
    for path in sorted(files):
        parts = path.parent.parts
        fold = int(parts[-1].removeprefix("fold"))
        if len(parts) >= 6 and parts[-6] == "debiased":
            keys = (*parts[-5:-1], "")
        else:
            keys = (*parts[-3:-1], "", PRETRAINING, "")
        cost = json.loads(path.read_text())
        for name in COSTS:
            value = cost.get(name)
            rows.append((*keys, name, fold, value, 1, "not recorded" if value is None else None))
    frame = pd.DataFrame(rows, columns=[*KEYS, "fold", "value", "n", "reason"])
    return frame.astype({"value": "float64"})


def cost_table(costs: pd.DataFrame, titles: Mapping[str, str], synthetic: bool) -> Table:
    """Cost of each method beside the Baseline's training, a block a (task, backbone, attribute).

    Args:
        costs: as `read_costs` gives them.
        titles: display names of the methods; their order is the rows' order.
        synthetic: the data are made up; the caption says so.
    """
    training = costs[costs["method"] == PRETRAINING]
    debiasing = costs[costs["method"] != PRETRAINING]
    parts, rows = [], [debiasing]
    for key, group in debiasing.groupby(["task", "backbone", "attribute"]):
        task, backbone, attribute = map(str, key)
        used = set(group["method"])
        methods = (PRETRAINING, *(m for m in titles if m in used))
        parts.append(Block(task, backbone, attribute, ("",), methods, COSTS))
        same = (training["task"] == task) & (training["backbone"] == backbone)
        rows.append(training[same].assign(attribute=attribute))
    return assemble(
        "cost",
        "What training and debiasing cost, a fold",
        parts,
        lookup(pd.concat(rows, ignore_index=True)),
        {},
        {**titles, PRETRAINING: "Baseline (training)"},
        synthetic,
        best=False,
    )


def stage_times(folder: Path) -> pd.DataFrame:
    """What each stage of the run cost, from Snakemake's benchmark files, the longest first.

    Args:
        folder: `benchmarks/`, with `{rule}.tsv` or `{rule}/.../*.tsv`.

    Returns:
        stage, jobs, seconds (summed over jobs), longest job (s), peak memory (MB) of a job.
    """
    jobs = []
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        record = pd.read_csv(path, sep="\t", na_values=["-", "NA"])
        jobs += [(rule, row.s, row.max_rss) for row in record.itertuples()]
    frame = pd.DataFrame(jobs, columns=["stage", "s", "max_rss"])
    stages = frame.groupby("stage", as_index=False).agg(
        jobs=("s", "size"), seconds=("s", "sum"), longest=("s", "max"), peak=("max_rss", "max")
    )
    names = {"longest": "longest job (s)", "peak": "peak memory (MB)"}
    return stages.sort_values("seconds", ascending=False, ignore_index=True).rename(columns=names)


def exclusions(logs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Every rule that left rows out: data set, rule, removed (rows), examples.

    `logs` maps a data set to its manifest log.
    """
    rows = [
        (title(name), rule["rule"], rule["removed"], ", ".join(map(str, rule["examples"])))
        for name, log in logs.items()
        for rule in log["rules"]
        if rule["removed"]
    ]
    return pd.DataFrame(rows, columns=["data set", "rule", "removed", "examples"])


def data_sizes(
    manifests: Mapping[str, pd.DataFrame], logs: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """What is in each data set: rows read and kept, classes, and how much is known.

    Args:
        manifests: data set -> manifest (one row an included image).
        logs: data set -> manifest log, with `rows_read`.
    """
    rows = []
    for dataset, manifest in manifests.items():
        log = logs.get(dataset, {})
        sex = manifest["sex"].value_counts()
        rows.append(
            {
                "data set": title(dataset),
                "rows read": log.get("rows_read"),
                "images": len(manifest),
                "class 0": int((manifest["label"] == 0).sum()),
                "class 1": int((manifest["label"] == 1).sum()),
                "patients": int(manifest["patient_id"].nunique()) or None,
                "female": int(sex.get("female", 0)),
                "male": int(sex.get("male", 0)),
                "age known": int(manifest["age"].notna().sum()),
                "skin type known": int(manifest["fitzpatrick"].notna().sum()),
            }
        )
    counts = ["rows read", "patients"]
    return pd.DataFrame(rows).astype({name: "Int64" for name in counts if rows})


def group_sizes(metrics: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Images and share of class 1 in each attribute group of each test set, from the metrics.

    `groups` names the groups of each attribute, in the order of their indices.
    """
    wanted = metrics["metric"].str.fullmatch(r"(?:n|prevalence)\[\d+\]")
    first = metrics[wanted].drop_duplicates(["task", "attribute", "dataset", "metric"])
    rows = []
    for key, part in first.groupby(["task", "attribute", "dataset"]):
        task, attribute, dataset = map(str, key)
        values = part.set_index("metric")["value"]
        for group, name in enumerate(groups[attribute]):
            rows.append(
                {
                    "task": title(task),
                    "attribute": title(attribute),
                    "test set": title(dataset),
                    "group": name,
                    "images": int(values.get(f"n[{group}]", 0)),
                    "share of class 1": values.get(f"prevalence[{group}]", np.nan),
                }
            )
    return pd.DataFrame(rows)


# --- text -----------------------------------------------------------------------------------------


def title(key: str) -> str:
    """Display name of a metric, data set, backbone, attribute or task."""
    name, bracket, group = key.partition("[")
    shown = _TITLES.get(name) or name.replace("_", " ").capitalize()
    return f"{shown} [{group}" if bracket else shown


def arrow(metric: str) -> str:
    """Which way is better: ↑, ↓ or nothing."""
    if metric in HIGHER_IS_BETTER:
        return "↑"
    return "↓" if metric in LOWER_IS_BETTER else ""


def number(value: float, metric: str) -> str:
    """A value at the precision of its metric."""
    return MISSING if np.isnan(value) else f"{value:,.{_DECIMALS.get(metric, 3)}f}"


def ranks(values: Sequence[float], metric: str) -> list[int]:
    """1 for the best value, 2 for the second, 0 for the others, NaN and metrics without a better.

    Values that are equal at the printed precision share a rank.
    """
    if metric not in HIGHER_IS_BETTER | LOWER_IS_BETTER:
        return [0] * len(values)
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    printed = [sign * round(float(v), _DECIMALS.get(metric, 3)) for v in values]
    order = sorted({v for v in printed if not np.isnan(v)})
    return [order.index(v) + 1 if v in order[:2] else 0 for v in printed]


class Entry(NamedTuple):
    """One printed cell."""

    mean: str
    std: str  # '' where there is none
    published: str  # '' where there is none
    rank: int  # 1 best, 2 second, 0 neither


def entries(table: Table, block: Block) -> list[list[Entry]]:
    """The printed cells of a block: one row a method, one column a (test set, metric)."""
    values = table.cells[["mean", "std", "published_mean", "published_std"]].to_numpy(float)
    found = dict(zip(table.cells[KEYS].itertuples(index=False, name=None), values, strict=True))
    columns = []
    for dataset in block.datasets:
        for metric in block.metrics:
            rows = [found[(*block[:3], method, dataset, metric)] for method in block.methods]
            places = ranks([row[0] for row in rows], metric) if table.best else [0] * len(rows)
            column = [_entry(row, metric, rank) for row, rank in zip(rows, places, strict=True)]
            columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]


def _entry(values: np.ndarray, metric: str, rank: int) -> Entry:
    mean, std, published, published_std = values
    beside = f"{number(published, metric)} ± {number(published_std, metric)}"
    return Entry(
        number(mean, metric),
        "" if np.isnan(std) else number(std, metric),
        "" if np.isnan(published) else beside,
        rank,
    )


def heading(block: Block) -> str:
    """What a block is about: 'Skin tone (Skin lesions, ResNet-50)'."""
    return f"{title(block.attribute)} ({title(block.task)}, {title(block.backbone)})"


def _numbered(table: Table) -> str:
    digits = table.name.removeprefix("table")
    return f"Table {digits}. {table.title}" if digits.isdigit() else table.title


# --- Markdown, LaTeX, HTML, terminal --------------------------------------------------------------


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, one grid a block."""
    lines = [f"### {_numbered(table)}", "", table.caption, ""]
    for block in table.blocks:
        columns = [
            f"{title(dataset)} {title(metric)} {arrow(metric)}".strip()
            for dataset in block.datasets
            for metric in block.metrics
        ]
        lines += [f"**{heading(block)}**", "", _pipe(["Method", *columns])]
        lines.append(_pipe(["---", *["---:"] * len(columns)]))
        for method, row in zip(block.methods, entries(table, block), strict=True):
            lines.append(_pipe([table.titles.get(method, method), *map(_markdown_cell, row)]))
        lines.append("")
    lines += [f"- Note: {note}" for note in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def _pipe(parts: Sequence[str]) -> str:
    return "| " + " | ".join(part.replace("|", "\\|") for part in parts) + " |"


def _markdown_cell(entry: Entry) -> str:
    marks = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}
    text = marks[entry.rank].format(entry.mean) + (f" ± {entry.std}" if entry.std else "")
    return text + (f" <sub>({entry.published})</sub>" if entry.published else "")


_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "–": "--",
        "·": r"$\cdot$",
    }
)


def latex(table: Table) -> str:
    """The table for a two-column journal; needs the packages booktabs, xcolor and graphicx."""
    width = max((len(b.datasets) * len(b.metrics) for b in table.blocks), default=1)
    lines = [
        "% \\usepackage{booktabs,xcolor,graphicx}",
        "\\begin{table*}[t]",
        "\\centering",
        f"\\caption{{{_tex(table.title)}. {_tex(table.caption)}}}",
        f"\\label{{tab:{table.name}}}",
        "\\resizebox{\\textwidth}{!}{%",
        f"\\begin{{tabular}}{{l{'c' * width}}}",
        "\\toprule",
    ]
    for place, block in enumerate(table.blocks):
        lines += ["\\midrule"] * (place > 0) + _latex_block(table, block, width)
    lines += ["\\bottomrule", "\\end{tabular}}", "\\end{table*}"]
    lines += [f"% note: {note}" for note in table.notes]
    return "\n".join(lines) + "\n"


def _latex_block(table: Table, block: Block, width: int) -> list[str]:
    span, used = len(block.metrics), len(block.datasets) * len(block.metrics)
    padding = [""] * (width - used)
    starts = [2 + span * i for i in range(len(block.datasets))]
    spanners = [f"\\multicolumn{{{span}}}{{c}}{{{_tex(title(d))}}}" for d in block.datasets]
    metrics = [f"{_tex(title(m))} {_tex(arrow(m))}" for m in block.metrics]
    lines = [
        f"\\multicolumn{{{width + 1}}}{{l}}{{\\textbf{{{_tex(heading(block))}}}}} \\\\",
        " & ".join(["", *spanners, *padding]) + " \\\\",
        " ".join(f"\\cmidrule(lr){{{start}-{start + span - 1}}}" for start in starts),
        " & ".join(["Method", *metrics * len(block.datasets), *padding]) + " \\\\",
        "\\midrule",
    ]
    for method, row in zip(block.methods, entries(table, block), strict=True):
        name = _tex(table.titles.get(method, method))
        lines.append(" & ".join([name, *map(_latex_cell, row), *padding]) + " \\\\")
    return lines


def _tex(text: str) -> str:
    return text.translate(_LATEX)


def _latex_cell(entry: Entry) -> str:
    marks = {0: "{}", 1: "\\textbf{{{}}}", 2: "\\underline{{{}}}"}
    text = marks[entry.rank].format(_tex(entry.mean))
    if entry.std:
        text += f"{{\\scriptsize$\\,\\pm\\,${entry.std}}}"
    if entry.published:
        text += f" {{\\tiny\\color{{gray}}({_tex(entry.published)})}}"
    return text


def html(table: Table) -> str:
    """The table as an HTML fragment that loads nothing: a section with one grid a block."""
    from great_tables import GT

    parts = [
        f'<section class="result-table" id="{escape(table.name)}">',
        f"<h3>{escape(_numbered(table))}</h3>",
        f"<p>{escape(table.caption)}</p>",
    ]
    for place, block in enumerate(table.blocks):
        columns = {f"{d}:{m}": (d, m) for d in block.datasets for m in block.metrics}
        rows = [[_html_cell(entry) for entry in row] for row in entries(table, block)]
        frame = pd.DataFrame(rows, columns=list(columns))
        frame.insert(0, "Method", [table.titles.get(m, m) for m in block.methods])
        grid = GT(frame, rowname_col="Method", id=f"{table.name}-{place}")
        grid = grid.tab_header(title=heading(block)).tab_stubhead(label="Method")
        for dataset in filter(None, block.datasets):
            spanned = [column for column, (d, _) in columns.items() if d == dataset]
            grid = grid.tab_spanner(label=title(dataset), columns=spanned)
        for column, (_, metric) in columns.items():
            grid = grid.cols_label({column: f"{title(metric)} {arrow(metric)}"})
        grid = grid.fmt(escape, columns="Method")  # great_tables 0.22 leaves that to us
        grid = grid.fmt(str, columns=list(columns)).cols_align("center", columns=list(columns))
        parts.append(grid.as_raw_html())
    if table.notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
        parts.append(f"<details><summary>Notes</summary><ul>{items}</ul></details>")
    return "\n".join([*parts, "</section>"]) + "\n"


def _html_cell(entry: Entry) -> str:
    marks = {0: "{}", 1: "<b>{}</b>", 2: "<u>{}</u>"}
    text = marks[entry.rank].format(entry.mean)
    if entry.std:
        text += f" ± {entry.std}"
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
    lines = [_numbered(table) + (" [synthetic data]" if table.synthetic else "")]
    for block in table.blocks:
        names = [table.titles.get(method, method) for method in block.methods]
        first = max(len(name) for name in [*names, "Method"]) + 2
        labels = [title(metric) for metric in block.metrics]
        wide = max(8, *(len(label) + 2 for label in labels))
        lines += ["", heading(block)]
        spanners = [title(d).center(wide * len(labels)) for d in block.datasets]
        if any(block.datasets):
            lines.append((" " * first + "".join(spanners)).rstrip())
        header = "".join(label.rjust(wide) for label in labels) * len(block.datasets)
        lines.append("Method".ljust(first) + header)
        for name, row in zip(names, entries(table, block), strict=True):
            texts = [("*" if entry.rank == 1 else "") + entry.mean for entry in row]
            lines.append(name.ljust(first) + "".join(text.rjust(wide) for text in texts))
    return "\n".join(lines) + "\n"


def write(table: Table, folder: Path) -> list[Path]:
    """Write `{name}.csv`, `.md`, `.tex`, `.html` and `.txt`; returns their paths."""
    texts = {
        "csv": table.cells.to_csv(index=False, lineterminator="\n", float_format="%.10g"),
        "md": markdown(table),
        "tex": latex(table),
        "html": page(table.title, html(table)),
        "txt": terminal(table),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{table.name}.{suffix}" for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths


# --- plain frames ---------------------------------------------------------------------------------


def frame_markdown(frame: pd.DataFrame, decimals: int = 3) -> str:
    """A plain frame as a Markdown grid."""
    rows = [[_plain(value, decimals) for value in row] for row in frame.itertuples(index=False)]
    rule = ["---:" if pd.api.types.is_numeric_dtype(kind) else "---" for kind in frame.dtypes]
    return "\n".join(map(_pipe, [[str(c) for c in frame.columns], rule, *rows])) + "\n"


def frame_html(frame: pd.DataFrame, name: str, decimals: int = 3) -> str:
    """A plain frame as an HTML grid with class `frame` and the given id; cells are escaped."""
    plain = frame.map(lambda value: _plain(value, decimals))
    with pd.option_context("display.max_colwidth", None):
        return plain.to_html(index=False, border=0, classes="frame", table_id=name) + "\n"


def _plain(value: Any, decimals: int) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)
