"""Latency, load and energy as a section of the Markdown report."""

from __future__ import annotations

from pipeline.report import clocks, engine_words, latency_words, markup, numbers
from pipeline.results.result import Result


def render(result: Result) -> str:
    """The section; empty where nothing was timed."""
    rows = []
    for boundary in latency_words.BOUNDARIES:
        for engine, row in latency_words.at_boundary(result.engines, boundary):
            rows.append(
                [
                    markup.code(engine.id) + markup.text(latency_words.in_mode(row)),
                    latency_words.BOUNDARIES[row.boundary],
                    str(row.batch),
                    str(row.streams),
                    numbers.count(row.n),
                    *(numbers.ms(x) for x in (row.min, row.mean, row.median)),
                    latency_words.interval(row) or numbers.DASH,
                    *(numbers.ms(x) for x in (row.p90, row.p95, row.p99, row.max, row.std)),
                    numbers.fixed(row.cv_percent, 1),
                    numbers.rate(row.throughput),
                    markup.text("; ".join(latency_words.cautions(row))),
                ]
            )
    if not rows:
        return ""
    head = [
        "engine",
        "boundary",
        "batch",
        "streams",
        "n",
        "min",
        "mean",
        "median",
        "its 95 % interval",
        "p90",
        "p95",
        "p99",
        "max",
        "std",
        "CV %",
        "img/s",
        "warnings",
    ]
    latencies = [row for engine in result.engines for row in engine.latency]
    meaning = "; ".join(
        f"{name}: {latency_words.meaning(boundary, latencies)}"
        for boundary, name in latency_words.BOUNDARIES.items()
    )
    table = markup.table(head, rows, "ll" + "r" * 14 + "l")
    notes = f"{_doubts(result)}{_clocks(result)}{_threads(result)}{_paced(result)}{_energy(result)}"
    return f"## Latency\n\nMilliseconds. {meaning}.\n\n{table}{notes}"


def _doubts(result: Result) -> str:
    return "".join(f"\n\n⚠️ {markup.text(said)}." for said in latency_words.doubts(result))


def _clocks(result: Result) -> str:
    said = clocks.lines(result)
    return f"\n\nClocks: {markup.text('. '.join(said))}." if said else ""


def _threads(result: Result) -> str:
    chosen = engine_words.chosen_threads(result.engines)
    return f"\n\nCPU threads, chosen by measurement: {markup.text('; '.join(chosen))}." if chosen else ""


def _energy(result: Result) -> str:
    rows = [
        [
            markup.code(engine.id),
            *(numbers.fixed(x, 2) for x in (e.mj_per_image, e.mj_per_image_total, e.load_w, e.idle_w)),
            numbers.count(e.n),
            markup.text(f"{e.source}: {e.covers}"),
        ]
        for engine in result.engines
        if (e := engine.energy) is not None
    ]
    if not rows:
        reason = result.machine.get("energy_not_available", "")
        return f"\n\nEnergy: not available: {markup.text(str(reason))}." if reason else ""
    head = ["engine", "mJ/image above idle", "mJ/image", "W at work", "W idle", "readings", "of what"]
    return f"\n\nEnergy, measured apart from all timing.\n\n{markup.table(head, rows, 'lrrrrrl')}"


def _paced(result: Result) -> str:
    rows = [
        [
            markup.code(engine.id),
            latency_words.BOUNDARIES[row.boundary],
            f"{row.rate_fps:g}",
            "yes" if row.keeps_rate else "no",
            f"{numbers.count(row.deadline_misses)} of {numbers.count(row.n)}",
            *(numbers.ms(x) for x in (row.median_of_parts_ms.get("service"), row.median, row.p99, row.max)),
            markup.text("; ".join(latency_words.cautions(row))),
        ]
        for engine, row in latency_words.paced(result.engines)
    ]
    if not rows:
        return ""
    head = ["engine", "boundary", "fps", "kept", "late", "service", "median", "p99", "max", "warnings"]
    return f"\n\nAt a fixed rate, {latency_words.PACED_MEANING}.\n\n" + markup.table(head, rows, "llrlrrrrrl")
