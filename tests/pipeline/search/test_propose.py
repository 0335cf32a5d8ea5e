"""Drawing trials: a pure function of the earlier ones, never the same settings twice, whatever the sampler."""

from __future__ import annotations

import importlib.util

import pytest

from pipeline.config.dimensions import Choice, Real, Space, Whole, identity
from pipeline.core.errors import EnvironmentFault
from pipeline.search.propose import Sampler, Told, propose

SPACE: Space = {"model": Choice(("a", "b", "c")), "lr": Real(1e-3, 1.0, log=True), "batch": Whole(2, 9)}
SMALL: Space = {"model": Choice(("a", "b")), "views": Choice(({"kind": "shift"}, {"kind": "none"}))}
HAS_OPTUNA = importlib.util.find_spec("optuna") is not None
LEARNING = [
    pytest.param(name, marks=pytest.mark.skipif(not HAS_OPTUNA, reason="optuna is not installed"))
    for name in ("tpe", "nsga2")
]


def _told(number: int, settings: dict[str, object]) -> Told:
    """Every third trial failed; every second violates a constraint."""
    losses = None if number % 3 == 2 else (float(number % 5), float(len(identity(settings))))  # type: ignore[arg-type]
    return Told(settings, losses, float(number % 2))  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", ["random", *LEARNING])
def test_the_same_past_gives_the_same_wave(sampler: Sampler) -> None:
    """What makes a killed search go on to the same trials; a sampler of Optuna has no other state."""
    told: list[Told] = []
    for _ in range(3):
        wave = propose(SPACE, sampler, 7, told, 6)
        assert wave == propose(SPACE, sampler, 7, list(told), 6)
        assert len(wave) == 6
        told += [_told(len(told) + i, each) for i, each in enumerate(wave)]
    assert len({identity(each.settings) for each in told}) == 18
    assert propose(SPACE, sampler, 8, [], 6) != propose(SPACE, sampler, 7, [], 6)
    for each in told:
        assert 1e-3 <= float(each.settings["lr"]) <= 1.0  # type: ignore[arg-type]
        assert each.settings["batch"] in range(2, 10)


@pytest.mark.parametrize("sampler", ["random", "grid", *LEARNING])
def test_a_small_space_is_gone_through_once(sampler: Sampler) -> None:
    """No trial is repeated; the draws end where the space does. Values may be sections."""
    first = propose(SMALL, sampler, 0, [], 3)
    told = [_told(i, each) for i, each in enumerate(first)]  # type: ignore[arg-type]
    rest = propose(SMALL, sampler, 0, told, 3)
    assert (len(first), len(rest)) == (3, 1)
    assert len({identity(each) for each in [*first, *rest]}) == 4


@pytest.mark.skipif(HAS_OPTUNA, reason="optuna is installed")
def test_without_optuna_the_fix_is_told() -> None:
    """An optional package: exit code 4 with what to install."""
    with pytest.raises(EnvironmentFault) as caught:
        propose(SPACE, "tpe", 0, [], 1)
    assert "figkd-pipeline[search]" in caught.value.fix
