"""The base of every row, and how rows are read and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from pipeline.core.files import write_json

R = TypeVar("R", bound=BaseModel)


class Row(BaseModel):
    """Plain values with a type; what is not known of a row is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def read_list(path: Path, row: type[R]) -> list[R]:
    """The rows of a JSON list.

    Raises:
        ValueError: the file is no list of such rows.
    """
    return TypeAdapter(list[row]).validate_json(path.read_bytes())  # type: ignore[valid-type]


def read_mapping(path: Path, row: type[R]) -> dict[str, R]:
    """The rows of a JSON object, by name.

    Raises:
        ValueError: the file is no object of such rows.
    """
    return TypeAdapter(dict[str, row]).validate_json(path.read_bytes())  # type: ignore[valid-type]


def write_list(path: Path, rows: Sequence[BaseModel]) -> None:
    """Write rows as a JSON list, whole or not at all."""
    write_json(path, [row.model_dump(mode="json") for row in rows])


def write_mapping(path: Path, rows: Mapping[str, BaseModel]) -> None:
    """Write rows as a JSON object by name, whole or not at all."""
    write_json(path, {name: row.model_dump(mode="json") for name, row in rows.items()})
