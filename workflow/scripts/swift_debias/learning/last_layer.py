"""The last linear layer of a network, found or named, and what is done with it.

Two ways to find it. `find_last_layer` looks at a forward pass: it is sure, and needs images of the
right size; the front door, `check_models` and the import of checkpoints take it. `last_registered`
needs none: it takes the linear layer that the network registers last, which is what the jobs of a
run build again and again; `check_models` refuses, before they start, where the two differ.

`split` takes a network apart there: what comes before is the extractor, which notes what the last
layer would have been given. Two outputs are folded to the one logit z1 - z0, which is all that a
softmax sees of them.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from ..errors import UserError, nearest, setting
from .finite import refuse_scores
from .forward import asked, draws_by_chance
from .names import one_logit

FAR = 1e4  # a logit that whatever bends or cuts off logits would change

ONE_OF_SEVERAL = (
    "of a multi-label network give the last layer the row of one finding alone (docs/library.md, "
    "One finding of several)"
)


class FollowedError(UserError):
    """A network does something with what its last linear layer gives."""


class LastLayer(NamedTuple):
    """Where a network ends.

    name: of its last linear layer. dropout: of the layer that feeds it alone, or None.
    """

    name: str
    dropout: str | None


class _Note(nn.Module):
    """Stands where the last layer stood: notes its input, and returns zeros of its shape."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.seen: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Zeros: what the network does with them (a squeeze, a reshape) does not matter."""
        self.seen = features
        return features.new_zeros(*features.shape[:-1], self.outputs)


class _Noted:
    """Forward hook: the network's output is what its last layer would have been given.

    An object, so that a deep copy of the network refers to the copy's own note.
    """

    def __init__(self, note: _Note) -> None:
        self.note = note

    def __call__(self, _module: nn.Module, _inputs: Any, _output: Any) -> Tensor:
        """The features."""
        features, self.note.seen = self.note.seen, None
        return cast(Tensor, features)


class Split(NamedTuple):
    """A network taken apart at its last layer.

    extractor: the network itself, whose output is now the features (B, D).
    linear: the layer that stood at its end. dropout: probability of what fed it alone.
    """

    extractor: nn.Module
    linear: nn.Linear
    dropout: float


def split(network: nn.Module, last: LastLayer) -> Split:
    """Take a network apart, in place; the names of its other weights stay."""
    linear = cast(nn.Linear, network.get_submodule(last.name))
    dropout = 0.0
    if last.dropout is not None:
        # It belongs to the head: features of the frozen extractor are drawn without it.
        dropout = cast(nn.Dropout, network.get_submodule(last.dropout)).p
        replace(network, last.dropout, nn.Identity())
    note = _Note(linear.out_features)
    replace(network, last.name, note)
    network.register_forward_hook(_Noted(note))
    return Split(network, linear, dropout)


def modules_of(extractor: nn.Module) -> set[str]:
    """Names of an extractor's modules, without those that stand for none or for the last layer."""
    return {
        name
        for name, module in extractor.named_modules()
        if name and not isinstance(module, nn.Identity | _Note)
    }


def last_registered(network: nn.Module, head: str | None = None) -> LastLayer:
    """The linear layer that a network registers last, and the dropout right before it.

    Args:
        network: not changed.
        head: its name; None: the last one.

    Raises:
        UserError: there is none of that name, or none at all.
    """
    leaves = [(n, m) for n, m in network.named_modules() if n and not any(m.children())]
    linear = [name for name, module in leaves if isinstance(module, nn.Linear)]
    if head is not None and head not in linear:
        raise UserError(f"head: there is no linear layer {head!r}{nearest(head, linear[-5:])}")
    if not linear:
        raise UserError("the network has no linear layer (torch.nn.Linear) to end in")
    name = head or linear[-1]
    place = [n for n, _ in leaves].index(name)
    before, module = leaves[place - 1]
    return LastLayer(name, before if place and isinstance(module, nn.Dropout) else None)


def find_last_layer(
    model: nn.Module,
    images: Tensor,
    head: str | None = None,
    outputs: tuple[int, ...] | None = (1, 2),
) -> LastLayer:
    """The linear layer whose output is the network's, up to its shape.

    Args:
        model: in eval mode.
        images: inputs, on its device.
        head: its name; None: the last that a forward pass calls.
        outputs: how many it may have; None: any number, where another takes its place.

    Raises:
        UserError: there is none, or it cannot serve as a head; says what to do.
        NotFiniteError: a score of these images is not finite.
    """
    calls: list[tuple[str, nn.Module, Tensor, Tensor]] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                kept = output.clone() if isinstance(module, nn.Linear) else output
                calls.append((name, module, inputs[0], kept))

        return hook

    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Dropout)}
    handles = [module.register_forward_hook(watch(name)) for name, module in layers.items()]
    try:
        output = asked(model, images)
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(output, Tensor):
        raise UserError(
            f"the network returns a {type(output).__name__}; let its forward return the logits"
        )
    refuse_scores(output)  # none at all is equal to nothing, not even to itself
    linear = [call for call in calls if isinstance(call[1], nn.Linear)]
    if head is not None:
        named = [call for call in linear if call[0] == head]
        if not named:
            names = [name for name, *_ in linear]
            raise UserError(
                f"{setting('head')}: no linear layer {head!r} takes part{nearest(head, names)}"
            )
        linear = named
    if not linear:
        raise UserError("the network has no linear layer (torch.nn.Linear) to end in")
    ends = [call for call in linear if _same(call[3], output)]
    if not ends:
        raise _not_the_last(linear[-1][0])
    name, module, inputs, given = ends[-1]
    layer = cast(nn.Linear, module)
    if outputs is not None and layer.out_features not in outputs:
        findings = outputs == (1, 2) and layer.out_features > 2
        raise UserError(
            f"the last layer {name!r} has {layer.out_features} outputs; it needs {_wanted(outputs)}"
            + (f"; {ONE_OF_SEVERAL}" if findings else "")
        )
    _check_head(name, layer, inputs, [call[0] for call in linear])
    _refuse_tied(model, name, layer)
    if not _comes_out(model, images, name, given):
        raise _not_the_last(name)
    feeding = [
        (called, number)
        for number, (called, layer, _, out) in enumerate(calls)
        if isinstance(layer, nn.Dropout) and out is inputs
    ]
    once = feeding and [call[0] for call in calls].count(feeding[-1][0]) == 1
    found = LastLayer(name, feeding[-1][0] if once else None)
    if not _is_linear(model, images, found, output):
        raise UserError(
            f"the last layer {name!r} ({type(layer).__name__}) gives something else than its "
            "weight and bias make, by a hook or a forward of its own: end in a plain "
            "torch.nn.Linear"
        )
    return found


def squashes(model: nn.Module, images: Tensor) -> bool | None:
    """Whether a network's outputs are a sigmoid or softmax, or multiples of it, of some layer's.

    False: they are what its last linear or convolutional layer gives. None: neither is seen.

    Args:
        model: in eval mode.
        images: one at least; outputs (B,) or (B, C).
    """
    given: list[tuple[bool, Tensor]] = []

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            given.append((isinstance(module, nn.Linear | nn.Conv2d), output.detach().clone()))

    parts = [part for part in model.modules() if not isinstance(part, torch.jit.ScriptModule)]
    handles = [part.register_forward_hook(note) for part in parts]
    try:
        output = asked(model, images)
    finally:
        for handle in handles:
            handle.remove()
    rows = output.reshape(len(images), -1).float()
    before = [(ends, g.reshape(len(images), -1).float()) for ends, g in given if _fits(g, rows)]
    if any(ends and torch.equal(rows, g) for ends, g in before):
        return False
    for _, g in before:
        for made in (g.sigmoid(), g.softmax(dim=1)):
            scale = rows.max() / made.max()
            if made.std() > 0 and torch.allclose(rows, scale * made, rtol=1e-2, atol=0):
                return True
    return None


def _fits(given: Tensor, rows: Tensor) -> bool:
    """Whether a layer gives as many numbers as the network."""
    return given.numel() == rows.numel() and given.dim() > 0 and len(given) == len(rows)


def _is_linear(model: nn.Module, images: Tensor, found: LastLayer, output: Tensor) -> bool:
    """Whether the network, taken apart there, says the same by the layer's weight and bias alone.

    A layer's own `forward`, or a hook on it, may do more. What is drawn by chance is not compared.
    """
    try:
        taken = split(copy.deepcopy(model), found)
    except Exception:  # a pass may be noted in it
        return True
    features = asked(taken.extractor, images)
    alone = functional.linear(features, taken.linear.weight, taken.linear.bias).reshape(-1)
    whole = output.reshape(-1)
    near = torch.allclose(alone, whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))
    return near or draws_by_chance(model, images)


def _not_the_last(name: str) -> UserError:
    return FollowedError(
        f"the network does something after its last layer {name!r}, such as a sigmoid, softmax or "
        "ReLU; let its forward return the logits, that layer's output; where it picks some of "
        f"them, {ONE_OF_SEVERAL}"
    )


def _comes_out(model: nn.Module, images: Tensor, name: str, given: Tensor) -> bool:
    """Whether the network returns what its last layer gives, large numbers of both signs too.

    A ReLU leaves positive logits as they are, and a clamp small ones.
    """
    with contextlib.suppress(Exception):  # a pass may be noted in it
        model = copy.deepcopy(model)
    layer = model.get_submodule(name)
    far = torch.linspace(-FAR, FAR, given.numel() + 1)[1:].to(given).view_as(given)
    for probe in (far, -far):
        handle = layer.register_forward_hook(lambda *_, probe=probe: probe.clone())
        try:
            if not _same(asked(model, images), probe):
                return False
        finally:
            handle.remove()
    return True


def _wanted(outputs: tuple[int, ...]) -> str:
    """How many outputs a last layer may have, in words."""
    if outputs == (1, 2):
        return "one, or two for a softmax"
    return f"one for each of {outputs[0]} classes"


def _check_head(name: str, linear: nn.Linear, inputs: Tensor, called: list[str]) -> None:
    """Refuse a last layer that cannot serve as a head."""
    if not name:
        raise UserError(
            "the network is one linear layer; put it in a Sequential with what feeds it"
        )
    if called.count(name) > 1:
        raise UserError(f"the last layer {name!r} is called {called.count(name)} times in a pass")
    if inputs.dim() != 2:
        raise UserError(
            f"the last layer {name!r} gets inputs of shape {tuple(inputs.shape)}; it needs one row "
            "of features an image"
        )
    own = [n for n, _ in (*linear.named_parameters(), *linear.named_buffers())]
    if parametrize.is_parametrized(linear) or "weight" not in linear._parameters:
        raise UserError(
            f"the last layer {name!r} is parametrized; make its weight a plain one first "
            "(torch.nn.utils.parametrize.remove_parametrizations, or remove_weight_norm)"
        )
    if others := sorted({*own} - {"weight", "bias"}):
        raise UserError(
            f"the last layer {name!r} ({type(linear).__name__}) has {others[0]} beside its weight "
            "and bias: merge it into the weight and end the network in a plain torch.nn.Linear"
        )


def _refuse_tied(model: nn.Module, name: str, linear: nn.Linear) -> None:
    """Refuse a last layer whose weight has a second name: only one of them would be trained."""
    every = list(model.named_parameters(remove_duplicate=False))
    for part, parameter in linear.named_parameters():
        others = [n for n, p in every if p is parameter and n != f"{name}.{part}"]
        if others:
            raise UserError(
                f"the last layer's {name}.{part} is {others[0]} too; give the last layer a weight "
                "of its own (torch.nn.Parameter(weight.detach().clone()))"
            )


def folded(linear: nn.Linear) -> nn.Linear:
    """A layer with one output z1 - z0 of one with two; of any other a copy."""
    weight, bias = linear.weight.detach(), linear.bias
    with torch.random.fork_rng():
        one = nn.Linear(linear.in_features, len(one_logit(weight)), bias is not None)
    one = one.to(weight)
    with torch.no_grad():
        one.weight.copy_(one_logit(weight))
        if bias is not None:
            one.bias.copy_(one_logit(bias.detach()))
    return one


def unfolded(start: nn.Linear, one: nn.Linear) -> None:
    """Give a layer the weights that `folded` made of it and that were trained since, in place.

    Of two outputs the difference becomes the trained one and the sum stays. What was not changed
    keeps its bits.
    """
    with torch.no_grad():
        for name, parameter in start.named_parameters():
            parameter.copy_(unfolded_rows(parameter, one.get_parameter(name).detach()))


def unfolded_rows(before: Tensor, trained: Tensor) -> Tensor:
    """The rows of a last layer of which `one_logit` makes `trained`.

    Args:
        before: (1, ...), (2, ...) or (C, ...), what it was made of before the training.
        trained: (1, ...) or (C, ...), any type.
    """
    trained = trained.to(before.device)
    if len(before) != 2:
        return trained.to(before)
    low, high = before.double()
    total, difference = low + high, trained.double().view_as(low)
    pair = torch.stack([(total - difference) / 2, (total + difference) / 2])
    # of the difference as it was made, which was in the type that `trained` has
    same = one_logit(before.to(trained.dtype)).view_as(low) == trained.view_as(low)
    return torch.where(same, before, pair.to(before))


def replace(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put another module in a module's place."""
    parent, _, last = name.rpartition(".")
    network.get_submodule(parent)._modules[last] = module


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, whatever their shapes."""
    return one.numel() == other.numel() and torch.equal(one.reshape(-1), other.reshape(-1))
