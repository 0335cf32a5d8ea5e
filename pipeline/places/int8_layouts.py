"""Which INT8 layout each target wants: for ONNX Runtime its CPU decides, here or on its device."""

from __future__ import annotations

from collections.abc import Mapping

from export.cpu_layouts import cpu_layout, cpu_of
from export.engine_kinds import ENGINE_KINDS
from export.machine import architecture, cpu_features
from pipeline.config.schema import DeployConfig
from pipeline.core.address import Device
from pipeline.core.errors import DeviceFault
from pipeline.devices.known import KnownDevices, device_of

TENSORRT = "tensorrt"
Layouts = Mapping[str, str]
"""Target to `tensorrt`, or to the name of an `export.cpu_layouts.CpuLayout`."""


def int8_layouts(config: DeployConfig, known: KnownDevices) -> dict[str, str]:
    """The layout of each target that gets an INT8 engine; devices are asked for what their CPU can do.

    A target whose device cannot be reached, and never was, is left out: nothing can be built there either.
    """
    devices = {name: device_of(config.targets[name]) for name in _reading_int8(config)}
    by_cpu = {name: d for name, d in devices.items() if not ENGINE_KINDS[config.targets[name].engine].gpu}
    known.ask(device for device in by_cpu.values() if device)
    layouts = {name: _of_cpu(by_cpu[name], known) if name in by_cpu else TENSORRT for name in devices}
    return {name: layout for name, layout in layouts.items() if layout}


def undecided(config: DeployConfig, known: KnownDevices) -> set[str]:
    """Targets that `int8_layouts` leaves out."""
    return set(_reading_int8(config)) - set(int8_layouts(config, known))


def layout_here() -> str:
    """The layout that this machine's CPU wants."""
    return cpu_layout(architecture(), cpu_features()).name


def exact_here(layout: str) -> bool:
    """Whether this machine's CPU computes a layout as the CPUs do that it is for.

    On x86 without VNNI the 16-bit sums of 8-bit weights saturate: a score there would be another CPU's.
    """
    if layout == TENSORRT:
        return True  # FP16 scales: ONNX Runtime has no INT8 kernels for it
    return cpu_of(layout).weight_bits <= cpu_of(layout_here()).weight_bits


def _of_cpu(device: Device | None, known: KnownDevices) -> str:
    """The layout of this machine or a device; empty where nobody knows its CPU."""
    if device is None:
        return layout_here()
    try:
        facts = known.facts(device)
    except DeviceFault:
        return ""
    # Facts that an earlier version remembered tell no features: that gives what is exact on every CPU of the kind.
    return cpu_layout(facts["machine"], facts.get("cpu_features", [])).name


def _reading_int8(config: DeployConfig) -> list[str]:
    return [n for n, t in config.targets.items() if "int8" in (t.precisions or config.precision.modes)]
