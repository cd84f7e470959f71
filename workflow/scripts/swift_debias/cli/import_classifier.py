"""Take over a classifier of your own: any checkpoint, checked against your own scores."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from . import _outputs
from ._numbers import finite, positive
from ._pairs import read_pairs
from ._tables import read_table, within

if TYPE_CHECKING:
    import numpy as np

BACKBONE = ("architecture", "head", "channels", "dropout")  # arguments that are keys of these
IMAGES = ("size", "mean", "std", "interpolation", "fit", "crop_share", "bits")
EXAMPLE = """example:
  swift-debias import-classifier trained.pth --architecture resnet50 --size 224 \\
      --reference reference.csv --root images --out mine

writes into the folder mine: classifier.safetensors, backbone.yaml with what the configuration
takes, and import.json for the way back. reference.csv has the columns path and score: what your own
program says of some images; without it nothing shows that they are prepared as in training."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add = parser.add_argument
    add("checkpoint", type=Path, help=".safetensors, .pth, .pt, .ckpt, or a folder")
    add("--architecture", help="a name, or module:function; of timm's folders it is known")
    add("--options", nargs="+", default=[], metavar="KEY=VALUE", help="of the architecture")
    add("--head", help="name of the last layer, where it cannot be found")
    add("--place", nargs="*", metavar="KEY", help="where in the file it is, of several: model_ema")
    add("--channels", type=int, help="that the network takes; default: 3")
    add("--swap-classes", action="store_true", help="the network's class 0 is your class 1")
    add("--dropout", type=finite, help="before the last layer; default: the network's own")
    add("--size", type=int, help="pixels a side")
    add("--grey", action="store_true", help="the images are grey")
    for name, kind in (("mean", finite), ("std", positive)):
        add(f"--{name}", type=kind, nargs="+", help="default: ImageNet's")
    add("--interpolation", help="bilinear, bicubic, lanczos, box or nearest")
    add("--fit", help="crop or stretch")
    add("--crop-share", type=finite, help="0.875 for Resize(256), CenterCrop(224)")
    add("--bits", type=int, help="of 16-bit grey images, 9 to 16; default: as the reference's need")
    add("--reference", type=Path, help="a .csv: path, score")
    add("--root", type=Path, help="folder of its images; default: its own")
    add("--name", default="mine", help="of the backbone; %(default)s")
    add("--out", type=_outputs.path, default=Path("imported"), help="folder; %(default)s")
    _outputs.add_force(parser)


def reads(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it reads."""
    reference = [] if options.reference is None else [options.reference]
    earlier = set(writes(options))  # into the checkpoint's folder; it may be done again
    return [*(f for f in _outputs.files_of(options.checkpoint) if f not in earlier), *reference]


def writes(options: argparse.Namespace) -> Iterable[Path]:
    """The files that it writes."""
    names = ("classifier.safetensors", "import.json", "backbone.yaml")
    return [options.out / name for name in names]


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..config import coherence, named_files
    from ..learning import architectures

    sys.path.insert(0, str(Path.cwd()))  # an installed command does not look there by itself
    arguments = read_pairs(options.options, "--options")
    if name := options.architecture:  # before torch is imported, which takes seconds
        known = architectures.available()
        problems = list(coherence.network_problems("--", name, arguments, known))
        if architectures.library_of(name)[0] == "own":
            said = named_files.missing_function(name)
            problems.append(said or named_files.unknown_argument(name, arguments))
        if problem := "".join(problems[:1]):
            raise UserError(problem)
    from ..learning import checkpoint_files, classifier_import, hub_folders

    checkpoint = checkpoint_files.read(options.checkpoint, options.place)
    given = {key: value for key, value in vars(options).items() if value is not None}
    network = {key: given[key] for key in BACKBONE if key in given} | {"options": arguments}
    entry = hub_folders.entry_of(checkpoint, network)
    images = hub_folders.images_of(checkpoint, {key: given[key] for key in IMAGES if key in given})
    if "size" not in images:
        raise UserError("--size: how many pixels a side was it trained with?")
    if options.grey:
        images["channels"] = 1
    paths, scores = _reference(options.reference, options.root)
    with _outputs.held(options.out, writes(options)) as place:
        for line in classifier_import.run(
            checkpoint,
            entry,
            images,
            place.ready(),
            name=options.name,
            swap_classes=options.swap_classes,
            paths=paths,
            scores=scores,
        ):
            print(line)


def _reference(table: Path | None, root: Path | None) -> tuple[list[Path], np.ndarray | None]:
    """Images, and what the owner's own program says of them."""
    from ..data.columns import number_column, path_column
    from ..data.roots import refuse_missing

    if table is None:
        return [], None
    rows = read_table(table, "path", "score")
    folder = root or table.parent
    with within(table):
        paths, scores = path_column(rows["path"], folder), number_column(rows["score"])
        refuse_missing(rows["path"].tolist(), folder)
    return paths, scores
