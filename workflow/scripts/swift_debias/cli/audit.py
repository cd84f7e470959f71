"""Audit anybody's scores, or a classifier: metrics by group, fairness, intervals."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from . import _classifier, _outputs
from ._numbers import finite
from ._tables import add_columns, audit_files, read_groups, read_table, within, write_audit

if TYPE_CHECKING:
    from ..evaluation.audit import Audit

EXAMPLE = """examples:
  swift-debias audit scores.csv --label y --score p --group sex --patient patient_id
  swift-debias audit t.csv --label y --group sex --image path --model mine

writes scores.audit.html and scores.audit.csv beside the table, and prints the main numbers. The
second audits a classifier instead of scores: the folder that import-classifier wrote, or weights
with --architecture."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("table", type=Path, help="a .csv or .parquet, one row an image")
    parser.add_argument("--score", help="column of the probability of class 1")
    _classifier.add_classifier(parser, required=False)
    parser.add_argument("--threshold", type=finite, default=0.5, help="default: %(default)s")
    parser.add_argument("--out", type=_outputs.path, help="path of the files without its ending")
    _outputs.add_force(parser)
    add_columns(parser)


def reads(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it reads."""
    return [options.table, *_classifier.reads(options)]


def writes(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it writes."""
    return audit_files(_out(options))


def _out(options: argparse.Namespace) -> Path:
    if options.table.is_dir():  # its name has no ending that another could take the place of
        raise UserError(f"{options.table} is a folder: give the table's file, a .csv or .parquet")
    return _outputs.stem(options.out or options.table.with_suffix(".audit"))


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    if (options.score is None) == (options.model is None):
        raise UserError("--score or --model: give the column of the scores, or a classifier")
    given = [key for key in _classifier.OPTIONS if getattr(options, key) is not None]
    if options.model is None and given:
        raise UserError(f"--{given[0]}: is of a classifier (--model), and --score is given")
    audited = _of_scores(options) if options.model is None else _of_classifier(options)
    write_audit(audited, _out(options), options)


def _of_scores(options: argparse.Namespace) -> Audit:
    """The audit of a column of the table."""
    from ..data.columns import number_column, patient_column, tell_patients
    from ..evaluation.audit import audit

    columns = (options.label, options.score, options.group, options.patient)
    table = read_table(options.table, *columns)
    labels, groups, names = read_groups(options.table, table, options)
    with within(options.table):
        scores = number_column(table[options.score])
        if options.patient:
            tell_patients(table[options.patient])
    return audit(
        labels,
        groups,
        scores,
        names,
        patient_column(table[options.patient]) if options.patient else None,
        threshold=options.threshold,
    )


def _of_classifier(options: argparse.Namespace) -> Audit:
    """The audit of what a classifier says of the table's images."""
    from .. import api

    if options.image is None:
        raise UserError("--image: which column holds the paths of the images?")
    _classifier.check(options)
    columns = (options.image, options.label, options.group, options.patient)
    table = read_table(options.table, *columns)
    model = _classifier.load(options).model
    images = _classifier.read_images(options, table)
    scores = api.predict_proba(model, images)
    return api.audit(scores, images, threshold=options.threshold)
