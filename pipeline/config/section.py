"""The base of every section of a config."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

WITHOUT_SOURCE: dict[str, Any] = {"use_attribute_docstrings": False}
"""For `create_model`: searching for a source that there is not takes a second where torch is imported."""


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
