"""Losses against plain Python loops, finite differences and scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from swift_debias.learning import losses

Row = tuple[float, int, int]


def rows(min_size: int = 1) -> st.SearchStrategy[list[Row]]:
    row = st.tuples(st.floats(-8, 8), st.integers(0, 1), st.integers(-1, 1))
    return st.lists(row, min_size=min_size, max_size=24)


def tensors(data: list[Row]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    z, y, a = zip(*data, strict=True)
    return (
        torch.tensor(z, dtype=torch.float64, requires_grad=True),
        torch.tensor(y, dtype=torch.float64),
        torch.tensor(a),
    )


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def loop_difference(data: list[Row], labels: set[int]) -> float:
    """Mean score of group 0 minus that of group 1 among rows of these labels; 0 if one is empty."""
    means = []
    for group in (0, 1):
        cell = [sigmoid(z) for z, y, a in data if a == group and y in labels]
        if not cell:
            return 0.0
        means.append(sum(cell) / len(cell))
    return means[0] - means[1]


def loop_bce(data: list[Row], w_p: float, w_n: float) -> float:
    total = 0.0
    for z, y, _ in data:
        p = sigmoid(z)
        total -= w_p * y * math.log(p) + w_n * (1 - y) * math.log(1 - p)
    return total / len(data)


@given(rows())
@settings(max_examples=60, deadline=None)
def test_every_loss_equals_a_loop_in_plain_python(data: list[Row]) -> None:
    z, y, a = tensors(data)
    d_tpr, d_fpr, d_all = (loop_difference(data, s) for s in ({1}, {0}, {0, 1}))
    n_p = sum(row[1] for row in data)
    w_p, w_n = (len(data) - n_p) / len(data), n_p / len(data)
    expected = {
        losses.eodds_gap(z, y, a): (abs(d_tpr) + abs(d_fpr)) / 2,
        losses.eodds_gap(z, y, a, "signed_mean"): abs(d_tpr + d_fpr) / 2,
        losses.signed_gap("spd", z, y, a): d_all,
        losses.signed_gap("eopp", z, y, a): d_tpr,
        losses.signed_gap("eodds", z, y, a): (d_fpr + d_tpr) / 2,
        losses.weighted_bce(z, y): loop_bce(data, w_p, w_n),
        losses.weighted_bce(z, y, (0.3, 0.7)): loop_bce(data, 0.3, 0.7),
    }
    for value, reference in expected.items():
        assert value.item() == pytest.approx(reference, abs=1e-12)
    assert losses.class_weights(y) == pytest.approx((w_p, w_n))


@given(rows())
@settings(max_examples=60, deadline=None)
def test_empty_cells_give_a_finite_value_with_a_graph(data: list[Row]) -> None:
    z, y, a = tensors(data)
    for value in (
        losses.eodds_gap(z, y, a),
        losses.eodds_gap(z, y, a, "signed_mean"),
        losses.signed_gap("spd", z, y, a),
        losses.signed_gap("eopp", z, y, a),
        losses.signed_gap("eodds", z, y, a),
        losses.weighted_bce(z, y),
    ):
        (gradient,) = torch.autograd.grad(value, z)
        assert value.isfinite() and gradient.isfinite().all()


def test_gradients_equal_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(12, generator=generator, dtype=torch.float64).requires_grad_()
    y = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1], dtype=torch.float64)
    a = torch.tensor([0, 1, 0, 1, -1, 1, 0, 1, 0, 0, -1, 1])
    functions = [
        lambda z: losses.weighted_bce(z, y),
        lambda z: losses.eodds_gap(z, y, a),
        lambda z: losses.eodds_gap(z, y, a, "signed_mean"),
        lambda z: losses.signed_gap("spd", z, y, a),
        lambda z: losses.signed_gap("eopp", z, y, a),
        lambda z: losses.signed_gap("eodds", z, y, a),
    ]
    for function in functions:
        assert torch.autograd.gradcheck(function, (z,))


def test_an_empty_cell_is_not_a_rate_of_zero() -> None:
    """One group has no positives: nothing can be said about the TPR, and the FPRs are equal."""
    z = torch.tensor([2.0, -1.0, -1.0])
    y = torch.tensor([1.0, 0.0, 0.0])
    for a in (torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0])):
        assert losses.eodds_gap(z, y, a) == 0
        assert losses.signed_gap("eopp", z, y, a) == 0
        assert losses.usable_terms(y, a) == (False, True)
    assert losses.usable_terms(y, torch.tensor([-1, 0, 0])) == (False, False)


def test_opposite_gaps_cancel_only_in_the_signed_mean() -> None:
    z = torch.tensor([2.0, -2.0, -2.0, 2.0])
    y = torch.tensor([1.0, 1.0, 0.0, 0.0])
    a = torch.tensor([0, 1, 0, 1])
    assert losses.eodds_gap(z, y, a, "signed_mean") == 0
    assert losses.eodds_gap(z, y, a) == pytest.approx(sigmoid(2.0) - sigmoid(-2.0))


def test_the_sign_says_which_group_scores_higher() -> None:
    z, y, a = torch.tensor([3.0, -3.0]), torch.ones(2), torch.tensor([0, 1])
    for kind in ("spd", "eopp", "eodds"):
        assert losses.signed_gap(kind, z, y, a) > 0
        assert losses.signed_gap(kind, z, y, 1 - a) < 0


def test_weighted_bce_equals_scikit_learn_and_is_stable() -> None:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(50, generator=generator, dtype=torch.float64)
    y = (torch.rand(50, generator=generator) < 0.2).double()
    w_p, w_n = losses.class_weights(y)
    weight = torch.where(y > 0.5, w_p, w_n)
    scores = torch.sigmoid(z).numpy()
    reference = log_loss(y.numpy(), scores, sample_weight=weight.numpy(), normalize=False) / 50
    assert losses.weighted_bce(z, y).item() == pytest.approx(reference)
    extreme = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = losses.weighted_bce(extreme, torch.tensor([0.0, 1.0]), (0.5, 0.5))
    assert loss.item() == pytest.approx(5000)
    assert torch.autograd.grad(loss, extreme)[0].isfinite().all()


def test_unknown_kinds_are_refused() -> None:
    z, y, a = torch.zeros(2), torch.ones(2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="equalized-odds"):
        losses.eodds_gap(z, y, a, "max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gap"):
        losses.signed_gap("auc", z, y, a)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="empty"):
        losses.class_weights(torch.zeros(0))
