"""The manifest: one row an included image, and the log of everything left out.

Every adapter of `adapters/` goes the same way: list the folder once (`raw_files.scan`), read the
official table into `Rows`, leave rows out rule by rule (each rule is counted), return
`rows.result(folder)`.

Columns of a manifest (any further columns are the attributes of a user's own table):

    image_id     str     unique in its data set
    path         str     relative to the data set's root, with forward slashes
    label        int8    1 or 0; skin: 1 = not melanoma, chest: 1 = pneumothorax [paper, 4.1];
                         of a task with classes: their index, 0 to C - 1
    diagnosis    str     the source's own word(s)
    patient_id   str     or null
    lesion_id    str     or null
    sex          str     'female', 'male' or null
    age          float64 years, or null
    fitzpatrick  float64 skin type 1 to 6, or null; halves where the source reports pairs of types
    view         str     projection of an X-ray ('PA', 'AP') or null
    split        str     the source's own split, or null
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.types import is_numeric_dtype

from ..errors import UserError
from ..files import read_parquet, write_json, write_parquet

COLUMNS: dict[str, pa.DataType] = {
    "image_id": pa.string(),
    "path": pa.string(),
    "label": pa.int8(),
    "diagnosis": pa.string(),
    "patient_id": pa.string(),
    "lesion_id": pa.string(),
    "sex": pa.string(),
    "age": pa.float64(),
    "fitzpatrick": pa.float64(),
    "view": pa.string(),
    "split": pa.string(),
}


REQUIRED = ("image_id", "path", "label", "diagnosis")


# What the workflow's own tables call their columns, on the way from a manifest to the scores.
OUR_COLUMNS = frozenset(
    (
        *("image_id", "path", "label", "diagnosis", "patient_id", "lesion_id", "unsafe", "reason"),
        *(
            "dataset",
            "cluster",
            "measured",
            "trains",
            "external",
            "fold",
            "group",
            "attribute",
            "balanced",
            "score",
        ),
    )
)


def stored_column(column: str) -> str:
    """What a manifest calls an attribute of a user's table: any name, `group` and `fold` too."""
    ours = column in OUR_COLUMNS or column.startswith(("attribute ", "table: "))
    return f"attribute {column}" if ours else column


ANCHOR_AGE = "anchor_age"  # of MIMIC, beside the age at the study: who changes group is counted

MAX_AGE = 120.0  # years; above it is a typing error (NIH's first release has ages up to 414)


class ManifestResult(NamedTuple):
    """What an adapter returns: the included rows, and the count of everything left out."""

    frame: pd.DataFrame
    log: dict[str, Any]


def typed(frame: pd.DataFrame, columns: Mapping[str, pa.DataType]) -> pd.DataFrame:
    """The columns of a manifest in order, with their types; absent ones are null."""
    absent = pd.Series(np.nan, index=frame.index, dtype="object")
    return pd.DataFrame(
        {name: frame.get(name, absent).astype(_PANDAS[dtype]) for name, dtype in columns.items()}
    )


_PANDAS: dict[pa.DataType, Any] = {pa.string(): "str", pa.int8(): "int8", pa.float64(): "float64"}


def validate(frame: pd.DataFrame, dataset: str, classes: int = 2) -> None:
    """Check a manifest against the schema.

    Raises:
        UserError: names the data set, the column and the first offending image.
    """
    absent = [name for name in COLUMNS if name not in frame]
    if absent:
        raise UserError(f"manifest of {dataset}: no column {', '.join(map(repr, absent))}")
    for name, dtype in COLUMNS.items():
        if str(frame[name].dtype) != _PANDAS[dtype]:
            raise UserError(
                f"manifest of {dataset}: column {name!r} is {frame[name].dtype}, "
                f"not {_PANDAS[dtype]}"
            )
    path = frame["path"]
    parts = path.str.split("/")
    problems = {
        "image_id is used twice": frame["image_id"].duplicated(),
        **{f"no {name}": frame[name].isna() for name in REQUIRED},
        "path is not a plain path below the root": path.str.startswith("/")
        | parts.map(lambda names: ".." in names or "" in names, na_action="ignore").eq(True),
        "label is neither 0 nor 1" if classes == 2 else f"label is not 0 to {classes - 1}": ~frame[
            "label"
        ].isin(range(classes)),
        "sex is neither 'female' nor 'male'": frame["sex"].notna()
        & ~frame["sex"].isin(("female", "male")),
        f"age is not within 0 to {MAX_AGE:g}": frame["age"].notna()
        & ~frame["age"].between(0, MAX_AGE),
        "fitzpatrick is not within 1 to 6": frame["fitzpatrick"].notna()
        & ~frame["fitzpatrick"].between(1, 6),
    }
    for problem, mask in problems.items():
        if mask.any():
            raise UserError(
                f"manifest of {dataset}: {problem} in {int(mask.sum())} rows, "
                f"the first is {frame.loc[mask, 'image_id'].iloc[0]!r}"
            )


def write(
    result: ManifestResult, dataset: str, frame_path: Path, log_path: Path, classes: int = 2
) -> None:
    """Validate and write a manifest (Parquet) and its log (JSON); same input, same bytes.

    `classes`: of the task that it is for.

    Raises:
        UserError: the manifest is not valid, or no image is left (the rules that emptied it are
            named).
    """
    frame, log = result
    if frame.empty:
        rules = "; ".join(
            f"{rule['rule']}: {rule['removed']} (such as {', '.join(rule['examples'][:3])})"
            for rule in log["rules"]
            if rule["removed"]
        )
        found = [f"; {hint}" for rule in log["rules"] for hint in rule.get("found", ())]
        raise UserError(
            f"{dataset}: none of {log['rows_read']} rows is left. Left out: {rules}{''.join(found)}"
        )
    validate(frame, dataset, classes)
    types = dict(COLUMNS)
    for name in frame.columns.difference(list(COLUMNS), sort=False):
        types[name] = pa.float64() if is_numeric_dtype(frame[name]) else pa.string()
    schema = pa.schema(list(types.items()))
    table = pa.Table.from_pandas(frame, schema, preserve_index=False)
    # pandas' own metadata names its version: without it the bytes depend on the data alone.
    write_parquet(table.replace_schema_metadata(None), frame_path, compression="zstd")
    write_json(log_path, log)


def read(path: Path) -> pd.DataFrame:
    """A manifest as `write` wrote it."""
    return read_parquet(path)
