"""Made-up raw folders of all eleven data sets, in their official layouts, for the demo.

From here on the pipeline does not know that it is the demo: names, columns, words and number
formats are those of the real releases. The pictures are drawn (`synthetic_images.py`) from a story
with written-down causes (`synthetic_population.py`); in brackets the key that sets an arrow's
strength:

    label --[core]--> severity --> skin:  ragged, asymmetric outline; black, red and blue-white
                                   chest: pleural line, and beyond it a rim without vessels
    skin type --[appearance]--> lightness of the whole skin
    sex -------[appearance]--> skin:  ruddy hairy trunk, or cooler smooth limb with shaded sides
                               chest: breast shadows, or broad shoulders and wider lungs
    age -------[appearance]--> chest: faint ribs, wide aorta, large heart, grey film; skin: sun
                               spots (few, and not correlated with the label)
    label <--[correlation in the pool, test_correlation in the test sets]--> attribute
                               melanoma with light skin and with men; pneumothorax with men and
                               with the old; the two attributes independent, given the label
    source ----[shift]-------> camera: zoom, white balance, gamma, blur, noise, dark corners, marks

The core feature is independent of every attribute, given the label. It takes shape and texture
inside the lesion or lung to see it; the attributes show in the mean colour of the picture. The
story is a caricature: real skin colour or sex is not tied to melanoma by such rules, and in real
ISIC images dark skin is far rarer than here.

Every folder also has what real folders have, in small known amounts: `settings.unknown` of the
sexes, ages and skin types unknown in the words of each data set, several images of one patient or
lesion, one table row without its file, one file without its row, and in some a truncated image.
ISIC 2019 contains all pictures of 2017 and 2018 (a fifth of 2017's as `_downsampled`); ISIC 2020
has `settings.duplicates` of listed copies, as many unlisted re-encoded ones (one of them with the
other label), and `LEAKS` pictures each that are also test images of Fitzpatrick-17k and the
Atlas. X-rays: lateral views, other findings, uncertain labels.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from ..settings import Synthetic, UserError
from .synthetic_images import Bytes
from .synthetic_population import chest_population, draw, generator, skin_population

LEAKS = 3
"""Pictures of ISIC 2020 that Fitzpatrick-17k has as well, and again that the Atlas has."""

FEWEST = 20
"""Fewest images that a data set can be asked for; the dirt needs room."""

_QUALITY = 92
_ISIC = ("isic2017", "isic2018", "isic2019", "isic2020")
_FINDINGS = (
    "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,"
    "Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
).split(",")


@dataclass(frozen=True)
class Folder:
    """The raw folder that is being written, and what its content depends on."""

    name: str
    settings: Synthetic
    seed: int
    root: Path

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator for one purpose of this data set."""
        return generator(self.seed, self.name, purpose)

    def unknown(self, column: str, size: int, times: float = 1) -> npt.NDArray[np.bool_]:
        """Rows whose value is not known: exactly the configured share (times `times`)."""
        count = round(times * self.settings.unknown * size)
        return self.rng(f"unknown {column}").permutation(np.arange(size) < count)

    def table(self, path: str, frame: pd.DataFrame, index: bool = False) -> None:
        """Write a CSV, gzipped where the name says so."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # No time stamp in the archive: the same rows are the same bytes.
        zipped: Any = {"method": "gzip", "mtime": 0} if path.endswith(".gz") else None
        frame.to_csv(target, index=index, compression=zipped, lineterminator="\n")

    def pictures(self, paths: Iterable[str], pictures: Iterable[Bytes]) -> None:
        """Write pictures under their names, in the format that the suffix says."""
        for path, picture in zip(paths, pictures, strict=True):
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(picture.squeeze())
            if target.suffix.lower() == ".png":
                image.save(target, compress_level=1)
            else:
                image.save(target, "JPEG", quality=_QUALITY)

    def truncated(self, path: str, picture: Bytes) -> None:
        """Write a JPEG of which the second half is missing, as after a broken download."""
        buffer = io.BytesIO()
        Image.fromarray(picture.squeeze()).save(buffer, "JPEG", quality=_QUALITY)
        (self.root / path).write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])


def write(name: str, settings: Synthetic, seed: int, root: Path) -> None:
    """Write the raw folder of one data set.

    Args:
        name: of the data set, as its adapter's.
        settings: sizes and strengths.
        seed: of the run. The folder's bytes depend on it, on `settings` and on `name` alone.
        root: the folder to fill.

    Raises:
        UserError: the data set is none of the eleven, or its size is missing or too small.
    """
    if name not in _WRITERS:
        raise UserError(f"synthetic: cannot draw {name!r}, only {', '.join(_WRITERS)}")
    for needed in _ISIC if name in (*_ISIC, "fitzpatrick17k", "atlas") else ():
        _size(settings, needed)
    _size(settings, name)
    _WRITERS[name](Folder(name, settings, seed, root))


def _size(settings: Synthetic, name: str) -> int:
    """Configured number of images."""
    size = settings.images.get(name)
    if size is None:
        raise UserError(f"synthetic.images has no entry {name!r}; give its number of images")
    least = FEWEST
    if name == "isic2019":
        least += sum(settings.images.get(year, 0) for year in ("isic2017", "isic2018"))
    if size < least:
        raise UserError(f"synthetic.images.{name} is {size}; it must be at least {least}")
    return size


def _words(
    values: Mapping[bool, str], truth: pd.Series, unknown: npt.NDArray[np.bool_], missing: str = ""
) -> pd.Series:
    """Truth values in a data set's words, and its word for those that are not known."""
    return truth.map(values).mask(unknown, missing)


def _one_hot(diagnosis: pd.Series, classes: Sequence[str]) -> pd.DataFrame:
    """One column a class: 1.0 or 0.0, as ISIC writes them."""
    return pd.DataFrame({name: (diagnosis == name).astype(float) for name in classes})


def _copy_row(frame: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    """The frame with its last row once more at the end, changed: a row of one more image."""
    return pd.concat([frame, frame.iloc[[-1]].assign(**changes)], ignore_index=True)


# --- the ISIC archive -----------------------------------------------------------------------------


def _isic(folder: Folder) -> pd.DataFrame:
    """The whole archive: `skin_population`, and year, image (id), diagnosis, unknown_sex,
    unknown_age, lesion_id, site. 2019's own pictures follow those of 2017 and 2018.
    """
    sizes = {year: _size(folder.settings, year) for year in _ISIC}
    own = [
        sizes["isic2017"],
        sizes["isic2018"],
        sizes["isic2019"] - sizes["isic2017"] - sizes["isic2018"],
        sizes["isic2020"],
    ]
    total = sum(own)
    archive = Folder("isic", folder.settings, folder.seed, folder.root)
    people = skin_population(
        "isic", total, folder.settings.correlation, folder.settings, folder.seed
    )
    rng = archive.rng("metadata")
    people["year"] = np.repeat(_ISIC, own)
    within = people.groupby("year").cumcount()
    first = people["year"].map(
        {"isic2017": 0, "isic2018": 24306, "isic2019": 53453, "isic2020": 80000}
    )
    step = people["year"].map({"isic2017": 7, "isic2018": 1, "isic2019": 1, "isic2020": 4973})
    people["image"] = (first + step * within).map("ISIC_{:07d}".format)
    harmless = rng.choice(
        ["NV", "BKL", "BCC", "AK", "DF", "VASC", "SCC"],
        total,
        p=[0.66, 0.14, 0.1, 0.04, 0.02, 0.02, 0.02],
    )
    people["diagnosis"] = np.where(people["disease"], "MEL", harmless)
    people["unknown_sex"] = archive.unknown("sex", total)
    people["unknown_age"] = archive.unknown("age", total)
    prefix = people["year"].map({"isic2018": "HAM", "isic2019": "BCN"})
    lesion = people["lesion"].map("{:07d}".format)
    people["lesion_id"] = (prefix + "_" + lesion).astype(object)
    sites = ["anterior torso", "posterior torso", "lower extremity", "upper extremity", "head/neck"]
    at_trunk = rng.random(total) < 0.2 + 0.6 * people["male"]
    site = rng.choice(2, total) + np.where(at_trunk, 0, 2)
    people["site"] = np.array([*sites, ""])[np.where(rng.random(total) < 0.05, 5, site)]
    return people


def _isic_pictures(folder: Folder, people: pd.DataFrame) -> list[Bytes]:
    """Pictures of rows of the archive, in their order, each by the camera of its year."""
    pictures: dict[int, Bytes] = {}
    for year, rows in people.groupby("year"):
        drawn = draw(rows, "isic", str(year), folder.settings, folder.seed)
        pictures.update(zip(rows.index.tolist(), drawn, strict=True))
    return [pictures[number] for number in people.index]


def _leaks(folder: Folder, test_set: str) -> pd.DataFrame:
    """The rows of ISIC 2020 that a test set has as well: the year's last ones."""
    last = _isic(folder).iloc[-2 * LEAKS :]
    return last.iloc[:LEAKS] if test_set == "fitzpatrick17k" else last.iloc[LEAKS:]


def _isic2017(folder: Folder) -> None:
    people = _isic(folder).query("year == 'isic2017'")
    images = "ISIC-2017_Training_Data/"
    pictures = _isic_pictures(folder, people)
    folder.pictures(images + people["image"] + ".jpg", pictures)
    folder.pictures(
        images + people["image"] + "_superpixels.png", (_superpixels(p) for p in pictures)
    )
    truth = pd.DataFrame(
        {
            "image_id": people["image"],
            "melanoma": people["disease"].astype(float),
            "seborrheic_keratosis": (people["diagnosis"] == "BKL").astype(float),
        }
    )
    age = people["age"].astype(str).mask(people["unknown_age"], "unknown")
    sex = _words({True: "male", False: "female"}, people["male"], people["unknown_sex"], "unknown")
    metadata = pd.DataFrame({"image_id": people["image"], "age_approximate": age, "sex": sex})
    lost = "ISIC_0020000"
    folder.table("ISIC-2017_Training_Part3_GroundTruth.csv", _copy_row(truth, image_id=lost))
    folder.table(
        images + "ISIC-2017_Training_Data_metadata.csv", _copy_row(metadata, image_id=lost)
    )


def _superpixels(picture: Bytes) -> Bytes:
    """A map of superpixels, as 2017 ships beside each photograph: squares with their number."""
    height, width = picture.shape[:2]
    rows, columns = np.arange(height)[:, None] // 8, np.arange(width)[None, :] // 8
    number = rows * (width // 8 + 1) + columns
    return np.stack([number % 256, number // 256, 0 * number], axis=-1).astype(np.uint8)


def _isic2018(folder: Folder) -> None:
    people = _isic(folder).query("year == 'isic2018'")
    folder.pictures(
        "ISIC2018_Task3_Training_Input/" + people["image"] + ".jpg", _isic_pictures(folder, people)
    )
    # This challenge has no SCC, and calls AK with the carcinoma in situ AKIEC.
    diagnosis = people["diagnosis"].replace({"AK": "AKIEC", "SCC": "AKIEC"})
    hot = _one_hot(diagnosis, ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"))
    confirmed = np.where(
        folder.rng("confirmed").random(len(people)) < 0.6,
        "histopathology",
        "serial imaging showing no change",
    )
    truth = pd.concat([people["image"], hot], axis=1)
    lesions = people[["image", "lesion_id"]].assign(
        diagnosis_confirm_type=np.where(people["disease"], "histopathology", confirmed)
    )
    name = "ISIC2018_Task3_Training_GroundTruth"
    folder.table(f"{name}/{name}.csv", _copy_row(truth, image="ISIC_0034320"))
    folder.table(
        "ISIC2018_Task3_Training_LesionGroupings.csv", _copy_row(lesions, image="ISIC_0034320")
    )


def _isic2019(folder: Folder) -> None:
    people = _isic(folder).query("year != 'isic2020'").copy()
    smaller = (people["year"] == "isic2017") & (people.index % 5 == 0)
    people["image"] += np.where(smaller, "_downsampled", "")
    pictures = _isic_pictures(folder, people)
    for place in np.flatnonzero(smaller):
        pictures[place] = _resized(pictures[place], 0.8)
    images = "ISIC_2019_Training_Input/"
    folder.pictures(images + people["image"] + ".jpg", pictures)
    folder.pictures([images + "ISIC_0072999.jpg"], pictures[:1])  # a file without its row
    broken = "ISIC_0073000"
    folder.truncated(f"{images}{broken}.jpg", pictures[0])

    hot = _one_hot(
        people["diagnosis"], ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
    )
    sex = _words({True: "male", False: "female"}, people["male"], people["unknown_sex"])
    metadata = pd.DataFrame(
        {
            "image": people["image"],
            "age_approx": people["age"].astype(str).mask(people["unknown_age"], ""),
            "anatom_site_general": people["site"],
            "lesion_id": people["lesion_id"],
            "sex": sex,
        }
    )
    truth = pd.concat([people["image"], hot], axis=1)
    folder.table("ISIC_2019_Training_GroundTruth.csv", _copy_row(truth, image=broken))
    folder.table("ISIC_2019_Training_Metadata.csv", _copy_row(metadata, image=broken))


def _resized(picture: Bytes, factor: float) -> Bytes:
    """A smaller copy of a picture."""
    height, width = picture.shape[:2]
    size = (round(factor * width), round(factor * height))
    image = Image.fromarray(picture.squeeze()).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(size[1], size[0], -1)


def _reencoded(picture: Bytes) -> Bytes:
    """A copy that was stored as a JPEG of low quality."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=50)
    return np.asarray(Image.open(buffer))


def _isic2020(folder: Folder) -> None:
    people = _isic(folder).query("year == 'isic2020'").copy()
    copies = max(1, round(folder.settings.duplicates * len(people)))
    people["patient"] = people["patient"].map("IP_{:07d}".format)
    listed, unlisted = people.iloc[:copies].copy(), people.iloc[copies : 2 * copies].copy()
    listed["image"] = listed["image"].str.replace("ISIC_", "ISIC_8")
    unlisted["image"] = unlisted["image"].str.replace("ISIC_", "ISIC_9")
    unlisted["patient"] = unlisted["patient"].str.replace("IP_", "IP_9")
    unlisted.iloc[0, unlisted.columns.get_loc("disease")] = ~unlisted["disease"].iloc[0]
    saved_again = [
        _resized(picture, 0.9) if place % 2 else _reencoded(picture)
        for place, picture in enumerate(_isic_pictures(folder, unlisted))
    ]
    rows = pd.concat([people, listed, unlisted], ignore_index=True)
    again = draw(listed, "isic", folder.name, folder.settings, folder.seed, "again")
    pictures = _isic_pictures(folder, people) + again + saved_again
    folder.pictures("train/" + rows["image"] + ".jpg", pictures)
    folder.table(
        "ISIC_2020_Training_Duplicates.csv",
        pd.DataFrame(
            {
                "image_name_1": people["image"].iloc[:copies].to_numpy(),
                "image_name_2": listed["image"].to_numpy(),
            }
        ),
    )
    harmless = rows["diagnosis"].map({"NV": "nevus", "BKL": "seborrheic keratosis"})
    torso = rows["site"].replace({"anterior torso": "torso", "posterior torso": "torso"})
    truth = pd.DataFrame(
        {
            "image_name": rows["image"],
            "patient_id": rows["patient"],
            "lesion_id": rows["lesion"].map("IL_{:07d}".format),
            "sex": _words({True: "male", False: "female"}, rows["male"], rows["unknown_sex"]),
            "age_approx": rows["age"].astype(str).mask(rows["unknown_age"], ""),
            "anatom_site_general_challenge": torso,
            "diagnosis": harmless.fillna("unknown").mask(rows["disease"], "melanoma"),
            "benign_malignant": rows["disease"].map({True: "malignant", False: "benign"}),
            "target": rows["disease"].astype(int),
        }
    )
    truth = _copy_row(truth, image_name="ISIC_9999999", patient_id="IP_9999999")
    folder.table("ISIC_2020_Training_GroundTruth_v2.csv", truth)


# --- skin, test sets ------------------------------------------------------------------------------


def _skin(folder: Folder) -> pd.DataFrame:
    """The population of a skin test set."""
    size = _size(folder.settings, folder.name)
    correlation = folder.settings.test_correlation
    return skin_population(folder.name, size, correlation, folder.settings, folder.seed)


_FITZPATRICK_LABELS = (
    # label, nine_partition_label, three_partition_label
    ("melanoma", "malignant melanoma", "malignant"),
    ("superficial spreading melanoma ssm", "malignant melanoma", "malignant"),
    ("malignant melanoma", "malignant melanoma", "malignant"),
    ("psoriasis", "inflammatory", "non-neoplastic"),
    ("lichen planus", "inflammatory", "non-neoplastic"),
    ("photodermatoses", "inflammatory", "non-neoplastic"),
    ("syringoma", "benign dermal", "benign"),
    ("milia", "benign dermal", "benign"),
    ("seborrheic keratosis", "benign epidermal", "benign"),
    ("basal cell carcinoma", "malignant epidermal", "malignant"),
)


def _fitzpatrick17k(folder: Folder) -> None:
    leaks = _leaks(folder, folder.name)
    own = _skin(folder)
    people = pd.concat([own, leaks], ignore_index=True)
    total = len(people)
    rng = folder.rng("metadata")
    which = np.where(people["disease"], rng.integers(0, 3, total), rng.integers(3, 10, total))
    labels = np.array(_FITZPATRICK_LABELS)[which]
    unknown = folder.unknown("skin type", total)
    near = np.clip(people["fitzpatrick"] + rng.choice([-1, 0, 0, 1], total), 1, 6)
    hashes = [hashlib.md5(f"{folder.seed} {n}".encode()).hexdigest() for n in range(total + 2)]
    pages = [f"https://example.org/clinical-pic/{n:05d}.jpg" for n in range(total)]
    frame = pd.DataFrame(
        {
            "md5hash": hashes[:total],
            "fitzpatrick_scale": people["fitzpatrick"].mask(unknown, -1),
            "fitzpatrick_centaur": near.mask(folder.unknown("centaur", total, 2), -1),
            "label": labels[:, 0],
            "nine_partition_label": labels[:, 1],
            "three_partition_label": labels[:, 2],
            "qc": np.where(np.arange(total) < 2, "3 Wrongly labelled", ""),
            "url": pages,
            "url_alphanum": [f"httpsexampleorgclinicalpic{n:05d}jpg.jpg" for n in range(total)],
        }
    )
    frame.loc[frame.index % 100 == 50, "url"] = ""
    pictures = draw(own, folder.name, folder.name, folder.settings, folder.seed)
    pictures += [_resized(p, 0.9) for p in _isic_pictures(folder, leaks)]
    folder.pictures("images/" + frame["md5hash"] + ".jpg", pictures)
    folder.truncated(f"images/{hashes[total]}.jpg", pictures[0])
    frame = _copy_row(frame, md5hash=hashes[total])
    folder.table("fitzpatrick17k.csv", _copy_row(frame, md5hash=hashes[total + 1]))


def _ddi(folder: Folder) -> None:
    people = _skin(folder)
    total = len(people)
    rng = folder.rng("metadata")
    pair = np.array(["12", "12", "34", "34", "56", "56"])[people["fitzpatrick"] - 1]
    number = np.arange(1, total + 1) + (np.arange(total) >= 7)  # ids skip, such as 8
    disease = np.where(
        people["disease"],
        rng.choice(["melanoma", "melanoma-in-situ", "melanoma-acral-lentiginous"], total),
        rng.choice(["melanocytic-nevi", "seborrheic-keratosis", "dermatofibroma"], total),
    )
    frame = pd.DataFrame(
        {
            "DDI_ID": number,
            "DDI_file": [f"{n:06d}.png" for n in number],
            "skin_tone": pair,
            "malignant": people["disease"].map({True: "TRUE", False: "FALSE"}),
            "disease": disease,
        }
    )
    folder.pictures(
        frame["DDI_file"], draw(people, folder.name, folder.name, folder.settings, folder.seed)
    )
    lost = total + 2
    frame = _copy_row(frame, DDI_ID=lost, DDI_file=f"{lost:06d}.png")
    folder.table("ddi_metadata.csv", frame, index=True)


_ATLAS_SIGNS = (
    # column, points, words of a melanoma that earns them, other words
    ("pigment_network", 2, ("atypical",), ("absent", "typical")),
    ("streaks", 1, ("irregular",), ("absent", "regular")),
    ("pigmentation", 1, ("diffuse irregular",), ("absent", "diffuse regular")),
    ("regression_structures", 1, ("blue areas", "white areas"), ("absent",)),
    ("dots_and_globules", 1, ("irregular",), ("absent", "regular")),
    ("blue_whitish_veil", 2, ("present",), ("absent",)),
    ("vascular_structures", 2, ("dotted", "linear irregular"), ("absent", "comma")),
)
_ATLAS_MELANOMA = (
    "melanoma",
    "melanoma (in situ)",
    "melanoma (less than 0.76 mm)",
    "melanoma (0.76 to 1.5 mm)",
    "melanoma (more than 1.5 mm)",
    "melanoma metastasis",
)
_ATLAS_OTHER = ("clark nevus", "blue nevus", "seborrheic keratosis", "dermal nevus", "melanosis")


def _atlas(folder: Folder) -> None:
    leaks = _leaks(folder, folder.name)
    own = _skin(folder)
    people = pd.concat([own, leaks], ignore_index=True)
    total = len(people)
    rng = folder.rng("metadata")
    disease = people["disease"]
    frame = pd.DataFrame({"case_num": np.arange(1, total + 1)})
    frame["diagnosis"] = np.where(
        disease, rng.choice(_ATLAS_MELANOMA, total), rng.choice(_ATLAS_OTHER, total)
    )
    frame["seven_point_score"] = 0
    for column, points, bad, good in _ATLAS_SIGNS:
        earned = rng.random(total) < np.where(disease, 0.55, 0.12)
        frame[column] = np.where(earned, rng.choice(bad, total), rng.choice(good, total))
        frame["seven_point_score"] += points * earned
    frame["level_of_diagnostic_difficulty"] = rng.choice(["low", "medium", "high"], total)
    frame["elevation"] = rng.choice(["flat", "palpable", "nodular"], total)
    frame["location"] = np.where(people["male"], "back", "lower limbs")
    frame["sex"] = people["male"].map({True: "male", False: "female"})
    frame["management"] = np.where(disease, "excision", "clinical follow up")
    # The release mixes letter case, and so do these names.
    frame["clinic"] = [f"NEL/NEL{2 * n:03d}.JPG" for n in frame["case_num"]]
    frame["derm"] = [f"NEL/Nel{2 * n + 1:03d}.jpg" for n in frame["case_num"]]
    frame["case_id"] = ""
    frame["notes"] = ""

    images = "release_v0/images/"
    derm = draw(own, folder.name, "atlas", folder.settings, folder.seed)
    derm += [_resized(p, 1.25) for p in _isic_pictures(folder, leaks)]
    clinic = draw(people, folder.name, "atlas_clinic", folder.settings, folder.seed, "clinic")
    folder.pictures(images + frame["derm"], derm)
    folder.pictures(images + frame["clinic"], clinic)
    folder.pictures([images + "NEL/NEL000.JPG"], clinic[:1])  # a file without its row
    lost = {"case_num": total + 1, "clinic": "NEL/NEL998.JPG", "derm": "NEL/Nel999.jpg"}
    frame = _copy_row(frame, **lost)
    folder.table("release_v0/meta/meta.csv", frame)
    turn = rng.permutation(len(frame))
    for split, part in zip(("train", "valid", "test"), np.array_split(turn, 3), strict=True):
        indexes = pd.DataFrame({"indexes": np.sort(part)})
        folder.table(f"release_v0/meta/{split}_indexes.csv", indexes)


def _pad_ufes_20(folder: Folder) -> None:
    people = _skin(folder)
    total = len(people)
    rng = folder.rng("metadata")
    # Whoever was not interviewed has no gender, no skin type and none of the other answers.
    silent = folder.unknown("interview", total, 2)

    def answers(words: Sequence[str], missing: npt.NDArray[np.bool_] = silent) -> Any:
        return np.where(missing, "", rng.choice(words, total))

    patient, lesion = people["patient"] + 1, people["lesion"] + 1
    boolean, unsure = ("True", "False"), ("True", "False", "False", "UNK")
    nobody = np.zeros(total, dtype=bool)
    image = [f"PAT_{p}_{q}_{n + 100}.png" for p, q, n in zip(patient, lesion, range(total), strict=True)]
    frame = pd.DataFrame(
        {
            "patient_id": patient.map("PAT_{}".format),
            "lesion_id": lesion,
            "smoke": answers(boolean),
            "drink": answers(boolean),
            "background_father": answers(("POMERANIA", "GERMANY", "ITALY", "UNK")),
            "background_mother": answers(("POMERANIA", "GERMANY", "ITALY", "UNK")),
            "age": people["age"],
            "pesticide": answers(boolean),
            "gender": _words({True: "MALE", False: "FEMALE"}, people["male"], silent),
            "skin_cancer_history": answers(boolean),
            "cancer_history": answers(boolean),
            "has_piped_water": answers(boolean),
            "has_sewage_system": answers(boolean),
            "fitspatrick": people["fitzpatrick"].astype(float).astype(str).mask(silent, ""),
            "region": answers(("FACE", "FOREARM", "CHEST", "BACK", "ARM"), nobody),
            "diameter_1": answers(("6.0", "8.0", "10.0")),
            "diameter_2": answers(("4.0", "5.0", "7.0")),
            "diagnostic": np.where(
                people["disease"], "MEL", rng.choice(["NEV", "SEK", "ACK", "BCC", "SCC"], total)
            ),
            "itch": answers(unsure, nobody),
            "grew": answers(unsure, nobody),
            "hurt": answers(unsure, nobody),
            "changed": answers(unsure, nobody),
            "bleed": answers(unsure, nobody),
            "elevation": answers(unsure, nobody),
            "img_id": image,
            "biopsed": np.where(people["disease"] | (rng.random(total) < 0.5), "True", "False"),
        }
    )
    part = 1 + np.arange(total) * 3 // total
    paths = [f"images/imgs_part_{p}/{i}" for p, i in zip(part, image, strict=True)]
    pictures = draw(people, folder.name, folder.name, folder.settings, folder.seed)
    folder.pictures(paths, pictures)
    folder.pictures(["images/imgs_part_3/PAT_0_0_99.png"], pictures[:1])  # without its row
    folder.table("metadata.csv", _copy_row(frame, img_id="PAT_9999_9999_999.png"))


# --- chest ----------------------------------------------------------------------------------------


def _chest(folder: Folder, correlation: float) -> pd.DataFrame:
    """The population of an X-ray set: the usable images, then those outside the task."""
    size = _size(folder.settings, folder.name)
    return chest_population(folder.name, size, correlation, folder.settings, folder.seed)


def _laterals(folder: Folder, people: pd.DataFrame) -> pd.DataFrame:
    """The rows of which there is a lateral view as well."""
    return people[folder.unknown("laterals", len(people), 1.5)]


def _chest_labels(folder: Folder, people: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The labeler's output: 1.0, 0.0, -1.0 (uncertain) or empty."""
    rng = folder.rng("labels")
    total = len(people)
    labels = pd.DataFrame(np.nan, index=people.index, columns=list(columns))
    finding = people["finding"]
    labels.loc[finding == "none", "No Finding"] = 1.0
    denied = (finding != "pneumothorax") & (rng.random(total) < 0.3)
    labels.loc[denied, "Pneumothorax"] = 0.0
    labels.loc[finding == "pneumothorax", "Pneumothorax"] = 1.0
    labels.loc[finding == "uncertain", "Pneumothorax"] = -1.0
    labels.loc[finding == "effusion", "Pleural Effusion"] = 1.0
    also = finding == "pneumothorax"
    for name in ("Lung Opacity", "Pleural Effusion", "Atelectasis"):
        labels.loc[also & (rng.random(total) < 0.15), name] = rng.choice([1.0, -1.0])
    labels.loc[rng.random(total) < 0.3, "Support Devices"] = 1.0
    return labels


def _mimic_cxr(folder: Folder) -> None:
    people = _chest(folder, folder.settings.correlation)
    subject, study = 10_000_032 + 97 * people["patient"], 50_000_014 + 31 * people.index
    rng = folder.rng("metadata")
    frontal = pd.DataFrame({"subject_id": subject, "study_id": study})
    frontal["ViewPosition"] = np.where(rng.random(len(people)) < 0.5, "PA", "AP")
    side = _laterals(folder, people)
    lateral = frontal.loc[side.index].assign(
        ViewPosition=np.where(side.index % 2 == 0, "LATERAL", "LL")
    )
    nameless = frontal.iloc[-1:].assign(ViewPosition="")
    pictures = draw(people, folder.name, folder.name, folder.settings, folder.seed)
    pictures += draw(side, folder.name, folder.name, folder.settings, folder.seed, "lateral")
    pictures += draw(
        people.iloc[-1:], folder.name, folder.name, folder.settings, folder.seed, "nameless"
    )
    rows = pd.concat([frontal, lateral, nameless], ignore_index=True)
    ids = [hashlib.sha1(f"{folder.seed} {n}".encode()).hexdigest() for n in range(len(rows) + 3)]
    ids = ["-".join(i[start : start + 8] for start in range(0, 40, 8)) for i in ids]
    rows.insert(0, "dicom_id", ids[: len(rows)])

    def path(row: Any) -> str:
        return f"files/p{str(row.subject_id)[:2]}/p{row.subject_id}/s{row.study_id}/{row.dicom_id}.jpg"

    folder.pictures((path(row) for row in rows.itertuples()), pictures)
    total = len(rows)
    rows = _copy_row(rows, dicom_id=ids[total], ViewPosition="PA")
    folder.truncated(path(rows.iloc[-1]), pictures[0])
    folder.pictures([path(rows.iloc[-1].replace(ids[total], ids[total + 1]))], pictures[:1])
    rows = _copy_row(rows, dicom_id=ids[total + 2])
    _mimic_tables(folder, people, rows)


def _mimic_tables(folder: Folder, people: pd.DataFrame, rows: pd.DataFrame) -> None:
    """MIMIC-CXR's tables about `rows` (images), and MIMIC-IV's about the patients."""
    rng = folder.rng("tables")
    total = len(rows)
    lateral = rows["ViewPosition"].isin(("LATERAL", "LL"))
    metadata = pd.DataFrame(
        {
            "dicom_id": rows["dicom_id"],
            "subject_id": rows["subject_id"],
            "study_id": rows["study_id"],
            "PerformedProcedureStepDescription": np.where(
                rows["ViewPosition"] == "AP", "CHEST (PORTABLE AP)", "CHEST (PA AND LAT)"
            ),
            "ViewPosition": rows["ViewPosition"],
            "Rows": 3056,
            "Columns": 2544,
            "StudyDate": 21_800_000 + 100 * rng.integers(1, 13, total) + rng.integers(1, 29, total),
            "StudyTime": (80_000 + rng.integers(0, 5000, total) / 1000).round(3),
            "ProcedureCodeSequence_CodeMeaning": "CHEST (PA AND LAT)",
            "ViewCodeSequence_CodeMeaning": np.where(lateral, "lateral", "postero-anterior"),
            "PatientOrientationCodeSequence_CodeMeaning": "Erect",
        }
    )
    folder.table("mimic-cxr-2.0.0-metadata.csv.gz", metadata)
    split = rng.choice(["train", "validate", "test"], total, p=[0.94, 0.03, 0.03])
    folder.table(
        "mimic-cxr-2.0.0-split.csv.gz",
        rows[["dicom_id", "study_id", "subject_id"]].assign(split=split),
    )
    studies = rows[["subject_id", "study_id"]].drop_duplicates(ignore_index=True)
    labels = pd.concat([studies, _chest_labels(folder, people, _FINDINGS)], axis=1)
    folder.table("mimic-cxr-2.0.0-chexpert.csv.gz", labels)
    # The other labeler doubts one pneumothorax.
    first = labels.index[labels["Pneumothorax"] == 1.0][0]
    labels.loc[first, "Pneumothorax"] = -1.0
    folder.table("mimic-cxr-2.0.0-negbio.csv.gz", labels)

    patients = people.drop_duplicates("patient", ignore_index=True)
    subjects = 10_000_032 + 97 * patients["patient"]
    table = pd.DataFrame(
        {
            "subject_id": subjects,
            "gender": patients["male"].map({True: "M", False: "F"}),
            "anchor_age": patients["age"].where(patients["age"] < 90, 91),
            "anchor_year": 2180,
            "anchor_year_group": "2011 - 2013",
            "dod": "",
        }
    )
    # MIMIC-IV does not list every patient of MIMIC-CXR.
    listed = ~folder.unknown("patients", len(table))
    folder.table("hosp/patients.csv.gz", table[listed])


def _chexpert(folder: Folder) -> None:
    people = _chest(folder, folder.settings.test_correlation)
    columns = (
        "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,"
        "Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,"
        "Support Devices"
    ).split(",")
    rng = folder.rng("metadata")
    study = people.groupby("patient").cumcount() + 1
    held_out = people["patient"] % 40 == 0
    part = np.where(held_out, "valid", "train")
    number = people["patient"] + np.where(held_out, 64541, 1)
    start = "CheXpert-v1.0-small/" + part + number.map("/patient{:05d}".format)
    frame = pd.DataFrame({"Path": start + study.map("/study{}/view1_frontal.jpg".format)})
    frame["Sex"] = people["male"].map({True: "Male", False: "Female"})
    frame["Age"] = people["age"].clip(upper=90).mask(folder.unknown("age", len(people)), 0)
    frame["Frontal/Lateral"] = "Frontal"
    frame["AP/PA"] = np.where(rng.random(len(people)) < 0.79, "AP", "PA")
    frame.loc[people.index[0], "Sex"] = "Unknown"
    frame = pd.concat([frame, _chest_labels(folder, people, columns)], axis=1)

    side = _laterals(folder, people)
    lateral = frame.loc[side.index].copy()
    lateral["Path"] = lateral["Path"].str.replace("view1_frontal", "view2_lateral")
    lateral["Frontal/Lateral"], lateral["AP/PA"] = "Lateral", ""
    pictures = draw(people, folder.name, folder.name, folder.settings, folder.seed)
    pictures += draw(side, folder.name, folder.name, folder.settings, folder.seed, "lateral")
    rows = pd.concat([frame, lateral], ignore_index=True)
    folder.pictures(rows["Path"], pictures)
    stray = "CheXpert-v1.0-small/train/patient64540/study1/view1_frontal.jpg"
    folder.pictures([stray], pictures[:1])  # a file without its row
    rows = _copy_row(rows, Path=stray.replace("64540", "64539"))  # a row without its file
    in_valid = rows["Path"].str.contains("/valid/")
    folder.table("CheXpert-v1.0-small/train.csv", rows[~in_valid])
    # Radiologists read the held-out part: every label is given.
    valid = rows[in_valid].copy()
    valid[columns] = valid[columns].fillna(0.0)
    folder.table("CheXpert-v1.0-small/valid.csv", valid)


def _nih(folder: Folder) -> None:
    people = _chest(folder, folder.settings.test_correlation)
    total = len(people)
    rng = folder.rng("metadata")
    follow_up = people.groupby("patient").cumcount()
    patient = people["patient"] + 1
    both = np.where(rng.random(total) < 0.3, "Effusion|Pneumothorax", "Pneumothorax")
    labels = people["finding"].map({"none": "No Finding", "effusion": "Effusion"})
    labels = labels.fillna("Infiltration").mask(people["finding"] == "pneumothorax", both)
    name = [f"{p:08d}_{f:03d}.png" for p, f in zip(patient, follow_up, strict=True)]
    frame = pd.DataFrame(
        {
            "Image Index": name,
            "Finding Labels": labels,
            "Follow-up #": follow_up,
            "Patient ID": patient,
            "Patient Age": people["age"],
            "Patient Gender": people["male"].map({True: "M", False: "F"}),
            "View Position": np.where(rng.random(total) < 0.6, "PA", "AP"),
            "OriginalImage[Width": 2500,
            "Height]": 2048,
            "OriginalImagePixelSpacing[x": 0.168,
            "y]": 0.168,
        }
    )
    pictures = draw(people, folder.name, folder.name, folder.settings, folder.seed)
    for place in (1, 2):  # a few of the release are RGBA
        grey = pictures[place]
        pictures[place] = np.concatenate([grey, grey, grey, np.full_like(grey, 255)], axis=-1)
    folder.pictures([f"images/{image}" for image in name], pictures)
    folder.pictures(["images/00030805_000.png"], pictures[:1])  # a file without its row
    frame = _copy_row(frame, **{"Image Index": "00030804_000.png", "Patient ID": 30804})
    folder.table("Data_Entry_2017_v2020.csv", frame)


_WRITERS: dict[str, Callable[[Folder], None]] = {
    "isic2017": _isic2017,
    "isic2018": _isic2018,
    "isic2019": _isic2019,
    "isic2020": _isic2020,
    "fitzpatrick17k": _fitzpatrick17k,
    "ddi": _ddi,
    "atlas": _atlas,
    "pad_ufes_20": _pad_ufes_20,
    "mimic_cxr": _mimic_cxr,
    "chexpert": _chexpert,
    "nih": _nih,
}
