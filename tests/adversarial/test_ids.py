"""Who is who: persons in many spellings, over training and test tables, in one archive or none."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adversarial.cells import missing, pick, spelled, write_csv
from swift_debias.config import load, plan, schema
from swift_debias.data import adapters, check, duplicates
from swift_debias.data.folds import make_folds
from swift_debias.data.groups import group_index
from swift_debias.errors import UserError
from swift_debias.methods import _external

EXPECTED = check.load_expected(Path(__file__).parents[2] / "resources" / "expected_counts.yaml")
NAMES = ("Müller", "7", "0042", "P 12", "Åse-1", "310", "José", "x/y")
SEXES = ("female", "male")
COLUMNS = ["file", "who", "dx", "sex"]


class World:
    """Tables of images of persons, drawn by a seed; `people[data set]` says who is who."""

    def __init__(self, folder: Path, seed: int, sizes: dict[str, int], persons: int) -> None:
        self.rng = rng = np.random.default_rng([18, seed])
        self.people: dict[str, list[str | None]] = {}
        self.labels: dict[str, list[int]] = {}
        self.sexes: dict[str, list[str | None]] = {}
        self.entries: dict[str, dict[str, Any]] = {}
        for name, n in sizes.items():
            names = [NAMES[k % 8] + "/" * (k // 8) + str(k // 8 or "") for k in range(persons)]
            people = [pick(rng, names) if rng.random() < 0.8 else None for _ in range(n)]
            labels = [int(rng.random() < 0.5) for _ in range(n)]
            labels[:2] = [0, 1]
            sexes = [pick(rng, (*SEXES, *SEXES, None)) for _ in range(n)]
            sexes[:2] = SEXES
            root = folder / name
            rows = [
                [
                    f"{name}{row}.png",
                    missing(rng) if people[row] is None else spelled(rng, people[row]),
                    ("well", "sick")[labels[row]],
                    missing(rng) if sexes[row] is None else spelled(rng, sexes[row]),
                ]
                for row in range(n)
            ]
            write_csv(root / "t.csv", rng, COLUMNS, rows)
            for row in range(n):
                (root / f"{name}{row}.png").touch()
            self.people[name], self.labels[name], self.sexes[name] = people, labels, sexes
            self.entries[name] = {
                "adapter": "table",
                "root": str(root),
                "table": "t.csv",
                "path": "file",
                "patient": "who",
                "label": {"column": "dx", "positive": ["sick"], "negative": ["well"]},
                "attributes": {"sex": {"column": "sex"}},
            }

    def settings(
        self, leaks: str = "exclude", min_cell: int = 1, folds: int = 2
    ) -> schema.Settings:
        names = list(self.entries)
        return load.typed(
            {
                "run": "r",
                "seed": 3,
                "folds": folds,
                "datasets": self.entries,
                "attributes": {
                    "sex": {"column": "sex", "groups": {"female": ["female"], "male": ["male"]}}
                },
                "duplicates": {"leaks": leaks},
                "tasks": {
                    "t": {
                        "train": names[:-1],
                        "tests": {"sex": names[-1:]},
                        "positive": "sick",
                        "negative": "well",
                        "pretraining": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
                        "finetuning": {"min_cell": min_cell, "min_group": 2},
                    }
                },
                "backbones": {"n": {"architecture": "small_resnet"}},
                "methods": {"baseline": {"algorithm": "baseline"}},
                "experiments": {
                    "x": {
                        "kind": "table",
                        "title": "x",
                        "methods": ["baseline"],
                        "panels": [{"task": "t", "backbone": "n", "attribute": "sex"}],
                    }
                },
            },
            adapters.options_models(),
        )


def sources(settings: schema.Settings, hashes: dict[str, list[bytes]]) -> list[duplicates.Source]:
    """What rule find_duplicates is given: manifests, and the index of a cache."""
    archives = plan.archives(settings)
    found = []
    for name, options in settings.datasets.items():
        frame = adapters.read(options, Path()).frame
        index = pd.DataFrame(
            {
                "image_id": frame["image_id"],
                "sha256": [f"{name} {k}" for k in range(len(frame))],
                "phash": pd.Series(hashes[name], dtype="object"),
                "phash_quality": 100,
                "error": pd.Series([None] * len(frame), dtype="object"),
            }
        )
        found.append(duplicates.Source(name, frame, index, archives[name]))
    return found


def is_same(of: dict[Any, Any], one: Any, other: Any) -> bool:
    """Whether two rows have the same person or picture; what is not known is nobody's."""
    return of[one] is not None and of[one] == of[other]


def pictures(rng: np.random.Generator, n: int) -> list[bytes]:
    """Hashes that are all different, some copied from another."""
    hashes = [rng.bytes(32) for _ in range(n)]
    for k in range(n):
        if rng.random() < 0.15:
            hashes[k] = hashes[int(rng.integers(n))]
    return hashes


@pytest.mark.parametrize(
    "block", [0, 1, *(pytest.param(n, marks=pytest.mark.ci) for n in range(2, 6))]
)
def test_persons_are_neither_split_nor_merged(tmp_path: Path, block: int) -> None:
    """Over two training sets and a test set; brute force over all pairs of rows decides."""
    seen: collections.Counter[str] = collections.Counter()
    for seed in range(12 * block, 12 * block + 12):
        rng = np.random.default_rng([19, seed])
        sizes = {"a": int(rng.integers(4, 12)), "b": int(rng.integers(3, 8)), "test": 5}
        world = World(tmp_path / f"{seed}", seed, sizes, persons=int(rng.integers(3, 20)))
        archive = {name: pick(rng, ("one", "one", "other", None)) for name in sizes}
        for name, one in archive.items():
            if one is not None:
                world.entries[name]["archive"] = one
        leaks = pick(rng, ("exclude", "exclude", "allow", "refuse"))
        settings = world.settings(leaks)
        hashes = {name: pictures(rng, n) for name, n in sizes.items()}
        rows = [(name, k) for name, n in sizes.items() for k in range(n)]

        person = {
            (name, k): who and (archive[name] or name, who)
            for name in sizes
            for k, who in enumerate(world.people[name])
        }
        picture = {(name, k): hashes[name][k] for name, k in rows}
        train = [row for row in rows if row[0] != "test"]
        test = [row for row in rows if row[0] == "test"]
        copies = {row: [other for other in train if is_same(picture, row, other)] for row in train}
        leaked = {
            row
            for row in train
            if any(
                is_same(person, copy, other) or is_same(picture, copy, other)
                for copy in copies[row]
                for other in test
            )
        }
        *pool, held_out = sources(settings, hashes)
        try:
            cohort = duplicates.find_duplicates(pool, [held_out], settings.duplicates)
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            if leaks == "refuse" and leaked:
                assert f"{len(leaked)} training images" in str(error)
                seen["refused"] += 1
            else:
                assert leaks == "exclude" and len(leaked) == len(train)
                seen["nothing left"] += 1
            continue
        assert not (leaks == "refuse" and leaked)
        last = {row: copies[row][-1] for row in train}
        gone = leaked if leaks == "exclude" else set()
        kept = [row for row in train if row not in gone and last[row] == row]
        ids = [(d, int(i.removeprefix(d).removesuffix(".png"))) for d, i in zip(
            cohort.frame["dataset"], cohort.frame["image_id"], strict=True
        )]  # fmt: skip
        assert ids == kept, seed
        assert cohort.log[f"leaks_{leaks}"]["images"] == len(leaked), seed
        # clusters: chains of the same person and the same picture, removed copies included
        cluster = {row: k for k, row in enumerate(train)}
        bonds = [
            (one, other)
            for one in train
            for other in train
            if is_same(person, one, other) or is_same(picture, one, other)
        ]
        for _ in train:
            for one, other in bonds:
                cluster[one] = cluster[other] = min(cluster[one], cluster[other])
        told = dict(zip(ids, cohort.frame["cluster"], strict=True))
        for one in ids:
            for other in ids:
                assert (told[one] == told[other]) == (cluster[one] == cluster[other]), seed
        twins = {k for k, row in enumerate(test) if sum(is_same(picture, row, o) for o in test) > 1}
        double = cohort.pairs[cohort.pairs["kind"] == "in_test_set"]
        listed = {*double["image_id_a"], *double["image_id_b"]}
        assert listed == {f"test{k}.png" for k in twins}
        seen["right"] += 1
        seen["with leaks"] += bool(leaked)
        seen["with copies in the test set"] += bool(twins)
    print(dict(seen))
    assert seen["right"] >= 6 and seen["with leaks"]


@pytest.mark.parametrize("block", [0, *(pytest.param(n, marks=pytest.mark.ci) for n in (1, 2, 3))])
def test_what_the_check_says_is_what_the_rules_do(tmp_path: Path, block: int) -> None:
    """`can run` if and only if the rules that follow go through; with the group's name if not."""
    seen: collections.Counter[str] = collections.Counter()
    for seed in range(12 * block, 12 * block + 12):
        rng = np.random.default_rng([20, seed])
        sizes = {"train": int(rng.integers(6, 40)), "test": 6}
        world = World(tmp_path / f"{seed}", seed, sizes, persons=int(rng.integers(3, 16)))
        if rng.random() < 0.5:
            world.entries["train"]["archive"] = world.entries["test"]["archive"] = "h"
        settings = world.settings(
            pick(rng, ("exclude", "exclude", "allow", "refuse")),
            min_cell=int(rng.integers(1, 4)),
            folds=int(rng.integers(2, 4)),
        )
        report = check.check(settings, Path(), EXPECTED)
        hashes = {name: [rng.bytes(32) for _ in range(n)] for name, n in sizes.items()}
        attribute = settings.attributes["sex"]
        error = ""
        try:
            *pool, held_out = sources(settings, hashes)
            cohort = duplicates.find_duplicates(pool, [held_out], settings.duplicates).frame
            groups = group_index(cohort["sex"], attribute)
            folds = make_folds(cohort, pd.DataFrame({"sex": groups}), settings.folds, settings.seed)
            cohort = cohort.assign(fold=folds["fold"])
            for fold in range(settings.folds):
                _external.make_external(
                    cohort,
                    groups,
                    fold,
                    2,
                    settings.tasks["t"].finetuning.min_cell,
                    np.random.default_rng(0),
                    attribute.group_names,
                )
        except UserError as problem:
            error = str(problem)
        assert report.ok == (not error), (seed, error, report.as_text())
        json = report.as_json()  # builtin types only
        assert json["ok"] == report.ok
        if error:
            [experiment] = report.experiments
            [*reasons] = experiment.reasons
            assert reasons and all(len(reason.splitlines()) == 1 for reason in reasons)
            if "external set" in error:
                assert any("in group female" in r or "in group male" in r for r in reasons), seed
            seen["cannot run"] += 1
        else:
            seen["can run"] += 1
        # the largest patient, by plain counting
        people = collections.Counter(p for p in world.people["train"] if p is not None)
        data = report.datasets[0]
        assert data.largest_patient_images == max(people.values(), default=0)
        assert data.images_without_patient == world.people["train"].count(None)
        assert data.patients == len(people)
    print(dict(seen))
    assert seen["can run"] and seen["cannot run"]
