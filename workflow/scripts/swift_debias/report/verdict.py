"""Did it reproduce? Every published number and every claim of the paper's text, against this run.

A published cell is compared with ours where we have one. Every claim (claims.py) is judged twice by
the same rule: by the published tables, which shows where the paper's text and its own tables
disagree, and by this run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..config.plan import PAPER_METHODS, paper_names
from ..config.schema import Method
from ..evaluation import plausibility, words
from ..evaluation.cells import KEYS, Block, Cell, cell, lookup
from ..files import write_text
from . import against, escaping, render, unranked
from .claims import Claim, judge
from .evidence import DEFAULT_VARIANT, Ends, Evidence, Instance, Value, ends, overlap
from .published import published_lookup

# --- verdict --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """The answer, as frames.

    cells: table, KEYS, network (ours), published_mean, published_std, mean, std, n_folds,
        difference (ours minus published), overlap (of mean ± std), reason.
    claims: id, section, claim, quote, need, holds_published, published, holds_ours, ours, note.
    instances: id, source ('published' or 'ours'), label, holds, margin, text.
    unranked: columns of the tables whose best number is not to be taken at its word.
    against: how often each method differs from the Baseline (`against.against_baseline`).
    in_words: what happened (`in_words.paragraph`).
    """

    cells: pd.DataFrame
    claims: pd.DataFrame
    instances: pd.DataFrame
    synthetic: bool
    unranked: pd.DataFrame
    against: pd.DataFrame
    in_words: tuple[str, ...] = ()

    @property
    def of_the_paper(self) -> bool:
        """Does the run have a cell of the paper? Without one there is nothing to reproduce."""
        return bool(self.cells["mean"].notna().any())


def reach_verdict(
    metrics: pd.DataFrame,
    published: pd.DataFrame,
    claims: Sequence[Claim],
    panels: Mapping[str, Sequence[Block]],
    methods: Mapping[str, Method],
    epochs_percent: Mapping[str, float],
    synthetic: bool,
    judged: pd.DataFrame | None = None,
    intervals: pd.DataFrame | None = None,
    in_words: Sequence[str] = (),
) -> Verdict:
    """Compare a run with the paper.

    Args:
        metrics: the tidy metrics; rows of costs (`costs.read_costs`) and of masks (`mask_rows`)
            may be appended.
        published: the published tables (`published.read_published`).
        claims: the paper's claims.
        panels: the run's tables, e.g. table1, as blocks; they say which network stands where.
        methods: the run's variants.
        epochs_percent: task -> the default share of epochs of its fine-tuning.
        synthetic: the data are made up: differences to the published numbers mean nothing.
        judged: what is implausible (`plausibility.judge`); None: nothing was looked at.
        intervals: KEYS and the columns of `setup_intervals`; None: there are none.
        in_words: what happened, in sentences.
    """
    borrowed = {name: f"{name} (this run's)" for name in PAPER_METHODS if name in methods}
    # a variant that only borrows the name of a method is set apart
    names = borrowed | paper_names(methods)

    def renamed(frame: pd.DataFrame) -> pd.DataFrame:
        """With the names that the paper's methods have in the claims."""
        return frame.assign(method=frame["method"].map(lambda name: names.get(name, name)))

    methods = {names.get(name, name): method for name, method in methods.items()}
    titles = {name: method.title or name for name, method in methods.items()}
    backbones = stand_ins(published, panels)
    cells = lookup(renamed(metrics))
    marks = plausibility.NO_MARKS if judged is None else plausibility.marks(renamed(judged))
    known: dict[tuple[str, ...], Ends] = {}
    if intervals is not None and not intervals.empty:
        known = ends(renamed(intervals))
    paper = Evidence(
        published=published,
        cells=published_lookup(published),
        backbones={(task, name): name for task, name in backbones},
        sweeps={},
        titles=titles,
        absent="not in the published tables",
        is_paper=True,
    )
    run = replace(
        paper,
        cells=cells,
        backbones=backbones,
        sweeps=_sweeps(methods, epochs_percent),
        absent="not computed in this run",
        is_paper=False,
        marks=marks,
        intervals=known,
    )
    rows, instances = _judge_all(claims, paper, run)
    return Verdict(
        compare_cells(published, cells, backbones, synthetic),
        rows,
        instances,
        synthetic,
        unranked.would_have_won(panels, cells, marks, names, titles),
        against.against_baseline(panels, known, marks, names, titles),
        tuple(in_words),
    )


def _judge_all(
    claims: Sequence[Claim], paper: Evidence, run: Evidence
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row a claim, judged on the published tables and on the run; a row an instance of it."""
    rows: list[tuple[Any, ...]] = []
    instances: list[tuple[Any, ...]] = []
    for claim in claims:
        text, ours = judge(claim, paper), judge(claim, run)
        told = (claim.id, claim.section, claim.claim, claim.quote, str(claim.need))
        found = (text.holds, text.detail, ours.holds, ours.detail)
        rows.append((*told, *found, claim.note))
        for source, outcome in (("published", text), ("ours", ours)):
            instances += [(claim.id, source, *instance) for instance in outcome.instances]
    return (
        pd.DataFrame(rows, columns=CLAIM_COLUMNS, dtype="object"),
        pd.DataFrame(instances, columns=["id", "source", *Instance._fields]),
    )


def _sweeps(
    methods: Mapping[str, Method], epochs_percent: Mapping[str, float]
) -> dict[tuple[str, str], list[tuple[float, str]]]:
    """(task, setting) -> the variants of SWiFT that differ in this setting alone."""
    return {
        (task, setting): variants(methods, setting, default)
        for task, percent in epochs_percent.items()
        for setting, default in (
            ("epochs_percent", percent),
            ("external_fraction", 1.0),
            ("threshold", float("nan")),
        )
    }


CLAIM_COLUMNS = [
    *("id", "section", "claim", "quote", "need"),
    *("holds_published", "published", "holds_ours", "ours", "note"),
]


def stand_ins(
    published: pd.DataFrame, panels: Mapping[str, Sequence[Block]]
) -> dict[tuple[str, str], str]:
    """(task, the paper's network) -> the run's: the one that its table of the same number shows.

    A network that no table of the run shows stays under its own name, and is then not found.
    """
    found: dict[tuple[str, str], str] = {}
    pairs = published[["table", "task", "backbone"]].drop_duplicates()
    for table, task, backbone in pairs.itertuples(index=False):
        for block in panels.get(f"table{table}", ()):
            if block.task == task:
                found.setdefault((task, backbone), block.backbone)
    for _, task, backbone in pairs.itertuples(index=False):
        found.setdefault((task, backbone), backbone)
    return found


def variants(
    methods: Mapping[str, Method], setting: str, default: float
) -> list[tuple[float, str]]:
    """(x, method) of every variant that differs from SWiFT in one numeric setting alone.

    The Baseline is x = 0 (no epochs, no samples), except where the setting is a threshold.
    """
    if DEFAULT_VARIANT not in methods:
        return []

    def rest(method: Method) -> dict[str, Any]:
        return method.model_dump(exclude={"title", setting})

    standard = methods[DEFAULT_VARIANT].model_dump().get(setting)
    found = [(default, DEFAULT_VARIANT)]
    if setting != "threshold" and "baseline" in methods:
        found.append((0.0, "baseline"))
    for name, method in methods.items():
        x = method.model_dump().get(setting)
        alike = rest(method) == rest(methods[DEFAULT_VARIANT])
        if alike and x != standard and isinstance(x, int | float):
            found.append((float(x), name))
    return sorted(found)


def compare_cells(
    published: pd.DataFrame,
    cells: Mapping[tuple[str, ...], Cell],
    backbones: Mapping[tuple[str, str], str],
    synthetic: bool,
) -> pd.DataFrame:
    """Every published cell beside ours; columns as in `Verdict.cells`."""
    rows = []
    numbers = published[["mean", "std"]].to_numpy(float)
    names = published[["table", *KEYS]].itertuples(index=False, name=None)
    for (table, *key), (mean, std) in zip(names, numbers, strict=True):
        network = backbones[key[0], key[1]]
        ours = cell(cells, key[0], network, *key[2:])
        theirs = Value(mean, std)
        difference, agree, reason = None, None, ours.reason
        if not np.isnan(ours.mean) and synthetic:
            reason = "synthetic data: not comparable"
        elif not np.isnan(ours.mean):
            difference, agree = ours.mean - theirs.mean, overlap(ours, theirs)
            reason = "fewer than two folds: no interval" if agree is None else None
        rows.append((table, *key, network, *theirs, *ours[:3], difference, agree, reason))
    columns = ["table", *KEYS, "network", "published_mean", "published_std"]
    columns += ["mean", "std", "n_folds", "difference", "overlap", "reason"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"difference": "float64", "overlap": "object"})


def mask_rows(
    summary: pd.DataFrame, task: str, backbone: str, attribute: str, fold: int
) -> pd.DataFrame:
    """The mean mask of each layer group as metrics rows `mask[group]`, for `reach_verdict`.

    Args:
        summary: `masks.summary` of one fold: group, n, mean; one row a layer.
    """
    weighted = summary.assign(total=summary["mean"] * summary["n"])
    sums = weighted.groupby("group")[["total", "n"]].sum()
    rows = [
        (task, backbone, attribute, DEFAULT_VARIANT, "", f"mask[{group}]", fold, total / n, n)
        for group, total, n in sums.itertuples(name=None)
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "fold", "value", "n"]).assign(reason=None)


# --- text -----------------------------------------------------------------------------------------

NOT_THE_PAPER = "No number of the paper was computed, so that its claims and tables are not judged."

_ANSWERS = {True: "✓ yes", False: "✗ no", None: "– not computed"}


def cell_summary(verdict: Verdict) -> pd.DataFrame:
    """A row a published table and metric: how many numbers, compared, overlapping, how far off."""
    rows = []
    for (table, metric), part in verdict.cells.groupby(["table", "metric"]):
        compared = part["difference"].notna()
        rows.append(
            {
                "table": table,
                "metric": words.title(str(metric)),
                "published numbers": len(part),
                "computed here": int(part["mean"].notna().sum()),
                "compared": int(compared.sum()),
                "intervals overlap": sum(value is True for value in part["overlap"]),
                "mean difference": part["difference"].mean(),
                "mean absolute difference": part["difference"].abs().mean(),
            }
        )
    return pd.DataFrame(rows)


def summary(verdict: Verdict) -> list[str]:
    """The verdict in a few sentences."""
    lines = [*verdict.in_words]
    if not verdict.of_the_paper:
        return [*lines, *unranked.sentences(verdict.unranked), NOT_THE_PAPER]
    if verdict.synthetic:
        lines.append(
            "Synthetic data: the numbers are not compared with the paper's, and what holds here "
            "says nothing about real images."
        )
    for source, column in (("the published tables", "holds_published"), ("this run", "holds_ours")):
        answers = list(verdict.claims[column])
        yes, no = sum(a is True for a in answers), sum(a is False for a in answers)
        rest = len(answers) - yes - no
        lines.append(
            f"Of {len(answers)} claims of the paper's text, {yes} hold in {source}, {no} do not, "
            f"{rest} cannot be computed there."
        )
    lines += against.sentences(verdict.against)
    lines += unranked.sentences(verdict.unranked)
    compared = int(verdict.cells["difference"].notna().sum())
    overlap = sum(value is True for value in verdict.cells["overlap"])
    lines.append(
        f"Of {len(verdict.cells)} published numbers, {compared} are compared; the intervals "
        f"(mean ± standard deviation) of {overlap} overlap."
    )
    return lines


def claim_grid(verdict: Verdict) -> pd.DataFrame:
    """The claims for readers: section, claim, both answers with by how much, note."""
    claims = verdict.claims
    return pd.DataFrame(
        {
            "section": claims["section"],
            "claim": claims["claim"],
            "holds in the published tables": [_ANSWERS[a] for a in claims["holds_published"]],
            "published": claims["published"],
            "holds in this run": [_ANSWERS[a] for a in claims["holds_ours"]],
            "this run": claims["ours"],
            "note": [note or "" for note in claims["note"]],
        }
    )


def disagreements(verdict: Verdict) -> pd.DataFrame:
    """Claims of the text that the paper's own tables do not bear out."""
    failed = verdict.claims[[answer is False for answer in verdict.claims["holds_published"]]]
    return pd.DataFrame(
        {
            "section": failed["section"],
            "the text says": failed["quote"],
            "tested as": failed["claim"],
            "the tables say": failed["published"],
        }
    )


def cell_grid(verdict: Verdict) -> pd.DataFrame:
    """The cells for readers."""
    cells = verdict.cells
    shown = cells[["table"]].copy()
    for name in KEYS:
        shown[name] = cells[name] if name == "method" else cells[name].map(words.title)
    shown["network here"] = cells["network"].map(words.title)
    for name, columns in (
        ("published", ["published_mean", "published_std"]),
        ("ours", ["mean", "std"]),
    ):
        pairs = cells[columns].itertuples(index=False, name=None)
        shown[name] = [_plus_minus(mean, std) for mean, std in pairs]
    shown["difference"] = cells["difference"]
    shown["intervals overlap"] = [{True: "yes", False: "no"}.get(v, "") for v in cells["overlap"]]
    shown["remark"] = [reason or "" for reason in cells["reason"]]
    return shown


def _plus_minus(mean: float, std: float) -> str:
    if np.isnan(mean):
        return words.MISSING
    return f"{mean:.3f}" + ("" if np.isnan(std) else f" ± {std:.3f}")


def _parts(verdict: Verdict) -> list[tuple[str, str, pd.DataFrame]]:
    """(id, heading, frame) of everything shown below the summary."""
    won = [("unranked", "What would have won", unranked.for_readers(verdict.unranked))]
    differences = [("against", "Against the Baseline", verdict.against)]
    paper = [
        ("disagreements", "Where the paper's text and tables disagree", disagreements(verdict)),
        ("claims", "Claims", claim_grid(verdict)),
        ("cell-summary", "Published numbers, in short", cell_summary(verdict)),
        ("cells", "Published numbers, one by one", cell_grid(verdict)),
    ]
    return [
        *(differences if len(verdict.against) else []),
        *(won if len(verdict.unranked) else []),
        *(paper if verdict.of_the_paper else []),
    ]


def markdown(verdict: Verdict) -> str:
    """The whole verdict in Markdown."""
    lines = [
        "# Reproduction verdict",
        "",
        *(f"- {escaping.markdown(line)}" for line in summary(verdict)),
    ]
    for _, heading, frame in _parts(verdict):
        lines += ["", f"## {heading}", "", render.frame_markdown(frame).rstrip()]
    return "\n".join(lines) + "\n"


def html(verdict: Verdict) -> str:
    """The whole verdict as an HTML fragment that loads nothing."""
    items = "".join(f"<li>{escape(line)}</li>" for line in summary(verdict))
    parts = [f'<section class="verdict" id="verdict">\n<ul>{items}</ul>']
    for name, heading, frame in _parts(verdict):
        grid = render.frame_html(frame, f"verdict-{name}")
        if name == "cells":
            title = f"<summary>{escape(heading)}</summary>"
            parts.append(f"<details>{title}\n{grid}</details>")
        else:
            parts.append(f"<h3>{escape(heading)}</h3>\n{grid}")
    return "\n".join([*parts, "</section>"]) + "\n"


def write(verdict: Verdict, folder: Path) -> list[Path]:
    """Write `verdict_{cells,claims,instances}.csv`, `verdict.md` and `verdict.html`."""
    frames = {
        "verdict_cells.csv": verdict.cells,
        "verdict_claims.csv": verdict.claims,
        "verdict_instances.csv": verdict.instances,
    }
    texts = {name: escaping.csv(frame) for name, frame in frames.items()}
    texts["verdict.md"] = markdown(verdict)
    texts["verdict.html"] = render.page("Reproduction verdict", html(verdict))
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]
