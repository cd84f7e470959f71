"""Every key of the configuration, fed with what its type does not mean.

The verdict of each input is one of two: it is taken as it was written, or refused in a line that
names the key. Anything else fails: another exception, a value that became another one in silence.
"""

from __future__ import annotations

import datetime
import math
import os
import random
import string
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.adversarial.settings_world import (
    KNOWN,
    PROJECT,
    Leaf,
    assert_one_line_each,
    leaves,
    look,
    put,
    read,
    same,
    undrawn,
    valid,
)

from swift_debias.config import plan, strict_yaml
from swift_debias.config.schema import Backbone, Settings
from swift_debias.errors import UserError
from swift_debias.report import verdict

CONFIG = valid()
FOUND = undrawn(CONFIG)  # the folders of its data sets are there
LEAVES = {leaf.name: leaf for leaf in leaves(CONFIG)}
NUMBERS = {name: leaf for name, leaf in LEAVES.items() if leaf.kinds() & {int, float}}
# Keys that take what other numbers may not, and why.
NEGATIVE = (
    "seed",
    "mean",
    "cuts",
    "options",
)  # any integer; the channels of a picture; a user's own
TEXT_TOO = ("groups", "threshold", "options")  # values of a table; 'mean'; a user's own network


def hostile(rng: random.Random) -> list[Any]:
    """Values that careless and hostile people write, some of them drawn."""
    length = rng.choice((1, 7, 63, 300, 100_000))
    return [
        *(None, True, False, 0, 1, -1, 2, 3, -rng.randrange(10**9), rng.randrange(10**12)),
        *(10**30, -(10**30), 10**400, 2**63, 0.5, -0.5, 1.0, 1e-300, 1e300, -1e300, 5e-324),
        *(math.nan, math.inf, -math.inf, rng.uniform(-1e6, 1e6), rng.random()),
        *(
            "",
            " ",
            "\t",
            "nan",
            "inf",
            "-Infinity",
            "1e-4",
            "1e400",
            "0x10",
            "1_000",
            "true",
            "null",
        ),
        "".join(rng.choices(string.printable, k=length)),
        "".join(
            chr(rng.choice((*range(1, 0xD7FF, 97), *range(0xE000, 0x10FFFF, 997)))) for _ in "ab"
        ),
        *("é", "e\u0301", "\u202egnp", "\ud800", "a\0b", "a\nb", "𝟙", "١", "\ufeff", "x" * length),
        *("../../x", "/etc/passwd", "~root", ".", "..", "a/b", "a\\b", "-rf", "C:\\x", "file://x"),
        *("$(touch x)", "`id`", "a;b", "a|b", "a&b", "*", "[ab]", "{fold}", "{", "}{", "%s", "a'b"),
        *([], [[]], {}, {"a": 1}, {1: 2}, [None], [True], [math.nan], [1, "a"], ["a", "a"], [{}]),
        *(b"bytes", datetime.date(2020, 1, 31), {1, 2}, 1j, object()),
    ]


def test_the_walk_meets_every_section() -> None:
    assert isinstance(read(CONFIG), Settings)
    sections = {leaf.path[0] for leaf in LEAVES.values()}
    left = {"skin_tone", "selection", "report"}  # sections that may be left out
    assert sections | left == set(Settings.model_fields)
    assert len(LEAVES) > 180


@pytest.mark.parametrize("part", range(4))
def test_every_key_with_every_kind_of_value(part: int) -> None:
    """In four parts, so that workers share them; together some thousand inputs."""
    verdicts: Counter[str] = Counter()
    for number, leaf in enumerate(LEAVES.values()):
        rng = random.Random(f"config {leaf.name}")
        for value in rng.sample(hostile(rng), 6) if number % 4 == part else ():
            for one in (value, [value]) if leaf.is_container() else (value,):
                verdicts[judge(leaf, one)] += 1
    print(f"config values, part {part}: {dict(verdicts)}")
    assert sum(verdicts.values()) > 400
    assert min(verdicts["works"], verdicts["refused"]) > 20


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        *(("table1", "[table1]"), ("a,b-2", "[a, b-2]"), (3, "[3]"), ({"a": 1}, "[{...}]")),
        *(("a b\n", r"['a b\n']"), (True, "[True]")),
        ("x" * 99, f"['{'x' * 37}...{'x' * 38}']"),
    ],
)
def test_a_word_where_a_list_is_meant_is_shown_as_a_list(given: Any, shown: str) -> None:
    """For every key: Python's tuples are nowhere spoken of."""
    told = 0
    for leaf in LEAVES.values():
        found = read(put(CONFIG, leaf.path, given))
        if isinstance(found, str):
            assert "tuple" not in found, found
            told += f"{leaf.path[-1]}: a list, as in {leaf.path[-1]}: {shown}" in found
    assert told > 10


def judge(leaf: Leaf, value: Any) -> str:
    """Load the configuration with this value; fails where neither verdict holds."""
    found = read(put(CONFIG, leaf.path, value))
    if isinstance(found, str):
        # a name that others refer to is missed where it is referred to
        referred = ("panels", "train", "tests", "experiments", "methods")
        last = next(str(part) for part in reversed(leaf.path) if isinstance(part, str))
        assert_one_line_each(found, last, *(referred if leaf.path[-1] in ("cuts",) else ()))
        return "refused"
    assert plan.setups(found)
    found.model_dump_json()
    taken = look(found, leaf.path)
    if leaf.path[-1] in ("root", "weights", "baseline", "table", "patients") and isinstance(
        value, str
    ):
        value = os.path.expanduser(value)  # noqa: PTH111
    default = leaf.field.get_default() if not leaf.field.is_required() else None
    assert same(taken, value) or (same(taken, default) and value is None), (leaf.name, value, taken)
    return "works"


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_finite_and_no_truth_value(name: str) -> None:
    """Whatever the key: the type decides. A list of numbers is asked for each of its numbers."""
    leaf = NUMBERS[name]
    wrong: list[Any] = [math.nan, math.inf, -math.inf, "nan", "inf", 10**400, [], {}]
    wrong += [] if name.endswith(TEXT_TOO) else [True, False, "two", "", "1,5"]
    wrong += [] if leaf.path[-1] in NEGATIVE + TEXT_TOO else [-1, -1e-9, "-1"]
    for value in wrong:
        if leaf.is_container():
            current = look(read(CONFIG), leaf.path)  # type: ignore[arg-type]
            value = {"k": value} if isinstance(current, dict) else [value] * 3
        found = read(put(CONFIG, leaf.path, value))
        assert isinstance(found, str), f"{name}: {value!r} was taken"
        assert_one_line_each(found, str(leaf.path[-1]))


@pytest.mark.parametrize("part", range(2))
def test_a_truth_value_is_no_text_and_no_number(part: int) -> None:
    """NO, yes and off are truth values to YAML; a table's values must not become 0 and 1."""
    asked = [leaf for leaf in LEAVES.values() if bool not in leaf.kinds()][part::2]
    assert len(asked) > 100
    for leaf in asked:
        for value in (True, False):
            given: Any = value
            if leaf.is_container():
                current = look(read(CONFIG), leaf.path)  # type: ignore[arg-type]
                given = {"k": value} if isinstance(current, dict) else [value] * 2
            found = read(put(CONFIG, leaf.path, given))
            assert isinstance(found, str), (leaf.name, given)
            last = next(str(step) for step in reversed(leaf.path) if isinstance(step, str))
            assert_one_line_each(found, last)


def test_values_of_a_group_are_quoted_where_yaml_reads_more() -> None:
    groups = {"north": [False, "SE"], "south": ["IT"]}
    said = read(put(CONFIG, ("attributes", "sex", "groups"), groups))
    assert isinstance(said, str)
    assert "attributes.sex.groups.north.0: is a truth value in YAML; put it in quotes" in said


def test_a_truth_value_is_true_or_false() -> None:
    flags = [leaf for leaf in LEAVES.values() if leaf.kinds() == {bool}]
    assert len(flags) >= 10
    for leaf in flags:
        for value in (0, 1, 0.0, "yes", "no", "true", "", None, [], "on"):
            assert isinstance(read(put(CONFIG, leaf.path, value)), str), (leaf.name, value)
        for value in (True, False):
            found = read(put(CONFIG, leaf.path, value))
            if leaf.path[-1] == "rest_is_negative" and isinstance(found, str):
                assert "negative" in found  # the classes are named already
                continue
            assert look(found, leaf.path) is value  # type: ignore[arg-type]


def test_misspelt_keys_and_values_are_refused_with_the_nearest() -> None:
    """A letter of a key left out, doubled or replaced."""
    rng = random.Random("misspelt")
    counts: Counter[str] = Counter()
    for leaf in LEAVES.values():
        key = str(leaf.path[-1])
        at = rng.randrange(len(key))
        typo = rng.choice(
            (key[:at] + key[at + 1 :], key[: at + 1] + key[at:], key[:at] + "q" + key[at + 1 :])
        )
        parent = LEAVES.keys() & {".".join(map(str, (*leaf.path[:-1], typo)))}
        if parent or not typo:
            continue
        found = read(put(CONFIG, (*leaf.path[:-1], typo), 1))
        assert isinstance(found, str), (leaf.name, typo)
        assert_one_line_each(found, repr(typo))
        counts["nearest named"] += repr(key) in found
        counts["refused"] += 1
        counts["short"] += len(key) < 5
    print(dict(counts))
    assert counts["refused"] > 150
    assert counts["nearest named"] >= counts["refused"] - counts["short"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("experiments.table1.metrics", ["acu"], "did you mean 'auc'"),
        ("experiments.table1.metrics", ["auc[2]"], "there are 2 groups"),
        ("experiments.table1.metrics", ["spd[0]"], "did you mean 'spd'"),
        ("experiments.table1.metrics", ["auc[00]"], "did you mean 'auc[0]'"),
        ("experiments.table1.metrics", ["auc", "auc[01]"], "did you mean 'auc[1]'"),
        ("methods.fullft.title", "baseline", "baseline and fullft are both called 'baseline'"),
        ("run", 1.10, "run: YAML reads 1.1 as a number and drops zeros; put it in quotes"),
        ("attributes.sex.groups", {"": ["F"], "m": ["M"]}, "is empty"),
        ("attributes.sex.groups", {" ": ["F"], "m": ["M"]}, "is empty"),
        ("attributes.sex.groups", {"a\nb": ["F"], "m": ["M"]}, "holds a control character"),
        ("attributes.age.names", ["young", ""], "attributes.age.names.1: is empty"),
        ("tasks.skin.positive", "", "tasks.skin.positive: is empty"),
        ("tasks.skin.negative", "a\nb", "tasks.skin.negative: holds a control character"),
        ("tasks.skin.disease", "\t", "tasks.skin.disease: is empty"),
        ("experiments.table1.metrics", ["seconds"], "no metric"),
        ("experiments.figure1.plot", "paretto", "did you mean 'pareto'"),
        ("experiments.figure1.plot", None, "missing"),
        ("experiments.figure1.options", {"axis": ["auc", "spd"]}, "did you mean 'axes'"),
        ("experiments.figure1.options", {"axes": ["auc", "sdp"]}, "did you mean 'spd'"),
        ("experiments.figure1.options", {"axes": ["auc"]}, "options.axes"),
        ("experiments.figure1.options", {"axes": ["auc", "auc"]}, "'auc' stands there twice"),
        ("experiments.figure1.options", {"axes": ["auc", "tpr"]}, "neither way of 'tpr' is better"),
        ("experiments.figure1.options", {"axes": ["dauc", "auc"]}, "neither way of 'dauc'"),
        ("experiments.figure1.metrics", ["auc"], "pareto would ignore it"),
        ("experiments.table1.plot", "pareto", "a table would ignore it"),
        ("experiments.figure1.plot", "dose", "dose needs a task with `tie`; 'skin' has none"),
        ("experiments.table1.options", {"axes": ["auc", "spd"]}, "a table has none"),
        ("experiments.table1.methods", ["llft", "llft"], "'llft' stands there twice"),
        ("experiments.table1.methods", [], "no methods"),
        ("experiments", {}, "nothing would be computed"),
        ("backbones.net.architecture", "small_resnt", "did you mean 'small_resnet'"),
        ("backbones.net.options", {"widht": 8}, "did you mean 'width'"),
        ("backbones.net.options", {"width": 4}, "backbones.net.options.width"),
        ("backbones.net.weights", "imagenet", None),
        ("methods.llft.epochs_percent", 20, "llft would ignore it"),
        ("methods.baseline.external_fraction", 0.5, "baseline would ignore it"),
        ("methods.swift.hard_rates", [0.2], "it goes with mask: hard"),
        ("methods.swift.percentile", 90, "it goes with normalization: percentile"),
        ("methods.llft.like", "llft", "in the end like itself"),
        ("tasks.skin.train", ["north", "north"], "'north' stands there twice"),
        ("tasks.skin.tests.sex", ["east", "east"], "'east' stands there twice"),
        ("tasks.skin.negative", "benign", "both called"),
        (
            "attributes.sex.groups",
            {"a": ["x", "F"], "b": ["y", " f "]},
            "in two groups, 'a' and 'b'",
        ),
        ("attributes.sex.groups", {"a": ["1"], "b": [1.0]}, "in two groups"),
        ("attributes.sex.groups", {"a": ["1"], "b": []}, "has no values"),
        ("attributes.sex.groups", {1: ["1"], "1": ["2"]}, "stands there twice"),
        ("attributes.sex.names", ["a", "b"], "names: go with cuts"),
        ("attributes.age.names", ["a", "a"], "two groups are called 'a'"),
        ("attributes.sex.column", "sexx", "has no column 'sexx'"),
        ("synthetic.images", {"isic2091": 30}, "did you mean 'isic2019'"),
    ],
)
def test_what_would_be_ignored_or_is_unknown_is_refused(path: str, value: Any, said: str) -> None:
    changed = put(CONFIG, tuple(path.split(".")), value)
    if said is None:  # torchvision has no such weights
        changed["backbones"]["net"]["baseline"] = "own.safetensors"
        said = "weights: would be ignored"
    found = read(changed)
    assert isinstance(found, str)
    assert_one_line_each(found, said)


@pytest.mark.parametrize(
    ("methods", "metrics", "said"),
    [
        (["baseline", "swift"], ["auc", "auc_min"], "effects cannot show 'auc_min'; only auc, "),
        (["baseline", "swift", "llft"], ["auc"], "algorithm has more than two values: baseline, "),
        (["baseline", "swift"], ["auc", "eodds"], None),
    ],
)
def test_effects_are_of_every_combination(
    methods: list[str], metrics: list[str], said: str | None
) -> None:
    figure = {"kind": "figure", "title": "F", "plot": "effects", "methods": methods}
    figure |= {"metrics": metrics, "panels": CONFIG["experiments"]["table1"]["panels"]}
    found = read(put(CONFIG, ("experiments", "figure1"), figure))
    if said is None:
        assert isinstance(found, Settings)
    else:
        assert isinstance(found, str)
        assert_one_line_each(found, said)


def test_adam_has_no_momentum() -> None:
    path = ("tasks", "skin", "pretraining", "optimizer")
    refused = read(put(CONFIG, path, {"name": "adam", "lr": 0.1, "momentum": 0.5}))
    assert isinstance(refused, str)
    assert_one_line_each(refused, "optimizer.momentum: adam would ignore it")
    assert isinstance(read(put(CONFIG, path, {"name": "adam", "lr": 0.1})), Settings)


def test_a_variant_may_take_over_what_it_does_not_use() -> None:
    """`like` takes over all settings of the other; only those of one's own entry are asked."""
    changed = put(CONFIG, ("methods", "gentle"), {"algorithm": "swift", "prediction_weight_1": 0.7})
    changed["methods"]["no_step1"] = {"like": "gentle", "step1": False}
    assert isinstance(read(changed), Settings)
    changed["methods"]["no_step1"]["prediction_weight_1"] = 0.6
    found = read(changed)
    assert isinstance(found, str)
    assert_one_line_each(found, "methods.no_step1.prediction_weight_1: would be ignored with step1")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"thresholds": ["mean", 0.2]}, "thresholds: would be ignored with threshold: mean"),
        ({"mask": "none", "refresh_mask": 2}, "refresh_mask: would be ignored with mask: none"),
        ({"step1": False, "refresh_mask": 2}, "refresh_mask: would be ignored with step1: false"),
        ({"refresh_mask": 0}, "refresh_mask: Input should be greater than or equal to 1"),
        ({"threshold": "learned", "thresholds": ["mean"]}, "thresholds: "),
        ({"algorithm": "dfr", "strengths": []}, "strengths: "),
        ({"algorithm": "dfr", "strengths": [0]}, "strengths.0: Input should be greater than 0"),
        ({"algorithm": "dfr", "epochs_percent": 5}, "epochs_percent: dfr would ignore it"),
        ({"algorithm": "ssd", "alpha": 0}, "alpha: Input should be greater than 0"),
        ({"algorithm": "threshold_optimizer", "constraint": "odds"}, "constraint: Input should be"),
    ],
)
def test_settings_of_methods_beyond_the_paper(entry: dict[str, Any], said: str) -> None:
    found = read(put(CONFIG, ("methods", "gentle"), {"algorithm": "swift"} | entry))
    assert isinstance(found, str)
    assert_one_line_each(found, f"methods.gentle.{said}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("invert_labels", True),
        ("images", {"size": 16}),
        ("images", {"size": 12, "channels": 1}),
        ("images", {"size": 12, "max_broken": 0.5}),
        ("images", {"size": 12, "max_pixels": 1000}),
    ],
)
def test_tasks_that_share_a_data_set_agree_on_what_is_kept_of_it(key: str, value: Any) -> None:
    """Pixels and labels of a data set are kept once; mean and std are each task's own."""
    for shared in ({"train": ["south"]}, {"train": ["west"]}, {"tests": {"sex": ["north"]}}):
        other = (
            CONFIG["tasks"]["skin"] | {"train": ["isic2017"], "tests": {"sex": ["atlas"]}} | shared
        )
        changed = put(CONFIG, ("tasks", "other"), other)
        assert isinstance(read(changed), Settings)
        changed["tasks"]["other"] = other | {key: value}
        found = read(changed)
        assert isinstance(found, str)
        assert_one_line_each(found, f"tasks.other.{key}")
    own = {"size": 12, "mean": [0.1, 0.2, 0.3]}
    changed["tasks"]["other"] = other | {"images": own}
    assert isinstance(read(changed), Settings)
    apart = other | {"train": ["isic2017"], "tests": {"sex": ["atlas"]}, key: value}
    changed["tasks"]["other"] = apart
    assert isinstance(read(changed), Settings)


@pytest.mark.parametrize("written", [0.3, "3e-1", "0.3", ".3", "30e-2", "+3.0E-1"])
def test_a_number_that_yaml_reads_as_text_is_the_number(written: Any) -> None:
    """`3e-1` is text to YAML. Settings of methods, searches and options are others' to check."""
    figure = {"kind": "figure", "title": "F", "plot": "bias", "methods": ["baseline"]}
    figure |= {"panels": CONFIG["experiments"]["table1"]["panels"]}
    figure |= {"options": {"quantiles": [written, 0.5]}}
    config = put(CONFIG, ("experiments", "bias"), figure)
    config["methods"] |= {
        "at": {"like": "swift", "threshold": written},
        "learned": {"like": "swift", "threshold": "learned", "thresholds": ["mean", written]},
        "found": {
            "like": "swift",
            "search": {"threshold": ["mean", written], "lr_factor": [written]},
        },
    }
    found = read(config)
    assert isinstance(found, Settings), found
    assert found.experiments["bias"].options["quantiles"] == (0.3, 0.5)
    assert found.methods["at"].settings["threshold"] == 0.3
    assert found.methods["learned"].settings["thresholds"] == ("mean", 0.3)
    assert found.methods["found"].search == {"threshold": ("mean", 0.3), "lr_factor": (0.3,)}
    assert verdict.variants(found.methods, "threshold", 0) == [(0.0, "swift"), (0.3, "at")]


@pytest.mark.parametrize("written", [64, "64", 64.0])
def test_a_count_of_a_drawing_is_a_number(written: Any) -> None:
    figure = CONFIG["experiments"]["figure1"] | {"plot": "importance", "methods": ["swift"]}
    figure |= {"options": {"size": written}}
    figure["panels"] = CONFIG["experiments"]["table1"]["panels"]
    found = read(put(CONFIG, ("experiments", "figure1"), figure))
    assert isinstance(found, Settings), found
    assert found.experiments["figure1"].options["size"] == 64


@pytest.mark.parametrize(
    "root", ["results/mine/raw/north", "results/other/raw/north", "data/north"]
)
def test_what_is_drawn_lies_in_the_folder_of_the_run(root: str) -> None:
    found = read(put(CONFIG, ("datasets", "north", "root"), root))
    if root == "results/mine/raw/north":
        assert found == read(CONFIG)
    else:
        assert isinstance(found, str)
        assert_one_line_each(found, "datasets.north.root: run mine draws this data set to ")
        assert "leave root: out" in found
    renamed = read(CONFIG | {"run": "other.1"})
    assert isinstance(renamed, Settings)
    assert {n: d.root for n, d in renamed.datasets.items()} == {
        name: f"results/other.1/raw/{name}" for name in CONFIG["datasets"]
    }


def test_sections_of_any_shape() -> None:
    """A whole section, or an entry of one, replaced by something else."""
    rng = random.Random("sections")
    verdicts: Counter[str] = Counter()
    entries = [name for name, held in CONFIG.items() if isinstance(held, dict)]
    places = [(name,) for name in Settings.model_fields]
    places += [(name, key) for name in entries for key in CONFIG[name]]
    for place in places:
        for value in rng.sample(hostile(rng), 6):
            found = read(put(CONFIG, place, value))
            verdicts["refused" if isinstance(found, str) else "works"] += 1
            if isinstance(found, str):
                assert_one_line_each(found, place[-1], *place, "experiments", "tasks", "datasets")
    print(f"sections: {dict(verdicts)}")
    assert sum(verdicts.values()) > 200


# --- YAML -----------------------------------------------------------------------------------------


def test_aliases_that_stand_for_more_than_memory_holds(tmp_path: Path) -> None:
    rng = random.Random("aliases")
    for number in range(8):
        width, depth = rng.randrange(4, 12), rng.randrange(10, 40)
        form = rng.choice(("[{}]", "{{{}}}"))
        lines = ["a0: &a0 [x, x, x, x]"]
        for level in range(1, depth):
            inner = [f"*a{level - 1}"] * width
            if form != "[{}]":
                inner = [f"k{i}: {alias}" for i, alias in enumerate(inner)]
            lines.append(f"a{level}: &a{level} {form.format(', '.join(inner))}")
        file = tmp_path / f"{number}.yaml"
        file.write_text("\n".join(lines))
        with pytest.raises(UserError, match="aliases") as refused:
            strict_yaml.read(file)
        assert_one_line_each(str(refused.value), file.name)
    file.write_text("a: &a [*a]\nb: &b {c: *b}\n")
    with pytest.raises(UserError, match="alias of itself"):
        strict_yaml.read(file)


@pytest.mark.parametrize("depth", [60, 900, 20_000])
def test_deep_nesting(tmp_path: Path, depth: int) -> None:
    file = tmp_path / "deep.yaml"
    for text in ("[" * depth + "]" * depth, "{a: " * depth + "}" * depth, "- " * depth + "x"):
        file.write_text(f"a:\n  {text}\n")
        with pytest.raises(UserError) as refused:
            strict_yaml.read(file)
        assert_one_line_each(str(refused.value), file.name)
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    message = read({"methods": value})
    assert isinstance(message, str)
    assert_one_line_each(message, "nested")


def test_yaml_with_random_damage(tmp_path: Path) -> None:
    """Characters of a valid file removed, doubled and replaced."""
    text = (PROJECT / "config" / "own_data.yaml").read_text()
    rng = random.Random("damage")
    file = tmp_path / "damaged.yaml"
    verdicts: Counter[str] = Counter()
    for _ in range(60):
        characters = list(text)
        for _ in range(rng.choice((1, 3, 30))):
            at = rng.randrange(len(characters))
            characters[at] = rng.choice(
                ("", characters[at] * 2, rng.choice("{}[]:&*!|>'\"%@`#\t\0\x85é-,"))
            )
        file.write_text("".join(characters), encoding="utf-8")
        try:
            raw = strict_yaml.read(file)
        except UserError as error:
            assert_one_line_each(str(error), file.name)
            verdicts["no YAML"] += 1
            continue
        found = read(raw)
        verdicts["refused" if isinstance(found, str) else "works"] += 1
        if isinstance(found, str):
            assert_one_line_each(found, ":")
    print(f"damaged YAML: {dict(verdicts)}")
    assert sum(verdicts.values()) == 60


@pytest.mark.parametrize("length", [1, 2, 5])
def test_files_and_methods_in_a_circle(tmp_path: Path, length: int) -> None:
    for number in range(length):
        (tmp_path / f"{number}.yaml").write_text(
            f"extends: {tmp_path}/{(number + 1) % length}.yaml\n"
        )
    found = read({"extends": str(tmp_path / "0.yaml")})
    assert isinstance(found, str)
    assert_one_line_each(found, "extends itself")
    circle = {f"m{n}": {"like": f"m{(n + 1) % length}"} for n in range(length)}
    found = read(CONFIG | {"methods": CONFIG["methods"] | circle})
    assert isinstance(found, str)
    assert_one_line_each(found, "in the end like itself")


@pytest.mark.parametrize("entry", [{"algorithm": "llft"}, {"search": "default"}], ids=str)
def test_a_long_row_of_methods_that_are_like_the_next(entry: dict[str, Any]) -> None:
    for length in (30, 1500):
        row = {f"m{n}": {"like": f"m{n + 1}"} for n in range(length)}
        row["m0"] |= entry
        row[f"m{length}"] = {"algorithm": "llft"}
        found = read(CONFIG | {"methods": CONFIG["methods"] | row})
        if length == 1500:
            assert isinstance(found, str)
            assert_one_line_each(found, "methods in a row are like another")
        else:
            assert isinstance(found, Settings) or "has no default grid" in found


# --- files and modules that are named -------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the data sets of the configuration lie, and a package of a user's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("north", "south", "east", "west"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "table.csv").write_text("id\n1\n")
    (tmp_path / "data" / "mimic_cxr").mkdir()
    package = tmp_path / "path" / "mine_of_a_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('nothing is imported')\n")
    (package / "nets.py").write_text(
        "raise SystemExit('nor this')\ntry:\n    from x import taken as renamed\n"
        "except ImportError:\n    renamed = None\ndef made(): ...\nBuilt = 1\n"
    )
    (package / "broken.py").write_text("def made(:\n")
    (package / "open.py").write_text("from elsewhere import *\n")
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    assert isinstance(read(FOUND, tmp_path), Settings)
    return tmp_path


FILE_KEYS = {
    "backbones.net.baseline": "models/own.safetensors",
    "backbones.net.weights": "models/own.safetensors",
    "backbones.wide.weights": "models/own.safetensors",  # that no experiment uses
    "datasets.north.table": "models/own.csv",
    "datasets.mimic_cxr.patients": "models/patients.csv.gz",
}


@pytest.mark.parametrize("key", FILE_KEYS)
def test_a_file_that_is_named_is_there(folder: Path, key: str) -> None:
    path = tuple(key.split("."))
    below = folder / "data" / "north" if key.endswith("table") else folder
    for name in (FILE_KEYS[key], "a b/ä;'$.safetensors", str(below / "absolute.bin")):
        file = below / name
        file.parent.mkdir(parents=True, exist_ok=True)
        changed = put(FOUND, path, name)
        states = {
            "no such file": lambda: None,
            "broken link": lambda: file.symlink_to("nowhere"),  # noqa: B023
            "is a folder": lambda: file.mkdir(),  # noqa: B023
            "is no plain file": lambda: os.mkfifo(file),  # noqa: B023
            "": lambda: file.write_text("x"),  # noqa: B023
        }
        for said, make in states.items():
            make()
            found = read(changed, folder)
            assert isinstance(found, str) == bool(said), (said, found)
            if isinstance(found, str):
                assert_one_line_each(found, key)
                assert said in found
                assert file.name in found
                file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)
        file.unlink()


def test_a_data_set_that_is_not_there_is_another_matter(folder: Path) -> None:
    """Its folder may be gone once what is made of it is there; `data/check.py` decides."""
    changed = put(FOUND, ("datasets", "north", "root"), "data/gone")
    assert isinstance(read(changed, folder), Settings)


def test_a_pattern_is_looked_for_in_every_job_of_the_plan(folder: Path) -> None:
    rng = random.Random("patterns")
    known = ("task", "backbone", "fold")
    for _ in range(40):
        fields = rng.sample(known, rng.randrange(1, 4))
        pattern = "models/" + "_".join(f"{{{field}}}" for field in fields) + "_x.safetensors"
        changed = put(FOUND, ("backbones", "net", "baseline"), pattern)
        changed["folds"] = rng.randrange(2, 5)
        wanted = [
            folder / pattern.format(task="skin", backbone="net", fold=fold)
            for fold in range(changed["folds"])
        ]
        (folder / "models").mkdir(exist_ok=True)
        for file in set(wanted):
            file.write_text("x")
        assert isinstance(read(changed, folder), Settings)
        gone = rng.choice(wanted)
        gone.unlink()
        found = read(changed, folder)
        assert isinstance(found, str)
        assert_one_line_each(found, "backbones.net.baseline")
        assert gone.name in found


@pytest.mark.parametrize(
    "pattern",
    [
        "m_{other}",
        "m_{attribute}",
        "m_{}",
        "m_{0}",
        "m_{fold",
        "m_}",
        "m_{fold.x}",
        "m_{fold!x}",
        "{fold:q}",
        "{fold:{task}}",
        "{fold:999999999999}",
        "{fold:100}",
        "{fold!r}",
        "{task:d}",
        "{task:9}",
    ],
)
def test_a_placeholder_that_no_rule_fills(pattern: str) -> None:
    found = read(put(FOUND, ("backbones", "net", "baseline"), pattern))
    assert isinstance(found, str)
    assert_one_line_each(found, "backbones.net.baseline")


@pytest.mark.parametrize("pattern", ["m_{fold:02}", "m_{fold:3d}", "m_{task}{{x}}_{backbone}"])
def test_a_fold_may_have_digits(pattern: str) -> None:
    assert isinstance(read(put(FOUND, ("backbones", "net", "baseline"), pattern)), Settings)


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("mine_of_a_test.nets:made", ""),
        ("mine_of_a_test.nets:Built", ""),
        ("mine_of_a_test.nets:renamed", ""),
        ("mine_of_a_test.open:anything", ""),
        ("torch.nn:Identity", ""),
        ("mine_of_a_test.nets:maed", "did you mean 'made'"),
        ("mine_of_a_test.net:made", "no module 'mine_of_a_test.net'"),
        ("mine_of_a_tset.nets:made", "no module 'mine_of_a_tset'"),
        ("mine_of_a_test.nets.made:made", "no module 'mine_of_a_test.nets.made'"),
        ("mine_of_a_test.broken:made", "is no Python"),
        ("mine_of_a_test.nets:", "not of the form"),
        (":made", "not of the form"),
        ("a:b:c", "not of the form"),
        ("../path:made", "not of the form"),
        ("mine_of_a_test nets:made", "not of the form"),
        ("os;x:made", "not of the form"),
        ("path:made", "did you mean"),
    ],
)
def test_a_module_that_is_named_is_found_and_not_run(
    folder: Path, architecture: str, said: str
) -> None:
    changed = put(FOUND, ("backbones", "net"), {"architecture": architecture})
    found = read(changed, folder)
    if not said:
        assert isinstance(found, Settings)
        return
    assert isinstance(found, str)
    assert_one_line_each(found, "backbones.net.architecture")
    assert said in found or said == "did you mean"


def test_the_networks_that_can_be_named_are_those_that_are_built() -> None:
    """With the options that their functions take."""
    import inspect

    from swift_debias.learning import makers

    small = {"small_resnet": makers._small_resnet, "small_densenet": makers._small_densenet}
    for name, make in small.items():
        taken = {p.name: p.default for p in inspect.signature(make).parameters.values()}
        model = KNOWN["networks"][name]
        assert {n: f.get_default() for n, f in model.model_fields.items()} == taken


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"architecture": "resnet18", "options": {"zero_init_residul": True}},
            "zero_init_residual",
        ),
        ({"architecture": "vit_b_16", "options": {"image_size": 0}}, "options.image_size"),
        ({"architecture": "vit_b16"}, "did you mean 'vit_b_16'"),
        ({"architecture": "squeezenet1_1x"}, "timm:NAME"),
        ({"architecture": "resnet18", "channels": 1}, "images.mean has 3 numbers"),
        ({"architecture": "resnet18", "channels": 2}, "channels"),
        ({"architecture": "mine_of_a_test.nets:made", "channels": 1}, "would be ignored"),
        ({"architecture": "resnet18", "options": {"groups": ["a"]}}, "options.groups"),
        ({"architecture": "timm:resnet18", "options": {"at": datetime.date(2020, 1, 1)}}, "quotes"),
        ({"architecture": "clinic_function:made", "options": {"widht": 4}}, "did you mean 'width'"),
    ],
)
def test_wrong_networks_are_told_when_the_configuration_is_read(
    folder: Path, entry: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, and nothing of a library or of a user's module is imported."""
    (folder / "clinic_function.py").write_text("def made(width=8, *, depth=2): ...\n1 / 0\n")
    monkeypatch.syspath_prepend(folder)
    changed = put(FOUND, ("backbones", "net"), entry)
    found = read(changed, folder)
    assert isinstance(found, str)
    assert_one_line_each(found, "backbones.net")
    assert said in found
    assert "clinic_function" not in sys.modules


@pytest.mark.parametrize(
    ("entry", "options"),
    [
        ({"architecture": "resnet152"}, {}),
        ({"architecture": "timm:vit_small_patch14_dinov2.lvd142m"}, {}),
        ({"architecture": "xrv:densenet"}, {}),
        (
            {
                "architecture": "timm:resnet18",
                "options": {"a": None, "b": "max", "c": [1, [2.5, True]], "d": {"e": "1e-4"}},
            },
            {"a": None, "b": "max", "c": (1, (2.5, True)), "d": {"e": 1e-4}},
        ),
    ],
)
def test_any_network_and_any_options_are_read(
    entry: dict[str, Any], options: dict[str, Any]
) -> None:
    found = read(put(FOUND, ("backbones", "net"), entry))
    assert isinstance(found, Settings)
    assert found.backbones["net"].options == options
    again = Backbone(**found.backbones["net"].model_dump(mode="json"))
    assert again == found.backbones["net"]


def test_yaml_that_is_valid_stays_so(tmp_path: Path) -> None:
    """The configuration survives being written and read."""
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(FOUND))
    assert read(strict_yaml.read(file)) == read(FOUND)
