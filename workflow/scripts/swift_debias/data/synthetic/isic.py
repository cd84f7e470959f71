"""Raw folders of the ISIC challenges: four years that share one archive of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .drawing import Bytes
from .folder import FEWEST, Folder, one_more_row, resized, stored_again, words
from .population import draw, skin_population

LEAKS = 3
"""Pictures of ISIC 2020 that Fitzpatrick-17k has as well, and again that the Atlas has."""

_YEARS = ("isic2017", "isic2018", "isic2019", "isic2020")
_NUMBERS = {"isic2017": (0, 7), "isic2018": (24306, 1), "isic2019": (53453, 1)}
_NUMBERS |= {"isic2020": (80000, 1973)}
"""First number of a year's image ids, and the step."""


def archive(folder: Folder) -> pd.DataFrame:
    """The whole archive, one row a picture; the same for every data set that asks.

    `skin_population`, and year (that brought the picture: those of 2017 and 2018 are in 2019,
    too), image (id), diagnosis (2019's words), site, lesion_id, unknown_sex, unknown_age (bool).
    """
    earlier = [folder.size(year) for year in _YEARS[:2]]
    own = folder.size("isic2019", sum(earlier) + FEWEST) - sum(earlier)
    sizes = [*earlier, own, folder.size("isic2020")]
    correlation = folder.settings.correlation
    people = skin_population("isic", sizes, correlation, folder.settings, folder.seed)
    isic = Folder("isic", folder.settings, folder.seed, folder.root)
    rng, total = isic.rng("metadata"), len(people)
    people["year"] = np.repeat(_YEARS, sizes)
    people["image"] = np.concatenate(
        [_ids(year, range(size)) for year, size in zip(_YEARS, sizes, strict=True)]
    )
    kinds, shares = ["NV", "BKL", "BCC", "AK", "DF", "VASC", "SCC"], [66, 14, 10, 4, 2, 2, 2]
    harmless = rng.choice(kinds, total, p=np.array(shares) / 100)
    people["diagnosis"] = np.where(people["disease"], "MEL", harmless)
    # Men's lesions are more often on the trunk, women's on the legs.
    trunk = rng.random(total) < np.where(people["male"], 0.8, 0.2)
    back = rng.random(total) < 0.5
    people["site"] = np.select(
        [rng.random(total) < 0.05, trunk & back, trunk, back],
        ["", "posterior torso", "anterior torso", "upper extremity"],
        "lower extremity",
    )
    prefix = people["year"].map({"isic2018": "HAM_", "isic2019": "BCN_"})
    people["lesion_id"] = prefix + people["lesion"].map("{:07d}".format)
    people["unknown_sex"] = isic.some("sex", total)
    people["unknown_age"] = isic.some("age", total)
    return people


def pictures_of(folder: Folder, people: pd.DataFrame) -> list[Bytes]:
    """Pictures of rows of the archive, in their order, each by the camera of its year."""
    pictures: dict[int, Bytes] = {}
    for year, rows in people.groupby("year"):
        drawn = draw(rows, "isic", str(year), folder.settings, folder.seed)
        pictures.update(zip(rows.index.tolist(), drawn, strict=True))
    return [pictures[number] for number in people.index]


def leaks(folder: Folder) -> pd.DataFrame:
    """The rows of ISIC 2020 that this test set has as well: the year's last ones."""
    last = archive(folder).iloc[-2 * LEAKS :]
    return last.iloc[:LEAKS] if folder.name == "fitzpatrick17k" else last.iloc[LEAKS:]


def write_2017(folder: Folder) -> None:
    """ISIC 2017, part 3, with the superpixel maps that lie beside the photographs."""
    people = archive(folder).query("year == 'isic2017'")
    images = "ISIC-2017_Training_Data/"
    pictures = pictures_of(folder, people)
    folder.pictures(images + people["image"] + ".jpg", pictures)
    maps = [_superpixels(picture) for picture in pictures]
    folder.pictures(images + people["image"] + "_superpixels.png", maps)
    truth = pd.DataFrame(
        {
            "image_id": people["image"],
            "melanoma": people["disease"].astype(float),
            "seborrheic_keratosis": (people["diagnosis"] == "BKL").astype(float),
        }
    )
    metadata = pd.DataFrame(
        {
            "image_id": people["image"],
            "age_approximate": people["age"].astype(str).mask(people["unknown_age"], "unknown"),
            "sex": words(people["male"], "male", "female", people["unknown_sex"], "unknown"),
        }
    )
    truth = one_more_row(truth, image_id="ISIC_0020000")
    metadata = one_more_row(metadata, image_id="ISIC_0020000")
    folder.table("ISIC-2017_Training_Part3_GroundTruth.csv", truth)
    folder.table(images + "ISIC-2017_Training_Data_metadata.csv", metadata)


def write_2018(folder: Folder) -> None:
    """ISIC 2018, task 3 (HAM10000): the challenge's files know neither age nor sex."""
    people = archive(folder).query("year == 'isic2018'")
    paths = "ISIC2018_Task3_Training_Input/" + people["image"] + ".jpg"
    folder.pictures(paths, pictures_of(folder, people))
    # This challenge has no SCC, and calls AK and carcinoma in situ AKIEC.
    diagnosis = people["diagnosis"].replace({"AK": "AKIEC", "SCC": "AKIEC"})
    classes = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    truth = pd.concat([people["image"], _one_hot(diagnosis, classes)], axis=1)
    seen = folder.rng("confirmed").random(len(people)) < 0.4
    seen &= ~people["disease"].to_numpy()
    lesions = people[["image", "lesion_id"]].assign(
        diagnosis_confirm_type=np.where(seen, "serial imaging showing no change", "histopathology")
    )
    truth = one_more_row(truth, image="ISIC_0034320")
    lesions = one_more_row(lesions, image="ISIC_0034320")
    name = "ISIC2018_Task3_Training_GroundTruth"
    folder.table(f"{name}/{name}.csv", truth)
    folder.table("ISIC2018_Task3_Training_LesionGroupings.csv", lesions)


def write_2019(folder: Folder) -> None:
    """ISIC 2019: all pictures of 2017 and 2018 (some of 2017 made smaller), and its own."""
    people = archive(folder).query("year != 'isic2020'").copy()
    smaller = (people["year"] == "isic2017") & (people.index % 5 == 0)
    people["image"] += np.where(smaller, "_downsampled", "")
    pictures = [
        resized(picture, 0.8) if small else picture
        for picture, small in zip(pictures_of(folder, people), smaller, strict=True)
    ]
    images = "ISIC_2019_Training_Input/"
    folder.pictures(images + people["image"] + ".jpg", pictures)
    folder.pictures([images + "ISIC_0073000.jpg"], pictures[:1])  # a file without its row
    folder.truncated(images + "ISIC_0073001.jpg", pictures[0])

    classes = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
    truth = pd.concat([people["image"], _one_hot(people["diagnosis"], classes)], axis=1)
    metadata = pd.DataFrame(
        {
            "image": people["image"],
            "age_approx": people["age"].astype(str).mask(people["unknown_age"], ""),
            "anatom_site_general": people["site"],
            "lesion_id": people["lesion_id"],
            "sex": words(people["male"], "male", "female", people["unknown_sex"]),
        }
    )
    for image in ("ISIC_0073001", "ISIC_0073002"):  # the truncated one, and one without its file
        truth = one_more_row(truth, image=image)
        metadata = one_more_row(metadata, image=image)
    folder.table("ISIC_2019_Training_GroundTruth.csv", truth)
    folder.table("ISIC_2019_Training_Metadata.csv", metadata)


def write_2020(folder: Folder) -> None:
    """ISIC 2020: its own pictures and, behind them, the listed and the unlisted duplicates."""
    people = archive(folder).query("year == 'isic2020'").copy()
    copies = max(1, round(folder.settings.duplicates * len(people)))
    people["patient_id"] = people["patient"].map("IP_{:07d}".format)
    listed, unlisted = people.iloc[:copies].copy(), people.iloc[copies : 2 * copies].copy()
    ids = _ids("isic2020", range(len(people), len(people) + 2 * copies))
    listed["image"], unlisted["image"] = ids[:copies], ids[copies:]
    # Nothing but the pixels says that the unlisted are copies; the first has the other label.
    unlisted["patient_id"] = (5_000_000 + unlisted["patient"]).map("IP_{:07d}".format)
    unlisted["lesion"] += 5_000_000
    unlisted["disease"] ^= np.arange(copies) == 0
    pictures = pictures_of(folder, people)
    pictures += draw(listed, "isic", "isic2020", folder.settings, folder.seed, "again")
    pictures += [
        resized(picture, 1.25) if place % 2 else stored_again(picture)
        for place, picture in enumerate(pictures[copies : 2 * copies])
    ]
    rows = pd.concat([people, listed, unlisted], ignore_index=True)
    folder.pictures("train/" + rows["image"] + ".jpg", pictures)
    pairs = {"image_name_1": people["image"].iloc[:copies].tolist(), "image_name_2": ids[:copies]}
    folder.table("ISIC_2020_Training_Duplicates.csv", pd.DataFrame(pairs))

    harmless = rows["diagnosis"].map({"NV": "nevus", "BKL": "seborrheic keratosis"})
    truth = pd.DataFrame(
        {
            "image_name": rows["image"],
            "patient_id": rows["patient_id"],
            "lesion_id": rows["lesion"].map("IL_{:07d}".format),
            "sex": words(rows["male"], "male", "female", rows["unknown_sex"]),
            "age_approx": rows["age"].astype(str).mask(rows["unknown_age"], ""),
            "anatom_site_general_challenge": rows["site"].str.replace(
                r"\w+ torso", "torso", regex=True
            ),
            "diagnosis": harmless.fillna("unknown").mask(rows["disease"], "melanoma"),
            "benign_malignant": words(rows["disease"], "malignant", "benign"),
            "target": rows["disease"].astype(int),
        }
    )
    truth = one_more_row(truth, image_name="ISIC_9999999", patient_id="IP_9999999")
    folder.table("ISIC_2020_Training_GroundTruth_v2.csv", truth)


def _ids(year: str, places: range) -> list[str]:
    """Image ids of a year's pictures."""
    first, step = _NUMBERS[year]
    return [f"ISIC_{first + step * place:07d}" for place in places]


def _one_hot(diagnosis: pd.Series, classes: Sequence[str]) -> pd.DataFrame:
    """One column a class: 1.0 or 0.0, as ISIC writes them."""
    return pd.DataFrame({name: (diagnosis == name).astype(float) for name in classes})


def _superpixels(picture: Bytes) -> Bytes:
    """A map of superpixels: squares that have their number as colour."""
    height, width = picture.shape[:2]
    rows, columns = np.arange(height)[:, None] // 8, np.arange(width)[None, :] // 8
    number = rows * (width // 8 + 1) + columns
    return np.stack([number % 256, number // 256, 0 * number], axis=-1).astype(np.uint8)
