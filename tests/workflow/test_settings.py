"""The configuration: what is valid is read, what is not is refused with its path and a hint."""

import copy
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from swift_debias import errors, methods
from swift_debias.config import load as reading
from swift_debias.config import plan, schema, strict_yaml
from swift_debias.data import adapters

PROJECT = Path(__file__).resolve().parents[2]


def load(raw: dict, files: Iterable[Path] = ()) -> schema.Settings:
    return reading.load(
        raw,
        PROJECT,
        files=files,
        algorithms=methods.settings_models(),
        adapters=adapters.options_models(),
    )


@pytest.fixture
def paper() -> dict:
    return yaml.safe_load((PROJECT / "config" / "config.yaml").read_text())


@pytest.mark.parametrize("path", sorted((PROJECT / "config").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_config_is_valid(path: Path) -> None:
    loaded = load(yaml.safe_load(path.read_text()))
    assert plan.setups(loaded)


def test_the_paper_config_says_what_the_paper_says(paper: dict) -> None:
    loaded = load(paper)
    assert loaded.folds == 5
    skin, cxr = loaded.tasks["skin"], loaded.tasks["cxr"]
    assert (skin.pretraining.epochs, cxr.pretraining.epochs) == (200, 100)
    assert (skin.pretraining.optimizer.name, cxr.pretraining.optimizer.name) == ("sgd", "adam")
    for task in (skin, cxr):
        assert task.pretraining.batch_size == 128
        assert task.pretraining.optimizer.lr == task.finetuning.lr_extractor == 1e-4
        assert task.finetuning.epochs_percent == 10
    table = loaded.experiments["table1"]
    assert len(table.methods) == 10


def test_folds_depend_on_the_attributes_of_two_groups_of_their_own_task(paper: dict) -> None:
    """As docs/rerun.md says: a new one retrains its task; one of three groups does not."""
    before = load(paper)
    two = {"column": "fitzpatrick", "groups": {"a": [1, 2], "b": [5, 6]}}
    three = {"column": "fitzpatrick", "groups": {"a": [1], "b": [3], "c": [6]}}
    task, other = "skin", next(name for name in paper["tasks"] if name != "skin")
    for entry, changes in ((two, True), (three, False)):
        raw = copy.deepcopy(paper)
        raw["attributes"]["tone"] = entry
        tests = raw["tasks"][task]["tests"]
        tests["tone"] = tests["skin_tone"]
        after = load(raw)
        assert (plan.strata(after, task) != plan.strata(before, task)) == changes
        assert ("tone" in plan.strata(after, task)) == changes
        assert plan.strata(after, other) == plan.strata(before, other)


def test_demo_extends_the_paper(paper: dict) -> None:
    demo = load(yaml.safe_load((PROJECT / "config" / "demo.yaml").read_text()))
    full = load(paper)
    assert demo.synthetic is not None
    assert full.synthetic is None
    assert set(demo.methods) >= set(full.methods)
    assert demo.attributes == full.attributes
    assert demo.tasks["skin"].tests == full.tasks["skin"].tests


def _set(raw: dict, path: str, value: object) -> dict:
    raw = copy.deepcopy(raw)
    *parents, last = path.split("/")
    node = raw
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("sede", 1, ["unknown key 'sede'", "did you mean 'seed'"]),
        ("folds", "five", ["folds", "integer"]),
        ("folds", 1, ["folds", "greater than or equal to 2"]),
        ("run", "a/b", ["run"]),
        ("tasks/skin/pretraining/epoch", 3, ["tasks.skin.pretraining", "did you mean 'epochs'"]),
        (
            "tasks/skin/pretraining/optimizer/name",
            "sgdm",
            ["tasks.skin.pretraining.optimizer.name"],
        ),
        ("tasks/skin/train", ["isc2017"], ["tasks.skin.train", "did you mean 'isic2017'"]),
        ("tasks/skin/tests/sex", ["ddi"], ["tasks.skin.tests.sex", "'ddi' has no column 'sex'"]),
        ("tasks/skin/tests/skin_tone", ["atlas"], ["'atlas' has no column 'fitzpatrick'"]),
        ("tasks/skin/tests/gender", ["atlas"], ["no attribute 'gender'"]),
        ("tasks/skin/tests/sex", ["isic2017"], ["is also a training set"]),
        ("datasets/ddi/tone", 1, ["datasets.ddi: unknown key 'tone'"]),
        ("datasets/atlas/image", "both", ["atlas.image", "dermoscopic"]),
        ("datasets/nih/adapter", "nihh", ["datasets.nih.adapter", "did you mean 'nih'"]),
        ("methods/swift/algorithm", ..., ["methods.swift.algorithm", "required"]),
        ("methods/swift/algorithm", "swfit", ["methods.swift.algorithm", "did you mean 'swift'"]),
        (
            "methods/swift/normalisation",
            "zscore",
            ["methods.swift", "did you mean 'normalization'"],
        ),
        ("methods/swift/mask", "sotf", ["methods.swift.mask", "soft"]),
        ("experiments/table1/methods", ["swfit"], ["experiments.table1", "did you mean 'swift'"]),
        ("experiments/table1/panels/0/backbone", "resnet", ["did you mean 'resnet50'"]),
        ("experiments/table1/panels/0/task", "sikn", ["did you mean 'skin'"]),
        ("experiments/table1/panels/0/attribute", "age", ["no tests of attribute 'age'"]),
        ("experiments/table1/panels/0/datasets", ["atlas"], ["'atlas' is no test set"]),
        ("attributes/age/cuts", [65, 20], ["attributes.age", "3 names"]),
        ("attributes/sex/groups", {"female": ["female"]}, ["attributes.sex", "two groups"]),
        ("extends", "config/nowhere.yaml", ["no file", "nowhere.yaml"]),
        (
            "backbones/mine",
            {"architecture": "resnet50", "baseline": "mine.safetensors"},
            ["backbones.mine.baseline: no experiment shows it, so your classifier"],
        ),
    ],
)
def test_mistakes_are_refused_with_path_and_hint(
    paper: dict, path: str, value: object, expected: list[str]
) -> None:
    with pytest.raises(errors.UserError) as error:
        load(_set(paper, path, value))
    for part in expected:
        assert part in str(error.value)


def test_several_problems_are_named_at_once(paper: dict) -> None:
    raw = _set(_set(paper, "methods/swift/mask", "x"), "methods/bmft/rate", 3)
    with pytest.raises(errors.UserError) as error:
        load(raw)
    assert "methods.swift.mask" in str(error.value)
    assert "methods.bmft.rate" in str(error.value)


def test_cells_are_the_union_of_the_views(paper: dict) -> None:
    raw = _set(
        paper,
        "experiments/extra",
        {
            "kind": "table",
            "title": "x",
            "methods": ["swift"],
            "panels": [{"task": "cxr", "backbone": "densenet121", "attribute": "age_5"}],
        },
    )
    before, after = plan.setups(load(paper)), plan.setups(load(raw))
    assert after == {**before, ("cxr", "densenet121", "age_5"): ("swift",)}


def test_an_entry_set_to_null_is_left_out(paper: dict) -> None:
    loaded = load(_set(paper, "experiments/table1", None))
    assert "table1" not in loaded.experiments
    assert "table2" in loaded.experiments


def test_groups_and_classes_of_an_overlay_are_its_own() -> None:
    """Their order is that of the numbers 0, 1, ..., so two mappings of them are not mixed."""
    for groups in (
        {"male": ["male"], "female": ["female"]},
        {"men": ["male"], "women": ["female"]},
    ):
        overlay = {"extends": "config/own_data.yaml"}
        overlay["attributes"] = {"sex": {"column": "sex", "groups": groups}}
        assert load(overlay).attributes["sex"].group_names == tuple(groups)
    base = yaml.safe_load((PROJECT / "config" / "ham10000_classes.yaml").read_text())
    (name,) = base["tasks"]
    classes = dict(reversed(base["tasks"][name]["classes"].items()))
    loaded = load(
        {"extends": "config/ham10000_classes.yaml", "tasks": {name: {"classes": classes}}}
    )
    assert loaded.tasks[name].class_names == tuple(classes)


@pytest.mark.parametrize("section", ["methods", "tasks", "attributes", "datasets"])
def test_an_entry_may_be_called_like_a_key(section: str) -> None:
    """`groups`, `classes` and `search` are one value as keys, not as names of entries."""
    for name in ("groups", "classes", "search"):
        below = {section: {name: {"a": 1}}}
        assert reading._merge(below, {section: {name: {"b": 2}}}) == {
            section: {name: {"a": 1, "b": 2}}
        }


@pytest.mark.parametrize(
    ("section", "wrong", "said"),
    [
        (
            "methods",
            "swfit",
            "methods.swfit: no method 'swfit' to leave out; did you mean 'swift'?",
        ),
        ("tasks", "zz", "tasks.zz: no task 'zz' to leave out; valid: lesion, chest"),
        ("datasets", 5, "datasets.5: no data set 5 to leave out; valid: pad, "),
        ("attributes", "sexx", "attributes.sexx: no attribute 'sexx' to leave out; did you mean"),
        ("backbones", "smal", "did you mean 'small'?"),
        ("experiments", "table11", "did you mean 'table1'?"),
    ],
)
@pytest.mark.parametrize("by", ["extends", "file"])
def test_a_name_that_is_nowhere_leaves_nothing_out(
    section: str, wrong: object, said: str, by: str
) -> None:
    """In a file that extends another, and on the command line, which Snakemake lays on a file."""
    own_data = PROJECT / "config" / "own_data.yaml"
    raw, files = {"extends": "config/own_data.yaml"}, []
    if by == "file":
        raw, files = yaml.safe_load(own_data.read_text()), [own_data]
    raw[section] = {**raw.get(section, {}), wrong: None}
    with pytest.raises(errors.UserError) as refused:
        load(raw, files)
    assert said in str(refused.value)


def test_what_two_files_may_not_both_say(tmp_path: Path) -> None:
    """Snakemake would try the product of two grids, and mix two mappings of groups."""
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for section, name, key in (("methods", "swift", "search"), ("attributes", "sex", "groups")):
        for file in files:
            file.write_text(yaml.safe_dump({section: {name: {key: {file.stem: [1, 2]}}}}))
        with pytest.raises(
            errors.UserError, match=rf"{section}.{name}.{key}: stands in .*a.yaml and"
        ):
            load({}, files)


def test_a_base_may_extend_another(tmp_path: Path, paper: dict) -> None:
    """Each lies on the one below: the nearest one that names a key decides."""
    (tmp_path / "bottom.yaml").write_text(yaml.safe_dump(paper | {"run": "bottom", "folds": 4}))
    middle = {"extends": "bottom.yaml", "run": "middle", "seed": 3}
    (tmp_path / "middle.yaml").write_text(yaml.safe_dump(middle))
    found = reading.load(
        {"extends": "middle.yaml", "run": "top"},
        tmp_path,
        algorithms=methods.settings_models(),
        adapters=adapters.options_models(),
    )
    assert (found.run, found.seed, found.folds) == ("top", 3, 4)


def test_a_panel_may_narrow_its_view(paper: dict) -> None:
    panel = {"task": "skin", "backbone": "resnet50", "attribute": "skin_tone"}
    view = {"kind": "table", "title": "x", "methods": ["swift", "llft"]}
    view["panels"] = [panel, panel | {"methods": ["bmft"], "datasets": ["ddi"]}]
    narrowed = load(_set(paper, "experiments", {"only": view}))
    assert plan.setups(narrowed) == {("skin", "resnet50", "skin_tone"): ("bmft", "llft", "swift")}
    whole, part = plan.blocks(narrowed, narrowed.experiments["only"])
    assert whole["methods"] == ("swift", "llft")
    assert list(whole["datasets"]) == paper["tasks"]["skin"]["tests"]["skin_tone"]
    assert (part["methods"], part["datasets"]) == (("bmft",), ("ddi",))


def test_only_needed_data_sets_are_used(paper: dict) -> None:
    panel = {"task": "skin", "backbone": "resnet50", "attribute": "skin_tone"}
    view = {"kind": "table", "title": "x", "methods": ["swift"], "panels": [panel]}
    task = paper["tasks"]["skin"]
    needed = {*task["train"], *task["tests"]["skin_tone"]}
    assert needed < set(paper["datasets"])
    found = plan.used_datasets(load(_set(paper, "experiments", {"only": view})))
    assert found == tuple(name for name in paper["datasets"] if name in needed)


@pytest.mark.key("repeats")
def test_what_trains_is_repeated_and_the_baseline_is_not(paper: dict) -> None:
    settings = load(paper | {"repeats": 3})
    counts = {name: plan.repeats(settings, method) for name, method in settings.methods.items()}
    assert counts.pop("baseline") == 1
    assert set(counts.values()) == {3}


@pytest.mark.parametrize("cuts", [(65, 20), (20, 20)])
def test_cuts_must_increase(cuts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cuts must increase"):
        schema.Attribute(column="age", cuts=cuts, names=("a", "b", "c"))


def test_numbers_are_taken_where_a_tables_text_is_meant() -> None:
    """Labels are often 0 and 1, and nobody quotes them; a truth value is never what was meant."""
    entry = {
        "adapter": "table",
        "root": "data",
        "table": "t.csv",
        "path": "file",
        "label": {"column": "target", "positive": [1], "negative": [0, -1]},
        "only": {"year": [2019, "2020"]},
    }
    options = adapters.make_options(entry)
    assert (options.label.positive, options.label.negative) == (("1",), ("0", "-1"))
    assert options.only == {"year": ("2019", "2020")}
    attribute = schema.Attribute(column="sex", groups={0: [1.0], 1: ["2"]})
    assert attribute.group_names == ("0", "1")
    entry["label"] = {"column": "target", "positive": [True]}
    with pytest.raises(errors.UserError, match="put it in quotes"):
        adapters.make_options(entry)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run: a\nfolds: 2\nrun: b\n", "'run' stands in line 1 and in line 3"),
        ("groups: {no: [NO]}\n", "line 1: YAML reads no as a truth value; put it in quotes"),
        ("code: 010\n", "line 1: YAML reads 010 as a number of another base; put it in quotes"),
        ("at: 12:30\n", "line 1: YAML reads 12:30 as a number of another base"),
        ("day: 2020-01-31\n", "line 1: YAML reads 2020-01-31 as a date; put it in quotes"),
        ("- a\n", "is a mapping"),
        ("a: [\n", "not valid YAML"),
    ],
)
def test_yaml_that_people_mean_otherwise_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(errors.UserError, match=r"mine\.yaml") as refused:
        strict_yaml.read(file)
    assert said in str(refused.value)


def test_yaml_without_doubt_is_read_as_yaml_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("a: &x {b: 'NO', c: 1_000}\nd: {<<: *x, e: true, f: 0.5, g: -3}\n")
    assert strict_yaml.read(file) == yaml.safe_load(file.read_text())


def test_a_file_that_extends_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    raw = {"extends": "a.yaml"}
    with pytest.raises(errors.UserError, match="extends itself"):
        reading.load(raw, tmp_path, algorithms={}, adapters={})
