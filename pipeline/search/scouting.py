"""Measuring untrained candidates on the targets of a config: latency, memory and size do not depend on the weights."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.schema import DeployConfig
from pipeline.core.store import Store
from pipeline.devices.known import KnownDevices
from pipeline.results.rows.scouted import Candidate, ScoutRow
from pipeline.run.conductor import Interface


def scout(
    config: DeployConfig,
    candidates: Sequence[Candidate],
    store: Store,
    ui: Interface,
    known: KnownDevices | None = None,
) -> list[ScoutRow]:
    """Measure every candidate in every precision on every target of `config.scout.targets`.

    What was measured before with the same network, versions and settings is taken from the store. Targets on different
    devices are worked on at the same time; those of this machine after them, alone.

    Args:
        config: a deploy config; of it count `data`, `export`, `precision`, `targets` and `scout`.
        candidates: networks and sizes.
        store: where measurements are kept.
        ui: is told what goes on, as of a run.
        known: the run's devices.

    Returns:
        For each candidate and target a row for each precision, in this order; one that could not be measured says why.

    Raises:
        PipelineError: what all candidates need (data, disk) is missing.
    """
    raise NotImplementedError
