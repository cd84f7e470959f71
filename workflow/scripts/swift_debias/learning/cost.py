"""What a job cost: seconds, memory, images drawn, weights changed."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch

from .networks import Classifier, changed_parameters


class Cost:
    """What a job cost, for the cost table; the clock starts when the object is made."""

    def __init__(self, classifier: Classifier, device: torch.device) -> None:
        self.started, self.device = time.perf_counter(), device
        self.before = {
            name: value.detach().cpu().clone() for name, value in classifier.named_parameters()
        }
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def measure(self, classifier: Classifier, images_seen: int) -> dict[str, Any]:
        """Seconds, peak memory (MB), images drawn, weights changed and weights in all."""
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
            "parameters_changed": changed_parameters(self.before, classifier),
            "parameters": sum(p.numel() for p in classifier.parameters()),
            "device": name,
        }
