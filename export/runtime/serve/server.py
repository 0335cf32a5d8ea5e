"""The sockets: listening, deadlines, and an end that loses no request."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import Any, Callable, Dict, Optional, Set

from .connection import Connection
from .heap import Heap
from .service import Service

_SWEEP_S = 0.2
DRAIN_S = 20.0
"""In which the requests that were begun are answered at the end."""
_BACKLOG = 256


class Server:
    """A service behind a socket. Everything runs in the thread of the loop."""

    def __init__(self, service: Service, say: Callable[[str], None]) -> None:
        self._service, self._say = service, say
        self._connections: Set[Connection] = set()
        self._stopped = asyncio.Event()
        self._listener: Optional[asyncio.AbstractServer] = None
        self.is_lost = False
        """Whether it ended because the engine never came back."""

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a socket that is bound."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._defect)
        self._listener = await loop.create_server(
            lambda: Connection(self._service, self._connections, loop), sock=sock, backlog=_BACKLOG
        )

    def stop_on_signals(self) -> None:
        """End after the last answer at SIGTERM or SIGINT, at once at the second one; an ignored one stays ignored."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, self.stop)

    async def until_stopped(self) -> None:
        """Serve until a signal, then answer what was begun."""
        sweeper = asyncio.ensure_future(self._sweep())
        try:
            await self._stopped.wait()
            await self._drain()
        finally:
            sweeper.cancel()
            for one in list(self._connections):
                one.abort()

    def stop(self) -> None:
        """Begin to end; the second time at once."""
        if self._stopped.is_set():
            for one in list(self._connections):
                one.abort()
        self._stopped.set()

    async def _drain(self) -> None:
        self._service.is_draining = True
        assert self._listener is not None
        self._listener.close()
        for one in list(self._connections):
            one.drain()
        loop = asyncio.get_running_loop()
        end = loop.time() + DRAIN_S
        while (self._connections or self._service.waiting) and loop.time() < end and not self.is_lost:
            await asyncio.sleep(0.02)

    async def _sweep(self) -> None:
        loop, service, heap = asyncio.get_running_loop(), self._service, Heap()
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = loop.time()
            heap.look(now, sum(service.metrics.responses.values()), bool(service.waiting or service.held))
            for one in list(self._connections):
                if one.deadline <= now:
                    one.time_out()
            if service.is_lost and not self.is_lost:
                self.is_lost = True
                self.stop()

    def _defect(self, loop: asyncio.AbstractEventLoop, context: Dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError):  # of a client that went, or of too many files
            self._service.metrics.error("connection")
            return
        self._service.metrics.error("defect")
        self._say("error: %s: %s" % (context.get("message"), error))


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound.

    Raises:
        OSError: the name is not known, or the port is taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def url_of(sock: socket.socket) -> str:
    """Where a socket is reached."""
    host, port = sock.getsockname()[:2]
    return "http://%s:%d" % ("[%s]" % host if ":" in host else host, port)


def is_loopback(sock: socket.socket) -> bool:
    """Whether this machine alone reaches it."""
    host = str(sock.getsockname()[0])
    return host == "::1" or host.startswith("127.")
