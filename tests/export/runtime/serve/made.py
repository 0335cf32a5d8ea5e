"""A server on loopback, in this process with a model of the test's own, or as a process of its own with a bundle."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.runtime.bundle.manifest import parse_manifest
from export.runtime.bundle.model import Model
from export.runtime.bundle.preprocess import Preprocessing
from export.runtime.serve.served import Served
from export.runtime.serve.server import Server, listen
from export.runtime.serve.service import Limits, Service

ROOT = Path(__file__).parents[4]
NAMES = ("ant", "bee", "cat")
# A shell that started the tests in the background has it ignored.
_CODE = """import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
from export.runtime.serve.main import main
sys.exit(main(sys.argv[1:]))"""


class Engine:
    """Sums of the channels of uint8 [N, 2, 2, 3], and whatever else the test wants to happen."""

    input_shape, input_dtype, input_name, output_name = (2, 2, 3), "uint8", "image", "logits"

    def __init__(self, also: Callable[[], None] = lambda: None) -> None:
        self.also, self.facts, self.is_closed = also, {}, False

    def infer(self, images: np.ndarray) -> np.ndarray:
        assert not self.is_closed
        self.also()
        return images.astype(np.float32).sum((1, 2))

    def close(self) -> None:
        self.is_closed = True


def served(engine: Engine, sequence: int = 3, images: int = 8) -> Served:
    from export.runtime.bundle import canonical
    from tests.export.runtime.bundle.made import FILES, manifest_of

    manifest = parse_manifest(canonical.encode(manifest_of(FILES, sequence=sequence)))
    return Served(Model(NAMES, Preprocessing(side=2, size=2), engine), manifest, None, images)


@dataclass
class Running:
    """A server in a thread of this process."""

    port: int
    service: Service
    loop: asyncio.AbstractEventLoop
    server: Server

    def swap(self, new: Served) -> None:
        self.loop.call_soon_threadsafe(self.service.swap, new)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.server.stop)


@contextmanager
def running(model: Served | None = None, **limits: Any) -> Iterator[Running]:
    """Serve a model; limits are those of `Limits`."""
    started = threading.Event()
    made: list[Running] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        service = Service(Limits(**limits), loop)
        if model is not None:
            service.swap(model)
        server = Server(service, print)
        with listen("127.0.0.1", 0) as sock:
            await server.start(sock)
            made.append(Running(sock.getsockname()[1], service, loop, server))
            started.set()
            await server.until_stopped()
        service.close(5.0)

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    assert started.wait(10)
    try:
        yield made[0]
    finally:
        if thread.is_alive():
            made[0].stop()
        thread.join(30)
        assert not thread.is_alive()


def ask(
    port: int, method: str, path: str, body: bytes | dict[str, Any] | None = None, **headers: str
) -> tuple[int, Any]:
    """Status and answer of one request; JSON as a value. Headers by names with `_` for `-`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    try:
        connection.request(method, path, data, {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    is_json = response.headers["Content-Type"] == "application/json" and content
    return response.status, json.loads(content) if is_json else content


def raw(port: int, data: bytes, timeout: float = 10, end: bool = False) -> bytes:
    """Everything that comes back until the server closes; `end`: send no more after the data."""
    with socket.create_connection(("127.0.0.1", port), timeout) as sock:
        sock.settimeout(timeout)
        found = b""
        try:
            sock.sendall(data)
            if end:
                sock.shutdown(socket.SHUT_WR)
            while part := sock.recv(1 << 16):
                found += part
        except (ConnectionError, BrokenPipeError):
            pass
        return found


def statuses(answers: bytes) -> list[int]:
    """Of several responses one after the other."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


@contextmanager
def process(
    *words: str | Path, python: str | Path = sys.executable, program: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`serve` as a process of its own, and its port; it is killed at the end if it still runs."""
    command = [str(python), *([str(program), "serve"] if program else ["-c", _CODE])]
    command += [] if "--port" in words else ["--port", "0"]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" or program is None} | {"HOME": "/nowhere"}
    with subprocess.Popen(
        [*command, *map(str, words)], cwd="/" if program else ROOT, env=env, stderr=subprocess.PIPE, text=True
    ) as done:
        try:
            assert done.stderr
            said = ""
            while " at http://" not in said:
                line = done.stderr.readline()
                assert line, said
                said += line
            yield done, int(re.search(r" at http://\S+:(\d+)", said)[1])  # type: ignore[index]
        finally:
            done.kill()
