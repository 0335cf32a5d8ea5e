"""Downloads from a server on this machine: whole, resumed, broken, wrong, unsafe."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import figkd.data.download as module
from figkd.data import DATASETS, load_module
from figkd.data.download import archives, download
from figkd.data.listing import Archive
from figkd.errors import DataError


class Server:
    """Serves bytes by name; may break connections, ignore ranges, or fail with a status."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.break_after: list[int] = []
        """Bytes after which the next connections end."""
        self.statuses: list[int] = []
        """Statuses that the next requests get instead of an answer."""
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []
        """Path and Range of each request."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/data"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.requests.append((request.path, asked))
        data = self.files.get(request.path.removeprefix("/data/"))
        if self.statuses or data is None:
            request.send_error(self.statuses.pop(0) if self.statuses else 404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start and start >= len(data):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(data)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        rest = data[start:]
        request.wfile.write(rest[: self.break_after.pop(0)] if self.break_after else rest)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on a free port of this machine."""
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    found = Server()
    thread = threading.Thread(target=found.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.http.shutdown()
    thread.join()
    found.http.server_close()


def _tar(members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _serve(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    data: bytes,
    name: str = "birds.tgz",
    gives: str = "birds",
    **changes: Any,
) -> Archive:
    """Make cub200 consist of one archive of that server."""
    server.files[name] = data
    facts = {"size": len(data), "checksum": f"sha256:{hashlib.sha256(data).hexdigest()}"} | changes
    archive = Archive(f"{server.url}/{name}", facts["size"], facts["checksum"], gives)
    monkeypatch.setattr(load_module("cub200"), "ARCHIVES", (archive,))
    return archive


CONTENT = _tar(
    {"birds/images.txt": b"1 a.jpg\n", "birds/a.jpg": bytes(range(256)) * 64, "attributes.txt": b"x"}
)


def _is_whole(root: Path) -> bool:
    return (
        (root / "birds" / "images.txt").read_bytes() == b"1 a.jpg\n"
        and (root / "birds" / "a.jpg").stat().st_size == 256 * 64
        and sorted(path.name for path in root.iterdir()) == ["attributes.txt", "birds"]
    )


def test_fetched_checked_and_unpacked(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Protects the usual case: content, nothing left over, progress in bytes; a second call asks for nothing."""
    _serve(server, monkeypatch, CONTENT)
    seen: list[tuple[int, int, str]] = []
    assert download("cub200", tmp_path / "r", progress=lambda *said: seen.append(said)) == ["birds.tgz"]
    assert _is_whole(tmp_path / "r")
    assert seen[-1] == (len(CONTENT), len(CONTENT), "birds.tgz")
    assert download("cub200", tmp_path / "r") == []
    assert len(server.requests) == 1


def test_a_mirror(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects `url`: a folder elsewhere with the published names; the checksum still counts."""
    archive = _serve(server, monkeypatch, CONTENT)
    server.files["mirror/birds.tgz"] = server.files.pop("birds.tgz")
    with pytest.raises(DataError, match="the server says 404"):
        download("cub200", tmp_path / "r")
    assert download("cub200", tmp_path / "r", url=f"{server.url}/mirror/") == [archive.name]
    assert _is_whole(tmp_path / "r")
    with pytest.raises(DataError, match="not an http or https address"):
        download("cub200", tmp_path / "x", url="file:///etc")


def test_a_wrong_checksum(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects against another file than the published one: it is removed and nothing is unpacked."""
    _serve(server, monkeypatch, CONTENT, checksum=f"md5:{'0' * 32}")
    with pytest.raises(
        DataError, match=r"birds\.tgz has the md5 [0-9a-f]{32}, published was 0{32}; it was removed"
    ):
        download("cub200", tmp_path / "r")
    assert list((tmp_path / "r").iterdir()) == []
    _serve(server, monkeypatch, CONTENT)
    download("cub200", tmp_path / "r")
    assert _is_whole(tmp_path / "r")


def test_a_wrong_size_is_seen_before_the_download(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Protects time: a page that says "moved" is not taken for an archive."""
    _serve(server, monkeypatch, CONTENT, size=len(CONTENT) + 1)
    with pytest.raises(DataError, match="it is not the published file"):
        download("cub200", tmp_path / "r")


def test_a_broken_connection_is_taken_up(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Protects large downloads: the same call goes on from the last byte."""
    _serve(server, monkeypatch, CONTENT)
    server.break_after = [100, 50]
    server.statuses = [503]
    download("cub200", tmp_path / "r")
    assert [asked for _, asked in server.requests] == [None, None, "bytes=100-", "bytes=150-"]
    assert _is_whole(tmp_path / "r")


def test_a_later_call_goes_on(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects against starting over: what was fetched before the connection went away is used."""
    _serve(server, monkeypatch, CONTENT)
    server.break_after = [40, 30, 20, 10]
    with pytest.raises(DataError, match=r"the connection broke, after 100 bytes.*continues from there"):
        download("cub200", tmp_path / "r")
    assert (tmp_path / "r" / ".downloads" / "birds.tgz").stat().st_size == 100
    download("cub200", tmp_path / "r")
    assert server.requests[-1][1] == "bytes=100-"
    assert _is_whole(tmp_path / "r")


def test_a_server_without_ranges(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects: a server that always sends the whole file gives it once, not appended to its beginning."""
    _serve(server, monkeypatch, CONTENT)
    server.ranges = False
    server.break_after = [100]
    download("cub200", tmp_path / "r")
    assert _is_whole(tmp_path / "r")


def test_leftovers_of_another_file(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects: a longer leftover than the file itself is thrown away."""
    _serve(server, monkeypatch, CONTENT)
    (tmp_path / "r" / ".downloads").mkdir(parents=True)
    (tmp_path / "r" / ".downloads" / "birds.tgz").write_bytes(bytes(len(CONTENT) + 7))
    download("cub200", tmp_path / "r")
    assert _is_whole(tmp_path / "r")


def test_no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects: without a network, one clear message."""
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    monkeypatch.setattr(
        load_module("cub200"), "ARCHIVES", (Archive("http://127.0.0.1:9/a.tgz", 10, "", "birds"),)
    )
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/a\.tgz: .*refused.*, after 0 bytes"):
        download("cub200", tmp_path / "r")


def _link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def _device() -> tarfile.TarInfo:
    info = tarfile.TarInfo("birds/null")
    info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 3
    return info


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.tgz", _tar({"birds/a": b"1", "../outside": b"2"})),
        ("a.tgz", _tar({"birds/a": b"1", "birds/../../outside": b"2"})),
        ("a.tgz", _tar({"birds/a": b"1", "birds/link": _link("birds/link", "../../outside")})),
        ("a.tgz", _tar({"birds/a": b"1", "birds/null": _device()})),
        ("a.zip", _zip({"birds/a": b"1", "../outside": b"2"})),
        ("a.zip", _zip({"birds/a": b"1", "birds\\..\\..\\outside": b"2"})),
        ("a.zip", _zip({"birds/a": b"1", "/outside": b"2"})),
    ],
    ids=["tar ..", "tar inner ..", "tar link", "tar device", "zip ..", "zip backslash", "zip absolute"],
)
def test_unsafe_members(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, data: bytes
) -> None:
    """Protects the disk: a member that would land outside stops everything; nothing of the archive stays."""
    _serve(server, monkeypatch, data, name)
    with pytest.raises(DataError, match=r"is not safe to unpack.*it was removed"):
        download("cub200", tmp_path / "r")
    assert not (tmp_path / "outside").exists()
    assert list((tmp_path / "r").iterdir()) == []


@pytest.mark.parametrize("name", ["a.tgz", "a.tar", "a.zip"])
def test_damaged_archives_without_a_checksum(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Protects where none was published: the archive's own checks; the file is removed."""
    whole = {
        "a.tgz": CONTENT,
        "a.tar": _tar({"birds/a": b"1" * 2000}, "w"),
        "a.zip": _zip({"birds/a": b"123456789" * 50}),
    }[name]
    # A tar file ends with zeros, and a zip file with its table of contents.
    damaged = (
        whole.replace(b"123456789", b"123456780", 1)
        if name == "a.zip"
        else whole[: 150 if name == "a.tgz" else 1000]
    )
    _serve(server, monkeypatch, damaged, name, checksum="", size=0)
    with pytest.raises(DataError, match=r"is damaged.*it was removed"):
        download("cub200", tmp_path / "r")
    assert list((tmp_path / "r").iterdir()) == []


def test_a_zip_and_a_plain_file(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects the other two kinds of files that publishers serve."""
    archive = _serve(
        server, monkeypatch, _zip({"birds/a.txt": b"1", "birds/sub/b.txt": b"2"}), "a.zip", size=0
    )
    server.files["labels.mat"] = b"list"
    plain = Archive(f"{server.url}/labels.mat", 4, f"md5:{hashlib.md5(b'list').hexdigest()}", "labels.mat")
    monkeypatch.setattr(load_module("cub200"), "ARCHIVES", (plain, archive))
    assert download("cub200", tmp_path / "r") == ["labels.mat", "a.zip"]
    assert (tmp_path / "r" / "labels.mat").read_bytes() == b"list"
    assert (tmp_path / "r" / "birds" / "sub" / "b.txt").read_bytes() == b"2"
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["birds", "labels.mat"]


def test_another_archive_than_the_published_one(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Protects: an archive without the expected folder; a folder of the user's that is in the way."""
    _serve(server, monkeypatch, _tar({"cats/a": b"1"}))
    with pytest.raises(DataError, match=r"birds\.tgz does not hold birds"):
        download("cub200", tmp_path / "r")
    _serve(server, monkeypatch, CONTENT)
    (tmp_path / "s" / "attributes.txt").mkdir(parents=True)
    with pytest.raises(DataError, match=r"attributes\.txt is in the way"):
        download("cub200", tmp_path / "s")
    assert not (tmp_path / "s" / "birds").exists()


def test_two_at_once(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects against two programs that write one file."""
    import fcntl

    _serve(server, monkeypatch, CONTENT)
    (tmp_path / "r" / ".downloads").mkdir(parents=True)
    with (tmp_path / "r" / ".downloads" / "birds.tgz").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"another download into .* is running"):
            download("cub200", tmp_path / "r")


def test_no_space_and_no_permission(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects: both are said before anything is fetched."""
    archive = _serve(server, monkeypatch, CONTENT)
    monkeypatch.setattr(
        load_module("cub200"), "ARCHIVES", (Archive(archive.url, 1 << 60, archive.checksum, "birds"),)
    )
    with pytest.raises(DataError, match=r"birds\.tgz needs .* GB, .* GB are free"):
        download("cub200", tmp_path / "r")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write to"):
        download("cub200", tmp_path / "file")
    assert server.requests == []


def test_what_is_not_served_is_explained(tmp_path: Path) -> None:
    """Protects: how to get it by hand, with the expected tree; data that needs none; unknown names."""
    with pytest.raises(
        DataError, match=r"stanford_cars is not downloaded(.|\n)*take a copy(.|\n)*<root>/cars_train"
    ):
        download("stanford_cars", tmp_path)
    with pytest.raises(DataError, match=r"fonts is not downloaded by this program .no root"):
        download("fonts", tmp_path)
    with pytest.raises(DataError, match="unknown data set"):
        download("nosuch", tmp_path)


def test_the_tables_are_well_formed() -> None:
    """Protects the published addresses: scheme, kind and length of checksums, unique names; sources say how."""
    digits = {"sha256": 64, "md5": 32, "": 0}
    for dataset in DATASETS:
        found = archives(dataset)
        assert len({archive.name for archive in found}) == len(found)
        for archive in found:
            kind, _, value = archive.checksum.partition(":")
            assert len(value) == digits[kind], archive
            assert archive.url.startswith(("https://", "http://"))
            assert archive.size or not archive.checksum, archive
        said = getattr(load_module(dataset), "SOURCE", "")
        assert bool(found) == (f"figkd-pipeline download {dataset} ROOT" in said), dataset


def test_a_full_disk(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects: it is told as that at once; what came stays, and a later call goes on."""
    _serve(server, monkeypatch, CONTENT)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module, "unpack", full)
        with pytest.raises(DataError, match=r"cannot write to .*No space left"):
            download("cub200", tmp_path / "r")
    with monkeypatch.context() as patch:
        patch.setattr(module._Pace, "count", full)
        (tmp_path / "s").mkdir()
        with pytest.raises(DataError, match=r"cannot write to .*No space left"):
            download("cub200", tmp_path / "s")
    assert [path.name for path in (tmp_path / "r" / ".downloads").iterdir()] == ["birds.tgz"]
    for root in (tmp_path / "r", tmp_path / "s"):
        download("cub200", root)
        assert _is_whole(root)
    assert len(server.requests) <= 3


def test_a_file_of_the_users_is_not_replaced(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Protects: an archive's member has the name of a file that is there; only the same bytes may be replaced."""
    _serve(server, monkeypatch, CONTENT)
    (tmp_path / "attributes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"attributes\.txt is in the way"):
        download("cub200", tmp_path)
    assert (tmp_path / "attributes.txt").read_text() == "mine"
    (tmp_path / "attributes.txt").write_bytes(b"x")  # what an earlier try moved
    download("cub200", tmp_path)
    assert _is_whole(tmp_path)
