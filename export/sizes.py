"""Sizes that a file leaves open, as a command line gives them; light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_LARGEST = 1 << 16
HELP = "a size that the file leaves open, by its name or its place in the shape: H=224 or 2=224"


@dataclass(frozen=True)
class Sizes:
    """Numbers for the open sizes of an input.

    Attributes:
        side: of the height and the width, pixels; None where `named` says all.
        named: size by its name in the file, or by its place in the shape, such as `2`.
    """

    side: int | None = None
    named: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.side is not None or bool(self.named)


AS_THEY_ARE = Sizes()


def named_size(text: str) -> tuple[str, int]:
    """Name and number of `NAME=SIZE`.

    Raises:
        ValueError: it is something else.
    """
    name, _, number = text.rpartition("=")
    if not name or not number.isascii() or not number.isdigit() or not 0 < int(number[:9]) <= _LARGEST:
        raise ValueError(f"{text!r} is not NAME=SIZE, such as H=224")
    return name, int(number)
