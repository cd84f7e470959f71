"""Columns of anybody's table: labels, groups, patients, numbers, paths; a fair cut of its rows."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_float_dtype
from pydantic import ValidationError

from ..config.base import explain
from ..config.schema import Attribute
from ..errors import UserError, nearest, note, setting
from . import persons
from .age_columns import hold_ages, unit_named
from .findings import no_rest
from .groups import group_index
from .manifest import MAX_AGE
from .roots import with_slashes
from .rows import SEXES, are_no_ages, clean_column, parse_ages
from .values import as_written, canonical, codes_among, is_missing, number, plain, twice

MOST_GROUPS = 20  # a column with more values is no grouping
MOST_ROWS = 10  # of a file, that a message names


def named_column(frame: pd.DataFrame, name: Any) -> pd.Series:
    """A column of somebody's frame, as a file of the frame would hold it.

    Raises:
        UserError: there is none of this name, or two.
    """
    if name not in frame:
        raise UserError(f"no column {name!r}{nearest(name, frame.columns)}")
    if said := twice(name, frame.columns):
        raise UserError(said)
    return narrow_as_written(frame[name])


def narrow_as_written(values: pd.Series) -> pd.Series:
    """Numbers of 16 or 32 bits as they are written (`values.as_written`); others as they are."""
    size = getattr(values.dtype, "itemsize", 8)
    if not is_float_dtype(values.dtype) or size >= 8:
        return values
    numbers = as_written(values.to_numpy(np.dtype(f"f{size}"), na_value=np.nan))
    return pd.Series(numbers, values.index, name=values.name)


def class_column(
    values: pd.Series, positive: Any = None, classes: Sequence[Any] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The class of each value, int8, and the classes' names.

    Args:
        values: labels.
        positive: the value or values of class 1 of two; see `label_column`.
        classes: the values of three classes or more, in the order 0, 1, ...

    Raises:
        UserError: a value is of no class.
    """
    if classes is None:
        return label_column(values, positive), ("0", "1")
    names = tuple(map(str, classes))
    _refuse_unlabelled(values, classes)
    if positive is not None or len(set(names)) < max(3, len(names)):
        raise UserError(
            f"classes: are three or more different values, and positive= is for two; here: {names}"
        )
    index = {value: c for c, value in enumerate(classes)}
    found = values.map(index).fillna(-1).to_numpy(np.int8)
    if (found < 0).any():
        raise UserError(
            f"{int((found < 0).sum())} labels are none of the classes {', '.join(names)}; there "
            f"are {_some(values)}"
        )
    return found, names


def label_column(values: pd.Series, positive: Any = None) -> np.ndarray:
    """0 and 1, int8; `positive` names the value or values of class 1.

    All other values are class 0; a value that no row has is noted.

    Raises:
        UserError: a label is missing, none is of class 1, or a value looks like none of class 0
            (`findings.no_rest`): it is uncertain, or holds a value of class 1 among others.
    """
    if positive is not None:
        wanted = _listed(positive)
        _refuse_unlabelled(values, wanted)
        _refuse_no_rest(values, wanted)
        found = values.map(canonical)
        labels = found.isin([canonical(value) for value in wanted])
        if not labels.any():
            raise UserError(
                f"{_column(values)}: no label is {positive!r}; there are {_some(values)}"
            )
        if absent := _absent(values, wanted):
            note(
                f"{_column(values)}: no row has {' or '.join(map(repr, absent))} "
                f"({setting('positive')}); there are {_some(values)}"
            )
        return labels.to_numpy(np.int8)
    _refuse_unlabelled(values)
    numbers = values.map(canonical)
    if not numbers.isin([0.0, 1.0]).all():
        raise UserError(
            f"{_column(values)}: labels must be 0 and 1, or {setting('positive')} must say which "
            f"are class 1; there are {_some(values)}"
        )
    return numbers.to_numpy(float).astype(np.int8)


def _refuse_no_rest(values: pd.Series, positive: Sequence[Any]) -> None:
    """Refuse what is not of class 0 merely because it is not `positive`, as the workflow does.

    Raises:
        UserError: names the first such row.
    """
    for these, why in no_rest(values, positive):
        if len(where := np.flatnonzero(these)):
            cell = plain(values.iloc[where[0]])
            raise UserError(
                f"{_column(values)}, row {where[0] + 1}: {_short(cell)} {why} ({len(where)} rows); "
                f"leave them out, or name it: {setting('positive')}; or give a column of 0 and 1"
            )


def _listed(positive: Any) -> list[Any]:
    """The values of class 1, one or several."""
    return list(positive) if isinstance(positive, list | tuple | set) else [positive]


def _absent(values: pd.Series, named: Iterable[Any]) -> list[Any]:
    """Which of some values no row has: misspelt more often than not."""
    present = {canonical(value) for value in values.dropna().unique()}
    return [value for value in named if canonical(value) not in present]


def label_notes(values: pd.Series, positive: Any = None) -> Iterator[str]:
    """Which values became which class, and how many rows have each; nothing of 0 and 1."""
    if positive is None:
        return
    labels = values.map(canonical).isin([canonical(value) for value in _listed(positive)])
    shown = values.map(plain)
    for c in (1, 0):
        counts = shown[labels == c].value_counts()
        some = [f"{value!r} ({count})" for value, count in counts[:MOST_GROUPS].items()]
        rest = counts[MOST_GROUPS:]
        some += [f"{len(rest)} other values ({rest.sum()})"] if len(rest) else []
        yield f"class {c} is column {values.name!r}: {', '.join(some) or 'no row'}"


def _refuse_unlabelled(values: pd.Series, claimed: Iterable[Any] = ()) -> None:
    """Refuse labels that are empty or say 'not known', but for words that are claimed for values.

    Raises:
        UserError: names the first's row.
    """
    words = {canonical(value) for value in claimed}
    missing = np.flatnonzero(
        [is_missing(value) and canonical(value) not in words for value in values]
    )
    if len(missing):
        more = f", nor in {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"{_column(values)}, row {missing[0] + 1}: no label ({_shown(values.iloc[missing[0]])})"
            f"{more}; fill it or leave the row out"
        )


def group_column(
    values: pd.Series,
    groups: Mapping[str, Sequence[Any]] | None = None,
    cuts: Sequence[float] | None = None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Index of each row's group, int16, -1: unknown; and the names of the groups.

    Args:
        values: a column.
        groups: name -> its values; default: a group for each value but those that say
            'not known' (`values.MISSING`, `mean_unknown`).
        cuts: of numbers, instead of groups; a value on a cut is above it.
    """
    column = str(values.name or "group")
    if groups is not None and cuts is not None:
        raise UserError(
            f"{setting('groups')} and {setting('cuts')}: give one of them; groups are of values, "
            "cuts of numbers"
        )
    if groups is None:
        values = values.mask(mean_unknown(values, cuts))
    if cuts is not None:
        if not cuts or list(cuts) != sorted(set(cuts)):
            raise UserError(f"cuts must be numbers that increase, not {list(cuts)}")
        between = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(cuts)]
        names = (f"below {cuts[0]:g}", *between, f"from {cuts[-1]:g}")
        if _are_ages(values) and unit_named(column) == "years":
            years = _years(values)
            values = years.where(years.notna(), values)
        return group_index(values, _attribute(column=column, cuts=tuple(cuts), names=names)), names
    if groups is None:
        groups = _a_group_each(values)
    if len(groups) < 2:
        raise UserError(
            f"{_column(values)}: a sensitive attribute needs two groups; there are {_some(values)}"
        )
    if len(groups) > MOST_GROUPS:
        raise UserError(
            f"{_column(values)}: {len(groups)} values ({_some(values)}) are too many groups; cut "
            f"numbers by {setting('cuts')}, or give a column of fewer values"
        )
    entries = {name: tuple(of_group) for name, of_group in groups.items()}
    return group_index(values, _attribute(column=column, groups=entries)), tuple(entries)


def _a_group_each(values: pd.Series) -> dict[str, list[Any]]:
    """A group for each value, sorted; spellings of one sex are one group, as in the workflow."""
    shown: dict[Any, str] = {}
    for value in values.dropna().unique():
        if not is_missing(value) and (key := canonical(value)) is not None:
            shown.setdefault(key, plain(value))
    ordered = sorted(shown, key=lambda key: (isinstance(key, str), key))
    alike: dict[Any, list[Any]] = {}
    for key in ordered:
        alike.setdefault(SEXES.get(key, key), []).append(key)
    for sex, keys in alike.items():
        if len(keys) > 1:
            spelled = " and ".join(repr(shown[key]) for key in keys)
            note(f"{_column(values)}: {spelled} are one group, {sex!r}")
    return {(sex if len(keys) > 1 else shown[keys[0]]): keys for sex, keys in alike.items()}


def _tell_absent(values: pd.Series, groups: Mapping[str, Sequence[Any]]) -> None:
    """Note values of groups that no row has, and what is in no group then."""
    absent = {name: _absent(values, of_group) for name, of_group in groups.items()}
    said = [
        f"{', '.join(map(repr, some))} of group {name!r}" for name, some in absent.items() if some
    ]
    if not said:
        return
    named = {canonical(value) for of_group in groups.values() for value in of_group}
    rest = values[[canonical(v) not in named and not is_missing(v) for v in values]]
    beside = f"; in no group are {_some(rest)} ({len(rest)} rows)" if len(rest) else ""
    note(f"{_column(values)}: no row has {' nor '.join(said)}{beside}")


def mean_unknown(values: pd.Series, cuts: Sequence[float] | None = None) -> pd.Series:
    """Cells whose number stands for 'not known', bool: codes as groups, and what is nobody's age.

    Of groups -1 is one always, and 9, -9, 99 ... where they lie far outside (`codes_among`).

    Args:
        values: a column; its name says whether it holds ages.
        cuts: it is cut there, and not each value a group.
    """
    if cuts is None:
        numbers = _numbers(values)
        return numbers.isin({-1.0, *codes_among(numbers.dropna().unique())})
    return are_no_ages(_years(values)) & _are_ages(values)


def _numbers(values: pd.Series) -> pd.Series:
    """The numbers that cells hold, float64; null where one holds none."""
    return values.astype(object).map(number, "ignore").astype("float64")


def tell_groups(
    values: pd.Series,
    groups: Mapping[str, Sequence[Any]] | None = None,
    cuts: Sequence[float] | None = None,
) -> None:
    """Note what a reader of `group_column` should know: rows of no group, codes, absent values."""
    if groups is not None:
        _tell_absent(values, groups)
        return
    for line in group_notes(values, cuts):
        note(line)


def group_notes(values: pd.Series, cuts: Sequence[float] | None = None) -> Iterator[str]:
    """How many rows are of no group although they hold a number; and numbers that may be codes."""
    unknown = mean_unknown(values, cuts)
    if count := int(unknown.sum()):
        why = f"hold no age of 0 to {MAX_AGE:g} years"
        if cuts is None:
            why = f"hold {_either(_numbers(values[unknown]).unique())}"
        yield f"{count} rows of column {values.name!r} {why}: of no known group"
    numbers = _numbers(values)
    codes = codes_among(numbers.dropna().unique())
    if cuts is not None and codes and not _are_ages(values):
        yield (
            f"{int(numbers.isin(codes).sum())} rows of column {values.name!r} hold "
            f"{_either(codes)}, far outside the other numbers, and are cut as numbers; if that "
            "says 'not known', empty these cells"
        )


def _either(numbers: Iterable[float]) -> str:
    """Numbers, for a message."""
    return " or ".join(f"{one:g}" for one in sorted(numbers))


def _are_ages(values: pd.Series) -> bool:
    """Whether a column's name says that it holds ages."""
    return hold_ages(str(values.name))


def _years(values: pd.Series) -> pd.Series:
    """Ages as the workflow reads them, 058Y too, float64; null where a cell holds none.

    A number without a unit is of the unit that the column's name says.
    """
    return parse_ages(values.map(plain).astype("str"), unit_named(str(values.name)))


def patient_column(values: pd.Series | np.ndarray | Sequence[Any]) -> np.ndarray:
    """Whose image each is, object; None where a word says 'not known': a person of its own.

    In the form that manifests have (`persons.ids`): 7, '7' and ' 7.0 ' are one person.

    Raises:
        UserError: a spreadsheet has rounded the ids.
    """
    column = persons.ids(pd.Series(values, dtype=object), "patient").astype(object)
    return column.where(column.notna(), None).to_numpy(object)


def tell_patients(values: pd.Series) -> None:
    """Note what is odd about a column of patients: an id of far more images than any other ..."""
    given = clean_column(values.astype(object))
    for odd in persons.id_notes(given, persons.ids(given, _column(values)), "patient"):
        note(f"{_column(values)}: {odd.in_full}")


def one_role_each(roles: Mapping[str, str | None], named_groups: bool = False) -> None:
    """Refuse one column for two roles; the image's own path may stand for the patient.

    Args:
        roles: setting -> column; None: not given.
        named_groups: the attribute's groups are named, so that its column may say the label too.

    Raises:
        UserError: names both settings.
    """
    owner: dict[str, str] = {}
    for role, column in roles.items():
        if column is None:
            continue
        first = owner.setdefault(column, role)
        pair = {first, role}
        mapped = named_groups and pair == {"label", "attribute"}
        if first != role and pair != {"image", "patient"} and not mapped:
            raise UserError(f"{setting(first)} and {setting(role)} name the same column {column!r}")


def number_column(values: pd.Series) -> np.ndarray:
    """Finite numbers, float64.

    Raises:
        UserError: a cell holds none; names its row.
    """
    values = narrow_as_written(values)
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        cell = values.iloc[wrong[0]]
        raise UserError(
            f"column {values.name!r} must hold numbers; row {wrong[0] + 1} holds {_shown(cell)}"
        )
    return numbers


def path_column(values: pd.Series, root: str | Path) -> list[Path]:
    """The files that a column names, below `root` or absolute; backslashes are slashes.

    Raises:
        UserError: a cell is empty or no text; names its row.
    """
    for row, cell in enumerate(values, start=1):
        if not isinstance(cell, str | os.PathLike) or not str(cell).strip():
            raise UserError(
                f"column {values.name!r} must hold paths of images; row {row} holds {_shown(cell)}"
            )
    return [Path(root) / with_slashes(cell, root) for cell in values]


def of_files(
    paths: Sequence[Path], said: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, list[Path]]:
    """The files that a table names, each once; and which of them each row is of, int64 (n,).

    Args:
        paths: of each row.
        said: what -> what the rows say of their files, int (n,); -1: nothing.

    Raises:
        UserError: rows of one file say different things; names the file and its rows.
    """
    rows = pd.factorize(np.array([str(path.resolve()) for path in paths], object))[0]
    for what, values in said.items():
        known = pd.Series(values)[values >= 0].groupby(rows[values >= 0])
        differ = known.min() < known.max()
        if differ.any():
            where = np.flatnonzero(rows == differ.idxmax())
            lines = ", ".join(str(row + 1) for row in where[:MOST_ROWS])
            raise UserError(
                f"{int(differ.sum())} image files have rows whose {what} differs, the first is "
                f"{paths[where[0]]} (rows {lines}); keep one row of each file"
            )
    first = np.unique(rows, return_index=True)[1]
    return rows.astype(np.int64), [paths[row] for row in first]


def joined(units: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Units, of which those that have one of the others in common are one: its least number.

    Args:
        units, others: int (n,), not negative.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    behind = int(units.max()) + 1
    n = behind + int(others.max()) + 1
    links = coo_array((np.ones(len(units), bool), (units, behind + others)), shape=(n, n))
    component = connected_components(links, directed=False)[1][units]
    return pd.Series(units).groupby(component).transform("min").to_numpy()


def _attribute(**fields: Any) -> Attribute:
    """An attribute of a call's arguments; a mistake in them is the user's."""
    try:
        return Attribute(**fields)
    except ValidationError as error:
        raise UserError(explain(error)) from error


def drawn_share(
    units: np.ndarray, labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """Which images a share of whole units has, drawn among units of the same labels and groups.

    What rounding leaves over or short in one stratum is made good in the next.

    Args:
        units: (n,), whose each image is. labels: int (n,), 0 to C - 1. groups: int (n,), -1:
            unknown.
        fraction: of the images.
        seed: of the draw.

    Returns:
        bool (n,).
    """
    classes = int(labels.max(initial=1)) + 1
    cells = pd.Series(classes * groups.astype(np.int64) + labels).groupby(units)
    strata = cells.agg(lambda cell: " ".join(map(str, sorted(set(cell)))))
    sizes = cells.size()
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    owed = 0.0
    for stratum in sorted(strata.unique()):
        members = rng.permutation(strata.index[strata == stratum].to_numpy())
        owed += fraction * float(sizes[members].sum())
        for unit in members:
            if sizes[unit] / 2 <= owed:
                chosen.append(unit)
                owed -= sizes[unit]
    return np.isin(units, chosen)


def group_values(
    values: Sequence[Any] | np.ndarray, names: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """As `group_column`, of loose values: null and -1 are unknown.

    Args:
        values: any; with `names` either those names, or their numbers 0, 1, ...
        names: of all groups.
    """
    column = narrow_as_written(pd.Series(values)).astype(object)
    if names is None:
        tell_groups(column)
        return group_column(column)
    column = column.mask(_numbers(column).eq(-1.0))
    present = {canonical(value) for value in column.dropna().unique()}
    if present <= {canonical(name) for name in names}:
        return group_column(column, {name: [name] for name in names})
    if not present <= {float(number) for number in range(len(names))}:
        raise UserError(
            f"groups must be of {tuple(names)}, or their numbers; here are {_some(column)}"
        )
    return group_column(column, {name: [number] for number, name in enumerate(names)})


def _column(values: pd.Series) -> str:
    """A column, for a message."""
    return "the values" if values.name is None else f"column {values.name!r}"


def _shown(cell: Any) -> str:
    """A cell, for a message."""
    return repr(plain(cell)) if plain(cell) else "nothing"


def _short(text: str) -> str:
    """A cell's text, for a message: a number bare, words in quotes."""
    return text if number(text) is not None else repr(text)


def _some(values: pd.Series) -> str:
    """The first of a column's values, for a message."""
    found = [repr(value) for value in values.astype(object).unique()[:6].tolist()]
    return ", ".join(found)
