"""config/README.md and config/schema.json are the settings models, written out."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from swift_debias import methods
from swift_debias.config import base, schema, sections
from swift_debias.config.document import SECTIONS, document, json_schema
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
        and issubclass(model, BaseModel)
        and model.__module__.startswith((schema.__name__, sections.__name__))
    }
    assert models - {base.Model} == {model for _, model in SECTIONS}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema(adapters.options_models(), methods.settings_models())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_is_up_to_date(validator: jsonschema.Draft202012Validator) -> None:
    written = (PROJECT / "config" / "schema.json").read_text(encoding="utf-8")
    assert json.loads(written) == validator.schema, "run `make docs`"


CONFIGS = sorted((PROJECT / "config").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_fits_the_schema(
    path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    problems = list(validator.iter_errors(yaml.safe_load(path.read_text(encoding="utf-8"))))
    assert not problems, problems[0].message


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_names_the_schema_for_editors(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=schema.json"


@pytest.mark.parametrize(
    "wrong",
    [
        {"fold": 5},
        {"folds": "five"},
        {"datasets": {"x": {"adapter": "table", "tabel": "t.csv"}}},
        {"datasets": {"x": {"adapter": "isic2021"}}},
        {"methods": {"x": {"algorithm": "swift", "prediction_weight": 0.5}}},
        {"methods": {"x": {"algorithm": "swift", "prediction_weight_1": 2}}},
        {"methods": {"x": {"algorithm": "shift"}}},
        {"tasks": {"x": {"images": {"mean": [0.5, 0.5, 0.5], "sdt": [1, 1, 1]}}}},
    ],
    ids=str,
)
def test_the_schema_refuses(
    wrong: dict[str, Any], validator: jsonschema.Draft202012Validator
) -> None:
    assert not validator.is_valid(wrong)
    assert validator.is_valid({"methods": {"x": None, "y": {"like": "z", "rate": 1}}})
