"""MATLAB files of version 5 and later: looked through before SciPy reads them.

SciPy takes the number of a type as the place in a table, without a look at the table's length: a byte that flipped in
a list ends the process. Here every element is seen to have a type that exists, and to end inside of what holds it.
"""

from __future__ import annotations

import math
import struct
import zlib

_HEADER = 128
_BYTES = 1 << 26
_DEPTH = 16
_MATRIX, _COMPRESSED = 14, 15
# miINT8 to miUINT64, miMATRIX, miCOMPRESSED and the three kinds of text.
_TYPES = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14, 15, 16, 17, 18}
# All but sparse matrices, whose shape says nothing of their bytes.
_CLASSES = {1, 2, 3, 4, *range(6, 16)}
_DIMENSIONS = 8


def look_through(data: bytes) -> None:
    """See that a MATLAB file can be read.

    Raises:
        ValueError: it is of another version or byte order, or damaged.
    """
    if len(data) < _HEADER or data[124:128] != b"\x00\x01IM":
        raise ValueError("it is no MATLAB file of version 5")
    _elements(data, _HEADER, len(data), 0)


def _elements(data: bytes, place: int, end: int, depth: int) -> None:
    """Look at the elements from `place` to `end`; those of a matrix are inside of it."""
    if depth > _DEPTH:
        raise ValueError("it is nested too deeply")
    number, held = 0, end - place
    while place < end:
        if end - place < 8:
            raise ValueError("it is cut off")
        kind, size = struct.unpack_from("<II", data, place)
        start = place + 8
        if kind >> 16:  # a small element: its size and its data in the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            if size > 4:
                raise ValueError("it has an element that does not fit")
            place += 8
        else:
            place = start + size
            place += 0 if kind == _COMPRESSED else -place % 8
        if kind not in _TYPES or start + size > end:
            raise ValueError(f"it has an element of the type {kind} and {size:,} bytes, which cannot be")
        if depth and number == 0 and (kind != 6 or size != 8 or data[start] not in _CLASSES):
            raise ValueError("it has a matrix of a class that no list has")
        if depth and number == 1:
            sizes = (
                struct.unpack_from(f"<{size // 4}i", data, start) if kind == 5 and size % 4 == 0 else (-1,)
            )
            # Each value takes a byte at least, so that a matrix cannot have more of them than bytes.
            if not 2 <= len(sizes) <= _DIMENSIONS or min(sizes) < 0 or math.prod(sizes) > held:
                raise ValueError("it has a matrix of a shape that its bytes do not have")
        if kind == _MATRIX and size:
            _elements(data, start, start + size, depth + 1)
        elif kind == _COMPRESSED:
            if depth:
                raise ValueError("it has a compressed element inside of another")
            inner = zlib.decompressobj().decompress(data[start : start + size], _BYTES + 1)
            if len(inner) > _BYTES or inner[:4] == b"\x0f\0\0\0":
                raise ValueError("it has more compressed data than a list")
            _elements(inner, 0, len(inner), 0)
        number += 1
