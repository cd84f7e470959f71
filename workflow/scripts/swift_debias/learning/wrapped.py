"""A user's own network as a `Classifier`, and the way back.

The methods work on an extractor and a head with one logit. Of any network that ends in a linear
layer a copy is taken whose last layer does nothing but note its input: that is the extractor. The
head is the last layer itself; two outputs are folded to the one logit z1 - z0, which is all that a
softmax sees of them, and more stay as they are. `Wrapped.unwrap` loads what was trained into a copy
of the user's network, whose class, names, device and flags so are its own.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import UserError
from . import layouts
from .finite import refuse_not_finite, refuse_scores
from .forward import MIXES, draws_by_chance, mixes_images, refuse_mixing
from .inference import inference
from .last_layer import find_last_layer, folded, split, squashes, unfolded
from .makers import own_function, own_network
from .networks import UNIT_MASK, Classifier, attach_unit_mask, without_masks
from .samples import Samples, few
from .states import fill, read_state

HEAD = "head.1."  # of a `Classifier`: the names of the last layer's weights
SOME = 8  # images of which more is asked than their scores


class Wrapped:
    """A copy of a network as a `Classifier`; see the module's docstring.

    Attributes:
        classifier: what the methods work on; shares nothing with the network given.
    """

    def __init__(
        self, model: nn.Module, images: Tensor, head: str | None = None, classes: int = 2
    ) -> None:
        """Copy the network; it is not changed.

        Args:
            model: images -> one or two logits an image, or as many as there are classes; a
                `Classifier` is taken as it is, a compiled network (torch.compile) as it was before.
            images: two of its inputs, with which its last layer is found.
            head: name of its last layer; None: found.
            classes: that it tells apart.

        Raises:
            UserError: the network does not end in such a layer; says what to do.
            NotFiniteError: a weight, or a score of the images, is not finite.
        """
        refuse_unusable(model)
        model = getattr(model, "_orig_mod", model)  # of torch.compile
        if isinstance(model, torch.jit.ScriptModule):
            raise UserError(
                "a TorchScript network cannot be taken apart and trained: give the Python network "
                "that it was made of, with its weights"
            )
        _refuse_kinds(model)
        refuse_not_finite(dict(model.named_parameters()), "the network")
        self._model, self._images = model, images.to(_device(model))
        self._head: str | None = None
        network = self._copy()
        if isinstance(network, Classifier):
            layouts.watch(network.extractor)
            if network.classes != classes:
                raise UserError(
                    f"the network tells {network.classes} classes apart, the images have {classes}"
                )
            refuse_mixing(network.eval(), self._images)
            self.classifier = network
            return
        layouts.watch(network)
        outputs = (1, 2) if classes == 2 else (classes,)
        with _told(images):
            found = find_last_layer(network.eval(), self._images, head, outputs)
            _warn_of_chance(network, self._images)
            refuse_mixing(network, self._images)
        extractor, linear, dropout = split(network, found)
        with torch.random.fork_rng():  # a new head draws its weights, which are replaced
            self.classifier = Classifier(extractor, linear.in_features, dropout, classes)
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
        model = self._copy()
        state = dict(classifier.state_dict())
        if self._head is None:
            for name, mask in state.items():
                layer, _, last = name.rpartition(".")
                if last == UNIT_MASK:
                    attach_unit_mask(cast(Classifier, model), layer, torch.ones_like(mask))
        else:
            state = without_masks(state, classifier)
            start = cast(nn.Linear, model.get_submodule(self._head))
            unfolded(start, classifier.head.linear)
            state = {
                name.removeprefix("extractor."): value
                for name, value in state.items()
                if not name.startswith(HEAD)  # before: the user's own may be called so too
            }
            state |= {f"{self._head}.{name}": v for name, v in start.state_dict().items()}
        model.load_state_dict(state)
        return model.eval()

    def _copy(self) -> nn.Module:
        """A copy of the user's network.

        nn.utils.weight_norm and spectral_norm of old keep the weight of the last pass, with its
        graph, which cannot be copied; after a pass without gradients it can.
        """
        with contextlib.suppress(Exception):
            return copy.deepcopy(self._model)
        try:
            with inference(self._model):
                self._model(self._images)
            return copy.deepcopy(self._model)
        except Exception as error:
            raise UserError(
                f"the network cannot be copied (copy.deepcopy): {_in_a_line(error)}; instead of "
                "nn.utils.weight_norm and spectral_norm take those of nn.utils.parametrizations"
            ) from error


def load(architecture: str, weights: Path) -> nn.Module:
    """A user's network with its weights, in eval mode.

    Args:
        architecture: "package.module:function" that returns it.
        weights: its state dictionary, a safetensors file.

    Raises:
        UserError: either cannot be loaded, or they do not fit.
    """
    model = own_network(architecture, own_function(architecture), {})
    fill(model, read_state(weights, own=True), weights, f"does not fit {architecture!r}")
    return model.eval()


def logits(
    model: nn.Module, samples: Samples, batch_size: int = 256, known: bool = False
) -> Tensor:
    """Logits of class 1 by a network with one or two outputs, float32 (n,); eval mode.

    Of a network with more outputs all of them, (n, C). `known`: its outputs are known to be logits.

    Raises:
        UserError: the network does not take such images.
        NotFiniteError: a logit is not finite.
    """

    with inference(model), _watched(model):
        parts = []
        for batch in samples.batches(batch_size):
            with _told(batch.images, model):
                parts.append(_row_an_image(model(batch.images), len(batch.images)))
        found = torch.cat(parts) if parts else torch.zeros(0, 1)
        refuse_scores(found)
        if len(found) and not known:
            some = few(samples, SOME)
            plain = getattr(model, "_orig_mod", model)  # of torch.compile
            _warn_of_chance(plain, some)
            if mixes_images(plain, some):
                warnings.warn(f"{MIXES}: it is another in another order", stacklevel=3)
            _refuse_probabilities(found, plain, some)
        if found.shape[1] == 2:
            return found[:, 1] - found[:, 0]
        return found.squeeze(1) if found.shape[1] == 1 else found


def _row_an_image(output: Any, images: int) -> Tensor:
    """A network's output as (images, outputs).

    Raises:
        UserError: it is no such thing.
    """
    if not isinstance(output, Tensor):
        raise UserError(
            f"the network returns a {type(output).__name__}; let its forward return the logits"
        )
    if images == 1 and output.dim() < 2:  # one that squeezes has lost the row
        return output.reshape(1, -1)
    if output.dim() not in (1, 2) or len(output) != images or not output.numel():
        raise UserError(
            f"the network returns {tuple(output.shape)} of {images} images: let its forward return "
            f"logits, ({images},) or ({images}, classes)"
        )
    return output.view(images, -1)


def _refuse_probabilities(found: Tensor, model: nn.Module, images: Tensor) -> None:
    """Refuse outputs (n, C) that a sigmoid or softmax made, percent too; warn where it is not sure.

    Logits may happen to lie in [0, 1]: it is looked what the network's last layer gives.
    """
    sums = found.double().sum(1)
    shared = found.shape[1] > 1 and torch.allclose(sums, sums.mean(), rtol=2e-3, atol=0)
    if (found < 0).any() or not ((found <= 1).all() or shared):
        return
    squashed = squashes(model, images)
    said = "the network's outputs look like probabilities, and logits are needed: let its forward "
    said += "return what enters the softmax or sigmoid"
    one = shared and torch.allclose(sums.mean(), sums.new_ones(()), atol=2e-3)
    if squashed or (squashed is None and one):
        raise UserError(said)
    if squashed is None:
        warnings.warn(said, stacklevel=4)


def _warn_of_chance(model: nn.Module, images: Tensor) -> None:
    """Warn where a network in eval mode draws, as some do for the spread of their scores."""
    if draws_by_chance(model, images):
        warnings.warn(
            "the network gives other scores each time that it is asked, in eval mode too (dropout "
            "in its forward?): a part of every difference is chance",
            stacklevel=4,
        )


def refuse_unusable(model: object) -> None:
    """Refuse what is no network, or one that has no numbers yet.

    Raises:
        UserError: says what to do.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"the model must be a torch.nn.Module, not a {type(model).__name__}")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise UserError(
                f"the network's {name} has no shape yet (a lazy layer): call the model on a batch "
                "of images first"
            )
        if tensor.is_meta:
            raise UserError(
                f"the network's {name} is on the meta device, without numbers: call "
                "model.to_empty(device='cpu') and load its weights first"
            )


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[None]:
    """A user's network gets images as it can take them meanwhile (layouts.py)."""
    handle = layouts.watch(model)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def _refuse_kinds(model: nn.Module) -> None:
    """Refuse parameters that are no float32 numbers: images are, and methods train with them."""
    for name, parameter in model.named_parameters():
        kind = str(parameter.dtype).removeprefix("torch.")
        if parameter.is_complex():
            raise UserError(
                f"the network's parameter {name} is {kind}: hold it as real numbers "
                "(torch.view_as_real), which the methods work on"
            )
        if not parameter.is_floating_point():
            raise UserError(
                f"the network's parameter {name} is {kind}, which no training changes: make it a "
                "buffer (register_buffer)"
            )
        if parameter.dtype != torch.float32:
            raise UserError(f"the network's weights are {kind} ({name}): call model.float() first")


@contextlib.contextmanager
def _told(images: Tensor, model: nn.Module | None = None) -> Iterator[None]:
    """Whatever a network's code raises of images, in one line; a kind of weights may be why."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if model is not None:
            _refuse_kinds(model)
        channels, height, width = images.shape[1:]
        raise UserError(
            f"the network does not take images of {channels} channels, {height} x {width} pixels: "
            f"{_in_a_line(error)}"
        ) from error


def _in_a_line(error: Exception) -> str:
    """What an error says."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _device(model: nn.Module) -> torch.device:
    """Where a network's first weight is."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))
