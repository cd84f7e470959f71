"""Who and what is in the demo's images, and by which camera (`__init__.py` tells the story).

A population is a frame with one row an image, indexed by the image's number 0, 1, ...; it depends
on (seed, domain, sizes, strengths) alone. All ISIC years share the domain `isic`, so the rule that
writes 2019 draws the very pictures that the rules of 2017 and 2018 draw, without reading them.

Columns of both kinds: disease bool, male bool, age int (years), patient int, severity float32,
male_look float32. Skin: light bool, fitzpatrick int (1-6), lesion int, lightness float32 (CIELAB
L). Chest: old bool, finding str (none, pneumothorax, effusion, uncertain), old_look float32,
effusion float32. `patient` and `lesion` are the number of their first image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...config.schema import Synthetic
from ...seeds import derive_seed
from .drawing import (
    Array,
    Bytes,
    Camera,
    ChestScenes,
    SkinScenes,
    draw_chest,
    draw_lateral,
    draw_skin,
)

OLD = 65
"""Years from which a chest population counts as old, as the paper's citation suggests."""

_BATCH = 32
_WIDE = ((1.0, 1.33), (1.0, 1.5), (1.0, 1.33), (1.1, 1.1))

CAMERAS = {
    # Dermoscopes.
    "isic2017": Camera(_WIDE, zoom=1.10, vignette=0.30, ruler=0.20, noise=0.012),
    "isic2018": Camera(((1.0, 1.33),), zoom=1.00, cast=(1.0, 0.98, 1.01), noise=0.010),
    "isic2019": Camera(((1.1, 1.1), (1.0, 1.33)), zoom=1.05, vignette=0.50, noise=0.010),
    "isic2020": Camera(_WIDE, zoom=1.00, vignette=0.20, ruler=0.25, noise=0.014),
    "atlas": Camera(
        ((1.0, 1.5), (1.2, 1.6)),
        zoom=1.25,
        cast=(1.05, 0.96, 0.92),
        gamma=1.10,
        blur=0.5,
        vignette=0.4,
        noise=0.02,
    ),
    # Ordinary photographs.
    "atlas_clinic": Camera(((1.0, 1.5),), zoom=0.55, cast=(1.04, 0.98, 0.94), blur=0.3, noise=0.02),
    "fitzpatrick17k": Camera(
        ((1.0, 1.5), (1.3, 1.0), (1.0, 1.25), (0.9, 0.9)),
        zoom=0.70,
        cast=(1.03, 0.99, 0.95),
        blur=0.7,
        noise=0.025,
    ),
    "ddi": Camera(((1.0, 1.1), (1.2, 1.0)), zoom=0.75, cast=(0.98, 1.0, 1.05), noise=0.030),
    "pad_ufes_20": Camera(
        ((1.0, 1.0), (1.33, 1.0), (1.1, 1.2)),
        zoom=0.70,
        cast=(1.02, 1.0, 0.90),
        gamma=0.92,
        blur=0.6,
        noise=0.028,
    ),
    # X-rays.
    "mimic_cxr": Camera(((1.2, 1.0), (1.0, 1.2)), vignette=0.15, ruler=0.5, noise=0.012),
    "chexpert": Camera(
        ((1.0, 1.2), (1.15, 1.0)),
        zoom=0.90,
        cast=(0.90, 1.0, 1.0),
        gamma=1.20,
        blur=0.5,
        vignette=0.30,
        ruler=0.6,
        noise=0.025,
    ),
    "nih": Camera(
        ((1.0, 1.0),),
        zoom=1.08,
        cast=(1.06, 1.0, 1.0),
        gamma=0.85,
        blur=0.3,
        vignette=0.05,
        ruler=0.3,
        noise=0.020,
    ),
}
_REFERENCE = {"skin": CAMERAS["isic2018"], "chest": CAMERAS["mimic_cxr"]}
_LIGHTNESS = np.array([77, 69, 62.5, 55, 46, 37], dtype=np.float32)
_MIDDLE_LIGHTNESS = 58.0
_SKIN_PERSON = ["male", "fitzpatrick"]
_CHEST_PERSON = ["male", "old"]


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A random generator of its own for every combination of names and numbers."""
    return np.random.default_rng(derive_seed(seed, "synthetic", *names))


# --- populations ----------------------------------------------------------------------------------


def matching_share(correlation: float) -> float:
    """P(the attribute's group is the one that goes with the label | label): 1/2 + correlation / 3.

    So P(group | diseased) - P(group | healthy) = 2/3 correlation, and the rarest (label, group)
    cell is min(p, 1 - p) (1/2 - correlation / 3) of a population in which p are diseased: at
    correlation 0.8 and p = 0.35, 8.2 %.
    """
    return 0.5 + correlation / 3


def skin_population(
    domain: str, sizes: Sequence[int], correlation: float, settings: Synthetic, seed: int
) -> pd.DataFrame:
    """People with a melanoma (disease) or a harmless lesion; light skin and men go with melanoma.

    A patient's images lie within one of the parts, whose sizes are given.
    """
    rng = generator(seed, domain, "population")
    size = sum(sizes)
    disease = _quota(rng, size, settings.melanoma)
    light = _matched(rng, disease, correlation)
    male = _matched(rng, disease, correlation)
    fitzpatrick = np.where(
        light, rng.choice([1, 2, 3], size, p=[0.3, 0.4, 0.3]), rng.choice([4, 5, 6], size)
    )
    people = pd.DataFrame(
        {"disease": disease, "light": light, "male": male, "fitzpatrick": fitzpatrick}
    )
    part = pd.Series(np.repeat(np.arange(len(sizes)), sizes))
    people["patient"] = _chunks(rng, people.assign(part=part), [*_SKIN_PERSON, "part"], largest=4)
    people["lesion"] = _chunks(rng, people, ["patient", "disease"], largest=3, single=0.6)
    ages = 5 * np.clip(np.round(rng.normal(52, 17, size) / 5), 3, 17).astype(int)
    people["age"] = ages[people["patient"]]
    people["severity"] = severity(rng, people["disease"], settings)[people["lesion"]]
    people["lightness"] = lightness(fitzpatrick, settings)
    people["male_look"] = look(rng, people["male"].to_numpy(float), settings)
    return people


def chest_population(
    domain: str, size: int, correlation: float, settings: Synthetic, seed: int
) -> pd.DataFrame:
    """X-rays without finding or with a pneumothorax (disease); men and the old go with the latter.

    Behind the first `size` rows follow those that fall outside the task: other findings and
    uncertain ones, `settings.unknown` of the size each (at least two).
    """
    rng = generator(seed, domain, "population")
    other = max(2, round(settings.unknown * size))
    disease = _quota(rng, size, settings.pneumothorax)
    people = pd.DataFrame({"disease": np.concatenate([disease, np.zeros(2 * other, dtype=bool)])})
    for group in ("male", "old"):
        outside = _matched(rng, np.zeros(2 * other, dtype=bool), 0.0)
        people[group] = np.concatenate([_matched(rng, disease, correlation), outside])
    people["finding"] = np.where(people["disease"], "pneumothorax", "none")
    people.loc[size : size + other - 1, "finding"] = "effusion"
    people.loc[size + other :, "finding"] = "uncertain"
    total = len(people)
    people["patient"] = _chunks(rng, people, _CHEST_PERSON, largest=3)
    ages = np.where(people["old"], rng.integers(OLD, 91, total), rng.integers(10, OLD, total))
    people["age"] = ages[people["patient"]]
    severities = severity(rng, people["disease"], settings)
    people["severity"] = np.where(people["finding"] == "uncertain", np.float32(0.5), severities)
    people["male_look"] = look(rng, people["male"].to_numpy(float), settings)
    ageing = 1 / (1 + np.exp(-(people["age"].to_numpy(float) - OLD + 0.5) / 3))
    people["old_look"] = look(rng, ageing, settings)
    fluid = rng.uniform(0.15, 0.4, total) * (people["finding"] == "effusion")
    people["effusion"] = fluid.astype(np.float32)
    return people


def _quota(rng: np.random.Generator, size: int, share: float) -> npt.NDArray[np.bool_]:
    """Exactly round(share * size) true values in random order: small sets keep their balance."""
    return rng.permutation(np.arange(size) < round(share * size))


def _matched(
    rng: np.random.Generator, disease: npt.NDArray[np.bool_], correlation: float
) -> npt.NDArray[np.bool_]:
    """Members of the group that goes with the disease; independent of all else, given it."""
    member = np.empty(len(disease), dtype=bool)
    for label in (True, False):
        here = disease == label
        match = _quota(rng, int(here.sum()), matching_share(correlation))
        member[here] = match == label
    return member


def _chunks(
    rng: np.random.Generator,
    people: pd.DataFrame,
    columns: list[str],
    largest: int,
    single: float = 0.0,
) -> npt.NDArray[np.int64]:
    """Cut rows alike in `columns` into runs of 1 to `largest`; gives each row its run's first row.

    With probability `single` a run has one row whatever its drawn length.
    """
    owner = np.empty(len(people), dtype=np.int64)
    for _, rows in people.groupby(columns, sort=True):
        numbers = rows.index.to_numpy()
        start = 0
        while start < len(numbers):
            length = 1 if rng.random() < single else int(rng.integers(1, largest + 1))
            owner[numbers[start : start + length]] = numbers[start]
            start += length
    return owner


def severity(rng: np.random.Generator, disease: pd.Series, settings: Synthetic) -> Array:
    """The core feature (n,): about 1/2 + core * 0.35 in the diseased, 1/2 - core * 0.35 else."""
    mean = 0.5 + 0.35 * settings.core * np.where(disease, 1, -1)
    return np.clip(rng.normal(mean, 0.15), 0, 1).astype(np.float32)


def lightness(fitzpatrick: npt.NDArray[np.int64], settings: Synthetic) -> Array:
    """CIELAB L of the skin (n,), by skin type 1 to 6; all alike where `appearance` is 0."""
    apart = _LIGHTNESS[fitzpatrick - 1] - _MIDDLE_LIGHTNESS
    return (_MIDDLE_LIGHTNESS + settings.appearance * apart).astype(np.float32)


def look(rng: np.random.Generator, truth: npt.NDArray[np.float64], settings: Synthetic) -> Array:
    """How far a picture shows its group (n,), 0 to 1: 1/2 +- appearance / 2, with some scatter."""
    mean = 0.5 + settings.appearance * (truth - 0.5)
    return np.clip(rng.normal(mean, 0.08), 0, 1).astype(np.float32)


# --- pictures -------------------------------------------------------------------------------------


def draw(
    people: pd.DataFrame,
    domain: str,
    camera: str,
    settings: Synthetic,
    seed: int,
    kind: str = "view",
) -> list[Bytes]:
    """Pictures (h, w, c) uint8 of the rows of a population, in their order.

    Args:
        people: rows of `skin_population` or `chest_population`; the index is the image's number.
        domain: the population's name.
        camera: key of `CAMERAS`.
        settings: sizes and strengths.
        seed: of the run.
        kind: names this picture of the scene: another kind shows the same lesion or patient from
            elsewhere; "lateral" takes the X-ray from the side.
    """
    chest = "old_look" in people
    reference = _REFERENCE["chest" if chest else "skin"]
    lens = CAMERAS[camera].shifted(reference, settings.shift)
    return draw_through(lens, people, domain, settings.size, seed, kind)


def draw_through(
    lens: Camera, people: pd.DataFrame, domain: str, size: int, seed: int, kind: str = "view"
) -> list[Bytes]:
    """Pictures of the rows of a population by any camera; `size`: pixels of the shorter side."""
    pictures: dict[int, Bytes] = {}
    numbers = people.index.to_numpy()
    for which, (tall, wide) in enumerate(lens.formats):
        places = np.flatnonzero(numbers % len(lens.formats) == which)
        for start in range(0, len(places), _BATCH):
            batch = places[start : start + _BATCH]
            rows = people.iloc[batch]
            height, width = round(size * tall), round(size * wide)
            drawn = _draw_batch(rows, domain, kind, lens, (height, width), seed)
            pictures.update(zip(batch.tolist(), drawn, strict=True))
    return [pictures[place] for place in range(len(people))]


def _draw_batch(
    rows: pd.DataFrame, domain: str, kind: str, lens: Camera, size: tuple[int, int], seed: int
) -> Bytes:
    view = [generator(seed, domain, kind, int(number)) for number in rows.index]

    def values(column: str) -> Array:
        return rows[column].to_numpy(np.float32)

    if "lesion" in rows:
        look = [generator(seed, domain, "lesion", int(number)) for number in rows["lesion"]]
        scenes = SkinScenes(
            values("severity"), values("lightness"), values("male_look"), values("age"), look, view
        )
        return draw_skin(scenes, lens, *size)
    look = [generator(seed, domain, "patient", int(number)) for number in rows["patient"]]
    films = ChestScenes(
        values("severity"), values("male_look"), values("old_look"), values("effusion"), look, view
    )
    return draw_lateral(films, lens, *size) if kind == "lateral" else draw_chest(films, lens, *size)
