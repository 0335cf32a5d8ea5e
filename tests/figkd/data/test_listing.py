"""The tools that the data sets' modules share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from figkd.data import DATASETS, load_module
from figkd.data.listing import Listing, Sample, notes, number, rows
from figkd.errors import DataError

IMAGE = np.zeros((2, 2), np.uint8)


def _samples(names: str) -> list[Sample]:
    return [Sample(IMAGE, index % 2, name) for index, name in enumerate(names)]


def test_numbers_are_compared_with_the_published_ones() -> None:
    """Protects: silent where they agree, also where validation was merged into train."""
    official = {"train": 3, "val": 1, "test": 2}
    assert notes(Listing([], {"train": _samples("abcd"), "test": _samples("xy")}), official) == []
    assert notes(
        Listing([], {"train": _samples("abc"), "val": _samples("d"), "test": _samples("x")}), official
    ) == ["1 test images are listed, the published list has 2"]
    assert notes(Listing([], {"train": _samples("abc")}), {}) == []


def test_rows(tmp_path: Path) -> None:
    """Protects list files: blank lines, comments, Windows line ends, white space, the rest of a line."""
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf# comment\r\n 1  a b.jpg \r\n\r\n2\tc.jpg")
    assert rows(tmp_path / "a.txt", ("id", "file")) == [["1", "a b.jpg"], ["2", "c.jpg"]]
    with pytest.raises(DataError, match=r"a\.txt, line 2: '1  a b\.jpg' is not <id> <file> <box>"):
        rows(tmp_path / "a.txt", ("id", "file", "box"), "\t")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot read"):
        rows(tmp_path / "a.txt", ("id",))
    with pytest.raises(DataError, match="cannot read"):
        rows(tmp_path / "gone.txt", ("id",))


@pytest.mark.parametrize("text", ["x", "", "1.5", "nan", "inf", "0", "4", -1])
def test_numbers_out_of_range(text: object) -> None:
    """Protects labels: what is no whole number of the range is said with its file."""
    with pytest.raises(DataError, match=r"list: the label is .*, not a whole number of 1 to 3"):
        number(text, Path("list"), "the label", 1, 3)


def test_numbers() -> None:
    """Protects numbers as MATLAB gives them: also whole floats."""
    assert [number(value, Path("x"), "", 1, 3) for value in ("1", 2.0, np.uint8(3))] == [1, 2, 3]


def test_every_module_keeps_the_contract() -> None:
    """Protects the registry: each module has what `figkd.data` asks of it, and its options fit its defaults."""
    for name, info in DATASETS.items():
        module = load_module(name)
        assert isinstance(module.LAYOUT, str) and info.summary, name
        assert hasattr(module, "read") or hasattr(module, "prepare"), name
        assert {key: type(value) for key, value in module.DEFAULTS.items()} == dict(info.options), name
        if info.needs_root:
            assert module.SOURCE and "<root>" in module.LAYOUT, name


def test_the_documentation_names_everything() -> None:
    """Protects docs/datasets.md: every data set, every option, and the published numbers."""
    text = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
    for name, info in DATASETS.items():
        assert f"| `{name}` |" in text, name
        for option in info.options:
            assert f"`{option}`" in text, f"{name}: {option}"
        for count in getattr(load_module(name), "OFFICIAL", {}).values():
            assert f"{count:,}" in text, f"{name}: {count}"
