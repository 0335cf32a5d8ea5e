"""The report as one web page that needs nothing else: no network, no script, no file beside it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jinja2
import yaml
from markupsafe import Markup

from export.terminal import visible
from pipeline.core.layout import tight
from pipeline.report import (
    choice_words,
    clocks,
    curves,
    data_words,
    distributions,
    engine_words,
    goal_words,
    latency_words,
    layers,
    numbers,
    parity,
    plain,
    precision_words,
    scatter,
    words,
)
from pipeline.report.contact_sheet import ContactSheet
from pipeline.report.devices import device_facts
from pipeline.report.machine import flatten, machine_facts
from pipeline.report.worry import Tone
from pipeline.results.choice import Judged
from pipeline.results.engine import Engine
from pipeline.results.result import Result


@dataclass(frozen=True)
class Remark:
    """What is to be said of some engines of a target, such as why they have no timings, and what to do about it."""

    state: str
    engines: list[str]
    reason: str
    fix: str


@dataclass(frozen=True)
class Goals:
    """The goals of the run as columns, and what each engine makes of them."""

    columns: list[Judged]
    """One verdict of each goal; its metric, side and limit name the column."""
    cells: dict[str, list[Judged | None]]
    """By engine id, in the order of the columns; None where a goal does not concern the engine."""


_WORDS = {
    "words": words,
    "numbers": numbers,
    "choice_words": choice_words,
    "engine_words": engine_words,
    "goal_words": goal_words,
    "latency_words": latency_words,
    "precision_words": precision_words,
}
MARKS: dict[Tone, str] = {"pass": "✓", "miss": "!", "fail": "✕", "off": "○"}


def render_html(
    result: Result, pictures: Mapping[int, str] | None = None, sheet: ContactSheet | None = None
) -> str:
    """The page; equal results give equal text.

    Args:
        result: what it shows.
        pictures: of the test images in `result.mistakes`, by their number, as `data:` addresses; those that are not
            there are told in words alone.
        sheet: pictures of training images.
    """
    template = templates().get_template("report.html.j2")
    return template.render(
        r=result,
        **_WORDS,
        plain=plain,
        layers=layers,
        clocks=clocks,
        dw=data_words,
        mark=MARKS,
        sheet=sheet or ContactSheet(),
        pictures=pictures or {},
        targets=[(name, engines, remarks(engines)) for name, engines in engine_words.by_target(result)],
        goals=goals(result.engines),
        ships={c.engine: c.text.lower() for s in result.shipping if (c := plain.choice(result, s)).engine},
        scatter=scatter.accuracy_against_latency(result),
        distributions=distributions.latency_distributions(result),
        validation=curves.validation_curves(result),
        loss=curves.loss_curves(result),
        parity=parity.summarise(result.parity),
        machine=machine_facts(result.machine, result.packages),
        devices=device_facts(result),
        config=yaml.safe_dump(result.config, sort_keys=False, allow_unicode=True),
        data=list(flatten({k: v for k, v in result.data.items() if k not in ("class_names", "skipped")})),
    )


def remarks(engines: list[Engine]) -> list[Remark]:
    """Reasons and fixes of a target's engines, each said once."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for engine in engines:
        for why, fix in engine_words.remarks(engine):
            found.setdefault((engine.state, why, fix), []).append(engine_words.short_id(engine))
    return [Remark(state, ids, reason, fix) for (state, reason, fix), ids in found.items()]


def goals(engines: list[Engine]) -> Goals:
    """Every distinct goal, in the order in which it first appears, against every engine."""
    columns: dict[tuple[str, Literal["min", "max", "max_drop"], float], Judged] = {}
    for engine in engines:
        for judged in engine.budgets:
            columns.setdefault((judged.metric, judged.goal, judged.limit), judged)
    cells: dict[str, list[Judged | None]] = {}
    for engine in engines:
        mine = {(j.metric, j.goal, j.limit): j for j in engine.budgets}
        cells[engine.id] = [mine.get(key) for key in columns]
    return Goals(list(columns.values()), cells)


def _printed(value: Any) -> Any:
    """What a place of the template becomes: text without hidden characters, whoever wrote it."""
    return (
        Markup(visible(value))
        if isinstance(value, Markup)
        else visible(value)
        if isinstance(value, str)
        else value
    )


@functools.cache
def templates() -> jinja2.Environment:
    """The templates of the pages, with the filters that they use."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": numbers.percent,
        "ms": numbers.ms,
        "mb": numbers.mb,
        "rate": numbers.rate,
        "count": numbers.count,
        "fixed": numbers.fixed,
        "drop": numbers.signed_drop,
        "magnitude": numbers.magnitude,
        "seconds": numbers.seconds,
        "size": numbers.size,
        "tight": tight,
        "svg": lambda chart: Markup(chart.svg),
    }
    return environment
