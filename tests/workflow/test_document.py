"""config/README.md is the settings models, written out."""

from pathlib import Path

from swift_debias import methods
from swift_debias.config import base, schema
from swift_debias.config.document import SECTIONS, document
from swift_debias.data import adapters

PROJECT = Path(__file__).resolve().parents[2]


def test_the_file_is_up_to_date() -> None:
    written = (PROJECT / "config" / "README.md").read_text(encoding="utf-8")
    assert written == document(adapters.options_models(), methods.settings_models()), (
        "run `make docs`"
    )


def test_every_settings_model_is_documented() -> None:
    models = {
        model
        for model in vars(schema).values()
        if isinstance(model, type)
        and issubclass(model, schema.BaseModel)
        and model.__module__ == schema.__name__
    }
    assert models - {base.Model} == {model for _, model in SECTIONS}
