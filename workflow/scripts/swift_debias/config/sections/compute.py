"""How the arithmetic is done."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..base import Flag, Integer, Model, Number, Whole


class Compute(Model):
    """How the arithmetic is done; none of it changes what is computed beyond rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Training precision; importances and scores are always fp32. auto: bf16 on a "
        "GPU that has it, and on a CPU that has it (avx512_bf16 or amx_bf16) for images of 128 "
        "pixels or more, below which it is not faster; else fp32. What a job took stands in its "
        "cost.json and below the table of costs.",
    )
    channels_last: Flag = True
    compile_from: Whole | None = Field(
        None,
        description="torch.compile the network in trainings that draw at least so many images, "
        "epochs times samples; null: never. Needs a C++ compiler (CPU) or Triton (GPU). On an H100 "
        "a ResNet-50 of 256 pixels trained 41 % more images a second after 43 s of compiling, "
        "which pays from 500,000 images on; a Baseline of the paper draws 6 to 9 million. On one "
        "CPU thread at 64 pixels steps were 7 (ResNet-50) to 15 % (DenseNet-121) shorter after 1.5 "
        "to 4 minutes of compiling.",
    )
    resident: Literal["auto", "on", "off"] = Field(
        "auto", description="Hold a job's images in device memory; auto: where they fit."
    )
    deterministic: Flag = Field(True, description="Bit-identical reruns on CPU.")
    threads: Integer = Field(1, ge=1, le=1024, description="CPU threads of a training job.")
    checkpoint_seconds: Number = Field(
        60,
        ge=0,
        le=1e9,
        description="A training saves its state at an epoch's end, at most this often.",
    )
    debias_job: Literal["setup", "fold"] = Field(
        "setup",
        description="What one job of a method debiases: all folds of a task, network and attribute "
        "(few long jobs), or one fold (as many times more, for a cluster with cards to spare). The "
        "files are the same, byte for byte, so a change reruns nothing. Several methods in a job: "
        "Snakemake's `--groups debias=debias --group-components debias=8`.",
    )

    def arithmetic(self) -> dict[str, Any]:
        """What decides last bits, as plain values: results of another are computed anew.

        Not with how many threads, how often a state is saved, where images are held, and how many
        folds a job takes.
        """
        others = {"threads", "checkpoint_seconds", "resident", "debias_job"}
        return self.model_dump(mode="json", exclude=others)
