"""Class lists are compared by name, and both sides' differences are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figkd import labels
from figkd.errors import LabelError


@given(
    st.lists(st.text(), min_size=1, unique=True).flatmap(
        lambda names: st.tuples(st.just(names), st.permutations(names))
    )
)
def test_a_mapping_puts_theirs_into_our_order(lists: tuple[list[str], list[str]]) -> None:
    """The law of every combination: row i stands for our class i."""
    theirs, ours = lists
    assert [theirs[i] for i in labels.mapping(theirs, ours, what="theirs")] == ours


@pytest.mark.parametrize("theirs", [["a"], ["a", "b", "c"], ["a", "x"], [], ["A", "B"]])
def test_other_names_are_refused_with_the_differences_of_both(theirs: list[str]) -> None:
    """Nothing is guessed: not by position, not by case, not from a larger list."""
    with pytest.raises(LabelError, match=r"only in the file: .*; only in the data: "):
        labels.mapping(theirs, ["a", "b"], what="the file")


def test_names_twice_are_refused() -> None:
    """A name twice could be mapped in two ways."""
    with pytest.raises(LabelError, match="more than once"):
        labels.mapping(["a", "a"], ["a", "b"], what="the file")


def test_long_differences_are_cut() -> None:
    """A thousand names do not fit a message."""
    text = labels.differences([str(i) for i in range(1000)], ["x" * 500, "y"], what="the file")
    assert '"0", "1", "2" and 997 more' in text and len(text) < 400


@pytest.mark.parametrize("text", ["a\nb b\nü\n", '["a", "b b", "ü"]', "\ufeffa\r\nb b\r\nü\r\n\r\n"])
def test_a_file_of_names(tmp_path: Path, text: str) -> None:
    """One a line or JSON, as editors of any system write it."""
    path = tmp_path / "names"
    path.write_bytes(text.encode())
    assert labels.read_names(path) == ["a", "b b", "ü"]


@pytest.mark.parametrize(
    "data", [b"", b"a\n", b"a\n\nb\n", b"a\na\n", b"\xff\xfe\n", b'["a", 1]', b'["a"', b'["a", " "]']
)
def test_what_is_no_list_of_names(tmp_path: Path, data: bytes) -> None:
    """Every wrong file is one error that names it."""
    path = tmp_path / "names.txt"
    path.write_bytes(data)
    with pytest.raises(LabelError, match=r"names\.txt"):
        labels.read_names(path)
    with pytest.raises(LabelError, match="cannot be read"):
        labels.read_names(tmp_path)
