"""A classifier, and the images that it is asked of, as `debias` and `audit` are given them.

The classifier is the folder that `import-classifier` wrote, or a checkpoint with its architecture:
a name of a library's network, or a function of one's own. What its folder says of how images are
prepared holds where an option does not say otherwise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UserError
from . import _outputs
from ._numbers import finite, positive
from ._tables import read_groups, within

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from ..api import ImageSet
    from ..config.schema import Backbone

IMPORTED = ("backbone.yaml", "classifier.safetensors", "import.json")
OPTIONS = (  # beside the model
    "image", "root", "architecture", "head", "place", "size", "mean", "std", "bits",
)  # fmt: skip
OF_TORCH = (".pth", ".pt", ".ckpt", ".bin")
PREFIXES = ("module.", "_orig_mod.")
SIZE = 224
ARCHITECTURE = "a library's network (resnet50, timm:NAME, xrv:NAME), or your own module:function"


class Loaded(NamedTuple):
    """A classifier in eval mode.

    note: what the way back to the names of its file needs; None: it has its file's names.
    """

    model: nn.Module
    note: Mapping[str, Any] | None = None


def add_classifier(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Where the images and the classifier are."""
    add = parser.add_argument
    add("--image", required=required, help="column of the image's path")
    add("--root", type=Path, help="folder of the images; default: the table's")
    model = "the folder that import-classifier wrote, or its weights: .safetensors, .pth, .ckpt"
    add("--model", type=Path, required=required, help=model)
    add("--place", nargs="*", metavar="KEY", help="where in the file it is, of several: model_ema")
    add("--architecture", help=f"{ARCHITECTURE}; of such a folder it is known")
    add("--head", help="name of its last layer, where it cannot be found; of such a folder known")
    add("--size", type=int, help=f"pixels a side; default: the folder's, or {SIZE}")
    for name, kind in (("mean", finite), ("std", positive)):
        add(f"--{name}", type=kind, nargs="+", help="default: the folder's, or ImageNet's")
    needed = "as many as the table's need"
    add(
        "--bits",
        type=int,
        help=f"of 16-bit grey images, 9 to 16; default: the folder's, or {needed}",
    )


def reads(options: argparse.Namespace) -> Iterable[Path]:
    """The files of the classifier."""
    if options.model is None:
        return []
    if _is_imported(options.model):
        return [options.model / name for name in IMPORTED]
    return _outputs.files_of(options.model)


def check(options: argparse.Namespace) -> None:
    """Refuse a classifier that cannot be loaded, as far as that is seen without torch.

    Raises:
        UserError: says what to give.
    """
    from ..config import coherence
    from ..learning import architectures

    if not options.model.exists():
        raise UserError(f"--model: no file or folder {options.model}")
    if _is_imported(options.model):
        for name in ("architecture", "head", "place"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name}: {options.model / IMPORTED[0]} says it; leave it out")
        return
    if options.architecture is None:
        if (options.model / "config.json").is_file():  # of timm, which says it
            return
        raise UserError(
            f"--architecture: which network is {options.model} of? {ARCHITECTURE}; or give as "
            "--model the folder that import-classifier wrote"
        )
    known = architectures.available()
    for problem in coherence.network_problems("--", options.architecture, {}, known):
        raise UserError(problem)


def read_images(options: argparse.Namespace, table: pd.DataFrame) -> ImageSet:
    """The images of a table, prepared as the classifier's were; `check` has passed.

    Raises:
        UserError: of the table or the images.
    """
    from .. import api
    from ..data.decode import USUAL_BITS

    read_groups(options.table, table, options)  # prints how they are read
    with within(options.table):
        images = api.ImageSet.from_frame(
            table,
            options.image,
            options.label,
            options.group,
            options.patient,
            root=options.table.parent if options.root is None else options.root,
            positive=options.positive,
            cuts=options.cuts,
            **_prepared(options),
        )
    if (images.bits or 0) > USUAL_BITS:
        print(f"16-bit images are read as of {images.bits} bits (--bits)")
    return images


def _prepared(options: argparse.Namespace) -> dict[str, Any]:
    """How images are prepared, as `ImageSet.from_frame` is told it."""
    given = {key: getattr(options, key) for key in ("size", "mean", "std", "bits")}
    given = {key: value for key, value in given.items() if value is not None}
    return {"size": SIZE} | _of_folder(options.model, given) | given


def load(options: argparse.Namespace) -> Loaded:
    """The classifier; `check` has passed. It costs seconds, and images that are read minutes.

    Raises:
        UserError: it cannot be loaded, its weights do not fit its architecture, it does something
            with what its last layer gives, or it tells more than two classes apart.
    """
    loaded = _load(options)
    if (classes := getattr(loaded.model, "classes", 2)) > 2:
        raise UserError(
            f"{options.model} tells {classes} classes apart, and this command two: use the library "
            "(ImageSet with classes=) or the workflow"
        )
    return loaded


def _load(options: argparse.Namespace) -> Loaded:
    from ..config.schema import IMAGENET_MEAN
    from ..learning import architectures, checkpoint_files, hub_folders, networks, wrapped

    sys.path.insert(0, str(Path.cwd()))  # an installed command does not look there by itself
    model, name = options.model, options.architecture
    if _is_imported(model):
        return Loaded(networks.load(model / IMPORTED[1], _backbone(_entry(model)), own=True))
    own = name is not None and architectures.library_of(name)[0] == "own"
    as_it_is = own and options.place is None and not model.is_dir()
    if as_it_is and model.suffix not in OF_TORCH and not _is_prefixed(model):  # any network
        return Loaded(wrapped.load(name, model))
    from ..learning import classifier_import

    checkpoint = checkpoint_files.read(model, options.place)
    said = {"architecture": name, "head": options.head}
    entry = hub_folders.entry_of(checkpoint, {k: v for k, v in said.items() if v is not None})
    found = classifier_import.load(checkpoint, _backbone(entry), own_dropout="dropout" not in entry)
    if own:
        prepared = _prepared(options)
        channels = len(prepared.get("mean", IMAGENET_MEAN))
        classifier_import.refuse_other_end(found, channels, prepared["size"])
    for line in classifier_import.described(checkpoint, found.note):
        print(line)
    return Loaded(found.classifier, found.note)


def _is_prefixed(model: Path) -> bool:
    """Whether all tensors have the names that DataParallel or torch.compile gives them."""
    from ..learning import tensor_files

    names = tensor_files.read(model, own=True)
    return any(all(name.startswith(prefix) for name in names) for prefix in PREFIXES)


def save(model: nn.Module, loaded: Loaded, options: argparse.Namespace, out: Path) -> None:
    """Write weights under the names that the classifier's file has.

    Raises:
        NotFiniteError: one of them is not finite; nothing is written.
    """
    from ..learning import checkpoint_files, checkpoint_import, networks, tensor_files

    networks.save(model, out)
    if _is_imported(options.model):
        print(_way_back(options.model, out))
    if loaded.note is not None:
        original = checkpoint_files.read(options.model, loaded.note["place"])
        tensors, changed = checkpoint_import.export_classifier(loaded.note, original, out)
        tensor_files.write(out, tensors)
        for line in checkpoint_import.new_tensors(loaded.note, original, changed, out):
            print(line)


def _way_back(imported: Path, weights: Path) -> str:
    """What to type for the names and the format of the file that was imported."""
    from ..files import read_json

    name = read_json(imported / IMPORTED[2])["checkpoint"]
    fair = weights.with_name(f"fair{Path(name).suffix}")
    return (
        f"for the names and the format of {name}, with the path of it:\n"
        f"  swift-debias export-classifier {weights} --imported {imported} --checkpoint {name} "
        f"--out {fair}"
    )


def _is_imported(model: Path) -> bool:
    return (model / IMPORTED[0]).is_file()


def _of_folder(model: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """How images are prepared, by the folder that a classifier lies in; {}: it says nothing."""
    if _is_imported(model):
        (task,) = _read(model)["tasks"].values()
        return dict(task["images"])
    if not model.is_dir():
        return {}
    from ..learning import checkpoint_files, hub_folders

    return hub_folders.images_of(checkpoint_files.read(model), given)


def _entry(model: Path) -> dict[str, Any]:
    """The backbone of an imported classifier."""
    (entry,) = _read(model)["backbones"].values()
    return {key: value for key, value in entry.items() if key != "baseline"}


def _read(model: Path) -> dict[str, Any]:
    """`backbone.yaml` of a folder.

    Raises:
        UserError: it is not as import-classifier writes it.
    """
    from ..config import strict_yaml

    path = model / IMPORTED[0]
    found = strict_yaml.read(path)
    try:
        (_,), (task,) = found["backbones"].values(), found["tasks"].values()
        dict(task["images"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{path} is not as import-classifier writes it, with one backbone and one task: import "
            "the classifier again"
        ) from None
    return found


def _backbone(entry: Mapping[str, Any]) -> Backbone:
    from pydantic import ValidationError

    from ..config.base import explain
    from ..config.schema import Backbone

    try:
        return Backbone(**entry)
    except ValidationError as error:
        raise UserError(explain(error)) from error
