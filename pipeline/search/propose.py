"""Which settings are tried next: a pure function of the search and of what became of earlier waves.

Optuna's samplers work on a study in memory that is made again for every wave from the trials' own files, each with the
seed of its number. Nothing of a sampler is kept on disk, and a search that was killed draws what it would have drawn.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.config.dimensions import (
    AnyDimension,
    Choice,
    Setting,
    Settings,
    Space,
    Whole,
    identity,
    point,
    size,
)
from pipeline.core.errors import EnvironmentFault

if TYPE_CHECKING:
    import optuna

Sampler = Literal["tpe", "nsga2", "random", "grid"]
_ATTEMPTS = 1000
_ENUMERATED = 100_000
_POPULATION = 16


@dataclass(frozen=True)
class Told:
    """What became of an earlier trial.

    Attributes:
        settings: of the trial.
        losses: of each objective, less is better; None if the trial failed.
        violation: 0 if it meets the constraints, else how far it is from them.
    """

    settings: Settings
    losses: tuple[float, ...] | None
    violation: float = 0.0


def propose(
    space: Space, sampler: Sampler, seed: int, told: Sequence[Told], count: int
) -> list[dict[str, Setting]]:
    """The settings of the next `count` trials, none of them tried before; fewer where the space has no more.

    Args:
        space: what is varied.
        sampler: as in the search file.
        seed: of the search.
        told: all trials of earlier waves, in the order of their numbers.
        count: trials of the wave.

    Raises:
        EnvironmentFault: the sampler needs Optuna, which is not installed.
    """
    first = len(told)
    if sampler == "grid":
        last = min(first + count, int(min(size(space), first + count)))
        return [point(space, index) for index in range(first, last)]
    draw = _Learning(space, sampler, seed, told).draw if sampler in ("tpe", "nsga2") else None
    taken = {identity(each.settings) for each in told}
    found: list[dict[str, Setting]] = []
    for number in range(first, first + count):
        settings = draw(number) if draw else _random(space, _generator(seed, number, 0))
        if identity(settings) in taken:
            fresh = _untried(space, seed, number, taken)
            if fresh is None:
                break
            settings = fresh
        taken.add(identity(settings))
        found.append(settings)
    return found


class _Learning:
    """A sampler of Optuna that has been told of the earlier trials."""

    def __init__(self, space: Space, sampler: Sampler, seed: int, told: Sequence[Told]) -> None:
        optuna = _optuna()
        self._optuna, self._sampler, self._seed = optuna, sampler, seed
        self._space = {key: _distribution(optuna, dimension) for key, dimension in space.items()}
        self._choices = {key: each.values for key, each in space.items() if isinstance(each, Choice)}
        objectives = max((len(each.losses) for each in told if each.losses is not None), default=1)
        self._study = optuna.create_study(directions=["minimize"] * objectives)
        for number, each in enumerate(told):
            self._tell(number, each)

    def draw(self, number: int) -> dict[str, Setting]:
        """The settings of a trial."""
        parameters = self._ask(number).params
        return {key: self._value(key, parameters[key]) for key in self._space}

    def _ask(self, number: int) -> optuna.Trial:
        samplers, seed = self._optuna.samplers, _derived(self._seed, number) % 2**32
        self._study.sampler = (
            samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
            if self._sampler == "tpe"
            else samplers.NSGAIISampler(seed=seed, population_size=_POPULATION)
        )
        trial: optuna.Trial = self._study.ask(self._space)
        return trial

    def _tell(self, number: int, told: Told) -> None:
        self._study.enqueue_trial({key: self._parameter(key, value) for key, value in told.settings.items()})
        trial = self._ask(number)
        trial.set_constraint("budgets", told.violation)
        if told.losses is None:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, list(told.losses))

    def _parameter(self, key: str, value: Setting) -> Any:
        return self._choices[key].index(value) if key in self._choices else value

    def _value(self, key: str, parameter: Any) -> Setting:
        value: Setting = self._choices[key][parameter] if key in self._choices else parameter
        return value


def _optuna() -> Any:
    import warnings

    try:
        import optuna
    except ImportError:
        raise EnvironmentFault(
            "the samplers tpe and nsga2 are those of Optuna, which is not installed",
            where="search",
            fix="pip install 'figkd-pipeline[search]', or take sampler: random",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def _distribution(optuna: Any, dimension: AnyDimension) -> Any:
    if isinstance(dimension, Choice):  # by number: Optuna takes scalars only
        return optuna.distributions.CategoricalDistribution(list(range(len(dimension.values))))
    if isinstance(dimension, Whole):
        return optuna.distributions.IntDistribution(dimension.low, dimension.high)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _generator(seed: int, number: int, attempt: int) -> random.Random:
    return random.Random(_derived(seed, number, attempt))


def _derived(*coordinates: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(coordinates).encode()).digest()[:8], "big")


def _random(space: Space, generator: random.Random) -> dict[str, Setting]:
    return {key: _draw(dimension, generator) for key, dimension in space.items()}


def _draw(dimension: AnyDimension, generator: random.Random) -> Setting:
    if isinstance(dimension, Choice):
        return dimension.values[generator.randrange(len(dimension.values))]
    if isinstance(dimension, Whole):
        return generator.randint(dimension.low, dimension.high)
    if dimension.log:
        drawn = math.exp(generator.uniform(math.log(dimension.low), math.log(dimension.high)))
    else:
        drawn = generator.uniform(dimension.low, dimension.high)
    return min(max(drawn, dimension.low), dimension.high)


def _untried(space: Space, seed: int, number: int, taken: Set[str]) -> dict[str, Setting] | None:
    """Random settings that are not taken; None if there are none left."""
    points = size(space)
    if points <= _ENUMERATED:
        left = [each for i in range(int(points)) if identity(each := point(space, i)) not in taken]
        return left[_generator(seed, number, 1).randrange(len(left))] if left else None
    for attempt in range(1, _ATTEMPTS):
        settings = _random(space, _generator(seed, number, attempt))
        if identity(settings) not in taken:
            return settings
    return None
