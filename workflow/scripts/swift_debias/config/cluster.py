"""What a SLURM cluster wants to know of every job: profiles/slurm/cluster.yaml.

It is no part of a run's configuration: it changes no result and reruns nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from ..errors import UserError
from . import strict_yaml
from .base import Flag, Line, Model, Text, explain


def _word(text: str) -> str:
    """One word of a command line."""
    if not re.fullmatch(r"\S+", text) or set(text) & set("'\"\\`$;"):
        raise ValueError("is no single word")
    return text


def _generic(text: str) -> str:
    """A generic resource as SLURM writes it."""
    if not re.fullmatch(r"\w+(:[\w.]+)?(:\d+[TGM]?)?", text):
        raise ValueError("is not NAME, NAME:NUMBER or NAME:TYPE:NUMBER, such as gpu:a100:1")
    return text


Word = Annotated[Text, AfterValidator(_word)]


class Cluster(Model):
    """Each key is an option of `sbatch`; one that is left out is not given."""

    account: Word | None = Field(None, description="Whom it is charged to.")
    qos: Word | None = Field(None, description="Quality of service.")
    constraint: Line | None = Field(None, description="Features of a node: `intel`, `a100|h100`.")
    gpu_model: Word | None = Field(None, description="Of jobs that use a GPU: which.")
    gres: Annotated[Text, AfterValidator(_generic)] | None = Field(
        None, description="Of jobs that use a GPU: `--gres` in the place of `--gpus`."
    )
    mail: Word | None = Field(None, description="Where to write to.")
    mail_when: tuple[Word, ...] = Field(("FAIL",), description="At which events: `--mail-type`.")
    extra: Line | None = Field(None, description="Any other options of `sbatch`.")
    stage: Flag = Field(
        False, description="Copy image caches to the node's own disk ($TMPDIR) before a job reads."
    )

    def of_every_job(self) -> dict[str, str]:
        """Snakemake's names of what every job asks for."""
        mail = f"--mail-user={self.mail} --mail-type={','.join(self.mail_when)}"
        extra = " ".join(filter(None, [mail if self.mail else None, self.extra]))
        asked = {"slurm_account": self.account, "qos": self.qos, "constraint": self.constraint}
        return {name: value for name, value in {**asked, "slurm_extra": extra}.items() if value}


def read(path: Path) -> Cluster:
    """The cluster's file; where there is none, nothing is asked for.

    Raises:
        UserError: a key is unknown or a value cannot be; each with the file's name.
    """
    if not path.is_file():
        return Cluster()
    given: Any = strict_yaml.read(path)
    try:
        return Cluster.model_validate(given or {})
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}") from error
