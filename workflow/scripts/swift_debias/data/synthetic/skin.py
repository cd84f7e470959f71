"""Raw folders of the test sets of skin lesions."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pandas as pd

from .drawing import Bytes
from .folder import Folder, one_more_row, resized, words
from .isic import leaks, pictures_of
from .population import draw, skin_population

_FITZPATRICK_LABELS = (
    # label, nine_partition_label, three_partition_label; the first three are melanomas
    ("melanoma", "malignant melanoma", "malignant"),
    ("superficial spreading melanoma ssm", "malignant melanoma", "malignant"),
    ("malignant melanoma", "malignant melanoma", "malignant"),
    ("psoriasis", "inflammatory", "non-neoplastic"),
    ("lichen planus", "inflammatory", "non-neoplastic"),
    ("photodermatoses", "inflammatory", "non-neoplastic"),
    ("syringoma", "benign dermal", "benign"),
    ("milia", "benign dermal", "benign"),
    ("porokeratosis actinic", "benign epidermal", "benign"),
    ("basal cell carcinoma", "malignant epidermal", "malignant"),
)
_ATLAS_SIGNS = (
    # column of the seven-point checklist, points, words that earn them, other words
    ("pigment_network", 2, ("atypical",), ("absent", "typical")),
    ("streaks", 1, ("irregular",), ("absent", "regular")),
    (
        "pigmentation",
        1,
        ("diffuse irregular", "localized irregular"),
        ("absent", "diffuse regular"),
    ),
    ("regression_structures", 1, ("blue areas", "white areas", "combinations"), ("absent",)),
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


def _people(folder: Folder) -> pd.DataFrame:
    """The population of the test set."""
    correlation = folder.settings.test_correlation
    return skin_population(folder.name, [folder.size()], correlation, folder.settings, folder.seed)


def _draw(folder: Folder, people: pd.DataFrame) -> list[Bytes]:
    """Pictures by the test set's own camera."""
    return draw(people, folder.name, folder.name, folder.settings, folder.seed)


def write_fitzpatrick17k(folder: Folder) -> None:
    """Fitzpatrick-17k: unknown types are -1; some rows have no url, two are wrongly labelled."""
    own, leaked = _people(folder), leaks(folder)
    people = pd.concat([own, leaked], ignore_index=True)
    total = len(people)
    rng = folder.rng("metadata")
    kind = np.where(people["disease"], rng.integers(0, 3, total), rng.integers(3, 10, total))
    labels = np.array(_FITZPATRICK_LABELS)[kind]
    second_opinion = np.clip(people["fitzpatrick"] + rng.choice([-1, 0, 0, 1], total), 1, 6)
    hashes = [hashlib.md5(f"{folder.seed} {n}".encode()).hexdigest() for n in range(total + 2)]
    number = [f"{n:05d}" for n in range(total)]
    frame = pd.DataFrame(
        {
            "md5hash": hashes[:total],
            "fitzpatrick_scale": people["fitzpatrick"].mask(folder.some("type", total), -1),
            "fitzpatrick_centaur": second_opinion.mask(folder.some("centaur", total, 2), -1),
            "label": labels[:, 0],
            "nine_partition_label": labels[:, 1],
            "three_partition_label": labels[:, 2],
            "qc": np.where(np.isin(np.arange(total), (1, 2)), "3 Wrongly labelled", ""),
            "url": [f"https://example.org/clinical-pic/{n}.jpg" for n in number],
            "url_alphanum": [f"httpsexampleorgclinicalpic{n}jpg.jpg" for n in number],
        }
    )
    frame.loc[frame.index % 100 == 50, "url"] = ""
    pictures = _draw(folder, own) + [resized(p, 1.25) for p in pictures_of(folder, leaked)]
    folder.pictures("images/" + frame["md5hash"] + ".jpg", pictures)
    folder.truncated(f"images/{hashes[total]}.jpg", pictures[0])
    for name in hashes[total:]:  # the truncated one, and one without its file
        frame = one_more_row(frame, md5hash=name)
    folder.table("fitzpatrick17k.csv", frame)


def write_ddi(folder: Folder) -> None:
    """DDI: pairs of skin types, ids with gaps, neither sex nor age."""
    people = _people(folder)
    total = len(people)
    rng = folder.rng("metadata")
    number = np.arange(1, total + 1) + (np.arange(total) >= 7)  # there is no 8
    disease = np.where(
        people["disease"],
        rng.choice(["melanoma", "melanoma-in-situ", "melanoma-acral-lentiginous"], total),
        rng.choice(["melanocytic-nevi", "seborrheic-keratosis", "dermatofibroma"], total),
    )
    frame = pd.DataFrame(
        {
            "DDI_ID": number,
            "DDI_file": [f"{n:06d}.png" for n in number],
            "skin_tone": np.array(["12", "12", "34", "34", "56", "56"])[people["fitzpatrick"] - 1],
            "malignant": words(people["disease"], "TRUE", "FALSE"),
            "disease": disease,
        }
    )
    folder.pictures(frame["DDI_file"], _draw(folder, people))
    frame = one_more_row(frame, DDI_ID=total + 2, DDI_file=f"{total + 2:06d}.png")
    folder.table("ddi_metadata.csv", frame, index=True)


def write_atlas(folder: Folder) -> None:
    """The Atlas (derm7pt): of each case a dermoscopic and a clinical picture."""
    own, leaked = _people(folder), leaks(folder)
    people = pd.concat([own, leaked], ignore_index=True)
    total = len(people)
    rng = folder.rng("metadata")
    disease = people["disease"]
    diagnosis = np.where(
        disease, rng.choice(_ATLAS_MELANOMA, total), rng.choice(_ATLAS_OTHER, total)
    )
    frame = pd.DataFrame(
        {"case_num": np.arange(1, total + 1), "diagnosis": diagnosis, "seven_point_score": 0}
    )
    for column, points, bad, good in _ATLAS_SIGNS:
        earned = rng.random(total) < np.where(disease, 0.55, 0.12)
        frame[column] = np.where(earned, rng.choice(bad, total), rng.choice(good, total))
        frame["seven_point_score"] += points * earned
    frame["level_of_diagnostic_difficulty"] = rng.choice(["low", "medium", "high"], total)
    frame["elevation"] = rng.choice(["flat", "palpable", "nodular"], total)
    frame["location"] = words(people["male"], "back", "lower limbs")
    frame["sex"] = words(people["male"], "male", "female")
    frame["management"] = words(disease, "excision", "clinical follow up")
    # The release mixes letter case, and so do these names.
    frame["clinic"] = [f"NEL/NEL{2 * case:03d}.JPG" for case in frame["case_num"]]
    frame["derm"] = [f"NEL/Nel{2 * case + 1:03d}.jpg" for case in frame["case_num"]]
    frame[["case_id", "notes"]] = ""

    derm = _draw(folder, own) + [resized(p, 1.2) for p in pictures_of(folder, leaked)]
    clinic = draw(people, folder.name, "atlas_clinic", folder.settings, folder.seed, "clinic")
    images = "release_v0/images/"
    folder.pictures(images + frame["derm"], derm)
    folder.pictures(images + frame["clinic"], clinic)
    folder.pictures([images + "NEL/NEL000.JPG"], clinic[:1])  # a file without its row
    lost = {"case_num": total + 1, "clinic": "NEL/Lost1.jpg", "derm": "NEL/Lost2.jpg"}
    frame = one_more_row(frame, **lost)
    folder.table("release_v0/meta/meta.csv", frame)
    parts = np.array_split(rng.permutation(len(frame)), 3)
    for split, part in zip(("train", "valid", "test"), parts, strict=True):
        indexes = pd.DataFrame({"indexes": np.sort(part)})
        folder.table(f"release_v0/meta/{split}_indexes.csv", indexes)


def write_pad_ufes_20(folder: Folder) -> None:
    """PAD-UFES-20: whoever was not interviewed has no gender, no skin type, no other answer."""
    people = _people(folder)
    total = len(people)
    rng = folder.rng("metadata")
    silent = folder.some("interview", total, 2)

    def answers(*choices: str, interview: bool = True) -> npt.NDArray[np.object_]:
        missing = silent if interview else np.zeros(total, dtype=bool)
        return np.where(missing, "", rng.choice(choices, total)).astype(object)

    def signs() -> npt.NDArray[np.object_]:
        return answers("True", "False", "False", "UNK", interview=False)

    patient, lesion = people["patient"] + 1, people["lesion"] + 1
    origins = ("POMERANIA", "GERMANY", "ITALY", "UNK")
    kinds = rng.choice(["NEV", "SEK", "ACK", "BCC", "SCC"], total)
    image = pd.Series(
        [f"PAT_{p}_{q}_{n + 100}.png" for n, (p, q) in enumerate(zip(patient, lesion, strict=True))]
    )
    frame = pd.DataFrame(
        {
            "patient_id": patient.map("PAT_{}".format),
            "lesion_id": lesion,
            "smoke": answers("True", "False"),
            "drink": answers("True", "False"),
            "background_father": answers(*origins),
            "background_mother": answers(*origins),
            "age": people["age"],
            "pesticide": answers("True", "False"),
            "gender": words(people["male"], "MALE", "FEMALE", silent),
            "skin_cancer_history": answers("True", "False"),
            "cancer_history": answers("True", "False"),
            "has_piped_water": answers("True", "False"),
            "has_sewage_system": answers("True", "False"),
            "fitspatrick": people["fitzpatrick"].astype(float).mask(silent),
            "region": answers("FACE", "FOREARM", "CHEST", "BACK", "ARM", interview=False),
            "diameter_1": answers("6.0", "8.0", "10.0"),
            "diameter_2": answers("4.0", "5.0", "7.0"),
            "diagnostic": np.where(people["disease"], "MEL", kinds),
            **{name: signs() for name in ("itch", "grew", "hurt", "changed", "bleed", "elevation")},
            "img_id": image,
            "biopsed": words(people["disease"] | (rng.random(total) < 0.5), "True", "False"),
        }
    )
    part = pd.Series(1 + np.arange(total) * 3 // total).map("images/imgs_part_{}/".format)
    pictures = _draw(folder, people)
    folder.pictures(part + image, pictures)
    folder.pictures(["images/imgs_part_3/PAT_0_0_99.png"], pictures[:1])  # without its row
    frame = one_more_row(frame, img_id="PAT_9999_9999_999.png")
    folder.table("metadata.csv", frame)
