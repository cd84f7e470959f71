"""A user's table on the command line: read, its columns named and checked, its audit written."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ._numbers import finite

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ..evaluation.audit import Audit


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Which columns hold what."""
    positive = "values of class 1, where not 0 and 1; every other value is class 0"
    parser.add_argument("--label", required=True, help="column of the label, 0 and 1")
    parser.add_argument("--positive", nargs="+", help=positive)
    parser.add_argument("--group", required=True, help="column of the sensitive attribute")
    parser.add_argument("--cuts", type=finite, nargs="+", help="cut a number, e.g. age, here")
    parser.add_argument("--patient", help="column of the patient")


def read_table(path: Path, *columns: str | None) -> pd.DataFrame:
    """Columns of a table of the user's as text, read as the workflow reads one.

    Text, for a type that is guessed makes two ids of 7 and "7", and one of 007 and 7.

    Raises:
        UserError: it is not there or cannot be read, or a column is missing.
    """
    from ..data import raw_tables
    from ..files import check

    if path.suffix.lower() in raw_tables.PARQUET:
        check(path, own=True)
    return raw_tables.read_table(path, tuple(dict.fromkeys(filter(None, columns))))


@contextlib.contextmanager
def within(table: Path) -> Iterator[None]:
    """Put a table's path before what is said of its columns."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{table}: {error}") from error


def read_groups(
    path: Path, table: pd.DataFrame, options: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Labels, groups and the groups' names of a table; prints how they were read.

    Raises:
        UserError: of a column; names the table.
    """
    from ..data import columns

    roles = ("image", "label", "score", "group", "patient")
    columns.one_role_each({role: getattr(options, role, None) for role in roles})
    label, group = table[options.label], table[options.group]
    with within(path):
        labels = columns.label_column(label, options.positive)
        index, names = columns.group_column(group, cuts=options.cuts)
    for line in columns.label_notes(label, options.positive):
        print(line)
    columns.tell_groups(group, cuts=options.cuts)
    return labels, index, names


def audit_files(out: Path) -> tuple[Path, Path]:
    """The HTML and the CSV file of an audit."""
    return out.with_name(out.name + ".html"), out.with_name(out.name + ".csv")


def write_audit(
    frame: Audit,
    out: Path,
    options: argparse.Namespace,
    decided: str | None = None,
    when: str = "",
) -> None:
    """Print the main numbers of an audit, and write its page and its table.

    Args:
        frame: the audit.
        out: path of the files without their endings.
        options: of the command.
        decided: how, where not by a threshold.
        when: of what, of several audits: " before debiasing".
    """
    from ..files import remove, write_text
    from ..report import audit_page, escaping

    units = f"patients ({options.patient})" if options.patient else "images, as if of a person each"
    facts = {
        "Table": options.table.name,
        "Sensitive attribute": options.group,
        "Decision for class 1": decided
        or f"score of at least {getattr(options, 'threshold', 0.5):g}",
        "Intervals": f"95 %, over {units}",
    }
    heading = f"Audit of {options.table.name} by {options.group}{when}"
    html, csv = audit_files(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    remove((html, csv))
    write_text(html, audit_page.page(frame, heading, facts))
    write_text(csv, escaping.csv(frame, float_format=None))
    print(f"{heading}, 95 % intervals over {units}\n{frame}\npage:  {html}\ntable: {csv}")
