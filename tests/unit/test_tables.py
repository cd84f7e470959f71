"""tables.py: values against an independent recomputation, and every written format."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import fairlearn.metrics as fair
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk

from swift_debias.errors import UserError
from swift_debias.evaluation import metrics, words
from swift_debias.evaluation.cells import KEYS, Block, lookup
from swift_debias.files import read_json, read_parquet, write_json, write_parquet
from swift_debias.report import data_tables, render, tables
from swift_debias.report.costs import COSTS, PRETRAINING, cost_table, read_costs, stage_times
from swift_debias.report.published import published_lookup, read_published

PUBLISHED = Path(__file__).resolve().parents[2] / "resources" / "published_results.csv"
TITLES = {"baseline": "Baseline", "llft": "LLFT", "swift": "SWiFT"}


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frames = []
    for method, gap in (("baseline", 0.8), ("llft", 0.4), ("swift", 0.1)):
        for fold in range(3):
            n = 200
            label, attribute = rng.integers(0, 2, n), rng.integers(-1, 2, n)
            score = 1 / (1 + np.exp(-(label - gap * attribute + rng.normal(0, 1, n))))
            frames.append(
                pd.DataFrame(
                    {
                        "method": method,
                        "fold": fold,
                        "dataset": np.where(np.arange(n) % 2, "ddi", "fitzpatrick17k"),
                        "label": label,
                        "group": attribute,
                        "score": score,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def scored(predictions: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The tidy metrics, after a round trip through Parquet."""
    parts = []
    for (method, fold), part in predictions.groupby(["method", "fold"]):
        keys = {"task": "skin", "backbone": "resnet50", "attribute": "skin_tone"}
        keys |= {"method": method, "fold": fold}
        parts.append(metrics.score(part, 2).assign(**keys))
    path = tmp_path_factory.mktemp("metrics") / "metrics.parquet"
    write_parquet(pd.concat(parts, ignore_index=True), path)
    return read_parquet(path)


def block(*methods: str, names: tuple[str, ...] = ("auc", "spd", "eodds")) -> Block:
    return Block("skin", "resnet50", "skin_tone", ("fitzpatrick17k", "ddi"), methods, names)


def make(scored: pd.DataFrame, *blocks: Block, synthetic: bool = False) -> tables.Table:
    theirs = {} if synthetic else published_lookup(read_published(PUBLISHED))
    blocks = blocks or (block("baseline", "llft", "swift"),)
    ours = lookup(scored)
    return tables.assemble("table1", "Skin", blocks, ours, theirs, TITLES, synthetic)


def signed(part: pd.DataFrame, metric: str) -> float:
    """A rate or AUC of a group by counting."""
    if metric == "dauc":
        return sk.roc_auc_score(part.label, part.score)
    rows = {"dtpr": part.label == 1, "dfpr": part.label == 0, "dspd": part.label >= 0}[metric]
    return float(np.mean(part.score[rows] >= 0.5))


def recompute(part: pd.DataFrame, metric: str) -> float:
    """One metric of one model on one data set, by scikit-learn and fairlearn alone."""
    decided = (part.score >= 0.5).astype(int)
    group = {"sensitive_features": part.group}
    if metric == "auc":
        return sk.roc_auc_score(part.label, part.score)
    if metric in ("dtpr", "dfpr", "dspd", "dauc"):
        one, two = (part[part.group == group] for group in (0, 1))
        return two.pipe(signed, metric) - one.pipe(signed, metric)
    if metric == "balanced_accuracy":
        return sk.balanced_accuracy_score(part.label, decided)
    if metric == "selection_rate":
        return float(decided.mean())
    if metric in ("tpr_min", "tnr_min"):
        label = int(metric == "tpr_min")
        right = (decided == part.label)[part.label == label]
        return float(right.groupby(part.group).mean().min())
    if metric == "spd":
        return fair.demographic_parity_difference(part.label, decided, **group)
    return fair.equalized_odds_difference(part.label, decided, agg="mean", **group)


def test_values_equal_an_independent_recomputation(
    predictions: pd.DataFrame, scored: pd.DataFrame
) -> None:
    table = make(scored)
    assert list(table.cells.columns) == tables.CSV_COLUMNS
    assert len(table.cells) == 3 * 2 * (3 + 8)  # methods, test sets; three shown, eight beside
    for row in table.cells.itertuples():
        folds = []
        for fold in range(3):
            part = predictions[
                (predictions.method == row.method)
                & (predictions.fold == fold)
                & (predictions.dataset == row.dataset)
                & (predictions.group >= 0)
            ]
            folds.append(recompute(part, row.metric))
        assert row.n_folds == 3
        assert row.mean == pytest.approx(np.mean(folds))
        assert row.std == pytest.approx(np.std(folds, ddof=1))


def published_blocks(published: pd.DataFrame, table: int) -> list[Block]:
    blocks = []
    part = published[published.table == table]
    for key, rows in part.groupby(["task", "backbone", "attribute"], sort=False):
        unique = [tuple(rows[name].unique()) for name in ("dataset", "method", "metric")]
        blocks.append(Block(*key, *unique))
    return blocks


def test_finds_every_published_number() -> None:
    published = read_published(PUBLISHED)
    theirs = published_lookup(published)
    assert len(published) == 558
    for row in published.itertuples():
        found = theirs[tuple(getattr(row, key) for key in KEYS)]
        assert (found.mean, found.std) == (row.mean, row.std)
    count = 0
    for number in range(1, 10):
        blocks = published_blocks(published, number)
        table = tables.assemble(f"table{number}", "x", blocks, {}, theirs, {}, False)
        assert table.cells.published_mean.notna().all()
        assert table.cells["mean"].isna().all()
        count += len(table.cells)
    assert count == 558


def test_read_published_names_missing_columns(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("table,task\n1,skin\n")
    with pytest.raises(UserError, match="columns missing: attribute, backbone"):
        read_published(path)


def test_ranks_share_ties_at_the_printed_precision() -> None:
    nan = float("nan")
    assert render.ranks([0.7, 0.9, 0.8, nan], "auc") == [0, 1, 2, 0]
    assert render.ranks([0.7, 0.9, 0.8], "spd") == [1, 0, 2]
    assert render.ranks([0.7004, 0.7001, 0.69], "auc") == [1, 1, 2]
    assert render.ranks([0.1, 0.2], "tpr") == [0, 0]
    assert render.ranks([nan, nan], "auc") == [0, 0]


def markdown_rows(text: str) -> dict[str, list[str]]:
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


# Which way is better, by what each metric means: ranks of 100, 500 and 900, and the arrow.
HIGHER, LOWER, NEITHER = ([0, 2, 1], "↑"), ([1, 2, 0], "↓"), ([0, 0, 0], "")
DIRECTIONS = {
    **dict.fromkeys(("auc", "auc_min", "accuracy", "balanced_accuracy"), HIGHER),
    **dict.fromkeys(("tpr_min", "tnr_min", "sensitivity", "specificity"), HIGHER),
    **dict.fromkeys(("sensitivity_at_80", "sensitivity_at_90"), HIGHER),
    **dict.fromkeys(("spd", "eodds", "eodds_max", "eodds_signed", "eopp", "auc_gap"), LOWER),
    **dict.fromkeys(("ece", "brier", "seconds", "peak_memory_mb", "images_seen"), LOWER),
    **dict.fromkeys(("n", "n_unknown", "prevalence", "parameters_changed"), NEITHER),
    "buffers_changed": NEITHER,
    **dict.fromkeys(("search_seconds", "search_images_seen"), LOWER),
    **dict.fromkeys(("selection_rate", "tpr", "fpr"), NEITHER),
    **dict.fromkeys(("dtpr", "dfpr", "dspd", "dauc"), NEITHER),
}


def test_every_metric_has_the_direction_that_it_means(scored: pd.DataFrame) -> None:
    computed = {str(name).partition("[")[0] for name in scored["metric"]} | {*COSTS}
    assert computed <= set(DIRECTIONS), "say above which way a new metric is better"
    for metric, (ranks, arrow) in DIRECTIONS.items():
        assert render.ranks([100.0, 500.0, 900.0], metric) == ranks, metric
        assert words.arrow(metric) == arrow, metric


def test_markdown_marks_the_best_and_shows_the_published_value(scored: pd.DataFrame) -> None:
    table = make(scored)
    rows = markdown_rows(render.markdown(table))
    assert list(rows) == ["Method", "---", "Baseline", "LLFT", "SWiFT"]
    wide = table.cells.pivot_table(index="method", columns=["dataset", "metric"], values="mean")
    for column, (dataset, metric) in enumerate(
        (d, m) for d in ("fitzpatrick17k", "ddi") for m in ("auc", "spd", "eodds")
    ):
        means = wide[dataset, metric].round(3)
        order = means.sort_values(ascending=metric != "auc").index
        printed = {method: rows[TITLES[method]][column] for method in means.index}
        assert printed[order[0]].startswith("**")
        assert printed[order[1]].startswith("<u>")
        assert printed[order[2]].startswith("0.")
    assert "(0.586 ± 0.008)" in rows["Baseline"][0]
    assert "Grey: published" in render.markdown(table)
    assert "over 3 folds" in table.caption


def test_synthetic_tables_say_so_and_show_no_published_value(scored: pd.DataFrame) -> None:
    table = make(scored, synthetic=True)
    assert table.cells.published_mean.isna().all()
    for text in (render.markdown(table), render.latex(table), render.html(table)):
        assert "Synthetic data" in text
        assert "ublished" not in text
        assert "0.586" not in text
    assert "[synthetic data]" in render.terminal(table)


def test_what_is_missing_is_told(scored: pd.DataFrame) -> None:
    hole = scored.copy()
    where = (hole.metric == "eodds") & (hole.method == "llft") & (hole.dataset == "ddi")
    first = hole[where].index[0]
    hole.loc[first, ["value", "reason"]] = [np.nan, "tpr[1]: no sample of class 1"]
    table = make(hole, block("baseline", "llft", "bmft"))
    cell = table.cells.set_index(["method", "dataset", "metric"]).loc["llft", "ddi", "eodds"]
    assert cell.n_folds == 2
    notes = "\n".join(table.notes)
    assert "tpr[1]: no sample of class 1: LLFT ddi eodds (1 of 3 folds)" in notes
    assert "not computed in this run: bmft fitzpatrick17k auc" in notes
    for text in (render.markdown(table), render.latex(table), render.html(table)):
        assert "no sample of class 1" in text
    assert words.MISSING in render.terminal(table)
    assert "over 2 to 3 folds" in table.caption


def test_latex_is_balanced_and_escaped(scored: pd.DataFrame) -> None:
    one = Block("skin", "resnet50", "skin_tone", ("ddi",), ("swift",), ("auc", "spd"))
    table = make(scored, block("baseline", "swift"), one)
    table = tables.assemble(
        "table1",
        "50 % & more_",
        table.blocks,
        lookup(scored),
        {},
        {"swift": "SWiFT_1", "baseline": r"a\b{c}"},
        False,
    )
    text = render.latex(table)
    assert "50 \\% \\& more\\_" in text
    assert "SWiFT\\_1" in text
    assert "a\\textbackslash{}b\\{c\\}" in text
    bare = text.replace("\\{", "").replace("\\}", "")
    assert bare.count("{") == bare.count("}")
    body = text[text.index("\\toprule") :]
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    for line in rows:
        spans = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line))
        assert len(re.findall(r"(?<!\\)&", line)) + 1 + spans == 7, line
    for name in ("toprule", "midrule", "bottomrule", "cmidrule"):
        assert f"\\{name}" in text
    for pair in ("table*", "tabular"):
        assert text.count(f"\\begin{{{pair}}}") == text.count(f"\\end{{{pair}}}") == 1


def test_every_format_marks_the_best_and_the_second(scored: pd.DataFrame) -> None:
    methods = ("baseline", "llft", "swift")
    one = Block("skin", "resnet50", "skin_tone", ("ddi",), methods, ("auc",))
    table = make(scored, one, synthetic=True)
    auc = scored[(scored.dataset == "ddi") & (scored.metric == "auc")]
    means = auc.groupby("method")["value"].mean().sort_values(ascending=False)
    best, second, third = (f"{mean:.3f}" for mean in means)
    assert best > second > third
    for text, bold, line in (
        (render.markdown(table), f"**{best}**", f"<u>{second}</u>"),
        (render.latex(table), f"\\textbf{{{best}}}", f"\\underline{{{second}}}"),
        (render.html(table), f"<b>{best}</b>", f"<u>{second}</u>"),
    ):
        assert bold in text
        assert line in text
        assert text.count(best) == text.count(second) == text.count(third) == 1


class Reader(HTMLParser):
    """Collects tags, links and the text of table cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href") and value]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.inside = tag in ("td", "th") or (self.inside and tag not in ("tr", "table"))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def read_html(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def test_html_is_self_contained_and_escaped(scored: pd.DataFrame) -> None:
    titles = TITLES | {"swift": "<script>alert(1)</script>"}
    ours = lookup(scored)
    table = tables.assemble(
        "table1", "A < B", [block("baseline", "swift")], ours, {}, titles, False
    )
    text = render.page(table.title, render.html(table))
    reader = read_html(text)
    assert not reader.links
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert not re.search(r"@import|url\(", text)
    by_name = {row[0].strip(): row for row in reader.rows if len(row) == 7}
    assert "<script>alert(1)</script>" in by_name
    first = f"{ours['skin', 'resnet50', 'skin_tone', 'baseline', 'fitzpatrick17k', 'auc'].mean:.3f}"
    assert by_name["Baseline"][1].startswith(first)
    assert "<b>" in text
    assert "<u>" in text


def test_terminal_is_short_and_marks_the_best(scored: pd.DataFrame) -> None:
    text = render.terminal(make(scored))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    methods = [line for line in lines if line.startswith(tuple(TITLES.values()))]
    assert len(methods) == 3
    assert sum(line.count("*") for line in methods) >= 6
    assert "±" not in text


def test_write_gives_the_same_bytes_twice(scored: pd.DataFrame, tmp_path: Path) -> None:
    table = make(scored)
    first = render.write(table, tmp_path / "a")
    second = render.write(make(scored.sample(frac=1, random_state=0)), tmp_path / "b")
    assert [path.suffix for path in first] == [".csv", ".md", ".tex", ".html", ".txt"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    back = pd.read_csv(first[0], dtype={"marks": "object"})
    back["marks"] = back["marks"].fillna("")
    pd.testing.assert_frame_equal(back, table.cells, check_dtype=False)


def test_one_fold_has_no_deviation(scored: pd.DataFrame) -> None:
    table = make(scored[scored.fold == 0], synthetic=True)
    assert table.cells["std"].isna().all()
    assert "over 1 fold." in table.caption
    assert "±" not in render.markdown(table).split("**Skin")[1]


def test_titles() -> None:
    assert words.title("eodds") == "EOdds"
    assert words.title("tpr[1]") == "TPR [1]"
    assert words.title("my_attribute") == "My attribute"
    assert (words.arrow("auc"), words.arrow("spd"), words.arrow("tpr")) == ("↑", "↓", "")


# --- costs and sizes ------------------------------------------------------------------------------


def test_costs_stand_beside_the_training(tmp_path: Path) -> None:
    files = {
        "baseline/skin/net/fold0/cost.json": {"seconds": 100.0, "images_seen": 5000},
        "baseline/skin/net/fold1/cost.json": {"seconds": 110.0, "images_seen": 5000},
        "debiased/skin/net/sex/swift/fold0/cost.json": {"seconds": 8.0, "images_seen": 900},
        "debiased/skin/net/sex/swift/fold1/cost.json": {"seconds": 10.0, "images_seen": 900},
    }
    for name, cost in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        cost |= {"peak_memory_mb": 1234.5, "parameters_changed": 7, "buffers_changed": 1056}
        write_json(path, cost)
    costs = read_costs(tmp_path.rglob("cost.json"))
    table = cost_table(costs, TITLES, synthetic=True)
    rows = markdown_rows(render.markdown(table))
    assert rows["Baseline (training)"][0] == "105.0 ± 7.1"
    assert rows["SWiFT"][0] == "9.0 ± 1.4"
    assert rows["SWiFT"][2] == "900 ± 0"
    assert rows["SWiFT"][1].startswith("1,23")
    assert rows["SWiFT"][3:] == ["7 ± 0", "1,056 ± 0"]
    assert read_html(render.html(table)).rows[-1][0] == "SWiFT"
    assert "search" not in render.markdown(table)  # nothing was searched

    for fold, (seconds, seen) in enumerate(((20.0, 5000), (30.0, 7001))):
        path = tmp_path / f"debiased/skin/net/sex/swift/fold{fold}/cost.json"
        found = read_json(path) | {"search_seconds": seconds, "search_images_seen": seen}
        write_json(path, found)
    table = cost_table(read_costs(tmp_path.rglob("cost.json")), TITLES, synthetic=True)
    rows = markdown_rows(render.markdown(table))
    assert [text.split(" ±")[0] for text in rows["SWiFT"][-2:]] == ["25.0", "6,000"]
    assert [text.split(" ±")[0] for text in rows["Baseline (training)"][-2:]] == ["0.0", "0"]

    write_json(tmp_path / "debiased/skin/net/sex/swift/fold1/cost.json", {})
    table = cost_table(read_costs(tmp_path.rglob("cost.json")), TITLES, True)
    assert any("not recorded" in note for note in table.notes)


def test_costs_of_training_are_those_of_the_same_network() -> None:
    rows = [
        ("skin", network, attribute, method, "", "seconds", fold, start + 10.0 * fold, 1, None)
        for network, attribute, method, start in (
            ("one", "", PRETRAINING, 100),
            ("two", "", PRETRAINING, 300),
            ("one", "sex", "swift", 5),
            ("two", "sex", "swift", 7),
        )
        for fold in (0, 1)
    ]
    costs = pd.DataFrame(rows, columns=[*KEYS, "fold", "value", "n", "reason"])
    cells = cost_table(costs, TITLES, synthetic=True).cells
    training = cells[(cells.method == PRETRAINING) & (cells.metric == "seconds")]
    assert training[["backbone", "mean", "n_folds"]].to_numpy().tolist() == [
        ["one", 105, 2],
        ["two", 305, 2],
    ]


def test_stage_times_sum_jobs(tmp_path: Path) -> None:
    header = "s\th:m:s\tmax_rss\tmax_vms\n"
    for name, seconds, memory in (
        ("debias/a.tsv", 10, "200.5"),
        ("debias/x/b.tsv", 5, "-"),
        ("summary.tsv", 20, "50"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(header + f"{seconds}\t0:00:{seconds}\t{memory}\t1\n")
    stages = stage_times(tmp_path)
    assert stages.stage.tolist() == ["summary", "debias"]
    assert stages.jobs.tolist() == [1, 2]
    assert stages.seconds.tolist() == [20, 15]
    assert stages["longest job (s)"].tolist() == [20, 10]
    assert stages["peak memory (MB)"].tolist() == [50, 200.5]
    assert stage_times(tmp_path / "none").empty


def test_sizes_and_exclusions(scored: pd.DataFrame, predictions: pd.DataFrame) -> None:
    manifest = pd.DataFrame(
        {
            "label": [1, 0, 1],
            "patient_id": ["a", "a", "b"],
            "sex": ["female", None, "male"],
            "age": [40.0, np.nan, np.nan],
            "fitzpatrick": [1.0, 2.0, np.nan],
        }
    )
    rules = [
        {"rule": "no image file", "removed": 2, "examples": ["x", "y"]},
        {"rule": "lateral", "removed": 0, "examples": []},
    ]
    logs = {"ddi": {"rows_read": 5, "rules": rules}}
    sizes = data_tables.data_sizes({"ddi": manifest}, logs).iloc[0]
    assert (sizes["rows read"], sizes["images"], sizes["class 1"], sizes["patients"]) == (
        5,
        3,
        2,
        2,
    )
    assert sizes["class 0"] == 1
    assert (sizes["female"], sizes["male"], sizes["age known"]) == (1, 1, 1)
    assert data_tables.exclusions(logs).values.tolist() == [["DDI", "no image file", 2]]

    groups = data_tables.group_sizes(scored, {"skin_tone": ("light", "dark")})
    fold = predictions[(predictions.method == "baseline") & (predictions.fold == 0)]
    for row in groups.itertuples():
        dataset = {"DDI": "ddi"}.get(row[3], "fitzpatrick17k")
        part = fold[(fold.dataset == dataset) & (fold.group == (row.group == "dark"))]
        assert row.images == len(part)
        assert row[6] == pytest.approx(part.label.mean())


def test_plain_frames_are_escaped_and_whole() -> None:
    frame = pd.DataFrame({"a|b": ["x" * 200 + "<i>"], "n": [1234567], "v": [0.12345], "ok": [True]})
    text = render.frame_html(frame, "f")
    assert "x" * 200 + "&lt;i&gt;" in text
    assert "<td>1,234,567</td>" in text
    assert "<td>yes</td>" in text
    lines = render.frame_markdown(frame, decimals=2).splitlines()
    assert lines[0] == "| a\\|b | n | v | ok |"
    assert lines[2].endswith("| 1,234,567 | 0.12 | yes |")
    many = pd.DataFrame({"n": range(700)})
    assert render.frame_html(many, "m").count("<tr>") == 700
