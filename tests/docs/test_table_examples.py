"""docs/tables.md: every example is run, and gives the rows that stand below it."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from blocks import _FENCE, PROJECT

from swift_debias.data import adapters

PAGE = (PROJECT / "docs" / "tables.md").read_text(encoding="utf-8")
SECTIONS = {
    part.partition("\n")[0]: part
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    if 'title="result"' in part
}


@pytest.mark.parametrize("name", SECTIONS)
def test_an_example_gives_the_rows_below_it(name: str, tmp_path: Path) -> None:
    found = {"csv": {}, "text": {}, "yaml": {}}
    for match in _FENCE.finditer(SECTIONS[name]):
        found[match["language"]][match["title"] or ""] = match["text"]
    expected = found["csv"].pop("result")
    for title, text in found["csv"].items():
        (tmp_path / title).write_text(text)
    for path in found["text"][""].split():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    ((_, entry),) = yaml.safe_load(found["yaml"][""])["datasets"].items()
    options = adapters.make_options(entry | {"root": str(tmp_path)})
    frame = adapters.read(options, Path()).frame
    rows = pd.read_csv(io.StringIO(expected), dtype={"image_id": str, "lesion_id": str})
    shown = frame[list(rows)].reset_index(drop=True)
    pd.testing.assert_frame_equal(shown, rows, check_dtype=False)


def test_every_form_has_an_example() -> None:
    assert len(SECTIONS) == 5
