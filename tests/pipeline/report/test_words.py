"""Numbers in words: units, signs and what was not measured."""

from __future__ import annotations

import html
import io

import pytest
from rich.console import Console
from sample import accuracy, judged, sample, sample_bare

from pipeline.report import engine_words, goal_words, numbers, words
from pipeline.report.html import render_html
from pipeline.report.markdown import render_markdown
from pipeline.report.terminal import render_table
from pipeline.results.engine import SkippedTactics


def test_not_measured_is_never_zero() -> None:
    """A dash for what is null; zero only for what is zero."""
    for show in (
        numbers.percent,
        numbers.ms,
        numbers.mb,
        numbers.rate,
        numbers.count,
        numbers.signed_drop,
        numbers.seconds,
        numbers.magnitude,
        numbers.size,
    ):
        assert show(None) == numbers.DASH
        assert "0" in show(0.0)


@pytest.mark.parametrize(
    ("drop", "text"),
    [(0.314, "−0.31"), (-0.05, "+0.05"), (0.0, "0.00"), (-0.0, "0.00"), (0.001, "0.00"), (-0.004, "0.00")],
)
def test_change_has_the_right_sign(drop: float, text: str) -> None:
    """A drop is a negative change; a change that rounds to nothing has no sign."""
    assert numbers.signed_drop(drop) == text


def test_units_and_digits() -> None:
    """Digits that the measurement supports, thousands apart, powers of ten."""
    assert numbers.ms(0.00823) == "0.0082" and numbers.ms(0.0) == "0.000"
    assert numbers.ms(0.1234) == "0.123" and numbers.ms(1234.56) == "1,234.6"
    assert numbers.mb(0.0344) == "0.034" and numbers.mb(12.34) == "12.3"
    assert numbers.rate(8140.4) == "8,140" and numbers.rate(12.34) == "12.3"
    assert numbers.magnitude(3.14e-6) == "3.1 × 10⁻⁶" and numbers.magnitude(0.0) == "0"
    assert numbers.seconds(98.2) == "1 min 38 s" and numbers.seconds(0.44) == "0.4 s"
    assert numbers.size(1_234_567) == "1.2 MB" and numbers.size(12) == "12 B"
    assert numbers.percent(float("nan")) == "nan"


@pytest.mark.parametrize(
    ("budget", "goal", "gap"),
    [
        (judged("latency_p99_ms", "max", 5.0, 5.42), "p99 latency ≤ 5 ms", "0.420 ms over"),
        (judged("top1", "min", 70.0, 66.62), "top-1 ≥ 70 %", "3.38 points short"),
        (judged("top1", "max_drop", 1.0, 0.31), "top-1 drop ≤ 1 points", "0.69 points to spare"),
        (judged("throughput", "min", 100.0, None), "throughput ≥ 100 img/s", ""),
        (judged("engine_mb", "max", 12.0, 12.0), "engine size ≤ 12 MB", "0.000 MB to spare"),
    ],
)
def test_budgets_in_words(budget: words.Judged, goal: str, gap: str) -> None:
    """Which budget, which limit with its unit, and by how much."""
    assert (goal_words.goal(budget), goal_words.gap(budget)) == (goal, gap)


@pytest.mark.parametrize(("right", "n"), [(1410, 2100), (2100, 2100), (0, 7), (3, 4)])
def test_confidence_is_wilsons(right: int, n: int) -> None:
    """The half width of scipy's Wilson interval, also where everything or nothing is right."""
    from scipy.stats import binomtest  # takes half a second to import

    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    shown = words.confidence(accuracy(100 * right / n).model_copy(update={"n": n}))
    assert shown == pytest.approx(50 * (interval.high - interval.low), abs=1e-4)


def test_comparison_of_the_networks() -> None:
    """Teacher and student in one sentence, whoever is better."""
    assert words.compared(sample()) == (
        "The teacher has 135 times the student's parameters; "
        "the student is 27.34 points behind the teacher in top-1."
    )
    assert words.classes(sample()) == 21 and words.classes(sample_bare()) == 0


@pytest.mark.parametrize(
    ("found", "said", "fix"),
    [
        (SkippedTactics(tactics=1), "built with 1 tactic skipped for lack of memory: it may be slower", "free memory"),
        (SkippedTactics(tactics=1200, largest_mb=2304), "1,200 tactics skipped for lack of memory, the largest asked "
         "for 2,304 MiB: it may be slower than it could be", "--force build"),
        (SkippedTactics(tactics=1, by_workspace=True), "skipped for lack of scratch memory", "raise workspace_mb"),
    ],
)  # fmt: skip
def test_an_engine_that_was_built_with_too_little_memory_is_marked(
    found: SkippedTactics, said: str, fix: str
) -> None:
    """In every view, also where it ran."""
    assert said in engine_words.skipped_tactics(found)[0] and fix in engine_words.skipped_tactics(found)[1]
    result = sample()
    result.engines[0].skipped_tactics = found
    assert (engine_words.remarks(result.engines[0])[-1]) == engine_words.skipped_tactics(found)
    page = " ".join(
        html.unescape(render_html(result)).split()
    )  # where a space may not break, it is another one
    assert said in render_markdown(result) and said in page
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(render_table(result))
    assert said in console.export_text()
    assert not engine_words.remarks(sample().engines[0])


def test_parts_of_the_loss() -> None:
    """Protects what is shown of the training: every part with its name, first and last epoch; nothing for old runs."""
    student = sample().student
    text = words.loss_parts(student)
    first, last = student.history[0], student.history[-1]
    assert f"epoch 1 to 10: {first.loss:.3g} to {last.loss:.3g}" in text
    for name in ("task", "detail", "correlation"):
        assert f"{name} {first.parts[name]:.3g} to {last.parts[name]:.3g}" in text
    assert words.loss_parts(student.model_copy(update={"history": student.history[:1]})).count(" to ") == 0
    assert words.loss_parts(sample().teacher) == ""
    assert words.loss_parts(student.model_copy(update={"history": []})) == ""
