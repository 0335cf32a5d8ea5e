"""Latencies in words: boundaries, intervals, cautions, who else was at work; and the rows that tables show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from export.cautions import Caution, Code
from pipeline.report import numbers
from pipeline.results.doubts import MAX_OTHER_CORES
from pipeline.results.engine import Engine
from pipeline.results.evidence import Load
from pipeline.results.latency import Decoded, Latency, Warned
from pipeline.results.result import Result

Values = Mapping[str, float]
BOUNDARIES = {"engine": "engine", "engine+copies": "engine + copies", "image_to_class": "image to class"}
BOUNDARY_MEANING = {
    "engine": "inference alone",
    "engine+copies": "inference with the copies of input and output",
    "image_to_class": "decoding of an image file, resize, inference and argmax of one image",
}
_NOT_FILES = {
    "stored": "JPEGs of the prepared images were decoded, because the data has no files; a camera's file takes longer",
    "random": "JPEGs of random pixels of the input's size were decoded; a camera's file takes longer",
}
PACED_MEANING = (
    "images arrive whether or not the one before is done; latency counts from the scheduled arrival"
)
# Parts of `image_to_class`, in the order in which they happen.
_PARTS = ("decode", "resize", "infer", "argmax")


def meaning(boundary: str, rows: Iterable[Latency]) -> str:
    """What a boundary is, and what was decoded for these rows of it."""
    text = BOUNDARY_MEANING[boundary]
    decoded = next((row.decoded for row in rows if row.boundary == boundary and row.decoded), None)
    return f"{text} ({_decoded(decoded)})" if decoded else text


def _decoded(found: Decoded) -> str:
    if found.source != "files":
        return _NOT_FILES[found.source]
    formats = ", ".join(f"{n} {name}" for name, n in found.formats.items())
    return (
        f"{found.n} files of the test images: {formats}; in the median {found.median_megapixels:.3g} megapixels, "
        f"{found.median_kb:,.0f} kB"
    )


def timed(engines: Iterable[Engine]) -> list[tuple[Engine, Latency]]:
    """Engines that were timed at boundary `engine`, with the row that budgets are judged at."""
    rows = [(engine, engine.latency_at("engine")) for engine in engines]
    return [(engine, row) for engine, row in rows if row is not None]


def n_range(rows: Sequence[Latency]) -> str:
    """Sample counts of several rows: 'n = 1,000' or 'n = 1,000 to 8,412'."""
    if not rows:
        return ""
    low, high = min(r.n for r in rows), max(r.n for r in rows)
    return (
        f"n = {numbers.count(low)}" if low == high else f"n = {numbers.count(low)} to {numbers.count(high)}"
    )


def batches(timed_rows: Sequence[tuple[Engine, Latency]]) -> str:
    """The batch sizes of several rows: '1' or '1, 8'."""
    return ", ".join(str(b) for b in sorted({row.batch for _, row in timed_rows}))


def rows(timed_rows: Sequence[tuple[Engine, Latency]]) -> list[Latency]:
    """The latency rows alone."""
    return [row for _, row in timed_rows]


def at_boundary(engines: Iterable[Engine], boundary: str) -> list[tuple[Engine, Latency]]:
    """All rows of a boundary, every batch size and number of streams; without those at a fixed rate."""
    return [(e, r) for e in engines for r in e.latency if r.boundary == boundary and r.rate_fps is None]


def in_mode(row: Latency) -> str:
    """What follows an engine's name where it was measured in several power modes: ' in 15W'."""
    return f" in {row.power_mode}" if row.power_mode else ""


def other_modes(engines: Iterable[Engine]) -> list[str]:
    """Engines in the power modes that budgets are not judged at, a line each."""
    found = []
    for engine in engines:
        first = engine.latency_at("engine")
        others = [row for row in engine.latency if first and row.power_mode != first.power_mode]
        for row in others:
            if first and (row.boundary, row.batch) == (first.boundary, first.batch):
                p99 = f", p99 {numbers.ms(row.p99)} ms" if row.p99 is not None else ""
                found.append(f"{engine.id}{in_mode(row)}: {numbers.ms(row.median)} ms median{p99}")
    return found


def paced(engines: Iterable[Engine]) -> list[tuple[Engine, Latency]]:
    """All rows at a fixed rate of arrivals."""
    return [(e, row) for e in engines for row in e.latency if row.rate_fps is not None]


def interval(row: Latency, figure: str = "median") -> str:
    """The 95 % interval of a figure: '0.029 to 0.031'; empty where there is none."""
    found = row.intervals.get(figure)
    return f"{numbers.ms(found[0])} to {numbers.ms(found[1])}" if found else ""


def load(found: Load) -> str:
    """Who else was at work: 'other processes used 1.7 CPU cores meanwhile, also when 10 rounds were taken again'."""
    cores = numbers.fixed(max(found.others, found.stolen), 1)
    who = "other processes used" if found.others >= found.stolen else "other machines on the same host took"
    again = f", also when {found.repeated} rounds were taken again" if found.repeated else ""
    return f"{who} {cores} CPU cores meanwhile{again}"


def sure(result: Result) -> list[Latency]:
    """The rows that budgets are judged at, of targets whose measurement nobody disturbed."""
    doubtful = {target for target, found in result.loads.items() if found.disturbed}
    return [row for engine, row in timed(result.engines) if engine.target not in doubtful]


def doubts(result: Result) -> list[str]:
    """Targets whose measurement was disturbed, in a sentence each."""
    return [
        f"the times of {target} are less sure than their intervals say: {load(found)}"
        for target, found in result.loads.items()
        if found.disturbed
    ]


def half_width(row: Latency) -> float | None:
    """Half the width of the median's interval, percent of the median."""
    found = row.intervals.get("median")
    return 50 * (found[1] - found[0]) / row.median if found and row.median else None


def certainty(timed_rows: Sequence[Latency]) -> str:
    """How well the medians are known: '± 0.8 % to ± 3.1 %'; empty where no row has an interval."""
    widths = [width for row in timed_rows if (width := half_width(row)) is not None]
    if not widths:
        return ""
    low, high = numbers.fixed(min(widths), 1), numbers.fixed(max(widths), 1)
    return f"± {low} %" if low == high else f"± {low} % to ± {high} %"


def rate_verdict(row: Latency) -> str:
    """What became of a fixed rate: 'keeps 30 fps, 2 of 1,000 late, p99 1.204 ms'."""
    kept = "keeps" if row.keeps_rate else "does not keep"
    p99 = f"p99 {numbers.ms(row.p99)} ms" if row.p99 is not None else f"max {numbers.ms(row.max)} ms"
    return f"{kept} {row.rate_fps:g} fps, {numbers.count(row.deadline_misses)} of {numbers.count(row.n)} late, {p99}"


def parts(timed_rows: Sequence[tuple[Engine, Latency]]) -> list[str]:
    """Names of the timed parts in the order in which they happen; unknown ones at the end."""
    found = dict.fromkeys(name for _, row in timed_rows for name in row.median_of_parts_ms)
    return sorted(found, key=lambda name: _PARTS.index(name) if name in _PARTS else len(_PARTS))


def longest(timed_rows: Sequence[tuple[Engine, Latency]]) -> float:
    """The largest sum of a row's parts, ms."""
    return max((sum(row.median_of_parts_ms.values()) for _, row in timed_rows), default=0.0) or 1.0


def warnings(timed_rows: Sequence[tuple[Engine, Latency]]) -> list[tuple[str, list[str]]]:
    """Cautions with the engines that they concern."""
    found: dict[str, list[str]] = {}
    for engine, row in timed_rows:
        for text in cautions(row):
            found.setdefault(text, []).append(engine.id)
    return list(found.items())


def cautions(row: Latency) -> list[str]:
    """What makes a row less sure than it looks, and what the engine's runtime said of how it was timed."""
    return [*(caution(each) for each in row.warnings), *row.notes]


def caution(found: Warned | Caution) -> str:
    """One caution in words."""
    return _CAUTIONS[found.code](found.values)


def _few_samples(v: Values) -> str:
    return f"{v['n']:.0f} samples: fewer than {v['needed']:.0f}, so no p99 is given"


def _unstable(v: Values) -> str:
    above = f"(above {v['allowed']} %)"
    return (
        f"unstable: coefficient of variation {v['cv_percent']:.1f} % {above}; other load or changing clocks"
    )


def _far_outliers(v: Values) -> str:
    tail = ", the p99 is one of them" if v["p99"] else ""
    return f"interference: {v['percent']:.1f} % far outliers (above {v['fence_ms']:.3f} ms){tail}"


def _rounds_disagree(v: Values) -> str:
    return f"the rounds disagree: their medians are {v['low_ms']:.3f} to {v['high_ms']:.3f} ms"


def _drift(v: Values) -> str:
    return f"drift: the last third's median is {v['percent']:+.1f} % off the first's; warm up longer, check clocks"


def _rate_not_kept(v: Values) -> str:
    return (
        f"does not keep {v['rate_fps']:g} a second: one takes {v['service_ms']:.3f} ms on average, the next arrives "
        f"after {v['period_ms']:.3f} ms; the line grows, so percentiles depend on how long was measured"
    )


def _coarse_clock(v: Values) -> str:
    share = f" ({100 * v['step_ms'] / v['median_ms']:.1f} % of the median)" if v["median_ms"] > 0 else ""
    return f"times come in steps of {1e3 * v['step_ms']:.3g} µs{share}: no difference below that can be seen"


def _others_at_work(v: Values) -> str:
    found = [f"other processes used {v['others']:.1f} CPU cores"] if v["others"] > MAX_OTHER_CORES else []
    found += [f"the hypervisor took {v['stolen']:.1f} CPU cores"] if v["stolen"] > MAX_OTHER_CORES else []
    return f"interference: {' and '.join(found)} in the meantime"


_CAUTIONS: dict[Code, Callable[[Values], str]] = {
    "few_samples": _few_samples,
    "unstable": _unstable,
    "far_outliers": _far_outliers,
    "rounds_disagree": _rounds_disagree,
    "drift": _drift,
    "rate_not_kept": _rate_not_kept,
    "coarse_clock": _coarse_clock,
    "others_at_work": _others_at_work,
}
