"""The front through all stages: test accuracy, and the latency of trained engines. Nothing is chosen by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.config.schema import DeployConfig
from pipeline.config.search_file import LoadedSearch, trial_config
from pipeline.core.errors import PipelineError
from pipeline.core.store import Store
from pipeline.results.engine import Engine
from pipeline.results.result import Result
from pipeline.results.rows.trials import Trial
from pipeline.results.searched import Confirmed, Missed, Point, TrainedEngine, Value
from pipeline.run import conductor
from pipeline.run.conductor import Interface
from pipeline.search.study import trial_name


def point_config(search: LoadedSearch, trial: Trial, point: Point) -> DeployConfig:
    """The config of a point: its trial's, shipping its precision. Its own name, so that a run of it is all cached."""
    name = f"{trial_name(search, trial.number)}-{point.precision}"
    return trial_config(search, trial.settings, name, {"precision.select": point.precision})


def confirm(
    search: LoadedSearch, trials: Mapping[int, Trial], front: Sequence[Point], store: Store, ui: Interface
) -> dict[str, Confirmed]:
    """Run each point of the front to its end, one after the other; a failure is recorded in its place."""
    found: dict[str, Confirmed] = {}
    for point in front:
        config = point_config(search, trials[point.trial], point)
        ui.note(f"point {point.front}: {config.name}")
        try:
            outcome = conductor.run(config, store, ui)
            text = (outcome.artifacts["report"].path / "result.json").read_text(encoding="utf-8")
            engines = [each for each in Result.model_validate_json(text).engines if _is_of(each, point)]
            found[point.id] = Confirmed(config=config.name, engines=[_tested(each) for each in engines])
        except PipelineError as error:
            found[point.id] = Confirmed(config=config.name, failure=str(error))
    return found


def _is_of(engine: Engine, point: Point) -> bool:
    return engine.precision == point.precision and engine.accuracy is not None


def _tested(engine: Engine) -> TrainedEngine:
    share = engine.standing.top1 if engine.standing else None
    row = engine.latency_at("engine")
    interval = row.intervals.get("median") if row else None
    accuracy = engine.accuracy
    assert accuracy is not None  # see `_is_of`
    return TrainedEngine(
        target=engine.target,
        test_top1=accuracy.top1,
        test_low=share.low if share else None,
        test_high=share.high if share else None,
        n=accuracy.n,
        latency_p50_ms=Value(
            value=row.median, low=interval[0] if interval else None, high=interval[1] if interval else None
        )
        if row
        else None,
        engine_mb=engine.engine_mb,
        misses=[
            Missed(metric=j.metric, target=engine.target, side=j.goal, limit=j.limit, value=j.value)
            for j in engine.budgets
            if j.verdict == "miss" and j.value is not None
        ],
    )
