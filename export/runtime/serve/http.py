"""HTTP/1.1: bytes to requests, responses to bytes. Pure. What two readers could understand differently is refused.

RFC 9112. Two things are left out on purpose: chunked bodies (411: a length is asked for, 11.2 explains what
mixing both allows), and folded headers (5.2).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Tuple

MOST_HEAD = 16 << 10
"""Bytes of the request line and the headers."""
_MOST_HEADERS = 100
_SHORT = 1024
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_LINE = re.compile(rb"(" + _TOKEN + rb"{1,32}) ([!-~]{1,8000}) HTTP/([0-9])\.([0-9])\Z")
_NAME = re.compile(_TOKEN + rb"{1,200}\Z")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*\Z")
_LENGTH = re.compile(r"[0-9]{1,15}\Z")
_ONCE = frozenset(
    {
        "content-length",
        "transfer-encoding",
        "host",
        "content-type",
        "content-encoding",
        "expect",
        "inference-header-content-length",
    }
)
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = "application/json"


class HttpError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: of the response.
        what: one sentence for the client.
        kind: what it is counted as.
        closes: whether the connection ends: nobody knows where the next request would begin.
        headers: more of the response.
    """

    def __init__(
        self,
        status: int,
        what: str,
        kind: str = "bad_request",
        *,
        closes: bool = False,
        headers: Tuple[Tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(what)
        self.status, self.what, self.kind, self.closes, self.headers = status, what, kind, closes, headers


@dataclass(frozen=True)
class Head:
    """The request line and the headers."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """By name in lower case."""
    length: int
    """Bytes of the body."""
    keep_alive: bool
    expects_continue: bool = False


@dataclass(frozen=True)
class Request:
    """A whole request."""

    head: Head
    body: bytes


@dataclass(frozen=True)
class Response:
    """What is sent back."""

    status: int
    body: bytes = b""
    type: str = JSON
    headers: Tuple[Tuple[str, str], ...] = field(default=())


def end_of_head(buffer: bytearray) -> Optional[int]:
    """Where the body begins; None while the head is not complete.

    Raises:
        HttpError: it is too long.
    """
    end = buffer.find(b"\r\n\r\n", 0, MOST_HEAD)
    if end >= 0:
        return end + 4
    if len(buffer) >= MOST_HEAD:
        raise HttpError(431, "the head has more than %d bytes" % MOST_HEAD, "too_large", closes=True)
    return None


def parse_head(data: bytes) -> Head:
    """The head in these bytes, which end with an empty line.

    A client's requests have mostly the same head: short ones are remembered.

    Raises:
        HttpError: it is none, or one that readers could understand differently.
    """
    return _remembered(data) if len(data) <= _SHORT else _parse_head(data)


def _parse_head(data: bytes) -> Head:
    line, *rows = data[:-4].split(b"\r\n")
    found = _LINE.match(line)
    if not found:
        raise _bad("the request line is not METHOD TARGET HTTP/1.1")
    method, target, major, minor = found.groups()
    if major != b"1":
        raise HttpError(505, "HTTP/1.1 is spoken here", closes=True)
    headers = _headers(rows)
    is_new = minor != b"0"
    if is_new and "host" not in headers:
        raise _bad("there is no Host header")
    path, _, query = _path(target.decode("ascii"), method).partition("?")
    options = [word.strip().lower() for word in headers.get("connection", "").split(",")]
    keep_alive = "close" not in options and (is_new or "keep-alive" in options)
    return Head(
        method.decode("ascii"), path, query, headers, _length(headers), keep_alive, _continues(headers)
    )


def encode(response: Response, *, keep_alive: bool, without_body: bool = False) -> bytes:
    """The bytes of a response; `without_body` for an answer to HEAD."""
    lines = [
        "HTTP/1.1 %d %s" % (response.status, _REASONS[response.status]),
        "Content-Type: " + response.type,
        "Content-Length: %d" % len(response.body),
    ]
    lines += ["%s: %s" % pair for pair in response.headers]
    lines += [] if keep_alive else ["Connection: close"]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if without_body else head + response.body


_remembered = functools.lru_cache(maxsize=256)(_parse_head)


def _bad(what: str) -> HttpError:
    return HttpError(400, what, closes=True)


def _headers(rows: "list[bytes]") -> Dict[str, str]:
    if len(rows) > _MOST_HEADERS:
        raise HttpError(431, "there are more than %d headers" % _MOST_HEADERS, "too_large", closes=True)
    headers: Dict[str, str] = {}
    for row in rows:
        name, colon, value = row.partition(b":")
        if not colon or not _NAME.match(name) or not _VALUE.match(value):
            raise _bad("a header is not NAME: VALUE")
        key, text = name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")
        if key in headers and key in _ONCE:
            raise _bad("%s stands twice" % key)
        headers[key] = "%s, %s" % (headers[key], text) if key in headers else text
    return headers


def _path(target: str, method: bytes) -> str:
    """The path and query of a target: origin form, or absolute form, which every server has to take."""
    if target.startswith("/"):
        return target
    scheme, separator, rest = target.partition("://")
    if separator and scheme.lower() in ("http", "https") and method != b"CONNECT":
        return "/" + rest.partition("/")[2]
    raise _bad("the target of the request is no path")


def _length(headers: Mapping[str, str]) -> int:
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise _bad("there are both Content-Length and Transfer-Encoding")
        if coding.lower() == "chunked":
            raise HttpError(411, "a body needs Content-Length; chunked ones are not read", closes=True)
        raise HttpError(501, "this transfer coding is not known", closes=True)
    if length is None:
        return 0
    if not _LENGTH.match(length):
        raise _bad("Content-Length is no number")
    return int(length)


def _continues(headers: Mapping[str, str]) -> bool:
    expected = headers.get("expect")
    if expected is None:
        return False
    if expected.lower() != "100-continue":
        raise HttpError(417, "only 100-continue can be expected", closes=True)
    return True
