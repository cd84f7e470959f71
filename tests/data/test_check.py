"""check_data: what is found, what is missing, and which experiments can run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swift_debias.config import load, schema
from swift_debias.data import adapters, check

REPOSITORY = Path(__file__).resolve().parents[2]
EXPECTED = check.load_expected(REPOSITORY / "resources" / "expected_counts.yaml")
LIBRARY = Path(schema.__file__).parents[2]
DDI = """,DDI_ID,DDI_file,skin_tone,malignant,disease
0,1,000001.png,56,TRUE,melanoma-in-situ
1,2,000002.png,12,FALSE,dermatofibroma
2,3,000003.png,34,FALSE,dermatofibroma
3,4,000004.png,12,FALSE,dermatofibroma
"""
ATLAS = """case_num,diagnosis,sex,clinic,derm
1,melanoma,female,A/1.jpg,A/2.jpg
2,clark nevus,male,A/3.jpg,A/4.jpg
"""
ISIC2020 = """image_name,patient_id,sex,age_approx,diagnosis,target
ISIC_1,IP_1,male,45,nevus,0
ISIC_2,IP_2,,30,melanoma,1
"""


@pytest.fixture
def config() -> schema.Settings:
    """One task on ISIC 2020, two attributes with a test set each, an experiment on each."""
    panel = {"task": "skin", "backbone": "net"}
    return load.typed(
        {
            "run": "test",
            "datasets": {
                "isic": {"adapter": "isic2020", "root": "data/isic", "skin_tone": "ita"},
                "ddi": {"adapter": "ddi", "root": "data/ddi"},
                "atlas": {"adapter": "atlas", "root": "data/atlas"},
                "nih": {"adapter": "nih", "root": "data/nih"},
            },
            "attributes": {
                "tone": {"column": "fitzpatrick", "groups": {"light": [1.5], "dark": [5.5]}},
                "gender": {"column": "sex", "groups": {"f": ["female"], "m": ["male"]}},
            },
            "tasks": {
                "skin": {
                    "train": ["isic"],
                    "tests": {"tone": ["ddi"], "gender": ["atlas"]},
                    "positive": "benign",
                    "negative": "melanoma",
                    "pretraining": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
                }
            },
            "backbones": {"net": {"architecture": "small_resnet"}},
            "methods": {"baseline": {"algorithm": "baseline"}},
            "experiments": {
                name: {
                    "kind": "table",
                    "title": name,
                    "methods": ["baseline"],
                    "panels": [{**panel, "attribute": attribute}],
                }
                for name, attribute in (("by_tone", "tone"), ("by_gender", "gender"))
            },
        },
        adapters.options_models(),
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """All folders complete, but for one image of DDI; no image can be opened: all are empty."""
    tables = {"isic/train.csv": ISIC2020, "ddi/ddi_metadata.csv": DDI, "atlas/meta/meta.csv": ATLAS}
    images = [
        *("isic/train/ISIC_1.jpg", "isic/train/ISIC_2.jpg"),
        *(f"ddi/00000{n}.png" for n in (1, 2, 3)),
        *(f"atlas/images/A/{n}.jpg" for n in range(1, 5)),
    ]
    for name, content in {**tables, **dict.fromkeys(images, "")}.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def test_a_complete_copy_can_run(config: schema.Settings, project: Path) -> None:
    report = check.check(config, project, EXPECTED)
    assert report.ok
    isic, ddi, atlas = report.datasets
    assert (isic.name, ddi.name, atlas.name) == ("isic", "ddi", "atlas")
    assert (ddi.rows_read, ddi.images_found, ddi.images_missing) == (4, 3, 1)
    assert ddi.missing_examples == ("000004.png",)
    assert ddi.counts == {
        "label": {"0": 1, "1": 2},
        "tone": {"light": 1, "dark": 1, "unknown": 1},
    }
    assert ddi.expected == {"label": {"0": 21, "1": 635}, "tone": {"light": 208, "dark": 207}}
    assert ddi.paper_images == 656
    assert atlas.expected["gender"] == {"f": 522, "m": 489}
    # Skin tone of ISIC is measured from the pixels later on, so there is nothing to count yet.
    assert isic.counts == {"label": {"0": 1, "1": 1}, "gender": {"f": 0, "m": 1, "unknown": 1}}
    assert not any(view.reasons for view in report.experiments)
    assert json.loads(json.dumps(report.as_json()))["datasets"][1]["origin"]["url"].startswith(
        "http"
    )


def test_the_text_says_it_all(config: schema.Settings, project: Path) -> None:
    text = check.check(config, project, EXPECTED).as_text()
    for part in (
        "ddi: Diverse Dermatology Images",
        "https://ddi-dataset.github.io/ (Stanford research use agreement",
        "rows     4, images found 3 (paper: 656)",
        "MISSING  1 images, such as 000004.png",
        "label: 0 1 (expected 21), 1 2 (expected 635)",
        "tone: light 1 (expected 208), dark 1 (expected 207), unknown 1",
        "training pool of skin: isic\n  2 images, 2 distinct ids",
        "by_tone: can run",
    ):
        assert part in text


def test_a_missing_folder_stops_what_needs_it_and_no_more(
    config: schema.Settings, project: Path
) -> None:
    (project / "data" / "ddi").rename(project / "ddi")
    report = check.check(config, project, EXPECTED)
    assert not report.ok
    assert {view.name: view.reasons for view in report.experiments} == {
        "by_tone": ("ddi: folder not found",),
        "by_gender": (),
    }
    text = report.as_text()
    assert "NOT FOUND" in text
    assert "by_tone: cannot run: ddi: folder not found" in text
    (missing,) = check.missing_folders(config, project, EXPECTED)
    assert missing.dataset == "ddi"
    assert missing.folder == project / "data" / "ddi"
    assert "https://ddi-dataset.github.io/" in str(missing)


def test_columns_and_images_that_lack_are_named(config: schema.Settings, project: Path) -> None:
    table = project / "data" / "ddi" / "ddi_metadata.csv"
    table.write_text(DDI.replace("skin_tone", "tone").replace("disease", "diagnosis"))
    for path in (project / "data" / "atlas" / "images" / "A").iterdir():
        path.unlink()
    report = check.check(config, project, EXPECTED)
    _, ddi, atlas = report.datasets
    assert ddi.columns_missing == ("skin_tone", "disease")
    assert ddi.error is not None
    assert "no column 'skin_tone'; did you mean 'tone'?" in ddi.error
    assert (atlas.images_found, atlas.images_missing) == (0, 2)
    assert [view.reasons for view in report.experiments] == [
        (f"ddi: {ddi.error}",),
        ("atlas: no image found",),
    ]
    assert not report.ok


def test_an_attribute_that_nobody_has_is_a_reason(config: schema.Settings, project: Path) -> None:
    table = project / "data" / "atlas" / "meta" / "meta.csv"
    table.write_text(ATLAS.replace("female", "").replace("male", ""))
    report = check.check(config, project, EXPECTED)
    assert [view.reasons for view in report.experiments] == [
        (),
        ("atlas: no image has a known gender",),
    ]


def test_one_training_set_that_knows_the_attribute_is_enough(
    config: schema.Settings, project: Path
) -> None:
    second = project / "data" / "nih"
    second.mkdir()
    (second / "train.csv").write_text(ISIC2020.replace("male", "").replace("ISIC_", "ISIC_9"))
    for name in ("ISIC_91", "ISIC_92"):
        (second / f"{name}.jpg").touch()
    data = config.model_dump()
    data["datasets"]["nih"] |= {"adapter": "isic2020", "skin_tone": "ita"}
    data["tasks"]["skin"]["train"] = ["isic", "nih"]
    report = check.check(load.typed(data, adapters.options_models()), project, EXPECTED)
    assert report.datasets[-1].counts["gender"] == {"f": 0, "m": 0, "unknown": 2}
    assert report.ok
    data["tasks"]["skin"]["train"] = ["nih"]
    report = check.check(load.typed(data, adapters.options_models()), project, EXPECTED)
    assert report.experiments[1].reasons == ("nih: no image has a known gender",)


def test_an_id_that_two_training_sets_share_counts_once(
    config: schema.Settings, project: Path
) -> None:
    second = project / "data" / "nih"
    second.mkdir()
    (second / "train.csv").write_text(ISIC2020.replace("ISIC_1", "ISIC_3"))
    for name in ("ISIC_2", "ISIC_3"):
        (second / f"{name}.jpg").touch()
    data = config.model_dump()
    data["datasets"]["nih"] |= {"adapter": "isic2020", "skin_tone": "ita"}
    data["tasks"]["skin"]["train"] = ["isic", "nih"]
    (pool,) = check.check(load.typed(data, adapters.options_models()), project, EXPECTED).pools
    assert (pool.images, pool.distinct_ids) == (4, 3)


def test_folders_that_the_run_draws_are_not_missed(config: schema.Settings, tmp_path: Path) -> None:
    names = [missing.dataset for missing in check.missing_folders(config, tmp_path, EXPECTED)]
    assert names == ["isic", "ddi", "atlas"]  # nih is in no experiment
    drawn = config.model_copy(
        update={"synthetic": schema.Synthetic(images={"isic": 5, "ddi": 5, "atlas": 5})}
    )
    assert check.missing_folders(drawn, tmp_path, EXPECTED) == ()


def test_the_quick_check_is_quick() -> None:
    """The Snakefile calls it at every start, so it may import neither pandas nor pyarrow."""
    code = (
        f"import sys; sys.path.insert(0, {str(LIBRARY)!r})\n"
        "from swift_debias.data.check import load_expected, missing_folders\n"
        "assert not {'pandas', 'pyarrow', 'numpy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_thousands_of_images_take_seconds(config: schema.Settings, project: Path) -> None:
    names = [f"ISIC_{n:07d}" for n in range(5_000)]
    rows = "".join(f"{name},IP_{k % 99},male,45,nevus,{k % 2}\n" for k, name in enumerate(names))
    (project / "data" / "isic" / "train.csv").write_text(ISIC2020.splitlines()[0] + "\n" + rows)
    for name in names:
        (project / "data" / "isic" / "train" / f"{name}.jpg").touch()
    start = time.process_time()
    report = check.check(config, project, EXPECTED)
    assert time.process_time() - start < 5  # about 0.2 on one core
    assert report.datasets[0].images_found == 5_000
    assert report.pools[0].distinct_ids == 5_000


def test_every_adapter_has_its_page_licence_and_counts() -> None:
    assert set(EXPECTED["datasets"]) == set(adapters.available()) - {"table"}
    for entry in EXPECTED["datasets"].values():
        assert entry["url"].startswith("https://")
        assert entry["title"] and entry["licence"] and entry["folder"] and entry["source"]
        assert set(entry["counts"]) <= {"label", "sex", "fitzpatrick"}


def test_the_papers_numbers() -> None:
    """Section 4.1: 56,863 = 45,489 + 11,374; 61,502 + 15,376; and the test sets' sizes."""
    skin, chest = EXPECTED["pools"]
    assert skin["paper"] == skin["paper_train"] + skin["paper_validation"] == 56863
    assert chest["paper"] == chest["paper_train"] + chest["paper_validation"] == 76878
    papers = {name: entry["paper"] for name, entry in EXPECTED["datasets"].items()}
    assert papers["fitzpatrick17k"] == 16577
    assert papers["ddi"] == 656 == sum(EXPECTED["datasets"]["ddi"]["counts"]["label"].values())
    assert papers["atlas"] == 1011 == sum(EXPECTED["datasets"]["atlas"]["counts"]["sex"].values())
    assert (papers["pad_ufes_20"], papers["chexpert"], papers["nih"]) == (2298, 21040, 10815)
