"""JSON of files that others write: bounded, each key once. What is canonical besides is read by `canonical`."""

from __future__ import annotations

import json
from typing import Any

from .errors import BundleRefused

DEPTH = 16


def read(data: bytes, name: str, most: int) -> Any:
    """The value in a file's bytes.

    Raises:
        BundleRefused: it is larger than `most` bytes, too deep, no JSON, or has a key twice.
    """
    if len(data) > most:
        raise BundleRefused("%s has more than %d bytes" % (name, most))
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_int=_integer)
        _check(value, DEPTH)
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else str(error)[:120]
        raise BundleRefused("%s is not JSON that can be used: %s" % (name, reason)) from None
    return value


def once(pairs: Any) -> Any:
    """An object of key and value pairs; ValueError where a key stands in it twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _integer(text: str) -> int:
    if len(text) > 19:
        raise ValueError("a number of more than 19 digits")
    return int(text)


def _check(value: Any, depth: int) -> None:
    if depth < 0:
        raise ValueError("nested more than %d levels deep" % DEPTH)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for inner in inside:
        _check(inner, depth - 1)
