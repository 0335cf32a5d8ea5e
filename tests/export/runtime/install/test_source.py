"""Of a folder or tar file only plain files with plain names are taken; nothing else is followed or unpacked."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.runtime.install.disk import LocalDisk
from export.runtime.install.errors import Environment, Refused
from export.runtime.install.source import FolderSource, Source, stage
from export.runtime.install.tar import TarSource
from tests.export.runtime.install.made import bundle_at, entries_of, header, tar_of


def _staged(tmp_path: Path, source: Source) -> dict[str, bytes]:
    folder = tmp_path / "staged"
    stage(LocalDisk(), source, str(folder))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _tar(tmp_path: Path, content: bytes) -> TarSource:
    (tmp_path / "a.tar").write_bytes(content)
    return TarSource(str(tmp_path / "a.tar"))


def test_folder_and_tar_give_the_same_files(tmp_path: Path) -> None:
    folder = bundle_at(tmp_path / "small", 1)
    (tmp_path / "small.0123abcd.sig").write_bytes(b"signature")
    (tmp_path / "small2.0123abcd.sig").write_bytes(b"of another bundle")
    entries = [("small.0123abcd.sig", b"signature"), *entries_of(folder)]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    found = _staged(tmp_path / "one", FolderSource(folder, LocalDisk()))
    assert found == _staged(tmp_path / "two", _tar(tmp_path, tar_of(entries)))
    assert (
        found["bundle.0123abcd.sig"] == b"signature" and "bundle/manifest.json" in found and len(found) == 7
    )


def test_gnu_tar_and_python_write_what_is_taken(tmp_path: Path) -> None:
    folder = bundle_at(tmp_path / "small", 1)
    with tarfile.open(tmp_path / "python.tar", "w", format=tarfile.USTAR_FORMAT) as packed:
        packed.add(folder, "small")
    (tmp_path / "one").mkdir()
    assert len(_staged(tmp_path / "one", TarSource(str(tmp_path / "python.tar")))) == 6


_LINKS = [
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CONTTYPE,
]


@pytest.mark.parametrize("kind", [*_LINKS, b"S", b"L", b"K", b"x", b"g", b"V", b"\0", b"D"])
def test_only_plain_files_are_taken_from_a_tar(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(Refused, match=r"no plain file|no tar file"):
        _staged(tmp_path, _tar(tmp_path, header("small/a", 0, kind) + bytes(1024)))


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../a",
        "small/../a",
        "small/../../etc/cron.d/a",
        "other/a",
        "small/.git/config",
        "small/a\\b",
        "small/a b",
        "small//a",
        "small/./a",
        "small/CON",
        "small/" + "d/" * 20 + "a",
        "small/\x1b[31m",
        "small.0123abcd.sig/a",
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused):
        _staged(tmp_path, _tar(tmp_path, tar_of([("small/ok", b""), (name, b"x")])))
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "staged"]


@pytest.mark.parametrize(
    "names",
    [
        ["small/a", "small/A"],
        ["small/a", "small/a"],
        ["small/d/a", "small/D/b"],
        ["small/a", "small/a/b"],
        ["small/a/b", "small/a"],
    ],
)
def test_names_that_meet_on_some_file_system_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(Refused):
        _staged(tmp_path, _tar(tmp_path, tar_of([(name, b"x") for name in names])))


def test_tricks_of_tar_headers_are_refused(tmp_path: Path) -> None:
    good = tar_of([("small/a", b"x" * 600)])
    gnu = io.BytesIO()
    with tarfile.open(fileobj=gnu, mode="w", format=tarfile.GNU_FORMAT) as packed:
        packed.addfile(tarfile.TarInfo("small/a"))
    pax = io.BytesIO()
    info = tarfile.TarInfo("small/a")
    info.pax_headers = {"path": "../evil", "size": "9"}
    with tarfile.open(fileobj=pax, mode="w", format=tarfile.PAX_FORMAT) as packed:
        packed.addfile(info)
    base256 = bytearray(header("small/a", 1))
    base256[124:136] = b"\x80" + bytes(10) + b"\x01"
    spaces = bytearray(header("small/a", 1))
    spaces[124:136] = b"          1\0"
    bad = {
        "gnu": gnu.getvalue(),
        "pax": pax.getvalue(),
        "base256": _summed(base256) + bytes(2048),
        "spaces": _summed(spaces) + bytes(2048),
        "cut header": good[:300],
        "cut content": good[:900],
        "no end": good[:1536],
        "one zero record": good[: 1536 + 512],
        "after the end": good + b"x",
        "a second archive": good + good,
        "in the padding": good[:1200] + b"x" + good[1201:],
        "empty": b"",
        "text": b"hello" * 300,
        "gzip": b"\x1f\x8b" + bytes(2000),
    }
    for what, content in bad.items():
        (tmp_path / what).mkdir()
        with pytest.raises(Refused):
            _staged(tmp_path / what, _tar(tmp_path, content))
            pytest.fail(what)


def _summed(head: bytearray) -> bytes:
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_changed_tar_gives_the_same_files_or_is_refused_or_differs_in_their_content_only(
    tmp_path: Path, data: st.DataObject
) -> None:
    """Whatever byte changes: no file outside the folder, no crash."""
    content = bytearray(tar_of([("small/a", b"x" * 600), ("small/b/c", b"y")]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path / str(len(os.listdir(tmp_path)))
    folder.mkdir()
    try:
        found = _staged(folder, _tar(tmp_path, bytes(content[: data.draw(st.integers(0, len(content)))])))
    except (Refused, Environment):
        found = {}
    assert all(name.startswith("bundle") for name in found)
    assert sorted(os.listdir(folder)) in (["staged"], [])


def test_a_folder_with_a_link_or_a_pipe_is_refused(tmp_path: Path) -> None:
    for name in ("link", "pipe", "folder"):
        folder = tmp_path / name / "small"
        bundle_at(folder, 1)
        if name == "link":
            (folder / "engine/x").symlink_to("/etc/passwd")
        elif name == "pipe":
            os.mkfifo(folder / "x")
        else:
            (folder / "x").symlink_to(tmp_path)
        with pytest.raises(Refused, match="no regular file"):
            _staged(tmp_path / name, FolderSource(str(folder), LocalDisk()))


def test_nothing_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no folder and no tar file"):
        _staged(tmp_path, FolderSource(str(tmp_path / "absent"), LocalDisk()))
    with pytest.raises(Environment, match="cannot be read: No such file"):
        _staged(tmp_path, TarSource(str(tmp_path / "absent")))


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    entries = [(f"small/{n}", b"") for n in range(5000)]
    with pytest.raises(Refused, match="more than 4200 files"):
        _staged(tmp_path, _tar(tmp_path, tar_of(entries)))
