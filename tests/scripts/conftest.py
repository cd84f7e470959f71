"""Running a script of the workflow in process, as Snakemake would run it."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.iocontainers import InputFiles, Log, Namedlist, OutputFiles, Params, Wildcards

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"

Files = Mapping[str, Any] | Sequence[str | Path]


def named(kind: type[Namedlist], values: Files) -> Namedlist:
    """Snakemake's own container of a job's files: all in a row, and each under its name."""
    found = kind()
    if not isinstance(values, Mapping):
        found.extend(map(str, values))
        return found
    for name, value in values.items():
        start = len(found)
        if isinstance(value, list):
            found.extend(map(str, value))
            found._set_name(name, start, end=len(found))
        else:
            found.append(str(value))
            found._set_name(name, start)
    return found


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """run("name.py", input=..., output=..., params=..., wildcards=...) -> what the log says.

    The working directory is the test's own folder, and the folders of the outputs are there, as
    Snakemake makes them. Files are a list, or a dictionary of names.
    """
    import torch

    from swift_debias.learning import devices
    from swift_debias.run import job

    # A job ends with the process that started it; a test does not, and keeps its allocator.
    monkeypatch.setattr(job, "_end_with_parent", lambda: None)
    monkeypatch.setattr(job, "_end_at_once", lambda _: None)
    monkeypatch.setattr(devices, "_keep_memory", lambda: None)
    monkeypatch.chdir(tmp_path)

    def start(
        script: str,
        *,
        input: Files = (),
        output: Files = (),
        params: Mapping[str, Any] | None = None,
        wildcards: Mapping[str, Any] | None = None,
        threads: int = 1,
    ) -> str:
        log = tmp_path / "logs" / f"{script}.log"
        outputs = named(OutputFiles, output)
        for path in (*outputs, log):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        snakemake = SimpleNamespace(
            input=named(InputFiles, input),
            output=outputs,
            params=Params(fromdict={"code": "as it is", **(params or {})}),
            wildcards=Wildcards(fromdict={k: str(v) for k, v in (wildcards or {}).items()}),
            log=named(Log, [log]),
            threads=threads,
            rule=script.removesuffix(".py"),
        )
        runpy.run_path(str(SCRIPTS / script), {"snakemake": snakemake}, "__main__")
        return log.read_text()

    threads = torch.get_num_threads()
    yield start
    torch.set_num_threads(threads)
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)
