"""The JSON schema of deploy configs: editors complete and check from it."""

from __future__ import annotations

from pipeline.config.layers import SHORT
from pipeline.config.schema import DeployConfig
from pipeline.core.files import Json


def json_schema() -> Json:
    """The schema, with what `load_config` handles before validation added."""
    schema = DeployConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "figkd-pipeline deploy config"
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Another config, relative to this file, whose values this one refines.",
    }
    # A config that extends another may leave out what that one gives.
    schema.pop("required", None)
    for section in ("Data", "Teacher", "Student", "Target"):
        schema["$defs"][section].pop("required", None)
    for section in SHORT:
        schema["properties"][section] = {"anyOf": [{"type": "string"}, schema["properties"][section]]}
    return schema
