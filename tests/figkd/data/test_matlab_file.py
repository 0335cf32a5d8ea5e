"""Lists in MATLAB's format that are damaged: an error that names the file, and a process that lives."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from figkd.data.listing import matlab
from figkd.data.matlab_file import look_through
from figkd.errors import DataError


def _list(compressed: bool = False) -> bytes:
    """Numbers, text and records, as the publishers' lists have them."""
    records = np.array([("a.jpg", [1, 2]), ("b.jpg", [3, 4])], dtype=[("name", "O"), ("box", "O")])
    values = {"labels": np.arange(50), "records": records, "names": np.array(["x", "yy"], dtype=object)}
    buffer = io.BytesIO()
    savemat(buffer, values, do_compression=compressed)
    return buffer.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_what_publishers_write_is_read(tmp_path: Path, compressed: bool) -> None:
    """The look at it refuses nothing that is right."""
    (tmp_path / "l.mat").write_bytes(_list(compressed))
    labels, names = matlab(tmp_path / "l.mat", "labels", "names")
    assert labels.tolist() == list(range(50)) and names.tolist() == ["x", "yy"]


def test_types_that_do_not_exist_do_not_end_the_process(tmp_path: Path) -> None:
    """Every tag of a numeric type in the file, one after the other, becomes one that SciPy's table does not have."""
    whole, changed = _list(), 0
    for place in range(128, len(whole) - 8, 4):
        kind, size = struct.unpack_from("<II", whole, place)
        if kind in (2, 9, 12, 16, 17) and 0 < size < 1000:
            changed += 1
            (tmp_path / "l.mat").write_bytes(whole[:place] + struct.pack("<I", 114) + whole[place + 4 :])
            with pytest.raises(DataError, match=r"l\.mat is not the published list"):
                matlab(tmp_path / "l.mat", "labels", "records", "names")
    assert changed > 3


def test_shapes_that_the_bytes_do_not_have_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Every shape in the file, one after the other, becomes one of a billion values."""
    whole, changed = _list(), 0
    for place in range(128, len(whole) - 16, 8):
        if struct.unpack_from("<II", whole, place) == (5, 8):
            changed += 1
            (tmp_path / "l.mat").write_bytes(
                whole[: place + 8] + struct.pack("<I", 1 << 30) + whole[place + 12 :]
            )
            with pytest.raises(DataError, match="a shape that its bytes do not have"):
                matlab(tmp_path / "l.mat", "labels", "records", "names")
    assert changed > 5


def test_mutants_of_a_list() -> None:
    """1,000 mutants: looked through, or one kind of error; in time and memory of the file."""
    wholes, passed = (_list(), _list(True)), 0
    for seed in range(1000):
        chance = random.Random(seed)
        data = bytearray(wholes[seed % 2])
        for _ in range(chance.choice((1, 1, 2, 5))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            look_through(bytes(data[: chance.choice((len(data), len(data), chance.randrange(len(data))))]))
            passed += 1
        except (ValueError, OSError) as error:
            assert str(error)
        except Exception as error:
            assert type(error).__name__ == "error"  # zlib's
    assert 0 < passed < 900


def test_a_list_that_unpacks_to_a_gigabyte(tmp_path: Path) -> None:
    """A bomb is no list."""
    import zlib

    packed = zlib.compress(bytes(1 << 27))
    (tmp_path / "l.mat").write_bytes(_list()[:128] + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(DataError, match="more compressed data than a list"):
        matlab(tmp_path / "l.mat", "labels")
