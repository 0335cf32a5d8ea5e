"""`search`: from a checked search to its document."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from export.engine_kinds import ENGINE_KINDS
from pipeline.config.schema import DeployConfig
from pipeline.config.search_file import LoadedSearch
from pipeline.core.store import Store
from pipeline.devices.known import KnownDevices
from pipeline.places.int8_layouts import TENSORRT, int8_layouts
from pipeline.results.rows.trials import Trial
from pipeline.results.searched import Point, SearchResult
from pipeline.run import planning
from pipeline.run.conductor import Interface
from pipeline.run.preflight import check_places, preflight
from pipeline.search.confirm import confirm
from pipeline.search.outcome import assemble, points_with_front
from pipeline.search.points import Files, Judge
from pipeline.search.runners import runner
from pipeline.search.scouting import scout
from pipeline.search.study import Scouting, Study, alone, forget_failures, study_folder
from pipeline.stages.precision import onnx_file


@dataclass(frozen=True)
class Searched:
    """A search that came to its end."""

    result: SearchResult
    trials: dict[int, Trial]

    def point(self, number: int) -> Point | None:
        """A point of the front by its number."""
        return next((point for point in self.result.front if point.front == number), None)


def carry_out(
    search: LoadedSearch,
    store: Store,
    ui: Interface,
    *,
    retry_failed: bool = False,
    scouting: Scouting | None = None,
) -> Searched:
    """Run a search, or what is left of it.

    Args:
        search: what to do.
        store: shared by all trials.
        ui: is told what goes on.
        retry_failed: try trials again that failed in an earlier run.
        scouting: measures untrained networks; default: `pipeline.search.scouting.scout`.

    Raises:
        PipelineError: what every trial needs is missing or fails.
    """
    config = search.base
    known = planning.known_devices(store, ui.note)
    check_places(config)
    before = planning.last_artifact("data", config, store)
    preflight(
        config,
        planning.plan(config, store, planning.Selection(until="qad"), known),
        ui.note,
        known,
        digests=planning.digests_of(config, store),
        before=before.path if before else None,
    )
    judge = Judge(search.objectives, config.budgets, onnx_files(config, known))
    folder = study_folder(search, store)
    measure = scouting or (lambda of, candidates: scout(of, candidates, store, ui, known))
    wait = partial(ui.note, "another search works in the same folder; waiting for it")
    with alone(folder, wait), runner(search.section, folder) as run:
        if retry_failed:
            forget_failures(folder / "trials", range(search.trials))
        studied = Study(search, store, ui, run, measure, judge).carry_out()
    points = points_with_front(studied, judge)
    trials = {trial.number: trial for trial in studied.trials}
    front = sorted((p for p in points if p.front is not None), key=lambda p: p.front or 0)
    confirmed = confirm(search, trials, front, store, ui) if search.section.confirm else {}
    return Searched(assemble(search, studied, points, confirmed), trials)


def onnx_files(config: DeployConfig, known: KnownDevices) -> Files:
    """Which ONNX file each target reads in each of its precisions."""
    layouts, made = int8_layouts(config, known), {"fp32", *config.precision.modes}
    return {
        (name, precision): onnx_file(precision, layouts.get(name, TENSORRT))
        for name, target in config.targets.items()
        for precision in target.precisions or ENGINE_KINDS[target.engine].precisions
        if precision in made
    }
