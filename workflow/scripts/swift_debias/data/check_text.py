"""What `check` found, as text for people: data_check.txt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config.schema import Task
    from .check import DatasetCheck, PoolCheck

UNKNOWN = "unknown"
POOL = "training pool"
MOST_VALUES = 15  # of a column


def dataset_text(data: DatasetCheck) -> str:
    """A data set, a line for each thing found."""
    origin = data.origin
    lines = [
        f"{data.name}: {origin.title}",
        f"  page     {origin.url} ({origin.licence})",
        f"  folder   {data.folder}",
        *(f"  changed  since an earlier run: {said}" for said in data.changed),
    ]
    if not data.found:
        return "\n".join([*lines, f"  NOT FOUND; it holds {origin.folder}"])
    if data.error is not None:
        return "\n".join([*lines, f"  CANNOT BE READ: {data.error}"])
    lines += [f"  read     {table}" for table in data.tables]
    paper = "" if data.paper_images is None else f" (paper: {data.paper_images:,})"
    lines.append(f"  rows     {data.rows_read:,}, images found {data.images_found:,}{paper}")
    lines += [f"  rule     {data.rule}"] * bool(data.rule)
    if data.images_missing:
        examples = ", ".join(data.missing_examples)
        lines.append(f"  MISSING  {data.images_missing:,} images, such as {examples}")
        lines += [f"           {hint}" for hint in data.hints]
    if data.patients:
        lines.append(
            f"  patients {data.patients:,}, the largest is {data.largest_patient!r} with "
            f"{data.largest_patient_images:,} images; {data.images_without_patient:,} images "
            "without a patient, each counted as one"
        )
    lines += [f"  left out {number:,}: {rule}" for rule, number in data.left_out.items()]
    lines += [f"  note     {number:,}: {note}" for note, number in data.notes.items()]
    for name, groups in data.counts.items():
        known = data.expected.get(name, {})
        cells = [
            f"{group} {number:,}" + (f" (expected {known[group]:,})" if group in known else "")
            for group, number in groups.items()
        ]
        lines.append(f"  {name}: {', '.join(cells)}")
    lines += [
        f"  values of {name}: {_values_text(entries)}" for name, entries in data.values.items()
    ]
    return "\n".join(lines)


def _values_text(entries: Sequence[Mapping[str, Any]]) -> str:
    """What each value became, and how often; the whole list is in the JSON file."""
    shown = [
        f"{'(empty)' if one['value'] is None else repr(one['value'])} -> "
        f"{UNKNOWN if one['became'] is None else one['became']} {one['count']:,}"
        for one in entries[:MOST_VALUES]
    ]
    more = len(entries) - len(shown)
    return "; ".join([*shown, *([f"{more} more in data_check.json"] if more else [])])


def what_it_learns_from(task: Task) -> str:
    """What a task's sets are: a pool to train on, a set of one's own to debias on, or both."""
    if not task.external:
        return POOL
    return f"{POOL} and external set" if task.train else "external set"


def pool_text(pool: PoolCheck) -> str:
    """What a task learns from: its size, its leaks, its labels by group."""
    lines = [
        f"{pool.what} of {pool.task}: {' + '.join(pool.datasets)}",
        f"  {pool.images:,} images, {pool.distinct_ids:,} distinct ids",
    ]
    if pool.expected_distinct_ids is not None:
        lines.append(
            f"  complete: {pool.expected_distinct_ids:,} distinct ids, "
            f"{pool.expected_without_listed:,} without the listed duplicates"
        )
    if pool.paper_images is not None:
        lines.append(f"  paper: {pool.paper_images:,}. {pool.note}")
    if pool.leaks.get("images"):
        done = {"exclude": "excluded", "allow": "kept", "refuse": "refused"}[pool.leaks_rule]
        lines.append(
            f"  {pool.leaks['images']:,} images are of a test set too "
            f"({pool.leaks['of_them_in_a_test_set']:,}) or of a patient or lesion of one "
            f"({pool.leaks['of_them_of_a_patient_or_lesion_in_a_test_set']:,}; "
            f"{pool.leaks['patients']:,} patients): {done} (duplicates.leaks)"
        )
    if pool.images_left is not None and pool.images_left < pool.images:
        lines.append(f"  {pool.images_left:,} images stay, as far as ids tell")
    for attribute, groups in pool.cells.items():
        lines.append(f"  {attribute}, images of {' / '.join(pool.classes)}:")
        width = max(map(len, groups), default=0)
        lines += [
            f"    {group:<{width}} {' / '.join(f'{n:,}' for n in counts)}"
            for group, counts in groups.items()
        ]
        lines.append(f"    {pool.in_words[attribute]}")
    lines += [f"  note: {note}" for note in pool.notes]
    return "\n".join(lines)
