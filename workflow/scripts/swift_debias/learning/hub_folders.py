"""What `config.json` of a folder says: which network its weights are of, and how images were fed.

timm writes such folders and reads them (`timm.create_model("local-dir:folder")`); what it would
make of them is made here, with its own defaults, or refused. A network with other arguments and the
same weights gives scores all the same, only others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from torch import nn

from ..errors import UserError
from .architectures import library_of
from .checkpoint_files import Checkpoint

# timm's own, where a folder does not say; its mean and std are the configuration's default too
CROP_PCT, INTERPOLATION = 0.875, "bicubic"
# arguments that a backbone has as keys of its own, and those of looking for weights
KEYS = {"in_chans": "channels", "drop_rate": "dropout"}
NO_OPTIONS = ("num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def entry_of(checkpoint: Checkpoint, given: Mapping[str, Any]) -> dict[str, Any]:
    """A backbone's entry: what is given, and of a timm folder's network what it was made with.

    Args:
        checkpoint: a folder's, or a file's, which says nothing.
        given: keys of the entry, which go before.

    Raises:
        UserError: no architecture is given, and the folder names none that this project builds.
    """
    named, asked = checkpoint.config.get("architecture"), given.get("architecture")
    if not named or (asked and library_of(asked) != ("timm", named)):
        return dict(given) | {"architecture": asked or _refuse_nameless(checkpoint)}
    made_with = {k: v for k, v in _model_args(checkpoint).items() if k not in NO_OPTIONS}
    keys = {KEYS[k]: made_with.pop(k) for k in list(made_with) if k in KEYS}
    options = made_with | dict(given.get("options", {}))
    return keys | dict(given) | {"architecture": f"timm:{named}", "options": options}


def _refuse_nameless(checkpoint: Checkpoint) -> NoReturn:
    """Refuse a checkpoint whose network nobody has named."""
    if found := checkpoint.config.get("architectures"):
        raise UserError(
            f"{checkpoint.path.parent} is a folder of transformers ({found[0]}): give "
            "--architecture module:function, a function of yours that returns this network and "
            "whose forward gives the logits"
        )
    raise UserError("--architecture: which network is it? A name, or module:function")


def _model_args(checkpoint: Checkpoint) -> dict[str, Any]:
    """The arguments that a folder's network was made with; timm leaves out those that are null."""
    found = checkpoint.config.get("model_args") or {}
    return {key: value for key, value in found.items() if value is not None}


def images_of(checkpoint: Checkpoint, given: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `images`: what is given, and else what a timm folder says.

    Raises:
        UserError: the folder's images are no squares, or become squares as none do here.
    """
    if "architecture" not in checkpoint.config:
        return dict(given)
    known = checkpoint.config.get("pretrained_cfg") or checkpoint.config  # flat in old ones
    found: dict[str, Any] = {"interpolation": known.get("interpolation") or INTERPOLATION}
    found |= {key: known[key] for key in ("mean", "std") if known.get(key)}
    if "size" not in given:
        found |= _size(checkpoint, known)
    return found | _fit(checkpoint, known, given) | dict(given)


def _size(checkpoint: Checkpoint, known: Mapping[str, Any]) -> dict[str, int]:
    """Pixels a side; a network of another size than its published weights' was told so."""
    sides = list(known.get("input_size") or ())[-2:]
    told = _model_args(checkpoint).get("img_size")
    if told is not None and known.get("fixed_input_size"):
        sides = [told, told] if isinstance(told, int) else list(told)
    if len(set(sides)) > 1:
        raise UserError(
            f"{checkpoint.path.parent / 'config.json'}: images of {sides[0]} x {sides[1]} pixels "
            "(input_size), and here all are squares: give --size, if the network takes squares too"
        )
    return {"size": sides[0]} if sides else {}


def _fit(
    checkpoint: Checkpoint, known: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """How a picture becomes a square; timm's `squash` shrinks all of it, then cuts the centre."""
    mode, share = known.get("crop_mode") or "center", known.get("crop_pct") or CROP_PCT
    fit = given.get("fit") or {"center": "crop", "squash": "stretch"}.get(mode)
    if fit == "crop":
        return {"crop_share": share}
    if "fit" in given or (fit == "stretch" and share == 1):
        return {"fit": fit}
    raise UserError(
        f"{checkpoint.path.parent / 'config.json'}: crop_mode {mode!r} with crop_pct {share}, as "
        "no images are prepared here: give --fit crop or --fit stretch, and see by --reference "
        "which comes near"
    )


def check_pool(checkpoint: Checkpoint, network: nn.Module) -> None:
    """Refuse a network that pools otherwise than its folder says: no weight would show it.

    Raises:
        UserError: says which option to give.
    """
    said, ours = checkpoint.config.get("global_pool"), _pool_of(network)
    if said and ours and said != ours:
        raise UserError(
            f"{checkpoint.path.parent / 'config.json'}: global_pool is {said!r}, the network's is "
            f"{ours!r}: give --options global_pool={said}, or correct the file"
        )


def _pool_of(network: nn.Module) -> str | None:
    """How a network of timm's pools: its head says it, or it does itself; None: nothing says it."""
    head = getattr(network, "head", None)
    places = (
        getattr(head, "global_pool", None),
        getattr(head, "pool_type", None),
        getattr(network, "global_pool", None),
    )
    named = (getattr(place, "pool_type", place) for place in places)
    return next((name for name in named if isinstance(name, str) and name), None)
