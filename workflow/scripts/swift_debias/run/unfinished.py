"""A report of what there is, where jobs of a run with --keep-going have failed.

Snakemake makes everything that does not need the failed jobs. Tables and figures need many: one
method that fails in one fold would leave its setup without metrics, and the run without a report.
So when such a run ends (`onerror`), it is noted what it went without, in `unfinished.json`, and
Snakemake is started once more for the report alone. That run reads the note when it plans: the
failed methods, setups and views are no part of what it scores and shows, nothing that failed is
tried again, and the report says first what is missing, and why. Where something fails in that run
(a figure that nobody could try to draw before) it is left out as well, in one more run. The next
run that a user starts has no note: it tries again, and what it makes replaces tables and report.

A method is shown where all its folds are there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from .. import files
from ..config.plan import Setup
from . import job, layout

Say: TypeAlias = Callable[[str], object]
NOTE = "SWIFT_UNFINISHED"  # environment variable: the note of the run before
# Files of one method in a setup; of a setup as a whole; of a table or figure.
_MADE = ("model", "history", "cost", "threshold")
OF_METHOD = (*_MADE, *(f"repeat_{name}" for name in _MADE))
_SCORED = ("setup_predictions", "setup_metrics", "setup_repeats")
OF_SETUP = (*_SCORED, "intervals", "setup_plausibility")
OF_VIEW = ("table", "figure", "arrays")
# What waits for them need not be left out: some of its methods are, or it is for its arrays.
ALSO_EXPLAINED = ("search", "groups", "arrays")
# What the second run is asked for.
TARGETS = ("report", "summary")


class LeftOut(NamedTuple):
    """What tables, figures and report go without. Empty: nothing, as in every first run."""

    methods: frozenset[tuple[str, str, str, str]] = frozenset()  # task, backbone, attribute, method
    setups: frozenset[Setup] = frozenset()
    views: frozenset[str] = frozenset()  # tables and figures of the config
    failed: tuple[tuple[str, str, str], ...] = ()  # (job, why, its log)

    def and_more(self, other: LeftOut) -> LeftOut:
        """What either goes without."""
        return LeftOut(
            self.methods | other.methods,
            self.setups | other.setups,
            self.views | other.views,
            tuple(dict.fromkeys(self.failed + other.failed)),
        )

    def shown(self, setups: Mapping[Setup, Sequence[str]]) -> dict[Setup, tuple[str, ...]]:
        """Setups and their methods without what is left out; setups of no method are not there."""
        kept = {
            setup: tuple(m for m in methods if (*setup, m) not in self.methods)
            for setup, methods in setups.items()
            if setup not in self.setups
        }
        return {setup: methods for setup, methods in kept.items() if methods}

    def blocks(self, name: str, blocks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """The blocks (plan.blocks) that a table or figure shows; none if it is not made."""
        return [] if name in self.views else self.kept(blocks)

    def kept(self, blocks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Blocks without the methods and setups that are left out.

        Statistics take those of all tables: that one could not be drawn takes no number away.
        """
        found = []
        for block in blocks:
            setup = (block["task"], block["backbone"], block["attribute"])
            methods = self.shown({setup: block["methods"]}).get(setup)
            if methods:
                found.append({**block, "methods": methods})
        return found

    def told(
        self, views: Mapping[str, Sequence[dict[str, Any]]], titles: Mapping[str, str]
    ) -> list[list[str]]:
        """What each table and figure goes without: rows of (view, setup, methods).

        Args:
            views: name of a table or figure -> its blocks as the config has them.
            titles: method -> how it is shown.
        """
        rows = []
        for name, blocks in views.items():
            if not self.blocks(name, blocks):
                rows.append([name, "", "not made"])
                continue
            for block in blocks:
                kept = [m for own in self.blocks(name, [block]) for m in own["methods"]]
                gone = [titles.get(m, m) for m in block["methods"] if m not in kept]
                setup = ", ".join(block[key] for key in ("task", "backbone", "attribute"))
                if gone:
                    rows.append([name, setup, ", ".join(gone) if kept else "all methods"])
        return rows


def read() -> LeftOut:
    """What this run goes without: what the note says that it was started with."""
    place = os.environ.get(NOTE)
    if not place:
        return LeftOut()
    return of_note(files.read_json(place))


def of_note(note: Mapping[str, Any]) -> LeftOut:
    """What a note (`unfinished.json`) says that a report goes without."""
    return LeftOut(
        frozenset(map(tuple, note["methods"])),
        frozenset(map(tuple, note["setups"])),
        frozenset(note["views"]),
        tuple(map(tuple, note["failed"])),
    )


def find(dag: Any, failed: Iterable[Any]) -> LeftOut:
    """What a run has not made, from Snakemake's jobs.

    Args:
        dag: `workflow.dag` at the end of the run.
        failed: jobs that ended in an error.
    """
    open_jobs = set(dag.needrun_jobs(exclude_finished=True))
    of_setup = {each: _keys(each, OF_SETUP) for each in open_jobs}
    # the tables of the whole run, which the config does not list, have no wildcard
    of_view = {each: _keys(each, OF_VIEW) if each.wildcards else set() for each in open_jobs}
    explaining = (*OF_METHOD, *OF_SETUP, *ALSO_EXPLAINED)
    explained = {each for each in open_jobs if _keys(each, explaining)}

    def itself(each: Any) -> bool:
        """Whether a job is open for a reason of its own, not for the lack of methods or setups."""
        waits_for = [needed for needed in dag.dependencies[each] if needed in open_jobs]
        return not waits_for or not explained.issuperset(waits_for)

    methods = {(t, b, a, m) for each in open_jobs for t, b, a, m, *_ in _keys(each, OF_METHOD)}
    lost = {keys for each, own in of_setup.items() if own and itself(each) for keys in own}
    lost |= {keys for each in open_jobs for keys in _keys(each, ("groups",))}  # tables need them
    setups = {(t, b, a) for t, b, a in lost}
    views = {name for each, own in of_view.items() if own and itself(each) for name, *_ in own}
    return LeftOut(
        frozenset(methods), frozenset(setups), frozenset(views), tuple(map(_failure, failed))
    )


def _keys(each: Any, kinds: Iterable[str]) -> set[tuple[str, ...]]:
    """The keys of those of a job's files that are of these kinds."""
    found = set()
    for kind in kinds:
        for file in map(str, each.output):
            try:
                found.add(tuple(layout.keys(kind, file).values()))
            except ValueError:
                continue  # another kind of file
    return found


def _culprits(failed: Iterable[Any]) -> list[Any]:
    """Failed jobs one by one. Of a group that ran as one, those that say why; else all."""
    found = set()
    for each in failed:
        found |= {member for member in _members(each) if _last_error(member)} or _members(each)
    return sorted(found, key=str)


def _members(each: Any) -> set[Any]:
    """A job, or the jobs of a group."""
    return set(each.jobs) if each.is_group() else {each}


def _last_error(each: Any) -> str:
    """What the log of a job ends with where it failed."""
    logs = [Path(log) for log in each.log if Path(log).is_file()]
    return next(filter(None, map(job.last_error, logs)), "")


def _failure(each: Any) -> tuple[str, str, str]:
    """(the job in words, why it failed, its log)."""
    words = ", ".join(map(str, each.wildcards_dict.values()))
    why = _last_error(each) or "it did not say why: it may have been killed, for memory or time"
    return f"{each.rule.name} {words}".strip(), why.removeprefix("error: "), ", ".join(each.log)


def went_on(dag: Any, failed: Iterable[Any]) -> bool:
    """Whether a run has made all that it could: what is open has failed or waits for what has.

    Not so after an interruption, or without --keep-going.
    """
    failed = {member for each in failed for member in _members(each)}
    open_jobs = set(dag.needrun_jobs(exclude_finished=True))
    ready = {each for each in open_jobs if open_jobs.isdisjoint(dag.dependencies[each])}
    return bool(failed) and ready <= failed


def make_report(
    workflow: Any, run: Path, planned: Mapping[Setup, Sequence[str]], say: Say = print
) -> None:
    """Start Snakemake once more for a report without what failed; nothing where that is of no use.

    Of use it is where the run went on after failures, was to make a report, and something is left
    to be shown. A run that has a note already must have found more to leave out.

    Args:
        workflow: Snakemake's, at the end of the run.
        run: the run's folder.
        planned: all setups and their methods.
        say: prints a line.
    """
    dag, failed = workflow.dag, workflow.scheduler.failed
    typed = Path(sys.argv[0]).stem in ("snakemake", "__main__")  # not called by another program
    if not typed or not went_on(dag, failed):
        return
    pages = {
        str(file): each
        for each in dag.needrun_jobs(exclude_finished=False)
        for file in each.output
        if any(str(file).endswith(f"/{layout.path(kind)}") for kind in TARGETS)
    }
    waiting = set(dag.needrun_jobs(exclude_finished=True)) & set(pages.values()) - set(failed)
    before = read()
    left_out = before.and_more(find(dag, _culprits(failed)))
    if not waiting or not left_out.shown(planned) or left_out[:3] == before[:3]:
        return
    note = run / layout.path("unfinished")
    files.write_json(note, {name: sorted(own) for name, own in left_out._asdict().items()})
    say("\nSome jobs failed. A report of what there is follows; it says what it goes without.\n")
    sys.stdout.flush()
    scripts = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, "-m", "swift_debias.run.unfinished", *pages, "--", *sys.argv[1:]],
        env={**os.environ, NOTE: str(note.resolve()), "PYTHONPATH": _first(scripts)},
        cwd=_where_typed(sys.argv[1:]),
    )
    _wait(process)


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Until it ends. Ctrl-C reaches it from the terminal, and it ends its jobs in its own time."""
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while process.returncode is None:
            with contextlib.suppress(KeyboardInterrupt):
                process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def _where_typed(words: Sequence[str]) -> Path:
    """The folder that a command's relative paths are seen from: Snakemake has left it.

    `--directory` is where it is now, and nobody says from where it came. So of this folder, the
    shell's, and those above, the one is taken in which most of the words are files.
    """
    here = Path.cwd()
    places = [here, Path(os.environ.get("PWD", here)), *here.parents]
    paths = [word.rpartition("=")[2] for word in words]
    return max(places, key=lambda place: sum((place / path).exists() for path in paths if path))


def _first(folder: str) -> str:
    """PYTHONPATH with a folder before all others."""
    return os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])


def main(arguments: Sequence[str]) -> None:
    """Snakemake's command line of the run before, for other targets and with nothing forced."""
    from snakemake.cli import args_to_api, parse_args

    end = list(arguments).index("--")
    sys.argv = ["snakemake", *arguments[end + 1 :]]
    parser, args = parse_args(sys.argv[1:])
    args.targets = set(arguments[:end])
    args.nolock = True  # the run before holds the lock until its end
    args.forceall = args.force = False
    for selection in ("forcerun", "until", "omit_from", "target_jobs"):
        setattr(args, selection, set())
    args.batch = None
    sys.exit(0 if args_to_api(args, parser) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
