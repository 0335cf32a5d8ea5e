"""Protects sharing through object storage: fsspec's file systems, and a real server of S3's protocol where moto is."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.core.errors import EnvironmentFault
from pipeline.core.remotes.files import Files, RemoteFault, TooLarge, Wanted
from pipeline.core.remotes.objects import ObjectFiles
from pipeline.core.remotes.places import open_remote, remote_problem
from tests.pipeline.core.remotes.machines import Machine, shares

S3 = importlib.util.find_spec("moto") is not None and importlib.util.find_spec("s3fs") is not None


@pytest.fixture
def memory() -> Iterator[ObjectFiles]:
    system = MemoryFileSystem(skip_instance_cache=True)
    system.store.clear()
    yield ObjectFiles(system, "bucket/place", "memory://bucket/place")
    system.store.clear()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a server of this machine, with the environment that a user would set."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_CONFIG_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
    }  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.1)
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("figkd")
        yield "s3://figkd/store"
    finally:
        server.kill()
        server.wait()
        os.environ.clear()
        os.environ.update(before)


def _operations(files: Files, folder: Path) -> None:
    assert files.read("a/b.json", 10) is None
    assert files.create("a/b.json", b"first") and not files.create("a/b.json", b"second")
    assert files.read("a/b.json", 10) == b"first"
    with pytest.raises(TooLarge):
        files.read("a/b.json", 4)
    (folder / "new").write_bytes(b"another")
    files.put([(folder / "new", "a/b.json")], time.monotonic() + 20)
    assert files.read("a/b.json", 10) == b"another"
    there, wrong, gone = Wanted("a/b.json", 7, "x"), Wanted("a/b.json", 3, "x"), Wanted("a/c", 7, "x")
    assert files.lacking([there]) == [] and files.lacking([wrong, gone]) == [wrong, gone]
    files.fetch([there], folder, time.monotonic() + 20)
    assert (folder / "x").read_bytes() == b"another"
    for bad in (wrong, gone):
        with pytest.raises(RemoteFault):
            files.fetch([bad], folder, time.monotonic() + 20)
    files.remove("a/b.json")
    files.remove("a/b.json")
    assert files.read("a/b.json", 10) is None


def test_operations(memory: ObjectFiles, tmp_path: Path) -> None:
    _operations(memory, tmp_path)


def test_machines_share_objects(memory: ObjectFiles, tmp_path: Path) -> None:
    shares(Machine(tmp_path / "one", memory), Machine(tmp_path / "two", memory))


def test_libraries_errors_are_a_warning(tmp_path: Path) -> None:
    """Whatever a cloud's library raises."""

    class Broken(MemoryFileSystem):  # type: ignore[misc]
        def cat_file(self, *_: Any, **__: Any) -> bytes:
            raise ValueError("no credentials\nat all")

    machine = Machine(tmp_path / "one", ObjectFiles(Broken(skip_instance_cache=True), "b", "s3://b"))
    machine.obtain()
    assert machine.made == 1 and "ValueError: no credentials at all" in machine.warnings[0]


@pytest.mark.slow
@pytest.mark.skipif(not S3, reason="needs the extra s3-tests (moto[server], s3fs)")
def test_a_server_of_s3(bucket: str, tmp_path: Path) -> None:
    """Each operation, atomic creation among them, and two machines."""
    _operations(open_remote(f"{bucket}/operations", None), tmp_path)
    shares(
        Machine(tmp_path / "one", open_remote(bucket, None)),
        Machine(tmp_path / "two", open_remote(bucket, None)),
    )


@pytest.mark.slow
@pytest.mark.skipif(not S3, reason="needs the extra s3-tests (moto[server], s3fs)")
def test_buckets_that_are_not_there(bucket: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "one", open_remote("s3://no-such-bucket/x", None))
    machine.obtain()
    assert machine.made == 1 and len(machine.warnings) == 1, machine.notes


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("/mnt/share", ""), ("share", ""), ("file:///mnt/share", ""), ("ssh://box/srv/figkd", ""),
        ("sftp://me@box:22/~/figkd", ""), ("s3://bucket", ""), ("gs://bucket/a/b", ""),
        ("ssh://me:secret@box/a", "password"), ("s3://key:secret@bucket/a", "password"), ("ssh://box", "/path"),
        ("http://host/a", "unknown kind"), ("simplecache::s3://b", "no folder"), ("s3://", "bucket"),
        ("s3://b/../c?x", "plain"), ("memory://a", "unknown kind"), (" ", "no folder"),
    ],
)  # fmt: skip
def test_what_a_config_may_say(url: str, told: str) -> None:
    problem = remote_problem(url)
    assert told in problem if told else problem == ""


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault) as caught:
        open_remote("s3://bucket/x", None)
    assert "s3fs" in caught.value.what and "figkd-pipeline[s3]" in caught.value.fix
