"""Whether Snakemake knows how the files of a run were made.

It compares a job's params and inputs with the record that it wrote when the job ended, below
`.snakemake/metadata`. Of a file without a record it knows nothing and takes it for up to date: no
change of a setting is seen, and what a file lacks (the rows of a new method) is never computed. So
it is when a run is copied and `.snakemake` is not.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

STATE = Path(".snakemake")
DATABASE = "metadata.db"  # where Snakemake was told to keep its records so: not looked into
LONGEST = 254  # letters of one name in a file system, as Snakemake cuts them


def unrecorded(files: Iterable[str | Path], state: Path = STATE) -> list[str]:
    """Those of a run's files that are there and of which Snakemake has no record.

    A file that was being made when Snakemake was killed is marked, and made anew: it is none.

    Args:
        files: by the names that they have in the rules.
        state: Snakemake's own folder.
    """
    if (state / DATABASE).exists():
        return []
    known = ("metadata", "incomplete")
    return [
        str(file)
        for file in files
        if Path(file).exists() and not any(_record(state / kind, file).exists() for kind in known)
    ]


def _record(folder: Path, file: str | Path) -> Path:
    """Where Snakemake keeps what it knows of a file."""
    name = base64.urlsafe_b64encode(str(file).encode()).decode()
    parts = [name[start : start + LONGEST] for start in range(0, len(name), LONGEST)]
    return folder.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def told(run: str, files: Iterable[str | Path], state: Path = STATE) -> str:
    """What to say of a run some of whose files have no record; '' where all have one."""
    lost = unrecorded(files, state)
    if not lost:
        return ""
    return (
        f"WARNING: {run} has results of which Snakemake has no record in .snakemake ({lost[0]}), "
        "as after a copy without that folder. It takes them for up to date, whatever has changed, "
        "and does not compute what they lack. Copy .snakemake too; or, before you change anything, "
        "say once: snakemake --touch --forceall, with the configuration that made them "
        "(docs/cluster.md, A run that is moved)"
    )
