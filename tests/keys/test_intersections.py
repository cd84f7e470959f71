"""Attributes made of others: groups, refusals, and the road from the tables to the metrics."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.keys.conftest import configuration

from swift_debias import methods
from swift_debias.config import load, plan, schema
from swift_debias.config.schema import Attribute, Finetuning
from swift_debias.data import adapters, check
from swift_debias.data.groups import groups_in
from swift_debias.errors import UserError
from swift_debias.evaluation import metrics
from swift_debias.methods._groups import choose_groups

PROJECT = Path(__file__).resolve().parents[2]
SEX = Attribute(column="sex", groups={"female": ("female",), "male": ("male",)})
AGE = Attribute(column="age", cuts=(40, 60), names=("young", "middle", "old"))
TONE = Attribute(column="fitzpatrick", groups={"light": (1, 2, 3), "dark": (4, 5, 6)})


def read(attributes: dict[str, Any]) -> schema.Settings:
    """The small configuration with further attributes, all of them tested on the set `east`."""
    config = configuration()
    config["attributes"] |= attributes
    config["tasks"]["skin"]["tests"] |= {name: ["east"] for name in attributes}
    for name in attributes:
        panel = {"task": "skin", "backbone": "net", "attribute": name}
        config["experiments"][f"by_{name}"] = {
            "kind": "table",
            "title": name,
            "methods": ["baseline"],
            "panels": [panel],
        }
    return load.load(
        config,
        PROJECT,
        algorithms=methods.settings_models(),
        adapters=adapters.options_models(),
        metrics=metrics.catalogue(),
    )


def test_groups_are_looked_up_in_the_product_of_the_parts() -> None:
    """50 tables of random people, each person looked up by hand."""
    parts = {"sex": SEX, "age": AGE, "tone": TONE}
    rng, compared = np.random.default_rng(0), 0
    for _ in range(50):
        names = [str(name) for name in rng.permutation(list(parts))[: rng.integers(2, 4)]]
        crossed = Attribute(cross={name: parts[name] for name in names})
        frame = pd.DataFrame(
            {
                "sex": rng.choice(np.array(["female", "male", "x", None], object), 30),
                "age": rng.choice([12.0, 40.0, 59.9, 60.0, 88.0, np.nan], 30),
                "fitzpatrick": rng.choice([1, 3, 3.5, 4, 6, np.nan], 30),
            }
        )
        found = groups_in(frame, crossed)
        for row, group in zip(frame.itertuples(), found, strict=True):
            words = {
                "sex": row.sex if row.sex in ("female", "male") else None,
                "age": None
                if np.isnan(row.age)
                else "young"
                if row.age < 40
                else "middle"
                if row.age < 60
                else "old",
                "tone": {1: "light", 3: "light", 4: "dark", 6: "dark"}.get(row.fitzpatrick),
            }
            own = [words[name] for name in names]
            expected = None if None in own else ", ".join(own)
            assert (None if group < 0 else crossed.group_names[group]) == expected
            compared += 1
    assert compared == 1500


@pytest.mark.key("attribute.cross")
def test_names_are_written_and_their_attributes_are_read() -> None:
    settings = read({"sex_age": {"cross": ["sex", "age"]}})
    crossed = settings.attributes["sex_age"]
    assert crossed.group_names == (
        "female, younger",
        "female, older",
        "male, younger",
        "male, older",
    )
    assert crossed.columns == ("sex", "age")
    again = Attribute(**crossed.model_dump(mode="json"))  # what a rule gives its script
    assert again == crossed
    assert plan.strata(settings, "skin") == ("age", "sex", "tone")  # four groups are no stratum


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"cross": ["sex", "aeg"]}, "both.cross: no attribute 'aeg'; did you mean 'age'?"),
        ({"cross": ["sex"]}, "attributes.both: cross: needs at least two attributes"),
        ({"cross": []}, "attributes.both: cross: needs at least two attributes"),
        ({"cross": ["sex", "sex"]}, "attributes.both.cross: 'sex' stands there twice"),
        ({"cross": "sex"}, "attributes.both.cross: a list of attributes is needed, not 'sex'"),
        ({"cross": {"sex": 1}}, "attributes.both.cross: a list of attributes is needed"),
        ({"cross": ["sex", 7]}, "attributes.both.cross: a list of attributes is needed"),
        ({"cross": ["sex", "other"]}, "'other' is a cross itself; name its parts here"),
        ({"cross": ["both", "sex"]}, "'both' is a cross itself; name its parts here"),
        ({"cross": ["age", "old"]}, "cross: two of them are of column 'age'"),
        ({"cross": ["sex", "age"], "column": "sex"}, "leave out column:"),
        ({"cross": ["sex", "age"], "names": ["a", "b"]}, "leave out names:"),
        ({"cross": ["many", "age"]}, "cross: makes 102 groups; 100 are the most"),
        ({"cross": ["commas", "tail"]}, "cross: two groups are called 'a, b, c'"),
        ({"cuts": [1], "names": ["a", "b"]}, "column: is missing"),
    ],
)
def test_what_is_no_intersection_is_refused_in_a_line(entry: dict[str, Any], said: str) -> None:
    others = {
        "other": {"cross": ["sex", "age"]},
        "old": {"column": "age", "cuts": [70], "names": ["below", "from 70"]},
        "many": {"column": "view", "groups": {str(n): [n] for n in range(51)}},
        "commas": {"column": "sex", "groups": {"a": ["x"], "a, b": ["y"]}},
        "tail": {"column": "age", "cuts": [3], "names": ["b, c", "c"]},
    }
    with pytest.raises(UserError) as refused:
        config = {"attributes": configuration()["attributes"] | others | {"both": entry}}
        load.load(
            configuration() | config,
            PROJECT,
            algorithms=methods.settings_models(),
            adapters=adapters.options_models(),
        )
    lines = str(refused.value).removeprefix("the configuration is not valid:\n").splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_a_data_set_needs_every_column() -> None:
    crossed = Attribute(cross={"sex": SEX, "tone": TONE})
    models = adapters.options_models()
    isic = models["isic2017"](adapter="isic2017", root=".")
    assert isic.lacking(crossed) == "fitzpatrick"
    measured = models["isic2017"](adapter="isic2017", root=".", skin_tone="ita")
    assert measured.lacking(crossed) is None
    assert not measured.reads(crossed)  # the pixels are needed
    assert models["pad_ufes_20"](adapter="pad_ufes_20", root=".").reads(crossed)


def test_the_check_counts_every_combination(drawn: Path) -> None:
    settings = read({"sex_age": {"cross": ["sex", "age"]}})
    report = check.check(settings, drawn, {"datasets": {}, "pools": []})
    of_others = [data for data in report.datasets if data.name == "west"]  # is no test set of it
    assert "sex_age" not in of_others[0].counts
    for data in report.datasets:
        if data in of_others:
            continue
        table = pd.read_csv(drawn / "data" / data.name / "table.csv")
        cells = {
            f"{sex}, {age}": int(((table.gender == letter) & ((table.years >= 50) == old)).sum())
            for (sex, letter), (age, old) in itertools.product(
                (("female", "F"), ("male", "M")), (("younger", False), ("older", True))
            )
        }
        unknown = {"unknown": int(table.gender.isna().sum())}
        assert data.counts["sex_age"] == cells | unknown
    assert {data.name for data in report.datasets} == {"north", "south", "east", "west"}


def test_the_pair_is_that_of_many_groups() -> None:
    """The combinations with the best and the worst AUC are compared; a small one is not."""
    rng = np.random.default_rng(0)
    rows = []
    for fold, group in itertools.product(range(2), range(4)):
        labels = np.arange(60 if group != 3 else 6) % 2
        strength = (2.0, 0.2, 1.0, 0.0)[group]
        rows.append(
            pd.DataFrame(
                {
                    "fold": fold,
                    "label": labels,
                    "group": group,
                    "score": strength * labels + rng.normal(size=len(labels)),
                    "patient": None,
                }
            )
        )
    choice = choose_groups(
        pd.concat(rows, ignore_index=True), 4, Finetuning(min_cell=2, min_group=20)
    )
    assert choice.pair is not None
    assert set(choice.pair) == {0, 1}


def test_from_the_tables_to_the_metrics(make: Any) -> None:
    """Every job of a setup runs; groups of the scores are those of the tables, counted by hand."""
    changes = {
        "attributes.sex_age": {"cross": ["sex", "age"]},
        "tasks.skin.tests.sex_age": ["east", "west"],
        "experiments.table1.panels.0.attribute": "sex_age",
        "experiments.table1.methods": ["baseline", "llft"],
    }
    made = make("metrics.parquet", changes)
    found = pd.read_parquet(made)
    assert set(found.method) == {"baseline", "llft"}
    for name in ("east", "west"):
        table = pd.read_csv(made.parents[2] / "data" / name / "table.csv")
        known = table[table.gender.notna()]
        codes = (known.gender == "M") * 2 + (known.years >= 50)
        ours = found[(found.dataset == name) & (found.method == "llft") & (found.fold == 0)]
        values = ours.set_index("metric")["value"]
        assert values["n_unknown"] == table.gender.isna().sum()
        assert [values[f"n[{g}]"] for g in range(4)] == [int((codes == g).sum()) for g in range(4)]
        counted = [
            g
            for g in range(4)
            if (codes == g).sum() >= 2 and known.finding[codes == g].nunique() == 2
        ]
        assert len(counted) >= 2
        worst = min(values[f"auc[{g}]"] for g in counted)
        assert values["auc_min"] == pytest.approx(worst)
