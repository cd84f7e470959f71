"""Which groups the methods compared, where there are more than two, and which is unprivileged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..evaluation.words import title
from ..files import read_json
from ..methods import _choice
from ..run import layout


def remarks(
    files: Iterable[Path], groups: Mapping[str, Sequence[str]], unprivileged_for: Sequence[str]
) -> list[str]:
    """What was chosen for each setup, with the AUCs by which it was.

    Args:
        files: `groups/{task}/{backbone}/{attribute}.json`.
        groups: attribute -> names of its groups, in the order of their indices.
        unprivileged_for: display names of methods that prune for the unprivileged group; none: it
            is not told.
    """
    found = []
    for path in files:
        keys = layout.keys("groups", path)
        names = dict(enumerate(groups[keys["attribute"]]))
        choice = _choice.Choice.from_json(read_json(path))
        place = f"{title(keys['attribute'])} ({title(keys['task'])}, {title(keys['backbone'])})"
        said = []
        if len(names) > 2:
            said.append(_pair(choice, names))
        if unprivileged_for:
            said.append(f"for {' and '.join(unprivileged_for)}, {_unprivileged(choice, names)}")
        if said:
            found.append(f"{place}: {'; '.join(said)}. {choice.note(names)}.")
    return found


def _pair(choice: _choice.Choice, names: Mapping[int, str]) -> str:
    if choice.pair is None:
        return "no two groups can be compared"
    one, other = (names[group] for group in choice.pair)
    return f"methods that compare two groups compare {one} and {other}"


def _unprivileged(choice: _choice.Choice, names: Mapping[int, str]) -> str:
    if choice.unprivileged is None:
        return "no group is unprivileged: one of the two has one class only"
    pair = choice.pair or (0, 1)
    return f"{names[pair[choice.unprivileged]]} is the unprivileged group (lower AUC)"
