"""A scouting as one web page that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.schema import Budgets, goals_of
from pipeline.report import numbers, scout_words
from pipeline.report.engine_words import BACKENDS
from pipeline.report.html import MARKS, templates
from pipeline.report.scout_chart import latency_against
from pipeline.report.svg import Chart
from pipeline.report.worry import Tone
from pipeline.results.rows.scouted import ScoutDocument, ScoutRow
from pipeline.results.scouted import candidates_that_fit


@dataclass(frozen=True)
class Target:
    """What was timed on one target, the fastest first."""

    name: str
    backend: str
    device: str
    rows: list[ScoutRow]
    charts: list[Chart]


def render_scout_page(document: ScoutDocument, budgets: Budgets) -> str:
    """The page; equal rows give equal text.

    Args:
        document: of the scouting.
        budgets: of the config.
    """
    targets = [
        Target(
            name,
            BACKENDS.get(rows[0].backend, rows[0].backend),
            rows[0].device,
            rows,
            _charts(index, rows, budgets),
        )
        for index, (name, rows) in enumerate(scout_words.by_target(document.rows).items())
    ]
    left = {candidate.id for candidate in candidates_that_fit(document.rows, budgets)}
    return templates().get_template("scout.html.j2").render(
        d=document,
        targets=targets,
        left=left,
        tone=_tone(document, budgets, bool(left)),
        headline=scout_words.headline(document, budgets),
        cautions=scout_words.cautions(document),
        reasons=scout_words.reasons(document.rows),
        candidates=len({row.candidate for row in document.rows}),
        budgets=budgets,
        goals=[(metric, goal) for metric, goal in goals_of(budgets) if not metric.of_weights],
        scout_words=scout_words,
        numbers=numbers,
        mark=MARKS,
    )  # fmt: skip


def _charts(index: int, rows: list[ScoutRow], budgets: Budgets) -> list[Chart]:
    found = (
        latency_against(f"target{index}{kind}", rows, budgets, size=kind == "size")
        for kind in ("parameters", "size")
    )
    return [chart for chart in found if chart is not None]


def _tone(document: ScoutDocument, budgets: Budgets, any_left: bool) -> Tone:
    if not scout_words.by_target(document.rows):
        return "fail"
    if not any(not metric.of_weights for metric, _ in goals_of(budgets)):
        return "off"
    return "pass" if any_left else "miss"
