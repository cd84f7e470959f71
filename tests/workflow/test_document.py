"""config/README.md is the settings models, written out."""

from pathlib import Path

from swift_debias import settings
from swift_debias.settings_document import SECTIONS, document

PROJECT = Path(__file__).resolve().parents[2]


def test_the_file_is_up_to_date() -> None:
    written = (PROJECT / "config" / "README.md").read_text(encoding="utf-8")
    assert written == document(), "run `make docs`"


def test_every_settings_model_is_documented() -> None:
    models = {
        model
        for model in vars(settings).values()
        if isinstance(model, type)
        and issubclass(model, settings.BaseModel)
        and model.__module__ == settings.__name__
    }
    assert models - {settings.Model} == {model for _, model in SECTIONS}
