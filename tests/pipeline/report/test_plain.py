"""The first screen: against what, what to worry about, and in words that need no training."""

from __future__ import annotations

import re
from typing import Any

import pytest
from data_sample import data_sample_messy
from sample import sample, sample_bare, sample_crowded, sample_missed, sample_useless

from pipeline.report import plain
from pipeline.report.html import render_html
from pipeline.report.markdown import render_markdown
from pipeline.results.choice import Reason
from pipeline.results.evidence import Load
from pipeline.results.result import Result

JARGON = re.compile(r"\b(torch|boundary|pp|top-1|Wilson|logits?|softmax)\b", re.IGNORECASE)


def _no_goal() -> Result:
    return sample(verdict="no_goal")


def _disturbed(state: str = "ship") -> Result:
    result = sample()
    result.loads["cpu"] = Load(others=1.7, stolen=0.1, seconds=30, rounds=10, repeated=10, disturbed=True)
    result.shipping[0].disturbed = True
    result.shipping[0].state = state  # type: ignore[assignment]
    return result


ALL = [sample(), sample_missed(), sample_crowded(), sample_bare(), sample_useless(), _no_goal(), _disturbed()]


@pytest.mark.parametrize("result", ALL, ids=lambda r: f"{r.name}-{r.verdict}")
def test_no_jargon_before_the_sections(result: Result) -> None:
    """On the page and in Markdown, whatever the verdict; names and failures of others are quoted as they are."""
    result = result.model_copy(update={"failures": {}})
    page = re.sub(r"<style>.*?</style>|<[^>]*>", " ", render_html(result), flags=re.DOTALL)
    for top in (
        page[: page.index("One row for each engine")],
        render_markdown(result).split("## Engines")[0],
    ):
        assert not JARGON.search(top), JARGON.search(top)
        assert plain.headline(result)[:40].split("“")[0] in " ".join(top.replace("\\", "").split())


def test_a_good_model_stands_against_guessing_and_its_teacher() -> None:
    """Four figures with their intervals, and the gap in words."""
    found = [plain.level(level) for level in plain.levels(sample())]
    assert found == [
        "This model (cpu/int8): 66.62 % (64.62 to 68.62 %)",
        "The teacher: 94.48 % (92.48 to 96.48 %)",
        "Always answering “DejaVu Sans”: 4.76 % (2.76 to 6.76 %)",
        "Guessing among 21: 4.76 %",
    ]
    (worry,) = plain.worries(sample())
    assert worry.text.startswith("The teacher is 27.86 points better (26.06 to 29.66).")


def test_a_useless_model_is_told_as_such_worst_first() -> None:
    """No green word, each finding with its numbers and names, and what to do."""
    result = sample_useless()
    assert plain.headline(result) == (
        "Do not ship it: always answering “flags” would be right as often, or more often."
    )
    found = plain.worries(result)
    assert [w.tone for w in found[:2]] == ["fail", "fail"]
    text = "\n".join(w.text for w in found)
    for part in (
        "less often than always answering “flags”: 10.89 % against 23.76 %",
        "It answers “cars” to every image.",
        "1 class has no test image, so nothing is known about: waves.",
        "101 test images are few",
        "other processes used 1.7 CPU cores meanwhile, also when 10 rounds were taken again",
    ):
        assert part in text
    result.student.standing = result.student.standing.model_copy(update={"only_class": None})  # type: ignore[union-attr]
    text = "\n".join(w.text for w in plain.worries(result))
    assert "7 of 8 classes are answered no better than by guessing: birds (0 of 11 right), fish" in text
    assert "and 5 more." in text
    assert "Pass" not in render_html(result).split("<nav")[0]


def test_no_goal_says_how_to_set_one() -> None:
    """Amber, in one line, and the line is a budget that a config takes."""
    import yaml

    from pipeline.config.schema import Budgets

    (first, *_) = plain.worries(_no_goal())
    assert first.tone == "miss" and first.text.endswith(plain.SET_A_GOAL)
    assert Budgets(**yaml.safe_load(plain.SET_A_GOAL)["budgets"]).top1
    page = render_html(_no_goal())
    assert '<div class="verdict miss">' in page and "Best so far:" in page


@pytest.mark.parametrize("verdict", ["failed", "budget_missed"])
def test_without_a_goal_nothing_else_makes_it_ship(verdict: str) -> None:
    """Another engine or target that failed is no reason to call what is left good enough, in any view."""
    result = sample(verdict=verdict)
    assert not any(e.has_goal for e in result.engines)
    assert any(w.text.endswith(plain.SET_A_GOAL) for w in plain.worries(result))
    page, text = render_html(result), render_markdown(result)
    assert "Best so far:" in page and 'class="badge">ship' not in page and 'class="badge">best so far' in page
    assert "best so far `cpu/int8`" in text and "ship `cpu/int8`" not in text


def test_what_failed_is_named_in_the_headline() -> None:
    """A row that could not be made is no failed step: which, why, and that the rest is there."""
    result = sample(verdict="failed")
    assert "failed" not in {e.state for e in result.engines}
    result.engines[0].state, result.engines[0].detail = "failed", "INT8 needs at least 32 training images"
    result.failures = {}
    assert plain.headline(result) == (
        f"{result.engines[0].id} failed: INT8 needs at least 32 training images. Everything else is kept."
    )
    result.engines[1].state = "failed"
    assert plain.headline(result) == "2 engines failed, and the rows below say why. Everything else is kept."
    result.failures = {"build@cpu": {"what": "no compiler"}}
    assert plain.headline(result) == "build@cpu failed: no compiler. What was made before it is kept."


def test_outputs_that_are_not_finite_are_no_failed_step() -> None:
    """Nothing failed to run, and still nothing can be shipped: the reason is the headline."""
    result = sample(verdict="failed", failures={})
    result.shipping[0].state, result.shipping[0].reason = "failed", Reason(code="unsound")
    result.shipping[0].engine = None
    assert plain.headline(result) == (
        "Nothing can be shipped for cpu: engines within budget give outputs that are not finite, "
        "or differ for the same image."
    )


@pytest.mark.parametrize(
    ("state", "doubt"), [("ship", "Another engine may be the fastest"), ("budget_missed", "may be due to it")]
)
def test_a_disturbed_decision_is_said(state: str, doubt: str) -> None:
    """In the verdict of every view; where nothing hung on it, with less weight."""
    result = _disturbed(state)
    (first, *_) = plain.worries(result)
    assert first.tone == "miss" and doubt in first.text and "1.7 CPU cores" in first.text
    result.shipping[0].disturbed = False
    assert {w.tone for w in plain.worries(result)} == {"off"}


def test_a_result_of_an_earlier_version_still_reads() -> None:
    """Without any of it: accuracy, teacher and chance are known all the same."""
    new = {"loads", "looked_at", "mistakes", "confusion", "standing", "disturbed"}

    def old(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: old(v) for k, v in value.items() if k not in new}
        return [old(v) for v in value] if isinstance(value, list) else value

    result = Result.model_validate(old(sample().model_dump(mode="json")))
    assert result.student.standing is None
    assert [level.percent for level in plain.levels(result)] == [66.62, 94.48, pytest.approx(100 / 21)]
    assert plain.worries(result) == [] and "Ship" in render_html(result) and render_markdown(result)


def test_copies_in_the_test_images_are_on_the_first_screen() -> None:
    """They make every figure doubtful, not only those of the data's own section."""
    (worry, *_) = plain.worries(sample(your_data=data_sample_messy()))
    assert worry.tone == "miss" and worry.text.startswith("1 of 90 test images (1.1 %) repeat train images")
