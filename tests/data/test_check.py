"""check_data: what is found, what is missing, and which experiments can run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from swift_debias.config import load, schema
from swift_debias.data import adapters, check
from swift_debias.errors import UserError

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
# of each sex and label three patients, for two folds of at least one image
CELLS = [(sex, target) for sex in ("male", "female") for target in (0, 1) for _ in range(3)]
PEOPLE = ISIC2020 + "".join(
    f"ISIC_1{n},IP_1{n},{sex},50,nevus,{target}\n" for n, (sex, target) in enumerate(CELLS)
)
IMAGES = ["ISIC_1", "ISIC_2", *(f"ISIC_1{n}" for n in range(len(CELLS)))]


@pytest.fixture
def config() -> schema.Settings:
    """One task on ISIC 2020, two attributes with a test set each, an experiment on each."""
    panel = {"task": "skin", "backbone": "net"}
    return load.typed(
        {
            "run": "test",
            "folds": 2,
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
                    "finetuning": {"min_cell": 1, "min_group": 2},
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
    tables = {"isic/train.csv": PEOPLE, "ddi/ddi_metadata.csv": DDI, "atlas/meta/meta.csv": ATLAS}
    images = [
        *(f"isic/train/{name}.jpg" for name in IMAGES),
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
    assert isic.counts == {"label": {"0": 7, "1": 7}, "gender": {"f": 6, "m": 7, "unknown": 1}}
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
        "training pool of skin: isic\n  14 images, 14 distinct ids",
        "note: tone is measured from the pixels: how many of each class its groups have will stand",
        "patients 14, the largest is 'IP_1' with 1 images; 0 images without a patient",
        "values of label: 'dermatofibroma' -> 1 2; 'melanoma-in-situ' -> 0 1",
        "values of sex: 'male' -> male 7; 'female' -> female 6; (empty) -> unknown 1",
        "values of fitzpatrick: '56' -> 5.5 1; '12' -> 1.5 1; '34' -> 3.5 1",
        "ddi: no image of benign in group dark of tone",
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
    unknown = PEOPLE.replace("female", "").replace("male", "").replace("ISIC_", "ISIC_9")
    (second / "train.csv").write_text(unknown)
    for name in IMAGES:
        (second / f"{name.replace('ISIC_', 'ISIC_9')}.jpg").touch()
    data = config.model_dump()
    data["datasets"]["nih"] = {"adapter": "isic2020", "root": "data/nih", "skin_tone": "ita"}
    data["tasks"]["skin"]["train"] = ["isic", "nih"]
    report = check.check(load.typed(data, adapters.options_models()), project, EXPECTED)
    assert report.datasets[-1].counts["gender"] == {"f": 0, "m": 0, "unknown": 14}
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
    data["datasets"]["nih"] = {"adapter": "isic2020", "root": "data/nih", "skin_tone": "ita"}
    data["tasks"]["skin"]["train"] = ["isic", "nih"]
    (pool,) = check.check(load.typed(data, adapters.options_models()), project, EXPECTED).pools
    assert (pool.images, pool.distinct_ids) == (16, 15)


def own_tables(root: Path, **rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Entries of tables with columns file, who, dx, sex, and an empty file an image."""
    entries = {}
    for name, lines in rows.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        text = "".join(f"{n}.png,{who},{dx},{sex}\n" for n, (who, dx, sex) in enumerate(lines))
        (root / name / "t.csv").write_text("file,who,dx,sex\n" + text)
        for n in range(len(lines)):
            (root / name / f"{n}.png").touch()
        entries[name] = {
            "adapter": "table",
            "root": str(root / name),
            "table": "t.csv",
            "path": "file",
            "patient": "who",
            "label": {"column": "dx", "positive": ["sick"], "negative": ["well"]},
            "attributes": {"sex": {"column": "sex"}},
        }
    return entries


def people(n: int, prefix: str, sexes: tuple[str, str] = ("F", "M")) -> list[tuple[Any, ...]]:
    """n persons of each sex and diagnosis."""
    kinds = [(dx, sex) for dx in ("sick", "well") for sex in sexes for _ in range(n)]
    return [(f"{prefix}{k}", dx, sex) for k, (dx, sex) in enumerate(kinds)]


def checked(config: schema.Settings, entries: dict[str, Any], **changes: Any) -> check.CheckReport:
    """The check of a task that trains on `train` and is tested on `test`, by sex."""
    data = config.model_dump() | {"datasets": entries} | changes
    gender = {"column": "sex", "groups": {"f": ["female"], "m": ["male"]}}
    data |= {
        "attributes": {"gender": gender},
        "experiments": {"x": data["experiments"]["by_gender"]},
    }
    data["tasks"]["skin"] |= {"train": ["train"], "tests": {"gender": ["test"]}}
    return check.check(load.typed(data, adapters.options_models()), Path(), EXPECTED)


def reasons(report: check.CheckReport) -> str:
    [experiment] = report.experiments
    return "; ".join(experiment.reasons)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_each_fold_needs_its_cells(config: schema.Settings, tmp_path: Path, n: int) -> None:
    """Two folds of at least one image of each label and sex: one person a cell is too few."""
    report = checked(config, own_tables(tmp_path, train=people(n, "p"), test=people(1, "q")))
    assert report.ok == (n > 1)
    if n == 1:
        assert "melanoma in group f: 1" in reasons(report)
        assert "benign in group m: 1" in reasons(report)


def test_a_patient_is_in_one_fold(config: schema.Settings, tmp_path: Path) -> None:
    """Three images of a cell, all of one woman, are no use to the other fold."""
    rows = [
        ("eve" if (dx, sex) == ("sick", "F") else who, dx, sex) for who, dx, sex in people(3, "p")
    ]
    report = checked(config, own_tables(tmp_path, train=rows, test=people(1, "q")))
    assert not report.ok
    assert "benign in group f: 3" in reasons(report)
    assert "group m" not in reasons(report)
    assert report.datasets[0].largest_patient == "eve"
    assert report.datasets[0].largest_patient_images == 3


def test_a_misspelt_group_cannot_run(config: schema.Settings, tmp_path: Path) -> None:
    tables = own_tables(tmp_path, train=people(9, "p", ("W", "M")), test=people(1, "q"))
    report = checked(config, tables)
    assert not report.ok
    assert "melanoma in group f: 0" in reasons(report)
    assert "values of sex: 'W' -> unknown 18; 'M' -> male 18" in report.as_text()


def test_an_unlucky_cut_is_seen_before_it_is_made(config: schema.Settings, tmp_path: Path) -> None:
    """Enough patients in all, but whole patients do not divide so: make_folds itself is asked."""
    from swift_debias.data.folds import make_folds

    found = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        who = rng.integers(0, 7, 24)
        rows = [(f"p{w}", ("sick", "well")[k % 2], "FM"[k // 2 % 2]) for k, w in enumerate(who)]
        tables = own_tables(tmp_path / f"{seed}", train=rows, test=people(1, "q"))
        report = checked(config, tables, folds=3)
        cohort = pd.DataFrame(rows, columns=["cluster", "label", "sex"])
        cohort = cohort.assign(image_id=[f"{k}.png" for k in range(24)], dataset="train")
        cohort["label"] = (cohort["label"] == "sick").astype("int8")
        first = cohort.groupby("cluster")["image_id"].transform("first")
        cohort["cluster"] = "train/" + first
        sexes = (cohort["sex"] == "M").astype(int)
        try:
            folds = make_folds(cohort, pd.DataFrame({"gender": sexes}), 3, 0)["fold"]
            fine = pd.crosstab(folds, [cohort["label"], sexes]).to_numpy().all()
        except UserError:
            fine = False
        assert report.ok == bool(fine), (seed, reasons(report))
        found.add(bool(fine))
    assert found == {True, False}


@pytest.mark.parametrize("leaks", ["exclude", "refuse", "allow"])
def test_patients_of_a_test_set_are_counted(
    config: schema.Settings, tmp_path: Path, leaks: str
) -> None:
    rows, other = people(9, "p"), [("p0", "well", "F"), (" p1 ", "sick", "M"), ("NA", "well", "M")]
    rows += [("NA", "well", "M")] * 4  # unknown patients are nobody's
    tables = own_tables(tmp_path, train=rows, test=other)
    for entry in tables.values():
        entry["archive"] = "hospital"
        entry["image_id"] = "file"
    (tmp_path / "test" / "t.csv").write_text(
        "file,who,dx,sex\n"
        + "".join(f"t{n}.png,{a},{b},{c}\n" for n, (a, b, c) in enumerate(other))
    )
    for n in range(3):
        (tmp_path / "test" / f"t{n}.png").touch()
    report = checked(config, tables, duplicates={"leaks": leaks})
    assert report.ok == (leaks != "refuse")
    if leaks == "refuse":
        assert "2 training images" in reasons(report)
        return
    [pool] = report.pools
    assert (pool.leaks["images"], pool.leaks["patients"]) == (2, 2)
    assert pool.images_left == {"exclude": 38, "allow": 40}[leaks]
    assert {"exclude": "excluded", "allow": "kept"}[leaks] in report.as_text()
    assert report.datasets[0].images_without_patient == 4


def test_a_configured_value_that_no_image_has_is_noted(
    config: schema.Settings, tmp_path: Path
) -> None:
    tables = own_tables(tmp_path, train=people(3, "p"), test=people(1, "q"))
    for entry in tables.values():
        entry["label"]["positive"] = ["sick", "ill"]
        entry["attributes"]["gender"] = {"column": "sex"}
    report = checked(config, tables)
    assert report.ok
    assert report.datasets[0].notes["values of label.positive that no row has"] == 1


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


# --- label and group in the pool ------------------------------------------------------------------


@pytest.mark.parametrize("inverted", [False, True])
def test_the_pool_is_counted_by_group_and_label(
    config: schema.Settings, project: Path, inverted: bool
) -> None:
    """From the table itself; what is measured from pixels is said to come later."""
    task = config.tasks["skin"].model_copy(
        update={"invert_labels": inverted, "positive": "well", "negative": "ill"}
    )
    changed = config.model_copy(update={"tasks": {"skin": task}})
    report = check.check(changed, project, EXPECTED)
    [pool] = report.pools
    rows = [line.split(",") for line in PEOPLE.splitlines()[1:]]
    # the adapter's class 1 is benign: target 0
    labels = [(1 - int(row[5])) ^ inverted for row in rows]
    expected = {
        group: tuple(
            sum(row[2] == sex and label == y for row, label in zip(rows, labels, strict=True))
            for y in (0, 1)
        )
        for group, sex in (("f", "female"), ("m", "male"))
    }
    assert dict(pool.cells) == {"gender": expected}
    stored = json.loads(json.dumps(report.as_json()))["pools"][0]
    assert stored["cells"] == {"gender": {group: list(n) for group, n in expected.items()}}
    assert stored["classes"] == ["ill", "well"]
    share = expected["m"][1] / sum(expected["m"])
    told = pool.in_words["gender"]
    assert told.startswith("Share of well by gender: f ")
    assert f"m {share:.0%}".replace("%", " %") in told
    text = report.as_text()
    assert "  gender, images of ill / well:\n" in text and told in text
    assert f"    m {expected['m'][0]} / {expected['m'][1]}\n" in text
    assert "tone is measured from the pixels" in text


@pytest.mark.parametrize(
    ("train", "external", "said"),
    [
        (("isic",), (), "training pool of skin: isic\n"),
        ((), ("isic",), "\nexternal set of skin: isic\n"),
        (("atlas",), ("isic",), "training pool and external set of skin: atlas + isic\n"),
    ],
)
def test_an_external_set_of_ones_own_is_called_by_its_name(
    config: schema.Settings,
    project: Path,
    train: tuple[str, ...],
    external: tuple[str, ...],
    said: str,
) -> None:
    """Where data are missing too: the reason says of what."""
    task = config.tasks["skin"].model_copy(update={"train": train, "external": external})
    changed = config.model_copy(update={"tasks": {"skin": task}, "folds": 50})
    text = check.check(changed, project, EXPECTED).as_text()
    assert said in text
    assert ("pool" in text.replace("pool and", "")) == bool(not external)
    assert f"{said.strip().partition(':')[0]}: " in text.partition("cannot")[2]
