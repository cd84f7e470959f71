"""report.html: what is in it, and what a browser makes of it.

The browser test drives headless Chromium through its DevTools protocol: no console message, no
request, every table and image there, sorting, filtering and zooming work. It is skipped where there
is no browser.
"""

from __future__ import annotations

import base64
import itertools
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import mock_run as mock
import numpy as np
import pandas as pd
import pytest
from browser import Browser, start_browser
from matplotlib.figure import Figure

from swift_debias.errors import UserError
from swift_debias.evaluation.cells import lookup
from swift_debias.files import write_parquet
from swift_debias.report import data_tables, render, statistics_tables, tables
from swift_debias.report.html import (
    Section,
    Shown,
    configuration,
    figure_gallery,
    fragment,
    grid,
    image,
    page,
    result_tables,
    software,
)

HOSTILE = "<script>alert('no')</script>"


def make_metrics() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    keys = itertools.product(mock.TEN, ("ddi", "fitzpatrick17k"), ("auc", "spd"), range(3))
    frame = pd.DataFrame(keys, columns=["method", "dataset", "metric", "fold"])
    frame = frame.assign(task="skin", backbone="resnet50", attribute="skin_tone", n=100)
    frame["value"] = rng.random(len(frame))
    frame["reason"] = None
    broken = frame.index[:2]
    frame.loc[broken, "value"] = np.nan
    frame.loc[broken, "reason"] = f"no sample of class 0 {HOSTILE}"
    unknown = frame.iloc[:1].assign(metric="n_unknown", value=7.0, reason=None)
    return pd.concat([frame, unknown], ignore_index=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tables as the run writes them, and two figures."""
    folder = tmp_path_factory.mktemp("report")
    cells = lookup(make_metrics())
    block = mock.block("skin", "skin_tone", metrics=("auc", "spd"))
    for name in ("table1", "table2"):
        table = tables.assemble(name, "Skin lesions", [block], cells, {}, mock.TITLES, True)
        render.write(table, folder / "tables")
    for name, color in (("figure1", "red"), ("pareto", "blue")):
        figure = Figure(figsize=(3, 2), facecolor=color)
        figure.savefig(folder / f"{name}.png", dpi=300)
    return folder


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    settings = {
        "run": "demo",
        "seed": 3,
        "folds": 2,
        "tasks": {"skin": {}},
        "backbones": {"resnet50": {"weights": HOSTILE}, "unused": {}},
        "methods": {"swift": {}},
        "experiments": {
            "table1": {
                "methods": ["baseline", "swift"],
                "panels": [
                    {"task": "skin", "backbone": "resnet50", "attribute": "sex", "methods": None}
                ],
            }
        },
    }
    (folder / "requirements.txt").write_text(
        "-r other.txt\nnumpy==1.0  # old\nnobody-has-this==2\n"
    )
    log = {"rows_read": 9, "rules": [{"rule": "no image", "removed": 2, "examples": [HOSTILE]}]}
    metrics = make_metrics()
    rows = pd.DataFrame({"text": list("abcdefghijklmnopqrst"), "value": [*range(19), None]})
    sections = [
        Section(
            "run",
            "What was run",
            configuration(settings, software(folder / "requirements.txt"), {}),
        ),
        Section("tables", "Tables", result_tables(sorted(folder.glob("tables/*.html")))),
        Section(
            "figures",
            "Figures",
            figure_gallery(
                Shown(name, "Bias & more", "A caption.", folder / f"{name}.png")
                for name in ("figure1", "pareto")
            ),
        ),
        Section(
            "dropped",
            "Everything left out",
            grid(data_tables.exclusions({"ddi": log}), "exclusions", "Rows")
            + grid(data_tables.metrics_left_out(metrics), "reasons", "Metrics")
            + grid(data_tables.unknown_groups(metrics), "unknown", "Unknown")
            + grid(rows, "many", "Many rows")
            + grid(rows[:0], "empty", "Nothing here"),
        ),
    ]
    return page("demo", sections, synthetic=True)


# --- without a browser ----------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags in balance, and what a test asks for."""

    VOID = frozenset({"meta", "img", "br", "input", "hr", "link", "col"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_page_is_well_formed_and_ids_are_unique(html: str) -> None:
    page = Page(html)
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in page.all("a")} <= {f"#{name}" for name in ids}


def test_page_refers_to_nothing_outside(html: str) -> None:
    page = Page(html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    assert "@import" not in html
    assert re.search(r"url\((?!['\"]?data:)", html) is None
    policy = page.all("meta")[1]["content"]
    assert policy is not None and policy.startswith("default-src 'none'")


def test_text_of_others_is_escaped(html: str) -> None:
    assert HOSTILE not in html
    assert html.count("&lt;script&gt;alert(") >= 3  # settings, exclusions, reasons


def test_images_are_the_files(html: str, folder: Path) -> None:
    images = [image for image in Page(html).all("img") if image.get("src")]
    assert [image["alt"] for image in images] == ["Figure 1. Bias & more", "Bias & more"]
    data = (images[0]["src"] or "").partition("base64,")[2]
    assert base64.b64decode(data) == (folder / "figure1.png").read_bytes()
    assert (images[0]["width"], images[0]["height"]) == ("900", "600")


def test_banner_only_where_the_data_are_made_up(html: str) -> None:
    assert 'class="banner"' in html
    assert 'class="banner"' not in page("paper", [], synthetic=False)


def test_versions_pinned_and_found(folder: Path) -> None:
    (folder / "pins.txt").write_text(f"numpy=={np.__version__}\nnobody-has-this==2\n")
    frame = software(folder / "pins.txt").set_index("package")
    assert frame["here"]["numpy"] == frame["pinned"]["numpy"] == np.__version__
    assert frame["here"]["nobody-has-this"] == "not in this job's environment"


def test_everything_left_out_is_counted() -> None:
    metrics = make_metrics()
    reasons = data_tables.metrics_left_out(metrics)
    assert reasons["without a value"].sum() == 2
    assert data_tables.unknown_groups(metrics)["of unknown group"].tolist() == [7]
    log = {"images": {"isic2019": 5}, "removed": {"same_id": 2}, "groups": 3}
    facts = data_tables.cohort_facts({"skin": log})
    assert facts.values.tolist() == [
        ["Skin lesions", "images", "isic2019", 5],
        ["Skin lesions", "removed", "same id", 2],
        ["Skin lesions", "groups", "", 3],
    ]


def test_what_was_run_names_what_the_experiments_use(html: str) -> None:
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html))
    assert facts["networks"] == "ResNet-50"
    assert facts["methods"] == "2, variants included"
    assert (facts["seed"], facts["folds"]) == ("3", "2")


def test_intervals_are_written_out_and_empty_where_there_are_none() -> None:
    none = float("nan")
    frame = pd.DataFrame(
        {
            **{"attribute": "sex", "backbone": "resnet50", "dataset": "ddi", "metric": "auc"},
            "method": ["baseline", "swift"],
            **{"value": [0.5, 0.6], "low": [0.45, 0.5], "high": [0.55, 0.7], "n_images": 90},
            **{"difference": [none, 0.1], "difference_low": [none, -0.02]},
            **{"difference_high": [none, 0.2], "reason": None, "n_patients": 30, "power": none},
            **{"task": "skin", "smallest_cell": none},
            **{"variance_test": 0.01, "variance_folds": [none, 0.03]},
            **{"floor_mean": [none, 0.03], "floor_95": [none, 0.05]},
            "below_floor": pd.array([None, True], "boolean"),
        }
    )
    found = statistics_tables.intervals(frame, mock.TITLES, ["auc"])
    assert found["95 % interval"].tolist() == ["0.450 to 0.550", "0.500 to 0.700"]
    assert found["its 95 % interval"].tolist() == ["", "-0.020 to +0.200"]
    assert found["variance from folds"].tolist() == ["", "75%"]
    assert found["what would help"].tolist() == ["", "more of both"]
    assert found["noise floor (mean, 95 %)"].tolist() == ["", "0.030, 0.050"]
    assert found["below the floor"].tolist() == ["", "yes"]
    assert statistics_tables.intervals(frame, mock.TITLES, ["spd"]).empty


def test_statistics_say_what_would_help_and_what_a_test_set_can_show() -> None:
    """Counted by hand: folds make 0, 10, 30, 90 and 95 % of the variances."""
    shares = np.array([0.0, 0.1, 0.3, 0.9, 0.95, np.nan])
    frame = pd.DataFrame({"variance_test": 1 - shares, "variance_folds": shares})
    frame = frame.assign(task="skin", backbone="resnet50", metric="eodds", method="swift")
    frame = frame.assign(attribute=["sex"] * 3 + ["age"] * 3, dataset=["ddi", "nih", "nih"] * 2)
    frame = frame.assign(power=[0.1, 0.9, 0.9, 0.3, 0.85, 0.85])
    frame = frame.assign(smallest_cell=[12.4, 300, 300, 40, 250, 250])
    target, counted, power = statistics_tables.sentences(frame, ["eodds"])
    assert "trained on this pool" in target and "not another hospital" in target
    assert counted == (
        "Of 5 intervals, more test patients would narrow 2 and more folds would not; more folds "
        "would narrow 2 and more test patients would not; 1 need more of both."
    )
    assert power == (
        "2 of 4 test sets would show a fall of EOdds from .2 to .05 four times in five or more. "
        "The smallest cell has 12 effective patients (DDI, Sex): there the chance is 10%."
    )
    assert statistics_tables.test_sizes(frame)["power"].tolist() == [0.1, 0.9, 0.3, 0.85]
    assert statistics_tables.sentences(frame, ["auc"])[1:] == [power]


def test_sizes_of_external_sets(tmp_path: Path) -> None:
    path = tmp_path / "external" / "skin" / "sex" / "fold1.parquet"
    path.parent.mkdir(parents=True)
    rows = [(0, 0, True)] * 3 + [(0, 1, True)] * 3 + [(1, 0, True)] * 2 + [(1, 1, False)] * 5
    write_parquet(pd.DataFrame(rows, columns=["label", "attribute", "balanced"]), path)
    (row,) = data_tables.external_sizes([path]).to_dict("records")
    assert row == {
        **{"task": "Skin lesions", "attribute": "Sex", "fold": 1},
        **{"images": 13, "balanced": 8, "smallest cell": 2},
    }


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.html"
    other.write_text("no body")
    with pytest.raises(UserError, match=r"other\.html"):
        fragment(other)
    with pytest.raises(UserError, match=r"other\.html is damaged .*PNG"):
        image(other, "")


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(html: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(html, encoding="utf-8")
    browser = start_browser(folder / "profile")
    try:
        browser.open((folder / "report.html").as_uri())
        yield browser
    finally:
        browser.close()


def test_browser_loads_the_page_without_a_word(browser: Browser) -> None:
    time.sleep(0.3)
    browser.ask("1")  # collects what came meanwhile
    said = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert [event for event in browser.events if event["method"] in said] == []
    urls = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    outside = [url for url in urls if not url.startswith("data:")]
    assert len(outside) == 1 and outside[0].endswith("/report.html")


def test_browser_shows_every_table_and_image(browser: Browser, html: str) -> None:
    tables_there = "[...document.querySelectorAll('table')].map(t => t.tBodies[0].rows.length)"
    rows = browser.ask(tables_there)
    assert len(rows) == html.count("<table")
    assert rows.count(10) == 2  # ten methods in each of the two result tables
    sizes = "[...document.querySelectorAll('figure img')].map(i => [i.complete, i.naturalWidth])"
    assert browser.ask(sizes) == [[True, 900], [True, 900]]
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert browser.ask(wide)


COLUMN = (
    "[...document.querySelector('{table}').tBodies[0].rows].map(r => r.cells[{column}].textContent)"
)


def test_browser_sorts_a_result_table(browser: Browser) -> None:
    column = COLUMN.format(table="#table1 table", column=2)
    press = "[...document.querySelectorAll('#table1 th button.sort')].at(2).click()"
    before = [float(text.split()[0]) for text in browser.ask(column)]
    browser.ask(press)
    upwards = [float(text.split()[0]) for text in browser.ask(column)]
    browser.ask(press)
    downwards = [float(text.split()[0]) for text in browser.ask(column)]
    assert before != upwards == sorted(before)
    assert downwards == sorted(before, reverse=True)
    state = "document.querySelectorAll('#table1 [aria-sort=descending]').length"
    assert browser.ask(state) == 1


def test_browser_sorts_empty_cells_last(browser: Browser) -> None:
    column = COLUMN.format(table="#many", column=1)
    for _ in range(2):
        browser.ask("document.querySelectorAll('#many th button.sort')[1].click()")
        assert browser.ask(column)[-1] == ""
    assert float(browser.ask(column)[0]) == 18


def test_browser_filters_long_tables(browser: Browser) -> None:
    assert browser.ask("document.querySelectorAll('input.filter').length") == 1
    browser.ask(
        "const f = document.querySelector('input.filter'); f.value = 'Q';"
        "f.dispatchEvent(new Event('input'))"
    )
    shown = "[...document.querySelector('#many').tBodies[0].rows].filter(r => !r.hidden).length"
    assert browser.ask(shown) == 1


def test_browser_enlarges_a_figure(browser: Browser) -> None:
    browser.ask("document.querySelector('#figure-pareto button.zoom').click()")
    assert browser.ask("document.getElementById('zoom').open")
    small, large = (f"document.querySelector('{f} img').src" for f in ("#figure-pareto", "#zoom"))
    assert browser.ask(f"{small} === {large}")
    browser.ask("document.getElementById('zoom').click()")
    assert not browser.ask("document.getElementById('zoom').open")
