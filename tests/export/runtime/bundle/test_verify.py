"""A bundle that differs in one byte, name or kind of file from what was made is refused, and nothing of it is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.runtime.bundle import UNSIGNED, BundleRefused, canonical, open_bundle, verify
from export.runtime.bundle.manifest import MOST_BYTES, NAME, parse_manifest
from export.runtime.bundle.names import fault_of_name, fault_of_names
from tests.export.runtime.bundle.made import FILES, manifest_of, write_bundle

ROOT = Path(__file__).parents[4]


def _refused(folder: Path) -> str:
    with pytest.raises(BundleRefused) as caught:
        verify(folder, UNSIGNED)
    assert caught.value.exit_code == 6
    return caught.value.what


def test_a_whole_bundle_is_taken_also_through_a_link(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small")
    manifest = verify(folder, UNSIGNED)
    assert (manifest.name, manifest.engines[0].file, len(manifest.files)) == (
        "small",
        "engine/fp32.onnx",
        len(FILES),
    )
    (tmp_path / "current").symlink_to("small")
    assert verify(tmp_path / "current", UNSIGNED).release == manifest.release
    assert manifest.size == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_that_a_bundle_may_be_unsigned_must_be_spelled_out(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="UNSIGNED"):
        verify(write_bundle(tmp_path / "small"), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*FILES, NAME])
def test_a_file_changed_cut_grown_or_gone(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "small")
    path = folder / name
    data = path.read_bytes()
    for other in (bytes([data[0] ^ 1]) + data[1:], data[:-1], data + b"\0", b""):
        path.write_bytes(other)
        assert name in _refused(folder)
    path.unlink()
    assert any(word in _refused(folder) for word in ("missing", "empty folder", NAME))


@pytest.mark.parametrize(
    "name", ["extra", ".git/config", "engine/.hidden", "manifest.json.2", "golden/images/1.png"]
)
def test_a_file_too_many(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "small")
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"more")
    assert name in _refused(folder)


def test_links_pipes_and_empty_folders(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small")
    path = folder / "labels.json"
    path.rename(tmp_path / "labels.json")
    path.symlink_to(tmp_path / "labels.json")
    assert "'labels.json' in the bundle is a link" in _refused(folder)
    path.unlink()
    os.mkfifo(path)
    assert "no regular file" in _refused(folder)
    path.unlink()
    (tmp_path / "labels.json").rename(path)
    (folder / "golden").rename(tmp_path / "golden")
    (folder / "golden").symlink_to(tmp_path / "golden")
    assert "is a link" in _refused(folder)
    (folder / "golden").unlink()
    (tmp_path / "golden").rename(folder / "golden")
    (folder / "empty").mkdir()
    assert "empty folder" in _refused(folder)


def test_the_bytes_that_are_read_are_those_that_were_checked(tmp_path: Path) -> None:
    bundle = open_bundle(write_bundle(tmp_path / "small"), UNSIGNED)
    assert bundle.read("engine/fp32.onnx") == FILES["engine/fp32.onnx"]
    (tmp_path / "small/engine/fp32.onnx").write_bytes(b"another!!" * 100)
    with pytest.raises(BundleRefused, match="SHA-256"):
        bundle.read("engine/fp32.onnx")
    with pytest.raises(BundleRefused, match="has no"):
        bundle.read("../small/labels.json")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"name": "a/b"},
        {"name": "-x"},
        {"sequence": -1},
        {"sequence": "1"},
        {"created": "yesterday"},
        {"verdict": "a\nb"},
        {"more": 1},
        {"engine": []},
        {"engine": {"file": "engine/fp32.onnx", "backend": "sh", "precision": "fp32", "threads": 1}},
        {"engine": {"file": "../x", "backend": "onnxruntime", "precision": "fp32", "threads": 1}},
        {"engine": {"file": "labels.json", "backend": "onnxruntime", "precision": "fp32", "threads": 1}},
        {"needs": {"architecture": "", "compute_capability": ["87"], "l4t": "", "versions": {}}},
        {"files": {"../x": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {"a": {"sha256": "0" * 63, "bytes": 1}}},
        {"files": {"manifest.json": {"sha256": "0" * 64, "bytes": 1}}},
        {"licences": [1]},
    ],
)
def test_manifests_that_no_bundle_has(change: dict[str, Any]) -> None:
    with pytest.raises(BundleRefused, match="manifest"):
        parse_manifest(canonical.encode(manifest_of(FILES, **change)))


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: " " + text,
        lambda text: text.rstrip("\n"),
        lambda text: text.replace(",", ", ", 1),
        lambda text: text.replace('"name":"small"', '"name":"other","name":"small"'),
        lambda text: text.replace('"sequence":7', '"sequence":7.0'),
        lambda text: text.replace('"sequence":7', '"sequence":07'),
        lambda text: text.replace('"sequence":7', '"sequence":' + "9" * 500_000),
        lambda text: text.replace('"sequence":7', '"sequence":NaN'),
        lambda text: text.replace("small", "sm\\u0061ll"),
        lambda text: "\ufeff" + text,
        lambda text: "[" * 100_000,
        lambda text: text + " " * MOST_BYTES,
    ],
)
def test_bytes_that_say_the_same_in_another_way(edit: Any) -> None:
    text = canonical.encode(manifest_of(FILES)).decode()
    with pytest.raises(BundleRefused):
        parse_manifest(edit(text).encode())
    with pytest.raises(BundleRefused):
        parse_manifest(text.encode("utf-16"))


def test_names_that_another_file_system_would_take_for_others() -> None:
    for name in (
        "",
        "a//b",
        "/a",
        "a/",
        "..",
        "a/../b",
        ".git/x",
        "a b",
        "a\\b",
        "ä",
        "a\0",
        "x" * 201,
        "nul",
        "a/COM1.txt",
        "a.",
    ):
        assert fault_of_name(name), name
    for names in (["A", "a"], ["x/a", "X/b"], ["a", "a/b"], ["a/b/c", "A/b/d"]):
        assert fault_of_names(names), names
    assert not fault_of_names(["a/b", "a/c", "ab", "engine/int8-SM86.engine"])


_VALUES = st.recursive(
    st.text() | st.integers(-(2**63) + 1, 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(_VALUES)
def test_canonical_json_comes_back(value: Any) -> None:
    try:
        data = canonical.encode(value)
    except ValueError:  # half of a surrogate pair
        return
    assert canonical.decode(data, "x") == value
    assert json.loads(data) == value


@given(_VALUES, st.data())
def test_any_other_bytes_are_refused_or_another_value(value: Any, data: st.DataObject) -> None:
    try:
        good = canonical.encode(value)
    except ValueError:
        return
    place = data.draw(st.integers(0, len(good) - 1))
    bad = good[:place] + bytes([data.draw(st.integers(0, 255))]) + good[place + 1 :]
    try:
        assert (canonical.decode(bad, "x") == value) == (bad == good)
    except BundleRefused:
        assert bad != good


def test_it_runs_without_our_other_packages_and_numpy(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small")
    code = (
        "import sys, export.runtime.bundle as b; "
        f"print(b.verify({str(folder)!r}, b.UNSIGNED).release); "
        "sys.exit(bool({'numpy', 'torch', 'onnx', 'pydantic'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == verify(folder, UNSIGNED).release
