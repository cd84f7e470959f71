"""Which files of weights a run has used: noted by the job that reads them, listed in the report."""

import hashlib
from pathlib import Path

import pytest
import torch

from swift_debias.config.schema import Backbone
from swift_debias.files import write_json
from swift_debias.learning import sources
from swift_debias.report import data_tables

SUM = hashlib.sha256(b"weights").hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"weights")
    return path


def test_what_a_baseline_was_made_of(file: Path) -> None:
    plain = Backbone(architecture="small_resnet")
    assert sources.source(plain, None) == {"kind": "random", "file": None, "sha256": None}
    own = {"kind": "baseline", "file": str(file), "sha256": SUM}
    assert sources.source(plain, str(file)) == own
    weights = Backbone(architecture="small_resnet", weights=str(file))
    assert sources.source(weights, None) == own | {"kind": "weights"}


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b3", "densenet121"])
def test_the_file_that_torchvision_has_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its name says the first digits of its sum; here is another file of that name."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    backbone = Backbone(architecture=name, weights="imagenet")
    found = sources.source(backbone, None)
    assert found["file"].startswith(name)
    assert found["file"].endswith(".pth")
    assert found["sha256"] is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / found["file"]).write_bytes(b"weights")
    assert sources.source(backbone, None) == {
        "kind": "imagenet",
        "file": found["file"],
        "sha256": SUM,
    }


def test_the_report_lists_each_file_once(tmp_path: Path) -> None:
    """With the folds that were made of it; random starts are no files."""
    made = {
        "baseline/skin/net/fold0": {"kind": "baseline", "file": "a.st", "sha256": "1"},
        "baseline/skin/net/fold1": {"kind": "baseline", "file": "b.st", "sha256": "2"},
        "baseline/skin/net/fold2": {"kind": "baseline", "file": "b.st", "sha256": "2"},
        "baseline/skin/wide/fold0": {"kind": "random", "file": None, "sha256": None},
        "baseline/cxr/net/fold0": {"kind": "imagenet", "file": "c.pth", "sha256": None},
    }
    paths = [tmp_path / folder / "source.json" for folder in made]
    for path, source in zip(paths, made.values(), strict=True):
        path.parent.mkdir(parents=True)
        write_json(path, source)
    found = data_tables.weight_files(paths)
    columns = ["task", "network", "folds", "used as", "file", "SHA-256"]
    assert list(found) == columns
    assert found[["folds", "file", "SHA-256"]].astype(object).fillna("").to_numpy().tolist() == [
        ["0", "a.st", "1"],
        ["1, 2", "b.st", "2"],
        ["0", "c.pth", ""],
    ]
    assert data_tables.weight_files(paths[3:4]).empty
