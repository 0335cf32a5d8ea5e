"""An engine is built on the first device of a kind, and taken by the others: over two real servers of sshd."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.address import Device
from pipeline.places import access, device_build
from pipeline.places.builder import tensorrt_options
from pipeline.places.kept import Engines, key_of
from pipeline.places.place import BuildTask, Built, Context
from pipeline.results.rows.engines import Made, Wanted
from tests.pipeline.devices.sshd import ALIAS, PROGRAM, Sshd, running_sshd
from tests.pipeline.devices.tiny import classifier

MADE = Made(file="fp32.onnx", bytes=1, layers=3, inputs=(), outputs=())


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Sshd]]:
    if PROGRAM is None:
        pytest.skip("sshd is not installed (apt install openssh-server)")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with running_sshd(tmp_path / "one") as one, running_sshd(tmp_path / "two") as two:
        yield [one, two]


def _task(folder: Path, target: str, kept: Engines) -> BuildTask:
    folder.mkdir()
    onnx = classifier(folder / "fp32.onnx")
    wanted = Wanted(
        id=f"{target}/fp32", target=target, backend="onnxruntime", precision="fp32", compute_capability="",
        onnx="fp32.onnx", onnx_bytes=onnx.stat().st_size,
    )  # fmt: skip
    (folder / "out").mkdir()
    return BuildTask(
        target=target, backend="onnxruntime", wanted=[wanted], onnx={"fp32.onnx": onnx}, not_made={}, batch_sizes=[1],
        threads=None, tensorrt=tensorrt_options({"engine": "onnxruntime"}), builder_keys=(), power_mode=None,
        required=True, out=folder / "out", timing_caches=folder / "timing", kept=kept,
    )  # fmt: skip


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the builds that devices were asked for."""
    asked: list[str] = []
    run_job = device_build.run_job

    def counted(context: Context, session: Any, job: Any, request: Any, what: str) -> Any:
        asked.append(what)
        return run_job(context, session, job, request, what)

    monkeypatch.setattr(device_build, "run_job", counted)
    return asked


@pytest.mark.slow
def test_two_devices_of_equal_facts_at_the_same_time_build_once(
    servers: list[Sshd], jobs: list[str], tmp_path: Path
) -> None:
    kept = Engines(tmp_path / "engines")
    notes: list[str] = []

    def build(number: int) -> Built:
        task = _task(tmp_path / f"t{number}", f"cam{number}", kept)
        return device_build.build(
            _device(servers[number], number), task, Context(tmp_path / f"scratch{number}", note=notes.append)
        )

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(build, range(2)))
    assert len(jobs) == 1
    files = [sorted((tmp_path / f"t{number}/out").iterdir()) for number in range(2)]
    assert [path.name for path in files[0]] == [path.name for path in files[1]]
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes()
    rows = [built.rows[0] for built in found]
    assert [row.id for row in rows] == ["cam0/fp32", "cam1/fp32"] and rows[0].made == rows[1].made
    assert all(row.state == "built" and row.runs for row in rows)
    (taken,) = [number for number, row in enumerate(rows) if row.detail]
    assert rows[taken].detail == f"built on cam{1 - taken}, a device of equal facts"
    assert rows[taken].device.startswith(f"cam{taken}: ")
    assert f"cam{taken}/fp32: taken from cam{1 - taken}, a device of equal facts" in notes


def _device(server: Sshd, number: int) -> Device:
    """The server under a name of its own."""
    config = server.config.read_text().replace(f"Host {ALIAS}\n", f"Host {ALIAS} cam{number}\n")
    server.config.write_text(config)
    return replace(server.device(), url=f"ssh://cam{number}")


def _kept(folder: Path, content: bytes = b"engine") -> Path:
    engine = folder / "fp32.onnx"
    engine.write_bytes(content)
    return engine


def test_what_is_kept_is_checked_when_it_is_taken(tmp_path: Path) -> None:
    kept, out = Engines(tmp_path / "kept"), tmp_path / "out"
    out.mkdir()
    assert kept.take("a", out) is None
    kept.keep("a", MADE, 1.5, "cam1", [_kept(tmp_path)])
    found = kept.take("a", out)
    assert found is not None and (found.made, found.seconds, found.device) == (MADE, 1.5, "cam1")
    assert (out / "fp32.onnx").read_bytes() == b"engine"
    assert kept.take("b", out) is None
    made = (tmp_path / "kept/a/kept.json").stat().st_mtime
    assert Engines(tmp_path / "kept", since=made + 1).take("a", out) is None, "asked for again"
    for damage in (b"enginf", b""):
        (tmp_path / "kept/a/fp32.onnx").write_bytes(damage)
        assert kept.take("a", out) is None
    kept.keep("a", MADE, 2.5, "cam2", [_kept(tmp_path, b"another")])
    found = kept.take("a", out)
    assert found is not None and found.device == "cam2" and (out / "fp32.onnx").read_bytes() == b"another"
    (tmp_path / "kept/a/kept.json").write_text("{")
    assert kept.take("a", out) is None


def test_the_oldest_go(tmp_path: Path) -> None:
    kept = Engines(tmp_path / "kept")
    for number in range(66):
        kept.keep(f"k{number}", MADE, 1.0, "cam1", [_kept(tmp_path)])
        os.utime(tmp_path / f"kept/k{number}/kept.json", (number, number))
    assert len(list((tmp_path / "kept").glob("*/kept.json"))) == 64
    assert not (tmp_path / "kept/k0").exists() and (tmp_path / "kept/k65").exists()


def test_a_build_that_fails_is_not_waited_for_in_vain(tmp_path: Path) -> None:
    """The second device of the kind tries itself."""
    kept, began = Engines(tmp_path / "kept"), threading.Event()
    waited: list[str] = []

    def first() -> None:
        with pytest.raises(RuntimeError), kept.building("a", lambda: None):
            began.set()
            raise RuntimeError

    with ThreadPoolExecutor(1) as pool:
        pool.submit(first).result()
    assert began.is_set()
    with kept.building("a", lambda: waited.append("x")):
        assert kept.take("a", tmp_path) is None


def test_the_key_holds_what_decides_an_engine_and_no_name() -> None:
    facts: dict[str, Any] = {
        "machine": "aarch64",
        "gpu": "Orin",
        "compute_capability": "8.7",
        "l4t": "36.4.3",
    }
    facts |= {
        "tensorrt": {
            "python": "10.3.0",
            "trtexec": "",
            "trtexec_version": "",
            "library": "",
            "version": "10.3.0",
        }
    }
    facts |= {"packages": {"tensorrt": "10.3.0"}}
    request = {"id": "cam1/int8", "onnx": "0" * 64, "batch_sizes": [1], "access": "python"}
    environment = access.environment_of(facts, "tensorrt")  # type: ignore[arg-type]
    key = key_of(request, environment)
    assert key == key_of({**request, "id": "cam2/int8", "timing_cache": "x"}, environment)
    for change in ({"onnx": "1" * 64}, {"batch_sizes": [1, 2]}, {"power_mode": "15W"}):
        assert key != key_of({**request, **change}, environment)
    for name in ("gpu", "compute_capability", "l4t", "machine"):
        other = access.environment_of({**facts, name: "another"}, "tensorrt")  # type: ignore[typeddict-item]
        assert key != key_of(request, other), name
