"""Protects: `serve` as a process with a real bundle: exit codes, what it says, signals; on Python 3.8 in slow tests."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.bundle.pictures import png_bytes
from export.bundle.write import write_bundle
from export.engines import BACKENDS
from export.runtime.bundle import UNSIGNED, load
from export.runtime.bundle.manifest import Needs
from export.runtime.install.outputs import outputs_of
from export.runtime.install.primitive import install
from export.runtime.install.report import lines, status
from export.runtime.install.source import FolderSource
from export.runtime.serve.main import main
from export.runtime.serve.server import is_loopback, listen
from tests.export.bundle.tiny import bundle, content, several
from tests.export.runtime.install.made import fine, site_at
from tests.export.runtime.serve.made import ask, process
from tests.old_python import old_python  # noqa: F401
from tests.pipeline.devices.tiny import classifier, images


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("bundles"))


def test_a_bundle_serves_itself_until_it_is_stopped(made: Path) -> None:
    """Nothing of ours can be imported but what is in the bundle."""
    with process("--unsigned", program=made / "run.pyz") as (running, port):
        status, found = ask(port, "POST", "/classify?top=5", png_bytes(images(1)[0]))
        assert status == 200 and found["model"] == "tiny" and len(found["labels"]) == 5
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
        assert running.stderr and running.stderr.read() == "stopped: 1 answers\n"


def test_ctrl_c_ends_it_too(made: Path) -> None:
    with process("--unsigned", "--bundle", made) as (running, _):
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 0


def test_others_are_let_in_only_where_that_was_said_and_with_a_warning(made: Path) -> None:
    for host, is_alone in (("127.0.0.1", True), ("127.1.2.3", True), ("0.0.0.0", False)):
        with listen(host, 0) as sock:
            assert is_loopback(sock) == is_alone
    with process("--unsigned", "--bundle", made, "--host", "0.0.0.0") as (running, port):
        assert ask(port, "GET", "/v2/health/live")[0] == 200
        running.terminate()
        assert running.stderr and running.wait(20) == 0
        assert "warning: whoever reaches http://0.0.0.0:" in running.stderr.read()


def test_as_a_service_of_systemd(made: Path, tmp_path: Path) -> None:
    """On a socket that systemd holds, so that connections wait through a restart; it hears when it serves."""
    with socket.socket() as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        told.bind(str(tmp_path / "notify"))
        told.settimeout(30)
        begin = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), "
            "LISTEN_FDS='1', NOTIFY_SOCKET=sys.argv[2]); os.execv(sys.executable, [sys.executable, *sys.argv[3:]])"
        )
        program = [str(made / "run.pyz"), "serve", "--unsigned"]
        command = [sys.executable, "-c", begin, str(listener.fileno()), f"{tmp_path}/notify", *program]
        with subprocess.Popen(
            command, cwd="/", pass_fds=[listener.fileno()], stderr=subprocess.PIPE
        ) as running:
            try:
                port = listener.getsockname()[1]
                assert ask(port, "GET", "/v2/health/ready")[0] == 200  # it waited in the backlog
                assert told.recv(100) == b"READY=1"
                running.send_signal(signal.SIGTERM)
                assert running.wait(20) == 0
                assert told.recv(100) == b"STOPPING=1"
            finally:
                running.kill()


def test_an_engine_of_one_batch_size_takes_any_number_of_images(tmp_path: Path) -> None:
    """Cut and padded."""
    what = content(tmp_path / "made")
    engine = tmp_path / "four.onnx"
    source = classifier(tmp_path / "source.onnx", batch=None)
    BACKENDS["onnxruntime"].build(source, engine, batch_sizes=(4,))
    sidecar = engine.with_name("four.onnx.json")
    files = {"engine/fp32.onnx": engine, "engine/fp32.onnx.json": sidecar}
    folder = write_bundle(replace(what, engines=[replace(what.engines[0], files=files)]), tmp_path)[0]
    stored = images(9)
    with load(folder, UNSIGNED) as model:
        assert model.engine.batch_sizes == (4,)  # type: ignore[attr-defined]
    with load(write_bundle(what, tmp_path / "any")[0], UNSIGNED) as model:
        expected = model.answers(stored)
    with process("--unsigned", "--bundle", folder) as (_, port):
        for count in (1, 4, 9):
            body = stored[:count].tobytes()
            status, found = ask(
                port, "POST", "/v2/models/tiny/infer", body, Inference_Header_Content_Length="0"
            )
            assert status == 200
            logits = np.frombuffer(found[-count * 5 * 4 :], np.float32).reshape(count, 5)
            np.testing.assert_allclose(logits, expected[:count], rtol=1e-5)


@pytest.mark.parametrize("options", [(), ("--no-counts",)])
def test_answers_are_counted_where_releases_are_served(
    made: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    site = site_at(tmp_path / "root")
    id = install(site, FolderSource(str(made), site.disk), fine, fine, 60).release.id
    with process("--unsigned", "--root", site.root, *options) as (running, port):
        for image in images(3):
            assert ask(port, "POST", "/classify", png_bytes(image))[0] == 200
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
    counted = outputs_of(site, id).counted
    assert (counted.images if counted else 0) == (0 if options else 3)


def test_a_bundle_may_say_that_its_answers_are_not_counted(tmp_path: Path) -> None:
    folder = bundle(tmp_path, counts=False)
    site = site_at(tmp_path / "root")
    install(site, FolderSource(str(folder), site.disk), fine, fine, 60)
    with process("--unsigned", "--root", site.root) as (running, port):
        assert ask(port, "POST", "/classify", png_bytes(images(1)[0]))[0] == 200
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
    assert not Path(site.path("outputs")).exists()
    assert "answers     not counted, as the bundle says" in lines(status(site))


def test_what_does_not_start(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str | Path) -> tuple[int, str]:
        return main([*map(str, words), "--unsigned"]), capsys.readouterr().err

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = said("--bundle", made, "--port", str(taken.getsockname()[1]))
        assert code == 4 and "Address already in use" in text and "fix: give another --port" in text
    assert said("--bundle", made, "--host", "no such host")[0] == 4
    assert said("--bundle", tmp_path, "--port", "0")[0] == 6
    assert said("--root", tmp_path, "--port", "0")[0] == 4
    assert said("--root", tmp_path, "--bundle", made)[0] == 2
    for words in (["--port", "70000"], ["--port", "x"], ["--waiting", "0"], ["--dance"], ["--read-s", "nan"]):
        code, text = said(*words)
        assert code == 2 and "fix: see `run.pyz serve --help`" in text, words
    assert main(["--bundle", str(made), "--trust", "/nowhere/trust.json", "--port", "0"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert "Traceback" not in text


def test_its_help_and_that_of_the_archive(made: Path) -> None:
    for words, text in ((["serve", "--help"], "--waiting"), (["--help"], "serve")):
        command = [sys.executable, str(made / "run.pyz"), *words]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and text in done.stdout


@pytest.mark.slow
def test_on_python_3_8(old_python: Path, made: Path, tmp_path: Path) -> None:  # noqa: F811
    old = bundle(tmp_path, classes=["a", "b", "c", "d", "e"])
    with process("--unsigned", python=old_python, program=old / "run.pyz") as (running, port):
        assert ask(port, "GET", "/v2/health/ready")[0] == 200
        data = images(3).tolist()
        asked = {"inputs": [{"name": "image", "shape": [3, 8, 8, 3], "datatype": "UINT8", "data": data}]}
        status, found = ask(port, "POST", "/v2/models/tiny/infer", asked)
        assert status == 200 and found["outputs"][0]["shape"] == [3, 5]
        status, found = ask(port, "POST", "/classify", png_bytes(images(1)[0]))
        assert status == 501 and "Pillow" in found["error"]
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0


def test_of_several_engines_the_one_that_fits_answers(tmp_path: Path) -> None:
    folder, _ = write_bundle(several(tmp_path / "made", Needs("vax")), tmp_path)
    with process("--unsigned", program=folder / "run.pyz") as (running, port):
        metrics = str(ask(port, "GET", "/metrics")[1])
        assert 'precision="fp32"' in metrics and 'precision="int8"' not in metrics
        running.terminate()
        running.wait(20)
