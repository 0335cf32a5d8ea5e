"""Learning-rate schedules."""

from __future__ import annotations

import pytest

from figkd.errors import TrainingError
from figkd.schedule import Schedule, ScheduleKind


def _curve(kind: ScheduleKind, warmup: float = 0.0, at: tuple[float, ...] = ()) -> list[float]:
    schedule = Schedule(kind, 10, 10, warmup, at)
    return [schedule.factor(step) for step in range(schedule.steps)]


def test_one_cycle() -> None:
    """Protects bounds, peak and ends: up for a quarter (or the warm-up), down to almost nothing."""
    cycle = _curve("one_cycle")
    assert cycle.index(max(cycle)) == 25
    assert max(cycle) == 1.0
    assert 0 < cycle[0] < 0.05
    assert cycle[-1] == pytest.approx(1 / 75)
    assert _curve("one_cycle", 1.0).index(1.0) == 10


def test_cosine() -> None:
    """Protects the warm-up and half a cosine after it."""
    cosine = _curve("cosine", 2.0)
    assert cosine[19] == pytest.approx(20 / 21)
    assert cosine[20] == 1.0
    assert cosine[60] == pytest.approx(0.5)
    assert _curve("cosine")[0] == 1.0


def test_step() -> None:
    """Protects the literature's schedule: 240 epochs drop at 150, 180 and 210."""
    step = _curve("step", at=(0.3, 0.6))
    assert [step[0], step[29], step[30], step[60]] == pytest.approx([1, 1, 0.1, 0.01])
    paper = Schedule("step", 240, 1)
    assert [paper.factor(epoch) for epoch in (149, 150, 179, 180, 209, 210)] == pytest.approx(
        [1, 0.1, 0.1, 0.01, 0.01, 0.001]
    )


def test_an_unknown_kind_is_named() -> None:
    """Protects: a wrong name raises before training."""
    with pytest.raises(TrainingError, match="unknown schedule 'nosuch'"):
        Schedule("nosuch", 1, 1)  # type: ignore[arg-type]
