"""A search as it is printed: what came of it, and the front as a table."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from pipeline.core.layout import Column, Grid, Prose
from pipeline.report import search_words
from pipeline.report.worry import Tone
from pipeline.results.searched import Point, SearchResult

_STYLES: dict[Tone, str] = {"pass": "green", "miss": "yellow", "fail": "red", "off": "cyan"}


def render_search(result: SearchResult) -> RenderableType:
    """The front, the best at the first objective first, and what to know before trusting it."""
    return Group(*_parts(result))


def _parts(result: SearchResult) -> Iterator[RenderableType]:
    if result.front:
        yield _front(result)
        yield Text("")
    style = "green" if result.front else "red"
    yield Prose(Text.assemble((search_words.headline(result), style)))
    if text := search_words.effort(result):
        yield Prose(Text(f"{text}."))
    states = ", ".join(f"{n} {words}" for words, n in search_words.counted(result).items())
    yield Prose(Text(f"trials: {states}"), hang=8)
    for trial in result.trials:
        if trial.state == "failed":
            yield Prose(Text(f"  t{trial.number:04d} failed: {search_words.why(trial)}"), hang=4)
    for point in result.front:
        for engine in point.confirmed.engines if point.confirmed else ():
            for miss in engine.misses:
                text = f"note: point {point.front} misses once trained: {search_words.missed(miss)}"
                yield Prose(Text(text, style="yellow"), hang=6)
    for worry in search_words.worries(result):
        yield Prose(Text.assemble(("note: ", _STYLES[worry.tone]), worry.text), hang=6)


def _front(result: SearchResult) -> Grid:
    objectives = [
        Column(
            f"{search_words.sought(o)}, {search_words.unit(o)}",
            right=True,
            said=f"{search_words.sought(o)} {{}} {search_words.unit(o)}",
        )
        for o in result.objectives
    ]
    confirmed = any(point.confirmed for point in result.front)
    columns = [
        Column("point"),
        *objectives,
        *([Column("test top-1, %", right=True, said="test top-1 {} %", below=True)] if confirmed else []),
        Column("settings", said="{}", below=True),
    ]
    return Grid(columns, [_row(result, point, confirmed=confirmed) for point in result.front])


def _row(result: SearchResult, point: Point, *, confirmed: bool) -> list[str | list[Text]]:
    values: list[str | list[Text]] = [f"{point.front} {point.id}"]
    for objective in result.objectives:
        found = point.values[objective.name]
        span = search_words.interval(objective, found)
        values.append(f"{search_words.value(objective, found)}{f' ({span})' if span else ''}")
    if confirmed:
        values.append(
            [Text(f"{target} {top1}") for target, top1, _ in search_words.tested(point.confirmed)]
            or [Text("failed" if point.confirmed and point.confirmed.failure else "–")]
        )
    trial = search_words.trial_of(result, point)
    values.append([Text(f"{key} {search_words.setting(given)}") for key, given in trial.settings.items()])
    return values
