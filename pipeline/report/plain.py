"""The first screen in plain words: what to ship, how good it is, what to worry about. The three views say it alike.

For people who know their images and no jargon: no names of libraries, no abbreviations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.report import choice_words, data_words, engine_words, latency_words, numbers, words
from pipeline.report.worry import Tone, Worry, worst_first
from pipeline.results.choice import Shipping
from pipeline.results.engine import Engine
from pipeline.results.evidence import Load, Share, Standing
from pipeline.results.result import Result

TONES: dict[str, Tone] = {
    "pass": "pass",
    "no_goal": "miss",
    "not_run": "off",
    "budget_missed": "miss",
    "no_better_than_guessing": "fail",
    "failed": "fail",
}
"""How serious a run's verdict is."""
_SHIPPING_TONES: dict[str, Tone] = {
    "ship": "pass",
    "budget_missed": "miss",
    "no_better_than_guessing": "fail",
    "not_run": "off",
    "failed": "fail",
}
SET_A_GOAL = "budgets: {top1: {min: 90}}"
_NAMED = 4
# Worth a word: so many points between student and teacher, of the engine below its network, or of doubt.
_BEHIND, _LOST, _UNSURE = 5.0, 1.0, 5.0


@dataclass(frozen=True)
class Level:
    """One line of the comparison: how often something is right."""

    who: str
    percent: float
    interval: tuple[float, float] | None
    """95 %; None for what is exact or not known."""
    mine: bool = False
    """It is the model that the report is about."""


def looked_at(result: Result) -> tuple[Engine | None, Standing | None]:
    """What the first screen is about: the engine that ships first, else the student (None); and where it stands."""
    engine = next((e for e in result.engines if e.id == result.looked_at), None) or next(
        (e for s in result.shipping if (e := words.shipped(result, s))), None
    )
    standing = engine.standing if engine and engine.standing else result.student.standing
    return engine, standing


def headline(result: Result) -> str:
    """The verdict in one sentence."""
    engine, standing = looked_at(result)
    ships = " and ".join(s.engine for s in result.shipping if s.engine)
    accuracy = engine.accuracy if engine and engine.accuracy else result.student.test
    right = f"right on {numbers.percent(accuracy.top1)} % of {numbers.count(accuracy.n)} test images"
    if result.verdict == "pass":
        return f"Ship {ships}: {right}, and every goal is met."
    if result.verdict == "no_goal":
        return f"{ships} is the best of what was built: {right}. No goal says whether that is good enough."
    if result.verdict == "not_run":
        return "Nothing that was built could run here, so nothing is recommended."
    if result.verdict == "no_better_than_guessing":
        always = f"always answering “{standing.majority_class}”" if standing else "one answer to everything"
        return f"Do not ship it: {always} would be right as often, or more often."
    if result.verdict == "budget_missed":
        if ships:
            return f"{ships} could be shipped, but a goal that the config demands is missed."
        return "Nothing that was built meets every goal."
    return _what_failed(result)


def _what_failed(result: Result) -> str:
    for step, failure in result.failures.items():
        return f"{step} failed: {failure.get('what', '')}. What was made before it is kept."
    failed = [engine for engine in result.engines if engine.state == "failed"]
    if len(failed) == 1:
        return f"{failed[0].id} failed: {engine_words.reason(failed[0])}. Everything else is kept."
    if failed:
        return f"{len(failed)} engines failed, and the rows below say why. Everything else is kept."
    for shipping in result.shipping:
        if shipping.state == "failed":
            return f"Nothing can be shipped for {shipping.target}: {choice_words.why(result, shipping)}."
    return "A step failed; what was made before it is kept."


@dataclass(frozen=True)
class Choice:
    """What is said of a target: the words, the engine that they are about, and how serious it is."""

    tone: Tone
    text: str
    engine: str | None


def choice(result: Result, shipping: Shipping) -> Choice:
    """What to ship for a target; only the best so far where no goal says how good is good enough."""
    engine = words.shipped(result, shipping)
    if engine is None:
        return Choice(_SHIPPING_TONES[shipping.state], words.SHIPPING[shipping.state], None)
    # Results from before goals were asked for pass without one.
    if result.verdict == "no_goal" or (result.verdict != "pass" and not engine.has_goal):
        return Choice("miss", "Best so far", engine.id)
    return Choice("pass", words.SHIPPING["ship"], engine.id)


def levels(result: Result) -> list[Level]:
    """The model, always the same answer, guessing, the teacher: how often each is right."""
    engine, standing = looked_at(result)
    accuracy = engine.accuracy if engine and engine.accuracy else result.student.test
    name = f"This model ({engine.id})" if engine else "This model"
    teacher = result.teacher.standing
    found = [
        Level(name, accuracy.top1, _interval(standing.top1 if standing else None), mine=True),
        Level("The teacher", result.teacher.test.top1, _interval(teacher.top1 if teacher else None)),
    ]
    if standing:
        always = f"Always answering “{standing.majority_class}”"
        found.append(Level(always, standing.majority.percent, _interval(standing.majority)))
    if classes := words.classes(result):
        found.append(Level(f"Guessing among {numbers.count(classes)}", 100 / classes, None))
    return found


def level(found: Level) -> str:
    """A line of the comparison in words: 'This model: 66.62 % (64.57 to 68.60 %)'."""
    span = (
        f" ({numbers.percent(found.interval[0])} to {numbers.percent(found.interval[1])} %)"
        if found.interval
        else ""
    )
    return f"{found.who}: {numbers.percent(found.percent)} %{span}"


def worries(result: Result) -> list[Worry]:
    """What to worry about, the worst first; empty where the tests see nothing."""
    _, standing = looked_at(result)
    found = [*(_answers(standing) if standing else ())]
    if any(c.tone == "miss" and c.engine for c in (choice(result, s) for s in result.shipping)):
        found.append(
            Worry("miss", f"No goal says how good is good enough. Set one in the config: {SET_A_GOAL}")
        )
    found += [w for s in result.shipping if (w := _disturbed(s, result.loads.get(s.target)))]
    found += _losses(result, standing)
    found += _images(standing) if standing else []
    found += data_words.copy_worries(result.your_data, "test") if result.your_data else []
    return worst_first(found)


def _answers(standing: Standing) -> Iterator[Worry]:
    gap, always = standing.over_majority, f"always answering “{standing.majority_class}”"
    if "no_better_than_majority" in standing.findings:
        than = "only as often as" if gap.points == 0 else "less often than"
        yield Worry(
            "fail",
            f"It is right {than} {always}: {numbers.percent(standing.top1.percent)} % against "
            f"{numbers.percent(standing.majority.percent)} %. Train it for longer, at another learning rate, or on "
            "more images.",
        )
    if standing.only_class is not None:
        yield Worry("fail", f"It answers “{standing.only_class}” to every image.")
    if "not_clearly_better_than_majority" in standing.findings:
        yield Worry(
            "miss",
            f"It is not clearly better than {always}: {numbers.percent(gap.points)} points better on these images, "
            f"{numbers.percent(gap.low)} to {numbers.percent(gap.high)} in general.",
        )
    if standing.at_chance_count and standing.only_class is None:
        named = [f"{c.name} ({c.correct} of {c.n} right)" for c in standing.at_chance[:_NAMED]]
        who = _listed(named, standing.at_chance_count)
        many = f"{numbers.count(standing.at_chance_count)} of {numbers.count(standing.classes)} classes"
        verb = "is" if standing.at_chance_count == 1 else "are"
        yield Worry("miss", f"{many} {verb} answered no better than by guessing: {who}.")


def _images(standing: Standing) -> Iterator[Worry]:
    if standing.not_tested_count:
        who = _listed(standing.not_tested[:_NAMED], standing.not_tested_count)
        classes = (
            "1 class has" if standing.not_tested_count == 1 else f"{standing.not_tested_count:,} classes have"
        )
        yield Worry("miss", f"{classes} no test image, so nothing is known about: {who}.")
    if standing.too_few_count:
        classes = "1 class has" if standing.too_few_count == 1 else f"{standing.too_few_count:,} classes have"
        yield Worry("off", f"{classes} too few test images to tell right answers from luck.")
    if standing.top1.high - standing.top1.low > 2 * _UNSURE:
        yield Worry(
            "off",
            f"{numbers.count(standing.n)} test images are few: of all such images, "
            f"{numbers.percent(standing.top1.low)} to {numbers.percent(standing.top1.high)} % may be answered right.",
        )


def _losses(result: Result, standing: Standing | None) -> Iterator[Worry]:
    engine, _ = looked_at(result)
    teacher = result.teacher.standing
    if teacher and teacher.over_majority.low <= 0:
        yield Worry(
            "miss",
            f"The teacher is not clearly better than guessing: {numbers.percent(teacher.top1.percent)} % against "
            f"{numbers.percent(teacher.majority.percent)} %. What this model learnt from it may be noise.",
        )
    gap = standing.over_teacher if standing else None
    if gap is not None and gap.high < -_BEHIND:
        yield Worry(
            "off",
            f"The teacher is {numbers.percent(-gap.points)} points better ({numbers.percent(-gap.high)} to "
            f"{numbers.percent(-gap.low)}). A larger student, or more epochs, may come closer.",
        )
    if engine is not None and engine.drop is not None and engine.drop > _LOST:
        yield Worry(
            "off",
            f"{engine.id} is {numbers.percent(engine.drop)} points worse than the network that it was made from.",
        )


def _disturbed(shipping: Shipping, load: Load | None) -> Worry | None:
    if load is None or not load.disturbed:
        return None
    if not shipping.disturbed:
        doubt = ""
    elif shipping.state == "budget_missed":
        doubt = " That a goal for the time is missed may be due to it."
    else:
        doubt = " Another engine may be the fastest."
    text = (
        f"The times of {shipping.target} are doubtful: {latency_words.load(load)}.{doubt} On a quiet machine, "
        "figkd-pipeline benchmark CONFIG measures again."
    )
    return Worry("miss" if shipping.disturbed else "off", text)


def _listed(named: Sequence[str], count: int) -> str:
    more = count - len(named)
    return ", ".join(named) + (f" and {numbers.count(more)} more" if more else "")


def _interval(share: Share | None) -> tuple[float, float] | None:
    return (share.low, share.high) if share else None
