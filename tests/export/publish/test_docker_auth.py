"""Protects: logins are read as Docker, Podman and ORAS leave them, and a password never shows."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from export.publish.docker_auth import Login, LoginFault, login_for

AUTH = base64.b64encode(b"me:se:cret").decode()


def _config(folder: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "config.json").write_text(text)
    return folder


@pytest.mark.parametrize("name", ["r.io:5000", "https://r.io:5000", "http://r.io:5000/v2/", "r.io:5000/"])
def test_a_login_in_the_file(tmp_path: Path, name: str) -> None:
    folder = _config(tmp_path, {"auths": {"other.io": {"auth": "x"}, name: {"auth": AUTH}}})
    assert login_for("r.io:5000", folder) == Login("me", "se:cret")
    assert login_for("r.io", folder) is None


def test_docker_hub_has_a_name_of_its_own(tmp_path: Path) -> None:
    folder = _config(tmp_path, {"auths": {"https://index.docker.io/v1/": {"auth": AUTH}}})
    assert login_for("registry-1.docker.io", folder) is not None


@pytest.mark.parametrize("content", [{}, {"auths": []}, {"auths": {"r.io": {}}}, {"auths": {"r.io": 7}}])
def test_no_login(tmp_path: Path, content: Any) -> None:
    assert login_for("r.io", _config(tmp_path, content)) is None
    assert login_for("r.io", tmp_path / "absent") is None


@pytest.mark.parametrize(
    "content", ["", "[]", "\x00", {"auths": {"r.io": {"auth": "!"}}}, {"auths": {"r.io": {"auth": "YQ=="}}}]
)
def test_what_cannot_be_read_is_said(tmp_path: Path, content: Any) -> None:
    with pytest.raises(LoginFault):
        login_for("r.io", _config(tmp_path, content))


def _helper(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "docker-credential-mine"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _helper(
        tmp_path, """read host; echo "{\\"Username\\": \\"$host\\", \\"Secret\\": \\"s\\"}\"""", monkeypatch
    )
    assert login_for("r.io", _config(tmp_path, {"credsStore": "mine"})) == Login("r.io", "s")
    assert login_for("r.io", _config(tmp_path, {"credHelpers": {"r.io": "mine"}})) == Login("r.io", "s")
    assert login_for("r.io", _config(tmp_path, {"credHelpers": {"other.io": "mine"}})) is None
    _helper(tmp_path, "echo credentials not found in native keychain; exit 1", monkeypatch)
    found = login_for("r.io", _config(tmp_path, {"credsStore": "mine", "auths": {"r.io": {"auth": AUTH}}}))
    assert found == Login("me", "se:cret")


@pytest.mark.parametrize("script", ["exit 3", "echo none", "echo '{}'", "echo '[]'"])
def test_a_helper_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    _helper(tmp_path, script, monkeypatch)
    with pytest.raises(LoginFault, match="docker-credential-mine"):
        login_for("r.io", _config(tmp_path, {"credsStore": "mine"}))


@pytest.mark.parametrize("name", ["absent", "../evil", "a b", "-x/y"])
def test_a_helper_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(LoginFault):
        login_for("r.io", _config(tmp_path, {"credsStore": name}))


def test_a_password_never_shows() -> None:
    assert "cret" not in repr(Login("me", "se:cret"))
