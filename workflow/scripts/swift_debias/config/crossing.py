"""A complete crossing of settings: variants that differ in k settings of two values each, all 2**k.

What a setting is worth is then the mean over all combinations of the others (a factorial design;
Box, Hunter and Hunter, Statistics for Experimenters, chapter 5). Settings that only change together
are one factor: two variants are always a crossing, whatever they differ in.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product
from typing import Any, NamedTuple

NAMES = ("title", "like", "search")  # keys of a variant that change nothing that it computes


class Crossing(NamedTuple):
    """The factors, and where each variant stands."""

    factors: dict[str, tuple[Any, Any]]  # setting -> its value in the first variant, and the other
    levels: dict[str, tuple[int, ...]]  # variant -> 0 or 1 for each factor

    def effects(self) -> dict[tuple[str, ...], dict[str, float]]:
        """Each main effect and interaction of two factors, with the weight of every variant in it.

        A main effect is the mean with a factor's second value minus that with its first. An
        interaction is half of what the second value of one factor adds to the effect of the other.
        """
        names = list(self.factors)
        half = len(self.levels) / 2
        found = {}
        for some in (*combinations(names, 1), *combinations(names, 2)):
            places = [names.index(name) for name in some]
            weights = {}
            for variant, levels in self.levels.items():
                sign = 1
                for place in places:
                    sign *= 2 * levels[place] - 1
                weights[variant] = sign / half
            found[some] = weights
        return found


def crossing(variants: Mapping[str, Mapping[str, Any]]) -> Crossing:
    """The factors of variants, told by their settings; the first has the first value of each.

    Args:
        variants: name -> all settings, defaults filled in.

    Raises:
        ValueError: they are no complete crossing; says what is in the way.
    """
    plain = {
        name: {key: value for key, value in of.items() if key not in NAMES}
        for name, of in variants.items()
    }
    first = next(iter(plain.values()))
    factors: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys(key for of in plain.values() for key in of):
        values = [of.get(key) for of in plain.values()]
        others = [value for value in values if value != first.get(key)]
        if any(other != others[0] for other in others):
            raise ValueError(f"{key} has more than two values: {_listed(values)}")
        if others:
            factors[key] = (first.get(key), others[0])
    factors = _without_aliases(factors, list(plain.values()))
    levels = {
        name: tuple(int(of.get(key) != start) for key, (start, _) in factors.items())
        for name, of in plain.items()
    }
    for one, other in combinations(levels, 2):
        if levels[one] == levels[other]:
            raise ValueError(f"{one} and {other} have the same settings")
    for wanted in product((0, 1), repeat=len(factors)):
        if wanted not in levels.values():
            point = zip(factors.items(), wanted, strict=True)
            said = ", ".join(f"{key}: {values[level]}" for (key, values), level in point)
            raise ValueError(f"{len(factors)} settings differ, and no method has {said}")
    if not factors:
        raise ValueError("name two methods or more")
    return Crossing(factors, levels)


def _without_aliases(
    factors: Mapping[str, tuple[Any, Any]], variants: list[dict[str, Any]]
) -> dict[str, tuple[Any, Any]]:
    """Of settings that change together the first; the algorithm before its settings."""
    found: dict[tuple[bool, ...], str] = {}
    for key in sorted(factors, key=lambda name: name != "algorithm"):
        found.setdefault(tuple(of.get(key) == factors[key][0] for of in variants), key)
    return {key: values for key, values in factors.items() if key in found.values()}


def _listed(values: list[Any]) -> str:
    """Different values, in order."""
    return ", ".join(dict.fromkeys(map(str, values)))
