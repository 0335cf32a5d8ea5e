"""Protects: the server over real sockets: answers, bounds of time, room and number, and an end that loses nothing."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from export.bundle.pictures import png_bytes
from tests.export.runtime.serve.made import Engine, ask, raw, running, served, statuses

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
SUMS = IMAGES.astype(np.float32).sum((1, 2)).ravel().tolist()
INFER = "/v2/models/small/infer"
REQUEST = {"inputs": [{"name": "image", "shape": [2, 2, 2, 3], "datatype": "UINT8", "data": IMAGES.tolist()}]}
GET = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"


def _post(body: bytes, *headers: str, path: str = INFER) -> bytes:
    rows = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(rows).encode() + body


class Gate:
    """An engine that answers when it is let."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self) -> None:
        self.entered.release()
        assert self.opened.wait(30)


def test_what_a_server_says_of_itself() -> None:
    with running(served(Engine())) as up:
        assert ask(up.port, "GET", "/v2/health/live") == (200, b"")
        assert ask(up.port, "GET", "/v2/health/ready") == (200, b"")
        assert ask(up.port, "GET", "/v2/models/small/ready") == (200, b"")
        assert ask(up.port, "GET", "/v2")[1]["extensions"][0] == "classification"
        for path in ("/v2/models/small", "/v2/models/small/versions/3", "/v2/models/sm%61ll"):
            found = ask(up.port, "GET", path)[1]
            assert found["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 2, 2, 3]}]
            assert found["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
        assert ask(up.port, "GET", "/v2/models/small/config")[1]["max_batch_size"] == 8
        assert ask(up.port, "HEAD", "/v2/models/small") == (200, b"")
        assert ask(up.port, "GET", "/")[1]["model"] == "small"
        text = ask(up.port, "GET", "/metrics")[1].decode()
        assert 'figkd_responses_total{endpoint="metadata",status="200"} 6' in text
        assert "figkd_ready 1\n" in text and 'version="3"' in text


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/nothing", None, {}, 404),
        ("GET", "/v2/nothing", None, {}, 404),
        ("GET", "/v2/models", None, {}, 404),
        ("GET", "/v2/models/other", None, {}, 404),
        ("GET", "/v2/models/small/versions/4", None, {}, 404),
        ("GET", "/v2/models/small/versions", None, {}, 404),
        ("GET", "/v2/models/small/nothing", None, {}, 404),
        ("GET", INFER, None, {}, 405),
        ("DELETE", "/v2/models/small", None, {}, 405),
        ("PUT", "/classify", b"x", {}, 405),
        ("POST", "/metrics", b"", {}, 405),
        ("POST", INFER, b"{", {}, 400),
        ("POST", INFER, b"", {}, 400),
        ("POST", INFER, b"{}", {"Inference_Header_Content_Length": "x"}, 400),
        ("POST", INFER, b"{}", {"Content_Type": "multipart/form-data; boundary=x"}, 415),
        ("POST", INFER, b"{}", {"Content_Encoding": "br"}, 415),
        ("POST", INFER, b"{}", {"Content_Encoding": "gzip"}, 400),
        ("POST", "/classify", b"", {}, 400),
        ("POST", "/classify", b"no image", {}, 400),
        ("POST", "/classify", b"GIF89a" + bytes(50), {"Content_Type": "image/gif"}, 400),
        ("POST", "/classify", b"{}", {"Content_Type": "application/json"}, 415),
        ("POST", "/classify?top=0", b"x", {}, 400),
        ("POST", "/classify?top=x", b"x", {}, 400),
        ("POST", "/classify?best=1", b"x", {}, 400),
        ("POST", "/classify?" + "a&" * 50, b"x", {}, 400),
    ],
)
def test_errors_have_a_sentence(
    method: str, path: str, body: bytes | None, headers: dict[str, str], status: int
) -> None:
    with running(served(Engine())) as up:
        found, answer = ask(up.port, method, path, body, **headers)
        assert found == status and len(answer["error"]) > 5
        assert ask(up.port, "POST", INFER, REQUEST)[0] == 200


def test_inference_and_photos() -> None:
    with running(served(Engine())) as up:
        assert ask(up.port, "POST", INFER, REQUEST)[1]["outputs"][0]["data"] == SUMS
        text = json.dumps(REQUEST).encode()
        for body in (gzip.compress(text), gzip.compress(text + b" " * 100_000)):
            assert ask(up.port, "POST", INFER, body, Content_Encoding="gzip")[1]["outputs"][0]["data"] == SUMS
        picture = png_bytes(IMAGES[1])
        status, found = ask(up.port, "POST", "/classify?top=2", picture, Content_Type="image/png")
        assert status == 200 and [label["name"] for label in found["labels"]] == ["cat", "bee"]
        assert found["release"] == up.service.served.release  # type: ignore[union-attr]
        assert len(ask(up.port, "POST", "/classify?top=99", picture)[1]["labels"]) == 3
        text_ = ask(up.port, "GET", "/metrics")[1].decode()
        assert (
            "figkd_images_total 8\n" in text_ and 'figkd_request_seconds_count{endpoint="infer"} 3' in text_
        )
        assert "figkd_waiting 0\n" in text_ and "figkd_body_bytes 0\n" in text_


def test_requests_one_after_the_other_and_ahead_of_their_answers() -> None:
    text = json.dumps(REQUEST).encode()
    with running(served(Engine())) as up:
        found = raw(up.port, (GET + _post(text)) * 40 + GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert statuses(found) == [200] * 81
        assert found.count(b'"outputs"') == 40
        assert statuses(raw(up.port, b"\r\n" + GET * 3 + b"GARBAGE\r\n\r\n" + GET)) == [200, 200, 200, 400]
        assert statuses(raw(up.port, GET * 5000, end=True)) == [200] * 5000


def test_a_request_that_comes_byte_by_byte() -> None:
    with running(served(Engine())) as up, socket.create_connection(("127.0.0.1", up.port), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in _post(json.dumps(REQUEST).encode()):
            sock.sendall(bytes([byte]))
        assert statuses(sock.recv(1 << 16)) == [200]


def test_smuggled_requests_are_not_seen() -> None:
    smuggled = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    with running(served(Engine())) as up:
        for rows in (["Transfer-Encoding: chunked"], ["Content-Length: 3"], [" x: 1"]):
            assert statuses(raw(up.port, _post(smuggled, *rows))) == [400]
        chunked = b"POST /classify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + smuggled
        assert statuses(raw(up.port, chunked)) == [411]


def test_bodies_are_bounded_and_the_refusal_arrives() -> None:
    """Also where the client sends on without looking."""
    with running(served(Engine()), body=1000, bodies=4000) as up:
        status, answer = ask(up.port, "POST", INFER, bytes(3 << 20))
        assert status == 413 and "1000 bytes" in answer["error"]
        held = [socket.create_connection(("127.0.0.1", up.port), 10) for _ in range(4)]
        for sock in held:
            sock.sendall(_post(bytes(1000))[:-1])
        _until(lambda: up.service.held == 3996)
        assert ask(up.port, "POST", INFER, b"{}")[0] == 400
        assert ask(up.port, "POST", INFER, b"{   }")[0] == 503
        for sock in held:
            sock.close()
        _until(lambda: up.service.held == 0)
        assert ask(up.port, "POST", INFER, b"{}")[0] == 400
        assert ask(up.port, "POST", INFER, gzip.compress(bytes(2000)), Content_Encoding="gzip")[0] == 413
        for sock in (announced := [socket.create_connection(("127.0.0.1", up.port), 10) for _ in range(8)]):
            sock.sendall(_post(bytes(1000))[:-1000])
        _until(lambda: up.service.open_connections == 8)
        assert ask(up.port, "POST", INFER, b"{}")[0] == 400
        for sock in announced:
            sock.close()


def test_a_client_that_asks_before_it_sends() -> None:
    with (
        running(served(Engine()), body=1000) as up,
        socket.create_connection(("127.0.0.1", up.port), 10) as sock,
    ):
        head = _post(bytes(700), "Expect: 100-continue", path="/classify")[:-700]
        sock.sendall(head)
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(bytes(700))
        assert statuses(sock.recv(1000)) == [400]
        assert statuses(raw(up.port, head.replace(b"700", b"7000"))) == [413]


def test_slow_clients_are_ended() -> None:
    with running(served(Engine()), read_s=0.3, idle_s=0.5) as up:
        begun = time.monotonic()
        assert statuses(raw(up.port, b"GET / HT")) == [408]
        assert statuses(raw(up.port, _post(bytes(10))[:-1])) == [408]
        assert raw(up.port, b"") == b""
        assert statuses(raw(up.port, GET)) == [200]
        assert time.monotonic() - begun < 15
        with socket.create_connection(("127.0.0.1", up.port), 10) as sock:
            sent = 0
            with pytest.raises(OSError):  # each byte in time does not make the request in time
                while sent < 1000:
                    sock.sendall(b"G")
                    sent += 1
                    time.sleep(0.02)
            assert sent < 200


def test_a_client_that_does_not_read_is_ended() -> None:
    with (
        running(served(Engine()), read_s=0.3) as up,
        socket.create_connection(("127.0.0.1", up.port), 10) as sock,
    ):
        sock.settimeout(0.5)
        with pytest.raises(OSError):
            for _ in range(2000):
                sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        _until(lambda: up.service.open_connections == 0)


def test_connections_are_bounded_and_idle_ones_make_room() -> None:
    with running(served(Engine()), connections=3, read_s=5) as up:
        idle = [http.client.HTTPConnection("127.0.0.1", up.port, timeout=10) for _ in range(3)]
        for one in idle:
            one.request("GET", "/v2/health/live")
            one.getresponse().read()
        assert ask(up.port, "GET", "/v2/health/live")[0] == 200
        assert idle[0].sock.recv(10) == b""  # type: ignore[attr-defined]
        busy = [socket.create_connection(("127.0.0.1", up.port), 10) for _ in range(3)]
        for sock in busy:
            sock.sendall(b"GET / HT")
        _until(lambda: up.service.open_connections == 3)
        time.sleep(0.1)
        assert statuses(raw(up.port, b"")) == [503]
        for sock in busy:
            sock.close()
        for one in idle:
            one.close()
        _until(lambda: up.service.open_connections == 0)
        assert ask(up.port, "GET", "/v2/health/live")[0] == 200


def test_a_full_queue_says_so_at_once() -> None:
    gate = Gate()
    with running(served(Engine(gate)), waiting=3) as up, ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(ask, up.port, "POST", INFER, REQUEST) for _ in range(3)]
        _until(lambda: up.service.waiting == 3)
        status, answer = ask(up.port, "POST", INFER, REQUEST)
        assert status == 503 and "3 requests wait" in answer["error"]
        assert ask(up.port, "POST", "/classify", png_bytes(IMAGES[0]))[0] == 503
        assert ask(up.port, "GET", "/v2/health/live")[0] == 200
        gate.opened.set()
        assert [one.result()[0] for one in waiting] == [200] * 3
        assert ask(up.port, "POST", INFER, REQUEST)[0] == 200
        assert 'figkd_errors_total{kind="busy"} 2' in ask(up.port, "GET", "/metrics")[1].decode()


def test_a_request_whose_client_has_gone_is_not_run() -> None:
    gate = Gate()
    with running(served(Engine(gate))) as up, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, up.port, "POST", INFER, REQUEST)
        assert gate.entered.acquire(timeout=10)
        with socket.create_connection(("127.0.0.1", up.port), 10) as sock:
            sock.sendall(_post(json.dumps(REQUEST).encode()))
            _until(lambda: up.service.waiting == 2)
        _until(lambda: up.service.open_connections == 1)
        gate.opened.set()
        assert first.result()[0] == 200
        _until(lambda: up.service.waiting == 0 and up.service.held == 0)
        assert not gate.entered.acquire(blocking=False)


def test_an_engine_that_hangs_or_fails() -> None:
    gate = Gate()
    with running(served(Engine(gate)), answer_s=0.3) as up:
        assert ask(up.port, "POST", INFER, REQUEST)[0] == 504
        assert up.service.held > 0
        assert ask(up.port, "GET", "/v2/health/ready")[0] == 503
        assert (up.service.metrics.answered, up.service.metrics.failed) == (1, 1)
        gate.opened.set()
        _until(lambda: up.service.held == 0 and up.service.waiting == 0)
        assert ask(up.port, "GET", "/v2/health/ready")[0] == 200
        assert (up.service.metrics.answered, up.service.metrics.failed) == (1, 1)

    def fails() -> None:
        raise RuntimeError("secret details")

    with running(served(Engine(fails))) as up:
        status, answer = ask(up.port, "POST", INFER, REQUEST)
        assert status == 500 and "secret" not in str(answer)
        assert (up.service.metrics.answered, up.service.metrics.failed) == (1, 1)


def test_an_engine_that_never_comes_back_ends_the_server() -> None:
    """Whoever supervises it starts it again; the answers that can be given are given first."""
    gate = Gate()
    with running(served(Engine(gate)), answer_s=0.3) as up:
        assert ask(up.port, "POST", INFER, REQUEST)[0] == 504
        _until(lambda: up.server.is_lost)
        gate.opened.set()


def test_another_release_from_the_next_request_on() -> None:
    """What was begun ends with the engine that it was begun with, which is then closed."""
    gate = Gate()
    old, new = Engine(gate), Engine()
    with running(served(old)) as up, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, up.port, "POST", INFER, REQUEST)
        assert gate.entered.acquire(timeout=10)
        up.swap(served(new, sequence=4))
        _until(lambda: ask(up.port, "GET", "/v2/models/small")[1]["versions"] == ["4"])
        second = socket.create_connection(("127.0.0.1", up.port), 10)
        second.sendall(_post(json.dumps(REQUEST).encode()))
        assert not old.is_closed
        gate.opened.set()
        assert first.result()[1]["model_version"] == "3"
        assert b'"model_version":"4"' in second.recv(1 << 16)
        second.close()
        _until(lambda: old.is_closed)
        assert up.service.metrics.reloads["ok"] == 1 and not new.is_closed
    assert new.is_closed


def test_without_a_release_it_is_alive_and_not_ready() -> None:
    with running() as up:
        assert ask(up.port, "GET", "/v2/health/live")[0] == 200
        assert ask(up.port, "GET", "/v2/health/ready")[0] == 503
        assert ask(up.port, "POST", INFER, REQUEST)[0] == 503
        assert ask(up.port, "POST", "/classify", b"x")[0] == 503
        assert ask(up.port, "GET", "/metrics")[0] == 200
        up.swap(served(Engine()))
        _until(lambda: ask(up.port, "GET", "/v2/health/ready")[0] == 200)
        assert ask(up.port, "POST", INFER, REQUEST)[0] == 200


def test_at_the_end_what_was_begun_is_answered() -> None:
    gate = Gate()
    with running(served(Engine(gate))) as up, ThreadPoolExecutor(4) as pool:
        idle = socket.create_connection(("127.0.0.1", up.port), 10)
        begun = [pool.submit(ask, up.port, "POST", INFER, REQUEST) for _ in range(4)]
        _until(lambda: up.service.waiting == 4)
        half = socket.create_connection(("127.0.0.1", up.port), 10)
        text = _post(json.dumps(REQUEST).encode())
        half.sendall(text[:-5])
        _until(lambda: up.service.open_connections == 6)
        time.sleep(0.1)
        up.stop()
        assert idle.recv(10) == b""
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", up.port), 10)
        half.sendall(text[-5:])
        gate.opened.set()
        assert [one.result()[0] for one in begun] == [200] * 4
        answer = half.recv(1 << 16)
        assert statuses(answer) == [200] and b"Connection: close" in answer
        half.close()
        idle.close()


def _until(holds: object) -> None:
    end = time.monotonic() + 15
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)
