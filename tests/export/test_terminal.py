"""Protects: nothing that another side wrote acts on a terminal, and every stream prints everything."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.terminal import STAND_INS, ascii_json, one_line, visible

ANY = st.text(st.characters(codec=None, categories=None))
HOSTILE = "\x1b]0;x\x07\x1b[2J\r\x9b31m\u202eabc\u2066\u2028\u2029\u200b\ufeff\U000e0041\x7f\x85\t\udcff"


@given(ANY)
def test_what_is_shown_has_no_hidden_character(text: str) -> None:
    """What Unicode calls control, format, surrogate or line separator is written out; once is enough."""
    shown = visible(text)
    assert not {unicodedata.category(c) for c in shown if c != "\n"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert visible(shown) == shown
    assert "\n" not in one_line(text)
    if text.isprintable():
        assert shown == text


def test_what_is_shown_can_be_told_apart() -> None:
    """Each character by its own code, a byte that is no UTF-8 as that byte."""
    shown = visible(HOSTILE)
    assert shown == (
        r"\x1b]0;x\x07\x1b[2J\r\x9b31m\u202eabc\u2066\u2028\u2029\u200b\ufeff\U000e0041\x7f\x85\t\xff"
    )
    assert visible("two\r\nlines") == "two\nlines" and one_line("a\nerror: b") == r"a\nerror: b"


@given(
    st.recursive(st.none() | ANY, lambda inner: st.lists(inner) | st.dictionaries(ANY, inner), max_leaves=8)
)
def test_json_stays_the_same_document_in_ascii(value: object) -> None:
    """Whatever escapes were used before; no character but ASCII is left, DEL neither."""
    for document in (json.dumps(value, ensure_ascii=False), json.dumps(value)):
        shown = ascii_json(document)
        assert shown.isascii() and "\x7f" not in shown
        assert json.loads(shown) == json.loads(document)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "cp1252", "koi8-r", "utf-8", "utf-16"])
def test_every_encoding_prints_our_own_marks(encoding: str) -> None:
    """By a stand-in in ASCII; what a name has beyond the encoding becomes a question mark."""
    for mark, stand_in in STAND_INS.items():
        assert mark.encode(encoding, "stand-in").decode(encoding) in (mark, stand_in)
        assert stand_in.isascii()
    assert "中".encode(encoding, "stand-in").decode(encoding) in ("?", "中")


def test_marks_of_tables_keep_their_width() -> None:
    """A table is laid out before it is encoded."""
    for mark in "✓✗○†Δ−–─":
        assert len(STAND_INS[mark]) == 1
