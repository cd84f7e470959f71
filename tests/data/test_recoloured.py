"""Photographs with other colours, and what sources say differently of one image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage, stats
from tests.data.test_duplicates import index, kept, manifest
from tests.real import DATA, SAMPLES

from swift_debias.config.schema import Duplicates, Images
from swift_debias.data import recoloured
from swift_debias.data.cache_building import build_cache
from swift_debias.data.duplicates import Cohort, Source, find_duplicates
from swift_debias.data.image_cache import CachedImages

ISIC = DATA / "images" / "isic2017_128" / "images"


def photograph(seed: int, size: int = 128) -> np.ndarray:
    """Smooth structures in colour, uint8 (size, size, 3)."""
    noise = np.random.default_rng(seed).normal(size=(size, size, 3))
    smooth = ndimage.gaussian_filter(noise, (6, 6, 0.5))
    low, high = smooth.min(), smooth.max()
    return (255 * (smooth - low) / (high - low)).astype(np.uint8)


def other_colours(picture: np.ndarray, gamma: float = 2.0, shift: int = 1) -> np.ndarray:
    """The same picture, darker, reddish, and moved by a few pixels."""
    toned = 255 * (picture / 255.0) ** gamma * np.array([1.0, 0.85, 0.8])
    return np.roll(toned.astype(np.uint8), (shift, -shift), axis=(0, 1))


def pool(folder: Path, pictures: dict[str, np.ndarray], **options: object) -> Cohort:
    """The pool of these pictures, in this order."""
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    frame = manifest(list(pictures)).assign(path=[f"{name}.png" for name in pictures])
    out = folder / "north.npy", folder / "north.parquet"
    cache = build_cache(frame, folder, *out, Images(size=128))
    found = Source("north", frame, cache)
    return find_duplicates([found], [], Duplicates(**options), images=CachedImages([out]))


@pytest.mark.key("duplicates.recoloured")
def test_recoloured_copies_leave_the_pool_where_they_are_looked_for(tmp_path: Path) -> None:
    pictures = {f"p{seed}": photograph(seed) for seed in range(6)}
    pictures["copy"] = other_colours(pictures["p2"])
    every = [f"north/{name}" for name in pictures]
    # a radius of 0 leaves the whole range beyond it to the pixels
    assert kept(pool(tmp_path, pictures, radius=0)) == every
    cohort = pool(tmp_path, pictures, radius=0, recoloured=True)
    assert kept(cohort) == [name for name in every if name != "north/p2"]
    (pair,) = cohort.pairs.itertuples()
    assert (pair.image_id_a, pair.image_id_b, pair.kind) == ("p2", "copy", "recoloured")
    assert 0 < pair.distance <= recoloured.FARTHEST
    assert cohort.log["removed"] == {"recoloured": 1}
    clusters = cohort.frame["cluster"]
    assert clusters.nunique() == 6


def test_similarity_is_the_rank_correlation_over_shifts() -> None:
    one = photograph(0, 64)[..., 0]
    other = np.roll(photograph(1, 64)[..., 0] // 3 + one // 2, 1, axis=0)
    inner = one[3:-3, 3:-3].ravel()
    plain = [
        stats.spearmanr(inner, other[3 + y : 61 + y, 3 + x : 61 + x].ravel()).statistic
        for y in range(-3, 4)
        for x in range(-3, 4)
    ]
    assert recoloured.similarity(one, other) == pytest.approx(max(plain))
    inverted = 255 - one
    assert recoloured.similarity(one, inverted) < 0
    assert recoloured.similarity(one, np.full_like(one, 9)) == 0


def test_different_patients_of_the_samples_stay_apart() -> None:
    """Photographs of PAD-UFES-20, whatever their hashes say."""
    paths = sorted((SAMPLES / "pad_ufes_20" / "images").glob("*.jpg"))[::70]
    greys = [np.asarray(Image.open(p).convert("L").resize((64, 64))) for p in paths]
    found = [
        recoloured.similarity(one, other) for n, one in enumerate(greys) for other in greys[:n]
    ]
    assert len(found) > 50 and max(found) < recoloured.ALIKE


def test_the_pairs_of_isic_2017(tmp_path: Path) -> None:
    """All that are found are an early id beside one of about 15,000; by eye they are one lesion."""
    if not ISIC.is_dir():
        pytest.skip("the images of ISIC 2017 are not here")
    names = [p.stem for p in sorted(ISIC.rglob("*.jpg"))]
    early = [n for n in names if "ISIC_0000150" <= n <= "ISIC_0000380"]
    late = [n for n in names if "ISIC_0014650" <= n <= "ISIC_0015450"]
    paths = {p.stem: str(p.relative_to(ISIC)) for p in ISIC.rglob("*.jpg")}
    frame = manifest(early + late).assign(path=[paths[n] for n in early + late])
    out = tmp_path / "isic.npy", tmp_path / "isic.parquet"
    cache = build_cache(frame, ISIC, *out, Images(size=128))
    cohort = find_duplicates(
        [Source("isic", frame, cache)],
        [],
        Duplicates(recoloured=True),
        images=CachedImages([out]),
    )
    pairs = cohort.pairs[cohort.pairs["kind"] == "recoloured"]
    assert len(pairs) == 15
    assert pairs["distance"].between(26, 54).all()
    assert (pairs["image_id_a"] < "ISIC_0000300").all()
    assert (pairs["image_id_b"] > "ISIC_0014000").all()


# --- conflicts ------------------------------------------------------------------------------------


def test_what_two_sources_say_differently_of_one_image_is_counted() -> None:
    first = manifest(
        list("abcd"), sex=["female", "male", None, "male"], age=[50.0, 60.0, 70.0, 5.0]
    )
    second = manifest(
        list("abc"), sex=["male", "male", "female"], age=[50.0, 65.0, 71.0], label=[1, 0, 1]
    )
    sources = [
        Source(name, frame, index(frame["image_id"].tolist()), archive="isic")
        for name, frame in (("north", first), ("south", second))
    ]
    log = find_duplicates(sources, [], Duplicates()).log
    both = first.merge(second, on="image_id")
    plain = {
        column: int(
            (both[f"{column}_x"].notna() & both[f"{column}_y"].notna()
             & (both[f"{column}_x"] != both[f"{column}_y"])).sum()
        )
        for column in ("sex", "age", "label")
    }  # fmt: skip
    assert log["images_of_one_id_that_differ_in"] == plain == {"sex": 1, "age": 2, "label": 1}
    assert (
        find_duplicates(sources[:1], [], Duplicates()).log["images_of_one_id_that_differ_in"] == {}
    )


def test_conflicts_between_ham10000_and_isic_2019() -> None:
    ham = DATA / "images" / "ham10000_128" / "HAM10000_metadata.csv"
    newer = DATA / "metadata" / "isic" / "ISIC_2019_Training_Metadata.csv"
    if not (ham.is_file() and newer.is_file()):
        pytest.skip("the real tables are not here")
    old = pd.read_csv(ham).rename(columns={"image_id": "image"})
    new = pd.read_csv(newer).rename(columns={"age_approx": "age"})
    both = old.merge(new, on="image", suffixes=("_old", "_new"))
    plain = {}
    for column in ("sex", "age"):
        one, other = (both[f"{column}_{end}"].replace("unknown", None) for end in ("old", "new"))
        plain[column] = int((one.notna() & other.notna() & (one != other)).sum())
    frames = [
        manifest(table["image"].tolist(), sex=table["sex"].replace("unknown", None).tolist(),
                 age=table["age"].tolist())
        for table in (old, new[new["image"].isin(old["image"])])
    ]  # fmt: skip
    sources = [
        Source(name, frame, index(frame["image_id"].tolist()), archive="isic")
        for name, frame in zip(("ham", "isic2019"), frames, strict=True)
    ]
    found = find_duplicates(sources, [], Duplicates()).log["images_of_one_id_that_differ_in"]
    assert found == {column: n for column, n in plain.items() if n}
