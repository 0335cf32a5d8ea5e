"""A registry on loopback that answers as it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """What is answered to a request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    endless: bool = False
    """The body is repeated until nobody reads any more."""
    length: int | None = None
    """That is said; None: the body's."""


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]


Rule = Callable[[Asked], Answer]


@contextmanager
def serving(rule: Rule) -> Iterator[tuple[str, list[Asked]]]:
    """The host and port of a server, and what it was asked."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(size)
            one = Asked(self.command, self.path, dict(self.headers))
            asked.append(one)
            answer = rule(one)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.endless:
                self.send_header("Connection", "close")
            else:
                self.send_header(
                    "Content-Length", str(len(answer.body) if answer.length is None else answer.length)
                )
            self.end_headers()
            try:
                if self.command != "HEAD":
                    self.wfile.write(answer.body)
                    while answer.endless:
                        self.wfile.write(answer.body)
            except OSError:  # the client has had enough
                pass
            if answer.endless or answer.length is not None:
                self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = _answer

        def log_message(self, *arguments: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
