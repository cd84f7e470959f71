"""Debias a classifier of your own on a table of images; writes weights, history and audits."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, nearest
from . import _classifier, _outputs
from ._numbers import fraction
from ._pairs import read_pairs
from ._tables import add_columns, audit_files, read_table, write_audit

if TYPE_CHECKING:
    from ..api import Debiaser, ImageSet

EXAMPLE = """example:
  swift-debias debias --table t.csv --image path --label y --group sex --patient patient_id \\
      --model m.safetensors --architecture mymodels:resnet --out fair --set epochs=5

writes into the folder fair: model.safetensors (names of the weights as in m.safetensors),
history.csv, cost.json, audits of the held-out images before and after, and rule.json where the
method decides by a rule for each group. The folder that import-classifier wrote, as in --model
mine, needs no --architecture; export-classifier gives the weights back under your own names."""
WRITTEN = ("model.safetensors", "history.csv", "cost.json", "rule.json")
AUDITS = ("audit_before", "audit")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add = parser.add_argument
    add("--table", type=Path, required=True, help="a .csv or .parquet of images")
    _classifier.add_classifier(parser, required=True)
    add("--method", default="SWiFT", help="default: %(default)s")
    add("--external", type=fraction, default=0.6, help="share to debias on; %(default)s")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings")
    add("--out", type=_outputs.path, default=Path("debiased"), help="default: %(default)s")
    _outputs.add_force(parser)
    add_columns(parser)


def reads(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it reads."""
    return [options.table, *_classifier.reads(options)]


def writes(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it writes."""
    audits = [file for name in AUDITS for file in audit_files(options.out / name)]
    return [*(options.out / name for name in WRITTEN), *audits]


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from .. import api

    if options.method not in api.CLASSES:
        raise UserError(f"no method {options.method!r}{nearest(options.method, api.CLASSES)}")
    settings = read_pairs(options.set)
    for name in ("seed", "head"):
        if name in settings:
            raise UserError(f"--set {name}: it has an option of its own: --{name} {settings[name]}")
    estimator = api.CLASSES[options.method](seed=options.seed, head=options.head, **settings)
    _classifier.check(options)
    columns = (options.image, options.label, options.group, options.patient)
    table = read_table(options.table, *columns)
    with _outputs.held(options.out, writes(options)) as place:
        loaded = _classifier.load(options)
        images = _classifier.read_images(options, table)
        _fit_and_write(estimator, loaded, images, options, place)


def _fit_and_write(
    estimator: Debiaser,
    loaded: _classifier.Loaded,
    images: ImageSet,
    options: argparse.Namespace,
    place: _outputs.Place,
) -> None:
    """Debias on one part of the images, audit on the other, write everything."""
    from .. import api
    from ..files import remove, write_json, write_text
    from ..learning.networks import Classifier
    from ..report import escaping

    model = loaded.model
    external, test = images.split(options.external, options.seed)
    if isinstance(model, Classifier):  # of another, `fit` refuses itself
        estimator.refuse_foreign(model)
    print(f"debias on {external}\naudit on {test}")
    estimator.fit(model, external)
    options.out = place.ready()  # beside the folder that was named, if that was filled meanwhile
    remove(writes(options))
    _classifier.save(estimator.model_, loaded, options, options.out / "model.safetensors")
    write_text(options.out / "history.csv", escaping.csv(estimator.history_, float_format=None))
    write_json(options.out / "cost.json", estimator.cost_)
    before = api.predict_proba(model, test, estimator.device)
    first = api.audit(before, test)
    write_audit(first, options.out / "audit_before", options, when=", before debiasing")
    rule = getattr(estimator, "rule_", None)
    after = api.audit(
        estimator.predict_proba(test), test, decisions=rule and estimator.predict(test)
    )
    if rule is not None:
        names = {"names": list(estimator.group_names_)}  # of groups 0, 1, ...
        write_json(options.out / "rule.json", rule.to_json() | names)
    decided = "a rule for each group: rule.json" if rule else None
    write_audit(after, options.out / "audit", options, decided, f", after {options.method}")
