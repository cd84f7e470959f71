"""Which tensor of a user's checkpoint is which of a classifier's.

The extractor's names are known, so whatever the checkpoint puts before them (`module.`, `model.`,
`backbone.net.`) is found by looking: it is what makes all of them fit. What is left over is the
last layer, whatever it is called: the one weight that takes the extractor's features. Of several
whole copies (`student.` and `teacher.`, `model.` and `ema.`) the one that the last layer is of is
taken: an extractor with another one's last layer is nobody's network. A copy that has more layers
among the extractor's own is of a deeper network, whose scores the extractor would not give.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..errors import UserError, nearest, setting

HEAD = "head.1"  # the last layer of a `Classifier`
OPTIONAL = "num_batches_tracked"  # counters of BatchNorm, which old files lack
SOME = 5  # names that a message lists
WEIGHTS = ("weight", "bias")  # what no module has as a buffer
# torchvision 0.2 and what was trained with it: norm.1 for norm1
_OLD_DENSENET = re.compile(r"(\.denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


class UnclearError(UserError):
    """A checkpoint has the network, and more than one layer or copy that it could be."""


class Match(NamedTuple):
    """A checkpoint's tensors by what they are.

    names: of the extractor's tensors -> in the checkpoint. head: the checkpoint's name of the last
    layer. outputs: how many it has. unused: tensors that are neither.
    """

    names: dict[str, str]
    head: str
    outputs: int
    unused: tuple[str, ...]


def some(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:SOME]) + (", ..." if len(names) > SOME else "")


def is_classifier(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors are called as in a `Classifier`."""
    return f"{HEAD}.weight" in state and any(name.startswith("extractor.") for name in state)


def match(
    state: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    features: int,
    what: str | Path,
    head: str | None = None,
    modules: Collection[str] = (),
) -> Match:
    """Find an extractor and a last layer among a checkpoint's tensors.

    Args:
        state: the checkpoint.
        wanted: the extractor's own state dictionary.
        features: how many the extractor gives, which the last layer takes.
        what: the file, for messages.
        head: the checkpoint's name of the last layer; None: found.
        modules: the extractor's, by `last_layer.modules_of`; those with a tensor are known.

    Raises:
        UserError: names the first tensor that is missing, too many or of another shape, the layers
            that could be the last, or the copies that could be its extractor.
    """
    own = {_OLD_DENSENET.sub(r"\1\2", name): name for name in state}
    copies = {
        prefix: {name: own[prefix + name] for name in wanted if prefix + name in own}
        for prefix in _prefixes(own, state, wanted, what)
    }
    taken = {theirs for names in copies.values() for theirs in names.values()}
    known = _known(wanted, modules)
    more = {
        prefix: _more(_below(prefix, own, state, taken), wanted, known, features)
        for prefix in copies
    }
    misfits = {
        prefix: _misfit(names, state, wanted) or _deeper([prefix + n for n in more[prefix]])
        for prefix, names in copies.items()
    }
    if all(misfits.values()):
        raise UserError(f"{what}: {next(iter(misfits.values()))}")
    # the network's own name may be another layer's here
    named = None if any(head in names for names in copies.values()) else head
    taken |= {own[prefix + name] for prefix, names in more.items() for name in names}
    left = {name: value for name, value in state.items() if name not in taken}
    layer = _last_layer(left, features, what, named)
    prefix = _copy_of(layer, list(copies), what)
    if misfits[prefix]:
        raise UserError(f"{what}: {misfits[prefix]}")
    names = copies[prefix]
    used = set(names.values())
    rest = tuple(n for n in state if n not in used and n.rpartition(".")[0] != layer)
    return Match(names, layer, len(state[f"{layer}.weight"]), rest)


def _misfit(
    names: Mapping[str, str], state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> str | None:
    """The first tensor of another shape than the extractor's, in words."""
    for name, theirs in names.items():
        ours, found = tuple(wanted[name].shape), tuple(state[theirs].shape)
        if ours != found:
            grey = len(ours) == 4 and {ours[1], found[1]} == {1, 3} and ours[2:] == found[2:]
            hint = f"; channels: {found[1]} of the backbone?" if grey else ""
            return f"{theirs} is {found}, the architecture's is {ours}{hint}"
    return None


def _below(
    prefix: str, own: Mapping[str, str], state: Mapping[str, Tensor], taken: set[str]
) -> dict[str, Tensor]:
    """What stands below a copy's prefix and is no copy's, by names as the extractor's."""
    return {
        name.removeprefix(prefix): state[theirs]
        for name, theirs in own.items()
        if name.startswith(prefix) and theirs not in taken
    }


def _known(wanted: Mapping[str, Tensor], modules: Collection[str]) -> set[str]:
    """An extractor's modules: those that hold its tensors, those around them, and those given."""
    return {""} | {
        ".".join(parts[:length])
        for parts in (*(name.split(".")[:-1] for name in wanted), *(n.split(".") for n in modules))
        for length in range(len(parts) + 1)
    }


def _more(
    left: Mapping[str, Tensor], wanted: Mapping[str, Tensor], known: set[str], features: int
) -> list[str]:
    """Those of a checkpoint's leftovers that belong to the extractor, which has no place for them.

    Below the module from which the extractor branches, whatever is new beside its branches is
    another's: an auxiliary head, a loss, another copy. What is new inside one of them, or is the
    next of a numbered row, is another network's layer. A tensor right in a module that the
    extractor has is a buffer that it does not keep: old timm wrote Swin's attn_mask and
    relative_position_index, the tables of rotary positions, counters. Only as `weight` or `bias`
    it is a parameter. A new module of whole numbers alone keeps counters too.

    Args:
        left: what no copy of the extractor takes, by names as the extractor's.
        wanted, features: as in `match`.
        known: the extractor's modules.
    """
    root = _root(wanted)
    rows = {_row(name, root) for name in wanted} - {None}
    new: dict[str, list[str]] = {}
    for name in left:
        module, _, last = name.rpartition(".")
        above = next(a for a in _ancestors(name) if a in known)
        inside = above != root and above.startswith(f"{root}." if root else "")
        if module in known and (not inside or last not in WEIGHTS):
            continue
        if inside or _row(name, root) in rows:
            place = name[len(above) + bool(above) :].partition(".")[0]
            new.setdefault(module if module in known else f"{above}.{place}", []).append(name)
    return [
        name
        for names in new.values()
        if any(left[n].is_floating_point() for n in names) and not _is_layer(names, left, features)
        for name in names
    ]


def _root(wanted: Mapping[str, Tensor]) -> str:
    """The module from which an extractor branches: `net` of an extractor that is wrapped in it."""
    paths = [name.split(".")[:-2] for name in wanted]  # it has modules, not tensors alone
    shared: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _row(name: str, root: str) -> str | None:
    """Which numbered row of the root's children a tensor is of: `layer#` for layer1.0.weight."""
    before = f"{root}." if root else ""
    child, dot, _ = name.removeprefix(before).partition(".")
    if not name.startswith(before):
        return None
    row = re.sub(r"\d+", "#", child)
    return row if dot and row != child else None


def _ancestors(name: str) -> Iterator[str]:
    """The modules around a tensor, the nearest first; the last is the network, ''."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _is_layer(names: list[str], left: Mapping[str, Tensor], features: int) -> bool:
    """Whether tensors are one linear layer that takes the features: a last one, or an unused."""
    layers = {name.rpartition(".")[0] for name in names}
    return len(layers) == 1 and _takes(left.get(f"{min(layers)}.weight"), features)


def _takes(weight: Tensor | None, features: int) -> bool:
    """Whether a weight is a linear layer's that takes the features."""
    return weight is not None and weight.dim() == 2 and weight.shape[1] == features


def _deeper(more: list[str]) -> str | None:
    """That a checkpoint has more of the extractor than the architecture, in words."""
    if not more:
        return None
    first = next((name for name in more if not name.endswith(OPTIONAL)), more[0])
    return (
        f"the file has {len(more)} more tensor{'s' * (len(more) > 1)} of the extractor, the first "
        f"{first}: a deeper network, or one with other options?"
    )


def _copy_of(layer: str, prefixes: list[str], what: str | Path) -> str:
    """Which copy of the extractor a last layer is of: the one whose prefix it shares most of."""

    def shared(prefix: str) -> tuple[int, bool]:
        parts = prefix.split(".")[:-1]
        equal = [a == b for a, b in zip(parts, layer.split("."), strict=False)]
        return [*equal, False].index(False), all(equal)

    best = max(map(shared, prefixes))
    closest = [prefix for prefix in prefixes if shared(prefix) == best]
    if len(closest) > 1:
        raise UnclearError(
            f"{what}: {len(closest)} whole copies of the extractor, {closest}, and the last "
            f"layer {layer!r} is of none of them: save one network alone"
        )
    return closest[0]


def _prefixes(
    own: Mapping[str, str],
    state: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    what: str | Path,
) -> list[str]:
    """What stands before the extractor's names: once for every whole copy of it."""
    needed = [name for name in wanted if not name.endswith(OPTIONAL)]
    if not needed:
        return [""]
    anchor = max(needed, key=len)
    ends = [name.removesuffix(anchor) for name in own if name.endswith(anchor)]
    before = {end for end in ends if not end or end.endswith(".")}
    whole = [prefix for prefix in sorted(before) if all(prefix + name in own for name in needed)]
    # 0.weight of a convolution may be 0.weight of a linear layer elsewhere
    alike = [
        prefix
        for prefix in whole
        if all(state[own[prefix + n]].dim() == wanted[n].dim() for n in needed)
    ]
    if whole:
        return alike or whole
    best = max(ends or [""], key=lambda p: sum(p + name in own for name in needed))
    missing = [best + name for name in needed if best + name not in own]
    raise UserError(
        f"{what}: no weights for {len(missing)} of {len(needed)} tensors of the extractor, "
        f"{missing[:3]}; it has {list(own.values())[:3]}: is it of another architecture?"
    )


def _last_layer(
    left: Mapping[str, Tensor], features: int, what: str | Path, named: str | None
) -> str:
    """The layer that is left over: the only one that takes the features, or the one named."""
    layers = [
        name.removesuffix(".weight")
        for name, value in left.items()
        if name.endswith(".weight") and _takes(value, features)
    ]
    if named is not None:
        ending = [n for n in layers if n.endswith(f".{named}")]
        chosen = [named] if named in layers else ending
        if not chosen:
            none = f"no last layer {named!r}{nearest(named, layers)}"
            raise UserError(f"{what}: {setting('head')}: {none}")
        layers = chosen
    if len(layers) > 1:
        several = f"several layers could be the last, {layers}"
        raise UnclearError(f"{what}: {several}: name one ({setting('head')})")
    if not layers:
        raise UserError(
            f"{what}: no layer beside the extractor takes its {features} features; there is "
            f"{list(left)[:3] or 'nothing more'}"
        )
    return layers[0]


def as_classifier(
    state: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    found: Match,
    what: str | Path,
    classes: int | None = 2,
) -> dict[str, Tensor]:
    """A checkpoint's tensors under the names of a `Classifier`; two outputs become one logit.

    Args:
        state, wanted, what: as in `match`.
        found: what `match` found.
        classes: that it is to tell apart; None: as many as it has.

    Raises:
        UserError: the last layer has outputs for other classes.
    """
    weight = state[f"{found.head}.weight"]
    if classes not in (None, 2, found.outputs):
        raise UserError(
            f"{what}: the last layer {found.head!r} has {found.outputs} outputs, but the task has "
            f"{classes} classes"
        )
    if classes == 2 and found.outputs not in (1, 2):
        raise UserError(
            f"{what}: the last layer {found.head!r} has {found.outputs} outputs; it needs one, or "
            "two for a softmax"
        )
    bias = state.get(f"{found.head}.bias", weight.new_zeros(found.outputs))
    made = {f"extractor.{name}": state[theirs] for name, theirs in found.names.items()}
    for name, value in wanted.items():
        made.setdefault(f"extractor.{name}", value)  # counters that an old file lacks
    return made | {f"{HEAD}.weight": one_logit(weight), f"{HEAD}.bias": one_logit(bias)}


def one_logit(values: Tensor) -> Tensor:
    """Row 1 minus row 0 of two rows, which is all that a softmax sees; one row as it is."""
    return values[1:] - values[:1] if len(values) == 2 else values
