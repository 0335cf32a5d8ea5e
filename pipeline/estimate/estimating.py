"""The estimate of a run that is planned: what is counted, measured and remembered, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.config.schema import DeployConfig
from pipeline.core.errors import EnvironmentFault
from pipeline.core.files import read_json
from pipeline.core.store import Store
from pipeline.devices.known import KnownDevices, device_of
from pipeline.estimate.foresee import Counts, foresee
from pipeline.estimate.kept import corrected, keep
from pipeline.estimate.rates import BUSY_CORES, measured
from pipeline.places.int8_layouts import int8_layouts
from pipeline.results.estimate import Estimate
from pipeline.run.data_check import Listed
from pipeline.run.history import earlier_seconds
from pipeline.run.planning import Planned


def estimate_run(
    config: DeployConfig,
    planned: Sequence[Planned],
    listed: Listed | None,
    store: Store,
    known: KnownDevices,
) -> Estimate:
    """What the steps that are to run will take; remembered, so that the run can say how far off it was.

    Args:
        config: of the run.
        planned: its steps.
        listed: of the data, where they were listed.
        store: of the run.
        known: its devices.

    Raises:
        EnvironmentFault: how many images there are is not known yet.
        StageFailed: a network cannot be built, or trained for a few steps.
    """
    steps = [p.step.id for p in planned if p.state == "run"]
    if not steps:
        return Estimate(steps=())
    counts = _counts(config, planned, listed)
    rates = measured(config, int8_layouts(config, known), counts.classes, store)
    remote = {name for name, target in config.targets.items() if device_of(target) is not None}
    earlier = earlier_seconds(store, steps)
    found = corrected(store, foresee(config, steps, rates, counts, earlier, remote))
    if rates.other_cores > BUSY_CORES:
        found = found.model_copy(update={"other_cores": rates.other_cores})
    keep(store, config.name, found)
    return found


def _counts(config: DeployConfig, planned: Sequence[Planned], listed: Listed | None) -> Counts:
    """From the prepared data, their listing, or the options of a data set that is rendered."""
    from figkd.data import DATASETS, unlisted_classes

    data = next((p.artifact for p in planned if p.step.id == "data" and p.artifact), None)
    if data is not None:
        facts = read_json(data.path / "data.json")
        counts = facts["counts"]
        return Counts(counts["train"], counts["val"], counts["test"], facts["classes"])
    if listed is not None:
        rest = listed.images - listed.train
        return Counts(listed.train, rest // 2, rest - rest // 2, len(listed.classes))
    info, options = DATASETS[config.data.dataset], dict(config.data.options)
    classes = unlisted_classes(config.data.dataset, config.data.root, options)
    train, val, test = (_per_class(config.data.dataset, name, options) for name in ("train", "val", "test"))
    if classes and info.options and train and val and test:
        n = len(classes)
        return Counts(n * train, n * val, n * test, n)
    raise EnvironmentFault(
        "how many images there are is known once the data are prepared", where="--estimate",
        fix="figkd-pipeline run CONFIG --until data, then ask again",
    )  # fmt: skip


def _per_class(dataset: str, split: str, options: Mapping[str, object]) -> int:
    from figkd.data import load_module

    usual = getattr(load_module(dataset), "DEFAULTS", {})
    value = options.get(f"{split}_per_class", usual.get(f"{split}_per_class", 0))
    return value if isinstance(value, int) else 0
