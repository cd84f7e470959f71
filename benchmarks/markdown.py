"""How tables of docs/performance.md look, and the line that says where their numbers are from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

Found = Mapping[str, Any]
ASKED = ("machine", "versions", "rounds", "spread")
BRACKETS = "in brackets, lowest to highest"


def filled(text: str, *, bullet: bool = False) -> str:
    """Lines of at most 120 characters."""
    return textwrap.fill(
        text,
        120,
        initial_indent="- " if bullet else "",
        subsequent_indent="  " if bullet else "",
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Markdown; numbers stand on the right."""
    names = list(head)
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(value: object) -> str:
    """A value as it is, thousands apart; nothing for nothing."""
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else str(value)


def spread(found: Found) -> str:
    """Median (lowest to highest)."""
    return f"{found['median']:.2f} ({found['lowest']:.2f}-{found['highest']:.2f})"


def source(known: Found) -> str:
    """Machine, versions, rounds and spread; what is not known is called so."""
    said = [f"{name.capitalize()}: {known[name]}." for name in ASKED if known.get(name)]
    unknown = [name for name in ASKED if not known.get(name)]
    return " ".join([*said, f"Not recorded: {', '.join(unknown)}."] if unknown else said)


def measured(report: Found, rounds: object = None, spread: str | None = None) -> str:
    """The same of a benchmark's report."""
    machine, threads = report["machine"], report["settings"].get("threads")
    where = [machine["processor"], f"{machine['cores']} cores", machine.get("gpu")]
    where += [f"load {machine['load_average']}", f"threads: {threads}" if threads else None]
    names = [name for name in ("python", "torch", "snakemake") if machine.get(name)]
    known = {
        "machine": ", ".join(filter(None, where)),
        "versions": ", ".join(f"{name} {machine[name]}" for name in names),
        "rounds": rounds,
        "spread": spread,
    }
    return source(known)


def captioned(said: str, *parts: str) -> str:
    """A paragraph, and what follows it."""
    return "\n\n".join([filled(said), *parts])


def listed(names: Iterable[str]) -> str:
    """`a, b and c`; `none`."""
    *most, last = [*names] or ["none"]
    return f"{', '.join(most)} and {last}" if most else last
