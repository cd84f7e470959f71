"""Prepared files for a script, and an oracle for what it computes from them.

The passes through a network are plain torch. Of the library only the architecture of the network is
used, and what gives a file its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from tests.written import write_cache
from torch import Tensor, nn

from swift_debias import files
from swift_debias.learning import tensor_files

SIZE = 12  # pixels a side
BACKBONE = {"architecture": "small_resnet", "options": {"width": 8}, "dropout": 0.0}
COMPUTE = {"device": "cpu", "resident": "on"}
NORMALIZATION = {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.2, 0.25]}  # and not ImageNet's
STILL = {"flips": False, "transpose": False}  # no augmentation
MANIFEST = (
    *("image_id", "path", "label", "diagnosis", "patient_id", "lesion_id"),
    *("sex", "age", "fitzpatrick", "view", "split"),
)


def seed_of(*parts: object) -> int:
    """The random seed that belongs to these parts: 63 bits of their SHA-256."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def write_json(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, data)
    return path


def write_parquet(path: Path, frame: pd.DataFrame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_parquet(frame, path)
    return path


# --- data sets ------------------------------------------------------------------------------------


class DataSet(NamedTuple):
    """A data set as the rules before leave it: manifest, pixels and their index."""

    name: str
    frame: pd.DataFrame
    images: np.ndarray  # uint8 (n, SIZE, SIZE, channels)
    manifest: Path
    pixels: Path
    index: Path

    def inputs(self, image_ids: Sequence[str]) -> Tensor:
        """What a network sees of these images, without augmentation."""
        place = {image: row for row, image in enumerate(self.frame["image_id"])}
        return normalized(self.images[[place[image] for image in image_ids]])


def normalized(images: np.ndarray) -> Tensor:
    """uint8 (n, H, W, 3) -> float32 (n, 3, H, W), z-scored by the statistics of `NORMALIZATION`."""
    scored = (images / 255 - NORMALIZATION["mean"]) / NORMALIZATION["std"]
    return torch.tensor(scored.transpose(0, 3, 1, 2), dtype=torch.float32)


def write_data_set(
    folder: Path,
    name: str,
    columns: Mapping[str, Sequence[Any]],
    broken: Sequence[int] = (),
    seed: int = 0,
) -> DataSet:
    """A data set of these manifest columns (`label` at least); label and row show in the pixels.

    Args:
        broken: rows whose image the cache could not read.
    """
    n = len(columns["label"])
    frame = pd.DataFrame(dict.fromkeys(MANIFEST, [None] * n)).assign(
        image_id=[f"{name}_{row:02d}" for row in range(n)],
        path=[f"images/{name}_{row:02d}.png" for row in range(n)],
        diagnosis="x",
    )
    numbers = {"label": "int8", "age": float, "fitzpatrick": float}
    frame = frame.assign(**columns).astype(dict.fromkeys(frame, "str") | numbers)
    rng = np.random.default_rng([seed, *name.encode()])
    images = rng.integers(40, 200, (n, SIZE, SIZE, 3))
    images[:, :5, :5] += 25 * frame["label"].to_numpy()[:, None, None, None]
    images = images.astype(np.uint8)
    images[list(broken)] = 0
    errors = ["damaged" if row in broken else None for row in range(n)]
    pixels, index = write_cache(
        folder / "images" / f"{name}.npy", list(frame["image_id"]), images, errors
    )
    return DataSet(
        name,
        frame,
        images,
        write_parquet(folder / "manifests" / f"{name}.parquet", frame),
        pixels,
        index,
    )


def caches(sets: Sequence[DataSet]) -> dict[str, list[Path]]:
    """The caches as a rule names them."""
    return {"pixels": [one.pixels for one in sets], "index": [one.index for one in sets]}


def inputs_of(sets: Sequence[DataSet], rows: pd.DataFrame) -> Tensor:
    """What a network sees of rows of several data sets (columns dataset, image_id)."""
    by_name = {one.name: one for one in sets}
    return torch.cat(
        [
            by_name[dataset].inputs([image_id])
            for dataset, image_id in zip(rows["dataset"], rows["image_id"], strict=True)
        ]
    )


# --- networks -------------------------------------------------------------------------------------


def new_network(seed: int, backbone: Mapping[str, Any] = BACKBONE) -> nn.Module:
    """An untrained classifier."""
    from swift_debias.config.schema import Backbone
    from swift_debias.learning import networks

    return networks.build(Backbone(**backbone), seed)


def write_model(path: Path, seed: int) -> Path:
    """A classifier whose scores and statistics are unlike those of any other seed."""
    network = new_network(seed)
    rng = torch.Generator().manual_seed(seed)
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=rng) / 4)
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=rng) + 0.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensor_files.write(path, state)
    return path


def read_model(path: Path) -> nn.Module:
    network = new_network(0)
    network.load_state_dict(load_file(path))
    return network.eval()


def scores_of(path: Path, inputs: Tensor) -> np.ndarray:
    """Probabilities of class 1."""
    with torch.no_grad():
        return torch.sigmoid(read_model(path)(inputs).double()).numpy()


def prediction_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 1: each class weighs as much as the other one has samples."""
    positive = labels.mean()
    log_p, log_q = torch.log(torch.sigmoid(logits)), torch.log(torch.sigmoid(-logits))
    return -((1 - positive) * labels * log_p + positive * (1 - labels) * log_q).mean()


def bias_loss(logits: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Eq. 2: mean of the gaps of the mean score at label 1 and at label 0."""
    p = torch.sigmoid(logits)
    gaps = [
        p[(labels == label) & (groups == 0)].mean() - p[(labels == label) & (groups == 1)].mean()
        for label in (1, 0)
    ]
    return (gaps[0].abs() + gaps[1].abs()) / 2


def squared_gradients(loss: Tensor, network: nn.Module) -> dict[str, Tensor]:
    """Parameter name -> square of the loss's gradient."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True)
    return {name: gradient**2 for name, gradient in zip(names, found, strict=True)}


def assert_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-6, msg=name)
