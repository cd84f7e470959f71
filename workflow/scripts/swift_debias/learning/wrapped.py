"""A user's own network as a `Classifier`, and the way back.

The methods work on an extractor and a head with one logit. Of any network that ends in a linear
layer a copy is taken whose last layer does nothing but note its input: that is the extractor. The
head is the last layer itself; two outputs are folded to the one logit z1 - z0, which is all that a
softmax sees of them. `Wrapped.unwrap` loads what was trained into a copy of the user's network,
whose class, names, device and flags so are its own.
"""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import UserError, nearest
from .inference import inference
from .networks import UNIT_MASK, Classifier, attach_unit_mask, fill, read_state
from .samples import Samples

HEAD = "head.1."  # of a `Classifier`: the names of the last layer's weights


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


class Wrapped:
    """A copy of a network as a `Classifier`; see the module's docstring.

    Attributes:
        classifier: what the methods work on; shares nothing with the network given.
    """

    def __init__(self, model: nn.Module, images: Tensor, head: str | None = None) -> None:
        """Copy the network; it is not changed.

        Args:
            model: images -> one or two logits an image; a `Classifier` is taken as it is.
            images: two of its inputs, with which its last layer is found.
            head: name of its last layer; None: found.

        Raises:
            UserError: the network does not end in such a layer; says what to do.
        """
        self._model = model
        self._head: str | None = None
        network = copy.deepcopy(model)
        if isinstance(network, Classifier):
            self.classifier = network.eval()
            return
        found = find_last_layer(network.eval(), images.to(_device(model)), head)
        linear = cast(nn.Linear, network.get_submodule(found.name))
        dropout = 0.0
        if found.dropout is not None:
            # It belongs to the head: features of the frozen extractor are drawn without it.
            dropout = cast(nn.Dropout, network.get_submodule(found.dropout)).p
            _replace(network, found.dropout, nn.Identity())
        note = _Note(linear.out_features)
        _replace(network, found.name, note)
        network.register_forward_hook(_Noted(note))
        with torch.random.fork_rng():  # a new head draws its weights, which are replaced
            self.classifier = Classifier(network, linear.in_features, dropout)
        self.classifier.head[1] = folded(linear)
        self.classifier.eval()
        self._head = found.name

    @property
    def is_foreign(self) -> bool:
        """Whether the network is the user's own, and no `Classifier`."""
        return self._head is not None

    def name(self, parameter: str) -> str:
        """The user's name of one of the classifier's weights or layers."""
        if self._head is None:
            return parameter
        if (parameter + ".").startswith(HEAD):
            return self._head + parameter.removeprefix(HEAD.removesuffix("."))
        return parameter.removeprefix("extractor.")

    def unwrap(self, classifier: Classifier) -> nn.Module:
        """The user's network with the weights of a classifier that was made of it, in eval mode.

        Raises:
            UserError: a pruning mask has no place in the user's network.
        """
        model = copy.deepcopy(self._model)
        state = dict(classifier.state_dict())
        if self._head is None:
            for name, mask in state.items():
                layer, _, last = name.rpartition(".")
                if last == UNIT_MASK:
                    attach_unit_mask(cast(Classifier, model), layer, torch.ones_like(mask))
        else:
            state = _fold_masks(state, classifier)
            start = cast(nn.Linear, model.get_submodule(self._head))
            unfolded(start, classifier.head.linear)
            state = {name.removeprefix("extractor."): value for name, value in state.items()}
            state = {name: value for name, value in state.items() if not name.startswith(HEAD)}
            state |= {f"{self._head}.{name}": v for name, v in start.state_dict().items()}
        model.load_state_dict(state)
        return model.eval()


def load(architecture: str, weights: Path) -> nn.Module:
    """A user's network with its weights, in eval mode.

    Args:
        architecture: "package.module:function" that returns it.
        weights: its state dictionary, a safetensors file.

    Raises:
        UserError: either cannot be loaded, or they do not fit.
    """
    module, _, function = architecture.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"architecture {architecture!r} cannot be loaded: {error}") from error
    model = make()
    if not isinstance(model, nn.Module):
        raise UserError(f"architecture {architecture!r} returns a {type(model).__name__}")
    fill(model, read_state(weights, own=True), weights, f"does not fit {architecture!r}")
    return model.eval()


def find_last_layer(model: nn.Module, images: Tensor, head: str | None = None) -> LastLayer:
    """The linear layer whose output is the network's, up to its shape.

    Args:
        model: in eval mode.
        images: inputs, on its device.
        head: its name; None: the last that a forward pass calls.

    Raises:
        UserError: there is none, or it cannot serve as a head; says what to do.
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
        with torch.no_grad():
            output = model(images)
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(output, Tensor):
        raise UserError(
            f"the network returns a {type(output).__name__}; let its forward return the logits"
        )
    linear = [call for call in calls if isinstance(call[1], nn.Linear)]
    if head is not None:
        named = [call for call in linear if call[0] == head]
        if not named:
            names = [name for name, *_ in linear]
            raise UserError(f"head: no linear layer {head!r} takes part{nearest(head, names)}")
        linear = named
    if not linear:
        raise UserError("the network has no linear layer (torch.nn.Linear) to end in")
    ends = [call for call in linear if _same(call[3], output)]
    if not ends:
        raise UserError(
            f"the network does something after its last layer {linear[-1][0]!r}, such as a sigmoid "
            "or softmax; let its forward return the logits, that layer's output"
        )
    name, module, inputs, _ = ends[-1]
    _check_head(name, cast(nn.Linear, module), inputs, [call[0] for call in linear])
    feeding = [
        (called, number)
        for number, (called, layer, _, out) in enumerate(calls)
        if isinstance(layer, nn.Dropout) and out is inputs
    ]
    once = feeding and [call[0] for call in calls].count(feeding[-1][0]) == 1
    return LastLayer(name, feeding[-1][0] if once else None)


def _check_head(name: str, linear: nn.Linear, inputs: Tensor, called: list[str]) -> None:
    """Refuse a last layer that cannot serve as a head."""
    if linear.out_features not in (1, 2):
        raise UserError(
            f"the last layer {name!r} has {linear.out_features} outputs; it needs one, or two for "
            "a softmax"
        )
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
    if parametrize.is_parametrized(linear):
        raise UserError(
            f"the last layer {name!r} is parametrized; make its weight a plain one first "
            "(torch.nn.utils.parametrize.remove_parametrizations)"
        )


def folded(linear: nn.Linear) -> nn.Linear:
    """A layer with one output z1 - z0 of one with two; of one with one output a copy."""
    weight, bias = linear.weight.detach(), linear.bias
    with torch.random.fork_rng():
        one = nn.Linear(linear.in_features, 1, bias is not None)
    one = one.to(weight)
    with torch.no_grad():
        one.weight.copy_(_difference(weight))
        if bias is not None:
            one.bias.copy_(_difference(bias.detach()))
    return one


def unfolded(start: nn.Linear, one: nn.Linear) -> None:
    """Give a layer the weights that `folded` made of it and that were trained since, in place.

    Of two outputs the difference becomes the trained one and the sum stays. What was not changed
    keeps its bits.
    """
    with torch.no_grad():
        for name, parameter in start.named_parameters():
            trained = one.get_parameter(name).detach().to(parameter)
            if len(parameter) == 1:
                parameter.copy_(trained)
                continue
            low, high = parameter.double()
            total, difference = low + high, trained.double().view_as(low)
            pair = torch.stack([(total - difference) / 2, (total + difference) / 2])
            same = _difference(parameter).view_as(low) == trained.view_as(low)
            parameter.copy_(torch.where(same, parameter, pair.to(parameter)))


def logits(model: nn.Module, samples: Samples, batch_size: int = 256) -> Tensor:
    """Logits of class 1 by a network with one or two outputs, float32 (n,); eval mode."""

    def of_class_1(output: Tensor) -> Tensor:
        two = output.dim() == 2 and output.shape[1] == 2
        return output[:, 1] - output[:, 0] if two else output.reshape(-1)

    with inference(model):
        parts = [of_class_1(model(batch.images)) for batch in samples.batches(batch_size)]
        return torch.cat(parts) if parts else torch.zeros(0)


def _difference(values: Tensor) -> Tensor:
    """Row 1 minus row 0 of two rows; one row as it is."""
    return values[1:] - values[:1] if len(values) == 2 else values


def _fold_masks(state: dict[str, Tensor], classifier: Classifier) -> dict[str, Tensor]:
    """Pruning masks of whole channels, multiplied into the weights that make the channels."""
    masks = {name: mask for name, mask in state.items() if name.endswith(f".{UNIT_MASK}")}
    state = {name: value for name, value in state.items() if name not in masks}
    for name, mask in masks.items():
        layer = name.removesuffix(f".{UNIT_MASK}")
        module = classifier.get_submodule(layer)
        linear_in_weights = isinstance(
            module, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d
        )
        if mask.numel() != len(mask) or not linear_in_weights or module.weight is None:
            raise UserError(
                f"the pruning mask of {layer.removeprefix('extractor.')!r} has no place in the "
                "network's weights; prune channels (unit='channel') of a normalization, "
                "convolution or linear layer"
            )
        for key in ("weight", "bias"):
            if (value := state.get(f"{layer}.{key}")) is not None:
                state[f"{layer}.{key}"] = value * mask.view(-1, *[1] * (value.dim() - 1))
    return state


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put another module in a module's place."""
    parent, _, last = name.rpartition(".")
    network.get_submodule(parent)._modules[last] = module


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, whatever their shapes."""
    return one.numel() == other.numel() and torch.equal(one.reshape(-1), other.reshape(-1))


def _device(model: nn.Module) -> torch.device:
    """Where a network's first weight is."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))
