"""Protects: the statistics are trtexec's, and every case is measured as long as was promised."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.engines.protocol import Samples
from export.errors import ExportError
from export.measure import LatencyStats, latency_stats, measure_rounds, percentile
from export.runtime import turns
from export.runtime.sampling import Limits, sample
from export.stats import interval_ranks


def test_percentiles_are_order_statistics() -> None:
    ordered = np.arange(1.0, 1001.0)
    # index max(N - 1 - int((1 - p/100) * N), 0) of trtexec's sampleReporting.cpp
    assert percentile(ordered, 99) == 990.0
    assert percentile(ordered, 90) == 900.0
    assert percentile(np.array([5.0]), 99) == 5.0
    assert percentile(np.arange(10.0), 90) == 8.0
    assert percentile(np.arange(10.0), 0) == 0.0


def _codes(stats: LatencyStats) -> list[str]:
    return [caution.code for caution in stats.cautions]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60))
def test_order_of_the_figures(values: list[float]) -> None:
    stats = latency_stats(np.array(values), batch=1, wall_seconds=1.0)
    assert stats.min <= stats.median <= stats.max
    assert stats.p90 <= stats.p95 <= stats.max
    assert stats.p99 is None and "few_samples" in _codes(stats)
    assert min(values) * 0.999 <= stats.mean <= max(values) * 1.001


def test_steady_samples_have_no_warnings() -> None:
    samples = 5.0 + 0.02 * np.sin(np.arange(1200))
    stats = latency_stats(samples, batch=4, wall_seconds=6.0)
    assert stats.cautions == [] and stats.n == 1200 and stats.batch == 4
    assert stats.throughput_images_per_s == 800.0
    assert stats.p99 == np.sort(samples)[1200 - 1 - 12]
    assert stats.cv_percent == pytest.approx(100 * samples.std() / samples.mean())


def test_noise_and_drift_are_said() -> None:
    noisy = latency_stats(np.tile([1.0, 2.0], 600), batch=1, wall_seconds=2.0)
    assert "unstable" in _codes(noisy)
    drifting = latency_stats(np.linspace(1.0, 1.2, 1500), batch=1, wall_seconds=2.0)
    assert drifting.drift_percent > 5 and "drift" in _codes(drifting)


def test_intervals_enclose_their_figures_and_say_their_confidence() -> None:
    random = np.random.default_rng(0)
    stats = latency_stats(random.lognormal(0, 0.1, 5000), batch=1, wall_seconds=5.0, rounds=[1000] * 5)
    assert len(stats.round_medians) == 5
    for name in ("median", "p90", "p95", "p99"):
        interval = stats.intervals[name]
        assert interval is not None
        low, high = interval
        assert low <= getattr(stats, name) <= high and high / low < 1.1
    few = latency_stats(np.ones(5), batch=1, wall_seconds=1.0)
    assert few.intervals == {"median": None, "p90": None, "p95": None, "p99": None}


def test_interference_is_said() -> None:
    """Far outliers that reach the p99, and rounds that ran under another load."""
    quiet = 1.0 + 0.001 * np.sin(np.arange(3000))
    hit = quiet.copy()
    hit[::50] = 4.0
    stats = latency_stats(hit, batch=1, wall_seconds=3.0)
    assert stats.outlier_percent == pytest.approx(2.0)
    assert stats.cautions[-1].values["percent"] == pytest.approx(2.0) and "far_outliers" in _codes(stats)
    rounds = latency_stats(np.concatenate([quiet, 1.2 * quiet]), batch=1, wall_seconds=6.0, rounds=[3000] * 2)
    assert "rounds_disagree" in _codes(rounds)
    assert latency_stats(quiet, batch=1, wall_seconds=3.0, rounds=[1000] * 3).cautions == []


@pytest.mark.parametrize("samples", [[], [1.0, np.nan], [-1.0]])
def test_impossible_samples_are_refused(samples: list[float]) -> None:
    with pytest.raises(ExportError):
        latency_stats(np.array(samples), batch=1, wall_seconds=1.0)


class Fake:
    """An engine that records when it is timed and returns as many samples as asked."""

    def __init__(self, log: list[str], name: str, slow: bool = False) -> None:
        self.log, self.name, self.slow = log, name, slow

    def time(self, limits: Limits) -> Samples:
        self.log.append(self.name)
        count = 3 if self.slow else limits.min_samples
        seconds = limits.max_seconds if self.slow else 0.001
        return Samples({"latency": np.full(count, 1.0)}, 1, "engine", seconds)


def test_cases_take_turns_and_reach_their_count() -> None:
    log: list[str] = []
    cases = [(name, Fake(log, name).time) for name in "abc"]
    steps: list[tuple[int, int]] = []
    result = measure_rounds(
        cases, Limits(min_samples=1001), rounds=4, progress=lambda done, total, _: steps.append((done, total))
    ).samples()
    assert "".join(log) == "abccbaabccba"
    assert {name: len(s.latency) for name, s in result.items()} == {"a": 1001, "b": 1001, "c": 1001}
    assert result["a"].rounds == (251, 250, 250, 250)
    assert steps == [(i, 12) for i in range(1, 13)]


def test_slow_cases_stop_at_their_time() -> None:
    cases = [("slow", Fake([], "slow", slow=True).time)]
    result = measure_rounds(cases, Limits(max_seconds=8.0), rounds=4).samples()["slow"]
    assert len(result.latency) == 12 and result.wall_seconds == pytest.approx(8.0)


def test_repeated_names_are_refused() -> None:
    case = ("a", Fake([], "a").time)
    with pytest.raises(ExportError, match="repeated names"):
        measure_rounds([case, case], Limits())


def test_sampling_stops_when_it_should() -> None:
    calls: list[int] = []

    def step() -> dict[str, float]:
        calls.append(1)
        return {"latency": 1.0, "decode": 0.5}

    few = sample(step, Limits(0.0, 5, 0.0, 60.0), batch=1, boundary="b")
    assert len(few.latency) == 5 and len(calls) == 6 and set(few.arrays) == {"latency", "decode"}
    none = sample(step, Limits(0.0, 10**6, 0.0, 0.01), batch=1, boundary="b")
    assert 1 <= len(none.latency) < 10**6


def test_real_engines_interleave(files: Any) -> None:
    from export.engines import BACKENDS

    engines = {
        name: BACKENDS["onnxruntime"].load(getattr(files, name), threads=1) for name in ("fp32", "int8_cpu")
    }
    cases = [(name, partial(engine.time, files.images[:1])) for name, engine in engines.items()]
    result = measure_rounds(cases, Limits(0.0, 30, 0.0, 5.0), rounds=3).samples()
    assert {name: len(samples.latency) for name, samples in result.items()} == {"fp32": 30, "int8_cpu": 30}


def _under(monkeypatch: pytest.MonkeyPatch, loads: list[float], seconds: float = 1.0) -> None:
    """The machine's account of other processes, one figure a round."""
    left = iter(loads)
    monkeypatch.setattr(turns, "load_now", dict)
    monkeypatch.setattr(
        turns,
        "load_between",
        lambda *_: {"other_cores": next(left), "steal_cores": 0.0, "own_cores": 1.0, "seconds": seconds},
    )


def _counting(name: str, log: list[str]) -> tuple[str, Any]:
    def timer(limits: Limits) -> Samples:
        log.append(name)
        values = np.full(limits.min_samples, float(len(log)))
        return Samples({"latency": values}, 1, "engine", 0.01)

    return name, timer


@pytest.mark.parametrize(
    ("loads", "kept", "repeated"),
    [
        ([0.0, 0.1, 0.0], [0.0, 0.1, 0.0], 0),
        ([0.0, 2.0, 0.0, 0.05], [0.0, 0.0, 0.05], 1),  # a disturbance that passes costs one more round
        ([2.0, 1.0, 0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0], 3),
        (
            [2.0, 1.0, 1.5, 3.0, 0.9, 0.8],
            [1.0, 0.9, 0.8],
            3,
        ),  # one that stays: the quietest, and no end later
    ],
)
def test_disturbed_rounds_are_taken_again_within_a_bound(
    monkeypatch: pytest.MonkeyPatch, loads: list[float], kept: list[float], repeated: int
) -> None:
    """By the others' load and never by a latency; each case has as many samples as without."""
    _under(monkeypatch, loads)
    log: list[str] = []
    steps: list[tuple[int, int]] = []
    found = measure_rounds(
        [_counting("a", log), _counting("b", log)], Limits(min_samples=30), rounds=3, max_load=0.15,
        progress=lambda done, total, _: steps.append((done, total)),
    )  # fmt: skip
    assert ([r.load["other_cores"] for r in found.kept], found.repeated) == (kept, repeated)
    assert {name: len(s.latency) for name, s in found.samples().items()} == {"a": 30, "b": 30}
    assert steps[-1] == (len(steps), len(steps)) == (2 * (3 + repeated), 2 * (3 + repeated))


def test_nothing_is_repeated_where_load_is_unknown_or_too_short_to_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tick of the system's clock in a short round is nobody's load."""
    log: list[str] = []
    _under(monkeypatch, [1.0] * 3, seconds=0.02)
    assert measure_rounds([_counting("a", log)], Limits(), rounds=3, max_load=0.15).repeated == 0
    monkeypatch.setattr(turns, "load_between", lambda *_: {})
    assert measure_rounds([_counting("a", log)], Limits(), rounds=3, max_load=0.15).repeated == 0
    _under(monkeypatch, [9.0] * 3)
    assert measure_rounds([_counting("a", log)], Limits(), rounds=3).repeated == 0, "nobody asked for it"


def _drawing(name: str, medians: list[float], log: list[str], wall_seconds: float = 0.01) -> tuple[str, Any]:
    """A case whose rounds have these medians, ms; the last one from then on."""
    left = iter(medians)
    last = [medians[-1]]

    def timer(limits: Limits) -> Samples:
        log.append(name)
        last[0] = next(left, medians[-1])
        return Samples({"latency": np.full(limits.min_samples, last[0])}, 1, "engine", wall_seconds)

    return name, timer


def test_seconds_go_where_rounds_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steady case takes its ten rounds; the other one takes more until its interval is narrow, and no longer."""
    _under(monkeypatch, [0.0] * 99)
    log: list[str] = []
    restless = _drawing("restless", [1.0, 1.3, 1.0, 1.3, 1.0, 1.3, 1.0, 1.3, 1.0, 1.0], log)
    steps: list[tuple[int, int, str]] = []
    found = measure_rounds(
        [_drawing("steady", [1.0], log), restless], Limits(min_samples=100), rounds=10, max_load=0.15, agree=0.05,
        progress=lambda *told: steps.append(told),
    )  # fmt: skip
    rounds = {name: samples.rounds for name, samples in found.samples().items()}
    assert rounds["steady"] == (10,) * 10 and log.count("steady") == 10
    assert len(rounds["restless"]) == 10 + found.further == log.count("restless") and 0 < found.further < 10
    assert found.turns == len(log) == steps[-1][0] == steps[-1][1] and turns.FURTHER in steps[-1][2]
    parts = turns.Rounds(found.kept).of(1)
    assert turns.disagreement(parts[:-1]) > 0.05 >= turns.disagreement(parts)


def test_further_rounds_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most as many as there were, within the seconds of a case, and none that others disturbed."""
    swinging = [1.0, 2.0] * 50

    def further(
        loads: list[float], limits: Limits, agree: float | None = 0.05, wall: float = 0.01, rounds: int = 6
    ) -> tuple[int, int]:
        _under(monkeypatch, loads)
        case = _drawing("a", swinging, [], wall)
        found = measure_rounds([case], limits, rounds=rounds, max_load=0.15, agree=agree)
        return found.further, len(found.samples()["a"].rounds)

    assert further([0.0] * 99, Limits(min_samples=60)) == (6, 12)
    assert further([0.0] * 99, Limits(min_samples=60, max_seconds=9.0), wall=1.0) == (3, 9)
    assert further([0.0] * 6 + [9.0, 0.0] * 9, Limits(min_samples=60)) == (6, 9)
    assert further([0.0] * 99, Limits(min_samples=60), agree=None) == (0, 6)
    assert further([0.0] * 99, Limits(min_samples=60), rounds=5) == (0, 5), "their range could only grow"


@pytest.mark.parametrize("count", [1, 5, 6, 10, 25, 1030])
def test_ranks_around_the_middle(count: int) -> None:
    """Those of the binomial distribution, with nothing but integers: a device has no SciPy."""
    assert turns.middle_ranks(count) == (interval_ranks(count, 50) or (1, count))
