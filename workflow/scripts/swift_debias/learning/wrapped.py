"""A user's own network as a `Classifier`, and the way back.

The methods work on an extractor and a head with one logit. Of any network that ends in a linear
layer a copy is taken whose last layer does nothing but note its input: that is the extractor. The
head is the last layer itself; two outputs are folded to the one logit z1 - z0, which is all that a
softmax sees of them, and more stay as they are. `Wrapped.unwrap` loads what was trained into a copy
of the user's network, whose class, names, device and flags so are its own.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import UserError
from .finite import refuse_not_finite, refuse_scores
from .inference import inference
from .last_layer import find_last_layer, folded, split, unfolded
from .makers import own_function
from .networks import UNIT_MASK, Classifier, attach_unit_mask, without_masks
from .samples import Samples
from .states import fill, read_state

HEAD = "head.1."  # of a `Classifier`: the names of the last layer's weights


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
                `Classifier` is taken as it is.
            images: two of its inputs, with which its last layer is found.
            head: name of its last layer; None: found.
            classes: that it tells apart.

        Raises:
            UserError: the network does not end in such a layer; says what to do.
            NotFiniteError: a weight, or a score of the images, is not finite.
        """
        refuse_not_finite(dict(model.named_parameters()), "the network")
        self._model = model
        self._head: str | None = None
        network = copy.deepcopy(model)
        if isinstance(network, Classifier):
            if network.classes != classes:
                raise UserError(
                    f"the network tells {network.classes} classes apart, the images have {classes}"
                )
            self.classifier = network.eval()
            return
        outputs = (1, 2) if classes == 2 else (classes,)
        found = find_last_layer(network.eval(), images.to(_device(model)), head, outputs)
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
        model = copy.deepcopy(self._model)
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
    model = own_function(architecture)()
    if not isinstance(model, nn.Module):
        raise UserError(f"architecture {architecture!r} returns a {type(model).__name__}")
    fill(model, read_state(weights, own=True), weights, f"does not fit {architecture!r}")
    return model.eval()


def logits(model: nn.Module, samples: Samples, batch_size: int = 256) -> Tensor:
    """Logits of class 1 by a network with one or two outputs, float32 (n,); eval mode.

    Of a network with more outputs all of them, (n, C).

    Raises:
        NotFiniteError: a logit is not finite.
    """

    def of_class_1(output: Tensor) -> Tensor:
        if output.dim() == 2 and output.shape[1] > 2:
            return output
        two = output.dim() == 2 and output.shape[1] == 2
        return output[:, 1] - output[:, 0] if two else output.reshape(-1)

    with inference(model):
        parts = [of_class_1(model(batch.images)) for batch in samples.batches(batch_size)]
        found = torch.cat(parts) if parts else torch.zeros(0)
        refuse_scores(found)
        return found


def _device(model: nn.Module) -> torch.device:
    """Where a network's first weight is."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))
