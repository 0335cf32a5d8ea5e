"""Every value of a config has a bound: numbers, lists, mappings and paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config.json_schema import json_schema
from pipeline.config.schema import DeployConfig

# Compared with measured numbers, and nothing else.
ONLY_COMPARED = {"Goal.min", "Goal.max"}
# Training ends with "the loss is nan ... lower the learning rate" long before a number overflows.
TOLD_BY_TRAINING = {"Teacher.lr", "Distill.lr"}
# The check of each data set knows its options; whole numbers have 64 bits at most, as everywhere.
OF_A_DATA_SET = {"Data.options"}


def _types(name: str, schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every type below a schema, with the section and key that it belongs to."""
    if isinstance(schema, dict):
        if "type" in schema:
            yield name, schema
        for key, inner in schema.items():
            if key not in ("properties", "$defs", "default"):
                yield from _types(name, inner)
        for key, inner in schema.get("properties", {}).items():
            yield from _types(f"{name}.{key}", inner)
        for section, inner in schema.get("$defs", {}).items():
            yield from _types(section, inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _types(name, inner)


TYPES = list(_types("", json_schema()))


def test_every_number_has_an_upper_bound() -> None:
    """Or a typing error becomes a wait of centuries, or memory that no machine has."""
    numbers = [(name, schema) for name, schema in TYPES if schema["type"] in ("integer", "number")]
    unbounded = {name for name, schema in numbers if not {"maximum", "exclusiveMaximum"} & set(schema)}
    assert unbounded == ONLY_COMPARED | TOLD_BY_TRAINING | OF_A_DATA_SET
    assert len(numbers) > 90


def test_every_list_and_mapping_has_a_largest_length() -> None:
    """Checks compare lists with each other; that stays quick."""
    lists = {name: schema for name, schema in TYPES if schema["type"] == "array"}
    assert len(lists) > 12 and not {name for name, schema in lists.items() if "maxItems" not in schema}
    mappings = {
        name: schema
        for name, schema in TYPES
        if schema["type"] == "object" and isinstance(schema.get("additionalProperties"), dict)
    }
    assert len(mappings) > 3
    assert not {name for name, schema in mappings.items() if "maxProperties" not in schema}


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, f"a/{'x' * 256}/b", "x/" * 101, f"{'y' * 200}/" * 20])
def test_a_path_that_no_system_takes_is_refused(name: str) -> None:
    """At the config, and not by an exception of the system after hours."""
    values = {
        "name": "demo",
        "data": {"dataset": "fonts"},
        "teacher": {"model": "figkd/resnet_tiny"},
        "student": {"model": "figkd/dsconv_nano"},
        "targets": {"cpu": {"engine": "onnxruntime"}},
    }
    assert DeployConfig.model_validate(values | {"output": name[:100]}).output == Path(name[:100])
    with pytest.raises(ValidationError, match="must be a path"):
        DeployConfig.model_validate(values | {"output": name})
