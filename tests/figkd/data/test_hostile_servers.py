"""Servers on this machine that answer as no publisher does: one error, little disk and time, nothing left over."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

import pytest

import figkd.data.download as module
from figkd.data import load_module
from figkd.data.download import download
from figkd.data.listing import Archive
from figkd.errors import DataError


class Raw:
    """Answers every request with the same bytes, as they are, in pieces; what a server must not do."""

    def __init__(self, *pieces: bytes, again: bool = False, pause: float = 0.0) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.requests = 0
        self._pieces, self._again, self._pause = pieces, again, pause
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(OSError):
                client, _ = self.socket.accept()
                with client:
                    client.recv(1 << 16)
                    self.requests += 1
                    for piece in self._pieces:
                        client.sendall(piece)
                    while self._again and not self._closed.wait(self._pause):
                        client.sendall(self._pieces[-1])

    def close(self) -> None:
        """Stop."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self._thread.join(10)


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Raw]]:
    """Make cub200 consist of one archive of a server that answers as it is told."""
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    servers: list[Raw] = []

    def make(*pieces: bytes, size: int = 1000, gives: str = "birds", **how: Any) -> Raw:
        servers.append(Raw(*pieces, **how))
        archive = Archive(f"{servers[-1].url}/birds.tgz", size, "", gives)
        monkeypatch.setattr(load_module("cub200"), "ARCHIVES", (archive,))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("length", [b"abc", b"-5", b"1e3", b"1_0", b"9" * 5000, b"\xb2", b""])
@pytest.mark.parametrize("size", [0, 1000])
def test_a_length_that_is_none(raw: Callable[..., Raw], tmp_path: Path, length: bytes, size: int) -> None:
    """Protects: what a server says of itself is checked before it counts; nothing is left over."""
    raw(OK + b"Content-Length: " + length + b"\r\n\r\n" + b"x" * 1000, size=size)
    with pytest.raises(DataError, match="the server announces"):
        download("cub200", tmp_path / "r")
    assert list((tmp_path / "r").iterdir()) == []


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (OK + b"\r\n", 1000),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", 1000),
        (OK + b"\r\n", 0),
        (OK + b"Content-Length: 999999999999\r\n\r\n", 0),
    ],
    ids=["no length", "chunks", "unknown size", "announced"],
)
def test_a_body_without_end(
    raw: Callable[..., Raw], tmp_path: Path, head: bytes, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the disk: it stops at the published size, or at a bound where none was published."""
    monkeypatch.setattr(module, "_LARGEST", 1 << 20)
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    server = raw(head, piece, size=size, again=True)
    with pytest.raises(DataError, match="sends more than the"):
        download("cub200", tmp_path / "r")
    assert list((tmp_path / "r").iterdir()) == [] and server.requests == 1


def test_a_byte_now_and_then(
    raw: Callable[..., Raw], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the user's time: a connection that crawls counts as broken, and so often only; it can be taken up."""
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.1)
    server = raw(OK + b"Content-Length: 1000\r\n\r\n", b"x", again=True, pause=0.02)
    with pytest.raises(DataError, match=r"the server sent \d+ bytes in 0\.1 s.*continues from there"):
        download("cub200", tmp_path / "r")
    assert server.requests == module.ATTEMPTS


@pytest.mark.parametrize(
    "place",
    [b"file:///etc/passwd", b"ftp://127.0.0.1:9/x", b"data:,x", b"http://[::1", b"/again", b"//", b"gopher://x",
     b"http://a\x01b/", b"\xff\xfe"],
)  # fmt: skip
def test_redirections_that_are_not_followed(raw: Callable[..., Raw], tmp_path: Path, place: bytes) -> None:
    """Protects: no other kind of address, no loop without end, no address that is none."""
    server = raw(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + place + b"\r\n\r\n")
    with pytest.raises(DataError, match=r"birds\.tgz: "):
        download("cub200", tmp_path / "r")
    assert list((tmp_path / "r").iterdir()) == [] and server.requests <= 11 * module.ATTEMPTS


def test_an_encrypted_address_does_not_lead_to_a_plain_one() -> None:
    """Protects data sets whose checksum was never published."""
    handler, headers = module._Redirects(), HTTPMessage()
    for source, target, followed in (
        ("https://a/x", "http://b/x", False),
        ("https://a/x", "https://b/x", True),
        ("http://a/x", "https://b/x", True),
    ):
        try:
            made = handler.redirect_request(Request(source), io.BytesIO(), 302, "", headers, target)
        except HTTPError:
            made = None
        assert (made is not None) is followed


@pytest.mark.parametrize("answer", [b"", b"\x00" * 100, b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-x\r\n", OK + b"x" * 70_000,
                                    OK + b"a: b\r\n" * 200, b"HTTP/1.1 500 " + b"x" * 60_000 + b"\r\n\r\n"],
                         ids=range(7))  # fmt: skip
def test_what_is_no_answer(raw: Callable[..., Raw], tmp_path: Path, answer: bytes) -> None:
    """Protects: another program on the port is a server that cannot be used, in a line that can be read."""
    raw(answer)
    with pytest.raises(DataError, match=r"birds\.tgz: ") as error:
        download("cub200", tmp_path / "r")
    assert len(str(error.value)) < 700 and list((tmp_path / "r").iterdir()) == []
