"""The training pool without its duplicates and without the test images that leaked into it.

Two images are linked when they have the same id in one archive (`same_id`), the same bytes
(`same_bytes`), when the archive's own list pairs them (`listed`), or when their PDQ hashes differ
in at most `radius` of 256 bits (`same_pixels`). A link between a training and a test image is a
`test_leak`; a training image of a patient or lesion that a test set has too is a `test_patient`.
A mirrored or turned copy is not linked, nor is one that was cropped by more than about a hundredth.
Photographs with reworked colours are linked if asked (`recoloured`, recoloured.py).

Which copy stays:

1. Equal id, equal bytes, a listed pair and an equal hash are transitive: such images are one
   picture, and its last (or first, `keep`) copy in the order of the pool stands for it.
2. A picture that is linked to any test image leaves the pool with all its copies: the pool loses
   it, never the test set, whose numbers others compare with. `leaks: refuse` ends here with an
   error, and `leaks: allow` keeps such pictures; they are counted and listed all the same.
3. Likeness (a distance above 0) is not transitive. Pictures are taken from the most to the least
   preferred; one leaves if it is linked to a picture that stays. So every image that leaves has a
   copy that stays or a test image, and a chain of look-alikes loses no more than it must.

Labels have no say in this: copies whose labels disagree are listed as such, and the copy that
stays keeps its own label.

Test sets are searched as well, each by itself (`in_test_set`): what is found is listed and counted,
with those whose labels disagree, and stays. A published test set is evaluated as it was published.

What must stay in one fold (`cluster`) are the connected components of all links, and of equal
patients and lesions, removed images included. Ids of images, patients and lesions are compared
within an archive only: data sets that share ids (the ISIC years do) name the same archive, and two
entries of one folder and table are one without saying so (`config.plan.archives`). An id that is
not known equals no other: each such image is a patient of its own.

Longer than other files: who is whose duplicate, and which copy stays, is one decision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..config.schema import Duplicates
from ..errors import UserError
from . import listing, persons, raw_files, recoloured
from .image_cache import CachedImages
from .raw_tables import read_table
from .rows import clean_cells

LEAKS = ("test_leak", "test_patient")
TWINS = "in_test_set"
# a pair has the first that holds
KINDS = (*LEAKS, "same_id", "same_bytes", "listed", "same_pixels", "recoloured", TWINS)
CONFLICTS = ("sex", "age", "fitzpatrick")  # what sources may say differently of one image
SEARCH_BLOCK = 8192  # hashes compared at a time with all before them
MAX_PAIRS = 20_000_000  # look-alikes; more means blank images or an absurd radius

_OWN = frozenset(  # what belongs to a copy, not to the picture: never filled from another copy
    ("image_id", "path", "label", "diagnosis", "patient_id", "lesion_id", "view", "split")
)


@dataclass(frozen=True)
class Source:
    """One data set as the search sees it.

    Attributes:
        dataset: its name.
        manifest: its rows.
        index: the index of its image cache, row by row beside the manifest.
        archive: data sets of one archive share the ids of images, patients and lesions;
            default: the data set alone.
        listed: pairs of image ids that the archive itself lists as duplicates.
    """

    dataset: str
    manifest: pd.DataFrame
    index: pd.DataFrame
    archive: str | None = None
    listed: Sequence[tuple[str, str]] = ()


class Cohort(NamedTuple):
    """What `find_duplicates` returns.

    frame: the pool after removal: dataset, the manifests' columns, group (str).
    pairs: dataset_a, image_id_a, dataset_b, image_id_b (a is the less preferred of the two, b may
        be a test image; both are where the kind is `in_test_set`), kind, distance (bits, null
        where there is no hash), removed ('a', 'b' or 'both'), label_a, label_b, labels_disagree.
    log: counts of everything that left, by reason.
    """

    frame: pd.DataFrame
    pairs: pd.DataFrame
    log: dict[str, Any]


def read_listed(root: Path, beside: bool = True) -> list[tuple[str, str]]:
    """The pairs of ISIC 2020's own list of duplicates; [] where a folder does not have it.

    Args:
        root: a data set's folder; the list is found there as every table of an adapter is.
        beside: look next to the root too, as for the other tables of ISIC 2020.

    Raises:
        UserError: the file cannot be read or has other columns.
    """
    if not root.is_dir():
        return []
    path = raw_files.scan(root).optional_table(*listing.PAIRS, beside=beside)
    if path is None:
        return []
    print(f"listed duplicates: {path}")
    pairs = clean_cells(read_table(path, ("image_name_1", "image_name_2"))).dropna()
    pairs = pairs.map(_without_ending)
    return list(pairs.itertuples(index=False, name=None))


def _without_ending(name: str) -> str:
    """An image's id of a list that names its file."""
    path = Path(name)
    return path.stem if path.suffix.lower() in listing.IMAGE_SUFFIXES else name


def find_duplicates(
    train: Sequence[Source],
    tests: Sequence[Source],
    options: Duplicates,
    group_by_patient: bool = True,
    images: CachedImages | None = None,
) -> Cohort:
    """Find the duplicates of a training pool and decide which copies stay.

    Args:
        train: the pool's data sets, in the order of the task's `train` list.
        tests: every test set of the task.
        options: radius, quality and which copy stays.
        group_by_patient: let patients and lesions bind images into one group.
        images: the pixels of all data sets; needed where `options` asks for recoloured copies.

    Raises:
        UserError: nothing is left, a data set is both train and test, a cache belongs to another
            manifest, or leaks are to be refused and there are some.
    """
    both = {source.dataset for source in train} & {source.dataset for source in tests}
    if both:
        raise UserError(f"data sets {sorted(both)} are in the training pool and in a test set")
    rows = _Rows([*train, *tests], n_train_sources=len(train))
    if not rows.n_train:
        raise UserError(f"no readable training image: {rows.unreadable}")
    listed, absent = _listed_links(rows, train)
    links, twins = _all_links(rows, listed, options, images)
    picture = _pictures(rows.n_train, links)
    leaks = _count_leaks(rows, links, picture)
    if options.leaks == "refuse" and leaks["images"]:
        raise UserError(_leak_message(rows, links, leaks))
    winner = _decide(picture, links, options)
    pool = rows.frame.iloc[: rows.n_train]
    stays = winner == np.arange(rows.n_train)
    frame, filled = _fill(pool, winner, options.keep)
    frame.insert(len(frame.columns), "cluster", _groups(rows, links, group_by_patient))
    frame = frame[stays].reset_index(drop=True)
    pairs = _pairs(rows, links, stays, options.keep)
    double = _pairs(rows, twins, stays, options.keep)
    log = {
        "images": _by_dataset(pool),
        "unreadable": rows.unreadable,
        "removed": _reasons(links, winner, picture),
        f"leaks_{options.leaks}": leaks,
        "kept": _by_dataset(frame),
        "clusters": int(frame["cluster"].nunique()),
        "pairs": pairs["kind"].value_counts(sort=False).sort_index().to_dict(),
        "pairs_with_different_labels": int(
            (pairs["labels_disagree"] & (pairs["kind"] != "test_patient")).sum()
        ),
        "values_filled_from_removed_copies": filled,
        "images_of_one_id_that_differ_in": _conflicts(rows),
        "listed_pairs_not_in_the_pool": absent,
        "pairs_in_a_test_set": _by_dataset(double, "dataset_a"),
        "pairs_in_a_test_set_with_different_labels": _by_dataset(
            double[double["labels_disagree"]], "dataset_a"
        ),
    }
    if frame.empty:
        raise UserError(_nothing_left(rows, leaks))
    return Cohort(frame, pd.concat([pairs, double], ignore_index=True), log)


# --- rows -----------------------------------------------------------------------------------------


class _Rows:
    """All readable images, training pool first; a row's position is its number in what follows.

    Attributes:
        frame: dataset and the manifests' columns.
        n_train: rows of the training pool.
        image, patient, lesion: ids with their archive, object (N,), None where unknown.
        sha256: object (N,). hashes: uint8 (N, 32). hashed: bool (N,), which hashes count.
        quality: int64 (N,), of the hashes.
        unreadable: images left out, by data set.
    """

    def __init__(self, sources: Sequence[Source], n_train_sources: int) -> None:
        frames, indices, archives = [], [], []
        self.unreadable: dict[str, int] = {}
        self.n_train = 0
        for number, source in enumerate(sources):
            _check_match(source)
            good = source.index["error"].isna().to_numpy()
            if not good.all():
                self.unreadable[source.dataset] = int((~good).sum())
            frame = source.manifest[good].copy()
            frame.insert(0, "dataset", source.dataset)
            frames.append(frame)
            indices.append(source.index[good])
            archives += [source.archive or source.dataset] * len(frame)
            self.n_train += len(frame) * (number < n_train_sources)
        self.frame = pd.concat(frames, ignore_index=True)
        index = pd.concat(indices, ignore_index=True)
        archive = pd.Series(archives, dtype="str") + "/"
        self.image = archive + self.frame["image_id"]
        self.patient, self.lesion = (
            archive + self.frame[name].map(persons.same, "ignore").astype("str")
            for name in ("patient_id", "lesion_id")
        )
        self.sha256 = index["sha256"]
        self.hashed = index["phash"].notna().to_numpy()
        self.quality = index["phash_quality"].fillna(0).to_numpy(np.int64)
        self.hashes = np.zeros((len(index), 32), np.uint8)
        joined = b"".join(index["phash"][self.hashed])
        self.hashes[self.hashed] = np.frombuffer(joined, np.uint8).reshape(-1, 32)


def _check_match(source: Source) -> None:
    ours, theirs = source.manifest["image_id"].tolist(), source.index["image_id"].tolist()
    if ours != theirs:
        raise UserError(
            f"the image cache of {source.dataset} belongs to another manifest "
            f"({len(theirs)} images, not {len(ours)} in this order); build it again"
        )


# --- links ----------------------------------------------------------------------------------------


def _all_links(
    rows: _Rows, listed: pd.DataFrame, options: Duplicates, images: CachedImages | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a linked pair: a < b (positions), kind, distance (float, NaN without two hashes).

    Of images that are all equal only a chain is listed, and the link of each to one test image.

    Returns:
        (links of training images, links within a test set).
    """
    n_train = rows.n_train
    usable = np.flatnonzero(rows.hashed & (rows.quality >= options.min_quality))
    unique, codes = np.unique(rows.hashes[usable], axis=0, return_inverse=True)
    picture = np.full(len(rows.frame), -1)
    picture[usable] = codes
    near = near_pairs(unique, options.radius)[:2]
    links = pd.concat(
        [
            _equal(_codes(rows.image), n_train).assign(kind="same_id"),
            _equal(_codes(rows.sha256), n_train).assign(kind="same_bytes"),
            listed.assign(kind="listed"),
            _equal(picture, n_train).assign(kind="same_pixels"),
            _alike(near, picture, n_train).assign(kind="same_pixels"),
            _recoloured(unique, picture, rows, options, images).assign(kind="recoloured"),
        ]
    )
    links.loc[links["b"] >= n_train, "kind"] = "test_leak"
    people = pd.concat([_equal(_codes(ids), n_train) for ids in (rows.patient, rows.lesion)])
    people = people[people["b"] >= n_train].assign(kind="test_patient")
    links = _ordered(pd.concat([links, people]), rows)
    return links, _ordered(_twins(near, picture, rows).assign(kind=TWINS), rows)


def _recoloured(
    unique: np.ndarray,
    picture: np.ndarray,
    rows: _Rows,
    options: Duplicates,
    images: CachedImages | None,
) -> pd.DataFrame:
    """Links between pictures beyond the radius whose pixels agree but for their colours."""
    if not options.recoloured or images is None:
        return pd.DataFrame({"a": [], "b": []}, dtype="int64")
    near, other, distance = near_pairs(unique, max(options.radius, recoloured.FARTHEST))
    beyond = distance > options.radius
    pairs = _alike((near[beyond], other[beyond]), picture, rows.n_train).drop_duplicates()
    frame = rows.frame

    def gather(positions: np.ndarray) -> np.ndarray:
        chosen = frame.iloc[positions]
        return images.gather(images.rows(chosen["dataset"].tolist(), chosen["image_id"].tolist()))

    a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
    return pairs[recoloured.confirmed(a, b, gather)]


def _ordered(links: pd.DataFrame, rows: _Rows) -> pd.DataFrame:
    """Links in order, one a pair, with the distance of their hashes."""
    links["kind"] = pd.Categorical(links["kind"], KINDS, ordered=True)
    links = links.sort_values(["a", "b", "kind"]).drop_duplicates(["a", "b"], ignore_index=True)
    a, b = links["a"].to_numpy(), links["b"].to_numpy()
    bits = np.bitwise_count(rows.hashes[a] ^ rows.hashes[b]).sum(axis=1, dtype=np.int64)
    links["distance"] = np.where(rows.hashed[a] & rows.hashed[b], bits, np.nan)
    return links


def _codes(keys: pd.Series) -> np.ndarray:
    """An integer for each different key, -1 for null; int64 (N,)."""
    return pd.factorize(keys)[0]


def _equal(codes: np.ndarray, n_train: int) -> pd.DataFrame:
    """Links between rows of equal code (-1 equals nothing).

    A chain through the training rows, and of each training row to the first test row.
    """
    train, test = codes[:n_train], codes[n_train:]
    order = np.argsort(train, kind="stable")
    ordered = train[order]
    follows = (ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0)
    first = _first(test, codes.max(initial=-1) + 1)
    leaked = np.flatnonzero((train >= 0) & (first[train] >= 0))
    a = np.concatenate([order[:-1][follows], leaked])
    b = np.concatenate([order[1:][follows], first[train[leaked]] + n_train])
    return pd.DataFrame({"a": a, "b": b})


def _first(codes: np.ndarray, n_codes: int) -> np.ndarray:
    """Position of the first row of each code, -1 where there is none; int64 (n_codes + 1,).

    The entry behind the last code stands for the code -1.
    """
    positions = np.full(n_codes + 1, -1)
    values, first = np.unique(codes, return_index=True)
    positions[values] = first
    positions[-1] = -1
    return positions


def _alike(
    pairs_near: tuple[np.ndarray, np.ndarray], picture: np.ndarray, n_train: int
) -> pd.DataFrame:
    """Links between different hashes within the radius, each by its first training or test row."""
    near, other = pairs_near
    n_codes = picture.max(initial=-1) + 1
    train = _first(picture[:n_train], n_codes)
    test = _first(picture[n_train:], n_codes)
    test[test >= 0] += n_train
    ends = [(train, train), (train, test), (test, train)]
    pairs = np.concatenate([np.stack([one[near], two[other]], axis=1) for one, two in ends])
    pairs = np.sort(pairs[(pairs >= 0).all(axis=1)], axis=1)
    return pd.DataFrame(pairs, columns=["a", "b"])


def _twins(
    pairs_near: tuple[np.ndarray, np.ndarray], picture: np.ndarray, rows: _Rows
) -> pd.DataFrame:
    """Links within each test set: equal bytes, equal hashes, and hashes within the radius."""
    near, other = pairs_near
    n_codes = picture.max(initial=-1) + 1
    of_bytes = _codes(rows.sha256)
    dataset = rows.frame["dataset"].to_numpy()
    found = [pd.DataFrame({"a": [], "b": []}, dtype="int64")]
    for name in dict.fromkeys(dataset[rows.n_train :]):
        own = rows.n_train + np.flatnonzero(dataset[rows.n_train :] == name)
        for codes in (of_bytes, picture):
            chain = _equal(codes[own], len(own))
            found.append(pd.DataFrame({"a": own[chain["a"]], "b": own[chain["b"]]}))
        first = _first(picture[own], n_codes)
        ends = np.stack([first[near], first[other]], axis=1)
        ends = np.sort(own[ends[(ends >= 0).all(axis=1)]], axis=1)
        found.append(pd.DataFrame(ends, columns=["a", "b"]))
    return pd.concat(found, ignore_index=True)


def near_pairs(hashes: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of hashes within a Hamming distance, exactly (faiss compares every pair once).

    Args:
        hashes: uint8 (N, bytes).
        radius: in bits, included.

    Returns:
        (a, b, distance), int64 (P,), a < b, sorted.

    Raises:
        UserError: more than `MAX_PAIRS` pairs.
    """
    hashes = np.ascontiguousarray(hashes)
    index = faiss.IndexBinaryFlat(8 * hashes.shape[1])
    found: list[np.ndarray] = []
    total = 0
    for start in range(0, len(hashes), SEARCH_BLOCK):
        block = hashes[start : start + SEARCH_BLOCK]
        index.add(block)
        limits, distances, others = index.range_search(block, radius + 1)  # faiss excludes it
        queries = start + np.repeat(np.arange(len(block)), np.diff(limits).astype(np.int64))
        earlier = others < queries
        found.append(np.stack([others, queries, distances], axis=1)[earlier].astype(np.int64))
        total += len(found[-1])
        if total > MAX_PAIRS:
            raise UserError(
                f"more than {MAX_PAIRS:,} pairs of look-alikes among {len(hashes):,} images: lower "
                "duplicates.radius, or raise duplicates.min_quality to pass over blank images"
            )
    pairs = np.concatenate([*found, np.empty((0, 3), np.int64)])
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return pairs[:, 0], pairs[:, 1], pairs[:, 2]


def _listed_links(rows: _Rows, train: Sequence[Source]) -> tuple[pd.DataFrame, int]:
    """Links of the archives' own lists, and how many listed pairs are not wholly in the pool."""
    pool = rows.image.iloc[: rows.n_train]
    position = dict(zip(pool, range(rows.n_train), strict=True))
    pairs = [
        sorted(position.get(f"{source.archive or source.dataset}/{name}", -1) for name in pair)
        for source in train
        for pair in source.listed
    ]
    present = [pair for pair in pairs if pair[0] >= 0 and pair[0] != pair[1]]
    links = pd.DataFrame(present, columns=["a", "b"], dtype="int64")
    return links, sum(pair[0] < 0 for pair in pairs)


# --- which copy stays -----------------------------------------------------------------------------


def _split(links: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The transitive links between training rows, and those of mere likeness."""
    inner = links[~links["kind"].isin(LEAKS)]
    alike = (inner["kind"] == "same_pixels") & (inner["distance"] > 0)
    alike |= inner["kind"] == "recoloured"
    return inner[~alike], inner[alike]


def _pictures(n_train: int, links: pd.DataFrame) -> np.ndarray:
    """The picture of each training row, rule 1 of the module's text; int64 (n_train,)."""
    return _components(n_train, _split(links)[0])


def _decide(picture: np.ndarray, links: pd.DataFrame, options: Duplicates) -> np.ndarray:
    """For each training row the row that stays for it: itself, a copy, or -1 for a test leak."""
    keep, n_train = options.keep, len(picture)
    preference = np.arange(n_train) if keep == "last" else -np.arange(n_train)
    order = np.argsort(preference)
    keeper = np.empty(picture.max() + 1, np.int64)
    keeper[picture[order]] = order  # the last written is the most preferred
    excluded = LEAKS if options.leaks == "exclude" else ()
    leaks = links.loc[links["kind"].isin(excluded), "a"]
    near = _split(links)[1]
    winner = _exclude(
        preference[keeper],
        picture[leaks],
        np.stack([picture[near["a"]], picture[near["b"]]], axis=1),
    )
    stands = np.where(winner >= 0, keeper[winner], -1)
    return stands[picture]


def _exclude(rank: np.ndarray, leaked: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Rules 2 and 3 of the module's text, on pictures.

    Args:
        rank: int64 (pictures,), the higher the rather it stays.
        leaked: pictures that are linked to a test image.
        near: int64 (links, 2), pictures that look alike.

    Returns:
        int64 (pictures,): itself, the picture that displaced it, or -1.
    """
    winner = np.arange(len(rank))
    winner[leaked] = -1
    neighbours: dict[int, list[int]] = defaultdict(list)
    for one, other in near[near[:, 0] != near[:, 1]].tolist():
        neighbours[one].append(other)
        neighbours[other].append(one)
    for picture in sorted(neighbours, key=lambda one: -rank[one]):
        if winner[picture] < 0:
            continue
        better = [o for o in neighbours[picture] if winner[o] == o and rank[o] > rank[picture]]
        if better:
            winner[picture] = max(better, key=lambda one: rank[one])
    return winner


def _components(n: int, links: pd.DataFrame) -> np.ndarray:
    """Connected component of each row, int64 (n,)."""
    a, b = links["a"].to_numpy(), links["b"].to_numpy()
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _groups(rows: _Rows, links: pd.DataFrame, group_by_patient: bool) -> np.ndarray:
    """Name of each training row's group: the first image of its connected component, str (N,)."""
    n_train = rows.n_train
    bonds = [links[~links["kind"].isin(LEAKS)]]
    if group_by_patient:
        ids = (rows.patient, rows.lesion)
        bonds += [_equal(_codes(one.iloc[:n_train]), n_train) for one in ids]
    component = _components(n_train, pd.concat(bonds))
    first = np.unique(component, return_index=True)[1]
    names = rows.frame["dataset"].str.cat(rows.frame["image_id"], sep="/").to_numpy(object)
    return names[first][component]


def _fill(pool: pd.DataFrame, winner: np.ndarray, keep: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Give copies that stay the attributes that only their removed copies have; count them.

    Where several removed copies have a value, the most preferred gives it.
    """
    pool = pool.copy()
    donors = np.flatnonzero((winner >= 0) & (winner != np.arange(len(pool))))
    donors = donors[::-1] if keep == "last" else donors
    filled = {}
    for column in pool.columns.difference([*_OWN, "dataset"], sort=False):
        values = pool[column].iloc[donors].groupby(winner[donors]).first().dropna()
        empty = values.index[pool[column].iloc[values.index].isna()]
        pool.loc[empty, column] = values[empty]
        if len(empty):
            filled[str(column)] = len(empty)
    return pool, filled


# --- what is reported -----------------------------------------------------------------------------


def _pairs(rows: _Rows, links: pd.DataFrame, stays: np.ndarray, keep: str) -> pd.DataFrame:
    """The links under the images' names; see `Cohort`."""
    leak = links["kind"].isin(LEAKS).to_numpy()
    a, b = links["a"].to_numpy(), links["b"].to_numpy()
    if keep == "first":
        a, b = np.where(leak, a, b), np.where(leak, b, a)
    alive = np.concatenate([stays, np.ones(len(rows.frame) - rows.n_train, bool)])
    removed = np.select([~alive[a] & ~alive[b], ~alive[a], ~alive[b]], ["both", "a", "b"], "")
    ends = {
        f"{column}_{end}": rows.frame[column].to_numpy()[at]
        for end, at in (("a", a), ("b", b))
        for column in ("dataset", "image_id", "label")
    }
    frame = pd.DataFrame(ends).astype(
        {"dataset_a": "str", "image_id_a": "str", "dataset_b": "str", "image_id_b": "str"}
    )
    frame["kind"] = links["kind"].astype("str")
    frame["distance"] = links["distance"].astype("Int16")
    frame["removed"] = pd.Series(removed, dtype="str")
    frame["labels_disagree"] = frame["label_a"] != frame["label_b"]
    columns = ["dataset_a", "image_id_a", "dataset_b", "image_id_b", "kind", "distance", "removed"]
    return frame[[*columns, "label_a", "label_b", "labels_disagree"]]


def _conflicts(rows: _Rows) -> dict[str, int]:
    """Ids of the pool of which two sources say different things, by column; null is no conflict."""
    pool = rows.frame.iloc[: rows.n_train].assign(id=rows.image.iloc[: rows.n_train])
    found = {}
    for column in (*CONFLICTS, "label"):
        told = pool[["id", column]].dropna().drop_duplicates()
        if count := int(told.loc[told["id"].duplicated(), "id"].nunique()):
            found[column] = count
    return found


def _count_leaks(rows: _Rows, links: pd.DataFrame, picture: np.ndarray) -> dict[str, int]:
    """Training images that a test set has too, or whose patient or lesion it has, with copies."""
    rows_of = {kind: links.loc[links["kind"] == kind, "a"] for kind in LEAKS}
    leaked = {kind: np.isin(picture, picture[found]) for kind, found in rows_of.items()}
    return {
        "images": int((leaked["test_leak"] | leaked["test_patient"]).sum()),
        "of_them_in_a_test_set": int(leaked["test_leak"].sum()),
        "of_them_of_a_patient_or_lesion_in_a_test_set": int(leaked["test_patient"].sum()),
        "patients": int(rows.patient.iloc[rows_of["test_patient"]].nunique()),
    }


def _leak_message(rows: _Rows, links: pd.DataFrame, leaks: dict[str, int]) -> str:
    """What is refused, in one line."""
    first = links[links["kind"].isin(LEAKS)].iloc[0]
    one, other = (rows.frame.iloc[first[end]] for end in "ab")
    return (
        f"{leaks['images']} training images are in a test set "
        f"({leaks['of_them_in_a_test_set']}), or their patient or lesion is "
        f"({leaks['of_them_of_a_patient_or_lesion_in_a_test_set']}): {one['dataset']}/"
        f"{one['image_id']} and {other['dataset']}/{other['image_id']}, for example. "
        "duplicates.leaks refuses that; say exclude to take them out of the training pool"
    )


def _nothing_left(rows: _Rows, leaks: dict[str, int]) -> str:
    """Why the pool is empty, in one line."""
    return (
        f"no training image is left: of {rows.n_train:,} {leaks['of_them_in_a_test_set']:,} are "
        "in a test set themselves, and the patient or lesion of "
        f"{leaks['of_them_of_a_patient_or_lesion_in_a_test_set']:,} is. Is one table both the "
        "training and the test set? `only:` takes a part of a table"
    )


def _reasons(links: pd.DataFrame, winner: np.ndarray, picture: np.ndarray) -> dict[str, int]:
    """Removed images by reason: a leak, or the first kind of the links that they have."""
    inner = links[~links["kind"].isin(LEAKS)]
    long = pd.concat([inner[[end, "kind"]].set_axis(["row", "kind"], axis=1) for end in "ab"])
    left = (winner[long["row"]] >= 0) & (winner[long["row"]] != long["row"])
    first = long[left].sort_values("kind").drop_duplicates("row")["kind"]
    leaked = np.isin(picture, picture[links.loc[links["kind"] == "test_leak", "a"]])
    counts = first.value_counts().to_dict() | {
        "test_leak": int(((winner < 0) & leaked).sum()),
        "test_patient": int(((winner < 0) & ~leaked).sum()),
    }
    return {kind: int(counts[kind]) for kind in KINDS if counts.get(kind)}


def _by_dataset(frame: pd.DataFrame, column: str = "dataset") -> dict[str, int]:
    return {str(name): int(n) for name, n in frame[column].value_counts(sort=False).items()}
