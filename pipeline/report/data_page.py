"""The data alone as one web page that needs nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.report import data_words
from pipeline.report.contact_sheet import ContactSheet
from pipeline.report.html import MARKS, templates
from pipeline.results.data_summary import DataSummary

_OURS = b'<meta name="generator" content="figkd-pipeline data">'
_HEAD_BYTES = 1000


def render_data_page(name: str, data: DataSummary, sheet: ContactSheet) -> str:
    """The page; equal data give equal text."""
    template = templates().get_template("data.html.j2")
    return template.render(name=name, d=data, dw=data_words, sheet=sheet, mark=MARKS)


def check_place(path: Path) -> None:
    """See that at the page's place there is nothing, or an earlier such page.

    Raises:
        ConfigError: there is something else.
    """
    if os.path.lexists(path) and not _is_ours(path):
        raise ConfigError(
            "there is something else already, which is not replaced",
            where=str(path),
            fix="give the page another name: --html FILE",
        )


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return _OURS in file.read(_HEAD_BYTES)
