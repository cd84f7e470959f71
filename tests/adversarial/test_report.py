"""Hostile names through every format of tables, report and figures; planted faults in scores.

Names are drawn, not listed: pieces that mean something to HTML, Markdown, LaTeX, mathtext or a
spreadsheet, letters of many scripts, emoji, words from right to left, and very long ones. A parser
that knows nothing of the writer reads each file, and must find the name that went in.
"""

from __future__ import annotations

import csv
import html
import io
import re
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from swift_debias.evaluation import words
from swift_debias.evaluation.audit import audit
from swift_debias.evaluation.cells import KEYS, Block, Cell
from swift_debias.evaluation.plausibility import CHECKS, judge
from swift_debias.report import audit_page, escaping, render, sharing, tables
from swift_debias.report import html as report_html

PIECES = (
    *("<script>alert(1)</script>", "<b>", "</td>", "<!--", "&amp;", "&lt", "&", "'", '"', "<", ">"),
    *("<img src=x onerror=alert(1)>", "]]>", "{{m^2}}", "{{", "}}", "%s", "{0}", "{}"),
    *("\\", "\\\\", "\\input{/etc/passwd}", "\\end{tabular}", "$", "$$", "$x^2$", "\\$", "#", "%"),
    *("_", "__", "^", "~", "{", "}", "[", "]", "[2pt]", "*", "**", "`", "--", "---", "|", "||"),
    *("=1+1", "=cmd|' /C calc'!A0", "+1", "-1", "-x", "@SUM(A1)", "'=1", "''+2", "-0.3", "＝1"),
    *('=HYPERLINK("http://x")', "[a](javascript:b)", "![i](u)", "# h", "- l", "1. n", ":--", "\t"),
    *("\r", "\n", "\r\n", "\x07", "\x1b[31m", "\u2028", "\u202e", "\u200f", "\ufeff", "\xa0", " "),
    *("é", "ß", "Ж", "中文", "שלום", "مرحبا", "हिन्दी", "😀", "👩🏽‍⚕️", "🏳️‍🌈", "½", "±", "↑", "·"),
    *("nan", "None", "True", "../..", "/etc", "C:\\x", "a", "b c", "SWiFT", "0", "1e5", "x" * 300),
)


def names(seed: int, n: int) -> list[str]:
    """Different hostile names; each has something visible."""
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < n:
        name = "".join(rng.choice(PIECES, rng.integers(1, 6)))
        if seen(name):
            found[name] = None
    return list(found)


def seen(name: str) -> str:
    """What is left of a name on one line: blanks are one, control characters are none."""
    return "".join(c for c in " ".join(name.split()) if ord(c) >= 32 and not 127 <= ord(c) < 160)


# --- readers that know nothing of the writers -----------------------------------------------------


class Page(HTMLParser):
    """Text of table cells row by row, of headings and of notes, and every tag."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.rows: list[list[str]] = []
        self.texts: dict[str, list[str]] = {}
        self.where: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag not in ("br", "meta", "img", "link", "col", "input"):
            self.where.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.where:
            while self.where.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        for tag in {*self.where}:
            self.texts[tag][-1] += data
        if self.rows and self.rows[-1] and {"td", "th"} & {*self.where}:
            self.rows[-1][-1] += data


HANDLERS = {"onclick", "onload", "onerror"}
COMMANDS = {
    **{"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textbar": "|"},
    **{"textasciigrave": "`", "textless": "<", "textgreater": ">"},
}
SIGNS = {"\\pm": "±", "\\uparrow": "↑", "\\downarrow": "↓", "\\cdot": "·"}


def untex(text: str) -> str:
    """What LaTeX prints of a text; an unescaped special sign is an error."""
    out, place = "", 0
    while place < len(text):
        rest = text[place:]
        if command := re.match(r"\\([a-z]+)\{\}", rest):
            out += COMMANDS[command[1]]
        elif command := re.match(r"\\([&%$#_{}])", rest):
            out += command[1]
        elif command := re.match(r"\$(\\[a-z]+)\$", rest):
            out += SIGNS[command[1]]
        elif command := re.match(r"\{([\[\]*]?)\}", rest):
            out += command[1]
        elif command := re.match("--", rest):
            out += "–"
        else:
            assert rest[0] not in "\\&%$#_{}~^[]*`<>|\n", f"{rest[:20]!r} in {text!r}"
            command, out = re.match(".", rest), out + rest[0]
        assert command is not None
        place += len(command[0])
    return out


def tex_cells(line: str) -> list[str]:
    """Cells of a row: what is between ampersands that are not escaped."""
    assert line.endswith(" \\\\")
    return [cell.strip(" ") for cell in re.split(r"(?<!\\)&", line[:-3])]


def unmark(cell: str) -> str:
    """What Markdown shows of a cell; a tag or an emphasis that is not escaped is an error."""
    bare = re.sub(r"\\[\\`*_\[\]|~]", "", cell)
    assert not re.search(r"[<>`*\[\]|~]", bare), cell
    return html.unescape(re.sub(r"\\([\\`*_\[\]|~])", r"\1", cell))


def md_row(line: str) -> list[str]:
    """Cells of a row of a grid: split at bars that no backslash escapes."""
    cells, cell, place = [], "", 0
    while place < len(line):
        if line[place] == "\\":
            cell += line[place : place + 2]
            place += 2
            continue
        if line[place] == "|":
            cells.append(cell.strip(" "))
            cell = ""
        else:
            cell += line[place]
        place += 1
    return cells[1:]


def unquote(cell: str) -> str:
    """What a person reads in a cell of a sheet that was protected with a quote."""
    return cell[1:] if re.match("''*[=+\\-@\t\r\n＝＋－＠]", cell) else cell


def lines(name: str) -> str:
    """A name with one kind of line break."""
    return re.sub("\r\n?", "\n", name)


def dangerous(cell: str) -> bool:
    """Would a spreadsheet compute it?"""
    try:
        float(cell)
    except ValueError:
        return cell[:1] in tuple("=+-@\t\r\n＝＋－＠")
    return False


# --- tables ---------------------------------------------------------------------------------------


def hostile_tables() -> Iterator[tuple[tables.Table, list[str]]]:
    """40 tables, each with ten hostile names: title, methods and their keys, data sets, a note."""
    drawn = iter(names(0, 40 * 10))
    for _ in range(40):
        own = [next(drawn) for _ in range(10)]
        title, *titles, note = own[0], *own[1:4], own[4]
        methods, datasets = own[5:8], own[8:]
        block = Block("skin", "net", "sex", datasets, methods, ("auc",))
        cells = {key: Cell(0.7, 0.1, 2, 0, None) for key in block.cell_keys()[1:]}
        cells[block.cell_keys()[0]] = Cell(float("nan"), float("nan"), 0, 2, note)
        named = dict(zip(methods, titles, strict=True))
        yield tables.assemble("table1", title, [block], cells, {}, named, False), own


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, str], list[str]]]:
    """Text of each format, and the names that went in."""
    folder = tmp_path_factory.mktemp("tables")
    found = []
    for place, (table, own) in enumerate(hostile_tables()):
        paths = render.write(table, folder / str(place))
        found.append(({p.suffix: p.read_bytes().decode() for p in paths}, own))
    return found


Written = list[tuple[dict[str, str], list[str]]]


def test_html_gives_the_names_back(written: Written) -> None:
    for texts, own in written:
        page = Page(texts[".html"])
        assert "script" not in page.tags and "img" not in page.tags
        assert not HANDLERS & {*page.attributes}
        rows = {row[0] for row in page.rows if len(row) == 3}
        assert {*own[1:4]} <= {row.strip("\n") if row not in own else row for row in rows}
        heads = [cell.strip() for row in page.rows for cell in row]
        assert {words.title(dataset).strip() for dataset in own[8:]} <= {*heads}
        assert f"Table 1. {own[0]}" in page.texts["h3"]
        assert any(own[4] in text for text in page.texts["li"])
    print(f"{10 * len(written)} names through HTML")


def test_csv_gives_the_keys_back_and_computes_nothing(written: Written) -> None:
    for texts, own in written:
        head, *rows = csv.reader(io.StringIO(texts[".csv"], newline=""))
        assert head == tables.CSV_COLUMNS
        assert not any(dangerous(cell) for row in rows for cell in row)
        columns = {name: [unquote(row[head.index(name)]) for row in rows] for name in KEYS}
        assert list(dict.fromkeys(columns["method"])) == [lines(name) for name in own[5:8]]
        assert list(dict.fromkeys(columns["dataset"])) == [lines(name) for name in own[8:]]


def test_latex_gives_the_names_back(written: Written) -> None:
    for texts, own in written:
        lines = texts[".tex"].splitlines()
        start = lines.index("\\midrule") + 1
        rows = [untex(tex_cells(line)[0]) for line in lines[start : start + 3]]
        assert rows == [seen(name) for name in own[1:4]]
        assert lines[start + 3] == "\\bottomrule"
        [caption] = [line for line in lines if line.startswith("\\caption{")]
        assert untex(caption[len("\\caption{") : -1]).startswith(f"{seen(own[0])}. Mean ±")
        spanners = re.findall(r"\\multicolumn\{1\}\{c\}\{(.*?)\}(?= &| \\\\)", texts[".tex"])
        assert [untex(text) for text in spanners] == [seen(words.title(d)) for d in own[8:]]
        notes = [line for line in lines if line.startswith("% note: ")]
        assert any(seen(own[4]) in note for note in notes)
        assert lines[-1] == notes[-1]  # nothing of a note is on a line of its own


def test_markdown_gives_the_names_back(written: Written) -> None:
    for texts, own in written:
        lines = texts[".md"].split("\n")
        grid = [md_row(line) for line in lines if line.startswith("| ")]
        assert [len(row) for row in grid] == [3] * 5
        assert [unmark(row[0]) for row in grid[2:]] == [seen(name) for name in own[1:4]]
        assert unmark(lines[0].removeprefix("### ")) == seen(f"Table 1. {own[0]}")


def test_text_has_a_line_a_method(written: Written) -> None:
    for texts, own in written:
        lines = texts[".txt"].split("\n")
        assert lines[0] == seen(f"Table 1. {own[0]}")
        assert [line[:-16].rstrip(" ") for line in lines[-4:-1]] == [
            seen(name) for name in own[1:4]
        ]


# --- the pages ------------------------------------------------------------------------------------


def test_grids_of_the_report_give_the_text_back() -> None:
    drawn = names(1, 300)
    page = Page(report_html.grid(pd.DataFrame({"name": drawn}), "own", "A grid"))
    assert [row[0] for row in page.rows[1:]] == [seen(name) for name in drawn]
    assert {*page.tags} <= {"h3", "div", "table", "thead", "tbody", "tr", "th", "td"}
    grid = [md_row(line) for line in render.frame_markdown(pd.DataFrame({"n": drawn})).split("\n")]
    assert [unmark(row[0]) for row in grid[2:-1]] == [seen(name) for name in drawn]
    rows = list(csv.reader(io.StringIO(escaping.csv(pd.DataFrame({"n": drawn})), newline="")))
    assert [unquote(cell) for [cell] in rows[1:]] == [lines(name) for name in drawn]
    assert not any(dangerous(cell) for [cell] in rows[1:])
    print(f"{3 * len(drawn)} names through grids")


def test_settings_of_the_report_are_text() -> None:
    for seed in range(10):
        drawn = names(100 + seed, 8)
        settings = {"run": drawn[0], "seed": 1, "folds": 2, "experiments": {}}
        settings["tasks"] = {name: {"title": name} for name in drawn}
        versions = pd.DataFrame({"package": drawn})
        page = Page(report_html.page(drawn[0], [report_html.Section(
            "run", "What", report_html.configuration(settings, versions, {}))], False))  # fmt: skip
        assert page.tags.count("script") == 1
        assert not HANDLERS & {*page.attributes}
        back = yaml.safe_load(page.texts["pre"][0])
        assert [*back["tasks"]] == drawn
        assert drawn[0] in page.texts["h1"][0]


def test_the_page_of_an_audit_gives_the_groups_back() -> None:
    rng = np.random.default_rng(5)
    for seed in range(12):
        drawn = [name for name in names(200 + seed, 4) if "[" not in name and "]" not in name]
        labels, groups = rng.integers(0, 2, 80), np.arange(80) % len(drawn)
        frame = audit(labels, groups, rng.random(80), drawn)
        page = Page(audit_page.page(frame, drawn[0], {drawn[-1]: drawn[0]}))
        assert not {"script", "img"} & {*page.tags}
        assert page.texts["h1"] == [drawn[0]]
        assert [row[0] for row in page.rows[1 : 1 + len(drawn)]] == drawn


def test_paths_and_values_of_rows_are_not_shown() -> None:
    """Words of a person in all places where a configuration has paths."""
    rng = np.random.default_rng(6)
    starts = ("/", "/mnt/x/", "~/", "~ann/", "C:\\", "c:/", "\\\\server\\", "file:///", "")
    for number in range(200):
        who = f"Patient{number}"
        path = str(rng.choice(starts)) + str(rng.choice(["", "a b/", "ä/"])) + f"{who}/x.csv"
        entry = {"root": path, "table": f"{who}.csv", "image_folder": who, "patients": path}
        entry |= {"only": {"name": [who, "other"]}, "citation": "doi:10.1/zr7, https://a.org/b"}
        if path[0] in "/~Cc\\f":
            entry["note"] = path
            entry["citation"] += f" (see {path.replace('a b/', '')})"
        settings = {"datasets": {"mine": entry}, "backbones": {"n": {"weights": path}}}
        settings["backbones"]["n"]["baseline"] = f"{who}_{{fold}}.safetensors"
        text = yaml.safe_dump(sharing.shown(settings))
        assert who not in text, text
        assert "doi:10.1/zr7, https://a.org/b" in text
        assert "2 values" in text
    kept = {"weights": "imagenet", "architecture": "my.pkg:make", "column": "a/b", "x": [1, 0.5]}
    assert sharing.shown(kept) == kept


# --- figures --------------------------------------------------------------------------------------


def test_figures_print_names_as_they_are(tmp_path: Path) -> None:
    """Few, since drawing is slow: titles of methods with signs of mathtext."""
    from matplotlib.text import Text

    from swift_debias.report.figures import _parts, _write, load

    hostile = [
        "$x^2$ of $",
        r"\frac{$",
        "$\\alpha$",
        "cost: 5 $ and 6 $",
        "$\\undefined$",
        "=a_b^c",
    ]
    rng = np.random.default_rng(7)
    axes, attributes = ("auc", "eodds"), ("sex", "$age$ $")
    keys = [
        ("skin", "net", attribute, method, "ddi", metric)
        for attribute, method, metric in product(attributes, "abcdef", axes)
    ]
    frame = pd.DataFrame(keys, columns=KEYS).assign(fold=0, n=9, reason=None)
    frame["value"] = rng.random(len(frame))
    request = _parts.Request(
        name="pareto",
        blocks=tuple(
            Block("skin", "net", attribute, ("ddi",), tuple("abcdef"), axes)
            for attribute in attributes
        ),
        titles=dict(zip("abcdef", hostile, strict=True)),
        baseline="a",
        swift="b",
    )
    drawings = []

    def draw(*given: Any) -> Any:
        drawings.append(load("pareto").draw(*given))
        return drawings[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = _write.write(draw, request, _parts.Sources(metrics=frame), tmp_path / "pareto")
    assert all(path.stat().st_size for path in paths)
    [drawing] = drawings
    plain = {t.get_text() for t in drawing.figure.findobj(Text) if not t.get_parse_math()}
    assert {*hostile} <= plain
    parsed = [t for t in drawing.figure.findobj(Text) if t.get_parse_math() and t.get_text()]
    assert any("\\$age\\$ \\$" in text.get_text() for text in parsed)
    assert all(re.sub(r"\\\$", "", text.get_text()).count("$") in (0, 2) for text in parsed)


# --- planted faults -------------------------------------------------------------------------------


def predictions(rng: np.random.Generator, skill: float, sizes: tuple[int, int]) -> pd.DataFrame:
    """Half of each group is of class 1; both groups are scored alike."""
    group = np.repeat([0, 1], sizes)
    label = np.concatenate([rng.permutation(n) % 2 for n in sizes])
    logit = skill * (2 * label - 1) + rng.normal(size=len(label))
    frame = pd.DataFrame({"dataset": "t", "label": label, "group": group})
    return frame.assign(score=1 / (1 + np.exp(-logit)))


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """The metrics that the checks read, by counting."""
    rows = []
    for group, suffix in ((None, ""), (0, "[0]"), (1, "[1]")):
        part = frame if group is None else frame[frame["group"] == group]
        label, score = part["label"].to_numpy() == 1, part["score"].to_numpy()
        chosen = score >= 0.5
        ranks = 1 + score.argsort().argsort()
        positives, negatives = int(label.sum()), int((~label).sum())
        wins = ranks[label].sum() - positives * (positives + 1) / 2
        auc = wins / (positives * negatives) if positives and negatives else np.nan
        tpr = chosen[label].mean() if positives else np.nan
        fpr = chosen[~label].mean() if negatives else np.nan
        rows += [
            (f"auc{suffix}", auc, len(part)),
            (f"tpr{suffix}", tpr, positives),
            (f"fpr{suffix}", fpr, negatives),
            (f"selection_rate{suffix}", chosen.mean(), len(part)),
            (f"balanced_accuracy{suffix}", (tpr + 1 - fpr) / 2, len(part)),
        ]
    value = {name: of for name, of, _ in rows}
    gaps = [abs(value[f"{rate}[1]"] - value[f"{rate}[0]"]) for rate in ("tpr", "fpr")]
    rows.append(("eodds", sum(gaps) / 2, len(frame)))
    return pd.DataFrame(rows, columns=["metric", "value", "n"])


def marks_of(method: str, **folds: pd.DataFrame) -> set[str]:
    """What is said of a method."""
    setup = {"task": "skin", "backbone": "net", "attribute": "sex", "dataset": "t", "fold": 0}
    scored = [measured(frame).assign(**setup, method=name) for name, frame in folds.items()]
    judged = judge(pd.concat(scored, ignore_index=True), {"sex": ["f", "m"]}, {"skin": 20})
    return {*judged[judged["method"] == method]["mark"]}


def test_planted_faults_are_marked_and_clean_scores_are_not() -> None:
    """Clean scores have skill. Scores in random order have some by chance, 2.5 times in 100."""
    rng = np.random.default_rng(8)
    missed: list[str] = []
    alarms: list[str] = []
    clean = 40
    for _ in range(clean):
        sizes = (int(rng.integers(60, 400)), int(rng.integers(60, 400)))
        good = predictions(rng, rng.uniform(0.9, 2), sizes)
        alarms += marks_of("m", m=good)
        women = (good["group"] == 0).to_numpy()
        planted = {
            "implausible": good.assign(label=1 - good.label),
            "constant decisions": good.assign(score=good.score * rng.uniform(0, 0.49)),
            "collapsed": good.assign(score=rng.permutation(good.score)),
            "small group": good.drop(index=np.flatnonzero(women)[int(rng.integers(2, 15)) :]),
        }
        missed += [mark for mark, bad in planted.items() if mark not in marks_of("m", m=bad)]
        # a Baseline that is right but for most women, and a fairer one that is worse for all
        wronged = women & (rng.random(len(good)) < 0.6)
        unfair = good.assign(score=np.where(wronged, 0.9, good.label * 0.8 + 0.1))
        worse = predictions(rng, 0.3, sizes)
        missed += ["levelled down"] * (
            "levelled down" not in marks_of("m", m=worse, baseline=unfair)
        )
    print(f"{6 * clean} score tables: {len(missed)} missed, {len(alarms)} false alarms")
    assert missed.count("collapsed") <= 4  # 1 expected
    assert {*missed} <= {"collapsed"}
    assert alarms == []
    # "below floor" is decided by the noise floor of intervals/, with tests of its own
    assert {*CHECKS} == {*planted, "levelled down", "below floor"}, "plant a new check's fault too"


def test_scores_without_skill_are_implausible_as_often_as_chance_has_it() -> None:
    """2.5 % for everybody and as much for both groups together, which overlap."""
    rng = np.random.default_rng(9)
    implausible = 0
    for _ in range(200):
        sizes = (int(rng.integers(30, 80)), int(rng.integers(30, 80)))
        implausible += "implausible" in marks_of("m", m=predictions(rng, 0.0, sizes))
    print(f"200 score tables without skill: {implausible} implausible")
    assert 2 <= implausible <= 18
