"""What a job cost: seconds, memory, images drawn, weights changed."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .batchnorm import layers
from .networks import Classifier


class Cost:
    """What a job cost, for the cost table; the clock starts when the object is made."""

    def __init__(self, classifier: Classifier, device: torch.device) -> None:
        self.started, self.device = time.perf_counter(), device
        self.before = {
            name: value.detach().cpu().clone()
            for name, value in (*classifier.named_parameters(), *_statistics(classifier))
        }
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def measure(
        self, classifier: Classifier, images_seen: int, precision: str = "fp32"
    ) -> dict[str, Any]:
        """Seconds, peak memory (MB), images drawn, what was changed, and weights in all.

        precision: in which a network was trained, see precision.py.
        parameters_changed: scalar weights. buffers_changed: scalar statistics of BatchNorm, which
        no mask governs unless `finetuning.batchnorm` says so.
        """
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            peak = torch.cuda.max_memory_allocated(self.device) / 2**20
            name = torch.cuda.get_device_name(self.device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            name = "cpu"
        return {
            "seconds": round(time.perf_counter() - self.started, 3),
            "peak_memory_mb": round(peak, 1),
            "images_seen": images_seen,
            "parameters_changed": self._changed(classifier.named_parameters()),
            "buffers_changed": self._changed(_statistics(classifier)),
            "parameters": sum(p.numel() for p in classifier.parameters()),
            "device": name,
            "precision": precision,
        }

    def _changed(self, now: Iterable[tuple[str, Tensor]]) -> int:
        """How many scalars differ from those at the start."""
        return sum(int((value.detach().cpu() != self.before[name]).sum()) for name, value in now)


def _statistics(classifier: Classifier) -> Iterator[tuple[str, Tensor]]:
    """Running means and variances of BatchNorm, by buffer name."""
    for name, layer in layers(classifier).items():
        for kind in ("running_mean", "running_var"):
            yield f"{name}.{kind}", getattr(layer, kind)
