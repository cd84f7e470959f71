"""What the terminal says of a run: jobs of each stage, time left; against a clock set by hand."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from swift_debias.run.progress import EVERY, Stages, _words

STAGES = {"read": "prepare", "fit": "train", "draw": "report"}
JOBS = {"read": 2, "fit": 4, "draw": 2, "all": 1}


class Run:
    """A run whose clock is set by hand; `said` has what was printed."""

    def __init__(self) -> None:
        self.now, self.said, self.number = 0.0, [], 0
        rules = [rule for rule, count in JOBS.items() for _ in range(count)]
        self.stages = Stages(rules, STAGES, self.said.append, lambda: self.now)

    def event(self, name: str, **values: object) -> None:
        record = logging.LogRecord("snakemake", logging.INFO, "", 0, "", (), None)
        record.__dict__.update(event=SimpleNamespace(value=name), **values)
        self.stages.handle(record)

    def start(self, rule: str) -> int:
        self.number += 1
        self.event("job_info", jobid=self.number, rule_name=rule)
        return self.number

    def end(self, job: int, now: float) -> None:
        self.now = now
        self.event("job_finished", job_id=job)


def test_stages_are_counted_and_time_is_that_of_their_rule() -> None:
    run = Run()
    first, second = run.start("read"), run.start("read")
    run.end(first, 20.0)
    run.end(second, 20.0)  # too soon for another line
    # two at a time: 40 s of work in 20 s; nothing is known of `fit` and `draw`
    assert run.said == ["prepare 1/2, train 0/4, report 0/2; at least a minute left"]
    jobs = [run.start("fit") for _ in range(2)]
    run.end(jobs[0], 320.0)
    # three of `fit` at 300 s, one of which runs for 300 s: 600 s of work; 640 s in 320 s so far
    assert run.said[1:] == ["train 1/4, report 0/2; at least 5 min left"]
    run.end(jobs[1], 321.0)
    for now in (620.0, 930.0):
        run.end(run.start("fit"), now)
    run.end(run.start("draw"), 1000.0)
    assert run.said[-1] == "report 1/2; at least 1 min left"  # `all` has not been seen
    run.end(run.start("draw"), 1100.0)
    run.end(run.start("all"), 1200.0)
    assert len(run.said) == 6  # nothing when all is done
    assert run.stages.left.total() == 0


def test_what_is_known_of_all_rules_is_told_as_such() -> None:
    said: list[str] = []
    clock = SimpleNamespace(now=0.0)
    stages = Stages(["fit"] * 100, STAGES, said.append, lambda: clock.now)
    for number in range(10):
        event = {"event": SimpleNamespace(value="job_info"), "jobid": number, "rule_name": "fit"}
        stages.emit(logging.makeLogRecord(event))
        clock.now += 120.0
        event = {"event": SimpleNamespace(value="job_finished"), "job_id": number}
        stages.emit(logging.makeLogRecord(event))
    assert said[-1] == "train 10/100; about 3 h 0 min left"
    assert len(said) == 10
    assert EVERY <= 120


def test_other_messages_and_jobs_are_let_by() -> None:
    run = Run()
    run.stages.handle(logging.makeLogRecord({"msg": "Building DAG"}))
    run.event("job_finished", job_id=99)
    run.event("progress", done=1, total=2)
    assert run.said == []
    assert run.stages.left == JOBS


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "a minute"), (29, "a minute"), (61, "1 min"), (3599, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert _words(seconds) == words
