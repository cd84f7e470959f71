"""Tables of images whose bias is of one known kind and strength: the benchmark's data.

The story is the demo's (`__init__.py`), of skin lesions and one attribute, the tone of the skin:
group 0 is light (Fitzpatrick I to III), group 1 dark. Class 1 is the melanoma. The clean population
has right labels, both groups halves of each class, and one camera. `config.schema.Bias` says what
each kind changes; with r = `melanoma`, counts are exact but for rounding:

    kind             what differs from the clean population
    correlation      group 1 is (1 + s) / 2 of class 1 and (1 - s) / 2 of class 0
    imbalance        group 1 is (1 - s) / 2 of both classes; s = 1: it is absent
    class_imbalance  the cell (class 1, group 1) is thinned by s, and the set filled up from all
    underdiagnosis   s / 2 of the cell (class 1, group 1) is labelled 0
    label_noise      s / 2 of both cells of group 1 has the other label
    acquisition      group 1 is taken with `WORST` (s = 1), or a camera on the way to it

A set has as many images as it is told, whatever its bias. The people of a cell (class, group) come
in one order that depends on the seed and on `people` alone, and a set takes the first of them. So a
smaller set lies within a larger one, pools of different bias share all that they can, and those who
are labelled wrongly at some strength still are at a larger one. Which of them those are is chance
all the same: nothing about a person depends on the place in that order.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from ...config.schema import Bias, Population, Synthetic
from .drawing import Bytes, Camera
from .folder import Folder
from .population import draw_through, generator, lightness, look, severity

CLEAN = Camera()
WORST = Camera(cast=(1.12, 0.98, 0.84), gamma=1.25, blur=1.0, noise=0.06)
"""The camera of group 1 at acquisition's strength 1: noisy, blurred, of a yellow cast."""

GROUPS = ("light", "dark")
_HAIR = 0.2  # how much of a man's look everybody has: few hairs, so that small networks learn
_TYPES = ((1, 2, 3), (4, 5, 6))  # Fitzpatrick's, of each group
CELLS = tuple(itertools.product((0, 1), (0, 1)))  # (class, group)


def cell_counts(images: int, rate: float, bias: Bias | None) -> np.ndarray:
    """How many images of each true class and group a set has.

    Args:
        images: in all.
        rate: share of class 1 in the clean population.
        bias: None: the clean population.

    Returns:
        int (2, 2), [class, group]; its sum is `images`.
    """
    of_class = np.array([1 - rate, rate])
    dark = np.array([0.5, 0.5])  # P(group 1 | class)
    kind, s = (None, 0.0) if bias is None else (bias.kind, bias.strength)
    if kind == "correlation":
        dark = np.array([(1 - s) / 2, (1 + s) / 2])
    elif kind == "imbalance":
        dark = np.array([(1 - s) / 2, (1 - s) / 2])
    elif kind == "class_imbalance":
        of_class = of_class * (1, 1 - s / 2)
        of_class, dark = of_class / of_class.sum(), np.array([0.5, (1 - s) / (2 - s)])
    ones = round(images * float(of_class[1]))
    classes = np.array([images - ones, ones])
    of_dark = np.rint(classes * dark).astype(int)
    return np.stack([classes - of_dark, of_dark], axis=1)


def wrong_labels(counts: np.ndarray, bias: Bias | None) -> np.ndarray:
    """How many images of each cell are labelled with the other class, int (2, 2)."""
    wrong = np.zeros((2, 2), int)
    if bias is not None and bias.kind in ("underdiagnosis", "label_noise"):
        classes = [1] if bias.kind == "underdiagnosis" else [0, 1]
        wrong[classes, 1] = np.rint(counts[classes, 1] * bias.strength / 2)
    return wrong


def people(of: Population, settings: Synthetic, seed: int) -> pd.DataFrame:
    """The people of a set, one row an image, indexed by a number that is the person's everywhere.

    Columns: disease (bool, the truth), label (int, as recorded), group (int), and what a picture
    needs: lesion, lightness, severity, male_look, age.
    """
    counts = cell_counts(of.images, settings.melanoma, of.bias)
    wrong = wrong_labels(counts, of.bias)
    cells = []
    for place, (label, group) in enumerate(CELLS):
        n, errors = int(counts[label, group]), int(wrong[label, group])

        def rng(purpose: str, place: int = place) -> np.random.Generator:
            # one for each column: the first n numbers are then the same for every n
            return generator(seed, of.people, "cell", place, purpose)

        truth = np.full(n, bool(label))
        cells.append(
            pd.DataFrame(
                {
                    "disease": truth,
                    "label": np.where(np.arange(n) < errors, 1 - label, label),
                    "group": group,
                    "lightness": lightness(rng("type").choice(_TYPES[group], n), settings),
                    "severity": severity(rng("severity"), pd.Series(truth), settings),
                    "male_look": look(rng("male_look"), np.full(n, _HAIR), settings),
                    "age": 5 * rng("age").integers(3, 18, n),
                },
                index=len(CELLS) * np.arange(n) + place,
            )
        )
    found = pd.concat(cells).sort_index()
    return found.assign(lesion=found.index)


def pictures(who: pd.DataFrame, of: Population, settings: Synthetic, seed: int) -> list[Bytes]:
    """Pictures (size, size, 3) uint8 of the rows of `people`, in their order."""
    cameras = [CLEAN, CLEAN]
    if of.bias is not None and of.bias.kind == "acquisition":
        cameras[1] = WORST.shifted(CLEAN, of.bias.strength)
    drawn: dict[int, Bytes] = {}
    for group, camera in enumerate(cameras):
        rows = who[who["group"] == group]
        found = draw_through(camera, rows, of.people, settings.size, seed)
        drawn.update(zip(rows.index.tolist(), found, strict=True))
    return [drawn[number] for number in who.index]


def name_of(of: Population, number: int) -> str:
    """The name of a person, who has one image."""
    return f"{of.people}_{number:06d}"


def write(folder: Folder, of: Population) -> None:
    """The folder of a set: table.csv (file, patient, label, group, truth), and images/."""
    who = people(of, folder.settings, folder.seed)
    names = [name_of(of, number) for number in who.index]
    files = [f"{name}.png" for name in names]
    drawn = pictures(who, of, folder.settings, folder.seed)
    folder.pictures([f"images/{file}" for file in files], drawn)
    folder.table(
        "table.csv",
        pd.DataFrame(
            {
                "file": files,
                "patient": names,
                "label": who["label"].to_numpy(),
                "group": np.array(GROUPS)[who["group"]],
                "truth": who["disease"].to_numpy(int),
            }
        ),
    )
