"""The demo's raw folders: official layouts, the causal story, and the dirt."""

from __future__ import annotations

import gzip
import itertools
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.real import METADATA

from swift_debias.config import schema
from swift_debias.config.schema import Synthetic
from swift_debias.data import adapters, manifest, raw_files, synthetic
from swift_debias.data.rows import NO_FILE
from swift_debias.data.synthetic import drawing, isic, population
from swift_debias.errors import UserError

LIBRARY = Path(schema.__file__).parents[2]
SEED = 3
SIZES = {
    "isic2017": 40,
    "isic2018": 50,
    "isic2019": 130,
    "isic2020": 100,
    "fitzpatrick17k": 100,
    "ddi": 60,
    "atlas": 40,
    "pad_ufes_20": 60,
    "mimic_cxr": 100,
    "chexpert": 100,
    "nih": 60,
}
SMALL = Synthetic(images=SIZES, size=48, unknown=0.1, duplicates=0.05)
COPIES = 5  # 5 % of 100

FINDINGS = (
    "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,"
    "Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)
LABELS = r"(-?[01]\.0)?(,(-?[01]\.0)?){13}"
DICOM = r"[0-9a-f]{8}(-[0-9a-f]{8}){4}"

# data set, table, its official header, and the form of its rows as the real files have it
TABLES = [
    (
        "isic2017",
        "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv",
        "image_id,age_approximate,sex",
        r"ISIC_\d{7},(\d*[05]|unknown),(female|male|unknown)",
    ),
    (
        "isic2017",
        "ISIC-2017_Training_Part3_GroundTruth.csv",
        "image_id,melanoma,seborrheic_keratosis",
        r"ISIC_\d{7},[01]\.0,[01]\.0",
    ),
    (
        "isic2018",
        "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv",
        "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC",
        r"ISIC_00[23]\d{4}(,[01]\.0){7}",
    ),
    (
        "isic2018",
        "ISIC2018_Task3_Training_LesionGroupings.csv",
        "image,lesion_id,diagnosis_confirm_type",
        r"ISIC_00[23]\d{4},HAM_\d{7},(histopathology|serial imaging showing no change)",
    ),
    (
        "isic2019",
        "ISIC_2019_Training_GroundTruth.csv",
        "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK",
        r"ISIC_\d{7}(_downsampled)?(,[01]\.0){8},0\.0",
    ),
    (
        "isic2019",
        "ISIC_2019_Training_Metadata.csv",
        "image,age_approx,anatom_site_general,lesion_id,sex",
        r"ISIC_\d{7}(_downsampled)?,(\d*[05])?,[a-z ]*,((HAM|BCN)_\d{7})?,(female|male)?",
    ),
    (
        "isic2020",
        "ISIC_2020_Training_GroundTruth_v2.csv",
        "image_name,patient_id,lesion_id,sex,age_approx,anatom_site_general_challenge,diagnosis,"
        "benign_malignant,target",
        r"ISIC_\d{7},IP_\d{7},IL_\d{7},(female|male)?,(\d*[05])?,(torso|(upper|lower) extremity)?,"
        r"(melanoma,malignant,1|(unknown|nevus|seborrheic keratosis),benign,0)",
    ),
    (
        "isic2020",
        "ISIC_2020_Training_Duplicates.csv",
        "image_name_1,image_name_2",
        r"ISIC_\d{7},ISIC_\d{7}",
    ),
    (
        "fitzpatrick17k",
        "fitzpatrick17k.csv",
        "md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,nine_partition_label,"
        "three_partition_label,qc,url,url_alphanum",
        r"[0-9a-f]{32},([1-6]|-1),([1-6]|-1),[a-z ]+,[a-z ]+,(malignant|benign|non-neoplastic),"
        r"(3 Wrongly labelled)?,(https://\S+\.jpg)?,\w+\.jpg",
    ),
    (
        "ddi",
        "ddi_metadata.csv",
        ",DDI_ID,DDI_file,skin_tone,malignant,disease",
        r"\d+,\d+,\d{6}\.png,(12|34|56),(TRUE,melanoma[a-z-]*|FALSE,[a-z-]+)",
    ),
    (
        "atlas",
        "release_v0/meta/meta.csv",
        "case_num,diagnosis,seven_point_score,pigment_network,streaks,pigmentation,"
        "regression_structures,dots_and_globules,blue_whitish_veil,vascular_structures,"
        "level_of_diagnostic_difficulty,elevation,location,sex,management,clinic,derm,case_id,notes",
        r"\d+,[a-z0-9(). ]+,\d+(,[a-z ]+){7},(low|medium|high),(flat|palpable|nodular),"
        r"(back|lower limbs),(female|male),(excision|clinical follow up)(,NEL/\w+\.(JPG|jpg)){2},,",
    ),
    ("atlas", "release_v0/meta/train_indexes.csv", "indexes", r"\d+"),
    (
        "pad_ufes_20",
        "metadata.csv",
        "patient_id,lesion_id,smoke,drink,background_father,background_mother,age,pesticide,gender,"
        "skin_cancer_history,cancer_history,has_piped_water,has_sewage_system,fitspatrick,region,"
        "diameter_1,diameter_2,diagnostic,itch,grew,hurt,changed,bleed,elevation,img_id,biopsed",
        r"PAT_\d+,\d+(,(True|False)?){2}(,[A-Z]*){2},\d+,(True|False)?,((FE)?MALE)?"
        r"(,(True|False)?){4},([1-6]\.0)?,[A-Z]+(,(\d+\.0)?){2},(MEL|NEV|SEK|ACK|BCC|SCC)"
        r"(,(True|False|UNK)){6},PAT_\d+_\d+_\d+\.png,(True|False)",
    ),
    (
        "mimic_cxr",
        "mimic-cxr-2.0.0-metadata.csv.gz",
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,"
        "StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
        "PatientOrientationCodeSequence_CodeMeaning",
        DICOM + r",1\d{7},5\d{7},[A-Z ()]+,(PA|AP|LATERAL|LL)?,3056,2544,\d{8},\d+\.\d+,.*,Erect",
    ),
    (
        "mimic_cxr",
        "mimic-cxr-2.0.0-chexpert.csv.gz",
        f"subject_id,study_id,{FINDINGS}",
        r"1\d{7},5\d{7}," + LABELS,
    ),
    (
        "mimic_cxr",
        "mimic-cxr-2.0.0-negbio.csv.gz",
        f"subject_id,study_id,{FINDINGS}",
        r"1\d{7},5\d{7}," + LABELS,
    ),
    (
        "mimic_cxr",
        "mimic-cxr-2.0.0-split.csv.gz",
        "dicom_id,study_id,subject_id,split",
        DICOM + r",5\d{7},1\d{7},(train|validate|test)",
    ),
    (
        "mimic_cxr",
        "hosp/patients.csv.gz",
        "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
        r"1\d{7},[FM],\d+,\d{4},\d{4} - \d{4},",
    ),
    *(
        (
            "chexpert",
            f"CheXpert-v1.0-small/{part}.csv",
            "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,"
            "Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,"
            "Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices",
            rf"CheXpert-v1.0-small/{part}/patient\d{{5}}/study\d/view\d_(frontal|lateral).jpg,"
            r"(Male|Female|Unknown),\d+,(Frontal,(AP|PA)|Lateral,)," + LABELS,
        )
        for part in ("train", "valid")
    ),
    (
        "nih",
        "Data_Entry_2017_v2020.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]",
        r"\d{8}_\d{3}\.png,[A-Za-z |]+,\d+,\d+,\d+,[MF],(PA|AP),2500,2048,0\.168,0\.168",
    ),
]
# official header -> the real table that has it
REAL_TABLES = {
    "ISIC-2017_Training_Data_metadata.csv": "isic/ISIC-2017_Training_Data_metadata.csv",
    "ISIC-2017_Training_Part3_GroundTruth.csv": "isic/ISIC-2017_Training_Part3_GroundTruth.csv",
    "ISIC2018_Task3_Training_GroundTruth.csv": "isic/ISIC2018_Task3_Training_GroundTruth.csv",
    "ISIC2018_Task3_Training_LesionGroupings.csv": (
        "isic/ISIC2018_Task3_Training_LesionGroupings.csv"
    ),
    "ISIC_2019_Training_GroundTruth.csv": "isic/ISIC_2019_Training_GroundTruth.csv",
    "ISIC_2019_Training_Metadata.csv": "isic/ISIC_2019_Training_Metadata.csv",
    "ISIC_2020_Training_GroundTruth_v2.csv": "isic/ISIC_2020_Training_GroundTruth_v2.csv",
    "ISIC_2020_Training_Duplicates.csv": "isic/ISIC_2020_Training_Duplicates.csv",
    "fitzpatrick17k.csv": "fitzpatrick17k/fitzpatrick17k.csv",
    "meta.csv": "derm7pt/meta.csv",
    "train_indexes.csv": "derm7pt/train_indexes.csv",
    "metadata.csv": "pad_ufes_20/metadata.csv",
    "Data_Entry_2017_v2020.csv": "nih/Data_Entry_2017_v2020.csv.gz",
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All eleven raw folders, small."""
    base = tmp_path_factory.mktemp("raw")
    for name in SIZES:
        synthetic.write(name, SMALL, SEED, base / name)
    return {name: base / name for name in SIZES}


def lines(path: Path) -> list[str]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return text.decode().splitlines()


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def images(root: Path) -> Iterator[Path]:
    return (p for p in sorted(root.rglob("*")) if p.suffix.lower() in (".jpg", ".png"))


def read(roots: dict[str, Path], name: str) -> manifest.ManifestResult:
    options = adapters.make_options({"adapter": name, "root": str(roots[name])})
    return adapters.read(options, Path("/"))


def counts(log: dict[str, object], key: str, value: str) -> dict[str, int]:
    return {entry[key]: entry[value] for entry in log[f"{key}s"] if entry[value]}  # type: ignore[attr-defined]


# --- layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "table", "header", "row"), TABLES, ids=lambda v: v[:30])
def test_tables_have_the_official_header_and_form(
    roots: dict[str, Path], name: str, table: str, header: str, row: str
) -> None:
    first, *rest = lines(roots[name] / table)
    assert first == header
    assert rest
    for line in rest:
        assert re.fullmatch(row, line), line


@pytest.mark.parametrize("table", [t for t in TABLES if Path(t[1]).name in REAL_TABLES])
def test_the_real_tables_have_that_header(table: tuple[str, str, str, str]) -> None:
    path = METADATA / REAL_TABLES[Path(table[1]).name]
    if not path.exists():
        pytest.skip("no real metadata beside the repository")
    assert lines(path)[0] == table[2]


def test_images_are_where_and_what_the_real_ones_are(roots: dict[str, Path]) -> None:
    expected = {
        "isic2017": r"ISIC-2017_Training_Data/ISIC_\d{7}(\.jpg|_superpixels\.png)",
        "isic2018": r"ISIC2018_Task3_Training_Input/ISIC_\d{7}\.jpg",
        "isic2019": r"ISIC_2019_Training_Input/ISIC_\d{7}(_downsampled)?\.jpg",
        "isic2020": r"train/ISIC_\d{7}\.jpg",
        "fitzpatrick17k": r"images/[0-9a-f]{32}\.jpg",
        "ddi": r"\d{6}\.png",
        "atlas": r"release_v0/images/NEL/N(EL|el)\d{3}\.(jpg|JPG)",
        "pad_ufes_20": r"images/imgs_part_[123]/PAT_\d+_\d+_\d+\.png",
        "mimic_cxr": r"files/p1\d/p1\d{7}/s5\d{7}/" + DICOM + r"\.jpg",
        "chexpert": r"CheXpert-v1.0-small/(train|valid)/patient\d{5}/study\d/"
        r"view\d_(frontal|lateral)\.jpg",
        "nih": r"images/\d{8}_\d{3}\.png",
    }
    for name, pattern in expected.items():
        shapes = set()
        for path in images(roots[name]):
            assert re.fullmatch(pattern, path.relative_to(roots[name]).as_posix())
            with Image.open(path) as image:
                assert image.format == ("PNG" if path.suffix == ".png" else "JPEG")
                grey = name in ("mimic_cxr", "chexpert", "nih")
                assert image.mode in (("L", "RGBA") if grey else ("RGB",))
                assert 0.6 * SMALL.size <= min(image.size) <= 1.6 * SMALL.size
                shapes.add(image.size)
        assert len(shapes) > 1 or name in ("isic2018", "nih")  # as in the real ones
    folder = roots["isic2017"] / "ISIC-2017_Training_Data"
    assert len(list(folder.glob("*_superpixels.png"))) == SIZES["isic2017"]
    modes = [Image.open(path).mode for path in images(roots["nih"])]
    assert modes.count("RGBA") == 2


def test_every_adapter_finds_the_configured_number_of_images(roots: dict[str, Path]) -> None:
    # Beside the usable ones: a truncated image, which shows only when it is decoded.
    broken = {"isic2019": 1, "fitzpatrick17k": 1, "mimic_cxr": 1}
    extra = {"isic2020": 2 * COPIES, "fitzpatrick17k": isic.LEAKS, "atlas": isic.LEAKS}
    for name, size in SIZES.items():
        found = len(read(roots, name).frame)
        assert found == size + broken.get(name, 0) + extra.get(name, 0), name


# --- determinism ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["isic2020", "atlas", "mimic_cxr"])
def test_the_same_seed_gives_the_same_bytes(
    roots: dict[str, Path], tmp_path: Path, name: str
) -> None:
    # Alone in a new process, after nothing else: a data set needs no other one.
    program = (
        "import sys; from pathlib import Path; from swift_debias.config.schema import Synthetic;"
        "from swift_debias.data import synthetic;"
        "synthetic.write(sys.argv[1], Synthetic.model_validate_json(sys.argv[2]), "
        f"{SEED}, Path(sys.argv[3])); assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", program, name, SMALL.model_dump_json(), str(tmp_path)],
        check=True,
        cwd=LIBRARY,
    )
    assert contents(tmp_path) == contents(roots[name])


def test_another_seed_gives_other_pictures(roots: dict[str, Path], tmp_path: Path) -> None:
    synthetic.write("ddi", SMALL, SEED + 1, tmp_path)
    ours, theirs = contents(roots["ddi"]), contents(tmp_path)
    assert ours.keys() == theirs.keys()
    assert all(ours[name] != theirs[name] for name in ours)


# --- the story ------------------------------------------------------------------------------------


def skin(size: int, correlation: float, config: Synthetic = SMALL, seed: int = 0) -> pd.DataFrame:
    return population.skin_population("test", [size], correlation, config, seed)


def chest(size: int, correlation: float, config: Synthetic = SMALL, seed: int = 0) -> pd.DataFrame:
    return population.chest_population("test", size, correlation, config, seed).iloc[:size]


ATTRIBUTES = [(skin, "light"), (skin, "male"), (chest, "male"), (chest, "old")]


@pytest.mark.parametrize(("make", "attribute"), ATTRIBUTES)
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8, 1.0])
def test_correlation_is_as_configured(make, attribute: str, correlation: float) -> None:  # type: ignore[no-untyped-def]
    people = make(600, correlation)
    share = people.groupby("disease")[attribute].mean()
    assert share[True] - share[False] == pytest.approx(2 / 3 * correlation, abs=0.01)
    assert share[True] + share[False] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("make", "attribute"), ATTRIBUTES)
def test_every_cell_of_the_pool_has_eight_percent(make, attribute: str) -> None:  # type: ignore[no-untyped-def]
    people = make(600, 0.8)
    cells = people.groupby(["disease", attribute]).size() / len(people)
    assert len(cells) == 4
    assert cells.min() >= 0.08


def test_the_pool_is_correlated_and_the_test_sets_are_not(roots: dict[str, Path]) -> None:
    def gap(frame: pd.DataFrame, column: str, value: object) -> float:
        known = frame[frame[column].notna()]
        share = (known[column] == value).groupby(known["label"]).mean()
        return share[0] - share[1]

    pool = pd.concat([read(roots, name).frame for name in ("isic2019", "isic2020")])
    assert gap(pool, "sex", "male") == pytest.approx(0.53, abs=0.12)
    assert gap(read(roots, "mimic_cxr").frame, "sex", "male") == pytest.approx(-0.53, abs=0.12)
    for name in ("pad_ufes_20", "chexpert", "nih"):
        assert gap(read(roots, name).frame, "sex", "male") == pytest.approx(0, abs=0.1)
    light = read(roots, "fitzpatrick17k").frame
    light = light.assign(light=(light["fitzpatrick"] <= 3).where(light["fitzpatrick"].notna()))
    assert gap(light, "light", True) == pytest.approx(0, abs=0.12)


@pytest.mark.parametrize(("make", "attribute"), ATTRIBUTES)
def test_the_core_feature_says_nothing_of_the_attribute_given_the_label(make, attribute) -> None:  # type: ignore[no-untyped-def]
    people = make(6000, 0.8)
    for _, same in people.groupby("disease"):
        groups = [rows["severity"] for _, rows in same.groupby(attribute)]
        error = math.sqrt(sum(rows.var() / len(rows) for rows in groups))
        assert abs(groups[0].mean() - groups[1].mean()) < 4 * error


@pytest.mark.parametrize(
    ("make", "attributes"), [(skin, ["light", "male"]), (chest, ["male", "old"])]
)
def test_the_two_attributes_are_independent_given_the_label(make, attributes) -> None:  # type: ignore[no-untyped-def]
    people = make(6000, 0.8)
    for _, same in people.groupby("disease"):
        assert abs(np.corrcoef(same[attributes[0]], same[attributes[1]])[0, 1]) < 0.07


@pytest.mark.key("synthetic.core", "synthetic.appearance")
def test_the_strengths_are_those_of_the_arrows() -> None:
    def effect(people: pd.DataFrame, cause: str, look: str) -> float:
        means = people.groupby(cause)[look].mean()
        return float(means[True] - means[False])

    for strength in (0.0, 0.5, 1.0):
        config = SMALL.model_copy(update={"core": strength, "appearance": strength})
        skins, chests = skin(4000, 0, config), chest(4000, 0, config)
        for people in (skins, chests):
            assert effect(people, "disease", "severity") == pytest.approx(0.7 * strength, abs=0.05)
            assert effect(people, "male", "male_look") == pytest.approx(strength, abs=0.07)
        assert effect(skins, "light", "lightness") == pytest.approx(23.5 * strength, abs=1.5)
        assert effect(chests, "old", "old_look") == pytest.approx(0.85 * strength, abs=0.07)


def scenes(n: int, **changes: float) -> drawing.SkinScenes:
    """The same lesions again and again, but for the changes."""
    values = {"severity": 0.5, "lightness": 60.0, "male": 0.5, "age": 50.0, **changes}
    look, view = ([np.random.default_rng([kind, i]) for i in range(n)] for kind in (0, 1))
    arrays = {key: np.full(n, value, dtype=np.float32) for key, value in values.items()}
    return drawing.SkinScenes(**arrays, look=look, view=view)


def films(n: int, **changes: float) -> drawing.ChestScenes:
    """The same patients again and again, but for the changes."""
    values = {"severity": 0.2, "male": 0.5, "old": 0.5, "effusion": 0.0, **changes}
    look, view = ([np.random.default_rng([kind, i]) for i in range(n)] for kind in (0, 1))
    arrays = {key: np.full(n, value, dtype=np.float32) for key, value in values.items()}
    return drawing.ChestScenes(**arrays, look=look, view=view)


def test_the_core_is_inside_the_lesion_and_the_attributes_everywhere() -> None:
    def draw(**changes: float) -> np.ndarray:
        return drawing.draw_skin(scenes(24, **changes), drawing.Camera(noise=0), 64, 64) * 1.0

    benign, malignant = draw(severity=0.1, male=0), draw(severity=0.9, male=0)
    border = np.ones((64, 64), dtype=bool)
    border[4:-4, 4:-4] = False
    assert np.abs(benign - malignant)[:, border].mean() < 2
    assert np.abs(benign - malignant)[:, 24:40, 24:40].mean() > 10
    # A mole has one colour, a melanoma several.
    colours = [picture[:, 24:40, 24:40].std(axis=(1, 2)).mean() for picture in (benign, malignant)]
    assert colours[1] > 1.5 * colours[0]
    assert (draw(lightness=75) - draw(lightness=40))[:, border].mean() > 50
    red, blue = (draw(male=1) - draw(male=0))[..., (0, 2)].mean(axis=(0, 1, 2))
    assert red > blue + 2
    assert (draw(male=1) < 70).mean() > (draw(male=0) < 70).mean()  # hair


def test_a_pneumothorax_is_a_rim_on_one_side() -> None:
    def draw(**changes: float) -> np.ndarray:
        return (
            drawing.draw_chest(films(24, **changes), drawing.Camera(noise=0), 72, 72)[..., 0] * 1.0
        )

    healthy, sick = draw(severity=0.2), draw(severity=0.9)
    change = np.abs(sick - healthy)
    halves = np.sort(
        [change[:, :, :30].mean(axis=(1, 2)), change[:, :, 42:].mean(axis=(1, 2))], axis=0
    )
    assert (halves[1] > 2).all()  # a rim in one lung
    assert (halves[0] < 0.5).all()  # none in the other
    assert (change[:, 62:] < 0.5).mean() > 0.95  # none below the diaphragm
    assert (sick < healthy - 5).sum() > (sick > healthy + 5).sum()  # more rim than line
    assert (draw(male=0) - draw(male=1))[:, 36:52].mean() > 3  # breast shadows
    assert draw(old=1).std(axis=(1, 2)).mean() < draw(old=0).std(axis=(1, 2)).mean() - 5  # grey
    assert (draw(effusion=0.4) - draw())[:, 40:60].mean() > 1


def ita(picture: np.ndarray) -> float:
    """Individual typology angle, in degrees, of the lightest of eight patches at the border."""
    small = np.asarray(Image.fromarray(picture).resize((256, 256), Image.Resampling.BILINEAR)) / 255
    linear = np.where(small > 0.04045, ((small + 0.055) / 1.055) ** 2.4, small / 12.92)
    red, green, blue = np.moveaxis(linear, -1, 0)
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    lightness, b = 116 * np.cbrt(y) - 16, 200 * (np.cbrt(y) - np.cbrt(z))
    places = [p for p in itertools.product((20, 115, 216), repeat=2) if p != (115, 115)]
    angles = []
    for top, left in places:
        patch = slice(top, top + 20), slice(left, left + 20)
        angles.append(math.degrees(math.atan((lightness[patch].mean() - 50) / b[patch].mean())))
    return max(angles)


def test_the_typology_angle_tells_light_skin_from_dark() -> None:
    people = skin(150, 0.8)
    pictures = population.draw(people, "test", "isic2019", SMALL, 0)
    angles = np.array([ita(picture) for picture in pictures])
    assert ((angles > 28) == people["light"]).mean() > 0.95
    assert np.corrcoef(angles, people["fitzpatrick"])[0, 1] < -0.9


def test_shift_zero_leaves_but_the_format() -> None:
    reference = population.CAMERAS["isic2018"]
    other = population.CAMERAS["pad_ufes_20"]
    assert other.shifted(reference, 0) == replace(reference, formats=other.formats)
    assert other.shifted(reference, 1) == other


# --- the dirt -------------------------------------------------------------------------------------


def test_rows_without_file_and_files_without_row(roots: dict[str, Path]) -> None:
    stray = {"isic2019", "atlas", "pad_ufes_20", "mimic_cxr", "chexpert", "nih"}
    for name in SIZES:
        log = read(roots, name).log
        assert counts(log, "rule", "removed")[NO_FILE] == 1, name
        notes = counts(log, "note", "count")
        assert notes.get(raw_files.FILES_WITHOUT_ROW, 0) == (name in stray), name


def test_truncated_images(roots: dict[str, Path]) -> None:
    for name in SIZES:
        broken = 0
        for path in images(roots[name]):
            try:
                Image.open(path).load()
            except OSError:
                broken += 1
        assert broken == (name in ("isic2019", "fitzpatrick17k", "mimic_cxr")), name


@pytest.mark.key("synthetic.unknown")
def test_unknown_values_are_in_each_data_sets_words(roots: dict[str, Path]) -> None:
    pool = 230  # pictures of the archive: 40 + 50 + 40 + 100
    table = pd.read_csv(
        roots["isic2017"] / "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv"
    )
    frames = {name: read(roots, name).frame for name in SIZES}
    unknown = frames["isic2019"]["sex"].isna().sum() + frames["isic2020"]["sex"].isna()[:100].sum()
    assert unknown in (pool // 10, pool // 10 + 1)  # the truncated image repeats a row
    assert (table["sex"] == "unknown").sum() >= frames["isic2017"]["sex"].isna().sum() > 0
    assert frames["fitzpatrick17k"]["fitzpatrick"].isna().sum() in (10, 11)
    assert frames["pad_ufes_20"]["sex"].isna().sum() == 12
    assert frames["pad_ufes_20"]["fitzpatrick"].isna().sum() == 12
    assert (pd.read_csv(roots["ddi"] / "ddi_metadata.csv")["skin_tone"] == 34).any()
    assert frames["mimic_cxr"]["sex"].isna().sum() > 0
    train = pd.read_csv(roots["chexpert"] / "CheXpert-v1.0-small/train.csv")
    assert (train["Age"] == 0).any()
    assert (pd.concat([train["Sex"]]) == "Unknown").any()
    assert frames["chexpert"]["age"].isna().sum() > 0


def test_x_rays_outside_the_task_are_extra(roots: dict[str, Path]) -> None:
    for name in ("mimic_cxr", "chexpert"):
        rules = counts(read(roots, name).log, "rule", "removed")
        assert rules["uncertain label"] >= 10, name
        assert rules["neither finding"] >= 10, name
        frontal = [rule for rule in rules if rule.startswith("not a frontal view")]
        assert rules[frontal[0]] == 18 + (name == "mimic_cxr"), name  # 15 % of 120; one nameless
    assert counts(read(roots, "nih").log, "rule", "removed")["neither finding"] >= 12
    doubts = [
        lines(roots["mimic_cxr"] / f"mimic-cxr-2.0.0-{labeler}.csv.gz")
        for labeler in ("chexpert", "negbio")
    ]
    assert sum(a != b for a, b in zip(*doubts, strict=True)) == 1


def test_patients_have_several_images_and_one_sex_and_age(roots: dict[str, Path]) -> None:
    for name in ("isic2020", "pad_ufes_20", "mimic_cxr", "chexpert", "nih"):
        frame = read(roots, name).frame
        by_patient = frame.groupby("patient_id")
        assert by_patient.size().max() > 1, name
        assert by_patient["sex"].nunique().max() == 1, name
        assert by_patient["age"].nunique().max() == 1, name
    lesions = read(roots, "isic2018").frame["lesion_id"]
    assert lesions.nunique() < len(lesions)


def test_isic_2019_contains_the_pictures_of_2017_and_2018(roots: dict[str, Path]) -> None:
    newest = roots["isic2019"] / "ISIC_2019_Training_Input"
    smaller = 0
    for name in ("isic2017", "isic2018"):
        for path in images(roots[name]):
            if path.suffix == ".png":
                continue
            if (newest / path.name).exists():
                assert (newest / path.name).read_bytes() == path.read_bytes()
                continue
            smaller += 1
            again = newest / f"{path.stem}_downsampled.jpg"
            with Image.open(path) as full, Image.open(again) as small:
                assert small.width < full.width
                assert alike(path, again)
    assert smaller == SIZES["isic2017"] // 5


def thumbnail(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L").resize((16, 16), Image.Resampling.BOX), dtype=float)
    return (grey - grey.mean()) / grey.std()


def alike(a: Path, b: Path) -> bool:
    return float((thumbnail(a) * thumbnail(b)).mean()) > 0.97


@pytest.mark.key("synthetic.duplicates")
def test_duplicates_of_isic_2020(roots: dict[str, Path]) -> None:
    folder = roots["isic2020"] / "train"
    table = pd.read_csv(roots["isic2020"] / "ISIC_2020_Training_GroundTruth_v2.csv")
    table = table.set_index("image_name")
    pairs = pd.read_csv(roots["isic2020"] / "ISIC_2020_Training_Duplicates.csv")
    assert len(pairs) == COPIES
    for first, second in pairs.itertuples(index=False):
        assert table.lesion_id[first] == table.lesion_id[second]
        assert (folder / f"{first}.jpg").read_bytes() != (folder / f"{second}.jpg").read_bytes()

    own, unlisted = table.index[:100], table.index[100 + COPIES : 100 + 2 * COPIES]
    found = {
        copy: [name for name in own if alike(folder / f"{name}.jpg", folder / f"{copy}.jpg")]
        for copy in unlisted
    }
    assert [len(names) for names in found.values()] == [1] * COPIES
    disagree = [table.target[copy] != table.target[names[0]] for copy, names in found.items()]
    assert sum(disagree) == 1
    assert all(
        table.patient_id[copy] != table.patient_id[names[0]] for copy, names in found.items()
    )


def test_pictures_of_isic_2020_are_in_test_sets(roots: dict[str, Path]) -> None:
    folder = roots["isic2020"] / "train"
    names = pd.read_csv(roots["isic2020"] / "ISIC_2020_Training_GroundTruth_v2.csv").image_name
    pool = [folder / f"{name}.jpg" for name in names[:100]]
    hashes = pd.read_csv(roots["fitzpatrick17k"] / "fitzpatrick17k.csv").md5hash
    derm = pd.read_csv(roots["atlas"] / "release_v0/meta/meta.csv").derm
    last = slice(100, 103), slice(40, 43)
    leaks = [roots["fitzpatrick17k"] / "images" / f"{name}.jpg" for name in hashes[last[0]]]
    leaks += [roots["atlas"] / "release_v0/images" / name for name in derm[last[1]]]
    assert len(leaks) == 6
    assert [sum(alike(leak, path) for path in pool) for leak in leaks] == [1] * 6


# --- mistakes -------------------------------------------------------------------------------------


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot draw 'isic2021', only isic2017"):
        synthetic.write("isic2021", SMALL, 0, tmp_path)
    with pytest.raises(UserError, match="no entry 'nih'"):
        synthetic.write("nih", Synthetic(images={"ddi": 30}), 0, tmp_path)
    with pytest.raises(UserError, match=r"images\.ddi is 3; it must be at least 20"):
        synthetic.write("ddi", Synthetic(images={"ddi": 3}), 0, tmp_path)
    few = Synthetic(images={**SIZES, "isic2019": 100})
    with pytest.raises(UserError, match=r"isic2019 is 100; it must be at least 110"):
        synthetic.write("isic2018", few, 0, tmp_path)
    assert not any(tmp_path.iterdir())
