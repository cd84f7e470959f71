"""DFR, SSD and the threshold optimizer, which train no extractor, against independent computations.

DFR against scikit-learn's pipeline, SSD against a loop, the threshold optimizer against fairlearn's
own predictions and a search of all thresholds.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from plain import double, rows_of
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import swift_debias as sd
from swift_debias import methods
from swift_debias.config.schema import Selection
from swift_debias.errors import NotFiniteError, UserError
from swift_debias.evaluation.decision_rule import OfGroup, Part, Rule
from swift_debias.learning.context import Context
from swift_debias.learning.networks import Classifier, Head
from swift_debias.learning.samples import ExternalSet
from swift_debias.methods import dfr, llft, ssd, threshold_optimizer
from swift_debias.seeds import derive_seed

CELLS = tuple(itertools.product((0, 1), (0, 1)))


@pytest.fixture(scope="module")
def trained(make_classifier: Any, make_samples: Any, train: Any) -> Classifier:
    """Accurate and biased."""
    return train(make_classifier(), make_samples(160, seed=0, correlation=0.9))


@pytest.fixture
def classifier(trained: Classifier) -> Classifier:
    """In train mode: a method chooses the mode itself."""
    return copy.deepcopy(trained).train()


@pytest.fixture
def external(make_external: Any) -> ExternalSet:
    """A bias in the other direction than the training's, in cells of four sizes."""
    cells = np.random.default_rng(0).permutation(np.repeat(CELLS, (60, 25, 30, 45), axis=0))
    return make_external(labels=cells[:, 0], attributes=cells[:, 1], seed=1)


def run(
    algorithm: str, classifier: Classifier, external: ExternalSet, context: Context, **options: Any
) -> Classifier:
    method = methods.load(algorithm)
    return method.debias(classifier, external, method.Settings(**options), context)


def features_of(classifier: Classifier, external: ExternalSet) -> np.ndarray:
    """float64 (n, D), in plain torch."""
    with torch.no_grad():
        return double(classifier).extractor(rows_of(external.full)[0]).numpy()


def logits_of(classifier: Classifier, external: ExternalSet) -> np.ndarray:
    with torch.no_grad():
        return double(classifier)(rows_of(external.full)[0]).numpy()


def truth(external: ExternalSet) -> tuple[np.ndarray, np.ndarray]:
    return external.full.labels.numpy().astype(int), external.full.attributes.numpy()


# --- dfr ------------------------------------------------------------------------------------------


def fitted(features: np.ndarray, labels: np.ndarray, rows: np.ndarray, strength: float) -> Any:
    """scikit-learn's own pipeline: standardized by all samples, fitted on some, to the end."""
    options = {"solver": "liblinear", "random_state": 0, "tol": 1e-10, "max_iter": 10_000}
    model = make_pipeline(StandardScaler(), LogisticRegression(l1_ratio=1, C=strength, **options))
    model[0].fit(features)
    model[1].fit(model[0].transform(features[rows]), labels[rows])
    return model


@pytest.mark.key("dfr.strengths", "dfr.draws")
@pytest.mark.parametrize(("strength", "draws"), [(1.0, 1), (0.03, 1), (0.3, 3)])
def test_dfr_head_gives_the_decision_function_of_scikit_learn(
    strength: float,
    draws: int,
    classifier: Classifier,
    external: ExternalSet,
    make_context: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mean over draws of equal cells, without the standardization; the extractor stays."""
    before, context = copy.deepcopy(classifier.state_dict()), make_context()
    features, (labels, groups) = features_of(classifier, external), truth(external)
    drawn: list[np.ndarray] = []
    draw_cells = llft.draw_cells
    monkeypatch.setattr(
        llft, "draw_cells", lambda *given: drawn.append(draw_cells(*given)) or drawn[-1]
    )
    found = run("dfr", classifier, external, context, strengths=(strength,), draws=draws)
    assert len({tuple(rows.tolist()) for rows in drawn}) == len(drawn) == draws
    for rows in drawn:
        cells = 2 * labels[rows] + groups[rows]
        assert np.bincount(cells, minlength=4).tolist() == [25] * 4  # the smallest cell's
    models = [fitted(features, labels, rows.numpy(), strength) for rows in drawn]
    expected = np.mean([model.decision_function(features) for model in models], axis=0)
    np.testing.assert_allclose(logits_of(found, external), expected, rtol=1e-3, atol=1e-3)
    used = np.any([model[1].coef_[0] != 0 for model in models], axis=0)
    np.testing.assert_array_equal(found.head.linear.weight[0].detach().numpy() != 0, used)
    assert context.history[-1]["features"] == used.sum()
    assert strength > 0.03 or used.sum() < 6  # the penalty is l1: some weights are exactly 0
    after = found.state_dict()
    assert {n for n in after if not torch.equal(after[n], before[n])} == {
        "head.1.weight", "head.1.bias"
    }  # fmt: skip


def test_dfr_takes_the_strength_of_the_best_worst_cell_held_out(
    classifier: Classifier, external: ExternalSet, make_context: Any
) -> None:
    """Held out by patient, by the share of `selection`; each recomputed by scikit-learn."""
    from swift_debias.methods._held_out import cuts

    patients = np.array([f"p{i // 2}" for i in range(len(external.full))], dtype=object)
    external = ExternalSet(external.full, external.balanced, patients)
    context = make_context(selection=Selection(share=0.4), seed=3)
    features, (labels, groups) = features_of(classifier, external), truth(external)
    strengths = (1.0, 0.05, 0.01, 0.003)
    (cut,) = cuts(external, context)
    assert not set(patients[cut.rows]) & set(patients[~cut.rows])
    assert 0.35 < cut.rows.mean() < 0.45
    worst = []
    for strength in strengths:
        rows = llft.draw_cells(cut.fit.full, derive_seed(3, "draw", 0)).numpy()
        model = fitted(features[~cut.rows], labels[~cut.rows], rows, strength)
        right = model.predict(features[cut.rows]) == labels[cut.rows]
        cell = 2 * labels[cut.rows] + groups[cut.rows]
        worst.append(min(right[cell == c].mean() for c in range(4)))
    run("dfr", classifier, external, context, strengths=strengths, draws=1)
    rows = [row for row in context.history if row["stage"] == "held out"]
    assert [row["strength"] for row in rows] == list(strengths)
    assert [row["worst_cell_accuracy"] for row in rows] == pytest.approx(worst, abs=0.001)
    best = max(rows, key=lambda row: row["worst_cell_accuracy"])
    assert context.history[-1]["strength"] == best["strength"]
    assert len(set(worst)) > 1


def test_dfr_without_a_bias_or_with_constant_features(
    classifier: Classifier, external: ExternalSet, make_context: Any
) -> None:
    """A head without a bias gets none; a feature that never changes does no harm."""
    head = Head(6, 0.5)
    head[1] = nn.Linear(6, 1, bias=False)
    classifier.head = head
    with torch.no_grad():
        classifier.extractor[4].weight[2] = 0
        classifier.extractor[4].bias[2] = 1.5
    found = run("dfr", classifier, external, make_context(), strengths=(1.0,), draws=2)
    assert found.head.linear.bias is None
    logits, (labels, _) = logits_of(found, external), truth(external)
    assert np.isfinite(logits).all()
    assert logits[labels == 1].mean() > logits[labels == 0].mean()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_dfr_refuses_features_that_are_not_finite(
    value: float, classifier: Classifier, external: ExternalSet, make_context: Any
) -> None:
    with torch.no_grad():
        classifier.extractor[0].weight.view(-1)[0] = value
    with pytest.raises(NotFiniteError, match=r"^the features of 160 of 160 images are not finite$"):
        run("dfr", classifier, external, make_context(), strengths=(1.0,))


def test_dfr_needs_every_cell(
    classifier: Classifier, make_external: Any, make_context: Any
) -> None:
    labels = np.arange(40) % 2
    external = make_external(labels=labels, attributes=labels)
    with pytest.raises(UserError, match="dfr: the external set has no sample of label 0, group 1"):
        run("dfr", classifier, external, make_context(), strengths=(1.0,))


def test_worst_cell_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    decided, labels, groups = (rng.integers(0, 2, 50) for _ in range(3))
    shares = []
    for cell in CELLS:
        members = [i for i in range(50) if (labels[i], groups[i]) == cell]
        shares.append(sum(decided[i] == labels[i] for i in members) / len(members))
    assert dfr.worst_cell(decided, labels, groups) == pytest.approx(min(shares))


# --- ssd ------------------------------------------------------------------------------------------


def dampened_by_a_loop(
    value: float, bias: float, prediction: float, alpha: float, dampening: float
) -> float:
    """Foster et al. 2024, Eq. 4 and 5; importances are shares of their sums."""
    if bias > alpha * prediction:
        return value * min(dampening * prediction / bias, 1)
    return value


@pytest.mark.key("ssd.alpha", "ssd.dampening", "ssd.estimator")
@pytest.mark.parametrize("estimator", ["minibatch", "per_sample"])
@pytest.mark.parametrize(("alpha", "dampening"), [(10, 1), (1.2, 0.4), (0.5, 3)])
def test_ssd_against_a_loop(
    estimator: str,
    alpha: float,
    dampening: float,
    classifier: Classifier,
    external: ExternalSet,
    make_context: Any,
    make_importance: Any,
) -> None:
    importance = make_importance(classifier)
    bias, prediction = (importance[f"{estimator}.balanced.{of}"] for of in ("bias", "prediction"))
    sums = [sum(v.double().sum().item() for v in of.values()) for of in (bias, prediction)]
    expected, selected = {}, 0
    for name, parameter in classifier.named_parameters():
        shares = [
            (of[name].double() / total).flatten().tolist()
            for of, total in zip((bias, prediction), sums, strict=True)
        ]
        values = zip(parameter.flatten().tolist(), *shares, strict=True)
        expected[name] = torch.tensor(
            [dampened_by_a_loop(*row, alpha, dampening) for row in values]
        ).view(parameter.shape)
        selected += sum(b > alpha * p for b, p in zip(*shares, strict=True))
    buffers = {n: b.clone() for n, b in classifier.named_buffers()}
    context = make_context(importance=lambda: importance)
    options = {"alpha": alpha, "dampening": dampening, "estimator": estimator}
    found = run("ssd", classifier, external, context, **options)
    for name, parameter in found.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name])
    assert all(torch.equal(buffers[n], b) for n, b in found.named_buffers())
    assert 0 < context.history[0]["dampened"] == selected


def test_ssd_does_not_see_the_scale_of_an_objective(
    classifier: Classifier, make_importance: Any
) -> None:
    """Nor does it change a weight without importance to the bias, or where nothing is selected."""
    importance = make_importance(classifier)
    bias, prediction = (importance[f"minibatch.balanced.{of}"] for of in ("bias", "prediction"))
    made: list[dict[str, Tensor]] = []
    for scale in (1.0, 1e-12, 1e9):
        twin = copy.deepcopy(classifier)
        scaled = {name: value * scale for name, value in bias.items()}
        ssd.dampen(dict(twin.named_parameters()), scaled, prediction, 2, 1)
        made.append(dict(twin.named_parameters()))
    for name, value in made[0].items():
        torch.testing.assert_close(made[1][name], value)
        torch.testing.assert_close(made[2][name], value)
        free = bias[name] == 0
        assert torch.equal(value[free], dict(classifier.named_parameters())[name][free])
        assert (value.abs() <= dict(classifier.named_parameters())[name].abs()).all()
    twin = copy.deepcopy(classifier)
    same = ssd.dampen(dict(twin.named_parameters()), prediction, prediction, 1, 0.1)
    assert same == 0


# --- threshold optimizer --------------------------------------------------------------------------


def scored(seed: int = 0, n: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with a gap, labels, groups."""
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 2, n), rng.integers(0, 2, n)
    return 1 / (1 + np.exp(-(rng.normal(size=n) + labels + groups - 1))), labels, groups


def rates(probability: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Share of decisions for class 1, by label and group."""
    found = [[probability[(labels == y) & (groups == a)].mean() for a in (0, 1)] for y in (0, 1)]
    return np.array(found)


@pytest.mark.key("threshold_optimizer.constraint", "threshold_optimizer.objective")
@pytest.mark.parametrize("objective", ["balanced_accuracy_score", "accuracy_score"])
@pytest.mark.parametrize(
    "constraint",
    [
        "equalized_odds",
        "demographic_parity",
        "true_positive_rate_parity",
        "false_positive_rate_parity",
    ],
)
def test_the_stored_rule_is_fairlearns(constraint: str, objective: str) -> None:
    """Its probabilities are fairlearn's on other scores too, and what it promises holds."""
    from fairlearn.postprocessing import ThresholdOptimizer

    scores, labels, groups = scored()
    settings = threshold_optimizer.Settings(constraint=constraint, objective=objective)
    rule = threshold_optimizer.find_rule(scores, labels, groups, settings, seed=1)
    rule = Rule.from_json(rule.to_json())
    model = LogisticRegression(C=1e9).fit(np.log(scores / (1 - scores))[:, None], labels)
    theirs = ThresholdOptimizer(
        estimator=model, constraints=constraint, objective=objective,
        prefit=True, predict_method="decision_function",
    )  # fmt: skip
    # a monotone function of the scores: the same decisions
    theirs.fit(np.log(scores / (1 - scores))[:, None], labels, sensitive_features=groups)
    other, _, of = scored(seed=1)
    found = rule.probability(other, of)
    expected = theirs._pmf_predict(np.log(other / (1 - other))[:, None], sensitive_features=of)
    np.testing.assert_allclose(found, expected[:, 1], atol=0.02)
    assert np.mean(np.abs(found - expected[:, 1]) > 1e-6) < 0.02  # thresholds lie halfway
    by_cell = rates(rule.probability(scores, groups), labels, groups)
    gaps = np.abs(by_cell[:, 0] - by_cell[:, 1])
    of_all = [rule.probability(scores, groups)[groups == a].mean() for a in (0, 1)]
    promised = {
        "equalized_odds": gaps,
        "demographic_parity": np.diff(of_all),
        "true_positive_rate_parity": gaps[1:],
        "false_positive_rate_parity": gaps[:1],
    }[constraint]
    np.testing.assert_allclose(promised, 0, atol=1e-9)
    assert len(rule.groups) == 2


def test_no_pair_of_thresholds_beats_the_rule() -> None:
    """Of equal true positive rates the rule has the best balanced accuracy; by trying all."""
    scores, labels, groups = scored(n=160)
    settings = threshold_optimizer.Settings(constraint="true_positive_rate_parity")
    rule = threshold_optimizer.find_rule(scores, labels, groups, settings, seed=1)
    probability = rule.probability(scores, groups)

    def worth(decided: np.ndarray) -> float:
        """fairlearn's objective is each group's balanced accuracy, weighed by its size."""
        each = [
            (rates(decided, labels, groups)[1, a] + 1 - rates(decided, labels, groups)[0, a]) / 2
            for a in (0, 1)
        ]
        return float(np.average(each, weights=np.bincount(groups)))

    best = max(
        worth(decided)
        for low, high in itertools.product(np.linspace(0, 1, 41), repeat=2)
        for decided in [scores > np.where(groups == 0, low, high)]
        if abs(np.diff(rates(decided, labels, groups)[1])) < 1e-3
    )
    assert worth(probability) >= best - 1e-3


def test_the_network_stays_and_the_rule_is_of_the_whole_external_set(
    classifier: Classifier, external: ExternalSet, make_context: Any
) -> None:
    before, context = copy.deepcopy(classifier.state_dict()), make_context(seed=4)
    logits, (labels, groups) = logits_of(classifier, external), truth(external)
    found = run("threshold_optimizer", classifier, external, context)
    after = found.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    scores = 1 / (1 + np.exp(-logits))
    expected = threshold_optimizer.find_rule(
        scores, labels, groups, threshold_optimizer.Settings(), 0
    )
    np.testing.assert_allclose(
        context.rule.probability(scores, groups), expected.probability(scores, groups), atol=1e-6
    )
    by_cell = rates(expected.probability(scores, groups), labels, groups)
    told = [[row[f"rate_{y}"] for row in context.history] for y in (0, 1)]
    np.testing.assert_allclose(told, by_cell, atol=1e-6)


def test_a_group_of_one_label_has_no_rule(
    classifier: Classifier, make_external: Any, make_context: Any
) -> None:
    labels, groups = np.arange(40) % 2, np.repeat((0, 1), 20)
    external = make_external(labels=labels * groups, attributes=groups)
    with pytest.raises(UserError, match="group 0 of the external set has only one label"):
        run("threshold_optimizer", classifier, external, make_context())


# --- the rule -------------------------------------------------------------------------------------

RULE = Rule(
    {
        0: OfGroup((Part(0.25, ">", 0.6), Part(0.75, ">", 0.3))),
        2: OfGroup((Part(1.0, "<", 0.5),), ignore=0.4, constant=0.5),
    },
    seed=5,
)


def test_probabilities_of_a_rule_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    scores, groups = rng.random(200), rng.integers(-1, 3, 200)
    for p, score, group in zip(RULE.probability(scores, groups), scores, groups, strict=True):
        if group == 0:
            expected = 0.25 * (score > 0.6) + 0.75 * (score > 0.3)
        elif group == 2:
            expected = 0.4 * 0.5 + 0.6 * (score < 0.5)
        else:  # not of the rule
            expected = float(score >= 0.5)
        assert p == pytest.approx(expected)


def test_a_decision_belongs_to_its_image() -> None:
    """Not to the order, nor to who else is decided; another seed draws anew."""
    rng = np.random.default_rng(1)
    n = 4000
    scores, groups, names = rng.random(n), rng.integers(0, 3, n), [f"set/{i}" for i in range(n)]
    decided = RULE.decide(scores, groups, names)
    order = rng.permutation(n)[:1000]
    some = RULE.decide(scores[order], groups[order], [names[i] for i in order])
    np.testing.assert_array_equal(some, decided[order])
    assert (decided != RULE._replace(seed=6).decide(scores, groups, names)).mean() > 0.05
    p = RULE.probability(scores, groups)
    certain = (p == 0) | (p == 1)
    np.testing.assert_array_equal(decided[certain], p[certain])
    for value in np.unique(p[~certain]):
        share = decided[p == value].mean()
        assert abs(share - value) < 4 * np.sqrt(value * (1 - value) / (p == value).sum())


def test_decisions_of_predict_are_what_a_rule_is_audited_by() -> None:
    """With scores alone its audit is the Baseline's; of a method without a rule nothing changes."""
    rng = np.random.default_rng(0)
    labels, groups = np.arange(160) % 2, np.arange(160) // 2 % 2
    pixels = rng.normal(0, 1, (160, 8, 8, 1)) + labels[:, None, None, None] * 0.2
    pixels += groups[:, None, None, None] * 0.1
    given = sd.ImageSet.from_arrays(pixels.astype(np.float32), labels, groups)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1)).eval()
    torch.nn.init.constant_(model[1].weight, 0.1)
    scores = {}
    for name in ("Baseline", "ThresholdOptimizer"):
        fitted = getattr(sd, name)(min_cell=1).fit(model, given)
        p = fitted.predict_proba(given)
        scores[name] = [
            sd.audit(p, given, decisions=d).set_index("metric")["value"].dropna()
            for d in (None, fitted.predict(given))
        ]
    plain, ruled = scores["ThresholdOptimizer"]
    assert plain.equals(scores["Baseline"][0]) and plain.equals(scores["Baseline"][1])
    assert ruled["auc"] == plain["auc"] and ruled["eodds"] < plain["eodds"]


def test_a_rule_of_a_pair_is_of_its_groups() -> None:
    pair = Rule({0: RULE.groups[0], 1: RULE.groups[2]}, 5)
    assert pair.of_groups((0, 2)) == RULE
    assert pair.of_groups(None) == pair
    assert Rule.from_json(RULE.to_json()) == RULE
    with pytest.raises(UserError, match="3 scores, 3 groups and 2 ids"):
        RULE.decide(np.zeros(3), np.zeros(3), ["a", "b"])
