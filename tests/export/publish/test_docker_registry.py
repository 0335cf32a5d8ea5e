"""Protects: push and pull against Debian's real `docker-registry`: nothing twice, the same bytes, passwords, TLS."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.export.bundle.tiny import bundle
from tests.pipeline.cli.in_process import run

PROGRAM = shutil.which("docker-registry")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no docker-registry here (Debian's package of this name)"),
]
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl program here")
# Of the user `me` with the password `secret`, by `htpasswd -nbB -C 4`.
HTPASSWD = "me:$2b$04$EHFMJWKxkV452yrxAj6Tru9Yl51/PZnawJ2zZ5/LADlWV5WaJVVZa"


@contextmanager
def registry(folder: Path, *lines: str) -> Iterator[str]:
    """Host and port of a registry; `lines` are of its configuration."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "config.yml"
    text = ["version: 0.1", f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}"]
    http = f"http: {{addr: '127.0.0.1:{port}'{''.join(line for line in lines if line.startswith(', '))}}}"
    config.write_text("\n".join([*text, http, *(line for line in lines if not line.startswith(", "))]))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(PROGRAM), "serve", config], stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@needs_openssl
def test_push_twice_and_pull(tmp_path: Path) -> None:
    """A bundle goes there signed, once; what comes back is byte for byte the same, and verified."""
    made = bundle(tmp_path / "made")
    key, trust = tmp_path / "key.pem", tmp_path / "trust.json"
    (tmp_path / "pass").write_text("word")
    (tmp_path / "pass").chmod(0o600)
    for words in (
        ("key", "new", key, "--passphrase-file", tmp_path / "pass"),
        ("key", "trust", trust, "--add", tmp_path / "key.pub"),
        ("bundle", "sign", made, "--key", key, "--passphrase-file", tmp_path / "pass"),
    ):
        done = run(*words)
        assert done.code == 0, done.err
    before = {name: data for name, data in _tree(made.parent).items() if name.startswith(made.name)}
    with registry(tmp_path) as host:
        first, second = (
            run("export-to", "oci", made, f"{host}/team/tiny:1", "--trust", trust, "--json") for _ in range(2)
        )
        assert (first.code, second.code) == (0, 0), first.err
        assert first.json["present"] == 0
        assert (second.json["uploaded"], second.json["bytes"]) == (0, 0)
        assert second.json["present"] == first.json["uploaded"]
        assert first.json["digest"] == second.json["digest"]
        for name in (f"{host}/team/tiny:1", f"{host}/team/tiny@{first.json['digest']}"):
            out = tmp_path / name.rpartition("/")[2]
            done = run("pull", name, out, "--trust", trust, "--json")
            assert done.code == 0, done.err
            assert _tree(out) == before
            assert len(done.json["signers"]) == 1
        assert run("pull", f"{host}/team/tiny:1", tmp_path / "nobody").code == 2  # whose signatures count?
        assert run("pull", f"{host}/team/other:1", tmp_path / "x", "--unsigned").code == 4
        # Another release shares what did not change.
        other = bundle(tmp_path / "other", sequence=4)
        third = run("export-to", "oci", other, f"{host}/team/tiny:2", "--unsigned", "--json")
        assert third.code == 0, third.err
        assert third.json["uploaded"] < 10 < third.json["present"] + 5
        # What nobody signed is not taken.
        done = run("pull", f"{host}/team/tiny:2", tmp_path / "unsigned", "--trust", trust)
        assert (done.code, (tmp_path / "unsigned").exists()) == (6, False)


def test_a_password_is_asked_for(tmp_path: Path) -> None:
    made = bundle(tmp_path / "made")
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    login = {"auth": base64.b64encode(b"me:secret").decode()}
    wrong = {"auth": base64.b64encode(b"me:wrong").decode()}
    with registry(tmp_path, f"auth: {{htpasswd: {{realm: r, path: {tmp_path / 'htpasswd'}}}}}") as host:
        for name, auth, code in (("none", None, 4), ("wrong", wrong, 4), ("right", login, 0)):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps({"auths": {host: auth} if auth else {}}))
            done = run("export-to", "oci", made, f"{host}/tiny:1", "--unsigned", "--docker-config", folder)
            assert done.code == code, done.err
            assert "secret" not in done.err + done.out
            assert code == 0 or f"docker login {host}" in done.err


@needs_openssl
def test_tls_needs_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    """By a name that is not loopback's: a registry on this machine is asked without TLS."""
    made = bundle(tmp_path / "made")
    name = "figkd.localdomain"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-addext", f"subjectAltName=DNS:{name}", "-keyout", tmp_path / "tls.key", "-out", tmp_path / "tls.pem",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    tls = f", tls: {{certificate: {tmp_path / 'tls.pem'}, key: {tmp_path / 'tls.key'}}}"
    real = socket.getaddrinfo

    def resolved(host: object, *words: object, **options: object) -> object:
        return real("127.0.0.1" if host == name else host, *words, **options)  # type: ignore[arg-type]

    with registry(tmp_path, tls) as host, pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolved)
        patch.setenv("no_proxy", name)
        place = f"{name}:{host.rpartition(':')[2]}/tiny:1"
        done = run("export-to", "oci", made, place, "--unsigned")
        assert (done.code, "--ca" in done.err) == (4, True), done.err
        done = run("export-to", "oci", made, place, "--unsigned", "--ca", tmp_path / "tls.pem")
        assert done.code == 0, done.err
        done = run("pull", place, tmp_path / "out", "--unsigned", "--ca", tmp_path / "tls.pem")
        assert done.code == 0, done.err
        assert _tree(tmp_path / "out" / made.name) == _tree(made)
        done = run("pull", place, tmp_path / "no", "--unsigned", "--plain-http")
        assert done.code == 4, done.err
    assert os.listdir(tmp_path / "out") == [made.name]
