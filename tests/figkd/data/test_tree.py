"""The walk: everything below a folder is an image, a folder, or left out with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from figkd.data.left_out import REASONS, LeftOut, counted, remarks, summary
from figkd.data.opening import readable
from figkd.data.tree import DEPTH, walk
from figkd.errors import DataError


def _image(path: Path, form: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, form)
    return path


def _found(root: Path) -> dict[str, str]:
    return {entry.place: entry.reason for entry in walk(root).all_left_out()}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.jfif", "JPEG"),
        ("a", "PNG"),
        ("a.JPG", "JPEG"),
        ("a.png.bak", "PNG"),
        ("a.jpe", "JPEG"),
        ("a.dat", "WEBP"),
    ],
)
def test_an_image_is_known_by_its_content(tmp_path: Path, name: str, form: str) -> None:
    """Protects a class whose exporter knows other suffixes: the first bytes count."""
    _image(tmp_path / "c" / name, form)
    assert list(walk(tmp_path).all_images()) == [f"c/{name}"]


@pytest.mark.parametrize(
    "folder",
    [
        ".ipynb_checkpoints",
        "@eaDir",
        "$RECYCLE.BIN",
        "__MACOSX",
        "System Volume Information",
        ".git",
        "#recycle",
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_folders_of_other_systems_are_left_out_at_any_depth(tmp_path: Path, folder: str, depth: int) -> None:
    """Protects against copies and thumbnails that notebooks and network storage keep among the images."""
    _image(tmp_path / "c" / "1.png")
    inner = "/".join(["c", *"abc"[: depth - 1], folder]) if depth else folder
    _image(tmp_path / inner / "1.png")
    assert list(walk(tmp_path).all_images()) == ["c/1.png"]
    assert list(_found(tmp_path)) == [f"{inner}/"]


def test_every_kind_of_entry_has_its_reason(tmp_path: Path) -> None:
    """Protects: nothing is dropped without a word, whatever it is."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c/empty.jpg").touch()
    (tmp_path / "c/notes.txt").write_text("text")
    (tmp_path / "c/._1.jpg").write_bytes(b"x")
    (tmp_path / "c/photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "c/raw.nef").write_bytes(b"MM\0*" + bytes(40))
    (tmp_path / "c/layers.psd").write_bytes(b"8BPS\0\x01" + bytes(20))
    os.symlink("/nonexistent.png", tmp_path / "c/gone.png")
    os.symlink("self.png", tmp_path / "c/self.png")
    os.symlink("..", tmp_path / "c/up")
    os.mkfifo(tmp_path / "c/pipe.jpg")
    os.mkdir(os.fsencode(tmp_path / "c") + b"/caf\xe9")
    expected = {
        "c/empty.jpg": "empty",
        "c/notes.txt": "not_image",
        "c/._1.jpg": "hidden",
        "c/raw.nef": "no_library",
        "c/layers.psd": "no_library",
        "c/gone.png": "dangling_link",
        "c/self.png": "link_loop",
        "c/up/": "link_loop",
        "c/pipe.jpg": "special",
        "c/caf\\xe9/": "name",
    }
    if not readable("HEIC"):
        expected["c/photo.heic"] = "no_library"
    assert _found(tmp_path) == expected


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: a file or folder without permission is told, and the rest is used (also where root runs this)."""
    _image(tmp_path / "a/1.png")
    _image(tmp_path / "a/2.png")
    _image(tmp_path / "b/1.png")
    scan, access = os.scandir, os.access

    def refuse(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr("figkd.data.tree.os.scandir", refuse)
    monkeypatch.setattr(
        "figkd.data.tree.os.access", lambda path, mode: not path.endswith("/2.png") and access(path, mode)
    )
    assert _found(tmp_path) == {"a/2.png": "unreadable", "b/": "unreadable"}
    assert list(walk(tmp_path).all_images()) == ["a/1.png"]


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    """Protects users who link a large disk into their data."""
    _image(tmp_path / "disk/1.png")
    (tmp_path / "root").mkdir()
    os.symlink(tmp_path / "disk", tmp_path / "root/c")
    assert list(walk(tmp_path / "root").all_images()) == ["c/1.png"]


def test_bounds(tmp_path: Path) -> None:
    """Protects against a root that is a whole disk, and against endless nesting."""
    _image(tmp_path / "/".join("d" * (DEPTH + 2)) / "1.png")
    assert set(_found(tmp_path).values()) == {"too_deep"}
    with pytest.raises(DataError, match="more files than a data set has"):
        walk(tmp_path, most=5)


def test_words() -> None:
    """Protects data.json and the notes: numbers, a few examples, and a fix where a user must act, else silence."""
    entries = [LeftOut(f"a/{i}.png", "dangling_link") for i in range(9)] + [LeftOut("x", "hidden", 3)]
    assert counted(entries) == "9 x link to nothing, 3 x hidden"
    assert summary(entries)["dangling_link"] == {"count": 9, "examples": [f"a/{i}.png" for i in range(5)]}
    (remark,) = remarks(entries)
    assert remark == "left out: 9 x link to nothing (a/0.png, a/1.png, ...); " + REASONS["dangling_link"][1]
