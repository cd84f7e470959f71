"""A first `datasets:` entry for somebody's table, guessed from its columns; to be edited.

What is guessed is said in comments. Their counts of rows and values are what the adapter makes of
the guesses: its own log is read. Guesses are of names (`PatientID`, `sex`) and of cells: which of
them name image files that are there, hold ages, lists or few values. The classes are a guess above
all: nobody but the reader knows which value is the disease.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from ..errors import UserError
from . import adapters, age_columns, ages, raw_files
from .findings import literal as written_list
from .findings import no_rest
from .hints import loosened
from .listing import is_image
from .raw_tables import header, read_table
from .rows import clean_cells, parse_ages
from .values import canonical, number

MOST_VALUES = 40  # a column with more different findings is no label
SHOWN = 8  # values that a comment counts
ENOUGH = 0.5  # share of a column's cells that must be of a kind
_PATIENT = re.compile(r"patient.?(id)?$|subject|person|^pid$|^mrn$", re.IGNORECASE)
_LESION = re.compile(r"lesion.?id|^lesion$", re.IGNORECASE)
_READER = re.compile(r"reader|rad_?id|annotator|rater", re.IGNORECASE)
_LABEL = re.compile(
    r"label|finding|diagnos|^dx$|target|class|malignan|melanoma|pneumothorax|disease|condition",
    re.IGNORECASE,
)
_SEX = re.compile(r"sex(?![a-z])|gender|geschlecht|geslacht|(?<![a-z])sex[eo]|sesso", re.IGNORECASE)
_AGE = re.compile(rf"{age_columns.NAMED.pattern}|(?i:birth)")
_DATE = re.compile(r"(study|exam|acquisition|visit).?date|^date$", re.IGNORECASE)
_SKIN = re.compile(r"fit[sz]patrick|^fst$|skin.?(type|tone)", re.IGNORECASE)
_NEGATIVE = re.compile(
    r"no.?finding|normal|benign|negative|healthy|none|no|false|nevus|nv", re.IGNORECASE
)
_UNCERTAIN = re.compile(
    r"\b(unclear|uncertain|unsure|not sure|unknown|indeterminate|undetermined|inconclusive"
    r"|equivocal|ambiguous|questionable|doubtful|possible|possibly|maybe|perhaps|unklar|unsicher"
    r"|fraglich|incertain|incierto|dudoso)\b|\?$",
    re.IGNORECASE,
)
# Only words of one meaning; the letters m and f are the adapter's own.
_SEXES = {
    "female": "f female females w woman women girl weiblich frau mädchen femme fille féminin "
    "feminin femenino femenina mujer feminino feminina mulher femmina donna vrouw vrouwelijk "
    "kvinna kvinde kvinne",
    "male": "m male males man men boy männlich mann junge herr homme garçon masculin masculino "
    "masculina hombre varón varon homem maschio uomo mannelijk",
}
_SEX_OF = {word: sex for sex, words in _SEXES.items() for word in words.split()}


class Guess(NamedTuple):
    """A key of the entry, its value, and why: a comment."""

    key: str
    value: Any
    why: str = ""


def propose(table: Path, images: Path | None = None) -> str:
    """A `datasets:` entry for a table, as commented YAML.

    Args:
        table: a CSV or Parquet file.
        images: folder of the images, from where the program runs or from the table's folder;
            default: the table's.

    Raises:
        UserError: the table cannot be read, or nothing in it can be a path or a label.
    """
    images = None if images is None else _images_folder(table, images)
    columns = header(table)
    text = read_table(table, tuple(columns)) if columns else read_table(table, ("",))
    root = _root(table, images)
    folder = raw_files.scan(root)
    cells = clean_cells(text, untouched=text.columns)
    guesses = [
        Guess("adapter", "table"),
        Guess("root", root.as_posix()),
        Guess("table", Path(os.path.relpath(table.resolve(), root)).as_posix()),
        *_paths(cells, folder, images),
    ]
    cells = clean_cells(text)
    used = {column for guess in guesses for column in _columns_of(guess)}
    guesses += _named(cells, used)
    used |= {column for guess in guesses for column in _columns_of(guess)}
    attributes = dict(_attributes(cells, used))
    taken = used | {entry["column"] for entry in attributes.values()}
    guesses.append(_label(cells, taken, guesses))
    other = _other_groups(cells, taken | {guesses[-1].value["column"]})
    kept, values = _as_read({guess.key: guess.value for guess in guesses}, attributes)
    name = re.sub(r"[^A-Za-z0-9_]+", "_", table.stem.split(".")[0]).strip("_") or "mine"
    head = [
        f"# {_on_one_line(table.name)}: {len(text):,} rows of {len(columns)} columns; "
        f"{len(folder.images):,} image files.",
        "# Guessed from names and cells: check every line, the classes above all.",
        f"# {_on_one_line(kept)}",
        "datasets:",
        f"  {_key(name)}:",
    ]
    lines = [_line(guess, "    ") for guess in guesses[:-1]]
    findings = guesses[-1].why and f"findings: {guesses[-1].why}"
    label = "; ".join(filter(None, (values.get("label"), findings)))
    lines.append(_line(guesses[-1]._replace(why=label), "    "))
    lines += ["    attributes:"] if attributes else ["    # attributes: none was recognized"]
    for attribute, entry in attributes.items():
        why = values.get(attribute) or _counts(cells[entry["column"]])
        lines.append(_line(Guess(attribute, entry, why), "      "))
    return "\n".join([*head, *lines, *other]) + "\n"


def _as_read(entry: dict[str, Any], attributes: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """What the adapter makes of the entry: which rows it keeps, and what each value becomes.

    Attributes have no values where no row is kept; nothing has where the entry is refused.
    """
    try:
        options = adapters.make_options(entry | {"attributes": attributes})
        log = adapters.read(options, Path()).log
    except UserError as error:
        return f"As it stands it is refused: {error}", {}
    lost = [f"{rule['removed']:,}: {rule['rule']}" for rule in log["rules"] if rule["removed"]]
    kept = f"As it stands {log['rows_kept']:,} of {log['rows_read']:,} rows are kept"
    named = {name: _became(counts) for name, counts in log["values"].items() if counts}
    return "; ".join([kept, *lost]), named


def _became(counts: Sequence[dict[str, Any]]) -> str:
    """What became of a column's values, as the log has it; the unknown behind the known."""
    known = [one for one in counts if one["became"] is not None]
    lost = [one for one in counts if one["became"] is None]
    total = f"unknown {sum(one['count'] for one in lost):,}"
    words = [one for one in lost if one["value"] is not None]
    return (f"{_listed(known)}; " * bool(known)) + total + f" ({_listed(words)})" * bool(words)


def _listed(counts: Sequence[dict[str, Any]]) -> str:
    """The first values of a log, their counts, and how many more there are."""
    shown = [
        f"{one['became']}: {one['count']:,}"
        if one["value"] == "numbers"
        else f"{one['value']} {one['count']:,}"
        for one in counts[:SHOWN]
    ]
    return ", ".join([*shown, *[f"{len(counts) - SHOWN} more"] * (len(counts) > SHOWN)])


def _line(guess: Guess, indent: str) -> str:
    """One line of YAML, which JSON is too, with its comment."""
    comment = f" # {_on_one_line(guess.why)}" * bool(guess.why)
    return f"{indent}{guess.key}: {_as_yaml(guess.value)}{comment}"


def _as_yaml(value: Any) -> str:
    """A value as JSON, with what YAML would take for the end of a line, or refuse, escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)


def _on_one_line(text: str) -> str:
    """Text for a comment."""
    return "".join(c if c.isprintable() else " " for c in text)


def _key(name: str) -> str:
    """A key, in quotes where YAML would read it as a number or a truth value."""
    return name if yaml.safe_load(name) == name else json.dumps(name)


def _columns_of(guess: Guess) -> Iterator[str]:
    """The columns of the table that a guess names."""
    values = guess.value if isinstance(guess.value, list) else [guess.value]
    if guess.key in ("path", "patient", "lesion"):
        for value in values:
            yield from re.findall(r"\{([^{}]+)\}", value) or [value]


def _images_folder(table: Path, images: Path) -> Path:
    """The images' folder, as it was named from here, or else from the table's folder.

    Raises:
        UserError: it is in neither.
    """
    places = (images, table.parent / images)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        beside = "" if images.is_absolute() else f", neither here nor in {table.resolve().parent}"
        raise UserError(f"{images}: there is no such folder{beside}")
    return found


def _root(table: Path, images: Path | None) -> Path:
    """The folder that holds the table and the images.

    Raises:
        UserError: the whole file system alone holds both.
    """
    above = table.resolve().parent
    if images is None:
        return above
    root = Path(os.path.commonpath([above, images.resolve()]))
    if root == root.parent:
        raise UserError(
            f"{table} and {images} lie in different folders of {root}: a data set lies below one "
            "folder; copy the table to the images"
        )
    return root


# --- images ---------------------------------------------------------------------------------------


def _paths(cells: pd.DataFrame, folder: raw_files.Folder, images: Path | None) -> list[Guess]:
    """The image's path: a column, several, or two of them together."""
    below = "" if images is None else os.path.relpath(images.resolve(), folder.root) + "/"
    below = "" if below == "./" else below
    present = [path for path in folder.images if path.startswith(below)]
    by_name: dict[str, list[str]] = {}
    for path in present:
        by_name.setdefault(posixpath.basename(loosened(path)), []).append(path)
    shares = {str(column): _share_named(cells[column], by_name) for column in cells}
    best = max(shares, key=lambda column: shares[column])
    if shares[best] < ENOUGH:
        return _unseen(cells, present)
    several = [c for c in shares if shares[c] >= 0.9] if shares[best] >= 0.9 else [best]
    several = [c for n, c in enumerate(several) if _is_new(cells, c, several[:n])]
    why = "names of images that are there"
    if len(several) > 1:
        return [Guess("path", several, why), *_where(cells[several[0]], by_name)]
    path, where = best, _where(cells[best], by_name)
    if any(guess.key == "lookup" for guess in where):
        for column in cells:
            joined = cells[column].str.cat(cells[best], sep="/")
            made = _where(joined, by_name) if column != best else where
            if not any(guess.key == "lookup" for guess in made):
                path, where = f"{{{column}}}/{{{best}}}", made
                break
    return [Guess("path", path, why), *where]


def _share_named(cells: pd.Series, by_name: dict[str, list[str]]) -> float:
    known = cells.dropna()
    return float(_matched(known, by_name).mean()) if len(known) else 0.0


def _matched(cells: pd.Series, by_name: dict[str, list[str]]) -> pd.Series:
    """Cells that name an image which is there, by its name alone; bool."""
    return cells.map(lambda cell: posixpath.basename(loosened(cell)) in by_name, "ignore").eq(True)


def _is_new(cells: pd.DataFrame, column: str, before: Sequence[str]) -> bool:
    """Whether a column names other images than those before it."""
    names = {posixpath.basename(loosened(cell)) for cell in cells[column].dropna()}
    return not any(
        names & {posixpath.basename(loosened(cell)) for cell in cells[other].dropna()}
        for other in before
    )


def _where(cells: pd.Series, by_name: dict[str, list[str]]) -> list[Guess]:
    """In which folder the paths begin; where there is not one, the images are found by name."""
    folders: Counter[str] = Counter()
    for cell in cells.dropna().unique():
        whole = loosened(cell)
        for path in by_name.get(posixpath.basename(whole), ()):
            if loosened(path) == whole:
                folders["."] += 1
            elif loosened(path).endswith("/" + whole):
                folders["/".join(path.split("/")[: -whole.count("/") - 1])] += 1
    named = int(_matched(pd.Series(cells.dropna().unique(), dtype="str"), by_name).sum())
    if len(folders) == 1 and folders.total() >= ENOUGH * named:
        (folder,) = folders
        return [Guess("image_folder", folder)] if folder != "." else []
    why = (
        "they lie in several folders"
        if len(folders) > 1
        else "they lie elsewhere than the paths say"
    )
    return [Guess("lookup", "name", why)]


def _unseen(cells: pd.DataFrame, present: Sequence[str]) -> list[Guess]:
    """Without images: the first column whose cells end as image files do."""
    for column in cells:
        known = cells[column].dropna()
        if len(known) and known.map(is_image).mean() > ENOUGH:
            why = f"looks like paths; none of the {len(present):,} images here is named (--images?)"
            return [Guess("path", str(column), why)]
    raise UserError(
        f"no column names images: none of {', '.join(map(repr, cells))} holds names of files, or "
        f"of the {len(present):,} images here; say where they are with --images"
    )


# --- people, groups, classes ----------------------------------------------------------------------


def _named(cells: pd.DataFrame, used: set[str]) -> Iterator[Guess]:
    """Patient and lesion, by the column's name."""
    for key, pattern in (("patient", _PATIENT), ("lesion", _LESION)):
        for column in cells:
            if pattern.search(str(column)) and column not in used and cells[column].notna().any():
                values = cells[column]
                why = (
                    f"{values.nunique():,} different, at most {values.value_counts().max():,} rows"
                )
                yield Guess(key, str(column), why)
                break


def _attributes(cells: pd.DataFrame, used: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Sex, age and skin type, by name and cells."""
    for name, pattern in (("sex", _SEX), ("age", _AGE), ("fitzpatrick", _SKIN)):
        for column in map(str, cells):
            if column in used or not pattern.search(column) or not cells[column].notna().any():
                continue
            further: dict[str, Any] | None = {}
            if name == "age":
                further = _kind_of_age(cells, column)
            elif name == "sex":
                further = _words_of_sex(cells[column].dropna())
            if further is not None:
                yield name, {"column": column, **further}
                break


def _kind_of_age(cells: pd.DataFrame, column: str) -> dict[str, str] | None:
    """How ages are written in a column; None where none is."""
    known = cells[column].dropna()
    if "birth" in column.casefold():
        dates = [c for c in map(str, cells) if _DATE.search(c)]
        return {"kind": "birth", "at": dates[0]} if dates else None
    unit = {} if (found := age_columns.unit_named(column)) == "years" else {"unit": found}
    if parse_ages(known).notna().mean() > ENOUGH:
        return unit
    return {"kind": "band", **unit} if ages.from_band(known).notna().mean() > ENOUGH else None


def _words_of_sex(known: pd.Series) -> dict[str, Any]:
    """`values` where some words are not the adapter's own, such as those of other languages.

    Beside H (hombre) the letter M is a woman (mujer); beside F it is a man.
    """
    of = {canonical(cell): cell for cell in known.unique()}
    spanish = of.keys() == {"h", "m"}
    meaning = {"h": "male", "m": "female"} if spanish else _SEX_OF
    found: dict[str, list[str]] = {}
    for word in sorted(of.keys() & meaning.keys(), key=str):
        found.setdefault(meaning[str(word)], []).append(of[word])
    own = {"f", "female", "m", "male"}
    return {"values": found} if spanish or (of.keys() & meaning.keys()) - own else {}


def _label(cells: pd.DataFrame, taken: set[str], guesses: Sequence[Guess]) -> Guess:
    """The column of the classes, and which values may be which."""
    found: list[tuple[tuple[bool, bool, int], str, dict[str, Any], Counter[str]]] = []
    for number_, column in enumerate(map(str, cells)):
        known = cells[column].dropna()
        if column in taken or not len(known) or _READER.search(column) or _DATE.search(column):
            continue
        form, values = _findings(known)
        if 2 <= len(values) <= MOST_VALUES:
            rank = (not _LABEL.search(column), len(values) > 2 and not form, number_)
            found.append((rank, column, form, values))
    if not found:
        raise UserError("no column can be the label: none has from 2 to 40 different values")
    _, column, form, values = min(found, key=lambda one: one[0])
    entry = {"column": column, **_classes(values, bool(form)), **form}
    rows = _several_rows(cells, column, guesses)
    named = [f"{value} {count:,}" for value, count in values.most_common(SHOWN)]
    return Guess("label", entry | rows, ", ".join(named if form else ()))


def _findings(known: pd.Series) -> tuple[dict[str, Any], Counter[str]]:
    """How a column's cells hold findings, and how often each is there."""
    read = known.map(written_list)
    weighed = read.map(lambda one: isinstance(one, dict))
    if weighed.mean() > ENOUGH:
        strong = [n for one in read[weighed] for n, w in one.items() if w >= 0.5]
        return {"least_weight": 0.5}, Counter(strong)
    listed = read.map(lambda one: isinstance(one, list))
    if listed.mean() > ENOUGH:
        return {"separator": ","}, Counter(str(n) for one in read[listed] for n in one)
    if known.str.contains("|", regex=False).any():
        return {"separator": "|"}, Counter(n.strip() for one in known for n in one.split("|"))
    return {}, Counter(known)


def _classes(values: Counter[str], several: bool) -> dict[str, Any]:
    """Class 1 and class 0: a guess."""
    numbers = {canonical(value): value for value in values}
    ordered = [value for value, _ in values.most_common()]
    unsure = [value for value in ordered if _UNCERTAIN.search(value)]
    if {0.0, 1.0} <= numbers.keys():
        unsure += [value for key, value in numbers.items() if key == -1.0]
        found: dict[str, Any] = {"positive": [numbers[1.0]], "negative": [numbers[0.0]]}
        return found | ({"uncertain": unsure} if unsure else {})
    sure = [value for value in ordered if value not in unsure]
    if len(sure) < 2:  # without the others there are no two classes
        sure, unsure = ordered, []
    uncertain = {"uncertain": unsure} if unsure else {}
    healthy = [value for value in sure if _NEGATIVE.fullmatch(value)]
    sick = [value for value in sure if value not in healthy]
    if not sick:
        healthy, sick = healthy[:-1], healthy[-1:]
    if not healthy:
        rest = pd.Series(sure[1:], dtype="str")
        named = {value for these, _ in no_rest(rest, [sure[0], *unsure]) for value in rest[these]}
        negative = {"negative": sorted(named)} if named else {}
        return {"positive": sure[:1], **negative, "rest_is_negative": True, **uncertain}
    return {"positive": sick[:1] if several else sick, "negative": healthy, **uncertain}


def _several_rows(cells: pd.DataFrame, label: str, guesses: Sequence[Guess]) -> dict[str, str]:
    """What to do where images have several rows that differ."""
    path = next(guess.value for guess in guesses if guess.key == "path")
    if not isinstance(path, str) or path not in cells:
        return {}
    pairs = cells[[path, label]].dropna().drop_duplicates()
    if not pairs[path].duplicated().any():
        return {}
    readers = [c for c in map(str, cells) if _READER.search(c)]
    return {"several_rows": "any", **({"reader": readers[0]} if readers else {})}


def _other_groups(cells: pd.DataFrame, taken: set[str]) -> list[str]:
    """Further columns that could be attributes, as comments."""
    lines = []
    for column in map(str, cells):
        known = cells[column].dropna()
        few = 2 <= known.nunique() <= 6 and len(known) > ENOUGH * len(cells)
        if few and column not in taken and not known.map(number).notna().all():
            name = re.sub(r"\W+", "_", column).strip("_").lower()
            entry, counts = _as_yaml({"column": column}), _on_one_line(_counts(cells[column]))
            lines.append(f"      # {_key(name)}: {entry} # {counts}")
    return lines


def _counts(cells: pd.Series) -> str:
    """The most frequent values of a column and how often they are there, on one line."""
    counts = cells.value_counts()
    numbers = cells.dropna().map(number)
    if len(counts) > SHOWN and numbers.notna().all():
        return f"{numbers.min():g} to {numbers.max():g}, {int(cells.isna().sum()):,} empty"
    shown = [f"{value} {count:,}" for value, count in counts.head(SHOWN).items()]
    more = [f"{len(counts) - SHOWN} more"] * (len(counts) > SHOWN)
    empty = [f"empty {int(cells.isna().sum()):,}"] * bool(cells.isna().any())
    return " ".join(", ".join([*shown, *more, *empty]).split())
