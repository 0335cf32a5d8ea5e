"""Latencies of any engines as one web page that needs nothing else: who is faster, by how much, how sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import PurePath

from export.cautions import Code
from pipeline.core.layout import tight
from pipeline.report import clocks, distributions, engine_words, latency_words, numbers
from pipeline.report.html import MARKS, templates
from pipeline.report.machine import flatten, machine_facts
from pipeline.report.svg import PRECISION, Chart
from pipeline.report.worry import Tone, Worry, worst_first
from pipeline.results.clocks import clocks_of
from pipeline.results.compare import Change, Judgement
from pipeline.results.doubts import load_of
from pipeline.results.latency import BenchmarkDocument, BenchmarkRow, TimedEngine
from pipeline.results.ratios import Placed, Ranking, rankings

_JUDGED: dict[str, tuple[Tone, str]] = {
    "regression": ("fail", "regression"),
    "undecided": ("miss", "undecided"),
    "slower": ("off", "slower"),
    "faster": ("pass", "faster"),
    "noise": ("off", "inside the noise"),
}


# What several rows have in common; each row's own numbers stand below its table.
_OF_ROWS: dict[Code, str] = {
    "rate_not_kept": "do not keep their rate, so that their percentiles depend on how long was measured",
    "rounds_disagree": "differ from round to round: another load, or changing clocks",
    "drift": "became slower or faster while they were taken",
    "far_outliers": "have far outliers, which the p99 is one of",
    "unstable": "are unstable: their standard deviation is large against their mean",
    "few_samples": "have too few samples for a p99",
    "coarse_clock": "come from a clock with coarse steps",
}


@dataclass(frozen=True)
class Group:
    """What was measured alike: a table and a chart."""

    title: str
    meaning: str
    ranking: Ranking
    chart: Chart | None
    cautions: list[tuple[str, str]]
    """Engines and what makes their rows less sure."""


@dataclass(frozen=True)
class Compared:
    """A row against its row in the baseline."""

    label: str
    kind: str
    change: Change
    tone: Tone
    text: str


def render_latency_page(
    document: BenchmarkDocument, changes: Sequence[Change] = (), limit: float | None = None
) -> str:
    """The page; equal measurements give equal text.

    Args:
        document: with at least one row.
        changes: against a baseline.
        limit: percent that a median may be slower than the baseline's.
    """
    names = labels([row.id for row in document.latency])
    ids = list(dict.fromkeys(row.id for row in document.latency))
    # An engine keeps its colour from chart to chart.
    colours = dict(zip(ids, cycle(PRECISION), strict=False))
    found = [
        _group(index, ranking, names, colours) for index, ranking in enumerate(rankings(document.latency))
    ]
    found_worries = worries(document, changes, limit)
    known = {engine.id: engine for engine in document.engines}
    template = templates().get_template("latency.html.j2")
    return template.render(
        d=document,
        groups=found,
        names=names,
        colours=colours,
        engines=[(names[i], i, known.get(i), _runtime(known.get(i))) for i in ids],
        headline=headline(document, names),
        tone=_worst(found_worries),
        worries=found_worries,
        changes=[
            Compared(names[c.row.id], kind(c.row), c, *_JUDGED[c.judgement])
            for c in sorted(changes, key=lambda c: -c.percent)
        ],
        limit=limit,
        placed=placed,
        mark=MARKS,
        numbers=numbers,
        latency_words=latency_words,
        machine=machine_facts(document.machine, document.packages),
    )


def _worst(found: Sequence[Worry]) -> Tone:
    tones = {worry.tone for worry in found}
    return "fail" if "fail" in tones else "miss" if "miss" in tones else "pass"


def headline(document: BenchmarkDocument, names: dict[str, str]) -> str:
    """Which engine is the fastest, by how much, in one sentence."""
    if not document.latency:
        return "Nothing was measured."
    ranking = rankings(document.latency)[0]
    first, others = ranking.first, ranking.placed[1:]
    time = f"{numbers.ms(first.median)} ms median, {kind(first)}"
    if not others:
        return f"{names[first.id]}: {time}."
    ties = [names[other.row.id] for other in others if other.tie]
    if ties:
        who = f"{names[first.id]} ({time}) and {', '.join(ties)}"
        return f"{who} cannot be told apart, or not by an amount that matters."
    next_ = others[0]
    return (
        f"{names[first.id]} is the fastest: {time}. {names[next_.row.id]} takes {numbers.ratio(next_.times)}."
    )


def worries(document: BenchmarkDocument, changes: Sequence[Change], limit: float | None) -> list[Worry]:
    """What makes the figures less sure, the worst first."""
    found = []
    kinds: tuple[tuple[Judgement, Tone, str], ...] = (
        ("regression", "fail", "slower than the baseline by more than is allowed"),
        (
            "undecided",
            "miss",
            "slower than allowed, but others were at work: measure again on a quiet machine",
        ),
    )
    for judgement, tone, text in kinds:
        many = sum(change.judgement == judgement for change in changes)
        if many:
            found.append(
                Worry(tone, f"{many} of {len(changes)} medians {'is' if many == 1 else 'are'} {text}.")
            )
    within = sum(c.judgement == "noise" and limit is not None and c.percent > limit for c in changes)
    if within:
        text = "slower than allowed, and inside the noise: measure for longer, or on a quiet machine"
        found.append(
            Worry("off", f"{within} of {len(changes)} medians {'is' if within == 1 else 'are'} {text}.")
        )
    load = load_of(document.machine)
    if load is not None and load.disturbed:
        text = f"The times are less sure than their intervals say: {latency_words.load(load)}."
        found.append(Worry("miss", text))
    moved = clocks_of(document.machine, gpu=True)
    if moved is not None and (line := clocks.line(moved)):
        found.append(Worry("off", f"Clocks: {line}."))
    for code, words in _OF_ROWS.items():
        rows = sum(any(each.code == code for each in row.warnings) for row in document.latency)
        if rows:
            found.append(Worry("off", f"{rows} of {len(document.latency)} measurements {words}."))
    return worst_first(found)


def kind(row: BenchmarkRow) -> str:
    """Boundary, batch and load of a row: 'boundary engine, batch 1, 2 streams'."""
    parts = [f"boundary {latency_words.BOUNDARIES[row.boundary]}", f"batch {row.batch}"]
    parts += [f"{row.streams} streams"] if row.streams > 1 else []
    parts += [f"at {row.rate_fps:g} fps"] if row.rate_fps else []
    parts += [f"mode {row.power_mode}"] if row.power_mode else []
    return ", ".join(parts)


def placed(found: Placed, first: BenchmarkRow) -> str:
    """How a row compares with the fastest: '1.37 times as long (1.30 to 1.41)'."""
    if found.row is first:
        return "fastest"
    return f"{numbers.ratio(found.times)}{', a tie' if found.tie else ''}"


def labels(ids: Sequence[str]) -> dict[str, str]:
    """Short names by id: the ends of the paths, as long as it takes to tell them apart."""
    distinct = list(dict.fromkeys(ids))
    found = {}
    for name in distinct:
        parts = PurePath(name).parts or (name,)
        others = [PurePath(other).parts for other in distinct if other != name]
        length = next(
            (n for n in range(1, len(parts)) if not any(o[-n:] == parts[-n:] for o in others)), len(parts)
        )
        found[name] = "/".join(parts[-length:]) if length < len(parts) else name
    return found


def _group(index: int, ranking: Ranking, names: dict[str, str], colours: dict[str, str]) -> Group:
    first = ranking.first
    text = kind(first)
    rows = [each.row for each in ranking.placed]
    meaning = latency_words.PACED_MEANING if first.rate_fps else latency_words.meaning(first.boundary, rows)
    boundary = f"Boundary {latency_words.BOUNDARIES[first.boundary]}"
    chart = distributions.row_distributions(f"group{index}", rows, names, colours, boundary)
    cautions = [(names[row.id], "; ".join(found)) for row in rows if (found := _cautions(row))]
    return Group(text[:1].upper() + text[1:], tight(meaning), ranking, chart, cautions)


def _cautions(row: BenchmarkRow) -> list[str]:
    own = (each for each in row.warnings if each.code != "others_at_work")  # said of all of them above
    return [*map(latency_words.caution, own), *row.notes]


def _runtime(engine: TimedEngine | None) -> str:
    if engine is None:
        return ""
    facts = ", ".join(f"{key} {value}" for key, value in flatten(engine.runtime))
    return f"{engine_words.BACKENDS.get(engine.backend, engine.backend)}{f': {facts}' if facts else ''}"
