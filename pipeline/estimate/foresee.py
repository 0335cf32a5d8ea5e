"""From rates to what each step of a run will take: pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.schema import DeployConfig, Training
from pipeline.config.targets import Target
from pipeline.estimate.rates import Rates, Trained
from pipeline.results.estimate import Estimate, StepEstimate
from pipeline.stages import data as data_stage
from pipeline.stages.logits import is_cached
from pipeline.stages.training import views_arguments

_CHOOSING_S = 2.6
"""Trying one and all threads of an engine of ONNX Runtime, about."""
_LOADS = 3
"""An engine of ONNX Runtime is built, loaded and run: about so many times its file is read and optimised."""


@dataclass(frozen=True)
class Counts:
    """Images of the splits, and classes."""

    train: int
    val: int
    test: int
    classes: int


def foresee(
    config: DeployConfig,
    steps: Sequence[str],
    rates: Rates,
    counts: Counts,
    earlier: Mapping[str, float],
    remote: Collection[str] = (),
) -> Estimate:
    """What the steps will take.

    Args:
        config: of the run.
        steps: ids of those that will run, in order.
        rates: of its networks on this machine.
        counts: of the data.
        earlier: seconds of each step in an earlier run of this store on this machine, for what no rate tells.
        remote: targets on devices, whose builds and inference this machine cannot foresee.
    """
    found = []
    first = True
    for step in steps:
        stage, _, target = step.partition("@")
        told = _step(config, stage, target, rates, counts, target in remote)
        if told is None:
            seconds = earlier.get(step)
            told = StepEstimate(step=step, seconds=seconds, source="earlier run" if seconds else "unknown")
        elif stage in ("teacher", "logits", "distill", "export") and first and told.seconds is not None:
            told = told.model_copy(update={"seconds": told.seconds + rates.start_s})
            first = False
        found.append(told.model_copy(update={"step": step}))
    return Estimate(steps=tuple(found))


def _step(
    config: DeployConfig, stage: str, target: str, rates: Rates, counts: Counts, remote: bool
) -> StepEstimate | None:
    images = counts.train + counts.val + counts.test
    if stage == "data":
        side = data_stage.STAGE.arguments(config, "")["store_size"]
        if rates.data_image_s is None:
            return None
        packed = 3 * side * side * images if config.data.decode == "ahead" else 0
        return StepEstimate(step=stage, seconds=images * rates.data_image_s, disk_bytes=packed)
    if stage == "teacher":
        return _training(stage, config.teacher, rates.teacher, counts, rates.base_bytes)
    if stage == "distill":
        return _training(stage, config.distill, rates.student, counts, rates.base_bytes)
    if stage == "logits":
        views = views_arguments(config.distill)["count"] if is_cached(config) else 0
        forward = counts.train * (views + 1) * rates.teacher.image_s
        disk = 2 * counts.train * views * counts.classes + 4 * counts.train * counts.classes
        return StepEstimate(step=stage, seconds=forward, disk_bytes=disk, memory_bytes=rates.base_bytes)
    if stage == "export":
        return StepEstimate(
            step=stage, seconds=rates.export_s, disk_bytes=rates.onnx_bytes.get("fp32.onnx", 0)
        )
    if stage == "precision":
        # Every file answers the test images; mixed precision asks the validation images again and again.
        passes = counts.test * len(rates.onnx_bytes) + min(config.precision.calibration_images, counts.train)
        if "int8" in config.precision.modes and config.precision.mixed == "auto":
            passes += 2 * min(config.precision.validation_images, counts.val)
        seconds = rates.precisions_s + passes * rates.onnx_image_s
        return StepEstimate(step=stage, seconds=seconds, disk_bytes=sum(rates.onnx_bytes.values()))
    if stage == "qad":
        runs = config.precision.qad.when == "always"
        return StepEstimate(step=stage, seconds=0.0) if not runs else None
    if stage == "report":
        return StepEstimate(step=stage, seconds=rates.report_s, disk_bytes=1_000_000)
    if target and not remote and config.targets[target].engine == "onnxruntime":
        return _on_target(config, stage, config.targets[target], rates, counts)
    return None


def _training(stage: str, section: Training, rates: Trained, counts: Counts, base: int) -> StepEstimate:
    steps = math.ceil(counts.train / section.batch_size) * section.epochs
    # Each epoch is judged on the validation images; in the end these and the test images answer once more.
    answers = counts.val * section.epochs + counts.val + counts.test
    return StepEstimate(
        step=stage,
        seconds=steps * rates.step_s + answers * rates.image_s,
        disk_bytes=4 * rates.parameters + 4 * counts.test * counts.classes,
        memory_bytes=base + rates.memory_bytes,
    )


def _on_target(
    config: DeployConfig, stage: str, target: Target, rates: Rates, counts: Counts
) -> StepEstimate | None:
    engines = len(target.precisions or {"fp32", *config.precision.modes} - {"bf16"})
    size = sum(rates.onnx_bytes.values())
    if stage == "build":
        return StepEstimate(step=stage, seconds=_LOADS * engines * _load_s(rates), disk_bytes=size)
    if stage == "validate":
        return StepEstimate(step=stage, seconds=engines * counts.test * rates.onnx_image_s)
    if stage == "benchmark":
        return StepEstimate(step=stage, seconds=_benchmark(config, target, engines, rates), source="config")
    return None


def _load_s(rates: Rates) -> float:
    """Loading an engine: a fixed part and the optimisation of its graph, which grows with its size."""
    return 0.1 + sum(rates.onnx_bytes.values()) / 100e6


def _benchmark(config: DeployConfig, target: Target, engines: int, rates: Rates) -> float:
    plan = config.benchmark
    seconds = 0.0
    for boundary in plan.boundaries:
        batches = [1] if boundary == "image_to_class" else target.batch_sizes
        for batch in batches:
            wanted = max(plan.min_seconds, plan.min_samples * rates.onnx_image_s * batch)
            cases = 1 + (
                len(set(plan.streams) - {1}) if boundary != "image_to_class" and batch == batches[0] else 0
            )
            seconds += cases * engines * (min(plan.max_seconds, wanted) + plan.warmup_ms / 1000)
    if target.threads is None:
        seconds += engines * min(1.0, plan.min_seconds) * _CHOOSING_S
    if plan.rate_fps is not None:
        seconds += engines * (plan.rate_seconds or 1000 / plan.rate_fps)
    return seconds
