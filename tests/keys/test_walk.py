"""Every key of the configuration has a test that asserts what it does."""

from __future__ import annotations

from tests.keys import walk


def test_every_key_has_a_test_of_its_effect() -> None:
    without = set(walk.keys()) - set(walk.marks()) - set(walk.EXCEPTIONS)
    assert not without, (
        'no test is marked with @pytest.mark.key("...") for these keys; write one that moves the '
        f"key to another value and asserts the effect: {sorted(without)}"
    )


def test_every_mark_and_exception_names_a_key() -> None:
    keys = walk.keys()
    unknown = {
        name: [f"{mark.path.name}::{mark.test}" for mark in tests]
        for name, tests in walk.marks().items()
        if name not in keys
    }
    assert not unknown
    assert set(walk.EXCEPTIONS) <= set(keys)


def test_an_exception_has_a_reason_and_no_test() -> None:
    assert all(walk.EXCEPTIONS.values())
    assert not set(walk.EXCEPTIONS) & set(walk.marks())
