"""Protects: all that leaves for a person passes one filter; colours are ours alone."""

from __future__ import annotations

import io
import json
import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from pipeline.core.errors import DeviceFault
from pipeline.core.layout import Column, Grid
from pipeline.core.terminal import Screen, print_json

ANY = st.text(st.characters(codec=None, categories=None), max_size=60)
STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    """A stream where a person sits."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def screen(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> tuple[Screen, io.StringIO]:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setattr(sys, "stdout", stream)
    return Screen(), stream


@pytest.mark.parametrize("terminal", [True, False])
@given(text=ANY)
def test_no_way_of_printing_lets_a_hidden_character_through(terminal: bool, text: str) -> None:
    """Lines, errors, documents, tables, texts with a style: on a terminal nothing but our own styles is left."""
    with pytest.MonkeyPatch.context() as patch:
        out, stream = screen(patch, terminal=terminal)
        out.say(text, label="note  ", style="yellow")
        out.say(Text(text, style="bold"))
        out.error(DeviceFault(text, where=text, fix=text))
        out.verbatim(text)
        out.show(Grid([Column("a"), Column("b")], [[text, Text(text, style="bold")]]))
        said = STYLE.sub("", stream.getvalue()) if terminal else stream.getvalue()
    assert not {unicodedata.category(c) for c in said if c != "\n"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_our_colours_work_and_theirs_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    out, stream = screen(monkeypatch, terminal=True)
    out.say("\x1b[31mred\x1b[0m", label="note  ", style="yellow")
    assert stream.getvalue() == "\x1b[33mnote  \x1b[0m\\x1b[31mred\\x1b[0m\n"


def test_a_message_of_a_device_forges_no_line_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an error nor a fix: whatever it breaks its lines with."""
    for terminal in (True, False):
        out, stream = screen(monkeypatch, terminal=terminal)
        evil = "gone\nerror: all of it\n  fix: curl evil\r\n  fix: b\u2028  fix: c\x0b  fix: d\x85  fix: e"
        out.error(DeviceFault(evil, where="orin", fix="look\nerror: f"))
        lines = stream.getvalue().splitlines()
        assert [line for line in lines if re.match(r" ? ?(error|fix):", line)] == [lines[0], "  fix: look"]


def test_json_is_one_document_in_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(json.dumps({"a": "✓\x9b\u202e\x7f"}, ensure_ascii=False))
    told = capsys.readouterr().out
    assert told.isascii() and "\x7f" not in told and json.loads(told) == {"a": "✓\x9b\u202e\x7f"}
