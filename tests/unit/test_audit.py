"""The audit of scores against scikit-learn and fairlearn, its intervals against a plain loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as reference

from swift_debias import cli
from swift_debias.errors import UserError
from swift_debias.evaluation.audit import RATES, audit, ece_by_chance
from swift_debias.evaluation.metrics import score

Data = tuple[np.ndarray, np.ndarray, np.ndarray]


def draw(seed: int, n: int = 300, groups: int = 2) -> Data:
    """Labels, groups and scores that have something to do with each other; some scores tie."""
    rng = np.random.default_rng(seed)
    y, g = rng.integers(0, 2, n), rng.integers(0, groups, n)
    p = (0.3 * y + 0.1 * g + rng.random(n)) / (1.4 + 0.1 * groups)
    return y, g, np.round(p, 2) if seed % 2 else p


def values(frame: pd.DataFrame) -> dict[str, float]:
    return dict(zip(frame["metric"], frame["value"], strict=True))


SCIKIT = {
    "auc": lambda y, d, p: reference.roc_auc_score(y, p),
    "accuracy": lambda y, d, p: reference.accuracy_score(y, d),
    "balanced_accuracy": lambda y, d, p: reference.balanced_accuracy_score(y, d),
    "prevalence": lambda y, d, p: np.mean(y),
    "selection_rate": lambda y, d, p: np.mean(d),
    "tpr": lambda y, d, p: reference.recall_score(y, d),
    "tnr": lambda y, d, p: reference.recall_score(1 - y, 1 - d),
    "fpr": lambda y, d, p: 1 - reference.recall_score(1 - y, 1 - d),
    "fnr": lambda y, d, p: 1 - reference.recall_score(y, d),
    "ppv": lambda y, d, p: reference.precision_score(y, d),
    "f1": lambda y, d, p: reference.f1_score(y, d),
    "brier": lambda y, d, p: reference.brier_score_loss(y, p),
}


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_against_scikit_learn_and_fairlearn(seed: int, groups: int) -> None:
    import fairlearn.metrics as fair

    y, g, p = draw(seed, groups=groups)
    d = (p >= 0.4).astype(int)
    names = [f"g{k}" for k in range(groups)]
    found = values(audit(y, g, p, names, threshold=0.4))
    assert {*SCIKIT, "ece"} == set(RATES)
    for metric, of in SCIKIT.items():
        by_group = [of(y[g == k], d[g == k], p[g == k]) for k in range(groups)]
        assert found[metric] == pytest.approx(of(y, d, p))
        assert [found[f"{metric}[{name}]"] for name in names] == pytest.approx(by_group)
        assert found[f"{metric}_difference"] == pytest.approx(max(by_group) - min(by_group))
        assert found[f"{metric}_ratio"] == pytest.approx(min(by_group) / max(by_group))
        if metric in ("fpr", "fnr", "brier"):
            assert found[f"{metric}_worst"] == pytest.approx(max(by_group))
        elif metric not in ("prevalence", "selection_rate"):
            assert found[f"{metric}_worst"] == pytest.approx(min(by_group))
    by = {"sensitive_features": g}
    for name, function in {
        "spd": fair.demographic_parity_difference,
        "demographic_parity_ratio": fair.demographic_parity_ratio,
        "eopp": fair.equal_opportunity_difference,
        "eodds_max": fair.equalized_odds_difference,
        "equalized_odds_ratio": fair.equalized_odds_ratio,
    }.items():
        assert found[name] == pytest.approx(function(y, d, **by)), name
    mean = fair.equalized_odds_difference(y, d, agg="mean", **by)
    assert found["eodds"] == pytest.approx(mean)


@pytest.mark.parametrize("groups", [2, 3])
def test_the_same_numbers_as_the_workflows_metrics(groups: int) -> None:
    y, g, p = draw(2, groups=groups)
    frame = pd.DataFrame({"dataset": "d", "label": y, "group": g, "score": p})
    theirs = values(score(frame, groups))
    found = values(audit(y, g, p, [str(k) for k in range(groups)]))
    shared = {name for name in theirs if name in found and not np.isnan(theirs[name])}
    assert {"auc", "ece", "ece[1]", "spd", "eodds", "auc_min", "n_unknown", "n[0]"} <= shared
    for name in shared:
        assert found[name] == pytest.approx(theirs[name]), name


def whole_patients(seed: int, n: int = 80) -> tuple[np.ndarray, ...]:
    """Labels, groups, scores and patients; a patient has one to six similar images."""
    rng = np.random.default_rng(seed)
    images = rng.integers(1, 7, n)
    patients = np.repeat(np.arange(n), images)
    groups, tendency = rng.integers(0, 2, n)[patients], rng.random(n)[patients]
    labels = (rng.random(len(patients)) < tendency).astype(int)
    effect = rng.normal(size=n)[patients]
    logits = labels + 0.4 * groups * labels + effect + rng.normal(size=len(patients)) - 0.4
    return labels, groups, 1 / (1 + np.exp(-logits)), patients


def test_standard_errors_are_those_of_drawing_whole_patients() -> None:
    """A plain loop that draws patients with replacement and scores the rows by scikit-learn."""
    y, g, p, patients = whole_patients(1, 300)
    frame = audit(y, g, p, ["a", "b"], patients).set_index("metric")
    rng = np.random.default_rng(9)
    of_patient = [np.flatnonzero(patients == k) for k in range(300)]
    shown = ["accuracy", "ppv", "f1", "auc", "brier", "tpr[a]", "auc[b]", "selection_rate"]
    drawn = []
    for _ in range(400):
        rows = np.concatenate([of_patient[k] for k in rng.integers(0, 300, 300)])
        yes, hit, area = y[rows] == 1, p[rows] >= 0.5, reference.roc_auc_score
        a, b = (rows[g[rows] == group] for group in (0, 1))
        right = (yes & hit).sum()
        drawn.append([
            np.mean(yes == hit), right / hit.sum(), 2 * right / (hit.sum() + yes.sum()),
            area(yes, p[rows]), np.mean((p[rows] - yes) ** 2), np.mean(p[a][y[a] == 1] >= 0.5),
            area(y[b], p[b]), np.mean(hit),
        ])  # fmt: skip
    errors = np.std(drawn, axis=0)
    logit = stats.logistic.ppf
    for metric, error in zip(shown, errors, strict=True):
        row = frame.loc[metric]
        half = (logit(row["high"]) - logit(row["low"])) / 2 * row["value"] * (1 - row["value"])
        assert half / 1.98 == pytest.approx(error, rel=0.12), metric


def test_gaps_ratios_and_worst_groups_are_projections() -> None:
    y, g, p, patients = whole_patients(2, 200)
    frame = audit(y, g, p, ["a", "b"], patients).set_index("metric")
    ends = frame[["low", "high"]].astype(float)
    middle = frame["value"].astype(float)
    defined = ends["low"].notna()
    assert (ends["low"] <= ends["high"])[defined].all()
    inside = (ends["low"] <= middle + 1e-12) & (middle <= ends["high"] + 1e-12)
    assert inside[defined].all()
    assert (ends.loc[[f"{rate}_ratio" for rate in RATES if rate != "ece"], "high"] <= 1).all()
    # 0 is inside the difference of two alike groups, and 1 inside their ratio
    alike = audit(np.r_[y, y], np.r_[0 * y, 0 * y + 1], np.r_[p, p], ["a", "b"],
                  np.r_[patients, patients + 1000]).set_index("metric")  # fmt: skip
    for rate in set(RATES) - {"prevalence", "ece"}:
        assert alike.loc[f"{rate}_difference", "low"] == 0, rate
        assert alike.loc[f"{rate}_ratio", "high"] == 1, rate
    wide, narrow = (
        audit(y, g, p, ["a", "b"], patients, level=level).set_index("metric")
        for level in (0.99, 0.9)
    )
    assert (wide["low"] <= narrow["low"])[defined].all()
    assert (wide["high"] >= narrow["high"])[defined].all()


def test_a_rate_of_one_is_not_certain() -> None:
    y, g, p, patients = whole_patients(3)
    p = np.where(y == 1, 0.9, p)
    rows = audit(y, g, p, ["a", "b"], patients).set_index("metric")
    assert rows.loc["tpr", "value"] == rows.loc["tpr", "high"] == 1
    assert 0.9 < rows.loc["tpr", "low"] < 1
    assert rows.loc["eopp", "value"] == rows.loc["eopp", "low"] == 0 < rows.loc["eopp", "high"]


def test_copies_of_an_image_add_nothing() -> None:
    """Ten copies of every image, of one patient: as uncertain as the images alone."""
    y, g, p = draw(1, n=80)
    alone = audit(y, g, p, ["a", "b"]).set_index("metric")
    many = [np.repeat(column, 10) for column in (y, g, p)]
    apart = audit(*many, ["a", "b"]).set_index("metric")
    whole = audit(*many, ["a", "b"], np.repeat(np.arange(80), 10)).set_index("metric")
    ends = ["low", "high"]
    pd.testing.assert_frame_equal(whole[ends], alone[ends], rtol=1e-6)
    width = {k: f.loc["auc", "high"] - f.loc["auc", "low"] for k, f in
             (("alone", alone), ("apart", apart))}  # fmt: skip
    assert width["apart"] < width["alone"] / 2


def test_unknown_patients_are_a_person_each() -> None:
    y, g, p = draw(1, n=80)
    patients = np.where(np.arange(80) < 40, np.arange(80) // 2, -1).astype(object)
    patients[40:] = None
    named = np.r_[np.arange(40) // 2, np.arange(100, 140)]
    pd.testing.assert_frame_equal(
        audit(y, g, p, ["a", "b"], patients), audit(y, g, p, ["a", "b"], named)
    )


def test_counts_unknown_groups_and_reasons() -> None:
    y = np.array([0, 1, 1, 1, 0, 1])
    g = np.array([0, 0, 1, 1, -1, 0])
    frame = audit(y, g, np.array([0.1, 0.2, 0.3, 0.4, 0.9, 0.05]), ["a", "b"])
    rows = frame.set_index("metric")
    assert rows.loc["n", "value"] == 5 and rows.loc["n_unknown", "value"] == 1
    assert rows.loc["n[a]", "value"] == 3 and rows.loc["n_positive[a]", "value"] == 2
    assert "only 2 images of label 1" in rows.loc["n[b]", "reason"]
    assert pd.isna(rows.loc["auc[b]", "value"])
    assert rows.loc["auc[b]", "reason"] == "no image of class 0"
    assert pd.isna(rows.loc["fpr_difference", "value"]) and rows.loc["fpr[a]", "n"] == 1
    assert rows.loc["ppv", "reason"] == "no decision for class 1"
    assert "every decision is the same" in rows.loc["selection_rate", "reason"]
    turned = audit(np.array([1, 1, 0, 0]), np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.8, 0.9]),
                   ["a", "b"])  # fmt: skip
    assert "turned round" in turned.set_index("metric").loc["auc", "reason"]


def test_a_group_without_images_is_left_out_and_said() -> None:
    y, g, p = draw(3)
    rows = audit(y, g, p, ["a", "b", "nobody"]).set_index("metric")
    assert rows.loc["spd", "reason"] == "group nobody left out: no sample"
    assert not pd.isna(rows.loc["spd", "value"])
    one = audit(y, 0 * g, p, ["a", "b"]).set_index("metric")
    assert pd.isna(one.loc["spd", "value"]) and "fewer than two" in one.loc["spd", "reason"]


OF_DECISIONS = {"accuracy", "balanced_accuracy", "selection_rate", "tpr", "tnr", "fpr", "fnr"}
OF_DECISIONS |= {"ppv", "f1"}
GAPS = {f"{rate}_{how}" for rate in OF_DECISIONS for how in ("difference", "ratio")}
GAPS |= {f"{rate}_worst" for rate in OF_DECISIONS - {"selection_rate"}}
GAPS |= {"spd", "demographic_parity_ratio", "eopp", "eodds", "eodds_max", "equalized_odds_ratio"}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("decision", [0, 1])
def test_that_every_decision_is_the_same_is_said_of_all_that_rests_on_them(
    seed: int, decision: int
) -> None:
    y, g, p = draw(seed, groups=2 + seed % 3)
    names = [f"g{i}" for i in range(2 + seed % 3)]
    p = 0.49 * p + 0.5 * decision
    frame = audit(y, g, p, names) if seed % 4 else audit(y, g, p, names, decisions=0 * y + decision)
    where = " at threshold 0.5" if seed % 4 else ""
    told = frame.set_index("metric")["reason"].fillna("")
    assert values(frame)["spd"] == values(frame)["eodds"] == 0
    for metric in GAPS:
        assert f"every decision is the same{where}: a gap of 0 is no fairness" in told[metric]
    parts = {f"{rate}{end}" for rate in OF_DECISIONS for end in ("", *(f"[{n}]" for n in names))}
    missing = {name for name in parts if pd.isna(values(frame)[name])}
    for metric in parts - missing:
        assert told[metric] == f"every decision is the same{where}"
    others = told[~told.index.isin(GAPS | parts)]
    assert not others.str.contains("every decision").any()
    text = str(frame)
    for label in ("SPD ", "EOdds "):
        (line,) = (line for line in text.splitlines() if line.startswith(label))
        assert line.endswith(f"(every decision is the same{where}: a gap of 0 is no fairness)")


@pytest.mark.parametrize("seed", range(40))
def test_decisions_hardly_better_than_a_coins_are_marked_by_the_tables_rule(seed: int) -> None:
    """Against the rule with its numbers, of images of a patient each: where it holds and not."""
    rng = np.random.default_rng(seed)
    y, g = rng.integers(0, 2, 400), rng.integers(0, 2, 400)
    right = np.array([0.5, 0.52, 0.56, 0.6, 0.7][seed % 5])
    d = np.where(rng.random(400) < right, y, 1 - y)
    if seed % 2:  # near-constant: a few positive decisions, whoever it is
        d = (rng.random(400) < 0.02).astype(int)
    accuracy = reference.balanced_accuracy_score(y, d)
    rates = [reference.recall_score(y, d, pos_label=label) for label in (0, 1)]
    sizes = [(y == label).sum() for label in (0, 1)]
    error = np.sqrt(sum(r * (1 - r) / n for r, n in zip(rates, sizes, strict=True))) / 2
    low = accuracy - 1.96 * error
    if abs(low - 0.5) < 0.003:  # the audit's standard error is a little larger
        return
    frame = audit(y, g, d.astype(float), ["a", "b"]).set_index("metric")
    expected = accuracy < 0.55 or low <= 0.5
    for metric in [*GAPS, "balanced_accuracy"]:
        told = frame["reason"].fillna("")[metric]
        assert ("collapsed at threshold 0.5: balanced accuracy is" in told) == expected, told
    kept = frame.drop([*GAPS, "balanced_accuracy"])["reason"].fillna("")
    assert not kept.str.contains("collapsed").any()
    assert ("collapsed" in str(audit(y, g, d.astype(float), ["a", "b"]))) == expected


def test_of_one_patient_the_error_is_that_of_images() -> None:
    rng = np.random.default_rng(0)
    y, g = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    for right, expected in ((0.58, True), (0.95, False)):
        d = np.where(np.arange(60) % 100 < 100 * right * 0.6, y, 1 - y).astype(float)
        frame = audit(y, g, d, ["a", "b"], np.zeros(60)).set_index("metric")
        assert ("collapsed" in frame.loc["eodds", "reason"]) == expected


def test_the_counted_groups_alone_say_whether_their_decisions_are_the_same() -> None:
    """A group too small to count has other decisions: the gap of 0 is of the others."""
    y, g, _ = draw(1, groups=2)
    small = np.full(6, 2)
    p = np.r_[np.full(len(y), 0.1), [0.9] * 6]
    labels = np.r_[y, [0, 1, 1, 0, 1, 0]]
    frame = audit(labels, np.r_[g, small], p, ["a", "b", "few"]).set_index("metric")
    assert frame.loc["spd", "value"] == 0
    assert "a gap of 0 is no fairness; group few left out" in frame.loc["spd", "reason"]
    assert frame.loc["tpr[a]", "reason"] == "every decision is the same at threshold 0.5"
    assert frame.loc["tpr[few]", "reason"] == "every decision is the same at threshold 0.5"
    assert "every decision" not in str(frame.loc["tpr", "reason"])


def test_page_table_and_terminal_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    y, g, p = draw(2)
    frame = pd.DataFrame({"y": y, "p": p * 0.49, "sex": np.array(["f", "m"])[g]})
    table = tmp_path / "const.csv"
    frame.to_csv(table, index=False)
    words = ["audit", str(table), "--label", "y", "--score", "p", "--group", "sex"]
    assert cli.main(words) == 0
    said = "every decision is the same at threshold 0.5: a gap of 0 is no fairness"
    assert capsys.readouterr().out.count(f"({said})") == 2  # SPD, EOdds
    rows = pd.read_csv(tmp_path / "const.audit.csv").set_index("metric")["reason"]
    assert (rows[list(GAPS)].str.contains(said)).all()
    page = (tmp_path / "const.audit.html").read_text()
    criteria = page[page.index("Fairness between") : page.index("Metrics by group")]
    assert criteria.count("no fairness</td>") == 6 and '<th scope="col">To mind</th>' in criteria
    assert said in page[page.index("What to mind") :]
    rng = np.random.default_rng(0)
    frame["p"] = 0.2 + 0.4 * y + 0.4 * rng.random(len(y))
    frame.to_csv(table, index=False)
    assert cli.main([*words, "--force"]) == 0
    page = (tmp_path / "const.audit.html").read_text()
    assert "no fairness" not in page and "To mind" not in page


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.5, np.nan], "not finite"),
        ([0.5, 1.5], "must be probabilities"),
        ([0.5], "1 scores, but 2 labels"),
    ],
)
def test_what_are_no_scores_is_refused(scores: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        audit(np.array([0, 1]), np.array([0, 1]), np.array(scores), ["a", "b"])


@pytest.mark.parametrize("threshold", [np.nan, np.inf, -np.inf, -0.1, 1.1, 50])
def test_a_threshold_of_no_probability_is_refused(threshold: float) -> None:
    y, g, p = draw(0)
    with pytest.raises(UserError, match=f"threshold: .* from 0 to 1, not {threshold:g}"):
        audit(y, g, p, ["a", "b"], threshold=threshold)


@pytest.mark.parametrize(("threshold", "share"), [(0, 1.0), (1, 0.0)])
def test_the_ends_are_thresholds(threshold: float, share: float) -> None:
    y, g, p = draw(0)
    assert p.min() > 0 and p.max() < 1
    rows = audit(y, g, p, ["a", "b"], threshold=threshold).set_index("metric")
    assert rows.loc["selection_rate", "value"] == share


def test_printed_it_shows_the_main_numbers_with_their_intervals() -> None:
    """Each equal to its row, whatever the number of groups; what is made of it is a frame."""
    rng = np.random.default_rng(0)
    for groups in (2, 9):
        names = [f"g{n}" for n in range(groups)]
        index, labels = rng.integers(-1, groups, 900), rng.integers(0, 2, 900)
        found = audit(labels, index, np.clip(0.2 * labels + rng.random(900), 0, 1), names)
        text, rows = str(found), found.set_index("metric")
        assert len(text.splitlines()) < 20 and "..." not in text
        known = index >= 0
        assert f"{known.sum():,} images, {labels[known].sum():,} of class 1" in text
        assert f"{(~known).sum():,} more of no known group are left out" in text
        shown = {"auc": "AUC  ", "spd": "SPD ", "eodds": "EOdds "}
        if groups > 8:
            shown["auc_min"] = "smallest AUC of a group "
        else:
            shown |= {f"auc[{n}]": f"AUC of {n} ({(index == i).sum():,} images) "
                      for i, n in enumerate(names)}  # fmt: skip
        for metric, label in shown.items():
            (line,) = (line for line in text.splitlines() if line.startswith(label))
            value, low, high = rows.loc[metric, ["value", "low", "high"]]
            assert f"  {value:.3f}  [{low:.3f}, {high:.3f}]" in line
        assert type(found[found["n"] > 0]) is pd.DataFrame
    one = audit(np.array([1, 1, 0]), np.array([0, 0, 1]), np.array([0.9, 0.8, 0.1]), ["a", "b"])
    (line,) = (line for line in str(one).splitlines() if line.startswith("AUC of a"))
    assert "none" in line and "no image of class 0" in line


@pytest.mark.parametrize("n", [60, 400, 4000])
def test_what_calibrated_scores_have_by_chance(n: int) -> None:
    """The formula against drawn labels; an ECE has no interval, which would not hold the truth."""
    rng = np.random.default_rng(n)
    scores = rng.beta(1.2, 2.0, n)
    bins = np.minimum((scores * 15).astype(int), 14)
    draws = []
    for _ in range(400):
        gap = np.bincount(bins, (rng.random(n) < scores) - scores, minlength=15)
        draws.append(np.abs(gap).sum() / n)
    assert ece_by_chance(scores) == pytest.approx(np.mean(draws), rel=0.06)
    groups = np.arange(n) % 2
    frame = audit((rng.random(n) < scores).astype(int), groups, scores, ["a", "b"])
    rows = frame.set_index("metric")
    made = ["ece", "ece[a]", "ece[b]", "ece_difference", "ece_ratio", "ece_worst"]
    assert rows.loc[made, "value"].notna().all()
    assert rows.loc[made, ["low", "high"]].isna().all(axis=None)
    assert rows.loc[made, "reason"].str.startswith("no interval").all()
    assert f"{ece_by_chance(scores[groups == 1]):.3f}" in rows.loc["ece[b]", "reason"]
    assert rows.loc[["brier", "auc", "tpr[a]", "brier_worst"], "low"].notna().all()
