"""What goes wrong at each stage: how a run is left, and that the next one ends as an unbroken one.

The table of faults and stages in docs/rerun.md. One tiny run (tests/tiny.py) is made unbroken; each
entry copies it, takes away what a stage has made, and lets that stage fail. Then the same command
is given again. Few entries are in `make test`, all of them in `make test-all`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from tests import chaos, tiny, warm

PROJECT = Path(__file__).resolve().parents[2]
SETUP = "lesion/small/sex"
# Stage -> its rule, what it makes, and a file of it that a later job reads.
STAGES = {
    "data": ("cache_images", "images", "images/train.parquet"),
    "train": ("train_baseline", "baseline", "baseline/lesion/small/fold0/model.safetensors"),
    "importance": ("importance", "importance", f"importance/{SETUP}/fold0.safetensors"),
    "debias": (
        "debias",
        f"debiased/{SETUP}/swift",
        f"debiased/{SETUP}/swift/fold0/model.safetensors",
    ),
    "predict": ("predict", "predictions", f"predictions/{SETUP}/swift/fold0.parquet"),
    "report": ("table", "tables", "tables/table1.html"),
}
FROM = list(STAGES)


def made_from(stage: str) -> list[str]:
    """What a stage and those after it make."""
    later = [STAGES[name][1] for name in FROM[FROM.index(stage) :]]
    return [
        *later,
        "report.html",
        "summary.txt",
        "metrics.parquet",
        "metrics",
        "intervals",
        "plausibility",
    ]


# Every rule that has a script, and a file that it makes.
RULES = {
    "check_data": "data_check.json",
    "build_manifest": "manifests/train.parquet",
    "cache_images": "images/train.parquet",
    "find_duplicates": "cohorts/lesion.parquet",
    "make_folds": "folds/lesion.parquet",
    "make_external": "external/lesion/sex/fold0.parquet",
    "set_sizes": "folds/lesion.sizes.csv",
    "check_models": "model_check/lesion/small.txt",
    "train_baseline": "baseline/lesion/small/fold0/model.safetensors",
    "choose_groups": "groups/lesion/small/sex.json",
    "importance": f"importance/{SETUP}/fold0.safetensors",
    "debias": f"debiased/{SETUP}/swift/fold0/model.safetensors",
    "predict": f"predictions/{SETUP}",
    "evaluate": f"metrics/{SETUP}.parquet",
    "merge_metrics": "metrics.parquet",
    "plausibility": f"plausibility/{SETUP}.parquet",
    "table": "tables/table1.html",
    "cost_table": "tables/cost.html",
    "intervals": f"intervals/{SETUP}.parquet",
    "compare": "statistics.parquet",
    "figure_arrays": "figures/arrays/bias.npz",
    "figure": "figures/pareto.png",
    "verdict": "verdict.html",
    "report": "report.html",
    "summary": "summary.txt",
}
pytestmark = pytest.mark.long
VIEWS = {
    "table1": tiny.table("baseline", "swift"),
    "pareto": tiny.figure("pareto", "baseline", "swift"),
    "bias": tiny.figure("bias", "baseline"),
}


@pytest.fixture(scope="module")
def jobs() -> Iterator[Path]:
    with warm.serve_jobs() as place:
        yield place


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "data"
    tiny.write_data(folder, 96, 36)
    return folder


def words(folder: Path, data: Path) -> list[str]:
    """What is said to Snakemake: as profiles/demo, in this folder."""
    config = tiny.write_config(folder.with_suffix(".yaml"), tiny.config(data, VIEWS))
    found = ["--snakefile", str(PROJECT / "Snakefile"), "--directory", str(folder)]
    found += ["--cores", "1", "--scheduler", "greedy", "--configfile", str(config)]
    found += ["--rerun-incomplete", "--show-failed-logs"]
    return [*found, "--rerun-triggers", "mtime", "params", "input"]


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(data: Path, jobs: Path) -> Run:
    """run(folder, ...) -> what the run in that folder said."""

    def start(
        folder: Path,
        *more: str,
        fault: warm.Fault | None = None,
        of: Path = data,
    ) -> subprocess.CompletedProcess[str]:
        arguments = [*words(folder, of), *more]
        return warm.run(
            "snakemake", *arguments, cwd=folder.parent, jobs=jobs, fault=fault, timeout=300
        )

    return start


def carries_on(run: Run, folder: Path, *more: str, **others: Any) -> str:
    """Give the command again, and say what ran."""
    done = run(folder, *more, **others)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def unbroken(data: Path, run: Run) -> Path:
    """A run that nothing happened to."""
    folder = data.with_name("unbroken")
    folder.mkdir()
    carries_on(run, folder)
    return folder


# What tells where the data are, their times, and what changed since an earlier run.
OF_FOLDERS = ("data_check.*", "data/*.seen.json.gz")


def contents(folder: Path, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Every result that is to be the same, and its bytes."""
    results = folder / tiny.RUN
    names = {str(path.relative_to(results)): path for path in results.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in names.items()
        if not any(fnmatch(name, pattern) for pattern in (*chaos.EXCLUDED, *but))
    }


def check_same(folder: Path, unbroken: Path, but: tuple[str, ...] = ()) -> None:
    """The same results with the same bytes, nothing else, and nothing half written."""
    found, whole = contents(folder, but), contents(unbroken, but)
    differ = sorted(name for name in {*found, *whole} if found.get(name) != whole.get(name))
    assert not differ
    assert set(names_of(folder)) == set(names_of(unbroken))


def names_of(folder: Path) -> list[str]:
    """All results, those that are not compared among them; what killed jobs leave, too."""
    results = folder / tiny.RUN
    names = (path.relative_to(results) for path in results.rglob("*") if path.is_file())
    return [str(name) for name in names if name.parts[0] not in ("logs", "benchmarks")]


def check_finished(folder: Path, unbroken: Path) -> None:
    """What stands under the name of a result is whole."""
    whole = contents(unbroken)
    for name, content in contents(folder).items():
        if not name.endswith((".partial", ".journal")) and not name.startswith("checkpoints/"):
            assert content == whole.get(name), f"{name} is neither absent nor whole"


def copied(unbroken: Path, folder: Path, *without: str) -> Path:
    """A copy of a finished run, times kept, without some results."""
    shutil.copytree(unbroken, folder, symlinks=True)
    for name in without:
        path = folder / tiny.RUN / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


@pytest.mark.parametrize("rule", RULES)
def test_a_job_that_is_killed_while_it_writes(
    rule: str, unbroken: Path, run: Run, tmp_path: Path
) -> None:
    folder = copied(unbroken, tmp_path / "run", RULES[rule])
    target = ["--", f"{tiny.RUN}/{RULES[rule]}"]
    done = run(folder, *target, fault=warm.Fault(f"{rule}.py", "killed"))
    assert done.returncode != 0
    assert f"Error in rule {rule}:" in done.stdout + done.stderr
    check_finished(folder, unbroken)
    carries_on(run, folder, *target)
    check_same(folder, unbroken)


@pytest.mark.parametrize("rule", RULES)
def test_a_disk_that_is_full_while_a_job_writes(
    rule: str, unbroken: Path, run: Run, tmp_path: Path
) -> None:
    folder = copied(unbroken, tmp_path / "run", RULES[rule])
    target = ["--", f"{tiny.RUN}/{RULES[rule]}"]
    # bytes: less than any output, but enough for the job's log to say so
    size = 100 if rule == "check_models" else 300
    done = run(folder, *target, fault=warm.Fault(f"{rule}.py", "full", size))
    said = done.stdout + done.stderr
    assert done.returncode != 0
    # of the log, which Snakemake shows: what the job itself says goes to a file that is full, too
    told = [line for line in said.splitlines() if line.startswith("error: ")]
    assert told, said[-3000:]
    assert "File too large; make room" in told[0]
    assert "Traceback" not in said
    check_finished(folder, unbroken)
    # but for pixels, which are written where they stay: the next run carries on from them
    kept = {"images/train.npy.partial"} if rule == "cache_images" else set()
    assert {name for name in names_of(folder) if name.endswith(".partial")} <= kept
    carries_on(run, folder, *target)
    check_same(folder, unbroken)


# --- what happens between two runs ----------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", ["a bit", "cut"])
def test_a_file_that_is_damaged_is_named_and_made_anew(
    how: str, stage: str, unbroken: Path, run: Run, tmp_path: Path
) -> None:
    """Time of change and, for a bit, size are as they were: Snakemake sees nothing."""
    taken = {"data": ["cohorts"], "train": ["groups"]}.get(stage, [])
    after = set(made_from(stage)) - {STAGES[stage][1]}
    if stage == "report":
        after = {"report.html"}
    folder = copied(unbroken, tmp_path / "run", *taken, *sorted(after))
    victim = folder / tiny.RUN / STAGES[stage][2]
    times, whole = victim.stat(), victim.read_bytes()
    middle = len(whole) // 2
    damaged = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
    victim.write_bytes(damaged if how == "a bit" else whole[:middle])
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = run(folder)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    told = [line for line in said.splitlines() if line.startswith("error in ")]
    assert told, said[-3000:]
    assert any(STAGES[stage][2] in line and "and run again" in line for line in told)
    assert "Traceback" not in said
    check_finished_but(victim, folder, unbroken)
    if stage == "predict":
        assert any(f"delete the folder {tiny.RUN}/predictions/{SETUP} and" in line for line in told)
        shutil.rmtree(folder / tiny.RUN / "predictions" / SETUP)
    else:
        victim.unlink()
    carries_on(run, folder)
    check_same(folder, unbroken)


def check_finished_but(victim: Path, folder: Path, unbroken: Path) -> None:
    """All results but one are absent or whole."""
    damaged = victim.read_bytes()
    victim.write_bytes((unbroken / victim.relative_to(folder)).read_bytes())
    check_finished(folder, unbroken)
    victim.write_bytes(damaged)


@pytest.mark.parametrize("stage", STAGES)
def test_a_folder_that_is_moved_carries_on(
    stage: str, unbroken: Path, run: Run, tmp_path: Path
) -> None:
    """The stage's job is killed, the folder renamed, and no stage before it runs again."""
    rule, *_ = STAGES[stage]
    folder = copied(unbroken, tmp_path / "run", *made_from(stage))
    assert run(folder, fault=warm.Fault(f"{rule}.py", "killed")).returncode != 0
    moved = folder.rename(tmp_path / "elsewhere")
    said = carries_on(run, moved)
    check_same(moved, unbroken)
    before = [STAGES[name][0] for name in FROM[: FROM.index(stage)]]
    again = [line for name in before for line in said.splitlines() if f"rule {name}:" in line]
    assert not again


@pytest.mark.parametrize("stage", STAGES)
def test_data_that_change_in_the_middle_of_a_run(
    stage: str, unbroken: Path, data: Path, changed: Path, run: Run, tmp_path: Path
) -> None:
    """The stage's job is killed, and ten labels are corrected before the run goes on."""
    rule, *_ = STAGES[stage]
    raw = Path(shutil.copytree(data, tmp_path / "data"))
    folder = copied(unbroken, tmp_path / "run", *made_from(stage))
    assert run(folder, fault=warm.Fault(f"{rule}.py", "killed"), of=raw).returncode != 0
    correct(raw)
    carries_on(run, folder, of=raw)
    assert "1 table edited: t.csv" in (folder / tiny.RUN / "data_check.txt").read_text()
    check_same(folder, changed, but=OF_FOLDERS)


def correct(data: Path) -> None:
    """Ten images of the training set get the other label."""
    table = data / "train" / "t.csv"
    lines = table.read_text().splitlines()
    swapped = {"mel": "nev", "nev": "mel"}
    for number in range(1, 11):
        file, patient, dx, *rest = lines[number].split(",")
        lines[number] = ",".join([file, patient, swapped[dx], *rest])
    table.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def changed(data: Path, run: Run) -> Path:
    """An unbroken run of the data as they are afterwards."""
    raw = Path(shutil.copytree(data, data.with_name("corrected")))
    correct(raw)
    folder = data.with_name("unbroken_changed")
    folder.mkdir()
    carries_on(run, folder, of=raw)
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that mounts, or mounts anew, a small disk with the given options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        if os.path.ismount(place):
            options = f"remount,{options}"
        call = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode != 0 and not os.path.ismount(place):
            pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        return place

    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    yield mount
    if os.path.ismount(place):
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("stage", STAGES)
def test_results_that_are_read_only(
    stage: str, unbroken: Path, run: Run, disk: Callable[[str], Path]
) -> None:
    folder = copied(unbroken, disk("size=200m") / "run", *made_from(stage))
    words(folder, folder)  # the configuration lies beside it
    before = contents(folder)
    disk("size=200m,ro")
    done = read_only(run, folder)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Read-only file system" in said
    assert contents(folder) == before
    disk("size=200m,rw")
    carries_on(run, folder)
    check_same(folder, unbroken)


def read_only(run: Run, folder: Path) -> subprocess.CompletedProcess[str]:
    """A run whose configuration is not written once more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "write_config", lambda path, settings: path)
        return run(folder)


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_killed_takes_its_job_along(
    stage: str, unbroken: Path, data: Path, run: Run, tmp_path: Path
) -> None:
    """Snakemake itself is killed while the stage's job runs, in processes of their own."""
    rule, *_ = STAGES[stage]
    folder = copied(unbroken, tmp_path / "run", *made_from(stage))
    command = [sys.executable, "-m", "snakemake", *words(folder, data)]
    with chaos.said(folder).open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    until = time.monotonic() + 120
    while not working(folder, rule):
        assert process.poll() is None and time.monotonic() < until, chaos.said(folder).read_text()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while working(folder, rule):
        assert time.monotonic() < until, "a job outlived its run"
        time.sleep(0.05)
    check_finished(folder, unbroken)
    assert run(folder, "--unlock").returncode == 0
    carries_on(run, folder)
    check_same(folder, unbroken)


def working(folder: Path, rule: str) -> bool:
    """Whether a job of this rule is running."""
    return any(f".{rule}.py" in line for line in chaos.processes(folder).values())
