"""The C++ runtime takes exactly the bundles that Python takes, and survives whatever else it is given."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from export.runtime.bundle import UNSIGNED, BundleRefused, canonical, parse_manifest, verify
from export.runtime.bundle.manifest import MOST_BYTES, NAME
from tests.export.runtime.bundle.made import FILES, manifest_of, write_bundle
from tests.export.runtime_cpp.mutants import mutant
from tests.export.runtime_cpp.programs import read_by_cpp, verified

pytestmark = pytest.mark.slow
MUTANTS = 5000


def _read_by_python(data: bytes) -> str:
    try:
        return f"ok {parse_manifest(data).release}"
    except BundleRefused:
        return "refused"


def _several(files: dict[str, bytes]) -> dict[str, Any]:
    """Of format 2: three engines with needs of every kind."""
    names = {f"engine/{name}{end}": b"x" for name in ("orin", "vnni") for end in ("", ".json")}
    found = manifest_of({**files, **names}, format=2, counts=0)
    needs = {**found.pop("needs"), "cpu_features": []}
    last = {**found.pop("engine"), "name": "any", "answers": "", "needs": needs}
    gpu = {**needs, "compute_capability": ["SM87"], "versions": {"tensorrt": "10.3"}}
    orin = {**last, "file": "engine/orin", "backend": "tensorrt", "name": "orin", "needs": gpu}
    cpu = {**needs, "cpu_features": ["avx512_vnni", "avx_vnni"]}
    vnni = {**last, "file": "engine/vnni", "name": "vnni", "answers": "answers/vnni", "needs": cpu}
    return {**found, "engines": [orin, vnni, last]}


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
    several = canonical.encode(_several(FILES))
    manifests = [
        several,
        good,
        other,
        good + b" " * MOST_BYTES,
        b"",
        b"[" * 100_000,
        b"{}\n",
        b"[]\n",
        b"null\n",
    ]
    manifests += [mutant(rng, rng.choice((good, other, several))) for _ in range(MUTANTS)]
    found = read_by_cpp(programs, "manifest", manifests)
    expected = [_read_by_python(data) for data in manifests]
    assert expected[:4] == [*map(_read_by_python, (several, good, other)), "refused"]
    assert expected[0] != "refused"
    differing = [
        (data, one, two) for data, one, two in zip(manifests, found, expected, strict=True) if one != two
    ]
    assert not differing, differing[:3]
    assert sum(line != "refused" for line in found) > MUTANTS // 100, (
        "mutants that stay good are part of the test"
    )


def test_the_same_characters_can_be_shown(programs: Path) -> None:
    done = subprocess.run([programs / "fuzz", "printable"], capture_output=True, text=True, check=True)
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
    assert verified(programs, [good, tmp_path / "current"]) == [(0, verify(good, UNSIGNED).release)] * 2
    folders = []
    for name, change in BAD.items():
        folder = write_bundle(tmp_path / name)
        change(folder)
        folders.append(folder)
        with pytest.raises(BundleRefused):
            verify(folder, UNSIGNED)
    found = dict(zip(BAD, verified(programs, folders), strict=True))
    assert {name: status for name, (status, _) in found.items()} == dict.fromkeys(BAD, 6)
    assert all(words for _, words in found.values())
    assert "SHA-256" in found["changed"][1] and "is missing" in found["missing"][1]
    assert "a link" in found["linked folder"][1] and "not in its manifest" in found["under .git"][1]
    assert "differ in case" in found["twins"][1]


def test_what_is_no_bundle(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    places = [tmp_path / "file", tmp_path / "empty", tmp_path / "absent", Path("/dev/null")]
    assert [status for status, _ in verified(programs, places)] == [6, 6, 6, 6]


def test_trust_has_to_be_said(programs: Path, tmp_path: Path) -> None:
    good = write_bundle(tmp_path / "good")
    for trust in ("", tmp_path / "absent.json", tmp_path):
        assert [status for status, _ in verified(programs, [good], trust)] == [2]
