"""Bad requests by a seed, one a connection: wrong, damaged, cut off, too large, or from a client that goes."""

from __future__ import annotations

import gzip
import io
import json
import random
import socket
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

INFER = "/v2/models/tiny/infer"
GOOD = {
    "inputs": [
        {"name": "image", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": [i % 256 for i in range(192)]}
    ]
}
_TEXT = json.dumps(GOOD).encode()


def _picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


_PICTURES = [_picture(kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")]


def post(body: bytes, *rows: str, path: str = INFER, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {size}", "Connection: close", *rows, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def changed(data: bytes, random_: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(found))
        kind = random_.randrange(4)
        if kind == 0:
            found[at] ^= 1 << random_.randrange(8)
        elif kind == 1:
            del found[at : at + random_.randint(1, 30)]
        elif kind == 2:
            found[at:at] = random_.choice(
                [b"\r\n", b"\0", b"[[[[", b"-1", b"NaN", b"1e999", b'"', b"\xff\xfe"]
            )
        else:
            del found[at:]
        if not found:
            return b""
    return bytes(found)


def _json(random_: random.Random) -> bytes:
    return post(changed(_TEXT, random_))


def _whole(random_: random.Random) -> bytes:
    return changed(post(_TEXT), random_)


def _noise(random_: random.Random) -> bytes:
    return random_.getrandbits(8 * 200).to_bytes(200, "big")


def _photo(random_: random.Random) -> bytes:
    return post(changed(random_.choice(_PICTURES), random_), path="/classify?top=3")


def _compressed(random_: random.Random) -> bytes:
    kind = random_.choice(["gzip", "deflate", "br"])
    body = gzip.compress(_TEXT) if kind == "gzip" else zlib.compress(_TEXT)
    return post(changed(body, random_), f"Content-Encoding: {kind}")


def _bomb(random_: random.Random) -> bytes:
    return post(_BOMB, "Content-Encoding: gzip", path=random_.choice([INFER, "/classify"]))


_BOMB = gzip.compress(bytes(32 << 20), 9)


def _smuggled(random_: random.Random) -> bytes:
    row = random_.choice(
        ["Transfer-Encoding: chunked", "Content-Length: 4", "Transfer-Encoding : chunked", " x: y",
         "Transfer-Encoding: \x0bchunked", "X: a\nContent-Length: 1", "Transfer-Encoding: identity"]
    )  # fmt: skip
    return post(b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", row)


def _lengths(random_: random.Random) -> bytes:
    return post(_TEXT, length=random_.choice([0, 5, len(_TEXT) + 100, 10**9, 17 << 20]))


def _tensors(random_: random.Random) -> bytes:
    """The JSON says another size than there is."""
    size = random_.choice(["0", "x", "-1", "99999999", "5", str(len(_TEXT)), "1e3"])
    return post(_TEXT + bytes(random_.randrange(400)), f"Inference-Header-Content-Length: {size}")


def _paths(random_: random.Random) -> bytes:
    path = random_.choice(
        ["/", "//", "/../../etc/passwd", "/v2/models/%00", "/v2/models/" + "a" * 7000, "/classify?top=" + "9" * 50,
         "/v2/models/tiny/versions/-1/infer", "/%ff%fe", "/v2/models/tiny/infer/", "*", "http://x/v2"]
    )  # fmt: skip
    return post(b"{}", path=path)


def _long(random_: random.Random) -> bytes:
    return b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * random_.choice([15_000, 17_000, 60_000]) + b"\r\n\r\n"


def _ahead(random_: random.Random) -> bytes:
    return b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 20 + _whole(random_)


KINDS: list[Callable[[random.Random], bytes]] = [
    _json, _json, _whole, _whole, _noise, _photo, _photo, _compressed, _smuggled, _lengths, _tensors, _paths,
    _long, _ahead,
]  # fmt: skip


def attack(port: int, seed: int) -> bytes:
    """Send one bad request; what came back, all of it unless the client went before."""
    random_ = random.Random(seed)
    data = _bomb(random_) if seed % 100 == 0 else random_.choice(KINDS)(random_)
    goes = random_.random() < 0.2
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.settimeout(30)
        try:
            sock.sendall(data)
            if goes:
                if random_.random() < 0.5:  # a reset in the place of an end
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return b""
            sock.shutdown(socket.SHUT_WR)
            found = b""
            while part := sock.recv(1 << 16):
                found += part
            return found
        except (ConnectionError, BrokenPipeError):
            return b""
