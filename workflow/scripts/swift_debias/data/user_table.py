"""Rows of a user's own table, as its entry in the config describes them (adapters/table.py)."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from ..errors import UserError, nearest
from . import ages, dicom_tags, groups, manifest, raw_files
from .hints import loosened
from .raw_tables import header, read_table
from .rows import Rows, clean_cells, written
from .templates import TEMPLATE
from .user_label import add_label, matching, one_row_an_image, raw
from .values import canonical, plain

if TYPE_CHECKING:
    from .adapters.table import AttributeColumn, Join, Options

IMAGE = "\0image"  # the path of a row's image; no header can hold a null byte
FOUND = "\0found"  # whether a join found a row's partner, in pandas' words
NUMBER = "\0number"  # which of a row's several images it is


def read(options: Options, project: Path) -> manifest.ManifestResult:
    """Manifest of a user's table."""
    folder = raw_files.scan_dataset(options, project)
    rows = _read_rows(options, folder)
    _find_images(rows, options, folder)
    if options.table is not None and options.dicom:
        _add_tags(rows, options, folder)
    for column, values in options.only.items():
        wanted = matching(rows, column, rows.frame[raw(column)], values, f"only.{column}")
        rows.drop(~wanted, f"{column} is not {' or '.join(values)}")
    add_label(rows, options.label)
    if options.label.several_rows != "refuse":
        one_row_an_image(rows, options.label)
    hint = "absolute path below the image folder: cut off what stands before, or say lookup: name"
    below = _below(rows.frame[IMAGE], (folder.root / options.image_folder).resolve())
    below &= rows.frame["unsafe"]
    rows.note(below, hint)
    rows.drop(
        rows.frame["unsafe"],
        "path is absolute or leaves the image folder",
        [hint] if below.any() else (),
    )
    if options.lookup == "name":
        rows.drop(rows.frame["ambiguous"], "several files of this name")
        if rows.frame["shared"].any():
            rows.drop(rows.frame["shared"], "several paths of this name, and one file")
    frame = rows.frame
    frame["image_id"] = frame[rows.key]
    persons = {"patient_id": options.patient, "lesion_id": options.lesion}
    ids = {name: frame[raw(column)] for name, column in persons.items() if column}
    for name, cells in ids.items():
        frame[name] = cells.mask(groups.matches(cells, options.unknown_ids))
    if options.unknown_ids:
        shown = " or ".join(filter(None, persons.values()))
        cells = pd.concat(ids.values())
        matching(rows, shown, cells, options.unknown_ids, "unknown_ids", required=False)
    if not options.lesion and len(options.paths) > 1 and options.several_images == "each":
        frame["lesion_id"] = frame[NUMBER].str.partition("/")[0]
    extra = {}
    for name, attribute in options.attributes.items():
        column = manifest.stored_column(name)
        _add_attribute(rows, name, attribute)
        if column not in manifest.COLUMNS:
            is_text = attribute.kind == "category"
            extra[column] = pa.string() if is_text else pa.float64()
    return rows.result(folder, extra)


# --- tables ---------------------------------------------------------------------------------------


def _read_rows(options: Options, folder: raw_files.Folder) -> Rows:
    """The columns that the config names, and only those, of all tables; a row an image."""
    table, alone = _read_tables(options, folder)
    claimed: dict[str, list[str]] = {}
    named: list[tuple[str, Iterable[str]]] = [
        (options.label.column, options.label.named),
        *options.only.items(),
        *((one.column, _words(one)) for one in options.attributes.values()),
    ]
    for column, values in named:
        claimed.setdefault(column, []).extend(values)
    whole = {path for path in options.paths if not TEMPLATE.search(path)}
    frame = clean_cells(table, whole, claimed)
    beside = table.rename(columns=lambda name: written(raw(name)))
    frame = pd.concat([frame.rename(columns=raw), beside], axis="columns")
    frame = _of_images(frame, options)
    key = raw(options.image_id) if options.image_id else IMAGE
    if options.image_id and len(options.paths) > 1 and options.several_images == "each":
        frame[key] = frame[NUMBER].where(frame[key].notna())
    rows = Rows(frame, key, str(folder.root / (options.table or options.image_folder)),
                several=options.label.several_rows != "refuse",
                shown=options.image_id or " or ".join(options.paths))  # fmt: skip
    for mark, text in alone.items():
        rows.note(rows.frame[raw(mark)].notna(), text)
    return rows


def _words(attribute: AttributeColumn) -> Iterable[str]:
    """Words that are values of an attribute, although they may usually say 'not known'."""
    mapped = (value for values in attribute.values.values() for value in values)
    return (*attribute.known, *attribute.unknown, *mapped)


def _read_tables(options: Options, folder: raw_files.Folder) -> tuple[pd.DataFrame, dict[str, str]]:
    """The columns that the config names, joined.

    With them a column for each join that is set where a row found no partner, and what that means.

    Raises:
        UserError: a table or a column is not there, or two tables have a column of one name.
    """
    joined = [
        _table(folder, join.table, f"joins.{number}.table")
        for number, join in enumerate(options.joins)
    ]
    needed = dict.fromkeys(options.named_columns())
    if options.table is None:
        frame = _dicom_files(options, folder)
        columns = [[str(name) for name in frame]]
    else:
        path = _table(folder, options.table, "table")
        needed = {name: None for name in needed if name not in options.dicom}
        columns = [header(path)]
        if both := {*options.dicom} & {*columns[0]}:
            raise UserError(f"dicom: {options.table} has a column {min(both)!r} too; take one")
        if not options.joins:
            return read_table(path, tuple(needed)), {}
    columns += [header(path) for path in joined]
    for join, names in zip(options.joins, columns[1:], strict=True):
        names[:] = [join.prefix + name for name in names]
        needed |= dict.fromkeys(join.by)
    owner = _owners(needed, options, columns)
    wanted = [[name for name in needed if owner[name] == n] for n in range(len(columns))]
    if options.table is not None:
        frame = read_table(path, tuple(wanted[0]))
    alone: dict[str, str] = {}
    for join, other, names in zip(options.joins, joined, wanted[1:], strict=True):
        frame = _joined(frame, join, other, [name.removeprefix(join.prefix) for name in names])
        mark = f"\0alone {len(alone)}"
        frame[mark] = frame.pop(FOUND).eq("left_only").map({True: "alone"}).astype("str")
        alone[mark] = f"no row in {other.name} of this {' and '.join(join.by)}"
    if options.table is None and options.deidentify:
        frame = dicom_tags.without_ids(frame)
    return frame, alone


def _owners(needed: Iterable[str], options: Options, columns: list[list[str]]) -> dict[str, int]:
    """Column -> number of the table that has it; of a join's key the tables before have it."""
    names = [options.table or "the DICOM files", *(join.table for join in options.joins)]
    keys = [set(), *({join.prefix + name for name in join.their} for join in options.joins)]
    owner = {}
    for column in needed:
        having = [n for n, found in enumerate(columns) if column in found]
        own = [n for n in having if column not in keys[n]] or having[:1]
        if not own:
            every = [name for found in columns for name in found]
            raise UserError(f"no column {column!r} in {', '.join(names)}{nearest(column, every)}")
        if len(own) > 1:
            both = " and ".join(names[n] for n in own)
            raise UserError(
                f"column {column!r} is in {both}: give the join of {names[own[1]]} a prefix, such "
                f"as `prefix: '{Path(names[own[1]]).stem} '`"
            )
        owner[column] = own[0]
    return owner


def _joined(frame: pd.DataFrame, join: Join, path: Path, names: list[str]) -> pd.DataFrame:
    """The table with a further one's columns, looked up by the cells' plain text, and FOUND."""
    other = read_table(path, tuple(dict.fromkeys((*join.their, *names))))
    keys = [f"\0key {number}" for number in range(len(join.by))]
    ours = frame.assign(
        **{key: frame[by].map(plain, "ignore") for key, by in zip(keys, join.by, strict=True)}
    )
    theirs = other[names].add_prefix(join.prefix) if join.prefix else other[names]
    theirs = theirs.assign(
        **{key: other[to].map(plain, "ignore") for key, to in zip(keys, join.their, strict=True)}
    )
    theirs = theirs[theirs[keys].notna().all(axis="columns")].drop_duplicates()
    both = ours.merge(theirs, how="left", on=keys, indicator=FOUND)
    return both.drop(columns=keys)


def _dicom_files(options: Options, folder: raw_files.Folder) -> pd.DataFrame:
    """A row a DICOM file below `image_folder`: `file`, `folder`, and its tags."""
    below = posixpath.normpath(options.image_folder)
    below = "" if below == "." else below + "/"
    found = [
        path
        for path in folder.images
        if path.startswith(below) and path.lower().endswith(dicom_tags.SUFFIXES)
    ]
    if not found:
        raise folder.no_table("*.dcm", "*.dcm")
    frame = pd.DataFrame(
        {
            "file": pd.Series([path.removeprefix(below) for path in found], dtype="str"),
            "folder": pd.Series([posixpath.basename(posixpath.dirname(p)) for p in found],
                                dtype="str"),
        }
    )  # fmt: skip
    tags = dicom_tags.read_tags([folder.root / path for path in found], options.dicom)
    return pd.concat([frame, tags], axis="columns")


def _add_tags(rows: Rows, options: Options, folder: raw_files.Folder) -> None:
    """Columns of the DICOM tags of each row's image."""
    paths = rows.frame["path"]
    found = paths.dropna().unique()
    tags = dicom_tags.read_tags([folder.root / path for path in found], options.dicom)
    tags = dicom_tags.without_ids(tags) if options.deidentify else tags
    cleaned = clean_cells(tags)
    for name in options.dicom:
        rows.frame[raw(name)] = paths.map(dict(zip(found, cleaned[name], strict=True))).astype(
            "str"
        )
        cells = paths.map(dict(zip(found, tags[name], strict=True)))
        rows.frame[written(raw(name))] = cells.astype("str")


def _table(folder: raw_files.Folder, name: str, key: str) -> Path:
    path = folder.root / name
    if not path.is_file():
        raise folder.no_table(f"{name!r} (key `{key}`)", name)
    folder.was_read(path)
    return path


# --- images ---------------------------------------------------------------------------------------


def _of_images(frame: pd.DataFrame, options: Options) -> pd.DataFrame:
    """A row an image: the path of each in IMAGE; in NUMBER the row's id, '/' and which image it is.

    A row without any image stays, and is counted later.
    """
    paths = [_path(frame, path) for path in options.paths]
    if len(paths) == 1:
        return frame.assign(**{IMAGE: paths[0]})
    first = pd.concat(paths, axis="columns").bfill(axis="columns").iloc[:, 0].astype("str")
    if options.several_images == "first":
        return frame.assign(**{IMAGE: first})
    case = frame[raw(options.image_id)] if options.image_id else _case_numbers(frame)
    found = [
        frame.assign(**{IMAGE: path, NUMBER: case + f"/{number}"})[path.notna()]
        for number, path in enumerate(paths, start=1)
    ]
    without = frame[first.isna()]
    found.append(without.assign(**{IMAGE: first[first.isna()], NUMBER: case[first.isna()]}))
    return pd.concat(found).sort_index(kind="stable").reset_index(drop=True)


def _case_numbers(frame: pd.DataFrame) -> pd.Series:
    """A number for each row, equal ones of equal rows; str."""
    cells = [name for name in frame if not str(name).startswith(written(""))]
    return frame.groupby(cells, dropna=False, sort=False).ngroup().astype("str")


def _path(frame: pd.DataFrame, path: str) -> pd.Series:
    """Paths as a template makes them; null where one of its cells is empty.

    Of what is written: a folder may be called 'unknown'.
    """
    if not TEMPLATE.search(path):
        return frame[raw(path)]
    made = pd.Series("", frame.index, "str")
    end = 0
    for match in TEMPLATE.finditer(path):
        cells = frame[written(raw(match[1]))]
        made = made + path[end : match.start()] + cells.map(plain, "ignore")
        end = match.end()
    return (made + path[end:]).astype("str")


def _find_images(rows: Rows, options: Options, folder: raw_files.Folder) -> None:
    """Look up the images; an unsafe path is marked and not looked up.

    By name alone no path is unsafe: its folders are not read.
    """
    if _is_unsafe(options.image_folder):
        raise UserError(f"image_folder: {options.image_folder!r} must lie below the root")
    given = rows.frame[IMAGE]
    by_name = options.lookup == "name"
    rows.frame["unsafe"] = unsafe = given.map(_is_unsafe, "ignore").eq(True) & (not by_name)
    if by_name:
        _find_names(rows, options, folder, given)
        return
    wanted = given.mask(unsafe).map(
        lambda path: posixpath.normpath(f"{options.image_folder}/{path}{options.image_suffix}"),
        "ignore",
    )
    found = folder.find(wanted, parts=None)
    rows.frame["path"] = found
    other = found.notna() & (found != wanted)
    odd = given.str.contains(r"\\|^\s|\s$").eq(True)
    rows.note(other & odd, "found with backslashes or outer spaces of the path overlooked")
    rows.note(other & ~odd, "found under another image extension or letter case")


def _find_names(rows: Rows, options: Options, folder: raw_files.Folder, given: pd.Series) -> None:
    """Look images up by their name alone; a name of several files or several paths is marked.

    Where a part of the files is there, one of them bears the name of many paths (view1.png of each
    patient): whose it is cannot be said.
    """
    below = posixpath.normpath(options.image_folder)
    below = "" if below == "." else below + "/"

    def name(path: str) -> str:
        return posixpath.basename(path)

    wanted = (given + options.image_suffix).map(
        lambda path: name(path.replace("\\", "/")), "ignore"
    )
    rows.frame["path"] = found = folder.find(wanted, below=below)
    asked = given.map(loosened, "ignore").groupby(found).nunique()
    rows.frame["shared"] = found.map(asked).gt(1)
    present = [path for path in folder.images if path.startswith(below)]
    exact = Counter(map(name, present))
    loose = Counter(name(loosened(path)) for path in present)
    rows.frame["ambiguous"] = wanted.map(
        lambda one: exact[one] > 1 or (not exact[one] and loose[name(loosened(one))] > 1), "ignore"
    ).eq(True)


def _below(paths: pd.Series, folder: Path) -> pd.Series:
    """Paths that begin with a folder's own, bool."""
    return paths.map(lambda path: path.startswith(f"{folder}/"), "ignore").eq(True)


def _is_unsafe(path: str) -> bool:
    """Whether a path could leave its folder on any operating system, or is no path at all."""
    windows = PureWindowsPath(path)
    return (
        path.startswith("/")
        or bool(windows.drive or windows.root)
        or ".." in windows.parts
        or "\0" in path
    )


# --- attributes -----------------------------------------------------------------------------------


def _add_attribute(rows: Rows, name: str, attribute: AttributeColumn) -> None:
    """Values of one attribute under its name; null where unknown."""
    key = f"attributes.{name}"
    column = raw(attribute.column)
    cells = rows.frame[column]
    unknown = matching(
        rows, attribute.column, cells, attribute.unknown, f"{key}.unknown", required=False
    )
    of_ages = attribute.holds_ages(name)
    name = manifest.stored_column(name)
    rows.frame[name] = known = cells.mask(unknown)
    rows.frame[written(name)] = given = rows.frame[written(column)].mask(unknown)
    if attribute.values:
        rows.frame[name] = known = _mapped(rows, attribute, known, key)
    if attribute.kind in ("birth", "band"):
        years = _years(rows, attribute, known)
        rows.note(known.notna() & years.isna(), f"no age can be made of {attribute.column}")
        rows.frame[name] = text = years.map("{:g}".format, "ignore").astype("str")
        if attribute.at is not None:  # a date of birth is nothing for a log
            rows.frame[written(name)] = text
    values: Any = known
    if name == "sex":
        values = rows.sexes(name)
    elif of_ages:
        made = attribute.kind in ("birth", "band")
        values = rows.ages(name, unit="years" if made else attribute.unit, name=name)
    elif name == "fitzpatrick":
        values = rows.skin_types(name)
    elif attribute.kind != "category":
        values = rows.numbers(name)
        rows.note(given.notna() & values.isna(), f"{name} is not a number; recorded as unknown")
    rows.attribute(name, column, values)


def _years(rows: Rows, attribute: AttributeColumn, cells: pd.Series) -> pd.Series:
    """Ages from dates of birth or bands."""
    if attribute.at is None:
        return ages.from_band(cells, attribute.unit)
    return ages.from_birth(cells, rows.frame[raw(attribute.at)])


def _mapped(rows: Rows, attribute: AttributeColumn, cells: pd.Series, key: str) -> pd.Series:
    """What `values` makes of the cells; null where it names none."""
    names = {
        canonical(value): name for name, values in attribute.values.items() for value in values
    }
    for name, values in attribute.values.items():
        if not groups.matches(cells, values).any():
            rows.tell(f"{key}.values: no row becomes this", [name])
    became = {cell: names.get(canonical(cell)) for cell in cells.dropna().unique()}
    found = cells.map(became, "ignore").astype("str")
    rows.note(cells.notna() & found.isna(), f"{attribute.column} has a value that {key}.values "
              "does not name; unknown")  # fmt: skip
    return found
