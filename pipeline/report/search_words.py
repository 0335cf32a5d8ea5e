"""The words of a search's views."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pipeline.config.metrics import METRICS, Metric
from pipeline.report import numbers
from pipeline.report.worry import Worry, worst_first
from pipeline.results.searched import Confirmed, Missed, Point, SearchedTrial, SearchResult, Sought, Value

STATES = {
    "proposed": "not run",
    "excluded": "excluded untrained",
    "paused": "paused by halving",
    "finished": "trained",
    "failed": "failed",
}


NETWORK = "student.model"
"""The setting that stands beside the name of its trial, where it is varied."""


def metric_of(name: str) -> Metric | None:
    """The metric of a name; None for one of another version."""
    return METRICS.get(name)


def sought(objective: Sought) -> str:
    """'validation top-1', 'median latency on cpu'."""
    metric = metric_of(objective.metric)
    words = metric.words if metric else objective.metric
    return f"{words} on {objective.target}" if objective.target else f"validation {words}"


def unit(objective: Sought) -> str:
    """Unit of an objective's values."""
    metric = metric_of(objective.metric)
    return metric.unit if metric else ""


def value(objective: Sought, found: Value | None) -> str:
    """A value without its unit."""
    return numbers.DASH if found is None else numbers.fixed(found.value, _digits(objective.metric))


def interval(objective: Sought, found: Value | None) -> str:
    """'91.2 to 94.8'; empty where there is none."""
    if found is None or found.low is None or found.high is None:
        return ""
    digits = _digits(objective.metric)
    return f"{numbers.fixed(found.low, digits)} to {numbers.fixed(found.high, digits)}"


def missed(miss: Missed) -> str:
    """'median latency 6.1 ms on cpu, at most 5 ms'."""
    metric = metric_of(miss.metric)
    words, kind, digits = (metric.words, metric.unit, metric.digits) if metric else (miss.metric, "", 3)
    kind = "points" if miss.side == "max_drop" else kind
    name = f"loss of {words}" if miss.side == "max_drop" else words
    bound = "at least" if miss.side == "min" else "at most"
    where = f" on {miss.target}" if miss.target else ""
    return f"{name} {numbers.fixed(miss.value, digits)} {kind}{where}, {bound} {miss.limit:g} {kind}"


def misses(found: Sequence[Missed]) -> str:
    """All of them."""
    return "; ".join(map(missed, found))


def settings(trial: SearchedTrial) -> str:
    """'student.model figkd/dsconv_nano, distill.lr 0.3'."""
    return ", ".join(f"{key} {setting(given)}" for key, given in trial.settings.items())


def network(trial: SearchedTrial) -> str:
    """The network of a trial; empty where it is not varied."""
    return setting(trial.settings[NETWORK]) if NETWORK in trial.settings else ""


def setting(given: object) -> str:
    """A value as a config has it; a number to five digits."""
    if isinstance(given, float):
        return f"{given:.5g}"
    return given if isinstance(given, str) else json.dumps(given)


def counted(result: SearchResult) -> dict[str, int]:
    """How many trials are in each state, as the views name it."""
    states = [trial.state for trial in result.trials]
    return {STATES[state]: states.count(state) for state in STATES if state in states}


def headline(result: SearchResult) -> str:
    """What came of the search, in one sentence."""
    front, trials = len(result.front), len(result.trials)
    if front:
        points = "point" if front == 1 else "points"
        return f"{front} {points} on the front of {trials} trials."
    if result.points:
        return f"Nothing meets the budgets: {len(result.points)} points of {trials} trials miss at least one."
    return f"No trial came to its end: {', '.join(f'{n} {words}' for words, n in counted(result).items())}."


def test_images(result: SearchResult) -> str:
    """'% of 2,100, chose nothing': what test accuracy is a share of."""
    counts = [engine.n for point in result.front if point.confirmed for engine in point.confirmed.engines]
    return f"% of {numbers.count(max(counts))}, chose nothing" if counts else "%, chose nothing"


def effort(result: SearchResult) -> str:
    """'48 epochs of student training; everything in full takes 96: 2.0 times as many'."""
    done, everything = result.effort.epochs, result.effort.epochs_of_everything
    if not everything:
        return ""
    epochs = "epoch" if done == 1 else "epochs"
    text = f"{numbers.count(done)} {epochs} of student training; everything in full takes {numbers.count(everything)}"
    return f"{text}: {numbers.fixed(everything / done, 1)} times as many" if 0 < done < everything else text


def worries(result: SearchResult) -> list[Worry]:
    """What to know before trusting it, the worst first."""
    found = []
    failed = [trial for trial in result.trials if trial.state == "failed"]
    if failed:
        found.append(
            Worry("miss", f"{len(failed)} of {len(result.trials)} trials failed; the table says why.")
        )
    unconfirmed = [p for p in result.front if p.confirmed and p.confirmed.failure]
    if unconfirmed:
        found.append(
            Worry("fail", f"{len(unconfirmed)} points of the front could not be taken through all stages.")
        )
    late = [p for p in result.front if p.confirmed and any(e.misses for e in p.confirmed.engines)]
    if late:
        text = f"{len(late)} points of the front miss a budget once trained and tested."
        found.append(Worry("miss", text))
    top = [p.values.get("val_top1") for p in result.front]
    spans = [v for v in top if v is not None and v.low is not None and v.high is not None]
    if len(spans) > 1 and max(v.low or 0.0 for v in spans) <= min(v.high or 0.0 for v in spans):
        text = (
            "The intervals of all accuracies on the front overlap: the order may be chance. "
            "More validation images or seeds tell."
        )
        found.append(Worry("off", text))
    if result.seeds == 1:
        found.append(
            Worry(
                "off",
                "One training a trial: intervals cover the validation images, not the training's chance.",
            )
        )
    return worst_first(found)


def tested(confirmed: Confirmed | None) -> list[tuple[str, str, str]]:
    """Of each target's engine: its name, its test top-1, its median latency; with intervals."""
    rows = []
    for engine in confirmed.engines if confirmed else ():
        top1 = numbers.percent(engine.test_top1)
        if engine.test_low is not None:
            top1 += f" ({numbers.percent(engine.test_low)} to {numbers.percent(engine.test_high)})"
        row = engine.latency_p50_ms
        latency = numbers.ms(row.value) if row else numbers.DASH
        if row and row.low is not None:
            latency += f" ({numbers.ms(row.low)} to {numbers.ms(row.high)})"
        rows.append((engine.target, top1, latency))
    return rows


def doubted(points: Sequence[Point]) -> bool:
    """Whether there is anything to say of points once trained and tested."""
    return any(
        p.confirmed and (p.confirmed.failure or any(e.misses for e in p.confirmed.engines)) for p in points
    )


def trial_of(result: SearchResult, point: Point) -> SearchedTrial:
    """The trial of a point."""
    return next(trial for trial in result.trials if trial.number == point.trial)


def varied(trials: Sequence[SearchedTrial]) -> list[str]:
    """The keys that were varied, in the order of the search file."""
    return list(dict.fromkeys(key for trial in trials for key in trial.settings))


def why(trial: SearchedTrial) -> str:
    """Why a trial was excluded or failed, and what to do."""
    return "; fix: ".join(filter(None, (trial.reason, trial.fix)))


def facts(result: SearchResult) -> Mapping[str, str]:
    """What the search was, by name."""
    rungs = " → ".join(map(str, result.rungs))
    return {
        "varies": "; ".join(f"{key}: {values}" for key, values in result.space.items()),
        "seeks": ", ".join(f"{sought(o)} ({o.direction})" for o in result.objectives),
        "sampler": result.sampler,
        "epochs": rungs if len(result.rungs) > 1 else rungs or "varied",
        "trainings of each finished trial": str(result.seeds),
        "validation images": numbers.count(result.validation_images),
        "training": effort(result),
        "machine": " and ".join(filter(None, (result.cpu, "" if result.gpu == "none" else result.gpu))),
    }


def _digits(name: str) -> int:
    metric = metric_of(name)
    return metric.digits if metric else 3
