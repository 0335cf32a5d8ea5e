"""Budgets: each side of a goal, what cannot be judged, and what is shipped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.schema import Budgets, Goal
from pipeline.report import choice_words, engine_words, goal_words
from pipeline.results.budgets import choose, fastest_rival, judge, run_verdict
from pipeline.results.choice import Judged, Shipping
from pipeline.results.composition import BuiltEngine, Composition
from pipeline.results.engine import Energy, Engine, EngineState, Int8Share
from pipeline.results.latency import Latency
from pipeline.results.network import Accuracy, Network
from pipeline.results.result import RunVerdict
from pipeline.results.standing import standing
from tests.pipeline.report.sample import sample


def _accuracy(top1: float, *, finite: bool = True) -> Accuracy:
    worst = [{"name": "a", "n": 5, "accuracy": 20.0}]
    return Accuracy(
        source="engine", n=10, top1=top1, top5=None, mean_per_class=top1, worst_classes=worst, confused=[],
        agreement=99.0, finite=finite,
    )  # fmt: skip


def _latency(median: float, n: int = 1000, rounds: list[float] | None = None) -> Latency:
    return Latency(
        round_medians=rounds or [],
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
    mb: float = 1.5,
    rounds: list[float] | None = None,
) -> Engine:
    ran = state == "ran"
    return Engine(
        id=f"cpu/{name}", target="cpu", backend="onnxruntime", precision=name, compute_capability="", state=state,
        detail="", fix="", onnx="x.onnx", onnx_mb=1, engine_mb=mb, build_seconds=1,
        accuracy=_accuracy(top1, finite=finite), drop=None, budgets=[],
        latency=[_latency(median, rounds=rounds)] if ran else [],
    )  # fmt: skip


def _why(choice: Shipping, engines: list[Engine]) -> str:
    """The reason in words."""
    return choice_words.why(sample(engines=engines, shipping=[choice]), choice)


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
    assert choice.state == "budget_missed" and "right answers ≥ 80 %: 50.00 % (30.00 points short)" in _why(
        choice, [missed]
    )
    assert goal_words.miss(missed.budgets[0]) in _why(choice, [missed])
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
    assert choice.state == "failed" and "differ for the same image" in _why(choice, [engine])


LOAD = [1.0, 1.3, 1.0, 2.0, 1.1, 1.0, 1.0, 1.5, 1.0, 1.0]  # of the machine, in ten rounds


def _timed(name: str, median: float, mb: float, jitter: float = 0.0) -> Engine:
    rounds = [median * load * (1 + jitter * (-1) ** i) for i, load in enumerate(LOAD)]
    return _engine(name, median=median, mb=mb, rounds=rounds)


def test_a_tie_is_said_and_the_smaller_file_wins() -> None:
    """Faster by less than the rounds differ is not faster."""
    engines = [_timed("fp32", 1.00, 4.0), _timed("fp16", 1.03, 2.0, jitter=0.05), _timed("int8", 1.5, 1.0)]
    choice = choose("cpu", engines)
    assert choice.engine == "cpu/fp16"
    assert "a tie with fp32 1.000 ms, 0.9" in _why(choice, engines) and "smallest file" in _why(
        choice, engines
    )
    assert "slower: int8 1.500 ms, 1." in _why(choice, engines)


def test_a_sure_difference_decides_and_one_that_does_not_matter_does_not() -> None:
    """The load of the rounds falls on both; half a percent is no reason for twice the file."""
    timed = [_timed("fp32", 1.00, 4.0), _timed("fp16", 1.03, 2.0)]
    sure = choose("cpu", timed)
    assert sure.engine == "cpu/fp32" and "slower: fp16 1.030 ms, 1.03 times as long (1.03 to 1.03)" in _why(
        sure, timed
    )
    assert choose("cpu", [_timed("fp32", 1.000, 4.0), _timed("fp16", 1.005, 2.0)]).engine == "cpu/fp16"


def test_without_rounds_the_medians_decide() -> None:
    """Results of an earlier version, and engines that were timed alone."""
    assert choose("cpu", [_engine("fp32", median=2), _engine("fp16", median=1)]).engine == "cpu/fp16"


@pytest.mark.parametrize(
    ("select", "engine", "said"),
    [
        ("fastest_within_budget", "cpu/fp16", "fastest of 3 within budget"),
        ("prefer_int8", "cpu/int8", "precision.select: prefer_int8; one of 3 within budget"),
        ("fp32", "cpu/fp32", "precision.select: fp32; fastest of 1 within budget"),
    ],
)
def test_select(select: str, engine: str, said: str) -> None:
    """What the config asks for, and that it did so."""
    engines = [_timed("fp32", 3, 4.0), _timed("fp16", 1, 2.0), _timed("int8", 2, 1.0)]
    choice = choose("cpu", engines, select)
    assert choice.engine == engine and said in _why(choice, engines)
    if select == "prefer_int8":
        assert "faster: fp16 1.000 ms, 0.50 times as long" in _why(choice, engines)


def test_a_preferred_precision_must_meet_the_budgets_too() -> None:
    """INT8 that misses is passed over when preferred, and ships nothing when demanded."""
    engines = [_timed("fp16", 1, 2.0), _engine("int8", median=0.5, top1=50)]
    for engine in engines:
        engine.budgets = judge(engine, Budgets(top1=Goal(max_drop=2)), STUDENT)
    preferred = choose("cpu", engines, "prefer_int8")
    assert preferred.engine == "cpu/fp16" and "no INT8 engine is within budget" in _why(preferred, engines)
    assert choose("cpu", engines, "int8").state == "budget_missed"
    assert choose("cpu", engines, "fp32").state == "failed"


def test_int8_that_is_not_faster_is_explained() -> None:
    """By what stays in floating point, what is converted, and how small the network is."""
    int8, fp32 = _timed("int8", 2.0, 1.0), _timed("fp32", 1.0, 4.0)
    rival = fastest_rival(int8, [fp32])
    assert rival is not None and rival.times is not None and (rival.times.ratio, rival.times.n) == (2.0, 10)
    layer = {"name": "stem", "op": "Conv", "macs_percent": 60.0}
    int8.int8 = Int8Share(
        layers=10, int8_layers=4, macs=1_000_000, int8_macs=400_000, depthwise_macs=200_000, quantize=9,
        dequantize=9, float_layers=[layer], operators={"QLinearConv": 4, "DequantizeLinear": 6, "HardSigmoid": 3},
    )  # fmt: skip
    int8.composition = Composition(engine=BuiltEngine(layers=12, reformats=3, requantise=4))
    story = engine_words.int8_story(int8, rival)
    assert story.startswith("INT8 is slower than fp32 here: 2.00 times as long (2.00 to 2.00), n = 10 rounds")
    for text in (
        "4 of 10 layers and 40.0 % of 1.0 million multiply-accumulates are INT8", "stem (60 %)",
        "6 conversions", "around 3 HardSigmoid", "so small a network",
        "20.0 % of the multiply-accumulates are depthwise", "3 of the built engine's 12 layers only reformat",
        "4 of the built engine's 12 layers only requantise",
    ):  # fmt: skip
        assert text in story


def test_energy_and_late_images() -> None:
    """Judged where they were measured; from the image to the class rather than the engine alone."""
    engine = _engine()
    budgets = Budgets(energy_mj_per_image=Goal(max=2), deadline_miss_percent=Goal(max=1))
    assert {j.verdict for j in judge(engine, budgets, STUDENT)} == {"not_judged"}
    engine.energy = Energy(
        source="x", covers="y", mj_per_image=1.5, mj_per_image_total=9, idle_w=1, load_w=2, n=9
    )
    for boundary, late in (("engine", 0.0), ("image_to_class", 5.0)):
        update = {"boundary": boundary, "rate_fps": 30.0, "deadline_miss_percent": late}
        engine.latency.append(_latency(1.0).model_copy(update=update))
    verdicts = {j.metric: (j.verdict, j.value) for j in judge(engine, budgets, STUDENT)}
    assert verdicts == {"energy_mj_per_image": ("pass", 1.5), "deadline_miss_percent": ("miss", 5.0)}


def _guess(engine: Engine, *, right: bool) -> Engine:
    """An engine whose answers are all right, or that always gives the most frequent of two classes."""
    labels = np.repeat([0, 1], [6, 4])
    engine.standing = standing(labels, labels if right else np.zeros(10, int), ["flags", "birds"])
    return engine


def test_what_is_no_better_than_guessing_is_never_shipped() -> None:
    """Whatever the budgets say of it, and also where it is the fastest; it says against what."""
    slow, fast = _guess(_engine("fp32", median=2), right=True), _guess(_engine("int8", median=1), right=False)
    assert choose("cpu", [slow, fast]).engine == "cpu/fp32"
    for engine in (slow, fast):
        engine.budgets = judge(engine, Budgets(top1=Goal(min=1)), STUDENT)
    assert choose("cpu", [slow, fast]).engine == "cpu/fp32"
    alone = choose("cpu", [fast])
    assert (alone.state, alone.engine) == ("no_better_than_guessing", None)
    assert "always answering flags would be on 60.00 %" in _why(alone, [fast])
    assert choose("cpu", [fast], "fp32").state == "failed", "no such engine"


@pytest.mark.parametrize(
    ("budgets", "absolute"),
    [
        (Budgets(), False),
        (Budgets(top1=Goal(max_drop=1)), False),
        (Budgets(latency_p50_ms=Goal(max=9), engine_mb=Goal(max=9)), False),
        (Budgets(agreement=Goal(min=90)), False),  # with its own network
        (Budgets(top1=Goal(min=80)), True),
        (Budgets(worst_class=Goal(min=10)), True),
        (Budgets(mean_per_class=Goal(min=10, precision=["int8"])), False),  # of another engine
    ],
)
def test_which_goals_say_how_good_is_good_enough(budgets: Budgets, absolute: bool) -> None:
    """Not those that compare the student with itself, and none of time or size."""
    engine = _engine()
    engine.budgets = judge(engine, budgets, STUDENT)
    assert engine.has_goal is absolute


def _run(
    engines: list[Engine], *, student: bool | None = None, failures: bool = False, required: bool = True
) -> RunVerdict:
    network = Network(model="m", parameters=1, test=STUDENT, val_top1=90, history=[])
    if student is not None:
        network.standing = _guess(_engine(), right=student).standing
    shipping = [choose("cpu", engines)]
    failed, needed = ["x"] if failures else [], ["cpu"] if required else []
    return run_verdict(engines, shipping, network, failures=failed, required=needed)


def _judged(engine: Engine, **budgets: Goal) -> Engine:
    engine.budgets = judge(engine, Budgets(**budgets), STUDENT)
    return engine


def test_the_verdict_of_a_run() -> None:
    """Green needs an absolute goal that is met; below guessing is never a pass; the worst counts."""
    met, no_goal = _judged(_engine(), top1=Goal(min=80)), _judged(_engine(), top1=Goal(max_drop=5))
    assert _run([met]) == "pass" and _run([no_goal]) == "no_goal" and _run([_engine()]) == "no_goal"
    assert _run([_judged(_engine(), top1=Goal(min=95))]) == "budget_missed"
    assert _run([_guess(met.model_copy(), right=False)]) == "no_better_than_guessing"
    assert _run([met], student=False) == "no_better_than_guessing"
    assert _run([met], student=True) == "pass"
    assert _run([met], failures=True) == "failed"
    assert _run([_engine(state="built")]) == "not_run"
    assert _run([_engine(state="failed")]) == "failed"
    assert _run([_engine(state="failed")], required=False) == "not_run"


def test_times_that_others_disturbed_are_marked_where_they_decide() -> None:
    """A goal for the time, or the choice among several; not accuracy, and not the only engine there is."""
    budgets = Budgets(latency_p99_ms=Goal(max=1), top1=Goal(min=1))
    engine = _engine()
    engine.budgets = judge(engine, budgets, STUDENT, disturbed=True)
    marks: dict[str, Judged] = {j.metric: j for j in engine.budgets}
    assert marks["latency_p99_ms"].disturbed and not marks["top1"].disturbed
    missed = choose("cpu", [engine], disturbed=True)
    assert (missed.state, missed.disturbed) == ("budget_missed", True)
    accuracy = _engine()
    accuracy.budgets = judge(accuracy, Budgets(top1=Goal(min=95)), STUDENT, disturbed=True)
    assert not choose("cpu", [accuracy], disturbed=True).disturbed

    def disturbed(*engines: Engine) -> Shipping:
        return choose("cpu", engines, disturbed=True)

    assert disturbed(_engine("fp32", median=2), _engine("fp16")).disturbed
    assert not disturbed(_engine("fp32")).disturbed
    assert not choose("cpu", [_engine("fp32"), _engine("fp16")]).disturbed
