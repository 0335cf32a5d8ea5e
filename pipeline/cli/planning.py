"""`plan`: what `run` would do, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import CONFIG, JSON, SET, common, load, stage_name, store_of
from pipeline.core.errors import DeviceFault, Exit

if TYPE_CHECKING:
    from pipeline.config import DeployConfig
    from pipeline.results.estimate import Estimate
    from pipeline.run.planning import Selection

_REASON_AT = 27


@click.command()
@common(CONFIG, SET, JSON)
@click.option("--from", "first", callback=stage_name, metavar="STAGE", help="As for `run`.")
@click.option("--until", callback=stage_name, metavar="STAGE", help="As for `run`.")
@click.option("--force", multiple=True, callback=stage_name, metavar="STAGE", help="As for `run`.")
@click.option(
    "--estimate", is_flag=True,
    help="Also estimate time, disk and memory, from short measurements on this machine.",
)  # fmt: skip
def plan(
    config_path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    first: str | None,
    until: str | None,
    force: tuple[str, ...],
    estimate: bool,
) -> int:
    """Show what `run` would do, and why.

    --estimate trains each network for a few steps and exports it, once, in seconds. The measurements are kept, and the
    next run reports how far off the estimate was.
    """
    from pipeline.run.planning import Selection

    selection = Selection(first, until, frozenset(force))
    return print_plan(load(config_path, overrides), selection, as_json=as_json, estimate=estimate)


def print_plan(config: DeployConfig, selection: Selection, *, as_json: bool, estimate: bool = False) -> int:
    """Print the state of every step; the exit code: that of data or of a device that cannot be worked with."""
    from pipeline.core.terminal import print_json, stderr, stdout
    from pipeline.run import foreseen
    from pipeline.run.back_ends import device_faults, judge
    from pipeline.run.data_check import DataFindings, look_at_data
    from pipeline.run.planning import digests_of, known_devices, last_artifact, plan
    from pipeline.run.preflight import cache_cost, few_views

    store = store_of(config)
    known = known_devices(store)
    planned = plan(config, store, selection, known)
    running = [p.step for p in planned if p.state == "run"]
    working = {step.target for step in running if step.target}
    unreachable = device_faults(config, working, known)
    judged = judge(
        config,
        working - set(unreachable),
        known,
        building=any(step.stage.name == "build" for step in running),
    )
    faults = [*unreachable.values(), *judged.faults]
    cost = cache_cost(config, planned)
    data = DataFindings()
    if any(p.step.id == "data" and p.state == "run" for p in planned):
        before = last_artifact("data", config, store)
        data = look_at_data(config, digests_of(config, store), before.path if before else None)
    waiting = any(p.state == "run" and p.step.id != "report" for p in planned)
    listed = data.listed or foreseen.prepared(planned)
    lacks = foreseen.lacks(config, listed) if listed and waiting else []
    expected: Estimate | None = None
    if estimate and not data.faults and not faults:
        from pipeline.estimate.estimating import estimate_run

        expected = estimate_run(config, planned, listed, store, known)
    by_step = {each.step: each for each in expected.steps} if expected else {}
    if as_json:
        rows = [
            {
                "step": p.step.id,
                "state": p.state,
                "reason": p.reason,
                "artifact": str(p.artifact.path) if p.artifact else None,
                "cache_bytes": cost.bytes if cost is not None and p.step.id == "logits" else None,
            }
            | ({"estimate": by_step[p.step.id].model_dump(exclude={"step"})} if p.step.id in by_step else {})
            for p in planned
        ]
        print_json(json.dumps(rows, indent=1))
    else:
        out = stdout()
        for p in planned:
            colour = "cyan" if p.state == "cached" else "yellow"
            said = "; ".join(filter(None, (p.reason, str(cost) if cost and p.step.id == "logits" else "")))
            out.say(
                f"  {p.step.id:<18} {said}".rstrip(), label=f"{p.state:<6}", style=colour, hang=_REASON_AT
            )
        distilling = any(p.step.id == "distill" and p.state == "run" for p in planned)
        warnings = [f"data: {text}" for text in (*data.changes, *data.left_out)]
        if distilling and (warning := few_views(config)):
            warnings.append(warning)
        warnings += judged.notes
        for warning in warnings:
            out.say(warning, label="note    ", style="yellow")
        for lack in lacks:
            fix = f" ({lack.fix})" if lack.fix else ""
            out.say(f"{lack.head}{fix}", label="note    ", style="yellow", hang=_REASON_AT)
        if expected is not None:
            from pipeline.report.estimate_words import table, total

            out.show(table(expected))
            out.say(total(expected), label="estimate ", style="bold")
    for fault in (*data.faults, *faults):
        stderr().error(fault)
    if any(isinstance(fault, DeviceFault) for fault in faults):
        return int(Exit.DEVICE)
    return int(Exit.ENVIRONMENT if data.faults or faults else Exit.OK)
