"""What HTTP costs over the engine, and what happens when twice as many requests come as the engine can answer.

    python benchmarks/bench_serve.py --output benchmarks/results/serve.json

The server runs from a bundle's run.pyz in a process of its own; a client with prepared bytes asks it over loopback, in
turns with the same work done by the same code in the client's process. The overload is that of an engine which takes
5 ms without a CPU, as a GPU does: what is measured is the server.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import multiprocessing
import os
import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a plain checkout

from benchmarks.students import STUDENTS, images, make_fp32
from export.bundle.pictures import png_bytes
from export.bundle.write import write_bundle
from export.engines import BACKENDS
from export.runtime.bundle import UNSIGNED, load
from export.runtime.bundle.preprocess import Preprocessing
from export.stats import rounds_interval
from pipeline.places.environment import cpu_model
from tests.export.bundle.tiny import content
from tests.export.runtime.serve.made import Engine, process, running, served

STUDENT = "dsconv_nano"
ROUNDS, EACH = 30, 40
ENGINE_S, OFFERED, SECONDS = 0.005, 2.0, 15.0


@dataclass(frozen=True)
class Overhead:
    """Milliseconds: medians over the rounds of each round's median, and of each round's lowest."""

    what: str
    engine_ms: float
    http_ms: float
    overhead_ms: float
    overhead_interval: tuple[float, float]
    undisturbed_ms: float
    """Difference of the lowest of each round: other load only ever adds time."""
    ratio: float
    n: int


@dataclass(frozen=True)
class Overload:
    """What came of an open loop of requests at `offered` times the capacity."""

    waiting: int
    """Limit of requests that wait or run."""
    capacity_per_s: float
    offered_per_s: float
    n: int
    served: float
    """Share with 200."""
    refused: float
    """Share with 503."""
    served_ms: tuple[float, float, float]
    """Median, 99th percentile and most."""
    refused_ms: tuple[float, float, float]
    lost: int
    """Neither."""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each overload")
    parser.add_argument(
        "--ahead",
        action="store_true",
        help="run ahead of other work of this machine (SCHED_FIFO; needs rights)",
    )
    chosen = parser.parse_args()
    if chosen.ahead:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    with tempfile.TemporaryDirectory(prefix="figkd-serve-") as folder:
        overheads = measure_overheads(Path(folder))
    overloads = [measure_overload(waiting, chosen.seconds) for waiting in (8, 32)]
    for row in (*overheads, *overloads):
        print(", ".join(f"{k} {v}" for k, v in asdict(row).items()))
    if chosen.output:
        found = {
            "what": "HTTP on loopback over the engine in the client's process; then an open loop at twice the capacity",
            "date": datetime.date.today().isoformat(),
            "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "load_1min": os.getloadavg()[0]},
            "scheduling": "ahead of other work (SCHED_FIFO)" if chosen.ahead else "as any process",
            "student": STUDENT,
            "overheads": [asdict(row) for row in overheads],
            "stand_in_engine_ms": 1000 * ENGINE_S,
            "overloads": [asdict(row) for row in overloads],
        }
        chosen.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measure_overheads(folder: Path) -> list[Overhead]:
    """Tensors, alone and eight, in bytes and in JSON, and a photo."""
    made = student_bundle(folder)
    size = STUDENTS[STUDENT].image_size
    one, eight = images(size, 1), images(size, 8)
    photo = png_bytes(images(256, 1)[0])
    raw = ("Inference-Header-Content-Length: 0", "Content-Type: application/octet-stream")
    source = {"name": "image", "shape": list(one.shape), "datatype": "UINT8", "data": one.tolist()}
    infer = f"/v2/models/{STUDENT}/infer"
    with process("--unsigned", program=made / "run.pyz") as (_, port), load(made, UNSIGNED) as model:
        cases: list[tuple[str, Callable[[], object], bytes, int]] = [
            ("one image, bytes", lambda: model.answers(one), _post(infer, one.tobytes(), *raw), EACH),
            ("eight images, bytes", lambda: model.answers(eight), _post(infer, eight.tobytes(), *raw), EACH),
            (
                "one image, JSON",
                lambda: model.answers(one),
                _post(infer, json.dumps({"inputs": [source]}).encode()),
                EACH,
            ),
            (
                "a photo, PNG of 256 x 256",
                lambda: model.classify(photo),
                _post("/classify", photo),
                EACH // 4,
            ),
        ]
        return [_overhead(what, direct, port, request, each) for what, direct, request, each in cases]


def student_bundle(folder: Path) -> Path:
    """A bundle of a student with random weights."""
    base = content(folder / "made")
    student = STUDENTS[STUDENT]
    engine = folder / "student.onnx"
    BACKENDS["onnxruntime"].build(make_fp32(STUDENT, folder, None), engine, batch_sizes=(1, 8))
    loaded = BACKENDS["onnxruntime"].load(engine, threads=1)
    inputs = images(student.image_size, 4)
    logits = loaded.infer(inputs)
    loaded.close()
    made = replace(
        base,
        name=STUDENT,
        engines=[
            replace(
                base.engines[0],
                files={
                    "engine/fp32.onnx": engine,
                    "engine/fp32.onnx.json": engine.with_name("student.onnx.json"),
                },
                logits=logits,
            )
        ],
        classes=[f"class {i}" for i in range(student.classes)],
        preprocessing=Preprocessing(side=student.image_size, size=student.image_size),
        inputs=inputs,
        pictures={},
    )
    return write_bundle(made, folder)[0]


def _post(path: str, body: bytes, *rows: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *rows, "", ""]
    return "\r\n".join(head).encode() + body


def _overhead(what: str, direct: Callable[[], object], port: int, request: bytes, each: int) -> Overhead:
    engine, http = np.empty((ROUNDS, each)), np.empty((ROUNDS, each))
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(20):
            direct()
            _ask(sock, request)
        for at in np.ndindex(engine.shape):
            begun = time.perf_counter()
            direct()
            between = time.perf_counter()
            _ask(sock, request)
            engine[at], http[at] = between - begun, time.perf_counter() - between
    engine, http = 1000 * engine, 1000 * http
    difference = np.median(http, 1) - np.median(engine, 1)
    low, high = rounds_interval(difference.tolist())
    return Overhead(
        what,
        _rounded(np.median(engine)),
        _rounded(np.median(http)),
        _rounded(np.median(difference)),
        (_rounded(low), _rounded(high)),
        _rounded(np.median(http.min(1) - engine.min(1))),
        _rounded(np.median(http) / np.median(engine)),
        engine.size,
    )


def _ask(sock: socket.socket, request: bytes) -> None:
    sock.sendall(request)
    found = sock.recv(1 << 20)
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), found[:200]
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += sock.recv(1 << 20)


def measure_overload(waiting: int, seconds: float) -> Overload:
    """An open loop with Poisson arrivals at twice what a closed loop got."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=_serve, args=(waiting, there))
    server.start()
    try:
        port = here.recv()
        return asyncio.run(_overload(port, waiting, seconds))
    finally:
        here.send(None)
        server.join(30)
        server.kill()


def _serve(waiting: int, pipe: Connection) -> None:
    with running(served(Engine(lambda: time.sleep(ENGINE_S))), waiting=waiting, connections=1000) as up:
        pipe.send(up.port)
        pipe.recv()


_SMALL = _post("/v2/models/small/infer", bytes(12), "Inference-Header-Content-Length: 0")
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _one(port: int, free: list[_Streams]) -> tuple[int, float]:
    """Status and seconds of a request on a connection that is free, else on a new one."""
    begun = time.perf_counter()
    reader, writer = free.pop() if free else await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_SMALL)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))
    except (OSError, asyncio.IncompleteReadError):
        writer.close()
        return 0, time.perf_counter() - begun
    free.append((reader, writer))
    return int(head.split(b" ", 2)[1]), time.perf_counter() - begun


async def _overload(port: int, waiting: int, seconds: float) -> Overload:
    free: list[_Streams] = []
    count = 0

    async def closed(until: float) -> None:
        nonlocal count
        while time.perf_counter() < until:
            await _one(port, free)
            count += 1

    begun = time.perf_counter()
    await asyncio.gather(*(closed(begun + 4) for _ in range(4)))
    capacity = count / (time.perf_counter() - begun)
    arrivals = random.Random(0)
    tasks, at = [], time.perf_counter()
    end = at + seconds
    while at < end:
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        tasks.append(asyncio.ensure_future(_one(port, free)))
        at += arrivals.expovariate(OFFERED * capacity)
    answers = await asyncio.gather(*tasks)
    for _, writer in free:
        writer.close()
    times = {status: [1000 * s for found, s in answers if found == status] for status in (200, 503)}
    return Overload(
        waiting,
        _rounded(capacity),
        _rounded(len(answers) / seconds),
        len(answers),
        _rounded(len(times[200]) / len(answers)),
        _rounded(len(times[503]) / len(answers)),
        _spread(times[200]),
        _spread(times[503]),
        len(answers) - len(times[200]) - len(times[503]),
    )


def _spread(found: list[float]) -> tuple[float, float, float]:
    p50, p99, most = (float(np.percentile(found, p)) if found else 0.0 for p in (50, 99, 100))
    return _rounded(p50), _rounded(p99), _rounded(most)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


if __name__ == "__main__":
    main()
