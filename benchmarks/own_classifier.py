"""Nine ways to bring a classifier of one's own: seconds of the import, and until a mistake is told.

    python benchmarks/own_classifier.py

Each command is a process of its own, as somebody types it: most of the time is the import of torch.
The classifiers are those of tests/unit/own_ways.py; what is missing is told and left out. The ninth
way is a module beside the configuration, whose mistakes a dry run of Snakemake tells.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SCRIPTS = PROJECT / "workflow" / "scripts"
sys.path[:0] = [str(PROJECT / "tests" / "unit"), str(SCRIPTS), str(PROJECT)]

import own_ways  # noqa: E402
from tests import tiny  # noqa: E402

# way -> a mistake: what is wrong, and the arguments with it
MISTAKES = {
    "whole network": ("a misspelt function", ["--architecture", "clinic_nets:whol"]),
    "extractor": ("another network", ["--architecture", "shufflenet_v2_x0_5"]),
    "two outputs": ("a misspelt network", ["--architecture", "shufflnet_v2_x0_5"]),
    "own normalization": ("ImageNet's mean and std", ["--mean", "0.485", "0.456", "0.406"]),
    ".pth with module.": ("a last layer that is not there", ["--head", "fd"]),
    "Lightning .ckpt": ("a misspelt option", ["--options", "widht=8"]),
    "timm folder": ("another width of it", ["--architecture", "timm:mobilenetv3_small_100"]),
    "other last layer": ("the other class", ["--swap-classes"]),
}


def timed(command: list[str], folder: Path) -> tuple[float, int, str]:
    """Seconds of one core, exit code and what was said; the clock would count others' work."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return spent() - before, done.returncode, done.stdout + done.stderr


def command_line(way: own_ways.Way, more: list[str]) -> list[str]:
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); from swift_debias.cli import main"
    size = [] if way.checkpoint.is_dir() else ["--size", str(own_ways.SIZE)]
    words = ["import-classifier", str(way.checkpoint), *way.arguments, *size, *more]
    words += ["--reference", "reference.csv", "--out", "mine", "--force"]
    return [sys.executable, "-c", f"{code}; sys.exit(main({words!r}))"]


def row(name: str) -> str:
    what, wrong = MISTAKES[name]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        try:
            way = own_ways.WAYS[name](folder)
        except ImportError as error:
            return f"| {name} | {error} | | |"
        own_ways.reference(own_ways.pictures(folder), way).to_csv(
            folder / "reference.csv", index=False
        )
        seconds, code, said = timed(command_line(way, []), folder)
        assert code == 0, said
        until, code, said = timed(command_line(way, wrong), folder)
        assert code == 2 and said.count("\n") <= 3, said
    return f"| {name} | {seconds:.1f} | {what} | {until:.1f} |"


def beside() -> str:
    """A run whose module lies beside its configuration: a dry run, and one with a misspelt name."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        tiny.write_data(folder / "data", 24, 12)
        found = []
        for function in ("whole", "whol"):
            config = tiny.config(folder / "data", {"table1": tiny.table("baseline", "swift")})
            config["backbones"]["small"] = {"architecture": f"clinic_nets:{function}"}
            (folder / "clinic_nets.py").write_text(own_ways.MODULE)
            file = tiny.write_config(folder / f"{function}.yaml", config)
            words = ["-m", "snakemake", "-n", "-q", "--snakefile", str(PROJECT / "Snakefile")]
            found.append(timed([sys.executable, *words, "--configfile", str(file)], folder))
        assert [code for _, code, _ in found] == [0, 1], found
        assert "did you mean 'whole'" in found[1][2]
    return f"| module beside | {found[0][0]:.1f} | a misspelt function | {found[1][0]:.1f} |"


if __name__ == "__main__":
    print("| you have | import, s | a mistake | until it is told, s |\n| --- | ---: | --- | ---: |")
    for name in own_ways.WAYS:
        print(row(name), flush=True)
    print(beside())
