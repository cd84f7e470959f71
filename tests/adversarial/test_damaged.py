"""Results that were damaged, or changed by hand, between two jobs: refused in one line.

A tiny and valid file of every kind that a later job reads is damaged in random ways; its reader
must name it and say what to do. What is damaged and still read must be what was written.
"""

from __future__ import annotations

import ast
import collections
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tests.written import write_cache

from swift_debias import files
from swift_debias.config.schema import Backbone, Images
from swift_debias.data import cache_building, labelled, manifest
from swift_debias.data.cache_building import build_cache
from swift_debias.data.image_cache import CachedImages, read_index
from swift_debias.errors import UserError
from swift_debias.importance import store
from swift_debias.learning import networks
from swift_debias.methods import base
from swift_debias.report import costs, data_tables, html
from swift_debias.report.figures import _importances
from swift_debias.run import layout, results

LIBRARY = Path(files.__file__).parent
NETWORK = Backbone(architecture="small_resnet", options={"width": 8})
KEYS = {
    "repeat": "1",
    **{"dataset": "ham", "task": "skin", "backbone": "net", "attribute": "sex"},
    **{"method": "swift", "fold": 1, "table": "t1", "figure": "f1", "first": "0123abcd"},
}
IDS = [f"i{number:02d}" for number in range(12)]
PIXELS = np.random.default_rng(0).integers(1, 255, (12, 4, 4, 3), np.uint8)


def frame(*names: str) -> pd.DataFrame:
    """Some columns of results, of twelve images."""
    n = len(IDS)
    columns = {
        "dataset": ["ham"] * n,
        "image_id": IDS,
        "patient_id": [f"p{number // 2}" for number in range(n)],
        "label": np.arange(n, dtype="int8") % 2,
        "group": np.arange(n, dtype="int16") // 2 % 2,
        "attribute": np.arange(n, dtype="int16") // 2 % 2,
        "balanced": np.arange(n) % 3 > 0,
        "score": np.linspace(0.1, 0.9, n).astype("float32"),
        "fitzpatrick": np.arange(n) % 6 + 1.0,
        "fold": np.arange(n) % 5,
        "value": np.linspace(0, 1, n),
        "layer": ["conv1"] * n,
    }
    return pd.DataFrame({name: columns[name] for name in names})


def write_manifest(path: Path) -> None:
    rows = frame("image_id", "patient_id", "label").assign(path="a.png", diagnosis="x")
    whole = manifest.typed(rows, manifest.COLUMNS)
    log = path.with_name("ham.log.json")
    manifest.write(manifest.ManifestResult(whole, {"rows_read": 12, "rules": []}), "ham", path, log)


def write_figure(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def importances() -> store.Importance:
    draw = torch.Generator().manual_seed(0)
    names = ("minibatch.balanced.bias", "minibatch.balanced.prediction")
    return {name: {"head.1.weight": torch.rand(1, 40, generator=draw)} for name in names}


def parquet(*columns: str) -> Callable[[Path], None]:
    return lambda path: files.write_parquet(frame(*columns), path)


def read_images(path: Path) -> Any:
    return CachedImages([(path, path.with_suffix(".parquet"))]).gather(np.arange(12)).tolist()


def read_external(path: Path) -> Any:
    images = CachedImages(
        [(path.parents[3] / "images/ham.npy", path.parents[3] / "images/ham.parquet")]
    )
    samples, balanced = base.read_external(path, images, torch.device("cpu"), "on", None)
    return samples.labels.tolist(), samples.attributes.tolist(), balanced.tolist()


def read_stored(path: Path) -> Any:
    found = {name: dict(values) for name, values in store.Stored(path).items()}
    again = {name: _importances.read_importance(path, name) for name in found}
    return [{k: v.tolist() for k, v in part.items()} for part in (*found.values(), *again.values())]


def read_tone(path: Path) -> Any:
    return labelled.with_skin_tone(frame("dataset", "image_id").assign(fitzpatrick=np.nan), [path])


def plain_text(path: Path) -> None:
    files.write_text(path, "method  AUC\nSWiFT   0.91\n")


def page(path: Path) -> None:
    files.write_text(path, "<html><body><p>SWiFT 0.91</p></body></html>\n")


# kind of layout.FILES -> (keys of its pattern, how it is written, how a later job reads it)
Kind = tuple[dict[str, str], Callable[[Path], None], Callable[[Path], Any]]


def write_frame(path: Path) -> None:
    """Any table."""
    files.write_parquet(pd.DataFrame({"stage": ["a", "b"], "value": [0.5, 1.5]}), path)


def write_fact(path: Path) -> None:
    """Any facts."""
    files.write_json(path, {"threshold": 0.25, "chosen": [1, 2]})


KINDS: dict[str, Kind] = {
    "baseline_scores": ({}, write_frame, files.read_parquet),
    "costs": ({}, write_frame, files.read_parquet),
    "plausibility": ({}, write_frame, files.read_parquet),
    "setup_plausibility": ({}, write_frame, files.read_parquet),
    "first_model": (
        {},
        lambda p: networks.save(networks.build(NETWORK, 2), p),
        lambda p: [v.sum().item() for v in networks.read_state(p).values()],
    ),
    "first_history": ({}, write_frame, files.read_parquet),
    **{
        name: ({}, write_fact, files.read_json)
        for name in (
            *("groups", "first_cost", "threshold", "baseline_threshold", "search"),
            *("baseline_source", "origin"),
        )
    },
    "check_json": ({}, lambda p: files.write_json(p, {"datasets": [1, 2.5]}), files.read_json),
    "manifest": ({}, write_manifest, manifest.read),
    "manifest_log": ({}, lambda p: files.write_json(p, {"rules": ["a"]}), files.read_json),
    "image_index": (
        {},
        lambda p: write_cache(p.with_suffix(".npy"), IDS, np.zeros((12, 4, 4, 3), np.uint8)),
        read_index,
    ),
    "pixels": (
        {},
        lambda p: write_cache(p, IDS, PIXELS),
        read_images,
    ),
    "skin_tone": ({}, parquet("image_id", "fitzpatrick"), read_tone),
    "cohort": ({}, parquet("dataset", "image_id", "patient_id", "label"), files.read_parquet),
    "duplicates": ({}, parquet("image_id", "label"), files.read_parquet),
    "cohort_log": ({}, lambda p: files.write_json(p, {"clusters": 7}), files.read_json),
    "folds": ({}, parquet("dataset", "image_id", "fold"), files.read_parquet),
    "external": (
        {},
        parquet("dataset", "image_id", "label", "attribute", "balanced"),
        lambda p: (read_external(p), data_tables.external_sizes([p])),
    ),
    "baseline_model": (
        {},
        lambda p: networks.save(networks.build(NETWORK, 0), p),
        lambda p: [v.sum().item() for v in networks.load(p, NETWORK).state_dict().values()],
    ),
    "baseline_history": ({}, parquet("value"), files.read_parquet),
    "baseline_cost": (
        {},
        lambda p: files.write_json(p, {"seconds": 1.5}),
        lambda p: costs.read_costs([p]),
    ),
    "importance": ({}, lambda p: store.save(importances(), p), read_stored),
    "mask_summary": ({}, parquet("layer", "value"), lambda p: results.read("mask_summary", [p])),
    "model": (
        {},
        lambda p: networks.save(networks.build(NETWORK, 1), p),
        lambda p: [v.sum().item() for v in networks.load(p, NETWORK).state_dict().values()],
    ),
    "history": ({}, parquet("value"), files.read_parquet),
    "cost": (
        {},
        lambda p: files.write_json(p, {"seconds": 2.5, "images_seen": 3}),
        lambda p: costs.read_costs([p]),
    ),
    "predictions": (
        {},
        parquet("dataset", "image_id", "label", "group", "score"),
        lambda p: results.read("predictions", [p]),
    ),
    "setup_metrics": ({}, parquet("value"), lambda p: results.joined([p])),
    "repeat_predictions": (
        {},
        parquet("dataset", "image_id", "label", "group", "score"),
        lambda p: results.read("repeat_predictions", [p]),
    ),
    "repeat_model": (
        {},
        lambda p: networks.save(networks.build(NETWORK, 1), p),
        lambda p: [v.sum().item() for v in networks.load(p, NETWORK).state_dict().values()],
    ),
    "repeat_threshold": ({}, write_fact, files.read_json),
    "metrics": ({}, parquet("value"), files.read_parquet),
    "intervals": ({}, parquet("value"), lambda p: results.joined([p])),
    "statistics": ({}, parquet("value"), files.read_parquet),
    "table_recipe": ({}, lambda p: files.write_json(p, {"params": {"folds": 2}}), files.read_json),
    "in_words": ({}, lambda p: files.write_json(p, {"sentences": ["One."]}), files.read_json),
    "unfinished": ({}, lambda p: files.write_json(p, {"views": ["a"]}), files.read_json),
    "arrays": (
        {},
        lambda p: files.write_arrays(p, {"a": np.arange(99.0), "b": np.array(["x", "y"])}),
        lambda p: {name: value.tolist() for name, value in files.read_arrays(p).items()},
    ),
    "skin_tone_sheet": ({}, write_figure, lambda p: html.image(p, "a")),
    "figure": ({"format": "png"}, write_figure, lambda p: html.image(p, "a")),
    "table": ({"format": "html"}, page, html.fragment),
    "verdict": ({"format": "html"}, page, html.fragment),
    "which_method_file": ({"part": "which_method", "format": "html"}, page, html.fragment),
}
# Read by people and other programs only, or folders; the checkpoints are in test_odd_weights.py.
NOT_READ = {
    *("raw", "check_text", "sizes_csv", "sizes_md", "setup_predictions", "verdict_cells"),
    *("verdict_claims", "verdict_instances", "report", "summary", "baseline_checkpoints"),
    *("checkpoints", "logs", "benchmarks", "first_checkpoints", "seen"),
    *("repeat_history", "repeat_cost", "repeat_checkpoints", "setup_repeats"),
    *("model_check", "data_suffices", "settings"),
    *("tensorboard", "which_method"),
    "search_journal",  # each trial is made again where its scores cannot be read
}


def damages(data: bytes, rng: np.random.Generator, n: int = 8) -> Iterator[tuple[str, bytes]]:
    """What happens to files on disks and in transit."""
    for _ in range(n):
        broken = bytearray(data)
        broken[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        yield "bit", bytes(broken)
        yield "cut", data[: int(rng.integers(len(data)))]
        start = int(rng.integers(len(data)))
        end = min(len(data), start + int(rng.integers(1, 300)))
        if any(data[start:end]):
            yield "zeroed", data[:start] + bytes(end - start) + data[end:]
        yield "overwritten", data[:start] + rng.bytes(end - start) + data[end:]
        yield "doubled", data[:start] + data[start:end] + data[start:]
    yield "empty", b""
    yield "zeros", bytes(len(data))
    yield "pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def by_hand(path: Path) -> Iterator[str]:
    """What people do to files with their own tools: still sound files, of other content."""
    data = path.read_bytes()
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
        number = table.select_dtypes("number").columns[-1]
        for what, changed in (
            ("written again", table),
            ("rows cut", table.iloc[:-3]),
            ("no rows", table.iloc[:0]),
            ("column renamed", table.rename(columns={table.columns[0]: "other"})),
            ("a number changed", table.assign(**{number: table[number].to_numpy()[::-1] + 1})),
            ("text for numbers", table.assign(**{number: "x"})),
        ):
            changed.to_parquet(path, index=False)
            yield what
    if path.suffix == ".json":
        whole = json.loads(data)
        name = list(whole)[-1]
        for what, changed in (
            ("edited", whole | {name: 9}),
            ("key dropped", {k: v for k, v in whole.items() if k != name}),
            ("no object", [1, 2]),
            ("no digest", {k: v for k, v in whole.items() if k != "digest"}),
        ):
            path.write_text(json.dumps(changed, indent=1) + "\n")
            yield what
    if path.suffix == ".npy":
        pixels = np.load(path).copy()
        for what, changed in (
            ("rows cut", pixels[:-1]),
            ("permuted", pixels[::-1]),
            ("other numbers", pixels.astype(np.float32)),
            ("flat", pixels.reshape(12, -1)),
            ("objects", np.array([{"a": 1}], dtype=object)),
        ):
            np.save(path, changed)
            yield what
    path.write_bytes(data)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, pd.DataFrame):
        return one.equals(other)
    if isinstance(one, tuple):
        return all(map(same, one, other))
    return bool(one == other)


def path_of(name: str, folder: Path) -> Path:
    path = folder / layout.path(name, **KEYS).format_map(KINDS[name][0])
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """The files beside a damaged one."""
    write_cache(tmp_path / "images/ham.npy", IDS, np.zeros((12, 4, 4, 3), np.uint8))
    return tmp_path


def test_every_kind_of_result_is_here() -> None:
    assert set(KINDS) | NOT_READ == set(layout.FILES)
    assert not set(KINDS) & NOT_READ


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_result_is_refused_in_one_line(name: str, world: Path) -> None:
    _, write, read = KINDS[name]
    path, counts = path_of(name, world), collections.Counter[str]()
    write(path)
    data, right = path.read_bytes(), read(path)
    write(path)
    assert path.read_bytes() == data  # the same content, the same bytes
    rng = np.random.default_rng([*name.encode()])

    def judge(what: str) -> None:
        try:
            found = read(path)
        except UserError as error:
            (line,) = str(error).splitlines()
            assert str(path) in line and "run again" in line, line
            counts["refused"] += 1
        else:
            # only of what has neither digest nor checksum of every byte
            assert same(found, right) and path.suffix == ".npy", what
            counts["as written"] += 1

    for what, broken in damages(data, rng):
        if broken != data:
            path.write_bytes(broken)
            judge(what)
    path.write_bytes(data)
    for what in by_hand(path):
        judge(what)
    assert same(read(path), right)
    path.unlink()
    with pytest.raises((UserError, FileNotFoundError), match=path.name):
        read(path)
    print(name, dict(counts))
    assert counts["refused"] >= 25


def test_a_damaged_text_for_the_terminal(tmp_path: Path) -> None:
    """It has no digest (a recorded exclusion): cut or torn it is refused, a changed letter not."""
    path = tmp_path / "t1.txt"
    plain_text(path)
    data = path.read_bytes()
    for broken in (b"", data[:-1], data[:5], bytes(20), data[:9] + b"\xff" + data[9:]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"t1\.txt is damaged"):
            files.read_text(path)
    path.write_bytes(data)
    assert files.read_text(path).endswith("0.91\n")


# --- the partial cache ----------------------------------------------------------------------------


def test_a_damaged_partial_cache_ends_in_the_bytes_of_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache_building, "BLOCK", 4)
    rng = np.random.default_rng(0)
    for name in IDS:
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    rows = pd.DataFrame({"image_id": IDS, "path": [f"{name}.png" for name in IDS]})
    whole = [tmp_path / "whole.npy", tmp_path / "whole.parquet"]
    build_cache(rows, tmp_path, *whole, Images(size=8))
    made = [tmp_path / "c.npy", tmp_path / "c.parquet"]
    partial, journal = tmp_path / "c.npy.partial", tmp_path / "c.npy.journal"

    def stop(done: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(rows, tmp_path, *made, Images(size=8), progress=stop)
    kept = {path: path.read_bytes() for path in (partial, journal)}
    tried = 0
    for victim, data in kept.items():
        extra = [
            ("numbers", b"[1]\n"),
            ("unknown row", b"[[999, null, null, null, null, null, null, 0, null, 0, null]]\n"),
            ("object", b'{"a": 1}\n'),
        ]
        more = [(what, data + line) for what, line in extra] if victim == journal else []
        for _, broken in [*damages(data, rng, 6), *more]:
            for path, content in kept.items():
                path.write_bytes(broken if path == victim else content)
            build_cache(rows, tmp_path, *made, Images(size=8))
            assert [p.read_bytes() for p in made] == [p.read_bytes() for p in whole]
            assert not partial.exists() and not journal.exists()
            tried += 1
    print(tried, "partial caches")
    assert "begins anew" in capsys.readouterr().err


# --- one way to read ------------------------------------------------------------------------------

READERS = {"read_parquet", "read_table", "read_csv", "load", "safe_open", "load_file", "loads"}
# who may call a reader of a library: the one way itself, and readers of what is no result
ALLOWED = {
    "files.py": "the one way",
    "learning/tensor_files.py": "the one way for tensors",
    "importance/store.py": "checks, then reads objective by objective",
    "report/figures/_importances.py": "checks, then reads some tensors",
    "data/image_cache.py": "checks image by image",
    "data/cache_building.py": "the partial cache, checked by its journal",
    "learning/checkpoints.py": "the note of a checked checkpoint",
    "report/bundle.py": "what describes a bundle, which is not of this run",
    "report/costs.py": "Snakemake's benchmarks",
    "report/published.py": "the paper's numbers, part of the project",
    "data/raw_tables.py": "the one way for tables of a user's",
    "methods/_trials.py": "a running search's scores: made again where they cannot be read",
    "data/fingerprint.py": "what was seen: where it cannot be read, everything is looked at anew",
    "run/forked.py": "what is asked of the process that jobs are forked from",
    "config/strict_yaml.py": "settings",
    "learning/checkpoint_files.py": "what describes a user's own checkpoint",
}


def test_results_are_read_in_one_way() -> None:
    """No file of the project calls a reader of pandas, numpy, json or safetensors but these."""
    scripts = LIBRARY.parent
    for path in sorted(scripts.rglob("*.py")):
        inside = path.relative_to(LIBRARY).as_posix() if LIBRARY in path.parents else path.name
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            owner = function.value if isinstance(function, ast.Attribute) else None
            name = getattr(function, "attr", getattr(function, "id", ""))
            module = owner.id if isinstance(owner, ast.Name) else ""
            direct = owner is None and name in {"safe_open", "load_file"}
            if direct or (name in READERS and module in {"pd", "pq", "np", "json"}):
                assert inside in ALLOWED, f"{path}:{node.lineno} reads with {module}.{name}"
