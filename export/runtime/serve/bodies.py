"""Bodies as they were before the client compressed them, bounded. Pure."""

from __future__ import annotations

import zlib

from .http import HttpError

_ZLIB, _GZIP, _RAW = 15, 31, -15
_TAKEN = ("Accept-Encoding", "gzip, deflate")


def is_encoded(encoding: str) -> bool:
    """Whether a Content-Encoding changes the body."""
    return encoding.lower() not in ("", "identity")


def decoded(body: bytes, encoding: str, most: int) -> bytes:
    """A body without its Content-Encoding, of at most so many bytes.

    Raises:
        HttpError: the encoding is not known, the body is damaged, or too large.
    """
    word = encoding.lower()
    if not is_encoded(word):
        return body
    if word not in ("gzip", "x-gzip", "deflate"):
        raise HttpError(415, "Content-Encoding is gzip or deflate", headers=(_TAKEN,))
    window = _GZIP if word != "deflate" else _ZLIB if _is_zlib(body) else _RAW
    stream = zlib.decompressobj(window)
    try:
        plain = stream.decompress(body, most + 1)
    except zlib.error:
        raise HttpError(400, "the body is no valid %s" % word) from None
    if len(plain) > most:
        raise HttpError(413, "the body has more than %d bytes" % most, "too_large")
    if not stream.eof or stream.unused_data:
        raise HttpError(
            400, "the body is no valid %s: %s" % (word, "more follows" if stream.eof else "cut off")
        )
    return plain


def _is_zlib(body: bytes) -> bool:
    """Deflate is sent with and without zlib's header (RFC 9110, 8.4.1.2)."""
    return len(body) >= 2 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
