"""Every file of a run, in one table: its pattern, whose keys are wildcards, and what it is.

The Snakefile writes these files and the readers of results find their keys here; a path is built
by `path` and parsed by `keys`, nowhere else. `results/README.md` is made of this table.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..config.names import DRAWN

SETUP = "{task}/{backbone}/{attribute}"


class File(NamedTuple):
    """A kind of file below `results/<run>/`."""

    pattern: str
    what: str


FILES: dict[str, File] = {
    "raw": File(DRAWN, "Raw folder of the demo, drawn by rule synthesize."),
    "seen": File(
        "data/{dataset}.seen.json.gz",
        "Names, sizes and times of the raw files at the last start: whether they have changed.",
    ),
    "check_json": File("data_check.json", "What is in the raw folders beside what should be."),
    "check_text": File("data_check.txt", "The same for people."),
    "data_suffices": File("data_suffices.txt", "Every experiment can be done with these data."),
    "manifest": File("manifests/{dataset}.parquet", "One row an included image."),
    "manifest_log": File("manifests/{dataset}.log.json", "What was left out, rule by rule."),
    "pixels": File("images/{dataset}.npy", "Image cache: uint8 (N, H, W, C)."),
    "image_index": File(
        "images/{dataset}.parquet",
        "Row i of the cache: hashes, size, error, checksum, bits, contrast, transparency.",
    ),
    "skin_tone": File(
        "skin_tone/{dataset}.parquet",
        "Skin type measured from the pixels, by each rule; `b_star` is the patches' median b*.",
    ),
    "skin_tone_sheet": File("skin_tone/{dataset}.png", "Random images of each measured type."),
    "cohort": File(
        "cohorts/{task}.parquet",
        "Training pool without duplicates; images of one `cluster` stay in one fold.",
    ),
    "duplicates": File("cohorts/{task}.duplicates.parquet", "Pairs of images found to be one."),
    "cohort_log": File("cohorts/{task}.log.json", "How many images left the pool, and why."),
    "folds": File("folds/{task}.parquet", "Fold of every image of the pool."),
    "sizes_csv": File("folds/{task}.sizes.csv", "Images of every fold and external set."),
    "sizes_md": File("folds/{task}.sizes.md", "The same for people."),
    "external": File(
        "external/{task}/{attribute}/fold{fold}.parquet",
        "External set: the fold's images of known group; `balanced` marks the balanced part.",
    ),
    "model_check": File(
        "model_check/{task}/{backbone}.txt",
        "A network, built and run once: its weights, its last layer, what importance takes long.",
    ),
    "baseline_model": File(
        "baseline/{task}/{backbone}/fold{fold}/model.safetensors", "The biased classifier."
    ),
    "baseline_history": File(
        "baseline/{task}/{backbone}/fold{fold}/history.parquet", "Its training, a row an epoch."
    ),
    "baseline_source": File(
        "baseline/{task}/{backbone}/fold{fold}/source.json",
        "The file of weights that it was made of, and its SHA-256.",
    ),
    "baseline_cost": File("baseline/{task}/{backbone}/fold{fold}/cost.json", "What it cost."),
    "baseline_scores": File(
        "baseline/{task}/{backbone}/fold{fold}/held_out.parquet",
        "Its scores on the images that it was not trained on: `logit`; of C > 2 classes `logit_0` "
        "to `logit_{C-1}`.",
    ),
    "baseline_threshold": File(
        "baseline/{task}/{backbone}/fold{fold}/threshold.json", "Its external threshold."
    ),
    "groups": File(
        f"groups/{SETUP}.json",
        "Which two groups are compared and which is unprivileged: one choice for all folds.",
    ),
    "search": File(
        f"search/{SETUP}/{{method}}.json",
        "Every trial of a method's search, and the settings that were chosen.",
    ),
    "importance": File(
        f"importance/{SETUP}/fold{{fold}}.safetensors", "Diagonal Fisher of every objective."
    ),
    "mask_summary": File(
        f"importance/{SETUP}/fold{{fold}}.mask_summary.parquet", "Soft mask by layer."
    ),
    "first_model": File(
        f"first_steps/{SETUP}/{{first}}/fold{{fold}}/model.safetensors",
        "The classifier after a first step that several variants share.",
    ),
    "first_history": File(
        f"first_steps/{SETUP}/{{first}}/fold{{fold}}/history.parquet", "A row an epoch."
    ),
    "first_cost": File(f"first_steps/{SETUP}/{{first}}/fold{{fold}}/cost.json", "What it cost."),
    "model": File(
        f"debiased/{SETUP}/{{method}}/fold{{fold}}/model.safetensors", "The debiased classifier."
    ),
    "history": File(
        f"debiased/{SETUP}/{{method}}/fold{{fold}}/history.parquet", "A row an epoch or step."
    ),
    "cost": File(f"debiased/{SETUP}/{{method}}/fold{{fold}}/cost.json", "What it cost."),
    "threshold": File(
        f"debiased/{SETUP}/{{method}}/fold{{fold}}/threshold.json",
        "The threshold at which its balanced accuracy on external samples is best; null where the "
        "most probable of more than two classes is decided for, or a `rule` decides that is given.",
    ),
    "repeat_model": File(
        f"debiased/{SETUP}/{{method}}/fold{{fold}}/repeat{{repeat}}/model.safetensors",
        "The same with other draws (repeats: of the config): 1, 2, ...",
    ),
    "repeat_history": File(
        f"debiased/{SETUP}/{{method}}/fold{{fold}}/repeat{{repeat}}/history.parquet",
        "A row an epoch or step.",
    ),
    "repeat_cost": File(
        f"debiased/{SETUP}/{{method}}/fold{{fold}}/repeat{{repeat}}/cost.json", "What it cost."
    ),
    "repeat_threshold": File(
        f"debiased/{SETUP}/{{method}}/fold{{fold}}/repeat{{repeat}}/threshold.json",
        "Its external threshold.",
    ),
    "setup_predictions": File(f"predictions/{SETUP}", "Folder of all methods' predictions."),
    "predictions": File(
        f"predictions/{SETUP}/{{method}}/fold{{fold}}.parquet",
        "A row a test image: dataset, image_id, patient_id, label, group, score, threshold. Of "
        "C > 2 classes `score_0` to `score_{C-1}`, their probabilities, and no threshold. Where a "
        "rule decides by score and group, `decision`, 0 or 1, and threshold is null.",
    ),
    "repeat_predictions": File(
        f"predictions/{SETUP}/{{method}}/fold{{fold}}.repeat{{repeat}}.parquet",
        "The same of a repeat.",
    ),
    "setup_metrics": File(
        f"metrics/{SETUP}.parquet",
        "Metrics of all methods, folds, test sets; of repeats their mean.",
    ),
    "setup_repeats": File(
        f"metrics/{SETUP}.repeats.parquet", "The metrics of each repeat, where there are several."
    ),
    "metrics": File("metrics.parquet", "All metrics: one tidy table."),
    "intervals": File(f"intervals/{SETUP}.parquet", "Intervals and noise floors of all methods."),
    "statistics": File("statistics.parquet", "Methods against the Baseline and the best other."),
    "costs": File(
        "costs.parquet",
        "What every training and debiasing cost: a row a fold and quantity. A Baseline's training "
        "has the method `pretraining`.",
    ),
    "setup_plausibility": File(
        f"plausibility/{SETUP}.parquet", "What to mind about every method on every test set."
    ),
    "plausibility": File(
        "plausibility.parquet", "What to mind about a method on a test set: a row a mark."
    ),
    "in_words": File("in_words.json", "What happened, in a few sentences made from the numbers."),
    "table": File("tables/{table}.{format}", "A table as csv, md, tex, html and txt."),
    "table_recipe": File(
        "tables/{table}.json", "What a table was made of, for `swift-debias verify`."
    ),
    "figure": File("figures/{figure}.{format}", "A figure as pdf and png, and its data as csv."),
    "arrays": File("figures/arrays/{figure}.npz", "What a figure computes from models or pixels."),
    "which_method": File(
        "which_method", "Folder: which method for which kind of bias, where biases are drawn."
    ),
    "which_method_file": File(
        "which_method/{part}.{format}",
        "The answer as md and html, its rows as csv, its pictures as pdf, png and csv.",
    ),
    "verdict": File("verdict.{format}", "Did it reproduce? For people, md and html."),
    "verdict_cells": File("verdict_cells.csv", "Every published number beside ours."),
    "verdict_claims": File("verdict_claims.csv", "Every claim of the paper's text, judged."),
    "verdict_instances": File("verdict_instances.csv", "The comparisons behind each claim."),
    "report": File("report.html", "Everything on one page."),
    "settings": File("settings.yaml", "All settings of the run, without folders."),
    "origin": File(
        "origin.json",
        "Commit of the code and of the configuration, what differs from it, and versions.",
    ),
    "summary": File("summary.txt", "What the terminal shows at the end."),
    "unfinished": File(
        "unfinished.json",
        "Where jobs failed: what the report goes without, and why. Gone with the next whole run.",
    ),
    "baseline_checkpoints": File(
        "checkpoints/baseline/{task}/{backbone}/fold{fold}", "States of a running training."
    ),
    "checkpoints": File(
        f"checkpoints/{SETUP}/{{method}}", "States of a running debiasing; removed when done."
    ),
    "repeat_checkpoints": File(
        f"checkpoints/repeats/{SETUP}/{{method}}/repeat{{repeat}}", "States of a running repeat."
    ),
    "search_journal": File(
        f"checkpoints/search/{SETUP}/{{method}}", "Scores of a running search's finished trials."
    ),
    "first_checkpoints": File(
        f"checkpoints/first_steps/{SETUP}/{{first}}", "States of a running first step."
    ),
    "logs": File("logs", "What every job printed: logs/{rule}/..."),
    "tensorboard": File("tensorboard", "Histories for TensorBoard, by `swift-debias export-logs`."),
    "benchmarks": File("benchmarks", "What every job cost: benchmarks/{rule}/..."),
}


class _Partly(dict[str, object]):
    """Keys that are not given stay wildcards."""

    def __missing__(self, key: str) -> str:
        return f"{{{key}}}"


def path(name: str, **keys: object) -> str:
    """A file relative to the run's folder; keys that are not given stay wildcards."""
    return FILES[name].pattern.format_map(_Partly(keys))


def keys(name: str, file: str | Path) -> dict[str, str]:
    """The keys of a file, from its path.

    Raises:
        ValueError: the path is not one of this kind.
    """
    match = _regex(name).search(Path(file).as_posix())
    if match is None:
        raise ValueError(f"{file} does not end like {FILES[name].pattern}")
    return match.groupdict()


def key_names(name: str) -> list[str]:
    """The keys of a kind of file, in the order of its pattern."""
    return list(_regex(name).groupindex)


def run_folder(name: str, file: str | Path) -> Path:
    """The folder of the run that a file of this kind belongs to."""
    path = Path(file)
    keys(name, path)  # refuses what is not one of this kind
    return path.parents[FILES[name].pattern.count("/")]


@functools.cache
def _regex(name: str) -> re.Pattern[str]:
    text = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(FILES[name].pattern))
    return re.compile(rf"(?:^|/){text}$")


def log(rule: str, *names: str) -> str:
    """The log of a rule whose jobs have these wildcards."""
    return _of_job("logs", rule, names) + ".log"


def benchmark(rule: str, *names: str) -> str:
    """The benchmark of a rule whose jobs have these wildcards."""
    return _of_job("benchmarks", rule, names) + ".tsv"


def _of_job(kind: str, rule: str, names: tuple[str, ...]) -> str:
    """A job's own file, without its ending. A number says of what, as in folders: fold0."""
    numbers = {"fold", "repeat"}
    parts = (f"{name if name in numbers else ''}{{{name}}}" for name in names)
    return "/".join([FILES[kind].pattern, rule, *parts])


def rule_of(benchmark: Path, folder: Path) -> str:
    """Which rule a benchmark file below `folder` is of."""
    return benchmark.relative_to(folder).parts[0].removesuffix(".tsv")


def document(rows: Mapping[str, File] = FILES) -> str:
    """`results/README.md`."""
    lines = [
        "# What a run writes",
        "",
        "Everything is below `results/<run>/`, where `run:` of the config names the run. This page",
        "is made from `workflow/scripts/swift_debias/run/layout.py` by `make docs`.",
        "",
        "A file that a later job reads carries the SHA-256 of its own bytes in its remarks (of",
        "images, a checksum each). Changed by hand or by a disk it is refused; delete it and run",
        "again.",
        "",
        "| file | what it is |",
        "| --- | --- |",
        *(f"| `{file.pattern}` | {file.what} |" for file in rows.values()),
    ]
    return "\n".join(lines) + "\n"
