"""Each adapter on a small folder in the official layout.

The tables copy the headers and the odd values of the real files; what is expected is written out
by hand. Real tables are in test_real_metadata.py.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from swift_debias.config import schema
from swift_debias.data import adapters, manifest, rows
from swift_debias.data.raw_files import FILES_WITHOUT_ROW
from swift_debias.errors import UserError

LIBRARY = Path(schema.__file__).parents[2]


def fill(root: Path, tables: Mapping[str, str], images: tuple[str, ...] = ()) -> Path:
    """Write tables (dedented lines) and empty image files."""
    for name, content in tables.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = "\n".join(line.strip() for line in content.strip().splitlines()) + "\n"
        path.write_bytes(gzip.compress(data.encode()) if name.endswith(".gz") else data.encode())
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def read(adapter: str, root: Path, **options: Any) -> manifest.ManifestResult:
    """Read as the workflow does, and check what holds for every adapter."""
    chosen = adapters.make_options({"adapter": adapter, "root": root.name, **options})
    result = adapters.read(chosen, root.parent)
    manifest.validate(result.frame, adapter)
    removed = sum(rule["removed"] for rule in result.log["rules"])
    assert result.log["rows_read"] - removed == result.log["rows_kept"] == len(result.frame)
    for path in result.frame["path"]:
        assert (root / path).is_file()
    return result


def column(result: manifest.ManifestResult, name: str) -> dict[str, Any]:
    """Image id -> value; None for null."""
    values = result.frame.set_index("image_id")[name]
    return {key: None if pd.isna(value) else value for key, value in values.items()}


def removed(result: manifest.ManifestResult) -> dict[str, int]:
    return {r["rule"]: r["removed"] for r in result.log["rules"] if r["removed"]}


def notes(result: manifest.ManifestResult) -> dict[str, int]:
    return {note["note"]: note["count"] for note in result.log["notes"]}


# --- the folder of adapters -----------------------------------------------------------------------


def test_the_adapters_are_the_files_with_a_read_function() -> None:
    assert adapters.available() == (
        "atlas",
        "chexpert",
        "ddi",
        "fitzpatrick17k",
        "isic2017",
        "isic2018",
        "isic2019",
        "isic2020",
        "mimic_cxr",
        "nih",
        "pad_ufes_20",
        "table",
    )
    with pytest.raises(UserError, match=r"'isic_2019'; did you mean 'isic2019'\?"):
        adapters.load("isic_2019")


def test_listing_adapters_imports_no_pandas_and_reading_no_torch() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(LIBRARY)!r})\n"
        "from swift_debias.data import adapters\n"
        "import swift_debias.data.check\n"
        "names = adapters.available(); assert 'pandas' not in sys.modules\n"
        "[adapters.load(name) for name in names]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- skin -----------------------------------------------------------------------------------------


def test_isic2017_skips_superpixels_and_reads_the_truth_beside_the_folder(tmp_path: Path) -> None:
    names = ("ISIC_0000000", "ISIC_0000001", "ISIC_0000002")
    fill(
        tmp_path,
        {
            "ISIC-2017_Training_Part3_GroundTruth.csv": """
                image_id,melanoma,seborrheic_keratosis
                ISIC_0000000,0.0,0.0
                ISIC_0000001,1.0,0.0
                ISIC_0000002,0.0,1.0
                ISIC_0000003,0.0,0.0""",
            "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv": """
                image_id,age_approximate,sex
                ISIC_0000000,55,female
                ISIC_0000001,unknown,unknown
                ISIC_0000002,30,male""",
        },
        tuple(
            f"ISIC-2017_Training_Data/{name}{end}"
            for name in names
            for end in (".jpg", "_superpixels.png")
        ),
    )
    result = read("isic2017", tmp_path / "ISIC-2017_Training_Data")
    assert column(result, "label") == dict(zip(names, (1, 0, 1), strict=True))
    assert list(result.frame["diagnosis"]) == ["nevus", "melanoma", "seborrheic_keratosis"]
    assert list(column(result, "sex").values()) == ["female", None, "male"]
    assert list(column(result, "age").values()) == [55, None, 30]
    assert result.frame["patient_id"].isna().all()
    assert removed(result) == {rows.NO_FILE: 1}
    assert FILES_WITHOUT_ROW not in notes(result)


ISIC2018 = {
    "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv": """
        image,MEL,NV,BCC,AKIEC,BKL,DF,VASC
        ISIC_0024306,0.0,1.0,0.0,0.0,0.0,0.0,0.0
        ISIC_0024310,1.0,0.0,0.0,0.0,0.0,0.0,0.0
        ISIC_0024311,1.0,1.0,0.0,0.0,0.0,0.0,0.0
        ISIC_0024312,0.0,0.0,0.0,0.0,0.0,0.0,0.0""",
}
IMAGES2018 = tuple(
    f"ISIC2018_Task3_Training_Input/ISIC_00243{n}.jpg" for n in ("06", "10", "11", "12", "99")
)


def test_isic2018_knows_sex_and_age_from_ham10000_alone(tmp_path: Path) -> None:
    plain = read("isic2018", fill(tmp_path / "plain", ISIC2018, IMAGES2018))
    assert column(plain, "label") == {"ISIC_0024306": 1, "ISIC_0024310": 0}
    assert column(plain, "diagnosis") == {"ISIC_0024306": "NV", "ISIC_0024310": "MEL"}
    assert removed(plain) == {"not exactly one diagnosis": 2}
    assert plain.frame[["sex", "age", "lesion_id"]].isna().all(axis=None)
    assert notes(plain)[FILES_WITHOUT_ROW] == 1
    assert notes(plain)["no table gives ham_lesion, age, sex; unknown"] == 4
    ham = """
        lesion_id,image_id,dx,dx_type,age,sex,localization
        HAM_0000550,ISIC_0024306,nv,follow_up,45.0,male,trunk
        HAM_0003577,ISIC_0024310,mel,histo,,unknown,face"""
    full = read(
        "isic2018", fill(tmp_path / "full", {**ISIC2018, "HAM10000_metadata": ham}, IMAGES2018)
    )
    assert column(full, "sex") == {"ISIC_0024306": "male", "ISIC_0024310": None}
    assert column(full, "age") == {"ISIC_0024306": 45, "ISIC_0024310": None}
    assert column(full, "lesion_id")["ISIC_0024310"] == "HAM_0003577"
    tabs = {"HAM10000_metadata.tab": ham.replace(",", "\t")}
    tabbed = read("isic2018", fill(tmp_path / "tab", {**ISIC2018, **tabs}, IMAGES2018))
    pd.testing.assert_frame_equal(tabbed.frame, full.frame)


def test_isic2018_takes_lesions_from_the_official_groupings(tmp_path: Path) -> None:
    lesions = """
        image,lesion_id,diagnosis_confirm_type
        ISIC_0024306,HAM_0000550,serial imaging showing no change"""
    ham = """
        lesion_id,image_id,age,sex
        HAM_9999999,ISIC_0024306,45,male
        HAM_0003577,ISIC_0024310,,unknown"""
    tables = {**ISIC2018, "ISIC2018_Task3_Training_LesionGroupings.csv": lesions}
    result = read("isic2018", fill(tmp_path / "d", tables, IMAGES2018))
    assert column(result, "lesion_id") == {"ISIC_0024306": "HAM_0000550", "ISIC_0024310": None}
    tables["HAM10000_metadata.csv"] = ham
    result = read("isic2018", fill(tmp_path / "both", tables, IMAGES2018[1:] + IMAGES2018[:1]))
    found = {"ISIC_0024306": "HAM_0000550", "ISIC_0024310": "HAM_0003577"}
    assert column(result, "lesion_id") == found
    assert list(result.frame["split"]) == ["train", "train"]


def test_isic2019_keeps_the_suffix_in_the_path_only(tmp_path: Path) -> None:
    tables = {
        "ISIC_2019_Training_GroundTruth.csv": """
            image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK
            ISIC_0000000,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
            ISIC_0000029_downsampled,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
            ISIC_0000030,1.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0
            ISIC_0000031,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
            ISIC_0000032,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0""",
        "ISIC_2019_Training_Metadata.csv": """
            image,age_approx,anatom_site_general,lesion_id,sex
            ISIC_0000000,55,anterior torso,,female
            ISIC_0000029_downsampled,,,MSK4_0011012,
            ISIC_0000030,40,,,male""",
    }
    images = tuple(
        f"ISIC_2019_Training_Input/ISIC_00000{name}.jpg" for name in ("00", "29_downsampled", "30")
    )
    result = read("isic2019", fill(tmp_path / "d", tables, images))
    assert column(result, "path") == {"ISIC_0000000": images[0], "ISIC_0000029": images[1]}
    assert column(result, "label") == {"ISIC_0000000": 1, "ISIC_0000029": 0}
    assert column(result, "lesion_id") == {"ISIC_0000000": None, "ISIC_0000029": "MSK4_0011012"}
    assert column(result, "sex") == {"ISIC_0000000": "female", "ISIC_0000029": None}
    assert column(result, "age") == {"ISIC_0000000": 55, "ISIC_0000029": None}
    assert column(result, "diagnosis") == {"ISIC_0000000": "NV", "ISIC_0000029": "MEL"}
    assert removed(result) == {"not exactly one diagnosis": 2, rows.NO_FILE: 1}
    assert notes(result) == {"no row in ISIC_2019_Training_Metadata.csv": 2}


V1 = """
    image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target
    ISIC_2637011,IP_7279968,male,45.0,head/neck,unknown,benign,0
    ISIC_0149568,IP_0962375,,,upper extremity,melanoma,malignant,1
    ISIC_0149569,IP_0962376,,,upper extremity,,,2"""
V2 = """
    image_name,patient_id,lesion_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target
    ISIC_2637011,IP_7279968,IL_7972535,male,45,head/neck,unknown,benign,0
    ISIC_0149568,IP_0962375,IL_5246311,,,upper extremity,melanoma,malignant,1
    ISIC_0149569,IP_0962376,IL_5246312,,,upper extremity,,,"""


@pytest.mark.parametrize(
    ("tables", "folder", "lesions"),
    [
        ({"ISIC_2020_Training_GroundTruth_v2.csv": V2}, "train", True),
        (
            {
                "ISIC_2020_Training_GroundTruth.csv": V1,
                "ISIC_2020_Training_GroundTruth_v2.csv": V2,
                "train.csv": V1,
            },
            "train",
            True,
        ),
        ({"ISIC_2020_Training_GroundTruth.csv": V1}, "train", False),
        ({"train.csv": V1}, "jpeg/train", False),
    ],
    ids=["v2", "v2 before v1", "v1", "kaggle"],
)
def test_isic2020_in_its_three_releases(
    tmp_path: Path, tables: dict[str, str], folder: str, lesions: bool
) -> None:
    images = (f"{folder}/ISIC_2637011.jpg", f"{folder}/ISIC_0149568.jpg")
    result = read("isic2020", fill(tmp_path / "d", tables, images))
    assert column(result, "label") == {"ISIC_2637011": 1, "ISIC_0149568": 0}
    assert column(result, "path")["ISIC_2637011"] == images[0]
    assert column(result, "patient_id")["ISIC_0149568"] == "IP_0962375"
    assert result.frame["lesion_id"].notna().all() == lesions
    assert column(result, "age") == {"ISIC_2637011": 45, "ISIC_0149568": None}
    assert column(result, "sex") == {"ISIC_2637011": "male", "ISIC_0149568": None}
    assert column(result, "diagnosis")["ISIC_0149568"] == "melanoma"
    assert removed(result) == {"target is neither 0 nor 1": 1}


def test_isic2020_beside_its_folder_and_without_a_diagnosis(tmp_path: Path) -> None:
    tables = {"ISIC_2020_Training_GroundTruth.csv": V1.replace(",melanoma,", ",,")}
    root = fill(tmp_path, tables, ("train/ISIC_2637011.jpg", "train/ISIC_0149568.jpg")) / "train"
    result = read("isic2020", root)
    assert column(result, "diagnosis") == {"ISIC_2637011": "unknown", "ISIC_0149568": "unknown"}
    assert column(result, "label") == {"ISIC_2637011": 1, "ISIC_0149568": 0}


FITZPATRICK = """
    md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,nine_partition_label,three_partition_label,qc,url,url_alphanum
    aa,3,3,psoriasis,inflammatory,non-neoplastic,,https://x/a.jpg,httpxa.jpg
    bb,-1,1,malignant melanoma,malignant melanoma,malignant,3 Wrongly labelled,https://x/b.jpg,httpxb.jpg
    cc,6,5,basal cell carcinoma,malignant epidermal,malignant,,https://x/c.jpg,httpxc.jpg
    dd,1,1,dermatofibroma,benign dermal,benign,,,
    ee,2,2,superficial spreading melanoma ssm,malignant melanoma,malignant,,https://x/e.jpg,httpxe.jpg
    ff,2,2,,,,,https://x/f.jpg,httpxf.jpg
    gg,5,5,lentigo maligna,malignant melanoma,malignant,,https://x/g.jpg,httpxg.jpg"""


@pytest.mark.key("fitzpatrick17k.target", "dataset.adapter")
@pytest.mark.parametrize(
    ("target", "labels"),
    [
        ("melanoma", {"aa": 1, "bb": 0, "cc": 1, "dd": 1, "ee": 0}),
        ("malignant", {"aa": 1, "bb": 0, "cc": 0, "dd": 1, "ee": 0}),
        ("malignant_neoplastic", {"bb": 0, "cc": 0, "dd": 1, "ee": 0}),
    ],
)
def test_fitzpatrick17k_by_target(tmp_path: Path, target: str, labels: dict[str, int]) -> None:
    names = ("aa.jpg", "bb.JPG", "httpxb.jpg", "httpxc.jpg", "dd.jpg", "ee.jpg", "ff.jpg")
    images = tuple(f"images/{name}" for name in names)
    root = fill(tmp_path / "d", {"fitzpatrick17k.csv": FITZPATRICK}, images)
    result = read("fitzpatrick17k", root, target=target)
    assert column(result, "label") == labels
    assert column(result, "path")["cc"] == "images/httpxc.jpg"
    assert column(result, "path")["bb"] == "images/bb.JPG"
    assert column(result, "diagnosis")["cc"] == "basal cell carcinoma"
    assert column(result, "fitzpatrick")["bb"] is None
    assert column(result, "fitzpatrick")["cc"] == 6
    other = {"non-neoplastic (options.target)": 1} if target == "malignant_neoplastic" else {}
    assert removed(result) == {"no label": 1, rows.NO_FILE: 1} | other
    assert notes(result)["skin type is not 1 to 6; unknown"] == 1
    assert notes(result)["wrongly labelled by the data set's quality check; kept"] == 1


def test_fitzpatrick17k_in_an_older_copy(tmp_path: Path) -> None:
    table = """
        ,md5hash,fitzpatrick,label,nine_partition_label,three_partition_label,qc,url,url_alphanum
        0,aa,3,melanoma,malignant melanoma,malignant,,https://x/a.jpg,httpxa.jpg"""
    result = read(
        "fitzpatrick17k", fill(tmp_path / "d", {"fitzpatrick17k.csv": table}, ("aa.jpg",))
    )
    assert column(result, "fitzpatrick") == {"aa": 3}
    assert column(result, "label") == {"aa": 0}


@pytest.mark.key("ddi.target", "dataset.adapter")
@pytest.mark.parametrize("words", [("TRUE", "FALSE"), ("True", "False"), ("1", "0")])
@pytest.mark.parametrize("target", ["melanoma", "malignant"])
def test_ddi_in_every_spelling(tmp_path: Path, words: tuple[str, str], target: str) -> None:
    yes, no = words
    table = f"""
        ,DDI_ID,DDI_file,skin_tone,malignant,disease
        0,1,000001.png,56,{yes},melanoma-in-situ
        1,2,000002.png,34,{yes},mycosis-fungoides
        2,3,000003.png,12,{no},acral-melanotic-macule
        3,4,000004.png,,{no},dermatofibroma
        4,5,000005.png,12,,dermatofibroma
        5,6,000006.png,56,{yes},Nodular-Melanoma
        6,7,000007.png,56,{no},
        7,8,000008.png,12,{no},wart"""
    images = tuple(f"00000{n}.png" for n in range(1, 8))
    result = read("ddi", fill(tmp_path / "d", {"ddi_metadata.csv": table}, images), target=target)
    second = 1 if target == "melanoma" else 0
    assert list(column(result, "label").values()) == [0, second, 1, 1, 0, 1]
    assert list(column(result, "fitzpatrick").values()) == [5.5, 3.5, 1.5, None, 5.5, 5.5]
    assert list(column(result, "diagnosis").values())[-1] == "unknown"
    assert removed(result) == {"malignant is neither true nor false": 1, rows.NO_FILE: 1}
    assert notes(result) == {"skin tone is none of 12, 34, 56; recorded as unknown": 1}


ATLAS = {
    "meta/meta.csv": """
        case_num,diagnosis,seven_point_score,location,sex,management,clinic,derm,case_id,notes
        1,basal cell carcinoma,0,abdomen,female,excision,NEL/NEL025.JPG,NEL/Nel026.jpg,,
        2,melanoma (in situ),1,head neck,male,excision,NEL/NEL027.JPG,NEL/Nel028.jpg,,
        3,melanosis,1,back,female,excision,FAL/Fal001.jpg,FAL/Fal001.jpg,,Clinical missing
        4,,1,back,female,excision,FAL/Fal002.jpg,FAL/Fal003.jpg,,""",
    "meta/train_indexes.csv": "indexes\n1",
    "meta/valid_indexes.csv": "indexes\n2",
    "meta/test_indexes.csv": "indexes\n0",
}
ATLAS_IMAGES = ("NEL/NEL025.JPG", "NEL/Nel026.jpg", "NEL/NEL027.JPG", "NEL/nel028.JPG")
ATLAS_IMAGES += ("FAL/Fal001.jpg", "FAL/Nel026.jpg", "FAL/Fal002.jpg", "FAL/Fal003.jpg")


@pytest.mark.key("atlas.image")
@pytest.mark.parametrize(
    ("image", "paths"),
    [
        ("dermoscopic", ["NEL/Nel026.jpg", "NEL/nel028.JPG", "FAL/Fal001.jpg"]),
        ("clinical", ["NEL/NEL025.JPG", "NEL/NEL027.JPG", "FAL/Fal001.jpg"]),
    ],
)
def test_atlas_takes_one_image_a_case(tmp_path: Path, image: str, paths: list[str]) -> None:
    images = tuple(f"images/{path}" for path in ATLAS_IMAGES)
    result = read("atlas", fill(tmp_path / "release_v0", ATLAS, images), image=image)
    assert list(result.frame["path"]) == [f"images/{path}" for path in paths]
    assert list(result.frame["label"]) == [1, 0, 1]
    assert list(result.frame["split"]) == ["test", "train", "valid"]
    assert list(result.frame["lesion_id"]) == ["1", "2", "3"]
    assert list(column(result, "sex").values()) == ["female", "male", "female"]
    assert removed(result) == {"no diagnosis": 1}
    assert notes(result) == {FILES_WITHOUT_ROW: 1}
    for name in ("valid", "test"):
        (tmp_path / f"release_v0/meta/{name}_indexes.csv").unlink()
    result = read("atlas", tmp_path / "release_v0", image=image)
    assert [column(result, "split")[one] for one in result.frame["image_id"]] == [
        None,
        "train",
        None,
    ]


@pytest.mark.parametrize("cell", ["0.0", " 0", "", "NA", "-1", "one", "1.5"])
def test_an_index_of_the_atlas_in_odd_spellings(tmp_path: Path, cell: str) -> None:
    images = tuple(f"images/{path}" for path in ATLAS_IMAGES)
    root = fill(tmp_path / "release_v0", ATLAS, images)
    path = root / "meta/train_indexes.csv"
    (root / "meta/test_indexes.csv").unlink()
    path.write_text(f"n,indexes\n0,1\n1,{cell}\n")
    if cell in ("-1", "one", "1.5"):
        with pytest.raises(UserError, match=rf"train_indexes\.csv, row 2: '{cell}' is no index"):
            read("atlas", root)
    else:
        splits = list(read("atlas", root).frame["split"])
        assert splits.count("train") == (2 if cell.strip() in ("0", "0.0") else 1)


PAD = """
    patient_id,lesion_id,smoke,age,gender,fitspatrick,region,diagnostic,itch,img_id,biopsed
    PAT_1516,1765,,8,,,ARM,NEV,False,PAT_1516_1765_530.png,False
    PAT_46,881,False,55,FEMALE,3.0,NECK,MEL,UNK,PAT_46_881_939.png,True
    PAT_9,881,,77,MALE,1.0,FACE,BCC,True,PAT_9_881_80.png,True
    PAT_9,882,,77,MALE,1.0,FACE,,True,PAT_9_882_81.png,True
    PAT_9,883,,77,MALE,1.0,FACE,SEK,True,PAT_9_883_82.png,True"""


@pytest.mark.parametrize(
    "parts", [("imgs_part_1", "imgs_part_2/imgs_part_2", "imgs_part_3"), ("",) * 3]
)
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_pad_ufes_20_nested_or_flat(tmp_path: Path, parts: tuple[str, ...], suffix: str) -> None:
    stems = ("PAT_1516_1765_530", "PAT_46_881_939", "PAT_9_881_80")
    paths = [str(Path("images", p, s + suffix)) for p, s in zip(parts, stems, strict=True)]
    images = (*paths, f"images/PAT_9_882_81{suffix}")
    result = read("pad_ufes_20", fill(tmp_path / "d", {"metadata.csv": PAD}, images))
    assert list(result.frame["path"]) == paths
    assert list(result.frame["label"]) == [1, 0, 1]
    assert list(column(result, "sex").values()) == [None, "female", "male"]
    assert list(column(result, "fitzpatrick").values()) == [None, 3, 1]
    assert list(result.frame["lesion_id"]) == ["PAT_1516_1765", "PAT_46_881", "PAT_9_881"]
    assert list(result.frame["patient_id"]) == ["PAT_1516", "PAT_46", "PAT_9"]
    assert list(column(result, "age").values()) == [8, 55, 77]
    assert removed(result) == {"no diagnosis": 1, rows.NO_FILE: 1}


# --- chest ----------------------------------------------------------------------------------------

MIMIC = {
    "mimic-cxr-2.0.0-metadata.csv.gz": """
        dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,StudyDate
        d1,10000032,50000001,CHEST (PA AND LAT),PA,3056,21800506
        d2,10000032,50000001,CHEST (PA AND LAT),LATERAL,3056,21800506
        d3,10000048,50000002,,AP,2544,21800506
        d4,10000048,50000003,,AP,2544,21800506
        d5,11000055,50000004,,PA,2544,21800506
        d6,11000055,50000005,,,2544,21800506
        d7,11000055,50000006,,AP,2544,21800506
        d8,11000055,50000007,,AP,2544,21800506
        d9,11000055,50000008,,AP,2544,21800506
        d10,11000055,50000009,,AP,2544,21800506""",
    "mimic-cxr-2.0.0-chexpert.csv.gz": """
        subject_id,study_id,Atelectasis,No Finding,Pneumothorax,Support Devices
        10000032,50000001,,1.0,,
        10000048,50000002,,,1.0,1.0
        10000048,50000003,,,-1.0,
        11000055,50000004,1.0,,0.0,
        11000055,50000005,,1.0,,
        11000055,50000006,,,1.0,
        11000055,50000007,,1.0,1.0,
        11000055,50000009,,-1.0,1.0,""",
    "mimic-cxr-2.0.0-negbio.csv.gz": """
        subject_id,study_id,Atelectasis,No Finding,Pneumothorax,Support Devices
        10000048,50000003,,1.0,,""",
    "mimic-cxr-2.0.0-split.csv.gz": """
        dicom_id,study_id,subject_id,split
        d1,50000001,10000032,train
        d3,50000002,10000048,test
        d7,50000006,11000055,validate
        d4,50000003,10000048,train""",
    "mimic-iv/hosp/patients.csv.gz": """
        subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod
        10000032,F,52,2180,2014 - 2016,2180-09-09
        10000048,M,0,2126,2008 - 2010,""",
}
MIMIC_IMAGES = tuple(
    f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg"
    for dicom, subject, study in (
        ("d1", "10000032", "50000001"),
        ("d2", "10000032", "50000001"),
        ("d3", "10000048", "50000002"),
        ("d4", "10000048", "50000003"),
        ("d5", "11000055", "50000004"),
        ("d7", "11000055", "50000006"),
    )
)


def test_mimic_cxr_keeps_frontal_views_of_exactly_one_certain_finding(tmp_path: Path) -> None:
    result = read("mimic_cxr", fill(tmp_path / "d", MIMIC, MIMIC_IMAGES))
    assert column(result, "label") == {"d1": 0, "d3": 1, "d7": 1}
    assert column(result, "sex") == {"d1": "female", "d3": "male", "d7": None}
    assert column(result, "age") == {"d1": 52, "d3": None, "d7": None}
    assert column(result, "split") == {"d1": "train", "d3": "test", "d7": "validate"}
    assert column(result, "patient_id")["d7"] == "11000055"
    assert column(result, "view") == {"d1": "PA", "d3": "AP", "d7": "AP"}
    assert removed(result) == {
        "not a frontal view (PA or AP)": 2,
        "uncertain label": 2,
        "both findings": 1,
        "neither finding": 2,
    }
    assert list(result.frame["diagnosis"]) == ["No Finding", "Pneumothorax", "Pneumothorax"]
    assert notes(result)["no row in patients.csv.gz"] == 1
    assert notes(result)["age 0 stands for unknown; recorded as unknown"] == 1


@pytest.mark.key("mimic_cxr.labeler", "mimic_cxr.patients")
def test_mimic_cxr_by_the_other_labeler_and_a_named_patients_table(tmp_path: Path) -> None:
    tables = {name: table for name, table in MIMIC.items() if "patients" not in name}
    root = fill(tmp_path / "d", tables, MIMIC_IMAGES)
    with pytest.raises(UserError, match=r"no MIMIC-IV patients\.csv\.gz under .*`patients`"):
        read("mimic_cxr", root, labeler="negbio")
    fill(tmp_path, {"iv/patients.csv": MIMIC["mimic-iv/hosp/patients.csv.gz"]})
    result = read("mimic_cxr", root, labeler="negbio", patients="iv/patients.csv")
    assert column(result, "label") == {"d4": 0}
    assert column(result, "sex") == {"d4": "male"}
    (root / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    result = read("mimic_cxr", root, labeler="negbio", patients="iv/patients.csv")
    assert column(result, "split") == {"d4": None}


CHEXPERT_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Pneumothorax,Fracture"
)


def chexpert_tables(prefix: str, below: str) -> dict[str, str]:
    return {
        f"{below}train.csv": f"""{CHEXPERT_HEADER}
            {prefix}/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,0.0,
            {prefix}/train/patient00002/study2/view1_frontal.jpg,Male,0,Frontal,PA,,-1.0,1.0,
            {prefix}/train/patient00002/study2/view2_lateral.jpg,Male,87,Lateral,,,-1.0,1.0,
            {prefix}/train/patient00003/study1/view1_frontal.jpg,Unknown,90,Frontal,AP,,,-1.0,
            {prefix}/train/patient00004/study1/view1_frontal.jpg,Male,41,Frontal,AP,,1.0,,
            {prefix}/train/patient00005/study1/view1_frontal.jpg,Male,41,Frontal,AP,-1.0,,1.0,
            {prefix}/train/patient00006/study1/view1_frontal.jpg,Male,41,Frontal,AP,1.0,,1.0,""",
        f"{below}valid.csv": f"""{CHEXPERT_HEADER}
            {prefix}/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,0.0,1.0,1.0,0.0""",
    }


CHEXPERT_IMAGES = (
    "train/patient00001/study1/view1_frontal.jpg",
    "train/patient00002/study2/view1_frontal.jpg",
    "train/patient00002/study2/view2_lateral.jpg",
    "train/patient00003/study1/view1_frontal.jpg",
    "train/patient00004/study1/view1_frontal.jpg",
    "train/patient00005/study1/view1_frontal.jpg",
    "train/patient00006/study1/view1_frontal.jpg",
    "valid/patient64541/study1/view1_frontal.jpg",
)
BATCHES = tuple(
    ("batch 1 (validate & csv)/" + path)
    if path.startswith("valid")
    else "batch 2 (train 1)/" + path.removeprefix("train/")
    for path in CHEXPERT_IMAGES
)


@pytest.mark.parametrize(
    ("prefix", "below", "images"),
    [
        ("CheXpert-v1.0-small", "", CHEXPERT_IMAGES),
        ("CheXpert-v1.0", "renamed/", tuple(f"renamed/{path}" for path in CHEXPERT_IMAGES)),
        ("CheXpert-v1.0", "batch 1 (validate & csv)/", BATCHES),
    ],
    ids=["small", "renamed", "batches"],
)
def test_chexpert_in_its_layouts(
    tmp_path: Path, prefix: str, below: str, images: tuple[str, ...]
) -> None:
    root = fill(tmp_path / "d", chexpert_tables(prefix, below), images)
    result = read("chexpert", root)
    first, second, third = (CHEXPERT_IMAGES[k] for k in (0, 1, -1))
    assert column(result, "label") == {first: 0, second: 1, third: 1}
    assert column(result, "patient_id")[third] == "patient64541"
    assert column(result, "split") == {first: "train", second: "train", third: "valid"}
    assert column(result, "age") == {first: 68, second: None, third: 73}
    assert column(result, "path")[second] == images[1]
    assert removed(result) == {
        "not a frontal view": 1,
        "uncertain label": 2,
        "both findings": 1,
        "neither finding": 1,
    }
    assert column(result, "sex") == {first: "female", second: "male", third: "male"}
    assert column(result, "view") == {first: "AP", second: "PA", third: "AP"}
    assert list(result.frame["diagnosis"]) == ["No Finding", "Pneumothorax", "Pneumothorax"]
    assert FILES_WITHOUT_ROW not in notes(result)
    (root / f"{below}valid.csv").unlink()
    assert column(read("chexpert", root), "label") == {first: 0, second: 1}


NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
NIH_2020 = f"""{NIH_HEADER}
    00000001_000.png,Cardiomegaly,0,1,57,M,PA,2682,2749,0.143,0.143
    00000002_000.png,No Finding,0,2,80,F,PA,2500,2048,0.171,0.171
    00000003_000.png,Emphysema|Pneumothorax,0,3,3,F,AP,2500,2048,0.171,0.171
    00000004_000.png,No Finding|Pneumothorax,0,4,30,F,AP,2500,2048,0.171,0.171
    00000005_000.png,,0,4,30,F,AP,2500,2048,0.171,0.171
    00000006_000.png,Hydropneumothorax,0,4,30,F,AP,2500,2048,0.171,0.171
    00000007_000.png,Pneumothorax,0,4,30,F,AP,2500,2048,0.171,0.171"""
NIH_2017 = f"""{NIH_HEADER},
    00000001_000.png,Cardiomegaly,0,1,057Y,M,PA,2682,2749,0.143,0.143,
    00000002_000.png,No Finding,0,2,414,F,PA,2500,2048,0.171,0.171,
    00000003_000.png,Emphysema|Pneumothorax,0,3,006M,F,AP,2500,2048,0.171,0.171,"""


@pytest.mark.parametrize(
    ("name", "table", "ages", "folders"),
    [
        ("Data_Entry_2017_v2020.csv", NIH_2020, [80, 3], ("images",) * 3),
        ("Data_Entry_2017.csv", NIH_2017, [None, 0.5], [f"images_00{n}/images" for n in (1, 2, 3)]),
    ],
    ids=["v2020", "2017"],
)
def test_nih_in_both_versions(
    tmp_path: Path, name: str, table: str, ages: list[float | None], folders: list[str]
) -> None:
    images = tuple(f"{folder}/0000000{n}_000.png" for n, folder in enumerate(folders, start=1))
    lists = {"test_list.txt": "00000003_000.png", "train_val_list.txt": "00000002_000.png"}
    result = read("nih", fill(tmp_path / "d", {name: table, **lists}, images))
    assert list(result.frame["path"]) == list(images[1:])
    assert list(result.frame["label"]) == [0, 1]
    assert list(result.frame["diagnosis"]) == ["No Finding", "Emphysema|Pneumothorax"]
    assert list(column(result, "age").values()) == ages
    assert list(result.frame["split"]) == ["train_val", "test"]
    assert list(result.frame["patient_id"]) == ["2", "3"]
    more = {"neither finding": 3, "both findings": 1, rows.NO_FILE: 1}
    assert removed(result) == ({"neither finding": 1} | (more if "v2020" in name else {}))
    assert list(column(result, "sex").values()) == ["female", "female"]
    assert list(column(result, "view").values()) == ["PA", "AP"]
    impossible = notes(result).get("age is not within 0 to 120 years; recorded as unknown", 0)
    assert impossible == ages.count(None)
    (tmp_path / "d/test_list.txt").unlink()
    assert list(column(read("nih", tmp_path / "d"), "split").values()) == ["train_val", None]


# --- anybody's table ------------------------------------------------------------------------------

OWN = """
    path,label,who,sex,years,scanner,dose,site
    a,malignant,p1,W,30,Siemens,1.5,north
    b,benign,p1,f,unknown,GE,?,north
    c,benign,p2,male,200,,2,north
    d,doubtful,p3,male,40,GE,2,north
    e,benign,p4,male,50,GE,2,south
    f,benign,p5,male,60,GE,2,north"""
OWN_OPTIONS = {
    "table": "own.csv",
    "path": "path",
    "image_folder": "pictures",
    "image_suffix": ".png",
    "patient": "who",
    "label": {"column": "label", "positive": ["Benign"], "negative": ["malignant"]},
    "attributes": {
        "sex": {"column": "sex"},
        "age": {"column": "years", "kind": "number", "unknown": ["unknown"]},
        "scanner": {"column": "scanner"},
        "dose": {"column": "dose", "kind": "number"},
    },
    "only": {"site": ["North"]},
}
OWN_IMAGES = ("pictures/a.png", "pictures/b.PNG", "pictures/c.jpg", "pictures/d.png", "f.png")


@pytest.mark.key(
    "table.image_folder",
    "table.image_suffix",
    "table.patient",
    "table.only",
    "label_column.positive",
    "label_column.negative",
    "attribute_column.column",
    "attribute_column.kind",
    "attribute_column.unknown",
)
def test_table_follows_its_column_map(tmp_path: Path) -> None:
    result = read("table", fill(tmp_path / "d", {"own.csv": OWN}, OWN_IMAGES), **OWN_OPTIONS)
    assert column(result, "label") == {"a": 0, "b": 1, "c": 1}
    assert list(column(result, "path").values()) == list(OWN_IMAGES[:3])
    assert column(result, "patient_id") == {"a": "p1", "b": "p1", "c": "p2"}
    assert column(result, "sex") == {"a": None, "b": "female", "c": "male"}
    assert column(result, "age") == {"a": 30, "b": None, "c": None}
    assert column(result, "scanner") == {"a": "Siemens", "b": "GE", "c": None}
    assert column(result, "dose") == {"a": 1.5, "b": None, "c": 2}
    assert removed(result) == {
        "site is not North": 1,
        "label is none of the classes' values": 1,
        rows.NO_FILE: 1,
    }
    assert notes(result) == {
        "found under another image extension or letter case": 2,
        "sex is neither female nor male; unknown": 1,
        "age is not within 0 to 120 years; recorded as unknown": 1,
        "dose is not a number; recorded as unknown": 1,
        FILES_WITHOUT_ROW: 1,
    }


def test_table_from_parquet_is_the_same(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"own.csv": OWN}, OWN_IMAGES)
    pd.read_csv(root / "own.csv").to_parquet(root / "own.parquet")
    from_csv = read("table", root, **OWN_OPTIONS)
    from_parquet = read("table", root, **{**OWN_OPTIONS, "table": "own.parquet"})
    pd.testing.assert_frame_equal(from_parquet.frame, from_csv.frame)


@pytest.mark.key("label_column.positive")
def test_table_takes_every_other_value_as_negative_where_it_is_told_to(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"own.csv": OWN.replace("doubtful", "scar")}, OWN_IMAGES)
    label = {"column": "label", "positive": ["malignant"]}
    options = {**OWN_OPTIONS, "label": label | {"rest_is_negative": True}, "only": {}}
    assert column(read("table", root, **options), "label") == {"a": 1, "b": 0, "c": 0, "d": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"label": {"column": "label", "positive": ["Bening"], "negative": ["x"]}},
            r"no row has Bening.*'benign'",
        ),
        (
            {"label": {"column": "label", "positive": ["benign"], "negative": ["cancer"]}},
            r"label\.negative: no row has cancer",
        ),
        ({"only": {"site": ["nroth"]}}, r"only\.site: no row has nroth.*'north', 'south'"),
        (
            {"label": {"column": "lable", "positive": ["x"], "negative": ["y"]}},
            r"no column 'lable'; .*'label'",
        ),
        ({"image_folder": "../elsewhere"}, "image_folder.*below the root"),
        ({"table": "other.csv"}, r"no file 'other\.csv' .key `table`.*did you mean '\w+\.csv'"),
    ],
)
def test_table_explains_mistakes(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    root = fill(tmp_path / "d", {"own.csv": OWN}, OWN_IMAGES)
    with pytest.raises(UserError, match=message):
        read("table", root, **{**OWN_OPTIONS, **change})


def test_table_with_ids_skin_types_and_paths_that_leave_the_folder(tmp_path: Path) -> None:
    table = """
        name,file,label,type
        one,deep/a.png,benign,3
        two,../b.png,benign,4
        three,/c.png,malignant,5
        four,C:\\\\d.png,malignant,5
        five,e.png,malignant,7
        six,,malignant,1"""
    root = fill(tmp_path / "d", {"own.csv": table}, ("deep/a.png", "e.png"))
    fill(tmp_path, {}, ("b.png",))
    options = {"table": "own.csv", "path": "file", "image_id": "name"}
    options |= {"label": {"column": "label", "positive": ["benign"], "rest_is_negative": True}}
    result = read("table", root, **options, attributes={"fitzpatrick": {"column": "type"}})
    assert column(result, "label") == {"one": 1, "five": 0}
    assert column(result, "path") == {"one": "deep/a.png", "five": "e.png"}
    assert column(result, "fitzpatrick") == {"one": 3, "five": None}
    assert column(result, "patient_id") == {"one": None, "five": None}
    unsafe = "path is absolute or leaves the image folder"
    assert removed(result) == {unsafe: 3, rows.NO_FILE: 1}
