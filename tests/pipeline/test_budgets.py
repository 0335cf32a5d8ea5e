"""Budgets: each side of a goal, what cannot be judged, and what is shipped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budgets import choose, judge, miss
from pipeline.config.schema import Budgets, Goal
from pipeline.result import Accuracy, Engine, EngineState, Latency


def _accuracy(top1: float, *, finite: bool = True) -> Accuracy:
    worst = [{"name": "a", "n": 5, "accuracy": 20.0}]
    return Accuracy(
        source="engine", n=10, top1=top1, top5=None, mean_per_class=top1, worst_classes=worst, confused=[],
        agreement=99.0, finite=finite,
    )  # fmt: skip


def _latency(median: float, n: int = 1000) -> Latency:
    return Latency(
        batch=1, boundary="engine", n=n, min=median, mean=median, median=median, p90=median, p95=median,
        p99=2 * median if n >= 1000 else None, max=median, std=0, cv_percent=0, throughput=1000 / median,
        drift_percent=0, warnings=[], samples="x",
    )  # fmt: skip


def _engine(
    name: str = "fp32",
    state: EngineState = "ran",
    top1: float = 90.0,
    median: float = 1.0,
    *,
    finite: bool = True,
) -> Engine:
    ran = state == "ran"
    return Engine(
        id=f"cpu/{name}", target="cpu", backend="onnxruntime", precision=name, compute_capability="", state=state,
        detail="", fix="", onnx="x.onnx", onnx_mb=1, engine_mb=1.5, build_seconds=1,
        accuracy=_accuracy(top1, finite=finite), drop=None, latency=[_latency(median)] if ran else [], budgets=[],
    )  # fmt: skip


STUDENT = _accuracy(91.0)


@pytest.mark.parametrize(
    ("budgets", "verdict", "margin"),
    [
        ({"top1": Goal(min=90)}, "pass", 0.0),
        ({"top1": Goal(min=90.5)}, "miss", -0.5),
        ({"top1": Goal(max_drop=1)}, "pass", 0.0),
        ({"top1": Goal(max_drop=0.4)}, "miss", -0.6),
        ({"latency_p50_ms": Goal(max=1)}, "pass", 0.0),
        ({"latency_p99_ms": Goal(max=1.5)}, "miss", -0.5),
        ({"throughput": Goal(min=999)}, "pass", 1.0),
        ({"engine_mb": Goal(max=1)}, "miss", -0.5),
        ({"worst_class": Goal(min=10)}, "pass", 10.0),
        ({"top5": Goal(min=10)}, "not_judged", None),
    ],
)
def test_one_goal(budgets: dict[str, Goal], verdict: str, margin: float | None) -> None:
    """Value, verdict and margin of each kind; a metric that was not measured is not judged."""
    (judged,) = judge(_engine(), Budgets(**budgets), STUDENT)
    assert judged.verdict == verdict
    assert judged.margin == (None if margin is None else pytest.approx(margin))


@given(value=st.floats(0, 100), limit=st.floats(0, 100))
def test_verdict_and_margin_agree(value: float, limit: float) -> None:
    """A goal is met exactly when its margin is not negative."""
    for side in (Goal(min=limit), Goal(max_drop=limit)):
        (judged,) = judge(_engine(top1=value), Budgets(top1=side), STUDENT)
        assert judged.margin is not None
        assert (judged.verdict == "pass") == (judged.margin >= 0)


def test_scope() -> None:
    """A goal that names precisions or targets leaves the others alone."""
    budgets = Budgets(top1=Goal(min=99, precision=["int8"]), engine_mb=Goal(max=9, target=["other"]))
    assert judge(_engine("fp16"), budgets, STUDENT) == []
    (judged,) = judge(_engine("int8"), budgets, STUDENT)
    assert judged.scoped and judged.verdict == "miss"


def test_the_fastest_within_budget_is_shipped() -> None:
    """Faster engines that miss a budget, or give non-finite outputs, are passed over."""
    budgets = Budgets(top1=Goal(max_drop=2))
    engines = [
        _engine("fp32", median=3),
        _engine("fp16", median=2),
        _engine("int8", median=1, top1=50),
    ]
    broken = _engine("bf16", median=0.5, finite=False)
    for engine in (*engines, broken):
        engine.budgets = judge(engine, budgets, STUDENT)
    choice = choose("cpu", [*engines, broken])
    assert (choice.state, choice.engine) == ("ship", "cpu/fp16")


def test_nothing_to_ship_says_why() -> None:
    """Missed budgets, engines that only exist for an absent GPU, failed builds."""
    missed = _engine(top1=50)
    missed.budgets = judge(missed, Budgets(top1=Goal(min=80)), STUDENT)
    choice = choose("cpu", [missed])
    assert choice.state == "budget_missed" and "top-1 ≥ 80 %: 50.00 % (30.00 pp short)" in choice.why
    assert miss(missed.budgets[0]) in choice.why
    assert choose("cpu", [_engine(state="built")]).state == "not_run"
    assert choose("cpu", [_engine(state="failed")]).state == "failed"


def test_a_p99_without_enough_samples_is_not_judged_and_not_shipped() -> None:
    """What was not measured is not met."""
    engine = _engine()
    engine.latency = [_latency(1.0, n=999)]
    engine.budgets = judge(engine, Budgets(latency_p99_ms=Goal(max=5)), STUDENT)
    assert engine.budgets[0].verdict == "not_judged"
    assert choose("cpu", [engine]).state == "budget_missed"


def test_engines_that_contradict_themselves_are_not_shipped() -> None:
    """One image, two answers: found by the check, and acted on."""
    engine = _engine()
    assert engine.accuracy is not None
    engine.accuracy.identical_rows = False
    choice = choose("cpu", [engine])
    assert choice.state == "failed" and "differ for the same image" in choice.why
