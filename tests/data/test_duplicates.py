"""Duplicates: the search against brute force, the decision against its rules, and real lists."""

from __future__ import annotations

import gzip
import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.real import METADATA, SAMPLES

from swift_debias.config.schema import Duplicates, Images
from swift_debias.data import duplicates
from swift_debias.data.cache_building import build_cache
from swift_debias.data.duplicates import Cohort, Source, find_duplicates, near_pairs, read_listed
from swift_debias.errors import UserError

ISIC = METADATA / "isic"
TEXT = ("image_id", "path", "diagnosis", "patient_id", "lesion_id", "sex", "view", "split")


def manifest(ids: Sequence[str], **columns: object) -> pd.DataFrame:
    frame = pd.DataFrame({"image_id": list(ids)}).assign(
        path=[f"{one}.jpg" for one in ids],
        label=np.int8(1),
        diagnosis="nevus",
        patient_id=None,
        lesion_id=None,
        sex=None,
        age=np.nan,
        fitzpatrick=np.nan,
        view=None,
        split=None,
    )
    frame = frame.assign(**columns).astype({"label": "int8", "age": "float64"})
    return frame.astype(dict.fromkeys(TEXT, "str"))


def index(
    ids: Sequence[str],
    hashes: Sequence[bytes | None] | None = None,
    sha256: Sequence[str] | None = None,
    error: Sequence[str | None] | None = None,
    quality: int = 100,
) -> pd.DataFrame:
    n = len(ids)
    return pd.DataFrame(
        {
            "row": range(n),
            "image_id": list(ids),
            "sha256": pd.Series(sha256 or [None] * n, dtype="object"),
            "phash": pd.Series(hashes or [None] * n, dtype="object"),
            "phash_quality": quality,
            "error": pd.Series(error or [None] * n, dtype="object"),
        }
    )


def source(name: str, ids: Sequence[str], archive: str | None = None, **more: object) -> Source:
    listed = more.pop("listed", ())
    parts = {key: more.pop(key) for key in ("hashes", "sha256", "error") if key in more}
    return Source(name, manifest(ids, **more), index(ids, **parts), archive, listed)


def flipped(base: bytes, bits: int) -> bytes:
    """A hash that differs from `base` in its first so many bits."""
    array = np.unpackbits(np.frombuffer(base, np.uint8))
    array[:bits] ^= 1
    return np.packbits(array).tobytes()


def kept(cohort: Cohort) -> list[str]:
    return (cohort.frame["dataset"] + "/" + cohort.frame["image_id"]).tolist()


BASE = np.random.default_rng(7).bytes(32)
FAR = flipped(BASE, 128)

# --- the neighbour search -------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 127), st.integers(1, 120))
def test_near_pairs_equal_brute_force(seed: int, radius: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 256, (n, 32), dtype=np.uint8)
    for _ in range(n // 2):  # copies with a few bits changed, at distances around the radius
        a, b = rng.integers(0, n, 2)
        bits = np.unpackbits(hashes[a])
        bits[rng.permutation(256)[: rng.integers(0, radius + 3)]] ^= 1
        hashes[b] = np.packbits(bits)
    distance = (np.unpackbits(hashes[:, None] ^ hashes[None], axis=2)).sum(axis=2)
    expected = [
        (a, b, int(distance[a, b]))
        for a, b in itertools.combinations(range(n), 2)
        if distance[a, b] <= radius
    ]
    before, duplicates.SEARCH_BLOCK = duplicates.SEARCH_BLOCK, 17
    try:
        got = near_pairs(hashes, radius)
    finally:
        duplicates.SEARCH_BLOCK = before
    assert list(zip(*map(np.ndarray.tolist, got), strict=True)) == expected


def test_blank_images_do_not_exhaust_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 1000)
    hashes = np.zeros((100, 32), np.uint8)
    with pytest.raises(UserError, match="blank images"):
        near_pairs(hashes, 20)


def test_images_of_one_hash_are_a_chain_not_all_pairs() -> None:
    ids = [str(i) for i in range(2000)]
    cohort = find_duplicates([source("a", ids, hashes=[BASE] * 2000)], [], Duplicates())
    assert len(cohort.pairs) == 1999
    assert kept(cohort) == ["a/1999"]


# --- kinds ----------------------------------------------------------------------------------------


def test_each_kind_of_pair() -> None:
    train = [
        source("y1", ["i", "j"], "isic", sha256=["s1", "s2"], hashes=[BASE, FAR]),
        source(
            "y2",
            ["i", "k", "l", "m", "n"],
            "isic",
            sha256=["s3", "s2", "s4", "s5", "s6"],
            hashes=[flipped(BASE, 60), None, flipped(FAR, 20), flipped(FAR, 64), None],
            listed=[("m", "n"), ("m", "elsewhere")],
        ),
    ]
    cohort = find_duplicates(train, [], Duplicates(radius=20))
    pairs = cohort.pairs.set_index(["image_id_a", "image_id_b"])
    assert pairs["kind"].to_dict() == {
        ("i", "i"): "same_id",
        ("j", "k"): "same_bytes",
        ("j", "l"): "same_pixels",
        ("m", "n"): "listed",
    }
    assert pairs["distance"].astype("float").to_numpy().tolist() == pytest.approx(
        [60, np.nan, 20, np.nan], nan_ok=True
    )
    assert pairs["removed"].tolist() == ["a", "both", "a", "a"]  # j and k are one picture, l stays
    assert kept(cohort) == ["y2/i", "y2/l", "y2/n"]
    assert cohort.log["listed_pairs_not_in_the_pool"] == 1


@pytest.mark.key("duplicates.radius")
def test_distance_is_inclusive() -> None:
    hashes = [BASE, flipped(BASE, 20)]
    for radius, left in ((20, 1), (19, 2)):
        cohort = find_duplicates(
            [source("a", ["1", "2"], hashes=hashes)], [], Duplicates(radius=radius)
        )
        assert len(cohort.frame) == left


def test_equal_ids_of_different_archives_are_different_images() -> None:
    cohort = find_duplicates([source("a", ["1"]), source("b", ["1"])], [], Duplicates())
    assert kept(cohort) == ["a/1", "b/1"]


@pytest.mark.key("duplicates.min_quality")
def test_flat_hashes_match_nothing_below_min_quality() -> None:
    frame = source("a", ["1", "2"], hashes=[BASE, BASE])
    flat = Source("a", frame.manifest, index(["1", "2"], [BASE, BASE], quality=5))
    assert len(find_duplicates([flat], [], Duplicates(min_quality=5)).frame) == 1
    assert len(find_duplicates([flat], [], Duplicates(min_quality=6)).frame) == 2


@pytest.mark.key("duplicates.keep")
@pytest.mark.parametrize(("keep", "stays"), [("last", "c/1"), ("first", "a/1")])
def test_which_copy_stays(keep: str, stays: str) -> None:
    pool = [source(name, ["1"], "isic") for name in "abc"]
    assert kept(find_duplicates(pool, [], Duplicates(keep=keep))) == [stays]


def test_a_chain_of_look_alikes_loses_no_more_than_it_must() -> None:
    chain = [flipped(BASE, 15 * step) for step in range(5)]  # neighbours are within 20, others not
    pool = [source("a", list("01234"), hashes=chain)]
    cohort = find_duplicates(pool, [], Duplicates(radius=20))
    assert kept(cohort) == ["a/0", "a/2", "a/4"]
    assert set(cohort.frame["cluster"]) == {"a/0"}


def test_copies_of_a_leaked_image_leave_too_but_look_alikes_of_it_stay() -> None:
    hashes = [flipped(BASE, 15), BASE, None, FAR]
    train = [
        source("a", ["alike", "leak", "copy", "other"], hashes=hashes, listed=[("leak", "copy")])
    ]
    tests = [source("t", ["x"], hashes=[flipped(BASE, 256)]), source("u", ["y"], hashes=[BASE])]
    cohort = find_duplicates(train, tests, Duplicates(radius=10))
    assert kept(cohort) == ["a/alike", "a/other"]
    assert cohort.log["removed"] == {"test_leak": 2}
    leak = cohort.pairs[cohort.pairs["kind"] == "test_leak"]
    assert leak[["image_id_a", "dataset_b", "image_id_b", "distance"]].to_numpy().tolist() == [
        ["leak", "u", "y", 0]
    ]


@pytest.mark.parametrize("evidence", ["id", "bytes", "pixels"])
def test_test_images_leave_the_pool(evidence: str) -> None:
    same = {"hashes": [FAR, BASE], "sha256": ["s1", "s2"]}
    test = {"hashes": [flipped(BASE, 100)], "sha256": ["s9"]}
    name = "2" if evidence == "id" else "z"
    if evidence == "bytes":
        test["sha256"] = ["s2"]
    if evidence == "pixels":
        test["hashes"] = [flipped(BASE, 4)]
    cohort = find_duplicates(
        [source("a", ["1", "2"], "arch", **same)],
        [source("t", [name], "arch", **test)],
        Duplicates(),
    )
    assert kept(cohort) == ["a/1"]
    assert cohort.pairs["kind"].tolist() == ["test_leak"]


def test_labels_that_disagree_are_listed_and_the_rule_decides() -> None:
    pool = [source("a", ["1"], "x", label=0), source("b", ["1"], "x", label=1)]
    cohort = find_duplicates(pool, [], Duplicates())
    pair = cohort.pairs.iloc[0]
    assert (pair["label_a"], pair["label_b"], pair["labels_disagree"]) == (0, 1, True)
    assert cohort.log["pairs_with_different_labels"] == 1
    assert cohort.frame["label"].tolist() == [1]


def test_the_kept_copy_gets_what_only_removed_copies_know() -> None:
    pool = [
        source("a", ["1", "2"], "x", sex=["male", "male"], age=[40, 50], own=["p", "q"]),
        source("b", ["1", "2"], "x", sex=[None, "female"], age=[45, np.nan], fitzpatrick=[2, 3]),
        source("c", ["1", "2"], "x", sex=[None, None], patient_id=["P", None]),
    ]
    cohort = find_duplicates(pool, [], Duplicates())
    frame = cohort.frame
    assert frame["sex"].tolist() == ["male", "female"]  # the most preferred copy that knows it
    assert frame["age"].tolist() == [45, 50]
    assert frame["fitzpatrick"].tolist() == [2, 3]
    assert frame["own"].tolist() == ["p", "q"]
    assert frame["patient_id"].isna().tolist() == [False, True]  # ids are a copy's own
    assert cohort.log["values_filled_from_removed_copies"] == {
        "sex": 2,
        "age": 2,
        "fitzpatrick": 2,
        "own": 2,
    }


# --- groups ---------------------------------------------------------------------------------------


def test_groups_join_patients_lesions_and_duplicates_across_removed_images() -> None:
    pool = [
        source("a", ["1", "2", "3"], "x", lesion_id=["L1", "L1", None]),
        source("b", ["1", "4", "5"], "x", patient_id=["P1", "P1", None]),
        source("c", ["6"], patient_id=["P1"]),
    ]
    frame = find_duplicates(pool, [], Duplicates()).frame
    of = dict(zip(frame["dataset"] + frame["image_id"], frame["cluster"], strict=True))
    assert of["a2"] == of["b1"] == of["b4"] == "a/1"  # a1 is gone, and still binds
    assert len({of["a2"], of["a3"], of["b5"], of["c6"]}) == 4  # c is another archive
    frame = find_duplicates(pool, [], Duplicates(), group_by_patient=False).frame
    assert frame["cluster"].nunique() == len(frame)


# --- what is left out, and what is refused --------------------------------------------------------


def test_unreadable_images_are_left_out_and_counted() -> None:
    pool = [source("a", ["1", "2"], error=["empty file", None])]
    cohort = find_duplicates(pool, [], Duplicates())
    assert kept(cohort) == ["a/2"]
    assert cohort.log["unreadable"] == {"a": 1}


def test_patients_of_a_test_set_leave_the_pool() -> None:
    """Of one archive only, lesions too, and by the rule that the config names."""
    train = [
        source(
            "a",
            ["1", "2", "3", "4", "5"],
            "h",
            patient_id=["p", "q", None, "r", None],
            lesion_id=[None, None, "l", None, None],
            listed=[("1", "5")],  # a copy of a picture whose patient leaked goes with it
        )
    ]
    ids = {"patient_id": ["p", None], "lesion_id": ["x", "l"]}
    tests = [source("t", ["8", "9"], "h", label=[0, 1], **ids)]
    cohort = find_duplicates(train, tests, Duplicates())
    assert kept(cohort) == ["a/2", "a/4"]
    assert cohort.log["removed"] == {"test_patient": 3}
    assert cohort.log["leaks_exclude"] == {
        "images": 3,
        "of_them_in_a_test_set": 0,
        "of_them_of_a_patient_or_lesion_in_a_test_set": 3,
        "patients": 1,
    }
    assert cohort.log["pairs_with_different_labels"] == 0  # a patient's pictures are no pair
    leaks = cohort.pairs[cohort.pairs["kind"] == "test_patient"]
    assert leaks[["image_id_a", "image_id_b", "removed"]].to_numpy().tolist() == [
        ["1", "8", "a"],
        ["3", "9", "a"],
    ]
    elsewhere = [source("t", ["8"], "other", patient_id=["p"])]
    assert len(find_duplicates(train, elsewhere, Duplicates()).frame) == 4  # 1 and 5 are a picture


@pytest.mark.key("duplicates.leaks")
def test_leaks_are_excluded_refused_or_allowed() -> None:
    train = [source("a", ["1", "2", "3"], "h", patient_id=["p", "q", "r"], sha256=["x", "y", "z"])]
    tests = [source("t", ["8", "9"], "h", patient_id=["p", "s"], sha256=["v", "y"])]
    assert kept(find_duplicates(train, tests, Duplicates(leaks="exclude"))) == ["a/3"]
    cohort = find_duplicates(train, tests, Duplicates(leaks="allow"))
    assert kept(cohort) == ["a/1", "a/2", "a/3"]
    assert cohort.log["leaks_allow"]["images"] == 2
    assert set(cohort.pairs["removed"]) == {""}
    with pytest.raises(UserError, match=r"2 training images .*a/2 and t/9|a/1 and t/8"):
        find_duplicates(train, tests, Duplicates(leaks="refuse"))
    assert len(find_duplicates(train, [], Duplicates(leaks="refuse")).frame) == 3


def test_images_that_a_test_set_has_twice_are_listed_and_stay() -> None:
    test = source(
        "t",
        ["1", "2", "3", "4"],
        sha256=["x", "x", "y", "z"],
        hashes=[None, None, BASE, flipped(BASE, 3)],
        label=[0, 1, 1, 1],
    )
    other = source("u", ["5"], sha256=["x"])  # in another test set: another population
    cohort = find_duplicates([source("a", ["9"])], [test, other], Duplicates(radius=5))
    pairs = cohort.pairs[["image_id_a", "image_id_b", "kind", "labels_disagree", "removed"]]
    assert pairs.to_numpy().tolist() == [
        ["1", "2", "in_test_set", True, ""],
        ["3", "4", "in_test_set", False, ""],
    ]
    assert cohort.log["pairs_in_a_test_set"] == {"t": 2}
    assert cohort.log["pairs_in_a_test_set_with_different_labels"] == {"t": 1}
    assert cohort.log["pairs_with_different_labels"] == 0


def test_refusals() -> None:
    one = source("a", ["1"], sha256=["s"])
    with pytest.raises(UserError, match="training pool and in a test set"):
        find_duplicates([one], [one], Duplicates())
    said = (
        r"no training image is left: of 1 1 are in a test set .* of 0 is\. Is one table both[^{]*$"
    )
    with pytest.raises(UserError, match=said):
        find_duplicates([one], [source("t", ["9"], sha256=["s"])], Duplicates())
    with pytest.raises(UserError, match="no readable training image"):
        find_duplicates([source("a", ["1"], error=["empty"])], [], Duplicates())
    other = Source("a", manifest(["1"]), index(["2"]))
    with pytest.raises(UserError, match="belongs to another manifest"):
        find_duplicates([other], [], Duplicates())


# --- any population -------------------------------------------------------------------------------


@st.composite
def populations(draw: st.DrawFn) -> tuple[list[Source], list[Source], Duplicates]:
    """Small pools in which everything collides often."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bits = np.cumsum(rng.integers(0, 8, 12))  # hashes on a line: distances add up
    line = [flipped(BASE, int(n)) for n in bits]
    sources = []
    for number in range(draw(st.integers(2, 4))):
        n = int(rng.integers(1, 9))
        ids = [str(one) for one in rng.permutation(12)[:n]]
        some = rng.random(n) < 0.7
        hashes = [line[rng.integers(12)] if one else None for one in some]
        sources.append(
            source(
                f"d{number}",
                ids,
                ["x", "x", "y"][rng.integers(3)],
                hashes=hashes,
                sha256=[f"s{one}" for one in rng.integers(0, 30, n)],
                patient_id=[f"P{one}" if one < 6 else None for one in rng.integers(0, 12, n)],
                lesion_id=[f"L{one}" if one < 3 else None for one in rng.integers(0, 12, n)],
                listed=[tuple(rng.choice(ids, 2, replace=False))] if n > 1 else [],
            )
        )
    cut = draw(st.integers(1, len(sources)))
    keep = draw(st.sampled_from(["last", "first"]))
    leaks = draw(st.sampled_from(["exclude", "exclude", "allow", "refuse"]))
    options = Duplicates(radius=draw(st.integers(0, 12)), keep=keep, leaks=leaks)
    return sources[:cut], sources[cut:], options


def naive_links(sources: Sequence[Source], n_train: int, radius: int) -> tuple[list, dict]:
    """All rows, and the kind of evidence ('exact' or 'alike') for every pair of them."""
    rows = []
    for number, one in enumerate(sources):
        for record, cached in zip(
            one.manifest.to_dict("records"), one.index.to_dict("records"), strict=True
        ):
            rows.append({**record, **cached, "source": number, "archive": one.archive})
    listed = {
        frozenset((one.archive, name) for name in pair)
        for one in sources[:n_train]
        for pair in one.listed
    }
    links = {}
    for a, b in itertools.combinations(range(len(rows)), 2):
        one, other = rows[a], rows[b]
        keys = [(row["archive"], row["image_id"]) for row in (one, other)]
        bits = None
        if one["phash"] is not None and other["phash"] is not None:
            both = (np.frombuffer(row["phash"], np.uint8) for row in (one, other))
            bits = int(np.unpackbits(np.bitwise_xor(*both)).sum())
        in_list = frozenset(keys) in listed and other["source"] < n_train
        if keys[0] == keys[1] or one["sha256"] == other["sha256"] or bits == 0 or in_list:
            links[a, b] = "exact"
        elif bits is not None and bits <= radius:
            links[a, b] = "alike"
    return rows, links


def closure(n: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The smallest member of each node's component, by plain relaxation."""
    label = list(range(n))
    changed = True
    while changed:
        changed = False
        for a, b in edges:
            low = min(label[a], label[b])
            changed |= label[a] != low or label[b] != low
            label[a] = label[b] = low
    return label


@settings(max_examples=40, deadline=None)
@given(populations())
def test_the_rules_hold_on_any_population(population) -> None:
    train, tests, options = population
    rows, links = naive_links([*train, *tests], len(train), options.radius)
    n = sum(row["source"] < len(train) for row in rows)
    people = {
        (a, b)
        for a, b in itertools.combinations(range(len(rows)), 2)
        if rows[a]["archive"] == rows[b]["archive"]
        and any(
            not pd.isna(rows[a][key]) and rows[a][key] == rows[b][key]
            for key in ("patient_id", "lesion_id")
        )
    }
    twins = {
        (a, b) for a, b in links if a >= n and rows[a]["source"] == rows[b]["source"]
    }  # within a test set
    found = {a for a, b in {*links, *people} if a < n <= b}
    exact = [pair for pair, kind in links.items() if pair[1] < n and kind == "exact"]
    picture = closure(n, exact)
    affected = sum(picture[row] in {picture[a] for a in found} for row in range(n))
    try:
        cohort = find_duplicates(train, tests, options)
    except UserError as error:
        refused = options.leaks == "refuse" and bool(found)
        assert ("refuses that" if refused else "no training image is left") in str(error)
        if refused:
            assert str(error).startswith(f"{affected} training images")
            return
        stays = set()
    else:
        names = {f"d{row['source']}/{row['image_id']}": i for i, row in enumerate(rows)}
        stays = {names[name] for name in kept(cohort)}
    inner = {pair: kind for pair, kind in links.items() if pair[1] < n}
    leaks = found if options.leaks == "exclude" else set()
    leaked = {picture[a] for a in leaks}
    rank = (lambda row: row) if options.keep == "last" else (lambda row: -row)
    copies = {p: [row for row in range(n) if picture[row] == p] for p in set(picture)}
    # Rules 1 and 2: the most preferred copy of a picture stands for it; leaked pictures are gone.
    assert all(row == max(copies[picture[row]], key=rank) for row in stays)
    assert not any(picture[row] in leaked for row in stays)
    # Rule 3: of pictures that stay no two are alike; one that left is alike to a better one that
    # stays.
    alike = {
        frozenset((picture[a], picture[b])) for (a, b), kind in inner.items() if kind == "alike"
    }
    pictures = {picture[row] for row in stays}
    assert not any(len(pair) == 2 and pair <= pictures for pair in alike)
    for one in set(picture) - pictures - leaked:
        best = rank(max(copies[one], key=rank))
        assert any(
            one in pair and rank(max(copies[other], key=rank)) > best
            for pair in alike
            for other in pair & pictures
        )
    if not stays:
        return
    assert cohort.log[f"leaks_{options.leaks}"]["images"] == affected
    # Groups: the components of all evidence, patients and lesions.
    component = closure(n, [*inner, *(pair for pair in people if pair[1] < n)])
    group = cohort.frame["cluster"].tolist()
    expected = [component[row] for row in sorted(stays)]
    pairs = set(zip(group, expected, strict=True))
    assert len(pairs) == len(set(group)) == len(set(expected))
    # The list of pairs holds true evidence only, and explains every image that left.
    ends = ["dataset_a", "image_id_a", "dataset_b", "image_id_b", "kind"]
    kinds = {
        (names[f"{a}/{b}"], names[f"{c}/{d}"]): kind
        for a, b, c, d, kind in cohort.pairs[ends].itertuples(index=False)
    }
    named = {pair for pair, kind in kinds.items() if kind != "in_test_set"}
    across = {pair for pair in people if pair[0] < n <= pair[1]}
    true = {tuple(sorted(pair)) for pair in {*links, *across}}
    assert all(tuple(sorted(pair)) in true for pair in named)
    listed = {min(pair) for pair in named if max(pair) >= n}
    assert {picture[row] for row in listed} == {picture[row] for row in found}
    # Images that a test set has twice: all are listed, as a chain where they are equal.
    double = {tuple(sorted(pair)) for pair in set(kinds) - named}
    assert double <= twins
    assert closure(len(rows), list(double)) == closure(len(rows), list(twins))
    assert set(range(n)) - stays <= {row for pair in named for row in pair}
    assert sum(cohort.log["removed"].values()) == n - len(stays)


# --- pictures -------------------------------------------------------------------------------------


def scene(seed: int) -> Image.Image:
    """A random picture with structure at every scale, as photographs have it."""
    rng = np.random.default_rng(seed)
    planes = np.zeros((280, 360, 3))
    for cells in (3, 6, 12, 24, 48):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        planes += np.asarray(coarse.resize((360, 280), Image.Resampling.BICUBIC)) / cells
    return Image.fromarray((planes * 255 / planes.max()).astype(np.uint8))


def test_reencoded_and_resized_copies_are_found_and_mirrored_ones_are_not(tmp_path: Path) -> None:
    variants = {
        "original.png": lambda image: image,
        "jpeg.jpg": lambda image: image,
        "half.jpg": lambda image: image.resize((180, 140), Image.Resampling.LANCZOS),
        "grey.png": lambda image: image.convert("L"),
        "mirrored.png": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }
    paths = []
    for seed in range(12):
        original = scene(seed)
        for name, change in variants.items():
            paths.append(f"{seed}-{name}")
            change(original).save(tmp_path / paths[-1], quality=75)
        paths.append(f"{seed}-copy.png")
        (tmp_path / paths[-1]).write_bytes((tmp_path / f"{seed}-original.png").read_bytes())
    frame = manifest(paths, path=paths)
    out = tmp_path / "cache.npy"
    cached = build_cache(frame, tmp_path, out, out.with_suffix(".parquet"), Images(size=64))
    cohort = find_duplicates([Source("a", frame, cached)], [], Duplicates(keep="first"))
    expected = [
        f"a/{seed}-{name}" for seed in range(12) for name in ("original.png", "mirrored.png")
    ]
    assert sorted(kept(cohort)) == sorted(expected)
    kinds = cohort.pairs.groupby("kind").size().to_dict()
    assert kinds["same_bytes"] == 12
    of_one = cohort.pairs["image_id_a"].str.split("-").str[0]
    assert (of_one == cohort.pairs["image_id_b"].str.split("-").str[0]).all()


def real_source(name: str, ids: Sequence[str], tmp_path: Path) -> Source:
    root = SAMPLES / name / "images"
    frame = manifest(ids, path=[f"{one}.jpg" for one in ids])
    out = tmp_path / f"{name}.npy"
    cached = build_cache(frame, root, out, out.with_suffix(".parquet"), Images(size=64), 2)
    return Source(name, frame, cached)


@pytest.mark.parametrize(
    ("name", "twins"),
    [  # seen by eye: NIH released one film twice; PAD-UFES-20 has one lesion under two diagnoses
        ("nih", [("00002658_001", "00002658_002")]),
        (
            "pad_ufes_20",
            [("PAT_56_86_479", "PAT_56_88_274"), ("PAT_759_1538_566", "PAT_759_1433_914")],
        ),
    ],
)
def test_real_images(name: str, twins: list[tuple[str, str]], tmp_path: Path) -> None:
    """The twins are found, and no two of 150 other real images are taken for each other."""
    root = SAMPLES / name / "images"
    others = sorted(path.stem for path in root.iterdir())
    if name == "nih":
        patients = pd.Series(others).str.split("_").str[0]
        others = [one for one, first in zip(others, ~patients.duplicated(), strict=True) if first]
    known = {"PAT_701_4056_457", "PAT_701_1321_156"}  # a third pair of PAD-UFES-20
    flat = [one for pair in twins for one in pair]
    ids = sorted({*flat, *[one for one in others if one not in known][:150]})
    cohort = find_duplicates([real_source(name, ids, tmp_path)], [], Duplicates())
    found = cohort.pairs[["image_id_a", "image_id_b"]].to_numpy().tolist()
    assert sorted(map(sorted, found)) == sorted(map(sorted, twins))


# --- published lists ------------------------------------------------------------------------------


def isic_pool() -> list[Source]:
    """ISIC 2017 to 2020 by their official tables, without images."""
    tables = {
        "isic2017": ("ISIC-2017_Training_Data_metadata.csv", "image_id"),
        "isic2018": ("ISIC2018_Task3_Training_LesionGroupings.csv", "image"),
        "isic2019": ("ISIC_2019_Training_Metadata.csv", "image"),
        "isic2020": ("ISIC_2020_Training_GroundTruth_v2.csv", "image_name"),
    }
    pool = []
    for name, (file, column) in tables.items():
        table = pd.read_csv(ISIC / file, dtype="str")
        ids = table[column].str.removesuffix("_downsampled").tolist()
        nothing = pd.Series([None] * len(ids), dtype="str")
        frame = manifest(
            ids,
            lesion_id=table.get("lesion_id", nothing).to_numpy(),
            patient_id=table.get("patient_id", nothing).to_numpy(),
        )
        listed = read_listed(ISIC) if name == "isic2020" else []
        pool.append(Source(name, frame, index(ids), "isic", listed))
    return pool


@pytest.fixture(scope="module")
def isic() -> Cohort:
    if not ISIC.exists():
        pytest.skip("the real metadata is absent")
    return find_duplicates(isic_pool(), [], Duplicates())


def test_isic_union_and_its_own_list(isic: Cohort) -> None:
    """58,457 different ids, 425 of them listed as duplicates; the paper says 56,863."""
    assert isic.log["images"] == {
        "isic2017": 2000,
        "isic2018": 10_015,
        "isic2019": 25_331,
        "isic2020": 33_126,
    }
    assert len(isic.frame) == 58_457 - 425
    assert isic.log["removed"] == {"same_id": 2000 + 10_015, "listed": 425}
    assert (isic.pairs["kind"] == "listed").sum() == 425
    assert isic.log["listed_pairs_not_in_the_pool"] == 0
    assert isic.frame["image_id"].is_unique


def test_isic_deletions_published_by_others(isic: Cohort) -> None:
    """Every training image of 2017 and 2018 that was deleted there in favour of a newer one."""
    log = METADATA / "mmu_isic_dedup" / "06 - all_train_duplicates_deleted_(all but newest).txt"
    lines = [line.strip() for line in log.read_text().splitlines() if "ISIC" in line]
    theirs = pd.Series(lines).str.extract(r"/(\d{4})/train/.*/(ISIC_\d+)(?:_downsampled)?\.jpg$")
    theirs = theirs[theirs[0] != "2016"]
    linked = set(isic.pairs["image_id_a"]) | set(isic.pairs["image_id_b"])
    covered = theirs[1].isin(linked).groupby(theirs[0]).agg(["sum", "size"])
    assert covered.loc["2017"].tolist() == [717, 717]
    assert covered.loc["2018"].tolist() == [10_015, 10_015]
    # The other 8 of 2020 are equal bytes under other ids: without images they cannot be seen here.
    assert covered.loc["2020"].tolist() == [425, 433]


def test_lesions_of_isic_bind_images_across_years(isic: Cohort) -> None:
    table = pd.read_csv(ISIC / "ISIC_2019_Training_Metadata.csv", dtype="str")
    lesion = table.dropna(subset=["lesion_id"]).set_index(
        table["image"].str.removesuffix("_downsampled").loc[lambda s: table["lesion_id"].notna()]
    )["lesion_id"]
    group = isic.frame.set_index("image_id")["cluster"]
    of_lesion = group.reindex(lesion.index).groupby(lesion).nunique()
    assert len(of_lesion) > 10_000
    assert (of_lesion == 1).all()


def test_reading_the_list(tmp_path: Path) -> None:
    assert read_listed(tmp_path) == []
    (tmp_path / "meta").mkdir()
    file = tmp_path / "meta" / "ISIC_2020_Training_Duplicates.csv"
    file.write_text("image_name_1,image_name_2\nA,B\n")
    assert read_listed(tmp_path) == [("A", "B")]
    file.write_text("image_name_1,image_name_2\nA,B,\nC,D,\n")
    assert read_listed(tmp_path) == [("A", "B"), ("C", "D")]
    file.write_text("one;two\nA;B\n")
    with pytest.raises(UserError, match="is separated by semicolons"):
        read_listed(tmp_path)


LIST = "ISIC_2020_Training_Duplicates.csv"
COLUMNS = "image_name_1,image_name_2"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (LIST, f"{COLUMNS}\nA,B\nC,D\n".encode()),
        (LIST, f"{COLUMNS}\nA,B,\nC,D,\n".encode()),
        (LIST, f"n,{COLUMNS}\n1,A ,B\n2,\ufeffC,D\n3,E,\n4,NA,unknown\n".encode()),
        (LIST.lower(), f"{COLUMNS}\r\nA,B\r\nC,D\r\n".encode()),
        (f"deep/er/{LIST}", f"\ufeff{COLUMNS}\nA,B\nC,D\n".encode()),
        (f"x/{LIST}.gz", gzip.compress(f"{COLUMNS}\nA,B\nC,D\n".encode(), mtime=0)),
    ],
)
def test_the_list_is_found_and_read_as_other_tables_are(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(content)
    assert read_listed(tmp_path) == [("A", "B"), ("C", "D")]


@pytest.mark.parametrize("content", [b"", f"{COLUMNS}\nA,B\n".encode("utf-16")])
def test_a_list_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LIST).write_bytes(content)
    with pytest.raises(UserError, match=LIST):
        read_listed(tmp_path)


@pytest.mark.parametrize("beside", [True, False])
def test_the_list_beside_the_root(tmp_path: Path, beside: bool) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / LIST).write_text(f"{COLUMNS}\nA,B\n")
    assert read_listed(tmp_path / "root", beside) == [("A", "B")] * beside


def test_the_same_bytes_in_every_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hashes = [flipped(BASE, int(n)) for n in rng.integers(0, 256, 60)]
    pool = [source("a", [str(i) for i in range(60)], hashes=hashes)]
    written = []
    for run in range(2):
        cohort = find_duplicates(pool, [], Duplicates())
        for name, frame in (("frame", cohort.frame), ("pairs", cohort.pairs)):
            path = tmp_path / f"{name}{run}"
            frame.to_parquet(path)
            written.append(path.read_bytes())
    assert written[:2] == written[2:]
    assert io.BytesIO(written[0]).read(4) == b"PAR1"
