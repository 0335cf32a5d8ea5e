"""Canonical JSON: one value, one sequence of bytes.

UTF-8, keys sorted by code point, no white space, one newline at the end; values are texts, whole numbers of at most 63
bits, lists and objects with text keys. Reading refuses whatever writing would not have written, so that two
readers cannot understand the same bytes differently.
"""

import json
import re
from typing import Any

from .errors import BundleRefused
from .strict_json import DEPTH, once

_MOST = (1 << 63) - 1
_INTEGER = re.compile(r"-?[0-9]{1,19}\Z")


def encode(value: Any) -> bytes:
    """The canonical bytes of a value.

    Raises:
        ValueError: it holds something that canonical JSON does not, or is too deep.
    """
    _check(value, DEPTH)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return (text + "\n").encode("utf-8")


def decode(data: bytes, name: str) -> Any:
    """The value of canonical bytes.

    Args:
        data: of a file.
        name: of that file, for messages.

    Raises:
        BundleRefused: these are not the bytes that `encode` writes for any value.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=once,
            parse_int=_integer,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
        again = encode(value)
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else str(error)[:120]
        raise BundleRefused("%s is not canonical JSON: %s" % (name, reason)) from None
    if again != data:
        raise BundleRefused("%s is not canonical JSON: it can be written in another way" % name)
    return value


def _check(value: Any, depth: int) -> None:
    if depth < 0:
        raise ValueError("nested more than %d levels deep" % DEPTH)
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError("a key that is no text")
            _check(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth - 1)
    elif isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError("a value of the type %s" % type(value).__name__)
    elif isinstance(value, int) and not -_MOST <= value <= _MOST:
        raise ValueError("a number of more than 63 bits")


def _integer(text: str) -> int:
    if not _INTEGER.match(text):
        raise ValueError("a number of more than 19 digits")
    return int(text)


def _no_number(text: str) -> Any:
    raise ValueError("%s, which is no whole number" % text[:40])
