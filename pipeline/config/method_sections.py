"""The sections `distill.<method>`, made from the table of methods."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from pydantic import Field, create_model

from figkd.loss.methods import METHODS
from pipeline.config.bounds import FilePath
from pipeline.config.section import WITHOUT_SOURCE, Section

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]
# A path of a config is bounded, as everything in it is.
_BOUNDED = {Path: FilePath, Path | None: FilePath | None}


def sections() -> dict[str, tuple[type[Section], Any]]:
    """Fields of `distill` by name: type, and default with description. Methods may share one, or have none."""
    users: dict[str, list[str]] = {}
    for method in METHODS.values():
        if dataclasses.fields(method.options):
            users.setdefault(method.section, []).append(method.name)
    return {name: _field(METHODS[methods[0]].options, methods) for name, methods in users.items()}


def _field(options: type[Any], methods: list[str]) -> tuple[type[Section], Any]:
    section = _section(options)
    first, *others = (f"`{name}`" for name in methods)
    words = " and ".join([f"`method: {first[1:]}", *others])
    return section, Field(default=section(), description=f"Options of {words}.")


def _section(options: type[Any]) -> type[Section]:
    """A section that is one of `options` too, which is how its readers see it."""
    hints = get_type_hints(options, include_extras=True)
    fields: dict[str, Any] = {
        field.name: (
            _BOUNDED.get(hints[field.name], hints[field.name]),
            Field(default=field.default, description=field.metadata["meaning"]),
        )
        for field in dataclasses.fields(options)
    }
    return create_model(
        options.__name__,
        __base__=(Section, options),
        __doc__=options.__doc__,
        __cls_kwargs__=WITHOUT_SOURCE,
        **fields,
    )
