"""Every key of the configuration has a test that asserts what it does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.keys import walk
from tests.keys.conftest import PROJECT, changed
from tests.keys.freeze import freeze

from swift_debias import methods
from swift_debias.config import base, load, schema
from swift_debias.config.cluster import Cluster
from swift_debias.config.schema import Finetuning, Optimizer
from swift_debias.data import adapters


def all_below(model: type[base.Model]) -> set[type[base.Model]]:
    """The models that are derived from a model, and those derived from them."""
    return {model}.union(*map(all_below, model.__subclasses__()))


def is_ours(model: type[base.Model]) -> bool:
    """Whether a model is of the library, and not of a method's file that another test wrote."""
    module = sys.modules.get(model.__module__)
    folder = Path(base.__file__).parents[1]
    return module is not None and Path(str(module.__file__)).is_relative_to(folder)


def test_the_walk_finds_every_settings_model() -> None:
    """Also those that an adapter or a method defines beside its own options and settings."""
    walked = set(walk.models().values())  # every adapter and method is imported now
    # where a configuration's models are; the front door and the claims have models of their own
    rooms = tuple(f"swift_debias.{room}" for room in ("config", "data.adapters", "methods"))
    library = {m for m in all_below(base.Model) if m.__module__.startswith(rooms) and is_ours(m)}
    library -= {Cluster}  # of a cluster's own file, not of a configuration
    library -= {m for m in library if m.__module__ == "swift_debias.methods._common"}
    assert walked <= library | {schema.Method}
    bases = library - walked  # of those that the configuration names
    assert all(any(issubclass(model, above) for model in walked) for above in bases)


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


def test_a_frozen_key_reads_as_its_default() -> None:
    """In objects that are there already too; one without a default stays at the first value."""
    before = Finetuning(lr_head=0.5, lr_extractor=0.25)
    optimizers = [Optimizer(name=name, lr=1) for name in ("adam", "sgd")]
    try:
        freeze("finetuning.lr_head")
        freeze("optimizer.name")
        for settings in (before, Finetuning(lr_head=0.5, lr_extractor=0.25)):
            assert (settings.lr_head, settings.lr_extractor) == (1e-3, 0.25)
            written = settings.model_dump()
            assert (written["lr_head"], written["lr_extractor"]) == (1e-3, 0.25)
        assert [optimizer.name for optimizer in optimizers] == ["adam", "adam"]
    finally:
        for model, key in ((Finetuning, "lr_head"), (Optimizer, "name")):
            delattr(model, key)
            del model.model_dump
    assert before.lr_head == before.model_dump()["lr_head"] == 0.5
    assert [optimizer.name for optimizer in optimizers] == ["adam", "sgd"]


def test_a_frozen_method_is_like_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_inherit", load._inherit)  # put back afterwards
    raw = changed({"methods.other": {"algorithm": "llft", "like": "llft"}})

    def steps() -> list[int | None]:
        settings = load.load(
            raw, PROJECT, algorithms=methods.settings_models(), adapters=adapters.options_models()
        )
        return [settings.methods[name].settings.get("steps") for name in ("llft", "other")]

    assert steps() == [3, 3]
    freeze("method.like")
    assert steps() == [3, None]
