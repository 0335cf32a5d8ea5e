"""Text as GitHub-flavoured Markdown, whatever it holds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from export.terminal import visible
from pipeline.report.worry import Tone

MARKS: dict[Tone, str] = {"pass": "✅", "miss": "⚠️", "off": "⚪", "fail": "❌"}


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A table of cells that are markup already; `align` has l or r for each column."""
    rule = ["---:" if a == "r" else "---" for a in align]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def text(value: str) -> str:
    """Escape what Markdown or HTML would take as markup; a line stays a line."""
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", visible(value).replace("&", "&amp;"))
    return " ".join(escaped.split())


def code(value: object) -> str:
    """An inline code span that holds any text, also in a table."""
    shown = " ".join(visible(str(value)).replace("|", "¦").split())
    if not shown:
        return ""
    fence = "`" * (max((len(run) for run in re.findall(r"`+", shown)), default=0) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"
