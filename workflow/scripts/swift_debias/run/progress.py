"""How far a run is, stage by stage, and how long it will take still: a line in the terminal.

    train 2/4, debias 10/60, evaluate 0/16, report 0/30; about 12 min left

Snakemake tells its loggers of every job that starts or ends. `Stages` listens and says so from time
to time, through the same logger: so the line is in the terminal and in the log, with any plugin
that shows a run (--logger), and not where --quiet asks for silence.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

EVERY = 15.0  # seconds between two lines, at least


class Stages(logging.Handler):
    """Counts the jobs of each stage as they end, and tells how long the others will take.

    A job is taken to last as long as the others of its rule have lasted in the mean; as many run at
    a time as have so far. While some rule has not ended a job, what is told is the least.
    """

    def __init__(
        self,
        rules: Iterable[str],
        stage_of: Mapping[str, str],
        say: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Listen from now on.

        Args:
            rules: the rule of each job that is to run.
            stage_of: rule -> its stage, in the order of the road; others are not shown.
            say: prints a line.
            clock: seconds.
        """
        super().__init__(logging.INFO)
        self.left = Counter(rules)
        self.of_stage = Counter(stage_of[rule] for rule in self.left.elements() if rule in stage_of)
        self.stage_of, self.say, self.clock = stage_of, say, clock
        self.running: dict[object, tuple[str, float]] = {}  # job -> rule, when it started
        self.seconds: dict[str, list[float]] = {}  # rule -> of its jobs that have ended
        self.started = self.told = clock()

    def emit(self, record: logging.LogRecord) -> None:
        """A message of Snakemake: those of jobs have an event."""
        event = getattr(getattr(record, "event", None), "value", None)
        if event == "job_info":
            self.running[record.__dict__.get("jobid")] = record.__dict__["rule_name"], self.clock()
        elif event == "job_finished":
            self._ended(record.__dict__.get("job_id"))

    def _ended(self, job: object) -> None:
        """A job ended well; say how far the run is if that was not said just now."""
        if job not in self.running:
            return
        now = self.clock()
        rule, since = self.running.pop(job)
        self.seconds.setdefault(rule, []).append(now - since)
        self.left[rule] -= 1
        if now - self.told >= EVERY and self.left.total() > 0:
            self.told = now
            self.say(self.line())

    def line(self) -> str:
        """Jobs done of all, for each stage that has not ended, and the time left."""
        open_jobs = Counter(
            self.stage_of[rule] for rule in self.left.elements() if rule in self.stage_of
        )
        stages = [
            f"{stage} {self.of_stage[stage] - open_jobs[stage]}/{self.of_stage[stage]}"
            for stage in dict.fromkeys(self.stage_of.values())
            if open_jobs[stage]
        ]
        return f"{', '.join(stages)}; {self._time_left()}"

    def _time_left(self) -> str:
        """In words."""
        now = self.clock()
        spent = sum(map(sum, self.seconds.values()))
        spent += sum(now - since for _, since in self.running.values())
        at_a_time = max(1.0, spent / max(now - self.started, 1e-9))
        work = -sum(now - since for _, since in self.running.values())
        for rule, count in self.left.items():
            durations = self.seconds.get(rule, [0.0])
            work += count * sum(durations) / len(durations)
        unseen = any(count and rule not in self.seconds for rule, count in self.left.items())
        return f"{'at least' if unseen else 'about'} {_words(max(work, 0) / at_a_time)} left"


def _words(seconds: float) -> str:
    """A duration as people say it."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "a minute"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"
