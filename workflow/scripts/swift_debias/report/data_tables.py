"""What was read, kept and left out, as tables of report.html."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..config.schema import ANGLE_RULES
from ..evaluation.words import title
from ..files import read_json, read_parquet
from ..run import layout
from .sharing import without_paths

TYPES = ("I", "II", "III", "IV", "V", "VI")


def exclusions(logs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Every rule that left rows out: data set, rule, removed (rows).

    `logs` maps a data set to its manifest log, which has examples; ids are not for a report.
    """
    rows = [
        (title(name), without_paths(rule["rule"]), rule["removed"])
        for name, log in logs.items()
        for rule in log["rules"]
        if rule["removed"]
    ]
    return pd.DataFrame(rows, columns=["data set", "rule", "removed"])


def data_sizes(
    manifests: Mapping[str, pd.DataFrame], logs: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """What is in each data set: rows read and kept, classes, and how much is known.

    Args:
        manifests: data set -> manifest (one row an included image).
        logs: data set -> manifest log, with `rows_read`.
    """
    rows = []
    most = max((int(one["label"].max()) for one in manifests.values() if len(one)), default=1)
    classes = range(max(1, most) + 1)
    for dataset, manifest in manifests.items():
        log = logs.get(dataset, {})
        sex = manifest["sex"].value_counts()
        rows.append(
            {
                "data set": title(dataset),
                "rows read": log.get("rows_read"),
                "images": len(manifest),
                **{f"class {c}": int((manifest["label"] == c).sum()) for c in classes},
                "patients": int(manifest["patient_id"].nunique()) or None,
                "female": int(sex.get("female", 0)),
                "male": int(sex.get("male", 0)),
                "age known": int(manifest["age"].notna().sum()),
                "skin type known": int(manifest["fitzpatrick"].notna().sum()),
            }
        )
    counts = ["rows read", "patients"]
    return pd.DataFrame(rows).astype({name: "Int64" for name in counts if rows})


def weight_files(files: Iterable[Path]) -> pd.DataFrame:
    """Which files of weights the classifiers were made of, by SHA-256; random starts have none.

    Args:
        files: `baseline/{task}/{backbone}/fold{fold}/source.json`.
    """
    rows = []
    for path in files:
        keys = layout.keys("baseline_source", path)
        source = read_json(path)
        if source["file"] is not None:
            used = {"used as": source["kind"], "file": source["file"], "SHA-256": source["sha256"]}
            start = {"task": title(keys["task"]), "network": title(keys["backbone"])}
            rows.append({**start, "folds": keys["fold"], **used})
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    same = [column for column in frame if column != "folds"]
    joined = frame.groupby(same, sort=False, dropna=False)["folds"].agg(", ".join)
    return joined.reset_index()[list(frame)]


def group_sizes(metrics: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Images and share of class 1 in each attribute group of each test set, from the metrics.

    `groups` names the groups of each attribute, in the order of their indices.
    """
    wanted = metrics["metric"].str.fullmatch(r"(?:n|prevalence)\[\d+\]")
    first = metrics[wanted].drop_duplicates(["task", "attribute", "dataset", "metric"])
    rows = []
    for key, part in first.groupby(["task", "attribute", "dataset"]):
        task, attribute, dataset = map(str, key)
        values = part.set_index("metric")["value"]
        for group, name in enumerate(groups[attribute]):
            rows.append(
                {
                    "task": title(task),
                    "attribute": title(attribute),
                    "test set": title(dataset),
                    "group": name,
                    "images": int(values.get(f"n[{group}]", 0)),
                    "share of class 1": values.get(f"prevalence[{group}]", np.nan),
                }
            )
    return pd.DataFrame(rows)


def checked_data(check: Mapping[str, Any]) -> pd.DataFrame:
    """What rule check_data found: a row a data set, beside the official counts.

    Args:
        check: data_check.json.
    """
    rows = []
    for data in check["datasets"]:
        expected = (data.get("expected") or {}).get("label") or {}
        counts = (data.get("counts") or {}).get("label") or {}
        rows.append(
            {
                "data set": title(data["name"]),
                "source": data["origin"]["title"],
                "licence": data["origin"]["licence"],
                "rows read": data["rows_read"],
                "images found": data["images_found"],
                "images missing": data["images_missing"],
                "class 0 / 1": _pair(counts),
                "officially": _pair(expected),
                "in the paper": data.get("paper_images"),
            }
        )
    frame = pd.DataFrame(rows)
    numbers = ["rows read", "images found", "images missing", "in the paper"]
    return frame.astype(dict.fromkeys(numbers, "Int64")) if rows else frame


def _pair(counts: Mapping[str, int]) -> str:
    return " / ".join(f"{counts[k]:,}" for k in ("0", "1")) if {"0", "1"} <= counts.keys() else ""


def external_sizes(files: Iterable[Path]) -> pd.DataFrame:
    """Size of every external set and of its balanced part.

    With more than two groups the two to be balanced are chosen by each Baseline: nothing is said.

    Args:
        files: `external/{task}/{attribute}/fold{fold}.parquet`.
    """
    rows = []
    for path in files:
        frame = read_parquet(path, columns=["label", "attribute", "balanced"])
        cells = frame[frame["balanced"]].groupby(["label", "attribute"]).size()
        rows.append(
            {
                "task": title(path.parts[-3]),
                "attribute": title(path.parts[-2]),
                "fold": int(path.stem.removeprefix("fold")),
                "images": len(frame),
                "balanced": int(cells.sum()) or None,
                "smallest cell": int(cells.min()) if len(cells) else None,
            }
        )
    frame = pd.DataFrame(rows)
    return frame.astype(dict.fromkeys(("balanced", "smallest cell"), "Int64")) if rows else frame


def skin_tones(files: Iterable[Path]) -> pd.DataFrame:
    """How many images are of each measured skin type, and how many the rules differ on.

    Args:
        files: `skin_tone/{dataset}.parquet`.
    """
    rows = []
    for path in files:
        tones = read_parquet(path)
        types = tones["fitzpatrick"]
        counts = {f"type {name}": int((types == n).sum()) for n, name in enumerate(TYPES, start=1)}
        by_rule = {
            f"dark by {rule}": int((tones[f"fitzpatrick_{rule}"] > 3).sum()) for rule in ANGLE_RULES
        }
        rows.append(
            {
                "data set": title(path.stem),
                "images": len(tones),
                **counts,
                "unknown": int(types.isna().sum()),
                "b* not above 0": int((tones["b_star"] <= 0).sum()),
                **by_rule,
            }
        )
    return pd.DataFrame(rows)


def cohort_facts(logs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What the duplicate search did, a row a number; what is no number may name a patient.

    Args:
        logs: task -> cohorts/{task}.log.json.
    """
    rows = []
    for task, log in logs.items():
        for what, value in log.items():
            parts = value.items() if isinstance(value, Mapping) else [("", value)]
            rows += [
                (title(task), what.replace("_", " "), str(of).replace("_", " "), n)
                for of, n in parts
                if isinstance(n, int | float)
            ]
    return pd.DataFrame(rows, columns=["task", "what", "of", "number"])


def metrics_left_out(metrics: pd.DataFrame) -> pd.DataFrame:
    """Every reason for which a metric has no value, or leaves something out, and how often.

    Args:
        metrics: the tidy metrics.
    """
    told = metrics[metrics["reason"].notna()]
    keys = ["task", "attribute", "dataset", "metric", "reason"]
    rows = [
        {
            "task": title(str(key[0])),
            "attribute": title(str(key[1])),
            "test set": title(str(key[2])),
            "metric": title(str(key[3])),
            "why": key[4],
            "without a value": int(part["value"].isna().sum()),
            "with a value": int(part["value"].notna().sum()),
        }
        for key, part in told.groupby(keys)
    ]
    return pd.DataFrame(rows)


def unknown_groups(metrics: pd.DataFrame) -> pd.DataFrame:
    """Test images whose group is unknown: left out of every metric of that attribute."""
    first = metrics[metrics["metric"] == "n_unknown"].drop_duplicates(
        ["task", "attribute", "dataset"]
    )
    frame = pd.DataFrame(
        {
            "task": first["task"].map(title),
            "attribute": first["attribute"].map(title),
            "test set": first["dataset"].map(title),
            "images": first["n"].astype(int),
            "of unknown group": first["value"].astype(int),
        }
    )
    return frame[frame["of unknown group"] > 0]
