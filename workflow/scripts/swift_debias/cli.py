"""The command line: `swift-debias audit | debias | inspect | import-classifier | schema | ...`.

A mistake of the user is told in one line, with exit code 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from .api import Debiaser, ImageSet

AUDIT = """example:
  swift-debias audit scores.csv --label y --score p --group sex --patient patient_id

writes scores.audit.html and scores.audit.csv beside the table."""
DEBIAS = """example:
  swift-debias debias --table t.csv --image path --label y --group sex --patient patient_id \\
      --model m.safetensors --architecture mymodels:resnet --out fair --set epochs=5

writes into the folder fair: model.safetensors (names of the weights as in m.safetensors),
history.csv, cost.json, audits of the held-out images before and after, and rule.json where the
method decides by a rule for each group."""
IMPORT = """example:
  swift-debias import-classifier trained.pth --architecture resnet50 --size 224 \\
      --reference reference.csv --root images --out mine

writes into the folder mine: classifier.safetensors, backbone.yaml with what the configuration
takes, and import.json for the way back. reference.csv has the columns path and score: what your own
program says of some images; without it nothing shows that they are prepared as in training."""
EXPORT = """example:
  swift-debias export-classifier results/x/debiased/skin/mine/sex/swift/fold0/model.safetensors \\
      --imported mine --checkpoint trained.pth --out fair.pth

writes the debiased weights as trained.pth has them: its names, its types, its form."""
INSPECT = """example:
  swift-debias inspect table.csv --images pictures > datasets.yaml

Check every line of what it prints: which value is the disease, for one, is a guess."""
SCHEMA = """examples:
  swift-debias schema > schema.json         JSON Schema of the workflow's configuration
  swift-debias schema --write config        config/README.md and config/schema.json"""
BUNDLE = """example, in the folder of the project:
  swift-debias bundle results/demo

The zip file is an RO-Crate: settings, commit, versions, metrics, tables, figures; no ids, pictures
or weights."""
VERIFY = """example:
  swift-debias verify results/demo.zip"""
COMPARE = """example, in the folder of the project:
  swift-debias compare my_method.py

Runs the method on a few cells of config/benchmark.yaml (synthetic images) beside SWiFT, FullFT-FDR,
the Baseline and controls, and prints its ranks. docs/bring_your_method.md has a whole file."""
WHICH_METHOD = """example, in the folder of the project:
  swift-debias which-method results/benchmark

writes which_method.md, which_method.csv and two pictures into the run's folder."""
EXPORT_LOGS = """example:
  swift-debias export-logs results/demo
  tensorboard --logdir results/demo/tensorboard"""
WHAT_CHANGED = """example, in the folder of the project:
  swift-debias what-changed --profile profiles/demo"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except UserError as error:
        print(f"swift-debias: error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    from .run import what_changed

    parser = argparse.ArgumentParser("swift-debias", description=_first_line(__doc__))
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="command")

    def add(name: str, run: Any, example: str) -> argparse.ArgumentParser:
        text = _first_line(run.__doc__)
        made = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=example,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(command=run)
        return made

    audit = add("audit", _audit, AUDIT)
    audit.add_argument("table", type=Path, help="a .csv or .parquet, one row an image")
    audit.add_argument("--score", required=True, help="column of the probability of class 1")
    audit.add_argument("--threshold", type=float, default=0.5, help="default: %(default)s")
    audit.add_argument("--out", type=Path, help="path of the files without its ending")
    debias = add("debias", _debias, DEBIAS)
    debias.add_argument("--table", type=Path, required=True, help="a .csv or .parquet of images")
    debias.add_argument("--image", required=True, help="column of the image's path")
    debias.add_argument("--root", type=Path, help="folder of the images; default: the table's")
    debias.add_argument("--model", type=Path, required=True, help="its weights, safetensors")
    debias.add_argument(
        "--architecture", required=True, help="module:function that returns the network"
    )
    debias.add_argument("--method", default="SWiFT", help="default: %(default)s")
    debias.add_argument("--size", type=int, default=224, help="pixels a side; %(default)s")
    for name in ("mean", "std"):
        debias.add_argument(f"--{name}", type=float, nargs="+", help="default: ImageNet's")
    debias.add_argument(
        "--external", type=float, default=0.6, help="share to debias on; %(default)s"
    )
    debias.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    debias.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings")
    debias.add_argument("--out", type=Path, default=Path("debiased"), help="default: %(default)s")
    for command in (audit, debias):
        command.add_argument("--label", required=True, help="column of the label, 0 and 1")
        command.add_argument("--positive", nargs="+", help="values of class 1, where not 0 and 1")
        command.add_argument("--group", required=True, help="column of the sensitive attribute")
        command.add_argument("--cuts", type=float, nargs="+", help="cut a number, e.g. age, here")
        command.add_argument("--patient", help="column of the patient")
    _add_import(add("import-classifier", _import, IMPORT))
    export = add("export-classifier", _export, EXPORT)
    export.add_argument("weights", type=Path, help="model.safetensors of a run")
    export.add_argument("--imported", type=Path, required=True, help="folder of the import")
    export.add_argument("--checkpoint", type=Path, required=True, help="what was imported")
    export.add_argument("--out", type=Path, required=True, help="file, or folder, to write")
    inspect = add("inspect", _inspect, INSPECT)
    inspect.add_argument("table", type=Path, help="a .csv or .parquet of images")
    inspect.add_argument("--images", type=Path, help="folder of the images; default: the table's")
    schema = add("schema", _schema, SCHEMA)
    schema.add_argument("--write", type=Path, metavar="FOLDER", help="write both files here")
    bundle = add("bundle", _bundle, BUNDLE)
    bundle.add_argument("run", type=Path, help="results/<run>, finished")
    bundle.add_argument("--out", type=Path, help="default: results/<run>.zip")
    add("verify", _verify, VERIFY).add_argument("bundle", type=Path, help="what `bundle` wrote")
    compare = add("compare", _compare, COMPARE)
    compare.add_argument("method", type=Path, help="the .py file of your method")
    compare.add_argument(
        "--config", type=Path, default=Path("config/benchmark.yaml"), help="default: %(default)s"
    )
    compare.add_argument("--experiment", default="compare", help="a table of it; %(default)s")
    compare.add_argument(
        "--out", type=Path, default=Path("results/compare"), help="default: %(default)s"
    )
    which = add("which-method", _which_method, WHICH_METHOD)
    which.add_argument("run", type=Path, help="results/<run> of the benchmark, finished")
    which.add_argument("--out", type=Path, help="folder; default: the run's")
    logs = add("export-logs", _export_logs, EXPORT_LOGS)
    logs.add_argument("run", type=Path, help="results/<run>; it may be running still")
    logs.add_argument("--out", type=Path, help="default: results/<run>/tensorboard")
    what_changed.add_arguments(add("what-changed", _what_changed, WHAT_CHANGED))
    return parser


def _add_import(command: argparse.ArgumentParser) -> None:
    """The arguments of import-classifier; those of pixels are keys of `images`."""
    add = command.add_argument
    add("checkpoint", type=Path, help=".safetensors, .pth, .pt, .ckpt, or a folder")
    add("--architecture", help="a name, or module:function; of timm's folders it is known")
    add("--options", nargs="+", default=[], metavar="KEY=VALUE", help="of the architecture")
    add("--head", help="name of the last layer, where it cannot be found")
    add("--channels", type=int, default=3, help="that the network takes; %(default)s")
    add("--swap-classes", action="store_true", help="the network's class 0 is your class 1")
    add("--dropout", type=float, help="before the last layer; default: the network's own")
    add("--size", type=int, help="pixels a side")
    add("--grey", action="store_true", help="the images are grey")
    for name in ("mean", "std"):
        add(f"--{name}", type=float, nargs="+", help="default: ImageNet's")
    add("--interpolation", help="bilinear, bicubic, lanczos, box or nearest")
    add("--fit", help="crop or stretch")
    add("--crop-share", type=float, help="0.875 for Resize(256), CenterCrop(224)")
    add("--reference", type=Path, help="a .csv: path, score")
    add("--root", type=Path, help="folder of its images; default: its own")
    add("--name", default="mine", help="of the backbone; %(default)s")
    add("--out", type=Path, default=Path("imported"), help="folder; %(default)s")


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


def _audit(options: argparse.Namespace) -> None:
    """Audit anybody's scores: metrics by group, fairness, intervals; no model is needed."""
    import numpy as np
    import pandas as pd

    from .data.columns import group_column, label_column
    from .evaluation.audit import audit

    table = _read_table(options.table)
    _need(table, options.label, options.score, options.group, options.patient)
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
    _write_audit(frame, options.out or options.table.with_suffix(".audit"), options)


def _write_audit(
    frame: pd.DataFrame, out: Path, options: argparse.Namespace, decided: str | None = None
) -> None:
    """The HTML and the CSV file of an audit; `decided`: how, where not by a threshold."""
    from .files import write_text
    from .report import audit_page, escaping

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


def _debias(options: argparse.Namespace) -> None:
    """Debias a classifier of your own on a table of images; writes weights, history and audits."""
    from . import api
    from .config.schema import IMAGENET_MEAN, IMAGENET_STD

    if options.method not in api.CLASSES:
        raise UserError(f"no method {options.method!r}{nearest(options.method, api.CLASSES)}")
    estimator = api.CLASSES[options.method](seed=options.seed, **_settings(options.set))
    table = _read_table(options.table)
    images = api.ImageSet.from_frame(
        table,
        options.image,
        options.label,
        options.group,
        options.patient,
        options.size,
        options.mean or IMAGENET_MEAN,
        options.std or IMAGENET_STD,
        options.table.parent if options.root is None else options.root,
        positive=options.positive,
        cuts=options.cuts,
    )
    _fit_and_write(estimator, images, options)


def _fit_and_write(estimator: Debiaser, images: ImageSet, options: argparse.Namespace) -> None:
    """Debias on one part of the images, audit on the other, write everything."""
    from . import api
    from .files import write_json, write_text
    from .learning import networks, wrapped
    from .report import escaping

    sys.path.insert(0, str(Path.cwd()))  # an installed command does not look there by itself
    model = wrapped.load(options.architecture, options.model)
    external, test = images.split(options.external, options.seed)
    print(f"debias on {external}\naudit on {test}")
    estimator.fit(model, external)
    options.out.mkdir(parents=True, exist_ok=True)
    networks.save(estimator.model_, options.out / "model.safetensors")
    write_text(options.out / "history.csv", escaping.csv(estimator.history_, float_format=None))
    write_json(options.out / "cost.json", estimator.cost_)
    before = api.predict_proba(model, test, estimator.device)
    _write_audit(api.audit(before, test), options.out / "audit_before", options)
    rule = getattr(estimator, "rule_", None)
    after = api.audit(
        estimator.predict_proba(test), test, decisions=rule and estimator.predict(test)
    )
    if rule is not None:
        write_json(options.out / "rule.json", rule.to_json())
    decided = "a rule for each group: rule.json" if rule else None
    _write_audit(after, options.out / "audit", options, decided)


def _import(options: argparse.Namespace) -> None:
    """Take over a classifier of your own: any checkpoint, checked against your own scores."""
    from .config import coherence, named_files
    from .learning import architectures

    sys.path.insert(0, str(Path.cwd()))  # an installed command does not look there by itself
    arguments = _settings(options.options)
    if name := options.architecture:  # before torch is imported, which takes seconds
        known = architectures.available()
        problems = list(coherence.network_problems("--", name, arguments, known))
        if architectures.library_of(name)[0] == "own":
            said = named_files.missing_function(name)
            problems.append(said or named_files.unknown_argument(name, arguments))
        if problem := "".join(problems[:1]):
            raise UserError(problem)
    from .learning import checkpoint_files, checkpoint_import, classifier_import

    checkpoint = checkpoint_files.read(options.checkpoint)
    entry = {
        "architecture": options.architecture or checkpoint_import.architecture_of(checkpoint),
        "options": arguments,
        "head": options.head,
        "channels": options.channels,
        "dropout": options.dropout,
    }
    keys = ("size", "mean", "std", "interpolation", "fit", "crop_share")
    given = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    images = checkpoint_import.preprocessing_of(checkpoint) | given
    if "size" not in images:
        raise UserError("--size: how many pixels a side was it trained with?")
    if options.grey:
        images["channels"] = 1
    table = None if options.reference is None else _read_table(options.reference)
    if table is not None:
        _need(table, "path", "score")
    root = options.root or (options.reference.parent if options.reference else Path())
    for line in classifier_import.run(
        checkpoint,
        entry,
        images,
        options.out,
        name=options.name,
        swap_classes=options.swap_classes,
        paths=[] if table is None else [root / path for path in table["path"]],
        scores=None if table is None else table["score"].to_numpy(float),
    ):
        print(line)


def _export(options: argparse.Namespace) -> None:
    """Give debiased weights back under your own names, in your own format."""
    from .files import read_json
    from .learning import checkpoint_import

    sys.path.insert(0, str(Path.cwd()))
    note = read_json(options.imported / "import.json")
    changed = checkpoint_import.write_exported(
        note, options.checkpoint, options.weights, options.out
    )
    print(f"{options.out}\n{len(changed)} tensors have changed")


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` pairs, values as in YAML."""
    import yaml

    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set needs KEY=VALUE, not {pair!r}")
        read = yaml.safe_load(value)
        settings[key] = tuple(read) if isinstance(read, list) else read
    return settings


def _inspect(options: argparse.Namespace) -> None:
    """Propose a `datasets:` entry for a table of images, from its columns; to be edited."""
    from .data import proposal

    sys.stdout.write(proposal.propose(options.table, options.images))


def _schema(options: argparse.Namespace) -> None:
    """Print the JSON Schema of the configuration, or write it and config/README.md."""
    from . import methods
    from .config import document
    from .data import adapters
    from .files import write_text

    models = adapters.options_models(), methods.settings_models()
    text = json.dumps(document.json_schema(*models), indent=1) + "\n"
    if options.write is None:
        sys.stdout.write(text)
        return
    write_text(options.write / "schema.json", text)
    write_text(options.write / "README.md", document.document(*models))


def _bundle(options: argparse.Namespace) -> None:
    """Put a run's results into one file that can be cited and checked."""
    from .report import bundle

    run = options.run.resolve()
    out = options.out or run.parent / f"{run.name}.zip"
    names = bundle.write(run, out, Path())
    print(f"{out}: {len(names)} files of {options.run}")


def _verify(options: argparse.Namespace) -> None:
    """Check a bundle: the digests of its files, and its tables against its metrics."""
    from .report import bundle

    print("\n".join(bundle.verify(options.bundle)))


def _compare(options: argparse.Namespace) -> None:
    """Rank a method of your own file beside SWiFT and others, on a small fixed benchmark."""
    from .compare import run
    from .files import write_text
    from .methods._outside import load_outside
    from .report import escaping

    name = load_outside(options.method)  # before the settings: its mistakes are told first
    settings = run.read_settings(options.config)
    if options.experiment not in settings.experiments:
        near = nearest(options.experiment, settings.experiments)
        raise UserError(f"{options.config}: no experiment {options.experiment!r}{near}")
    found = run.compare(
        settings, options.experiment, name, options.out, lambda text: print(text, file=sys.stderr)
    )
    titles = {key: of.title or key for key, of in settings.methods.items()}
    titles[name] = f"{name} (yours)"
    shown = run.table(found, titles)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / f"{name}.csv", escaping.csv(found.cells, float_format=None))
    print("SYNTHETIC images. *: inside the noise, as a fair classifier's gap may be.")
    print(shown.to_string(index=False))
    print("\n".join(run.sentences(found, name, titles)))


def _which_method(options: argparse.Namespace) -> None:
    """Say which method to take for which kind of bias, from a run of the benchmark."""
    from .report import which_method

    paths = which_method.write(options.run, options.out or options.run)
    print(*paths, sep="\n")


def _export_logs(options: argparse.Namespace) -> None:
    """Write the histories of a run as TensorBoard reads them."""
    from .report import tensorboard

    out = options.out or options.run / "tensorboard"
    print(f"{out}: {tensorboard.export(options.run, out)} histories")


def _what_changed(options: argparse.Namespace) -> None:
    """Say what a change of the configuration or the code reruns, and why, before it runs."""
    from .data import fingerprint
    from .run import what_changed

    what_changed.run(options, fingerprint.explain)


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    from .files import read_parquet

    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        return read_parquet(path, own=True) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _need(table: pd.DataFrame, *columns: str | None) -> None:
    """Refuse names of columns that are not there."""
    for column in filter(None, columns):
        if column not in table:
            raise UserError(f"no column {column!r}{nearest(column, table.columns)}")


if __name__ == "__main__":
    sys.exit(main())
