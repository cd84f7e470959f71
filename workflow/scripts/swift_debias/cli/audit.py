"""Audit anybody's scores: metrics by group, fairness, intervals; no model is needed."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError
from ._tables import add_columns, need, read_table, write_audit

EXAMPLE = """example:
  swift-debias audit scores.csv --label y --score p --group sex --patient patient_id

writes scores.audit.html and scores.audit.csv beside the table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("table", type=Path, help="a .csv or .parquet, one row an image")
    parser.add_argument("--score", required=True, help="column of the probability of class 1")
    parser.add_argument("--threshold", type=float, default=0.5, help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="path of the files without its ending")
    add_columns(parser)


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    import numpy as np
    import pandas as pd

    from ..data.columns import group_column, label_column
    from ..evaluation.audit import audit

    table = read_table(options.table)
    need(table, options.label, options.score, options.group, options.patient)
    groups, names = group_column(table[options.group], cuts=options.cuts)
    numbers = pd.to_numeric(table[options.score], errors="coerce")
    if numbers.isna().any():
        wrong = table.loc[numbers.isna(), options.score].iloc[0]
        raise UserError(f"column {options.score!r} must hold numbers; there is {wrong!r}")
    frame = audit(
        label_column(table[options.label], options.positive),
        groups,
        numbers.to_numpy(np.float64),
        names,
        table[options.patient].to_numpy(object) if options.patient else None,
        threshold=options.threshold,
    )
    write_audit(frame, options.out or options.table.with_suffix(".audit"), options)
