"""The page that says which method to take: every cell and decision against the run's own files."""

from __future__ import annotations

import base64
import html
import itertools
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import kendalltau
from sklearn.metrics import roc_auc_score

from swift_debias import cli
from swift_debias.config import drawn_biases
from swift_debias.evaluation import cells, plausibility, words
from swift_debias.evaluation.setup_intervals import setup_intervals
from swift_debias.files import write_parquet
from swift_debias.report import which_method, which_method_figures, which_method_page
from swift_debias.run import layout

# task -> (bias of its pool, external images, how far each method's scores lean on the group)
KINDS: dict[str, tuple[dict[str, Any] | None, int, dict[str, float]]] = {
    "clean": (None, 800, {"baseline": 0, "swift": 0, "llft": 0, "worse": 0}),
    "tied": (
        {"kind": "correlation", "strength": 0.9},
        800,
        {"baseline": 1.6, "swift": 0.2, "llft": 0.25, "worse": 0.0},
    ),
    "tied.50": (
        {"kind": "correlation", "strength": 0.9},
        50,
        {"baseline": 1.6, "swift": 1.6, "llft": 1.9, "worse": 2.4},
    ),
    "gone": (
        {"kind": "imbalance", "strength": 1},
        800,
        {"baseline": 0.0, "swift": 0.05, "llft": 0.1, "worse": 0.6},
    ),
    "flipped": (
        {"kind": "underdiagnosis", "strength": 0.5},
        800,
        {"baseline": 1.5, "swift": 0.9, "llft": 0.1, "worse": 2.0},
    ),
}
BLUNT = ("tied", "worse")  # this one's scores say little of the label
COLLAPSED = ("flipped", "llft")  # and this one is marked so
FOLDS, REPEATS, N = 2, 2, 400


def predictions(task: str, lean: dict[str, float]) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    label, group = np.repeat([0, 1], N // 2), np.arange(N) % 2
    core = rng.normal(0, 1, N) + 1.6 * (2 * label - 1)
    frames = []
    for method, amount in lean.items():
        for fold in range(FOLDS):
            for repeat in range(REPEATS):
                noise = np.random.default_rng([fold, repeat]).normal(0, 0.2, N)
                sharp, shift = (0.03, 3) if (task, method) == BLUNT else (1.0, 0)
                logit = sharp * core + amount * (2 * group - 1) + noise + shift
                frame = pd.DataFrame(
                    {"label": label, "group": group, "score": 1 / (1 + np.exp(-logit))}
                )
                frame[["dataset", "method", "fold", "repeat"]] = "test", method, fold, repeat
                frame["image_id"] = frame["patient_id"] = [f"i{n}" for n in range(N)]
                frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def by_hand(found: pd.DataFrame) -> pd.DataFrame:
    """EOdds and AUC of every model."""
    rows = []
    for keys, part in found.groupby(["method", "fold", "repeat", "dataset"]):
        decided = part.score >= 0.5
        rates = decided.groupby([part.label, part.group]).mean()
        gap = (abs(rates[1, 0] - rates[1, 1]) + abs(rates[0, 0] - rates[0, 1])) / 2
        for metric, value in (("eodds", gap), ("auc", roc_auc_score(part.label, part.score))):
            rows.append((*keys, metric, value))
    names = ["method", "fold", "repeat", "dataset", "metric", "value"]
    return pd.DataFrame(rows, columns=names)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's files, of made-up scores."""
    folder = tmp_path_factory.mktemp("run")
    populations = {
        f"pool_{task}": {"images": 100, "bias": bias} for task, (bias, *_) in KINDS.items()
    } | {f"external_{n}": {"images": n, "bias": None} for n in (50, 800)}
    settings = {
        "run": "made_up",
        "folds": FOLDS,
        "repeats": REPEATS,
        "synthetic": {"populations": populations},
        "tasks": {
            task: {"train": [f"pool_{task}"], "external": [f"external_{n}"]}
            for task, (_, n, _) in KINDS.items()
        },
        "methods": {
            "swift": {"algorithm": "swift", "title": "SWiFT"},
            "baseline": {"algorithm": "baseline", "title": "Baseline"},
            "llft": {"algorithm": "llft", "title": "L|L"},
            "worse": {"algorithm": "swift", "title": None},
        },
        "experiments": {
            "table": {
                "panels": [{"task": t, "backbone": "net", "attribute": "tone"} for t in KINDS]
            }
        },
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    for task, (_, _, lean) in KINDS.items():
        keys = {"task": task, "backbone": "net", "attribute": "tone"}
        found = predictions(task, lean)
        widths = setup_intervals(found, 2, 0, permutations=100).assign(**keys)
        repeats = by_hand(found).assign(**keys)
        marks = pd.DataFrame(columns=[*cells.KEYS, "mark", "text"], dtype=object)
        if task == COLLAPSED[0]:
            marks.loc[0] = [*keys.values(), COLLAPSED[1], "test", "", "collapsed", "made up"]
        for name, frame in (
            ("intervals", widths),
            ("setup_repeats", repeats),
            ("setup_plausibility", marks),
        ):
            path = folder / layout.path(name, **keys)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_parquet(frame, path)
    return folder


@pytest.fixture(scope="module")
def made(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    assert cli.main(["which-method", str(run), "--out", str(out)]) == 0
    written = {path.name for path in out.iterdir()}
    assert {f"which_method.{ending}" for ending in ("md", "html", "csv")} <= written
    assert not {path.name for path in run.rglob("*")} & written, "what it reads"
    return out


def test_setups_of_other_settings_are_not_read(run: Path, made: Path, tmp_path: Path) -> None:
    """A network that is in the configuration no longer: its files lie there still."""
    again = Path(shutil.copytree(run, tmp_path / "run"))
    for name in ("intervals", "setup_repeats", "setup_plausibility"):
        task = next(iter(KINDS))
        paths = (
            again / layout.path(name, task=task, backbone=network, attribute="tone")
            for network in ("net", "old")
        )
        present, stale = paths
        stale.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(pd.read_parquet(present).assign(backbone="old"), stale)
    assert cli.main(["which-method", str(again), "--out", str(tmp_path / "page")]) == 0
    for path in made.glob("*.csv"):
        assert (tmp_path / "page" / path.name).read_bytes() == path.read_bytes(), path.name


def test_pictures_of_an_earlier_call_are_removed(run: Path, tmp_path: Path) -> None:
    """Of another run there may be more places; what is the user's own stays."""
    for name in ("which_method_kinds_9.png", "which_method_sizes.csv", "which_method_mine.png"):
        (tmp_path / name).write_text("of an earlier call")
    assert cli.main(["which-method", str(run), "--out", str(tmp_path)]) == 0
    left = {path.name for path in tmp_path.iterdir() if path.read_bytes() == b"of an earlier call"}
    assert left == {"which_method_mine.png"}


def test_the_evidence_is_what_the_run_measured(run: Path, made: Path) -> None:
    rows = pd.read_csv(made / "which_method.csv")
    assert rows["row"].tolist() == list(range(1, len(rows) + 1))
    assert len(rows) == sum(len(lean) for *_, lean in KINDS.values())
    repeats = pd.concat(
        pd.read_parquet(path) for path in sorted((run / "metrics").rglob("*.repeats.parquet"))
    )
    means = repeats.groupby(["task", "method", "metric"])["value"].mean()
    for row in rows.itertuples():
        bias, external, _ = KINDS[row.task]
        assert (row.external, row.external_biased) == (external, False)
        kind = "none" if bias is None else "absence" if row.task == "gone" else bias["kind"]
        assert (row.kind, row.strength) == (kind, 0 if bias is None else bias["strength"])
        for metric in ("eodds", "auc"):
            here, oracle = means[row.task, row.method, metric], means["clean", "baseline", metric]
            assert getattr(row, metric) == pytest.approx(here, abs=1e-6)
            regret = here - oracle if metric == "eodds" else oracle - here
            assert getattr(row, f"regret_{metric}") == pytest.approx(regret, abs=1e-6)
            if row.method != "baseline":
                change = here - means[row.task, "baseline", metric]
                assert getattr(row, f"{metric}_change") == pytest.approx(change, abs=1e-6)


def test_decisions_follow_the_rule(made: Path) -> None:
    """The rule written once more, as a loop; and what each case was made to show."""
    rows = pd.read_csv(made / "which_method.csv")
    page = (made / "which_method.md").read_text()
    lines = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    told = {(line[0].strip("| "), line[2]): line for line in lines if len(line) == 9}
    titles = {"swift": "SWiFT", "llft": r"L\|L", "worse": "worse"}
    for task, (bias, external, _) in KINDS.items():
        if bias is None:
            continue
        part = rows[rows.task == task].set_index("method")
        base, found = part.loc["baseline"], []
        for method in titles:
            one = part.loc[method]
            keeps = one.auc_change >= -0.01 or one.auc_high >= 0
            if one.ranked and one.eodds_high < 0 and keeps:
                found.append((one.eodds, method))
        kind = "absence" if task == "gone" else bias["kind"]
        said = told[kind, str(external)]
        if base.below_floor:
            assert said[3] == "nothing to mend"
        elif not found:
            assert said[3] == "none"
        else:
            best = min(found)[1]
            assert said[3] == titles[best]
            change = part.loc[best].eodds_change
            alike = [
                titles[name]
                for _, name in sorted(found)
                if name != best and part.loc[name].eodds_low <= change <= part.loc[name].eodds_high
            ]
            assert said[7] == ", ".join(alike)
            numbers = [int(n) for n in re.findall(r"\d+", said[8])]
            named = rows.set_index("row").loc[numbers]
            assert set(named.task) == {task}
            assert named.method.tolist()[:2] == ["baseline", best]
    assert [told[key][3] for key in (("correlation", "800"), ("correlation", "50"))] == [
        "SWiFT",
        "none",
    ]
    assert told["correlation", "800"][7] == r"L\|L"
    assert told["absence", "800"][3] == "nothing to mend"
    assert told["underdiagnosis", "800"][3] == "SWiFT"  # the other one collapsed
    # one would be fairer than the one taken, and pays for it with its AUC
    tied = rows[rows.task == "tied"].set_index("method")
    assert tied.eodds["worse"] < tied.eodds["swift"]
    assert tied.auc_high["worse"] < 0
    # a gap that is made is no noise, even where there was none before
    gone = rows[rows.task == "gone"].set_index("method")
    assert gone.inside_noise[["swift", "llft"]].all()
    assert gone.inside_noise["worse"] == (gone.eodds_low["worse"] <= 0)


def test_the_page_says_how_far_to_trust_it(run: Path, made: Path) -> None:
    page = (made / "which_method.md").read_text()
    assert "**synthetic**" in page
    assert which_method.RULE in page
    assert "surely differs from the Baseline's: none." in page
    repeats = pd.concat(
        pd.read_parquet(path) for path in sorted((run / "metrics").rglob("*.repeats.parquet"))
    )
    part = repeats[(repeats.metric == "eodds") & (repeats.method != "baseline")]
    ranks = []
    for half in range(REPEATS):
        of = part[part.repeat == half].pivot_table("value", "task", "method")
        ranks.append(of.rank(axis=1).mean())
    tau = kendalltau(*ranks).statistic
    assert f"Kendall's tau of {tau:.2f}." in page
    for name in ("kinds", "sizes"):
        assert f"(which_method_{name}.png)" in page
        shown = pd.read_csv(made / f"which_method_{name}.csv")
        assert set(shown.external) == ({800} if name == "kinds" else {50, 800})
        assert set(shown.kind) >= {"correlation"}


def test_the_report_shows_the_same(made: Path) -> None:
    """Decisions and regret, cell by cell, as pandas reads them; every picture is in the file."""
    text = (made / "which_method.html").read_text()
    page = (made / "which_method.md").read_text()
    tables = [ElementTree.fromstring(one) for one in re.findall("<table.*?</table>", text, re.S)]
    assert len(tables) == 2
    for shown, heading in zip(tables, ("## In short", "## Regret"), strict=True):
        told = grid(page, heading).map(lambda cell: cell.replace("\\|", "|"))
        cells = [[cell.text or "" for cell in row] for row in shown.iter("tr")]
        assert cells == [list(told.columns), *told.to_numpy().tolist()]
    assert which_method.RULE in html.unescape(text)
    told = [line[2:] for line in page.splitlines() if line.startswith("- ")]
    assert [html.unescape(line) for line in re.findall("<li>(.*?)</li>", text)] == told
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', text)
    drawn = [made / f"which_method_{name}.png" for name in ("kinds", "sizes")]
    assert [base64.b64decode(one) for one in pictures] == [path.read_bytes() for path in drawn]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: (run / "settings.yaml").unlink(), "settings.yaml: there is no such file"),
        (
            lambda run: (run / "settings.yaml").write_text("{synthetic: null, tasks: {}}"),
            "synthetic.populations: nothing is drawn",
        ),
        (
            lambda run: (run / "settings.yaml").write_text(
                (run / "settings.yaml").read_text().replace("algorithm: baseline", "algorithm: own")
            ),
            "methods: none has algorithm: baseline; add it and run again",
        ),
        *(
            (lambda run, text=text: (run / "settings.yaml").write_text(text), said)
            for text, said in {
                "run: a": "is not as a run writes it (KeyError: 'tasks'): run again",
                "- a": "is not as a run writes it (AttributeError: 'list' object",
                "a: [": "is not as a run writes it (ParserError: ",
            }.items()
        ),
        (
            lambda run: [path.unlink() for path in (run / "intervals").rglob("*.parquet")],
            "there are no intervals; let the run end first",
        ),
        (
            lambda run: [path.unlink() for path in (run / "intervals/clean").rglob("*.parquet")],
            "there is no oracle",
        ),
    ],
)
def test_what_is_no_finished_run_is_told_in_one_line(
    change: Any, said: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = Path(shutil.copytree(run, tmp_path / "run"))
    change(copy)
    assert cli.main(["which-method", str(copy)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert said in told[0]


# --- several networks, attributes and test sets ---------------------------------------------------

PLACES = [
    ("net_a", "tone", "one"),
    ("net_b", "tone", "one"),
    ("net_b", "sex", "one"),
    ("net_b", "sex", "two"),
]
BIASED = {"tied": 50, "tied.800": 800}
BASE = "before"  # what this run calls its Baseline
NAMES = (BASE, "swift", "llft")


def planted(place: tuple[str, ...], task: str, method: str) -> float:
    """EOdds; each place has another Baseline, and the better method alternates."""
    number = PLACES.index(place)
    if task == "clean":
        return 0.01 * (1 + number)
    worst = 0.3 + 0.1 * number + 0.01 * (task == "tied.800")
    better = "swift" if number % 2 else "llft"
    return {BASE: worst, better: worst / 4}.get(method, worst / 2)


def run_of(places: list[tuple[str, ...]], sizes: dict[str, int] = BIASED) -> which_method.Run:
    """A run of these places, and a repeat in which their methods' ranks are opposed."""
    rows, repeats = [], []
    names = ["task", "backbone", "attribute", "dataset", "method", "metric"]
    for place in places:
        for task in ("clean", *BIASED):
            for method in NAMES:
                for metric in ("eodds", "auc"):
                    value = planted(place, task, method) if metric == "eodds" else 0.8
                    base = planted(place, task, BASE) if metric == "eodds" else 0.8
                    change = np.nan if method == BASE else value - base
                    key = (task, *place, method, metric)
                    ends = (change - 0.01, change + 0.01)
                    rows.append((*key, value, change, *ends, task == "clean", 0.05))
                    repeats += [(*key, repeat, value) for repeat in range(2)]
    columns = ["value", "difference", "difference_low", "difference_high", "below_floor"]
    intervals = pd.DataFrame(rows, columns=[*names, *columns, "floor_95"])
    bias = {"kind": "correlation", "strength": 0.9}
    drawn = {"fair": {"images": 10}, "pool": {"images": 10, "bias": bias}}
    drawn |= {f"external_{n}": {"images": n} for n in (50, 800)}
    tasks = {task: {"train": ["pool"], "external": [f"external_{n}"]} for task, n in sizes.items()}
    tasks["clean"] = {"train": ["fair"], "external": ["external_50"]}
    biases = drawn_biases.of_tasks(drawn, tasks)
    frame = pd.DataFrame(repeats, columns=[*names, "repeat", "value"])
    titles = {name: name for name in NAMES}
    known = (biases, intervals, plausibility.NO_MARKS, frame)
    return which_method.Run("x", 2, 2, titles, BASE, *known)


def grid(page: str, heading: str) -> pd.DataFrame:
    """The first table below a heading."""
    lines = page.partition(heading)[2].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    table = [line.strip("| ").split(" | ") for line in itertools.takewhile(bool, lines[first:])]
    assert len({len(line) for line in table}) == 1
    return pd.DataFrame(table[2:], columns=table[0])


@pytest.mark.parametrize(
    ("places", "headings"),
    [
        (PLACES[:1], []),
        (PLACES[:2], ["network"]),
        pytest.param(PLACES[1:3], ["attribute"], marks=pytest.mark.ci),
        pytest.param(PLACES[2:], ["test set"], marks=pytest.mark.ci),
        (PLACES, ["test set", "network", "attribute"]),
    ],
)
def test_every_line_and_picture_is_of_one_place(
    places: list[tuple[str, ...]], headings: list[str], tmp_path: Path
) -> None:
    """Which one it is of stands there where there are several."""
    run = run_of(places)
    rows = which_method.evidence(run)
    pictures = which_method_figures.write(which_method.places(rows), {}, BASE, tmp_path)
    page = which_method_page.page(run, rows, pictures)
    decisions, regret = grid(page, "## In short"), grid(page, "## Regret")
    facts = {"network": 0, "attribute": 1, "test set": 2}
    assert [name for name in decisions.columns if name in facts] == headings
    assert [name for name in regret.columns if name in facts] == headings
    assert len(decisions) == len(BIASED) * len(places)
    assert len(regret) == len(NAMES) * len(places)

    def of(table: pd.DataFrame, place: tuple[str, ...]) -> pd.DataFrame:
        for name in headings:
            table = table[table[name] == words.title(place[facts[name]])]
        return table

    for place in places:
        told = of(decisions, place)
        for task, size in BIASED.items():
            [line] = told[told["external images"] == str(size)].to_dict("records")
            values = {method: planted(place, task, method) for method in NAMES}
            best = min(values, key=values.__getitem__)
            assert line["take"] == best
            assert line["EOdds"].startswith(f"{values[BASE]:.3f} to {values[best]:.3f} (")
            assert line["oracle"].startswith(f"{planted(place, 'clean', BASE):.3f} / ")
            numbers = [int(number) - 1 for number in line["rows"].split(", ")]
            named = rows.loc[numbers, ["backbone", "attribute", "dataset"]]
            assert set(named.itertuples(index=False, name=None)) == {place}
        means = of(regret, place).set_index("method")
        for method in NAMES:
            lost = np.mean([planted(place, task, method) for task in BIASED])
            lost -= planted(place, "clean", method)
            assert means.loc[method, "EOdds"] == f"{lost:+.3f}"
            assert means.loc[method, "cases"] == "2"
        oracle = f"oracle's EOdds is {planted(place, 'clean', BASE):.3f}, below"
        [line] = [line for line in page.splitlines() if oracle in line]
        assert all(words.title(place[facts[name]]) in line for name in headings)

    assert len(pictures) == 2 * len(places)
    shown = [pd.read_csv(path) for one in pictures for path in one.paths if path.suffix == ".csv"]
    for picture, data in zip(pictures, shown, strict=True):
        [place] = set(data[["backbone", "attribute", "dataset"]].itertuples(index=False, name=None))
        assert all(words.title(place[facts[name]]) in picture.caption for name in headings)
    assert len({path for one in pictures for path in one.paths}) == 3 * len(pictures)


def test_a_method_that_the_configuration_has_no_longer_is_called_by_its_name() -> None:
    """Its cells may still lie in the run's folder."""
    run = run_of(PLACES[:1])
    run = run._replace(titles={BASE: "Before", "llft": "L"})
    page = which_method_page.page(run, which_method.evidence(run), [])
    assert set(grid(page, "## Regret")["method"]) == {"Before", "L", "swift"}


def test_tasks_of_one_bias_are_told_apart() -> None:
    run = run_of(PLACES[:1], dict.fromkeys(BIASED, 50))
    table = grid(which_method_page.page(run, which_method.evidence(run), []), "## In short")
    assert table["task"].tolist() == [words.title(task) for task in BIASED]


def test_ranks_are_of_one_network_and_not_of_their_mean() -> None:
    """One network's large gaps would drown the other's order, which turns between the repeats."""
    order = {("net_a", 0): "abc", ("net_a", 1): "abc", ("net_b", 0): "abc", ("net_b", 1): "cab"}
    rows = [
        ("tied", backbone, "tone", "one", method, "eodds", repeat, scale * (1 + place))
        for (backbone, repeat), methods in order.items()
        for scale in (1.0 if backbone == "net_a" else 0.01,)
        for place, method in enumerate(methods)
    ]
    names = ["task", "backbone", "attribute", "dataset", "method", "metric", "repeat", "value"]
    # mean ranks of a, b, c: 1, 2, 3 and 1.5, 2.5, 2: two pairs agree and one does not
    assert which_method.stability(pd.DataFrame(rows, columns=names), BASE) == pytest.approx(1 / 3)
