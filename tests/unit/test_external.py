"""External sets: the pair of groups, fractions and balance by counting; importances by a loop."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.written import write_cache
from torch import Tensor, nn

from swift_debias.api import choice_of
from swift_debias.config.schema import Finetuning
from swift_debias.errors import UserError
from swift_debias.files import write_parquet
from swift_debias.importance.shared import shared_importance
from swift_debias.learning.samples import ExternalSet, Samples
from swift_debias.methods._external import best_and_worst_group, choose_rows
from swift_debias.methods.base import external_set, read_external

PIXELS = 4


class Red(nn.Module):
    """The logit is the mean of the normalized red channel: the scores can be planted."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0].mean(dim=(1, 2))


def planted(rows: Sequence[tuple[int, int, int]]) -> Samples:
    """Samples of (label, group, score); a score is a level of red from 0 to 255."""
    labels, groups, scores = (torch.tensor(column) for column in zip(*rows, strict=True))
    pixels = scores.view(-1, 1, 1, 1).expand(-1, 3, PIXELS, PIXELS).to(torch.uint8).contiguous()
    return Samples(pixels, torch.arange(len(rows)), labels.float(), groups.long())


def group_rows(group: int, auc: float, n: int = 20) -> list[tuple[int, int, int]]:
    """A group of n samples, half of them of class 1, with this AUC (in steps of 2 / n)."""
    half = n // 2
    above = round(auc * half)  # so many positives are above all negatives, the others below
    positives = [(1, group, 200 if place < above else 10) for place in range(half)]
    return positives + [(0, group, 100)] * (n - half)


# --- which two of many groups ---------------------------------------------------------------------


def pair_of(samples: Samples, groups: int, min_group: int, min_cell: int = 1) -> tuple[int, int]:
    """The groups that are compared, by the scores of `Red` on its external set."""
    pair = choice_of(
        Red(), samples, groups, Finetuning(min_group=min_group, min_cell=min_cell)
    ).pair
    assert pair is not None
    return pair


@pytest.mark.parametrize("aucs", [*itertools.permutations([0.9, 0.7, 0.4])])
def test_the_pair_has_the_highest_and_the_lowest_auc(aucs: tuple[float, ...]) -> None:
    samples = planted([row for group, auc in enumerate(aucs) for row in group_rows(group, auc)])
    expected = sorted((aucs.index(0.9), aucs.index(0.4)))
    assert pair_of(samples, 3, min_group=20) == tuple(expected)
    found = best_and_worst_group(dict(enumerate(aucs)), range(3), Finetuning())
    assert found == tuple(expected)


def test_small_groups_and_groups_of_one_class_take_no_part() -> None:
    rows = group_rows(0, 0.7) + group_rows(1, 1.0, n=18) + group_rows(2, 0.6) + group_rows(3, 0.5)
    rows += [(1, 4, 200)] * 30  # one class: no AUC
    rows += [(1, -1, 0), (0, -1, 255)] * 20  # of unknown group, and worse than all
    samples = planted(rows)
    for min_group, expected in ((17, (1, 3)), (18, (1, 3)), (19, (0, 3)), (20, (0, 3))):
        assert pair_of(samples, 5, min_group) == expected, min_group
    with pytest.raises(UserError, match=r"fewer than two of the 5 groups .* at least 21 ext"):
        pair_of(samples, 5, 21)
    with pytest.raises(UserError, match=r"lower finetuning\.min_group and .*merge groups"):
        best_and_worst_group({0: 0.7, 1: float("nan")}, [0, 1], Finetuning())
    with pytest.raises(UserError, match="11 of each label"):
        best_and_worst_group({0: 0.7, 1: 0.8}, [1], Finetuning(min_cell=11))
    with pytest.raises(UserError, match="11 of each label"):  # groups of 10 of each label
        pair_of(samples, 5, 20, min_cell=11)


def many(
    aucs: Sequence[float], fraction: float = 1.0, min_cell: int = 1, min_group: int = 20
) -> tuple[ExternalSet, Samples, list[str]]:
    rows = [row for group, auc in enumerate(aucs) for row in group_rows(group, auc, 20 + 2 * group)]
    rows = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    rows += [(1, -1, 3), (0, -1, 4)]
    samples, said = planted(rows), list[str]()
    external = external_set(
        samples,
        np.zeros(len(samples), bool),
        pair=pair_of(samples, len(aucs), min_group, min_cell),
        fraction=fraction,
        finetuning=Finetuning(min_cell=min_cell),
        seed=3,
        info=said.append,
    )
    return external, samples, "\n".join(said).splitlines()


@pytest.mark.parametrize(
    ("aucs", "pair"),
    [([0.4, 0.7, 0.9], (0, 2)), ([0.9, 0.7, 0.4], (0, 2)), ([0.7, 0.9, 0.4], (1, 2))],
    ids=["worst first", "best first", "best in the middle"],
)
def test_the_pair_is_recoded_in_the_order_of_its_groups(
    aucs: list[float], pair: tuple[int, int]
) -> None:
    """The lower index becomes 0, whichever of the two has the higher AUC."""
    external, samples, said = many(aucs)
    groups = samples.attributes.tolist()
    chosen = [row for row, group in enumerate(groups) if group in pair]
    assert external.full.rows.tolist() == chosen
    assert external.full.attributes.tolist() == [pair.index(groups[row]) for row in chosen]
    assert external.full.labels.tolist() == samples.labels[chosen].tolist()
    assert said[0] == f"groups with the highest and the lowest AUC: {pair}, recoded as 0 and 1"
    # balanced: of each label as many of one group as of the other, all from the pair
    sizes = {cell: n // 2 for cell, n in enumerate(20 + 2 * group for group in pair)}
    smaller = min(sizes.values())
    assert cells(external.balanced) == dict.fromkeys(CELLS, smaller)
    assert set(external.balanced.rows.tolist()) < set(chosen)
    assert said[1] == f"external set: {len(chosen)} images, {4 * smaller} balanced"


def test_a_pair_with_too_small_a_cell_is_refused() -> None:
    """Whoever chose the pair: here it is given."""
    samples = planted([row for group in range(3) for row in group_rows(group, 0.7, 20)])
    columns = [samples.labels.numpy(), samples.attributes.numpy(), np.zeros(len(samples), bool)]
    chosen = choose_rows(*columns, (0, 2), 1, Finetuning(min_cell=10), seed=3)
    assert chosen.balanced.sum() == 40
    with pytest.raises(UserError, match="10"):
        choose_rows(*columns, (0, 2), 1, Finetuning(min_cell=11), seed=3)


def test_min_cell_and_min_group_of_many_groups() -> None:
    external, *_ = many([0.4, 0.7, 0.9], min_cell=10)  # the smallest cell has 10
    assert len(external.balanced) == 40
    _, _, said = many([0.4, 0.7, 0.9], min_cell=11)  # group 0 could not be balanced
    assert "AUC: (1, 2)" in said[0]
    _, _, said = many([0.4, 0.7, 0.9], min_group=21)  # group 0 has 20 samples
    assert "AUC: (1, 2)" in said[0]


CELLS = [*itertools.product((0, 1), (0, 1))]


def cells(samples: Samples) -> dict[tuple[int, int], int]:
    """How many samples of each label and group."""
    found = list(zip(samples.labels.int().tolist(), samples.attributes.tolist(), strict=True))
    return {cell: found.count(cell) for cell in CELLS}


# --- a part of the set ----------------------------------------------------------------------------

SIZES = {(0, 0): 17, (0, 1): 30, (1, 0): 44, (1, 1): 9}


def two_groups(
    fraction: float, seed: int = 3, sizes: dict[tuple[int, int], int] = SIZES
) -> tuple[ExternalSet, list[bool]]:
    rows = [(label, group, 9) for (label, group), n in sizes.items() for _ in range(n)]
    samples = planted([rows[place] for place in np.random.default_rng(1).permutation(len(rows))])
    balanced = np.arange(len(rows)) % 3 == 0
    external = external_set(
        samples,
        balanced,
        pair=None,
        fraction=fraction,
        finetuning=Finetuning(min_cell=99),  # has no say in a part, nor in what is balanced already
        seed=seed,
        info=lambda text: None,
    )
    return external, balanced.tolist()


def test_the_whole_set_is_balanced_as_the_file_says() -> None:
    external, balanced = two_groups(1.0)
    assert cells(external.full) == SIZES
    assert external.balanced.rows.tolist() == [row for row, one in enumerate(balanced) if one]


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.75])
def test_a_fraction_of_every_cell_and_balanced_after(fraction: float) -> None:
    external, _ = two_groups(fraction)
    kept = {cell: round(fraction * n) for cell, n in SIZES.items()}
    assert cells(external.full) == kept
    assert cells(external.balanced) == {
        (label, group): min(kept[label, 0], kept[label, 1]) for label, group in CELLS
    }
    assert set(external.balanced.rows.tolist()) <= set(external.full.rows.tolist())


def test_small_cells_keep_one_and_smaller_parts_lie_in_larger_ones() -> None:
    external, _ = two_groups(0.01)
    assert cells(external.full) == dict.fromkeys(CELLS, 1)
    parts = [set(two_groups(fraction)[0].full.rows.tolist()) for fraction in (0.25, 0.5, 0.75)]
    assert parts[0] < parts[1] < parts[2]
    assert parts[1] == set(two_groups(0.5)[0].full.rows.tolist())
    assert parts[1] != set(two_groups(0.5, seed=4)[0].full.rows.tolist())


def test_a_fraction_of_the_pair_of_many_groups() -> None:
    external, *_ = many([0.4, 0.7, 0.9], fraction=0.5)
    assert cells(external.full) == {(y, group): (5, 6)[group] for y, group in CELLS}
    assert cells(external.balanced) == dict.fromkeys(CELLS, 5)


def test_read_external_gives_the_rows_of_the_file(tmp_path: Path) -> None:
    from swift_debias.data.image_cache import CachedImages
    from swift_debias.data.normalization import Normalization

    mean, std = (0.5, 0.4, 0.3), (0.3, 0.2, 0.25)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 3, 3), dtype=np.uint8)
    ids = [f"i{row}" for row in range(5)]
    pairs = []
    for name, part in (("one", slice(0, 2)), ("two", slice(2, 5))):
        pairs.append(write_cache(tmp_path / f"{name}.npy", ids[part], pixels[part]))
    rows = pd.DataFrame(
        {
            "dataset": ["two", "one", "two"],
            "image_id": ["i4", "i1", "i2"],
            "label": [1, 0, 1],
            "attribute": [0, 1, 1],
            "balanced": [False, True, True],
        }
    )
    write_parquet(rows, tmp_path / "fold0.parquet")
    cpu = torch.device("cpu")
    for resident in ("on", "off"):
        samples, balanced = read_external(
            tmp_path / "fold0.parquet", CachedImages(pairs), cpu, resident, Normalization(mean, std)
        )
        found = samples.pixels(torch.arange(3)).permute(0, 2, 3, 1).numpy()
        assert (found == pixels[[4, 1, 2]]).all()
        drawn = samples.draw(torch.arange(3)).permute(0, 2, 3, 1)
        np.testing.assert_allclose(drawn, (pixels[[4, 1, 2]] / 255 - mean) / std, atol=1e-5)
        assert isinstance(samples.source, Tensor) == (resident == "on")
        assert samples.labels.tolist() == [1, 0, 1]
        assert samples.attributes.tolist() == [0, 1, 1]
        assert balanced.tolist() == [False, True, True]


# --- importances ----------------------------------------------------------------------------------

NAMES = [
    *("minibatch.full.prediction", "minibatch.full.bias"),
    *("minibatch.balanced.prediction", "minibatch.balanced.bias"),
    *("per_sample.full.group0", "per_sample.full.group1"),
    *("per_sample.balanced.prediction", "per_sample.balanced.bias"),
]


def seed_of(*parts: object) -> int:
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def in_random_order(samples: Samples, seed: int, part: str) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed_of(seed, part))
    order = torch.randperm(len(samples), generator=generator)
    return samples.draw(order), samples.labels[order], samples.attributes[order]


def bce(logits: Tensor, labels: Tensor, positive: Tensor) -> Tensor:
    """Eq. 1 sample by sample; `positive` is the share of class 1."""
    p = torch.sigmoid(logits)
    return -(1 - positive) * labels * torch.log(p) - positive * (1 - labels) * torch.log(1 - p)


def eodds(logits: Tensor, labels: Tensor, groups: Tensor, kind: str) -> Tensor:
    """Eq. 2; a term without samples of both groups is 0."""
    p, gaps = torch.sigmoid(logits), []
    for label in (1, 0):
        one, other = (p[(labels == label) & (groups == group)] for group in (0, 1))
        gaps.append(one.mean() - other.mean() if len(one) and len(other) else 0 * p.sum())
    if kind == "signed_mean":
        return (gaps[0] + gaps[1]).abs() / 2
    return (gaps[0].abs() + gaps[1].abs()) / 2


def mean_of_squares(classifier: nn.Module, losses: Sequence[Tensor]) -> dict[str, Tensor]:
    names, parameters = zip(*classifier.named_parameters(), strict=True)
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    for loss in losses:
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        for total, gradient in zip(sums, gradients, strict=True):
            total += gradient**2 / len(losses)
    return dict(zip(names, sums, strict=True))


@pytest.mark.parametrize(
    "finetuning",
    [
        {},
        {"class_weights": "batch"},
        {"eodds": "signed_mean"},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_size", [7, 200])
def test_every_shared_importance_equals_a_plain_loop(
    finetuning: dict[str, str],
    batch_size: int,
    make_classifier: Callable[..., Any],
    make_external: Callable[..., ExternalSet],
) -> None:
    classifier, external, seed = make_classifier(dropout=0.5), make_external(40), 11
    # each label's gap has its own sign, so that the two kinds of the proxy differ
    both = (external.full, external.balanced)
    external = ExternalSet(*map(swapped_where_positive, both))
    settings = Finetuning(**finetuning)
    found = shared_importance(classifier, external, settings, batch_size, seed, NAMES)
    for part in ("full", "balanced"):
        samples = getattr(external, part)
        inputs, labels, groups = in_random_order(samples, seed, part)
        logits = classifier(inputs)
        of_set = labels.mean()
        predictions, biases = [], []
        for at in torch.arange(len(samples)).split(batch_size):
            positive = labels[at].mean() if "class_weights" in finetuning else of_set
            predictions.append(bce(logits[at], labels[at], positive).mean())
            kind = finetuning.get("eodds", "mean_abs")
            biases.append(eodds(logits[at], labels[at], groups[at], kind))
        losses = bce(logits, labels, of_set)
        expected = {
            f"minibatch.{part}.prediction": predictions,
            f"minibatch.{part}.bias": biases,
        }
        if part == "full":
            expected["per_sample.full.group0"] = [*losses[groups == 0]]
            expected["per_sample.full.group1"] = [*losses[groups == 1]]
        else:
            expected["per_sample.balanced.prediction"] = [*losses]
            expected["per_sample.balanced.bias"] = one_by_one(logits, labels, groups)
        for name, terms in expected.items():
            for parameter, value in mean_of_squares(classifier, terms).items():
                torch.testing.assert_close(
                    found[name][parameter], value, rtol=2e-3, atol=1e-10, msg=f"{name} {parameter}"
                )
    assert set(found) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_importance_is_the_same_alone_and_among_others(
    name: str, make_classifier: Callable[..., Any], make_external: Callable[..., ExternalSet]
) -> None:
    classifier, external = make_classifier(dropout=0.5), make_external(40)
    every = shared_importance(classifier, external, Finetuning(), 7, 11, NAMES)
    alone = shared_importance(classifier, external, Finetuning(), 7, 11, [name])
    assert set(alone) == {name}
    for parameter, value in every[name].items():
        torch.testing.assert_close(alone[name][parameter], value, rtol=1e-4, atol=1e-10)


def swapped_where_positive(samples: Samples) -> Samples:
    groups = samples.attributes
    return samples.with_attributes(torch.where(samples.labels > 0.5, 1 - groups, groups))


def one_by_one(logits: Tensor, labels: Tensor, groups: Tensor) -> list[Tensor]:
    """The bias as a mean over samples: each p weighs n / 2 over the size of its cell."""
    p, n = torch.sigmoid(logits), len(logits)
    terms = []
    for row in range(n):
        cell = (labels == labels[row]) & (groups == groups[row])
        terms.append(p[row] * n / (2 * int(cell.sum())))
    return terms
