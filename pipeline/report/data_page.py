"""The data alone as one web page that needs nothing else."""

from __future__ import annotations

from pipeline.report import data_words
from pipeline.report.contact_sheet import ContactSheet
from pipeline.report.html import MARKS, templates
from pipeline.results.data_summary import DataSummary


def render_data_page(name: str, data: DataSummary, sheet: ContactSheet) -> str:
    """The page; equal data give equal text."""
    template = templates().get_template("data.html.j2")
    return template.render(name=name, d=data, dw=data_words, sheet=sheet, mark=MARKS)
