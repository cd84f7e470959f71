"""SWiFT written plainly, as the released code computes it: what swift.py compares the library with.

From the paper's equations and what the released code does, nothing else:

- a `DataLoader` reads, decodes, resizes, augments and normalizes image by image on the CPU, anew in
  every pass (Pillow and torchvision's transforms; on one CPU thread without worker processes);
- two passes over the set, one for each importance: forward, backward, squared gradients of
  the mini-batch;
- step 1: forward and backward of the extractor, the gradients multiplied by the mask;
- step 2: part of the head set to zero, then full passes through the frozen extractor (as in the
  released code it is in train mode; no gradients are computed for it).

Default memory format, PyTorch's defaults otherwise. It shares no code with the library.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAMBDA_1, LAMBDA_2 = 0.1, 0.9
LR_EXTRACTOR, LR_HEAD, MOMENTUM, WEIGHT_DECAY = 1e-4, 1e-3, 0.9, 5e-4


class Folder(Dataset[tuple[Tensor, float, int]]):
    """Images of a folder with their labels and attributes."""

    def __init__(
        self,
        paths: list[Path],
        labels: list[float],
        attributes: list[int],
        transform: Callable[[Image.Image], Tensor],
    ) -> None:
        self.paths, self.labels, self.attributes = paths, labels, attributes
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, float, int]:
        with Image.open(self.paths[index]) as image:
            picture = self.transform(image.convert("RGB"))
        return picture, self.labels[index], self.attributes[index]


def transpose(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.TRANSPOSE)


def transforms(size: int, *, train: bool) -> Callable[[Image.Image], Tensor]:
    """Resize, and in training random flips and a random transpose; then normalize."""
    from torchvision.transforms import v2

    random = [
        v2.RandomHorizontalFlip(),
        v2.RandomVerticalFlip(),
        v2.RandomApply([v2.Lambda(transpose)], p=0.5),
    ]
    return v2.Compose(
        [
            v2.Resize((size, size)),
            *(random if train else []),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


def sent(network: nn.Module, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors where the network is."""
    device = next(network.parameters()).device
    return tuple(tensor.to(device) for tensor in tensors)


def prediction_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 1 with the counts of the batch."""
    positives, negatives = labels.sum(), (1 - labels).sum()
    weight = positives / (positives + negatives)
    beta = negatives / (positives + 1e-10)
    return weight * F.binary_cross_entropy_with_logits(logits, labels, pos_weight=beta)


def bias_loss(logits: Tensor, labels: Tensor, attributes: Tensor) -> Tensor:
    """Eq. 2: half the sum of the gaps in soft true and false positive rates."""
    scores, total = torch.sigmoid(logits), logits.new_zeros(())
    for label in (0, 1):
        cells = [scores[(labels == label) & (attributes == group)] for group in (0, 1)]
        if all(len(cell) for cell in cells):
            total = total + (cells[0].mean() - cells[1].mean()).abs()
    return total / 2


def importance(network: nn.Module, loader: DataLoader, objective: str) -> dict[str, Tensor]:
    """Mean of the squared mini-batch gradients of "prediction" or "bias", Eq. 7 and 8."""
    network.eval()
    sums = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for images, labels, attributes in loader:
        network.zero_grad()
        images, labels, attributes = sent(network, images, labels, attributes)
        logits, labels = network(images), labels.float()
        if objective == "bias":
            loss = bias_loss(logits, labels, attributes)
        else:
            loss = prediction_loss(logits, labels)
        loss.backward()
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                sums[name] += parameter.grad.pow(2)
    return {name: value / len(loader) for name, value in sums.items()}


def min_max(values: Tensor) -> Tensor:
    low, high = values.min(), values.max()
    return values if low == high else (values - low) / (high - low)


def soft_mask(bias: dict[str, Tensor], prediction: dict[str, Tensor]) -> dict[str, Tensor]:
    """Eq. 9."""
    return {
        name: torch.tanh(min_max(bias[name]) / (min_max(prediction[name]) + 1e-10)).abs()
        for name in bias
    }


def train(
    network: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    weight: float,
    epochs: int,
    mask: dict[str, Tensor] | None = None,
) -> None:
    """Epochs on weight L_pred + (1 - weight) L_bias (Eq. 10), gradients masked (Eq. 11)."""
    network.train()
    for _ in range(epochs):
        for images, labels, attributes in loader:
            optimizer.zero_grad()
            images, labels, attributes = sent(network, images, labels, attributes)
            logits, labels = network(images), labels.float()
            loss = weight * prediction_loss(logits, labels)
            loss = loss + (1 - weight) * bias_loss(logits, labels, attributes)
            loss.backward()
            if mask is not None:
                for name, parameter in network.named_parameters():
                    if parameter.grad is not None:
                        parameter.grad *= mask[name]
            optimizer.step()


def make_mask(network: nn.Module, loader: DataLoader) -> dict[str, Tensor]:
    """Two passes for the two importances, then the mask."""
    return soft_mask(importance(network, loader, "bias"), importance(network, loader, "prediction"))


def sgd(module: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr, MOMENTUM, weight_decay=WEIGHT_DECAY)


def step1(network: nn.Module, loader: DataLoader, mask: dict[str, Tensor], epochs: int) -> None:
    """The extractor under the mask, the head frozen. `network` has .extractor and .head."""
    network.extractor.requires_grad_(True)
    network.head.requires_grad_(False)
    train(network, loader, sgd(network.extractor, LR_EXTRACTOR), LAMBDA_1, epochs, mask)


def step2(network: nn.Module, loader: DataLoader, mask: dict[str, Tensor], epochs: int) -> None:
    """The head, partly set to zero (Eq. 12); the extractor frozen."""
    network.extractor.requires_grad_(False)
    network.head.requires_grad_(True)
    with torch.no_grad():
        for name, parameter in network.head.named_parameters():
            values = mask[f"head.{name}"]
            parameter[values > values.mean()] = 0
    train(network, loader, sgd(network.head, LR_HEAD), LAMBDA_2, epochs)
