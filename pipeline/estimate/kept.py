"""Estimates that a store remembers, what the runs took, and what is learnt from the difference."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.core.files import read_json, write_json
from pipeline.core.store import Artifact, Store
from pipeline.results.estimate import Estimate, Off

_KEPT = 20
"""Ratios that are remembered of a stage."""
_SHORTEST_S = 0.5
"""Steps that take less teach nothing: a clock tick would be a factor."""
_RATIOS: TypeAdapter[dict[str, list[float]]] = TypeAdapter(dict[str, list[float]])


def keep(store: Store, config: str, estimate: Estimate) -> None:
    """Remember an estimate until the config's next run."""
    write_json(_path(store, config), estimate.model_dump(mode="json"))


def corrected(store: Store, estimate: Estimate) -> Estimate:
    """The estimate, each stage's seconds times what earlier runs of the store took over theirs (the median)."""
    factors = {stage: statistics.median(each) for stage, each in _ratios(store).items() if each}
    if not factors:
        return estimate
    steps = [
        step.model_copy(update={"seconds": step.seconds * factors.get(_stage(step.step), 1.0)})
        if step.seconds is not None and step.source == "measured"
        else step
        for step in estimate.steps
    ]
    before = sum(step.seconds or 0.0 for step in estimate.steps)
    after = sum(step.seconds or 0.0 for step in steps)
    return Estimate(steps=tuple(steps), factor=after / before if before else 1.0)


def how_far_off(
    store: Store, config: str, ran: list[str], artifacts: Mapping[str, Artifact], peak_bytes: int
) -> Off | None:
    """Compare the remembered estimate of a config with a run that just ended, and learn from it.

    Args:
        store: of the run.
        config: its name.
        ran: ids of the steps that ran.
        artifacts: of all steps.
        peak_bytes: the largest memory of the process; 0 if it is not known.

    Returns:
        None where nothing that ran was foreseen.
    """
    path = _path(store, config)
    try:
        estimate = Estimate.model_validate(read_json(path))
    except (OSError, ValueError):
        return None
    known = {step.step: step for step in estimate.steps if step.seconds is not None and step.step in ran}
    if not known:
        return None
    path.unlink(missing_ok=True)
    took = {step: _seconds(artifacts[step]) for step in known}
    off = Off(
        {step: (known[step].seconds or 0.0, took[step]) for step in known},
        (
            sum(step.disk_bytes for step in known.values()),
            sum(artifacts[step].bytes for step in known if known[step].disk_bytes),
        ),
        (estimate.memory_bytes, peak_bytes),
    )
    _learn(store, off, known)
    return off


def _learn(store: Store, off: Off, known: Mapping[str, Any]) -> None:
    ratios = _ratios(store)
    factors = {stage: statistics.median(each) for stage, each in ratios.items() if each}
    for step, (foreseen, took) in off.steps.items():
        stage = _stage(step)
        if known[step].source == "measured" and min(foreseen, took) >= _SHORTEST_S:
            # The estimate was corrected already: what is remembered is against the measured rates alone.
            ratio = took / foreseen * factors.get(stage, 1.0)
            ratios[stage] = [*ratios.get(stage, []), ratio][-_KEPT:]
    write_json(_ratios_path(store), ratios)


def _ratios(store: Store) -> dict[str, list[float]]:
    try:
        return _RATIOS.validate_python(read_json(_ratios_path(store)))
    except (OSError, ValueError, ValidationError):
        return {}


def _ratios_path(store: Store) -> Path:
    return store.caches / "rates" / "took_over_foreseen.json"


def _path(store: Store, config: str) -> Path:
    return store.root / "last" / "estimates" / f"{config}.json"


def _seconds(artifact: Artifact) -> float:
    seconds = artifact.manifest.provenance.get("seconds") if artifact.manifest else None
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def _stage(step: str) -> str:
    return step.partition("@")[0]
