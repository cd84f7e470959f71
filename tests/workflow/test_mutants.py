"""The list of mutants keeps up with the code: each one's text is found, once."""

from __future__ import annotations

import pytest
from tests.mutants import run


@pytest.mark.parametrize("name", sorted({mutant.list for mutant in run.read_mutants()}))
def test_every_mutant_can_be_planted(name: str) -> None:
    lost = []
    for mutant in run.read_mutants():
        try:
            if mutant.list == name:
                run.planted(mutant)
        except (LookupError, SyntaxError) as error:
            lost.append(f"{mutant.what}: {error}")
    assert lost == []
    missing = {
        test
        for mutant in run.read_mutants()
        for test in mutant.tests
        if not (run.PROJECT / test.partition("::")[0]).is_file()
    }
    assert missing == set()
