"""Seeds are the same everywhere, and no two jobs share one by accident."""

from itertools import combinations

from swift_debias.seeds import debias_seed, derive_seed


def test_a_seed_is_the_same_on_every_machine() -> None:
    """Of SHA-256 of "1/baseline/skin", the first eight bytes, without the sign bit."""
    assert derive_seed(1, "baseline", "skin") == 0x06EB2A5DA5EB287B >> 1


def test_parts_do_not_run_into_each_other() -> None:
    parts = [(1, 11), (11, 1), (1, 1, 1), (111,), ("a", "b"), ("ab",), ("b", "a"), ("a", "b", "")]
    seeds = [derive_seed(*part) for part in parts]
    assert all(one != other for one, other in combinations(seeds, 2))
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_repeat_has_draws_of_its_own_and_the_first_those_of_a_run_without() -> None:
    cell = (7, "skin", "net", "sex", 2)
    assert debias_seed(*cell, 0) == debias_seed(*cell) == derive_seed(7, "debias", *cell[1:])
    assert debias_seed(*cell, 1) == derive_seed(7, "debias", *cell[1:], 1)
    assert len({debias_seed(*cell, repeat) for repeat in range(20)}) == 20
