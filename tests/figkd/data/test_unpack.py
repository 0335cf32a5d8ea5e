"""Archives that no publisher serves: refused, with nothing outside of the folder, in little memory and disk."""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import figkd.data.unpack as module
from figkd.data.unpack import unpack
from figkd.errors import DataError
from tests.memory import growth


def _member(name: str, content: bytes = b"1", **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


def _tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))


def _zip(path: Path, *members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)


def _zeros(path: Path, header: tarfile.TarInfo, size: int) -> None:
    """A compressed tar archive with one member of zeros, as far as `size`."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))


def _encrypted(path: Path) -> None:
    _zip(path, ("a", b"1" * 50))
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.index(mark) + place] |= 1
    path.write_bytes(data)


def _unknown_method(path: Path) -> None:
    _zip(path, ("a", b"1" * 50))
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        data[data.index(mark) + place] = 99
    path.write_bytes(data)


def _lying(path: Path) -> None:
    """Ten bytes by its table of contents, a megabyte in truth."""
    _zip(path, ("a", bytes(1 << 20)))
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)


LINK, HARD = {"type": tarfile.SYMTYPE, "linkname": "b"}, {"type": tarfile.LNKTYPE, "linkname": "b"}
UNSAFE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "tar absolute": ("a.tgz", lambda p: _tar(p, _member("/tmp/x"))),
    "tar above": ("a.tgz", lambda p: _tar(p, _member("a/../../x"))),
    "tar link inside": ("a.tgz", lambda p: _tar(p, _member("b"), _member("a", b"", **LINK))),
    "tar hard link": ("a.tgz", lambda p: _tar(p, _member("b"), _member("a", b"", **HARD))),
    "tar device": (
        "a.tgz",
        lambda p: _tar(p, _member("a", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    ),
    "tar FIFO": ("a.tgz", lambda p: _tar(p, _member("a", b"", type=tarfile.FIFOTYPE))),
    "tar twice": ("a.tgz", lambda p: _tar(p, _member("a"), _member("./a"))),
    "tar file and folder": ("a.tgz", lambda p: _tar(p, _member("a"), _member("a/b"))),
    "tar folder and file": ("a.tgz", lambda p: _tar(p, _member("a/b"), _member("a"))),
    "tar long name": ("a.tgz", lambda p: _tar(p, _member("x" * 256))),
    "tar deep": ("a.tgz", lambda p: _tar(p, _member("a/" * 100 + "b"))),
    "tar bomb": ("a.tgz", lambda p: _zeros(p, _member("a", b"", size=1 << 40)[0], 1 << 26)),
    "tar sparse": (
        "a.tgz",
        lambda p: _tar(p, _member("a", bytes(512), type=tarfile.GNUTYPE_SPARSE, size=512)),
    ),
    "zip absolute": ("a.zip", lambda p: _zip(p, ("/tmp/x", b"1"))),
    "zip above": ("a.zip", lambda p: _zip(p, ("a/../../x", b"1"))),
    "zip backslash": ("a.zip", lambda p: _zip(p, ("..\\x", b"1"))),
    "zip file and folder": ("a.zip", lambda p: _zip(p, ("a", b"1"), ("a/b", b"2"))),
    "zip long name": ("a.zip", lambda p: _zip(p, ("x" * 300, b"1"))),
    "zip bomb": ("a.zip", lambda p: _zip(p, *((f"{i}", bytes(1 << 18)) for i in range(5)))),
    "zip encrypted": ("a.zip", _encrypted),
}
DAMAGED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "empty": ("a.tgz", lambda p: p.write_bytes(b"")),
    "text": ("a.zip", lambda p: p.write_text("<html>not found</html>")),
    "tar header of 64 MB": ("a.tgz", lambda p: _zeros(p, _member("a", type=tarfile.XHDTYPE, size=1 << 26)[0], 1 << 26)),
    "tar name of 64 MB": (
        "a.tgz", lambda p: _zeros(p, _member("a", type=tarfile.GNUTYPE_LONGNAME, size=1 << 26)[0], 1 << 26),
    ),
    "zip method 99": ("a.zip", _unknown_method),
    "zip that lies": ("a.zip", _lying),
}  # fmt: skip


@pytest.mark.parametrize("name", [*UNSAFE, *DAMAGED])
def test_what_no_publisher_serves_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error; nothing beside the folder; neither memory nor disk as much as the archive asks for."""
    monkeypatch.setattr(module, "_ALWAYS", 1 << 20)
    file, make = (UNSAFE | DAMAGED)[name]
    make(tmp_path / file)
    content = tmp_path / "content"
    content.mkdir()
    with (
        growth() as taken,
        pytest.raises(DataError, match="is not safe to unpack" if name in UNSAFE else "is damaged"),
    ):
        unpack(tmp_path / file, content)
    assert taken.bytes < 32 << 20
    assert sum(path.lstat().st_size for path in content.rglob("*")) < 2 << 20
    assert {path.name for path in tmp_path.iterdir()} == {file, "content"} and not Path("/tmp/x").exists()


def test_what_publishers_serve_is_unpacked(tmp_path: Path) -> None:
    """Folders, files that compress well, long names and empty ones: the bounds are far away."""
    (tmp_path / "c").mkdir()
    (tmp_path / "z").mkdir()
    long = "d/" + "x" * 200
    folder = _member("d", b"", type=tarfile.DIRTYPE, mode=0o700)
    _tar(
        tmp_path / "a.tgz",
        _member(".", b"", type=tarfile.DIRTYPE),
        folder,
        folder,
        _member(long, bytes(1 << 20)),
    )
    unpack(tmp_path / "a.tgz", tmp_path / "c")
    assert (tmp_path / "c" / long).stat().st_size == 1 << 20
    _zip(tmp_path / "a.zip", ("d/", b""), (long, bytes(1 << 20)))
    unpack(tmp_path / "a.zip", tmp_path / "z")
    assert sorted(path.name for path in (tmp_path / "z" / "d").iterdir()) == ["x" * 200]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_beyond_ascii(tmp_path: Path, encoding: str) -> None:
    """They are unpacked; in a locale that cannot write them the archive is not called damaged."""
    _zip(tmp_path / "a.zip", ("d/", b""), ("d/ä", b""))
    (tmp_path / "z").mkdir()
    code = (
        "from pathlib import Path; from figkd.data.unpack import unpack; from figkd.errors import DataError\n"
        "try: unpack(Path('a.zip'), Path('z')); print(len(list(Path('z/d').iterdir())))\n"
        "except DataError as error: print(error)"
    )
    locale = {"LC_ALL": "C", "PYTHONUTF8": str(int(encoding == "utf-8")), "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | locale, capture_output=True, text=True
    )
    expected = "1" if encoding == "utf-8" else "a.zip has file names that this locale (ascii) cannot write"
    assert done.stdout.startswith(expected), done.stderr


def test_content_that_the_disk_cannot_take_is_an_error_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive is not to blame, and stays."""
    _zip(tmp_path / "a.zip", ("a", bytes(1000)))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=999))
    (tmp_path / "c").mkdir()
    with pytest.raises(OSError, match="No space left"):
        unpack(tmp_path / "a.zip", tmp_path / "c")


def test_mutants(tmp_path: Path) -> None:
    """600 mutants of a zip, a tar and a compressed tar archive: an error of ours, or files inside of the folder."""
    members = [_member(f"d/{i}", bytes([i]) * 700) for i in range(5)]
    _tar(tmp_path / "a.tgz", *members)
    (tmp_path / "a.tar").write_bytes(gzip.decompress((tmp_path / "a.tgz").read_bytes()))
    _zip(tmp_path / "a.zip", *((info.name, content) for info, content in members))
    names, unpacked = ("a.tgz", "a.tar", "a.zip"), 0
    wholes = {name: (tmp_path / name).read_bytes() for name in names}
    for seed in range(600):
        chance, name = random.Random(seed), names[seed % 3]
        data, content = bytearray(wholes[name]), tmp_path / "c"
        for _ in range(chance.choice((1, 1, 3, 10))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / name).write_bytes(
            data[: chance.choice((len(data), len(data), chance.randrange(len(data))))]
        )
        content.mkdir()
        try:
            unpack(tmp_path / name, content)
            unpacked += 1
        except DataError:
            pass
        assert all(not path.is_symlink() for path in content.rglob("*"))
        shutil.rmtree(content)
        assert {path.name for path in tmp_path.iterdir()} == set(names)
    assert 0 < unpacked < 500
