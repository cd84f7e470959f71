"""What a change reruns, and why, before anything runs.

    swift-debias what-changed --profile profiles/demo [--configfile FILE] [target ...]

A dry run, told by rule: how many jobs would run, how many of them for a reason of their own, and
the reason: which param changed from what to what, or that the code has changed. `make what-changed`
calls it. It asks for Snakemake's own plan and guesses nothing from files. Snakemake is imported
only where it is asked: the rest of the library does without.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from ..config import strict_yaml
from ..errors import UserError

SNAKEFILES = (Path("Snakefile"), Path("workflow/Snakefile"))  # in the folder of a project
TRIGGERS = ("mtime", "params", "input")  # as in every profile
STACK = re.compile(
    r"\s*Error:\n\s*\w+:\n(?P<told>.*?)\n(?:Wildcards:\n.*?)?Traceback:\n.*", re.DOTALL
)
LONGEST = 60  # characters of a value that are shown
Explain = Callable[[str, str], list[str]]
"""Old and new fingerprint of a data set's files -> what changed; [] where that is not known."""

SHOWN = 8  # changed keys or files of a reason that are shown


def planned(configfiles: list[Path], targets: set[str], explain: Explain) -> list[dict[str, Any]]:
    """Every job that would run, in the order of the road, with its reasons.

    A job without reasons only follows another one: Snakemake looks no further then. `explain` says
    what is different in a data set's files.
    """
    try:
        from snakemake.api import SnakemakeApi
        from snakemake.settings.enums import Quietness, RerunTrigger
        from snakemake.settings.types import (
            ConfigSettings,
            DAGSettings,
            OutputSettings,
            ResourceSettings,
            SchedulingSettings,
        )
    except ImportError as error:
        raise UserError("what-changed needs Snakemake: pip install snakemake") from error
    snakefile = next((path for path in SNAKEFILES if path.is_file()), None)
    if snakefile is None:
        raise UserError(f"no Snakefile in {Path.cwd()}: call it in the folder of the project")
    output = OutputSettings(quiet={Quietness.ALL})
    with SnakemakeApi(output) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=configfiles),
            snakefile=snakefile.resolve(),
        )
        triggers = frozenset(RerunTrigger.parse_choices_set(TRIGGERS))
        dag_api = workflow.dag(DAGSettings(targets=targets, rerun_triggers=triggers))
        greedy = SchedulingSettings(scheduler="greedy")
        try:
            dag_api.execute_workflow(executor="dryrun", scheduling_settings=greedy)
        except Exception as error:  # Snakemake's own way of telling it is as quiet as its plan
            raise UserError(told_error(error)) from error
        dag, road = workflow._workflow.dag, [rule.name for rule in workflow._workflow.rules]
        jobs = [
            {
                "rule": job.rule.name,
                "wildcards": dict(job.wildcards_dict),
                "reasons": list(reasons(dag.reason(job), job, explain)),
            }
            for job in dag.needrun_jobs(exclude_finished=False)
        ]
    return sorted(jobs, key=lambda job: (road.index(job["rule"]), [*job["wildcards"].values()]))


def told_error(error: Exception) -> str:
    """What Snakemake says of an error; of one that a function of the rules told, its own line.

    Snakemake puts a stack of the Snakefile around it, in which nothing is the user's.
    """
    text = str(error) or type(error).__name__
    said = STACK.match(text)
    if said is None:
        return text
    lines = textwrap.dedent(said["told"]).splitlines()
    outer = [line for line in lines if line and not line[0].isspace()]  # further in are details
    ended = [line if line.endswith((":", ".")) else f"{line};" for line in outer]
    return " ".join(ended).removesuffix(";")


def reasons(reason: Any, job: Any, explain: Explain) -> Iterator[str]:
    """The job's own reasons, in plain words."""
    if reason.forced:
        yield "asked for"
    if reason.incomplete_output:
        yield "it was cut short"
    elif reason.missing_output:
        yield "not made yet"
    if own := set(reason.updated_input) - set(reason.updated_input_run):
        yield f"read files that have changed: {listed(own)}"
    if reason.input_changed:
        yield "it reads more, fewer or other files than before"
    if reason.params_changed:
        change = reason.params_changed
        named = {repr(value): name for name, value in job.params.items()}
        yield from changed_params(change.only_old, change.only_new, named, explain)


def listed(files: Any) -> str:
    """The first files of many, by name."""
    names = sorted(map(str, files))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def changed_params(
    old: set[str], new: set[str], named: dict[str, str], explain: Explain
) -> Iterator[str]:
    """Which param changed from what to what; Snakemake keeps the old values without their names."""
    left = sorted(old)
    for text in sorted(new, key=lambda text: named.get(text, text)):
        name = named.get(text, "param")
        best = max(left, key=lambda before: likeness(before, text), default=None)
        if best is not None:
            left.remove(best)
        if name == "code":
            yield "the code that it runs has changed"
        elif best is None:
            yield f"{name} is new"
        elif name == "data":
            yield from changed_data(literal(best), literal(text), explain)
        else:
            yield from differences(name, literal(best), literal(text))
    for text in left:
        yield f"no longer used: {short(literal(text))}"


def changed_data(old: Any, new: Any, explain: Explain) -> Iterator[str]:
    """What is different in the files of a data set, or of several by name."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        old, new = {"": old}, {"": new}
    for name in new:
        if old.get(name) != new[name]:
            said = explain(str(old.get(name)), str(new[name]))
            where = f" of {name}" if name else ""
            yield f"the files{where} have changed" + f": {'; '.join(said)}" * bool(said)


def literal(text: str) -> Any:
    """The value whose repr this is, or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def likeness(old: str, new: str) -> tuple[bool, float]:
    """How probable it is that two values belong to the same param."""
    same_type = type(literal(old)) is type(literal(new))
    return same_type, difflib.SequenceMatcher(None, old[:2000], new[:2000]).ratio()


def differences(name: str, old: Any, new: Any) -> Iterator[str]:
    """The keys that differ, with their path: `method.prediction_weight_1: 0.5 -> 0.4`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            path = f"{name}.{key}"
            if key not in new:
                yield f"{path}: {short(old[key])} -> taken out"
            elif key not in old:
                yield f"{path}: new, {short(new[key])}"
            elif old[key] != new[key]:
                yield from differences(path, old[key], new[key])
    elif old != new:
        yield f"{name}: {short(old)} -> {short(new)}"


def short(value: Any) -> str:
    """A value as text, cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def told(jobs: list[dict[str, Any]]) -> str:
    """The plan in plain words, rule by rule in the order of the road."""
    jobs = [job for job in jobs if job["rule"] != "all"]
    if not jobs:
        return (
            "Nothing would run: everything is made, and nothing that it depends on has changed.\n"
        )
    own = [job for job in jobs if job["reasons"]]
    lines = [
        f"{len(jobs)} jobs would run: {len(own)} for a reason of their own, "
        f"{len(jobs) - len(own)} because they read what those write.",
        "",
    ]
    for rule, count in Counter(job["rule"] for job in jobs).items():
        mine = [job for job in own if job["rule"] == rule]
        rest = f" ({count - len(mine)} follow from others)" if 0 < len(mine) < count else ""
        rest = rest if mine else " (follow from others)" if count > 1 else " (follows from others)"
        lines.append(f"{rule}: {count} job{'s' * (count > 1)}{rest}")
        why: Counter[str] = Counter(reason for job in mine for reason in job["reasons"])
        for reason, times in list(why.items())[:SHOWN]:
            lines.append(f"    {reason}" + (f"  ({times} jobs)" if times > 1 else ""))
        if len(why) > SHOWN:
            lines.append(f"    and {len(why) - SHOWN} more")
    return "\n".join(lines) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--profile", type=Path, help="its configfile is taken")
    parser.add_argument("--configfile", type=Path, nargs="+", help="instead of the profile's")
    parser.add_argument("--json", action="store_true", help="every job with its reasons")
    parser.add_argument("targets", nargs="*", help="default: everything")


def run(options: argparse.Namespace, explain: Explain) -> None:
    """Print what would run; `explain` says what is different in a data set's files."""
    configfiles = options.configfile or []
    if options.profile and not configfiles:
        configfiles = profile_configfiles(options.profile)
    for path in configfiles:
        if not path.is_file():
            raise UserError(f"no file {path}")
        strict_yaml.read(path)  # Snakemake's own message is a traceback
    jobs = planned([path.resolve() for path in configfiles], set(options.targets), explain)
    explained = ", ".join(map(str, configfiles)) or "the demo, since no configuration is named"
    text = f"Configuration: {explained}\n\n{told(jobs)}"
    sys.stdout.write(json.dumps(jobs, indent=1) + "\n" if options.json else text)


def profile_configfiles(folder: Path) -> list[Path]:
    """The configurations that a profile names: one, several, or none.

    Raises:
        UserError: there is no such profile, or it is none.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(f"no profile {folder}: {file} is not there")
    try:
        profile = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    if profile is None:
        return []
    named = (profile.get("configfile") or []) if isinstance(profile, dict) else None
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise UserError(f"{file}: configfile: the path of a file is needed, or a list of paths")
    return [Path(name) for name in named]
