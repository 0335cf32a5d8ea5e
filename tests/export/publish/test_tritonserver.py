"""Protects: the real tritonserver serves an exported repository, with the bundle's own logits and labels.

The server is the one inside PyPI's nvidia-pytriton, which has the Python backend only. It needs an environment of its
own (numpy 1), named by FIGKD_TRITON_PYTHON:

    python -m venv triton && triton/bin/pip install nvidia-pytriton 'numpy<2' 'tritonclient[http,grpc]' onnxruntime
    FIGKD_TRITON_PYTHON=$PWD/triton/bin/python python -m pytest -m slow tests/export/publish/test_tritonserver.py
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from export.publish import triton
from export.publish.folder import write_folder
from export.publish.source import Source, open_source
from export.runtime.bundle import UNSIGNED
from tests.export.bundle.tiny import bundle
from tests.export.publish.stand_in import plan_bundle

PYTHON = os.environ.get("FIGKD_TRITON_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="FIGKD_TRITON_PYTHON names no Python with nvidia-pytriton"),
]
_START_S = 60


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return open_source(bundle(tmp_path_factory.mktemp("bundle")), UNSIGNED)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{url}/v2/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def server(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """HTTP address, gRPC address and what the server printed when it was ready."""
    folder = tmp_path_factory.mktemp("server")
    # Found, not imported: the package checks for more than its server needs.
    script = (
        "import importlib.util, json, os, sys, sysconfig; "
        "package = os.path.dirname(importlib.util.find_spec('pytriton').origin); "
        "print(json.dumps([package, sysconfig.get_config_var('LIBDIR'), '%d.%d' % sys.version_info[:2]]))"
    )
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    told = subprocess.run([PYTHON, "-c", script], capture_output=True, text=True, timeout=120, env=clean)
    assert told.returncode == 0, told.stderr
    package, libraries, version = json.loads(told.stdout)
    root = Path(package) / "tritonserver"
    backend = folder / "backends/python"
    shutil.copytree(root / "backends/python", backend)
    shutil.copy2(root / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    write_folder(
        folder / "models",
        triton.repository([source], triton.Options(python_backend=True)),
        triton.KIND,
        [source.manifest.release],
    )
    http, grpc = _free_ports(2)
    environment = {
        **os.environ,
        "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(package).parent),
        "LD_LIBRARY_PATH": f"{Path(package).parent / 'nvidia_pytriton.libs'}:{libraries}",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                root / "bin/tritonserver", f"--model-repository={folder / 'models'}",
                f"--backend-directory={folder / 'backends'}", "--http-address=127.0.0.1",
                "--grpc-address=127.0.0.1", f"--http-port={http}", f"--grpc-port={grpc}",
                "--allow-metrics=false", "--log-verbose=1",
            ],
            stdout=log, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _START_S
        while not _ready(f"127.0.0.1:{http}"):
            text = (folder / "log").read_text(errors="replace")
            assert process.poll() is None, text[-3000:]
            assert time.monotonic() < deadline, text[-3000:]
            time.sleep(0.2)
        yield f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", (folder / "log").read_text(errors="replace")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_real_clients_get_the_golden_logits_and_labels(
    server: tuple[str, str, str], source: Source, tmp_path: Path
) -> None:
    http, grpc, _ = server
    np.save(tmp_path / "inputs.npy", source.golden.inputs)
    client = Path(__file__).with_name("triton_client.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [PYTHON, client, http, grpc, "tiny", tmp_path / "inputs.npy"],
        capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    golden = source.golden.logits
    for kind in ("http", "grpc"):
        logits = np.array([row["logits"] for row in found[kind]], np.float32)
        np.testing.assert_allclose(logits, golden, rtol=0, atol=source.golden.max_abs_logit)
        best = np.argsort(-golden, axis=1, kind="stable")[:, :2]
        assert [row["labels"] for row in found[kind]] == [[source.classes[i] for i in row] for row in best]


def test_the_server_warmed_up_with_the_golden_data(server: tuple[str, str, str]) -> None:
    for name in ("golden_1", "golden_8"):
        assert f"is running warmup sample '{name}'" in server[2]


def test_configurations_of_other_backends_are_what_triton_parses(source: Source, tmp_path: Path) -> None:
    plans = [
        open_source(plan_bundle(tmp_path / sm, [sm], batch_sizes=(1, 4)), UNSIGNED) for sm in ("SM87", "SM90")
    ]
    script = (
        "import sys; from google.protobuf import json_format, text_format; "
        "from tritonclient.grpc.model_config_pb2 import ModelConfig; "
        "print(json_format.MessageToJson(text_format.Parse(sys.stdin.read(), ModelConfig())))"
    )
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    parsed = []
    for sources in ([source], plans):
        text = triton.repository(sources, triton.Options())["tiny/config.pbtxt"]
        assert isinstance(text, bytes)
        done = subprocess.run([PYTHON, "-c", script], input=text, capture_output=True, timeout=120, env=clean)
        assert done.returncode == 0, done.stderr
        parsed.append(json.loads(done.stdout))
    assert parsed[0]["backend"] == "onnxruntime"
    assert parsed[1]["ccModelFilenames"] == {"8.7": "model_sm87.plan", "9.0": "model_sm90.plan"}
    assert [sample["batchSize"] for sample in parsed[1]["modelWarmup"]] == [1, 4]
