"""CIFAR-100 in both published versions, in small; a pickle is read without running anything."""

from __future__ import annotations

import os
import pickle
import pickletools
import sys
from pathlib import Path

import numpy as np
import pytest

from figkd.data import class_names, load_module, open_split, prepare, source_files
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import given
from tests.memory import growth

FINE = ["apple", "aquarium_fish", "baby"]
COARSE = ["aquatic_mammals", "fish"]
IMAGES = np.random.default_rng(0).integers(0, 256, (18, 3, 32, 32), dtype=np.uint8)
LABELS = [index % 3 for index in range(18)]
GROUPS = [label % 2 for label in LABELS]
PARTS = {"train": range(12), "test": range(12, 18)}


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """Records of coarse label, fine label, and the planes red, green, blue."""
    folder = tmp_path / "binary" / "cifar-100-binary"
    folder.mkdir(parents=True)
    for name, part in PARTS.items():
        records = [bytes([GROUPS[i], LABELS[i]]) + IMAGES[i].tobytes() for i in part]
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    (folder / "fine_label_names.txt").write_text("\n".join(FINE) + "\n\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n\n")
    return folder.parent


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Pickles as the published ones: protocol 2, keys that are bytes once read, arrays of old NumPy."""
    folder = tmp_path / "python" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, part in PARTS.items():
        _write(
            folder / name,
            {
                "filenames": [f"picture_{i}.png" for i in part],
                "batch_label": "training batch 1 of 1",
                "fine_labels": [LABELS[i] for i in part],
                "coarse_labels": [GROUPS[i] for i in part],
                "data": IMAGES[list(part)].reshape(-1, 3072),
            },
        )
    _write(folder / "meta", {"fine_label_names": FINE, "coarse_label_names": COARSE})
    return folder.parent


def _write(path: Path, values: dict[str, object]) -> None:
    path.write_bytes(pickle.dumps(values, protocol=2).replace(b"cnumpy._core.multi", b"cnumpy.core.multi"))


def _prepared(root: Path, out: Path, size: int = 32, **options: object) -> dict[str, object]:
    return prepare(
        "cifar100", root, out, image_size=size, store_size=size, val_fraction=0.25, seed=0, options=options
    )


def _content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_binary_version(binary: Path, tmp_path: Path) -> None:
    """Protects pixels (at 32 px exactly those of the file), planes, labels, names and counts."""
    said = _prepared(binary, tmp_path / "out")
    assert given(said) == {"train": 12, "test": 6}
    assert class_names(tmp_path / "out") == FINE
    test = open_split(tmp_path / "out", "test")
    np.testing.assert_array_equal(test.images, IMAGES[12:].transpose(0, 2, 3, 1))
    assert test.labels.tolist() == LABELS[12:]
    assert test.ids[1] == "test/00001"
    assert [file.name for file in source_files("cifar100", binary)] == [
        "fine_label_names.txt", "test.bin", "train.bin"]  # fmt: skip


def test_both_versions_give_the_same_bytes(binary: Path, python: Path, tmp_path: Path) -> None:
    """Protects the pickle's reading: keys, planes, labels; in the root or in its folder; fine and coarse."""
    _prepared(binary, tmp_path / "a")
    _prepared(python, tmp_path / "b")
    _prepared(python / "cifar-100-python", tmp_path / "c")
    assert _content(tmp_path / "a") == _content(tmp_path / "b") == _content(tmp_path / "c")
    _prepared(binary, tmp_path / "d", labels="coarse")
    _prepared(python, tmp_path / "e", labels="coarse")
    assert class_names(tmp_path / "d") == COARSE
    assert open_split(tmp_path / "d", "test").labels.tolist() == GROUPS[12:]
    assert _content(tmp_path / "d") == _content(tmp_path / "e")


def _old(value: object) -> bytes:
    """The opcodes that Python 2 wrote for a value: its texts were bytes."""
    if isinstance(value, str):
        return b"T" + len(value).to_bytes(4, "little") + value.encode()
    if isinstance(value, int):
        return b"J" + value.to_bytes(4, "little", signed=True)
    if isinstance(value, list):
        return b"](" + b"".join(map(_old, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_old(part) for pair in value.items() for part in pair) + b"u"
    assert isinstance(value, np.ndarray) and value.dtype == np.uint8
    dtype = (
        b"cnumpy\ndtype\n"
        + _old("u1")
        + b"K\x00K\x01\x87R(K\x03"
        + _old("|")
        + b"NNN"
        + _old(-1) * 2
        + b"K\x00tb"
    )
    data = b"T" + value.nbytes.to_bytes(4, "little") + value.tobytes()
    shape = b"(" + b"".join(map(_old, value.shape)) + b"t"
    new = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _old("b") + b"\x87R"
    return new + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def test_pickles_of_python_2(python: Path, tmp_path: Path) -> None:
    """Protects the published file itself, which Python 2 wrote: the opcodes are those of its own."""
    _prepared(python, tmp_path / "a")
    for name, part in PARTS.items():
        values = {
            "fine_labels": [LABELS[i] for i in part],
            "data": np.ascontiguousarray(IMAGES[list(part)].reshape(-1, 3072)),
        }
        whole = b"\x80\x02" + _old(values) + b"."
        (python / "cifar-100-python" / name).write_bytes(whole)
        loaded = pickle.loads(whole.replace(b"numpy.core", b"numpy._core"), encoding="bytes")
        np.testing.assert_array_equal(loaded[b"data"], values["data"])
    (python / "cifar-100-python" / "meta").write_bytes(b"\x80\x02" + _old({"fine_label_names": FINE}) + b".")
    _prepared(python, tmp_path / "b")
    assert _content(tmp_path / "a") == _content(tmp_path / "b")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_newer_versions(python: Path, tmp_path: Path, protocol: int) -> None:
    """Protects copies that somebody wrote again with a newer Python and NumPy."""
    _prepared(python, tmp_path / "a")
    for name in ("train", "test", "meta"):
        path = python / "cifar-100-python" / name
        values = pickle.loads(path.read_bytes().replace(b"cnumpy.core.multi", b"cnumpy._core.multi"))
        path.write_bytes(pickle.dumps(values, protocol=protocol))
    if protocol == 5:  # arrays come as buffers there, which the published file does not use
        with pytest.raises(DataError, match="asks for numpy"):
            _prepared(python, tmp_path / "b")
    else:
        _prepared(python, tmp_path / "b")
        assert _content(tmp_path / "a") == _content(tmp_path / "b")


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_malicious_pickle_is_refused(python: Path, tmp_path: Path, name: str) -> None:
    """Protects the user: what a pickle asks to be run is not run."""
    mark = tmp_path / "ran"
    path = python / "cifar-100-python" / name
    path.write_bytes(pickle.dumps({"data": _Evil(mark)}, protocol=2))
    assert any(op.name in ("GLOBAL", "STACK_GLOBAL") for op, _, _ in pickletools.genops(path.read_bytes()))
    with pytest.raises(
        DataError, match=rf"{name} is not .*asks for (posix|nt)\.mkdir .*do not use this copy"
    ):
        _prepared(python, tmp_path / "out")
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()  # it would have


@pytest.mark.parametrize("module_and_name", ["builtins eval", "numpy.core.multiarray scalar", "numpy load"])
def test_other_names_are_refused_too(python: Path, tmp_path: Path, module_and_name: str) -> None:
    """Protects: only the three names of an array are known, also within NumPy and within builtins."""
    module, name = module_and_name.split()
    (python / "cifar-100-python" / "meta").write_bytes(f"c{module}\n{name}\n(S'1'\ntR.".encode())
    with pytest.raises(DataError, match=f"asks for {module}.{name}"):
        _prepared(python, tmp_path / "out")


def test_malformed_files_are_said(binary: Path, python: Path, tmp_path: Path) -> None:
    """Protects: cut files, wrong shapes, labels without a name, a pickle of something else."""
    path = binary / "cifar-100-binary" / "test.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"test\.bin does not consist of records of 3074 bytes"):
        _prepared(binary, tmp_path / "out")
    path.write_bytes(bytes([0, 77]) + whole[2:])
    with pytest.raises(DataError, match="labels that have no name"):
        _prepared(binary, tmp_path / "out")
    train = python / "cifar-100-python" / "train"
    whole = train.read_bytes()
    train.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="train is not the published file"):
        _prepared(python, tmp_path / "out")
    for value, said in (
        ([1], "it holds a list"),
        ({"data": b"x", "fine_labels": [1]}, "has no data"),
        ({"data": np.zeros((1, 3072)), "fine_labels": [1]}, "does not hold 1 images"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1]}, "does not hold 1 images"),
        ({"data": np.zeros((1, 3072), np.uint8), "fine_labels": ["x"]}, "labels that are not whole numbers"),
    ):
        _write(train, value)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=said):
            _prepared(python, tmp_path / "out")


def test_missing_parts_are_named(binary: Path, tmp_path: Path) -> None:
    """Protects preflight; and the option's values."""
    (binary / "cifar-100-binary" / "test.bin").unlink()
    problem = check("cifar100", binary)[0]
    assert "lacks test.bin; figkd-pipeline download cifar100 ROOT" in problem
    assert "<root>/cifar-100-python/train, test, meta" in problem
    (tmp_path / "empty").mkdir()
    assert "lacks train, test, meta" in check("cifar100", tmp_path / "empty")[0]
    assert source_files("cifar100", tmp_path / "empty") == []
    assert "labels is 'medium'; fine or coarse" in check("cifar100", binary, {"labels": "medium"})[0]


def test_reading_does_not_change_what_pickle_does() -> None:
    """Protects other code in the process: the restricted reader is a class of its own."""
    assert pickle.loads(pickle.dumps(sys.maxsize)) == sys.maxsize


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s.",
        b"\x80\x02]r\x00\x00\x00\x10.",
        b"\x80\x02cnumpy\nndarray\n}X\x06\x00\x00\x00pixelsNsb.",
        pickle.dumps({"fine_labels": [1 << 70], "data": 1}, 2),
        pickle.dumps({"fine_labels": [[]], "data": 1}, 2),
        b"",
    ],
    ids=["a deep key", "a table of 2^28", "a changed stand-in", "a huge label", "a list as label", "empty"],
)
def test_pickles_that_attack_their_reader(python: Path, data: bytes) -> None:
    """Protects the process: it is not ended, filled or changed; the file is named."""
    (python / "cifar-100-python" / "train").write_bytes(data)
    with growth() as taken, pytest.raises(DataError, match=r"cifar-100-python/train"):
        load_module("cifar100").read(python, {"labels": "fine"})
    assert taken.bytes < 64 << 20
