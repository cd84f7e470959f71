"""Audit anybody's scores: metrics by group, fairness, intervals; no model is needed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from . import _outputs
from ._numbers import finite
from ._tables import add_columns, audit_files, read_table, write_audit

EXAMPLE = """example:
  swift-debias audit scores.csv --label y --score p --group sex --patient patient_id

writes scores.audit.html and scores.audit.csv beside the table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("table", type=Path, help="a .csv or .parquet, one row an image")
    parser.add_argument("--score", required=True, help="column of the probability of class 1")
    parser.add_argument("--threshold", type=finite, default=0.5, help="default: %(default)s")
    parser.add_argument("--out", type=_outputs.path, help="path of the files without its ending")
    _outputs.add_force(parser)
    add_columns(parser)


def reads(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it reads."""
    return [options.table]


def writes(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it writes."""
    return audit_files(_out(options))


def _out(options: argparse.Namespace) -> Path:
    return _outputs.stem(options.out or options.table.with_suffix(".audit"))


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..data.columns import group_column, label_column, number_column, patient_column
    from ..evaluation.audit import audit

    columns = (options.label, options.score, options.group, options.patient)
    table = read_table(options.table, *columns)
    groups, names = group_column(table[options.group], cuts=options.cuts)
    frame = audit(
        label_column(table[options.label], options.positive),
        groups,
        number_column(table[options.score]),
        names,
        patient_column(table[options.patient]) if options.patient else None,
        threshold=options.threshold,
    )
    write_audit(frame, _out(options), options)
