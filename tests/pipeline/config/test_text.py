"""A config file is opened only if that is safe: no waiting, no endless reading; bytes that are no text have a line."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.text import Missing, Unusable, decode, read_bytes
from pipeline.core.errors import ConfigError


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        before = Path.cwd()
        os.chdir(path.parent)  # addresses of sockets are short
        server.bind(path.name)
        os.chdir(before)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "is a pipe"),
        (os.mkdir, "is a folder"),
        (_socket, "is a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.symlink_to("/proc/self/mem"), "cannot be read"),
        (lambda path: path.write_bytes(b"x" * 101), "is larger than"),
    ],
    ids=["pipe", "folder", "socket", "device", "loop", "unreadable", "large"],
)
def test_what_is_no_small_regular_file_is_refused(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    """Opening a pipe would wait for a writer, and reading a device would never end."""
    path = tmp_path / "x.yaml"
    make(path)
    with pytest.raises(Unusable, match=said):
        read_bytes(path, 100)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_impossible_names_are_refused(tmp_path: Path, name: str) -> None:
    """Not even the system takes them; Python answers with two kinds of exceptions."""
    with pytest.raises(Unusable, match="cannot be read"):
        read_bytes(tmp_path / name, 100)


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions are the system's; the message is ours."""
    (tmp_path / "x").write_text("")
    monkeypatch.setattr(
        os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(Unusable, match="cannot be read: Permission denied"):
        read_bytes(tmp_path / "x", 100)


def test_a_pipe_that_takes_the_place_of_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked at and what was opened may differ."""
    file, pipe = tmp_path / "x", tmp_path / "pipe"
    file.write_text("a: 1")
    os.mkfifo(pipe)
    opened = os.open
    monkeypatch.setattr(os, "open", lambda _path, flags: opened(pipe, flags))
    with pytest.raises(Unusable, match="is a pipe"):
        read_bytes(file, 100)


def test_the_largest_file_is_read_and_a_missing_one_is_told_apart(tmp_path: Path) -> None:
    """The bound itself is allowed; messages of a missing file name its neighbours."""
    path = tmp_path / "x"
    path.write_bytes(b"x" * 100)
    assert len(read_bytes(path, 100)) == 100
    with pytest.raises(Missing):
        read_bytes(tmp_path / "y", 100)


def test_text_is_utf8_and_its_faults_have_a_line() -> None:
    """An editor's mark at the begin is no part of the text."""
    path = Path("x.yaml")
    assert decode(b"\xef\xbb\xbfname: \xc3\xa9", path) == "name: é"
    for content, where in ((b"a\n\nb: \xff\n", "x.yaml:3"), ("a: 1".encode("utf-16"), "x.yaml:1")):
        with pytest.raises(ConfigError, match="not UTF-8") as caught:
            decode(content, path)
        assert caught.value.where == where
