"""A search as one web page that needs nothing else: no network, no script, no file beside it."""

from __future__ import annotations

from pipeline.report import numbers, search_words
from pipeline.report.html import MARKS, templates
from pipeline.report.search_chart import front_charts, halving_chart
from pipeline.report.worry import Tone
from pipeline.results.searched import SearchResult


def render_search_page(result: SearchResult) -> str:
    """The page; equal results give equal text."""
    worries = search_words.worries(result)
    tones = {worry.tone for worry in worries}
    halving = halving_chart(result)
    tone: Tone = "fail" if not result.front or "fail" in tones else "miss" if "miss" in tones else "pass"
    return (
        templates()
        .get_template("search.html.j2")
        .render(
            r=result,
            words=search_words,
            numbers=numbers,
            mark=MARKS,
            tone=tone,
            worries=worries,
            charts=[*front_charts(result), *([("Halving", halving)] if halving else [])],
            keys=[key for key in search_words.varied(result.trials) if key != search_words.NETWORK],
            others=[point for point in result.points if point.front is None],
        )
    )
