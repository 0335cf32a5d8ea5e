"""Protects: bytes from the network become one request, or an error; nothing that two readers could read differently."""

from __future__ import annotations

import random
import zlib

import pytest

from export.runtime.serve.bodies import decoded
from export.runtime.serve.http import MOST_HEAD, HttpError, Response, encode, end_of_head, parse_head


def _head(*rows: str, line: str = "POST /classify?top=3 HTTP/1.1", host: str = "Host: here") -> bytes:
    return "".join(f"{row}\r\n" for row in [line, *([host] if host else []), *rows, ""]).encode("latin-1")


def test_a_request_line_and_headers() -> None:
    head = parse_head(_head("Content-Length: 12", "X-A: 1", "x-a:\t2 "))
    assert (head.method, head.path, head.query, head.length) == ("POST", "/classify", "top=3", 12)
    assert head.headers["x-a"] == "1, 2"
    assert head.keep_alive and not head.expects_continue
    assert parse_head(_head("Expect: 100-Continue")).expects_continue
    assert not parse_head(_head("Connection: Keep-Alive, Close")).keep_alive
    assert not parse_head(_head(line="GET / HTTP/1.0", host="")).keep_alive
    assert parse_head(_head("Connection: keep-alive", line="GET / HTTP/1.0", host="")).keep_alive
    assert parse_head(_head(line="GET http://there/v2?a HTTP/1.1")).path == "/v2"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (_head("Content-Length: 5", "Transfer-Encoding: chunked"), 400),
        (_head("Content-Length: 5", "Content-Length: 5"), 400),
        (_head("Content-Length: 5", "content-length: 6"), 400),
        (_head("Content-Length: 5, 5"), 400),
        (_head("Content-Length: +5"), 400),
        (_head("Content-Length: -5"), 400),
        (_head("Content-Length: 0x5"), 400),
        (_head("Content-Length: 5 5"), 400),
        (_head("Content-Length:"), 400),
        (_head("Content-Length: " + "9" * 16), 400),
        (_head("Content-Length: \xb2"), 400),
        (_head("Transfer-Encoding: chunked"), 411),
        (_head("Transfer-Encoding: gzip, chunked"), 501),
        (_head("Transfer-Encoding: xchunked"), 501),
        (_head("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), 400),
        (_head("X: 1", " folded"), 400),
        (_head("X: 1", "\tfolded"), 400),
        (_head("Content-Length : 5"), 400),
        (_head(" Content-Length: 5"), 400),
        (_head("no colon"), 400),
        (_head(": empty"), 400),
        (_head("X: a\x00b"), 400),
        (_head("X: a\nContent-Length: 5"), 400),
        (_head("X: a\rY: b"), 400),
        (_head(host=""), 400),
        (_head("Host: there"), 400),
        (_head("Expect: tea"), 417),
        (_head(line="GET / HTTP/2.0"), 505),
        (_head(line="GET / HTTP/1.1 "), 400),
        (_head(line="GET  / HTTP/1.1"), 400),
        (_head(line="GET /"), 400),
        (_head(line="GET / http/1.1"), 400),
        (_head(line="GET /\x7f HTTP/1.1"), 400),
        (_head(line="GET v2 HTTP/1.1"), 400),
        (_head(line="GET ftp://a/b HTTP/1.1"), 400),
        (_head(line="CONNECT a:80 HTTP/1.1"), 400),
        (_head(line="OPTIONS * HTTP/1.1"), 400),
        (_head(line="G\xe9T / HTTP/1.1"), 400),
        (_head(*(f"X{i}: 1" for i in range(200))), 431),
        (b"\r\n\r\n", 400),
    ],
)
def test_what_is_refused_ends_the_connection(data: bytes, status: int) -> None:
    with pytest.raises(HttpError) as caught:
        parse_head(data)
    assert (caught.value.status, caught.value.closes) == (status, True)


def test_a_head_ends_within_its_bound() -> None:
    assert end_of_head(bytearray(b"GET / HTTP/1.1\r\nHost: a\r\n")) is None
    assert end_of_head(bytearray(b"a\r\n\r\nbody")) == 5
    with pytest.raises(HttpError, match="head"):
        end_of_head(bytearray(MOST_HEAD))
    with pytest.raises(HttpError, match="head"):
        end_of_head(bytearray(MOST_HEAD) + b"\r\n\r\n")


def test_whatever_comes_it_is_a_request_or_an_error() -> None:
    """Bytes changed at random: what is still taken has one length, and no header twice that says it."""
    random_ = random.Random(1)
    source = _head("Content-Length: 12", "Content-Type: image/png", "Connection: keep-alive")
    taken = 0
    for _ in range(5000):
        data = bytearray(source)
        for _ in range(random_.randint(1, 3)):
            at = random_.randrange(len(data))
            data[at : at + random_.randint(0, 2)] = random_.choice(
                [
                    b"\r\n",
                    b"\r",
                    b"\n",
                    b" ",
                    b":",
                    b"\x00",
                    bytes([random_.randrange(256)]),
                    b"Content-Length: 3\r\n",
                ]
            )
        try:
            end = end_of_head(data)
            head = parse_head(bytes(data[:end])) if end else None
        except HttpError as error:
            assert 400 <= error.status < 600
            continue
        if head is not None:
            taken += 1
            assert head.length in range(10**15) and head.path.startswith("/")
            assert data[:end].lower().count(b"\r\ncontent-length:") <= 1
    assert 100 < taken < 4000


def test_responses() -> None:
    found = encode(Response(200, b"{}", headers=(("A", "b"),)), keep_alive=True)
    assert (
        found == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nA: b\r\n\r\n{}"
    )
    found = encode(Response(404, b"{}"), keep_alive=False, without_body=True)
    assert found.endswith(b"Content-Length: 2\r\nConnection: close\r\n\r\n")


def test_compressed_bodies_are_bounded() -> None:
    import gzip

    plain = b"0123456789" * 50
    raw = zlib.compressobj(wbits=-15)
    for name, body in (
        ("gzip", gzip.compress(plain)),
        ("X-GZIP", gzip.compress(plain)),
        ("deflate", zlib.compress(plain)),
        ("deflate", raw.compress(plain) + raw.flush()),
        ("identity", plain),
        ("", plain),
    ):
        assert decoded(body, name, 500) == plain
    for name, body, status in (
        ("gzip", gzip.compress(plain + b"1"), 413),
        ("gzip", gzip.compress(bytes(100 << 20), 1), 413),
        ("gzip", gzip.compress(plain)[:-1], 400),
        ("gzip", gzip.compress(plain) + b"more", 400),
        ("gzip", gzip.compress(plain)[:-8] + bytes(8), 400),
        ("gzip", plain, 400),
        ("gzip", b"", 400),
        ("deflate", plain, 400),
        ("br", plain, 415),
        ("gzip, gzip", plain, 415),
    ):
        with pytest.raises(HttpError) as caught:
            decoded(body, name, 500)
        assert caught.value.status == status, name
