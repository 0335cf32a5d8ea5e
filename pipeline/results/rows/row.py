"""The base of every row, and how rows are read and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pipeline.core.errors import ConfigError
from pipeline.core.files import read_bytes, write_json

R = TypeVar("R", bound=BaseModel)
_MOST_BYTES = 256 << 20
"""Of a document; a larger file is not read."""


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


def read_document(path: Path, model: type[R], command: str) -> R:
    """A document that a command leaves for people and for later commands.

    Raises:
        ConfigError: there is no such file, or it is none that `command` writes.
    """
    fix = f"write it with: {command}"
    try:
        return model.model_validate_json(read_bytes(path, _MOST_BYTES))
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), fix=fix) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))[:80]
        what = f"{place}: {first['msg']}" if place else first["msg"]
        raise ConfigError(f"is no {path.name} of this version ({what})", where=str(path), fix=fix) from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or error}", where=str(path), fix=fix) from error
    except ValueError as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), fix=fix) from error


def write_list(path: Path, rows: Sequence[BaseModel]) -> None:
    """Write rows as a JSON list, whole or not at all."""
    write_json(path, [row.model_dump(mode="json") for row in rows])


def write_mapping(path: Path, rows: Mapping[str, BaseModel]) -> None:
    """Write rows as a JSON object by name, whole or not at all."""
    write_json(path, {name: row.model_dump(mode="json") for name, row in rows.items()})
