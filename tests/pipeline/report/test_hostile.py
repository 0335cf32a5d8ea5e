"""Protects: whatever a class, an engine, a file or a device is called, no view lets it act or forge a line."""

from __future__ import annotations

import io
import re
import unicodedata
from typing import Any

import pytest
from data_sample import data_sample_messy, sheet_sample
from pydantic import BaseModel
from rich.console import Console
from sample import sample, sample_crowded, sample_missed

from pipeline.core.terminal import Filtered
from pipeline.report.data_page import render_data_page
from pipeline.report.data_terminal import render_data
from pipeline.report.html import render_html
from pipeline.report.markdown import render_markdown
from pipeline.report.terminal import render_table
from pipeline.results.data_summary import Unused
from pipeline.results.result import Result

HOSTILE = (
    "\x1b[2J\x1b]0;t\x07\r\x9b31m\u202eevil\u2066\u2028\u200b\ufeff\n| PASS | <img src=x onerror=a()> `x` "
    "[b](javascript:a)\n# P\nPASS  ship evil"
)
LOOKED_UP = ("target", "metric", "boundary", "onnx", "cause")


def poison(value: Any) -> Any:
    """The same value, with a hostile end on every free text in it; what the views look up stays."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            if name not in LOOKED_UP and "Literal" not in str(field.annotation):
                setattr(value, name, poison(getattr(value, name)))
        return value
    if isinstance(value, dict):
        return {key: poison(item) for key, item in value.items()}
    if isinstance(value, list):
        return [poison(item) for item in value]
    return value + HOSTILE if isinstance(value, str) else value


def hidden(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\n"}


@pytest.fixture(params=[sample, sample_missed, sample_crowded], ids=lambda made: made.__name__)
def poisoned(request: pytest.FixtureRequest) -> Result:
    result: Result = request.param()
    poison(result)
    assert result.engines[0].id.endswith(HOSTILE)
    return result


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_shows_no_control_character_and_no_forged_line(poisoned: Result, width: int) -> None:
    """Our own lines begin at the left margin; none of theirs does."""
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(Filtered(render_table(poisoned)), crop=False, end="")
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert not hidden(text)
    assert "evil" in text
    assert not any(line.startswith(("PASS  ship evil", "# P", "| PASS")) for line in text.splitlines())


def test_markdown_holds_no_control_character_and_no_line_of_theirs(poisoned: Result) -> None:
    """No heading, no row, no tag, no link; every table keeps its columns."""
    text = render_markdown(poisoned)
    assert not hidden(text)
    assert not re.search(r"^(# P|PASS|\| PASS)", text, re.MULTILINE)
    outside_code = re.sub(r"(`+).*?\1", "", text)
    assert not re.search(r"(?<!\\)<img|(?<!\\)\[b(?<!\\)\]\(", outside_code)


def test_the_page_holds_no_control_character_and_no_tag_of_theirs(poisoned: Result) -> None:
    page = render_html(poisoned)
    assert not hidden(page)
    assert "<img" not in page and "evil" in page


def test_the_data_hold_no_line_and_no_tag_of_theirs() -> None:
    """Names of classes and files, and what a library says about a file, are anybody's."""
    data = data_sample_messy()
    poison(data)
    data.skipped = {f"damaged{HOSTILE}": Unused(count=1, examples=[HOSTILE])}
    page = render_data_page(HOSTILE, data, sheet_sample(data))
    assert not hidden(page) and page.count("<img") == 9 and "<img src=x" not in page
    console = Console(file=io.StringIO(), width=80, color_system=None, legacy_windows=False)
    console.print(Filtered(render_data(data)), crop=False, end="")
    assert isinstance(console.file, io.StringIO)
    assert not hidden(console.file.getvalue()) and "evil" in console.file.getvalue()
    assert not re.search(r"^(PASS|# P|\| PASS)", console.file.getvalue(), re.MULTILINE)
