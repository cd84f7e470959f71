"""Changed data are seen, and unchanged ones rerun nothing: random changes of small raw folders.

The verdict on a change is independent of the code: the bytes of the table and of the images that it
names, and the names and sizes of the other images, before and after. Touched, moved, copied and
linked folders hold the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from tests import warm
from tests.conftest import PROJECT, Snakemake

from swift_debias.data import adapters, fingerprint
from swift_debias.data.adapters.table import Options

SEQUENCES = 120
STEPS = 4
LONG_AGO = 1_500_000_000  # seconds: files of a raw folder are older than the look at them

Content = dict[str, Any]


class Raw:
    """A raw folder of a few images that a table names, and one that it does not."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.home, self.root, self.rng = folder, folder / "raw0", rng
        self.moves = 0
        (self.root / "deep").mkdir(parents=True)
        self.named = [f"{'deep/' if k % 2 else ''}i{k}.png" for k in range(5)]
        for name in [*self.named, "stray.png"]:
            self.write(name, bytes(rng.integers(0, 256, 24, dtype=np.uint8)))
        rows = [f"{name},{k % 2},{'fm'[k // 2 % 2]}" for k, name in enumerate(self.named)]
        (self.root / "t.csv").write_text("\n".join(["file,label,sex", *rows]) + "\n")
        for path in self.root.rglob("*"):
            os.utime(path, (LONG_AGO, LONG_AGO))

    def write(self, name: str, data: bytes) -> None:
        (self.root / name).write_bytes(data)

    def some(self) -> str:
        """An image that the table named at first and that is there."""
        there = [name for name in self.named if (self.root / name).is_file()]
        return str(self.rng.choice(there))

    def options(self) -> Options:
        data = {"adapter": "table", "root": str(self.root), "table": "t.csv", "path": "file"}
        label = {"column": "label", "positive": ["1"], "negative": ["0"]}
        options = adapters.make_options(data | {"label": label})
        assert isinstance(options, Options)
        return options

    def content(self) -> Content:
        """What the results depend on."""
        lines = (self.root / "t.csv").read_bytes()
        rows = {line.split(",")[0] for line in lines.decode().splitlines()[1:]}
        found: Content = {"t.csv": lines}
        for path in sorted(self.root.rglob("*.png")):
            name = path.relative_to(self.root).as_posix()
            if not path.name.startswith(".") and not path.is_symlink():
                data = path.read_bytes()
                found[name] = data if name in rows else len(data)
        return found

    def digests(self) -> dict[str, str]:
        """What the cache of a run would have taken: of the images that have a row."""
        return {
            name: hashlib.sha256(data).hexdigest()
            for name, data in self.content().items()
            if isinstance(data, bytes) and name != "t.csv"
        }


def edit_cell(raw: Raw) -> None:
    """Class 0 becomes class 1 and the other way round: as many bytes as before."""
    path = raw.root / "t.csv"
    stat = path.stat()
    path.write_bytes(path.read_bytes().translate(bytes.maketrans(b"01", b"10"), b""))
    if raw.rng.random() < 0.5:  # an editor that keeps the time
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def withdraw_row(raw: Raw) -> None:
    lines = (raw.root / "t.csv").read_text().splitlines()
    if len(lines) > 2:
        lines.pop()
    raw.write("t.csv", ("\n".join(lines) + "\n").encode())


def delete_image(raw: Raw) -> None:
    if sum((raw.root / name).is_file() for name in raw.named) > 2:
        (raw.root / raw.some()).unlink()


def add_image(raw: Raw) -> None:
    raw.write(f"new{raw.rng.integers(9)}.png", b"new")


def replace_image(raw: Raw) -> None:
    """By another of the same size."""
    name = raw.some()
    raw.write(name, bytes(raw.rng.permutation(256)[:24].astype(np.uint8)))


def resize_image(raw: Raw) -> None:
    name = raw.some()
    raw.write(name, (raw.root / name).read_bytes() + b"x")


def rename_image(raw: Raw) -> None:
    name = raw.some()
    (raw.root / name).rename((raw.root / name).with_name(f"renamed{raw.rng.integers(99)}.png"))


def swap_images(raw: Raw) -> None:
    """Two images change names by way of a copy: names and sizes stay, the times do not."""
    one, other = raw.some(), raw.some()
    first, second = (raw.root / one).read_bytes(), (raw.root / other).read_bytes()
    raw.write(one, second)
    raw.write(other, first)


def touch(raw: Raw) -> None:
    (raw.root / raw.some()).touch()


def touch_all(raw: Raw) -> None:
    for path in raw.root.rglob("*"):
        path.touch()


def elsewhere(raw: Raw) -> Path:
    raw.moves += 1
    return raw.home / f"raw{raw.moves}"


def move(raw: Raw) -> None:
    raw.root = raw.root.rename(elsewhere(raw))


def copy_without_times(raw: Raw) -> None:
    raw.root = Path(
        shutil.copytree(raw.root, elsewhere(raw), symlinks=True, copy_function=shutil.copyfile)
    )


def link_the_root(raw: Raw) -> None:
    target = elsewhere(raw)
    target.symlink_to(raw.root.resolve())
    raw.root = target


def debris(raw: Raw) -> None:
    """What systems leave behind, notes, archives, links out of the folder."""
    for name in ("._i0.png", ".DS_Store", "Thumbs.db", "README.md", "all.zip"):
        raw.write(name, bytes(raw.rng.integers(0, 256, 5, dtype=np.uint8)))
    link = raw.root / f"link{raw.rng.integers(9**9)}.png"
    link.symlink_to(raw.home)


def rewrite_the_same(raw: Raw) -> None:
    for name in ("t.csv", raw.some()):
        raw.write(name, (raw.root / name).read_bytes())


CHANGES: list[Callable[[Raw], None]] = [
    *(edit_cell, withdraw_row, delete_image, add_image, replace_image, resize_image, rename_image),
    *(swap_images, touch, touch_all, move, copy_without_times, link_the_root, debris),
    rewrite_the_same,
]


def test_a_fingerprint_changes_exactly_when_the_content_does(tmp_path: Path) -> None:
    """In a row of random changes, with looks (dry runs) and runs in between."""
    tally = {True: 0, False: 0}
    for seed in range(SEQUENCES):
        rng = np.random.default_rng(seed)
        raw = Raw(tmp_path / str(seed), rng)
        seen, cached = raw.home / "run/data/x.seen.json.gz", dict[str, str]()

        def look(remember: bool) -> str:
            return fingerprint.fingerprint(
                "x",
                raw.options(),  # noqa: B023
                Path(),
                seen,  # noqa: B023
                lambda: cached,  # noqa: B023
                remember=remember,
            )

        recorded, content = look(remember=True), raw.content()
        cached = raw.digests()
        for _ in range(STEPS):
            done = [CHANGES[k] for k in rng.integers(0, len(CHANGES), rng.integers(1, 3))]
            for change in done:
                change(raw)
            now, changed = look(remember=False), raw.content() != content
            said = f"seed {seed}: {[change.__name__ for change in done]}"
            assert (now != recorded) == changed, said
            assert look(remember=False) == now, said
            different = differing(content, raw.content())
            told = " ".join(fingerprint.explain(recorded, now))
            assert len(different) > 5 or all(name in told for name in different), (said, told)
            tally[changed] += 1
            if rng.random() < 0.6:  # a run: Snakemake's main process looks, jobs read
                assert look(remember=True) == now, said
                recorded, content, cached = now, raw.content(), raw.digests()
        shutil.rmtree(raw.home)
    print(f"{tally[True]} changes seen, {tally[False]} times nothing had changed")
    assert min(tally.values()) > SEQUENCES


def differing(before: Content, after: Content) -> set[str]:
    """The files that are others; one that merely lost its row in the table is not."""
    return {
        name
        for name in {*before, *after}
        if name not in before
        or name not in after
        or (type(before[name]) is type(after[name]) and before[name] != after[name])
    }


@pytest.mark.parametrize("tags", [[], ["ViewPosition"]])
@pytest.mark.parametrize("changed", ["kept.dcm", "lateral.dcm", "LATERAL.DICOM", "stray.png"])
def test_tags_of_a_film_that_was_left_out_may_take_it_in(
    tmp_path: Path, tags: list[str], changed: str
) -> None:
    """LL becomes PA in as many bytes; the film has no row, and the cache never read it."""
    found = []
    for machine in ("here", "there"):
        root, seen = tmp_path / machine / "raw", tmp_path / machine / "seen.json.gz"
        root.mkdir(parents=True)
        for name in ("kept.dcm", "lateral.dcm", "LATERAL.DICOM", "stray.png"):
            (root / name).write_bytes(f"LL {name}".encode())
        (root / "t.csv").write_text("file,label\nkept.dcm,1\n")
        label = {"column": "label", "positive": ["1"], "negative": ["0"]}
        options = adapters.make_options(
            {"adapter": "table", "root": str(root), "table": "t.csv", "path": "file",
             "dicom": tags, "label": label}
        )  # fmt: skip
        cached = {"kept.dcm": fingerprint.sha256(root / "kept.dcm")}

        def look() -> str:
            return fingerprint.fingerprint("x", options, Path(), seen, lambda: cached)  # noqa: B023

        first = look()
        assert look() == first
        (root / changed).write_bytes(f"PA {changed}".encode())
        os.utime(root / changed, (LONG_AGO, LONG_AGO + len(found)))
        second = look()
        assert look() == second
        found.append((first, second))
    assert found[0] == found[1]  # of content, not of the machine
    read = changed == "kept.dcm" or (tags and not changed.endswith(".png"))
    assert (found[0][0] != found[0][1]) == bool(read)


def test_an_absent_folder_keeps_its_fingerprint(tmp_path: Path) -> None:
    raw = Raw(tmp_path, np.random.default_rng(0))
    seen = tmp_path / "seen.json.gz"
    found = fingerprint.fingerprint("x", raw.options(), Path(), seen)
    raw.root.rename(tmp_path / "away")
    assert fingerprint.fingerprint("x", raw.options(), Path(), seen) == found
    assert fingerprint.fingerprint("x", raw.options(), Path(), tmp_path / "none.gz") == ""


def test_what_was_seen_may_be_lost_or_damaged(tmp_path: Path) -> None:
    """Then the images are compared with what the cache read: the same ones change nothing."""
    raw = Raw(tmp_path, np.random.default_rng(0))
    seen = tmp_path / "seen.json.gz"
    found = fingerprint.fingerprint("x", raw.options(), Path(), seen)
    cached, whole = raw.digests(), seen.read_bytes()
    for damage in (b"", b"no gzip", whole[:40], whole[: len(whole) * 3 // 4], None):
        seen.unlink(missing_ok=True) if damage is None else seen.write_bytes(damage)
        look = (raw.options(), Path(), seen, lambda: cached)
        assert fingerprint.fingerprint("x", *look, remember=False) == found
        raw_bytes = (raw.root / "i0.png").read_bytes()
        replace_image(raw)
        assert fingerprint.fingerprint("x", *look, remember=False) != found
        for name in raw.named:  # as it was
            raw.write(name, raw_bytes) if name == "i0.png" else None
        raw = Raw(tmp_path / str(time.monotonic_ns()), np.random.default_rng(0))


def test_a_look_at_many_files_takes_no_longer_than_a_walk(tmp_path: Path) -> None:
    """Neither images nor what was remembered of them are read where nothing has changed."""
    raw = Raw(tmp_path, np.random.default_rng(0))
    seen = tmp_path / "seen.json.gz"
    fingerprint.fingerprint("x", raw.options(), Path(), seen)

    def digests() -> dict[str, str]:
        raise AssertionError("the cache is read")

    before = seen.stat().st_mtime_ns
    fingerprint.fingerprint("x", raw.options(), Path(), seen, digests)
    assert seen.stat().st_mtime_ns == before


# --- whole plans ----------------------------------------------------------------------------------

CONFIG = """
run: changed
folds: 2
datasets:
  train: &set
    adapter: table
    root: {home}/train
    table: t.csv
    path: file
    label: {{ column: dx, positive: [sick], negative: [well] }}
    attributes: {{ sex: {{ column: sex }} }}
  test: {{ <<: *set, root: "{home}/test" }}
attributes:
  sex: {{ column: sex, groups: {{ female: [female], male: [male] }} }}
tasks:
  lesion:
    train: [train]
    tests: {{ sex: [test] }}
    positive: sick
    negative: well
    images: {{ size: 16 }}
    pretraining: {{ epochs: 1, batch_size: 16, optimizer: {{ name: sgd, lr: 0.02 }} }}
    finetuning: {{ epochs_percent: 100, lr_extractor: 0.005, lr_head: 0.1, min_cell: 1 }}
backbones:
  small: {{ architecture: small_resnet, options: {{ width: 8 }} }}
methods:
  baseline: {{ algorithm: baseline }}
experiments:
  table1:
    kind: table
    title: A case
    methods: [baseline]
    panels: [{{ task: lesion, backbone: small, attribute: sex }}]
"""
TARGETS = ("results/changed/cohorts/lesion.parquet", "results/changed/data_check.txt")
READ = ["build_manifest/train", "cache_images/train", "check_data", "find_duplicates/lesion"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> Path:
    """A run of tiny images up to the training pool."""
    home = tmp_path_factory.mktemp("changed")
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        (home / name).mkdir()
        rows = ["file,dx,sex"]
        for k in range(12):
            picture = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            picture.resize((24, 24), Image.Resampling.NEAREST).save(home / name / f"{k}.bmp")
            rows.append(f"{k}.bmp,{('sick', 'well')[k % 2]},{'fm'[k // 2 % 2]}")
        (home / name / "t.csv").write_text("\n".join(rows) + "\n")
        for path in (home / name).iterdir():
            os.utime(path, (LONG_AGO, LONG_AGO))
    (home / "config.yaml").write_text(CONFIG.format(home=home))
    run_to_the_end(snakemake, home)
    return home


def run_to_the_end(snakemake: Snakemake, home: Path) -> None:
    words = ("--cores", "1", "--configfile", str(home / "config.yaml"), "--quiet", "all")
    snakemake(home, *words, "--", *TARGETS)


def planned(home: Path) -> tuple[list[str], str]:
    """The jobs that would run, and the reasons that what-changed gives."""
    scripts = PROJECT / "workflow" / "scripts"
    if not (home / "Snakefile").exists():
        (home / "Snakefile").symlink_to(PROJECT / "Snakefile")
    words = ("what-changed", *TARGETS, "--configfile", "config.yaml", "--json")
    done = warm.run("swift_debias.cli", *words, cwd=home, path=scripts)
    assert done.returncode == 0, done.stderr
    jobs = yaml.safe_load(done.stdout)
    names = sorted("/".join([job["rule"], *job["wildcards"].values()]) for job in jobs)
    return names, "\n".join(reason for job in jobs for reason in job["reasons"])


@pytest.mark.slow
@pytest.mark.ci
def test_the_plan_follows_the_content(finished: Path, snakemake: Snakemake) -> None:
    """One change after another, each taken back; at the end a run says what had changed."""
    home, train = finished, finished / "train"
    # nothing but times and places
    for path in train.iterdir():
        path.touch()
    assert planned(home)[0] == []
    train.rename(home / "moved")
    shutil.copytree(home / "moved", train, copy_function=shutil.copyfile)
    (home / "config.yaml").write_text(CONFIG.format(home=home).replace("/train\n", "/moved\n"))
    moved, said = planned(home)
    assert moved == ["check_data"] and "datasets.train.root" in said  # it shows the folder
    (home / "config.yaml").write_text(CONFIG.format(home=home))
    # labels swapped, byte for byte as many; an image replaced by another of the same size
    text = (train / "t.csv").read_text()
    (train / "t.csv").write_text(text.translate(str.maketrans("fm", "mf")))
    picture = (train / "3.bmp").read_bytes()
    (train / "3.bmp").write_bytes((train / "4.bmp").read_bytes())
    jobs, said = planned(home)
    assert jobs == READ
    assert "1 table edited: t.csv" in said and "1 image replaced: 3.bmp" in said
    assert "the files of train have changed: " in said
    (train / "t.csv").write_text(text)
    (train / "3.bmp").write_bytes(picture)
    for k in (0, 1):
        (train / f"{k}.bmp").unlink()
    jobs, said = planned(home)
    assert jobs == READ and "2 images removed: 0.bmp, 1.bmp" in said
    (train / "t.csv").write_text(text.replace("2.bmp,sick", "2.bmp,well"))
    run_to_the_end(snakemake, home)
    assert planned(home)[0] == []
    check = (home / "results/changed/data_check.txt").read_text()
    assert "changed  since an earlier run: 2 images removed: 0.bmp, 1.bmp" in check
    assert "changed  since an earlier run: 1 table edited: t.csv" in check
    import pandas as pd

    pool = pd.read_parquet(home / TARGETS[0]).set_index("image_id")["label"]
    rows = [line.split(",") for line in (train / "t.csv").read_text().splitlines()[3:]]
    assert pool.to_dict() == {name: int(dx == "sick") for name, dx, _ in rows}
