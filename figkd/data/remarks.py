"""What was done to an image beyond resizing it, so that no content is lost without a word."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

Remark = Literal[
    "transparent_on_white",
    "invisible",
    "cmyk_to_rgb",
    "other_colours_to_rgb",
    "first_of_several",
    "scaled_to_8_bits",
    "clipped",
    "range_unknown",
    "cut_to_8_bits",
]
"""Kinds of remarks, as data.json counts them."""

WORDS: dict[Remark, str] = {
    "transparent_on_white": "transparent, shown on white",
    "invisible": "wholly transparent, and so white",
    "cmyk_to_rgb": "CMYK, converted to RGB without a colour profile",
    "other_colours_to_rgb": "YCbCr, LAB or HSV, converted to RGB",
    "first_of_several": "several pages or frames, the first one used",
    "scaled_to_8_bits": "more than 8 bits a value, scaled to 8",
    "clipped": "values beyond the data set's range, clipped",
    "range_unknown": "more than 8 bits a value, of a kind that no training image has",
    "cut_to_8_bits": "colour of more than 8 bits a value, of which the decoder gives the upper 8 bits only",
}
"""The same in words."""

assert set(WORDS) == set(get_args(Remark))

_lock = threading.Lock()
_listeners = 0
_before: tuple[Any, ...] = ()
_heard = threading.local()


@contextmanager
def listening() -> Iterator[None]:
    """Keep Pillow's warnings from the terminal within the block; `heard` gives those of a thread.

    Blocks may overlap in any order: the first one to begin puts the listener in, the last one to end takes it out.
    `warnings.catch_warnings` cannot: it restores what it found, and threads find each other's.
    """
    global _listeners, _before
    with _lock:
        _listeners += 1
        if _listeners == 1:
            _before = (warnings.showwarning, _listener(warnings.showwarning), _filter())
            warnings.showwarning = _before[1]
    try:
        yield
    finally:
        with _lock:
            _listeners -= 1
            if not _listeners:
                # Whoever put in another hook or other filters meanwhile keeps them.
                if warnings.showwarning is _before[1]:
                    warnings.showwarning = _before[0]
                if _before[2] in warnings.filters:
                    warnings.filters.remove(_before[2])  # type: ignore[attr-defined]
                _before = ()


@contextmanager
def heard() -> Iterator[list[str]]:
    """A list that gets the texts of this thread's warnings within the block, inside of `listening`."""
    texts: list[str] = []
    _heard.texts = texts
    try:
        yield texts
    finally:
        del _heard.texts


def _filter() -> tuple[Any, ...]:
    warnings.filterwarnings("always", module=r"PIL\.")
    return warnings.filters[0]


def _listener(shown: Any) -> Any:
    def listen(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
        texts = getattr(_heard, "texts", None)
        if texts is None:
            shown(message, category, filename, lineno, *rest)
        else:
            texts.append(" ".join(str(message).split())[:120])

    return listen
