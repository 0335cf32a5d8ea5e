"""What a person reads: text without hidden characters, on streams that never raise, in any encoding."""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import select
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_NAMED = {"\t": "\\t", "\r": "\\r"}
# One column each where a table is aligned by them: the layout is known before the encoding.
STAND_INS = {
    "✓": "+", "✗": "x", "○": "o", "†": "*", "Δ": "d", "−": "-", "–": "-", "—": "-", "─": "-", "━": "=", "╸": "-",
    "…": "...", "µ": "u", "μ": "u", "°": " deg ", "±": "+-", "×": "x", "≤": "<=", "≥": ">=", "→": "->", "·": ".",
    "’": "'", "‘": "'", "“": '"', "”": '"', "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip
"""What stands for a character that a stream's encoding lacks; a question mark for all others."""


def visible(text: str) -> str:
    r"""The text with everything that acts on a terminal or hides from the eye written out, such as ``\x1b``.

    Control characters, direction marks, zero-width characters, line separators and undecodable bytes: what Unicode
    calls Cc, Cf, Cs, Zl and Zp. Only the newline stays; whoever prints a name that may hold one uses `one_line`.
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(map(_shown, text.replace("\r\n", "\n")))


def one_line(text: str) -> str:
    r"""`visible`, with newlines written out too: a name cannot begin a line of its own."""
    return visible(text).replace("\n", "\\n")


def _shown(character: str) -> str:
    if character == "\n" or unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def ascii_json(document: str) -> str:
    """The same JSON document in ASCII; characters beyond it can stand only inside strings, where `\\u` is allowed."""
    return re.sub(r"[^\x00-\x7e]", _escape, document)


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(STAND_INS.get(c, "?") for c in error.object[error.start : error.end]), error.end


codecs.register_error("stand-in", _stand_in)


class _Descriptor(io.RawIOBase):
    """A descriptor that is written to for as long as that works; what comes after a fault is dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.fault: OSError | None = None

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a person sits there."""
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        """Write what the system takes; never raises."""
        while self.fault is None:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # somebody else made the pipe non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.fault = error
        return len(data)


def open_streams() -> None:
    """Let stdout and stderr of this process print anything and never raise; `close_streams` tells what failed.

    A descriptor that was closed becomes the null device, so that no file of ours gets its number. A stream that was
    replaced within Python (by a test) is left alone.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, descriptor)
            if null != descriptor:
                os.close(null)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of the process
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream: Any = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue
        raw = _Descriptor(descriptor)
        made = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=stream.encoding if stream else "utf-8",
            errors="stand-in",
            line_buffering=descriptor == 2 or raw.isatty(),
        )
        setattr(sys, name, made)


def close_streams() -> OSError | None:
    """Flush both streams; why stdout could not be written, None also where its reader only went away (`| head`)."""
    faults = {}
    for name, raw in _ours():
        getattr(sys, name).flush()
        faults[name] = raw.fault
    fault = faults.get("stdout")
    if fault is None or fault.errno == errno.EPIPE or (fault.errno == errno.EIO and os.isatty(1)):
        return None
    return fault


def _ours() -> Iterator[tuple[str, _Descriptor]]:
    for name in ("stdout", "stderr"):
        raw = getattr(getattr(getattr(sys, name), "buffer", None), "raw", None)
        if isinstance(raw, _Descriptor):
            yield name, raw
