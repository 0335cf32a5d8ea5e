"""The text format of protocol buffers, as far as a model configuration needs it.

Source: https://protobuf.dev/reference/protobuf/textformat-spec.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Enum:
    """A value of an enumeration, which is written without quotes."""

    name: str


Scalar = str | int | bool | Enum
Field = tuple[str, "Scalar | Sequence[int] | Message"]
Message = Sequence[Field]
"""Fields in the order in which they are written; a name may stand several times."""


def text_of(message: Message) -> str:
    """A message as text, a field a line."""
    return "\n".join(_lines(message)) + "\n"


def _lines(message: Message, indent: str = "") -> Iterator[str]:
    for name, value in message:
        if isinstance(value, str | bool | int | Enum):
            yield f"{indent}{name}: {_scalar(value)}"
        elif not value or isinstance(value[0], int):
            yield f"{indent}{name}: [{', '.join(map(str, value))}]"
        else:
            yield f"{indent}{name} {{"
            yield from _lines([field for field in value if isinstance(field, tuple)], f"{indent}  ")
            yield f"{indent}}}"


def _scalar(value: Scalar) -> str:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    """A string literal: what is not printable ASCII as octal bytes of its UTF-8."""
    written = (
        f"\\{byte:03o}" if byte < 0x20 or byte > 0x7E else ("\\" if byte in b'"\\' else "") + chr(byte)
        for byte in text.encode("utf-8")
    )
    return f'"{"".join(written)}"'
