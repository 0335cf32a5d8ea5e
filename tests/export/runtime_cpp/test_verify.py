"""The C++ runtime takes exactly the bundles that Python takes, and survives whatever else it is given."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from export.runtime.bundle import UNSIGNED, BundleRefused, canonical, parse_manifest, verify
from export.runtime.bundle.manifest import MOST_BYTES, NAME
from tests.export.runtime.bundle.made import FILES, manifest_of, write_bundle
from tests.export.runtime_cpp.built import SANITIZERS

pytestmark = pytest.mark.slow
MUTANTS = 5000
PIECES = [b"\\u0000", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"-0", b"1e9", b"{}"]


def _read_by_cpp(programs: Path, manifests: Iterable[bytes]) -> list[str]:
    stream = b"".join(struct.pack("<I", len(data)) + data for data in manifests)
    done = subprocess.run(
        [programs / "fuzz_manifest"], input=stream, capture_output=True, env={**os.environ, **SANITIZERS}
    )
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return done.stdout.decode().splitlines()


def _read_by_python(data: bytes) -> str:
    try:
        return f"ok {parse_manifest(data).release}"
    except BundleRefused:
        return "refused"


def _verified(programs: Path, folders: Iterable[Path], trust: str = "unsigned") -> list[tuple[int, str]]:
    text = "".join(f"{folder}\n" for folder in folders)
    done = subprocess.run(
        [programs / "verify_bundles", trust],
        input=text,
        text=True,
        capture_output=True,
        env={**os.environ, **SANITIZERS},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = [line.partition(" ") for line in done.stdout.splitlines()]
    return [(int(status), words) for status, _, words in found]


def _mutant(rng: random.Random, good: bytes) -> bytes:
    """A manifest with one to three changes: bytes, values of every kind, keys, structure."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 3)):
        kind = rng.randrange(9)
        place, other = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
        low, high = min(place, other), min(max(place, other), min(place, other) + 40)
        if kind == 0 and place < len(data):
            data[place] = rng.randrange(256)
        elif kind == 1:
            del data[low:high]
        elif kind == 2:
            data[place:place] = data[low:high]
        elif kind == 3:
            data[place:place] = rng.choice(
                [b"\\u0000", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"-0", b"1e9", b"{}"]
            )
        elif kind == 4 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 5:
            data[place:place] = rng.choice([b"[", b'{"a":']) * rng.choice([3, 17, 5000])
        else:
            data = bytearray(_structural(rng, bytes(data)))
    return bytes(data)


def _structural(rng: random.Random, data: bytes) -> bytes:
    """Canonical bytes of a manifest in which one value is another."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return data
    node: Any = tree
    while isinstance(node, (dict, list)) and len(node):
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.3:
            break
        node = node[key]
    else:
        return data
    values: list[Any] = [
        "", "a", "A/b", "../x", "x/../y", "/x", "nul", "Com1.txt", "a.", "é", "\u200b", "\x7f", "\U0001f600", "SM87",
        "SM87777",
        "2025-01-02T03:04:05Z", "0" * 64, "x" * 101, "y" * 201, "\u20ac" * 200, 0, 1, -1, 2**63 - 1, 2**63,
        4097, -(2**63), 2**64, [], {}, ["x"] * 101, ["SM1"], True, None, 1.5,
    ]  # fmt: skip
    if rng.random() < 0.2 and isinstance(node, dict):
        node[rng.choice(["more", "engine", "A", "a/b", "LABELS.json", "golden", "manifest.json"])] = (
            rng.choice([{"sha256": "0" * 64, "bytes": 1}, 1])
        )
    elif rng.random() < 0.1 and isinstance(node, dict):
        del node[key]
    else:
        node[key] = rng.choice(values)
    try:
        text = json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return (text + "\n").encode()
    except ValueError:
        return data


def test_manifests_mean_the_same_to_both(programs: Path) -> None:
    """Thousands of damaged manifests: accepted by both, with the same release id, or refused by both."""
    rng = random.Random(15)
    good = canonical.encode(manifest_of(FILES, licences=["MIT", "Apache-2.0"], verdict="ship: 78 % – gut"))
    needs = {
        "architecture": "aarch64",
        "compute_capability": ["SM87"],
        "l4t": "36.4",
        "versions": {"tensorrt": "10.3"},
    }
    other = canonical.encode(manifest_of({**FILES, "engine/x.bin": b"1", "a/b/c/d.txt": b""}, needs=needs))
    manifests = [good, other, good + b" " * MOST_BYTES, b"", b"[" * 100_000, b"{}\n", b"[]\n", b"null\n"]
    manifests += [_mutant(rng, rng.choice((good, other))) for _ in range(MUTANTS)]
    found = _read_by_cpp(programs, manifests)
    expected = [_read_by_python(data) for data in manifests]
    assert expected[:3] == [_read_by_python(good), _read_by_python(other), "refused"]
    differing = [
        (data, one, two) for data, one, two in zip(manifests, found, expected, strict=True) if one != two
    ]
    assert not differing, differing[:3]
    assert sum(line != "refused" for line in found) > MUTANTS // 100, (
        "mutants that stay good are part of the test"
    )


def test_the_same_characters_can_be_shown(programs: Path) -> None:
    done = subprocess.run(
        [programs / "fuzz_manifest", "--printable"], capture_output=True, text=True, check=True
    )
    assert len(done.stdout) == sys.maxunicode + 1
    wrong = [
        f"{point:#x}"
        for point, found in enumerate(done.stdout)
        if unicodedata.category(chr(point)) != "Cn" and (found == "1") != chr(point).isprintable()
    ]
    assert not wrong


def _change(folder: Path, name: str, data: bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _link(folder: Path, name: str) -> None:
    outside = folder.parent / f"{folder.name}.outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)


def _pipe(folder: Path) -> None:
    (folder / "labels.json").unlink()
    os.mkfifo(folder / "labels.json")


def _manifest(folder: Path, data: bytes) -> None:
    (folder / NAME).write_bytes(data)


ENTRY = {"sha256": "0" * 64, "bytes": 1}
BAD = {
    "changed": lambda f: _change(f, "labels.json", b'["b","a"]\n'),
    "grown": lambda f: _change(f, "labels.json", FILES["labels.json"] + b"\0"),
    "cut": lambda f: _change(f, "engine/fp32.onnx", FILES["engine/fp32.onnx"][:-1]),
    "empty": lambda f: _change(f, "engine/fp32.onnx", b""),
    "missing": lambda f: (f / "labels.json").unlink(),
    "renamed": lambda f: (f / "labels.json").rename(f / "label.json"),
    "added": lambda f: _change(f, "more", b"x"),
    "under .git": lambda f: _change(f, ".git/config", b"x"),
    "hidden": lambda f: _change(f, "engine/.x", b"x"),
    "two manifests": lambda f: _change(f, "MANIFEST.json", (f / NAME).read_bytes()),
    "no manifest": lambda f: (f / NAME).unlink(),
    "a manifest too large": lambda f: _manifest(f, (f / NAME).read_bytes() + b" " * MOST_BYTES),
    "linked file": lambda f: _link(f, "labels.json"),
    "linked folder": lambda f: _link(f, "golden"),
    "linked manifest": lambda f: _link(f, NAME),
    "pipe": _pipe,
    "empty folder": lambda f: (f / "nothing").mkdir(),
    "..": lambda f: _manifest(f, canonical.encode(manifest_of(FILES, files={"../x": ENTRY}))),
    "twins": lambda f: _manifest(
        f,
        canonical.encode(
            manifest_of(FILES, files={**manifest_of(FILES)["files"], "LABELS.json": ENTRY, "A": ENTRY})
        ),
    ),
    "the manifest lists itself": lambda f: _manifest(
        f, canonical.encode(manifest_of(FILES, files={**manifest_of(FILES)["files"], NAME: ENTRY}))
    ),
    "too many files": lambda f: [_change(f, f"many/{n}", b"") for n in range(4100)],
    "too deep": lambda f: _change(f, "a/" * 40 + "x", b"x"),
}


def test_bundles_that_differ_from_what_was_made(programs: Path, tmp_path: Path) -> None:
    good = write_bundle(tmp_path / "good")
    (tmp_path / "current").symlink_to("good")
    assert _verified(programs, [good, tmp_path / "current"]) == [(0, verify(good, UNSIGNED).release)] * 2
    folders = []
    for name, change in BAD.items():
        folder = write_bundle(tmp_path / name)
        change(folder)
        folders.append(folder)
        with pytest.raises(BundleRefused):
            verify(folder, UNSIGNED)
    found = dict(zip(BAD, _verified(programs, folders), strict=True))
    assert {name: status for name, (status, _) in found.items()} == dict.fromkeys(BAD, 6)
    assert all(words for _, words in found.values())
    assert "SHA-256" in found["changed"][1] and "is missing" in found["missing"][1]
    assert "a link" in found["linked folder"][1] and "not in its manifest" in found["under .git"][1]
    assert "differ in case" in found["twins"][1]


def test_what_is_no_bundle(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    places = [tmp_path / "file", tmp_path / "empty", tmp_path / "absent", Path("/dev/null")]
    assert [status for status, _ in _verified(programs, places)] == [6, 6, 6, 6]


def test_a_trust_that_cannot_be_checked_is_no_trust(programs: Path, tmp_path: Path) -> None:
    good = write_bundle(tmp_path / "good")
    assert [status for status, _ in _verified(programs, [good], str(tmp_path / "trust.json"))] == [6]
    assert [status for status, _ in _verified(programs, [good], "")] == [2]
