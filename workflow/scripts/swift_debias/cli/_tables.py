"""A user's table on the command line: read, its columns named and checked, its audit written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Which columns hold what."""
    parser.add_argument("--label", required=True, help="column of the label, 0 and 1")
    parser.add_argument("--positive", nargs="+", help="values of class 1, where not 0 and 1")
    parser.add_argument("--group", required=True, help="column of the sensitive attribute")
    parser.add_argument("--cuts", type=float, nargs="+", help="cut a number, e.g. age, here")
    parser.add_argument("--patient", help="column of the patient")


def read_table(path: Path) -> pd.DataFrame:
    """A table of the user's.

    Raises:
        UserError: it is not there or cannot be read.
    """
    import pandas as pd

    from ..files import read_parquet

    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        return read_parquet(path, own=True) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def need(table: pd.DataFrame, *columns: str | None) -> None:
    """Refuse names of columns that are not there."""
    for column in filter(None, columns):
        if column not in table:
            raise UserError(f"no column {column!r}{nearest(column, table.columns)}")


def write_audit(
    frame: pd.DataFrame, out: Path, options: argparse.Namespace, decided: str | None = None
) -> None:
    """The HTML and the CSV file of an audit; `decided`: how, where not by a threshold."""
    from ..files import write_text
    from ..report import audit_page, escaping

    units = f"patients ({options.patient})" if options.patient else "images, as if of a person each"
    facts = {
        "Table": options.table.name,
        "Sensitive attribute": options.group,
        "Decision for class 1": decided
        or f"score of at least {getattr(options, 'threshold', 0.5):g}",
        "Intervals": f"95 %, over {units}",
    }
    heading = f"Audit of {options.table.name} by {options.group}"
    html, csv = (out.with_name(out.name + ending) for ending in (".html", ".csv"))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(html, audit_page.page(frame, heading, facts))
    write_text(csv, escaping.csv(frame, float_format=None))
    print(f"{html}\n{csv}")
