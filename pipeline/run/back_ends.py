"""Whether the engines of each target can be built where the config wants them: asked before anything is trained.

`run`, `plan` and `doctor` ask here. The judgement is `export.engines.trt_refusals`'s, which every build asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from export.engine_kinds import ENGINE_KINDS
from pipeline.config.modes import measured_modes, refused
from pipeline.config.schema import DeployConfig
from pipeline.core.errors import DeviceFault, EnvironmentFault, PipelineError
from pipeline.devices.known import KnownDevices, device_of

if TYPE_CHECKING:
    import onnx

    from export.engines.trt_refusals import Refusal

Facts = Mapping[str, Any]
Graph = Callable[[], "onnx.ModelProto | None"]
"""Gives the student's FP32 graph, or None where it is not known; called only where its operators decide."""


def unknown_graph() -> onnx.ModelProto | None:
    """The student's graph where nobody has looked at it."""
    return None


@dataclass(frozen=True)
class Lack:
    """Why engines of a target cannot be built."""

    what: str
    fix: str
    precisions: tuple[str, ...] = ()
    """The only ones concerned; empty: all engines of the target."""
    partial: bool = False
    """Other engines of the target can be built."""
    missing: bool = False
    """A back end or a power mode is absent, and may be there by the time that it is needed."""

    def __str__(self) -> str:
        return f"{', '.join(self.precisions)}: {self.what}" if self.precisions else self.what


def lacks(
    config: DeployConfig, name: str, facts: Facts | None, graph: Graph = unknown_graph
) -> Iterator[Lack]:
    """All that keeps engines of a target from being built.

    Args:
        config: the deploy config.
        name: of the target.
        facts: what its device says of itself; None for this machine.
        graph: of the student.
    """
    from export.engines import BACKENDS, trt_refusals
    from export.engines.tensorrt import TensorRTBackend
    from pipeline.places import access
    from pipeline.places.builder import tensorrt_options
    from pipeline.stages import build

    if facts is not None:
        what, fix = refused(measured_modes(config.targets[name]), facts)
        if what:
            yield Lack(what, fix, missing=True)
            return
    arguments = build.STAGE.arguments(config, name)
    engine = arguments["engine"]
    can = BACKENDS[engine].availability() if facts is None else access.access_of(facts, engine)
    if not can.built:
        yield Lack(can.detail, can.fix, missing=True)
        return
    if not ENGINE_KINDS[engine].tensorrt:
        return
    place = TensorRTBackend(engine).place() if facts is None else access.place_of(facts, engine)
    options = tensorrt_options(arguments)
    files = [trt_refusals.planned(precision, config.export.opset) for precision in arguments["precisions"]]
    found = trt_refusals.refusals(place, options, files)
    every = set(arguments["precisions"])
    if _refused(found) < every and trt_refusals.knows_operators(place) and (model := graph()) is not None:
        files = [trt_refusals.planned(file.precision, config.export.opset, model) for file in files]
        found = trt_refusals.refusals(place, options, files)
    for refusal in found:
        some = refusal.precisions if set(refusal.precisions) < every else ()
        yield Lack(refusal.what, refusal.fix, some, partial=_refused(found) < every)


def _refused(found: Sequence[Refusal]) -> set[str]:
    return {precision for refusal in found for precision in refusal.precisions}


@dataclass
class Verdict:
    """What a run must know of its targets."""

    faults: list[PipelineError] = field(default_factory=list)
    """They stop it."""
    notes: list[str] = field(default_factory=list)
    """Engines that will not be there."""


def judge(
    config: DeployConfig,
    targets: Collection[str],
    known: KnownDevices | None,
    *,
    building: bool,
    graph: Graph = unknown_graph,
) -> Verdict:
    """Whether a run can start with these targets.

    A device that cannot be reached, or that lacks a back end, stops it if no target is left; else the others go on. An
    engine that the library there cannot build stops it, unless its target is not `required` or has others.

    Args:
        config: the deploy config.
        targets: those that something is to be done for.
        known: the run's devices; without, they are not looked at.
        building: engines are to be built.
        graph: of the student.
    """
    verdict = Verdict()
    failing = device_faults(config, targets, known) if known else {}
    for name in sorted(set(targets) - set(failing)) if building else ():
        device = device_of(config.targets[name])
        if device is not None and known is None:
            continue
        facts = known.facts(device) if device is not None and known is not None else None
        target, key = config.targets[name], f"targets.{name}"
        for lack in lacks(config, name, facts, graph):
            if lack.partial or not target.required:
                verdict.notes.append(f"{key}: {lack}; its rows will say so ({lack.fix})")
            elif device is None:
                where = f"{key}.engine = {target.engine}"
                verdict.faults.append(EnvironmentFault(str(lack), where=where, fix=lack.fix))
            else:
                fault = DeviceFault(str(lack), where=f"{key} on {device.name}", fix=lack.fix)
                if lack.missing:
                    failing[name] = fault
                else:
                    verdict.faults.append(fault)
    if set(failing) == set(config.targets):
        verdict.faults += failing.values()
    else:
        for name, fault in failing.items():
            fix = f" ({fault.fix})" if fault.fix else ""
            verdict.notes.append(f"targets.{name}: {fault.what}{fix}; the other targets go on")
    return verdict


def device_faults(
    config: DeployConfig, targets: Collection[str], known: KnownDevices
) -> dict[str, DeviceFault]:
    """Targets whose device cannot be worked with now, and why."""
    devices = {name: device for name in sorted(targets) if (device := device_of(config.targets[name]))}
    known.ask(devices.values())
    faults = {name: known.fault(device) for name, device in devices.items()}
    return {
        name: DeviceFault(fault.what, where=f"targets.{name}.device", fix=fault.fix)
        for name, fault in faults.items()
        if fault
    }
