"""From rates to what each step of a run will take: pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from export.runtime.sampling import Limits
from export.runtime.threads import CHOOSING_S, ROUNDS, choosing
from figkd.loss.order import PER_CLASS
from pipeline.config.schema import DeployConfig, Training
from pipeline.config.targets import Target
from pipeline.estimate.rates import Rates, Trained
from pipeline.places import environment
from pipeline.places.energy import SETTLE_S
from pipeline.places.latency import RATE_ARRIVALS
from pipeline.results.doubts import MAX_OTHER_CORES
from pipeline.results.estimate import Estimate, StepEstimate
from pipeline.stages import data as data_stage
from pipeline.stages.logits import is_cached
from pipeline.stages.training import views_arguments

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
        estimate = _step(config, stage, target, rates, counts, target in remote)
        if estimate is None:
            seconds = earlier.get(step)
            estimate = StepEstimate(
                step=step, seconds=seconds, source="earlier run" if seconds else "unknown"
            )
        elif stage in ("teacher", "logits", "distill", "export") and first and estimate.seconds is not None:
            estimate = estimate.model_copy(update={"seconds": estimate.seconds + rates.start_s})
            first = False
        found.append(estimate.model_copy(update={"step": step}))
    return Estimate(steps=tuple(found))


def _step(
    config: DeployConfig, stage: str, target: str, rates: Rates, counts: Counts, remote: bool
) -> StepEstimate | None:
    images = counts.train + counts.val + counts.test
    side = int(data_stage.STAGE.arguments(config, "")["store_size"])
    if stage == "data":
        if rates.data_image_s is None:
            return None
        packed = 3 * side * side * images if config.data.decode == "ahead" else 0
        return StepEstimate(step=stage, seconds=images * rates.data_image_s, disk_bytes=packed)
    if stage == "teacher":
        return _training(stage, config.teacher, rates.teacher, counts, side)
    if stage == "distill":
        return _training(stage, config.distill, rates.student, counts, side)
    if stage == "logits":
        views = views_arguments(config.distill)["count"] if is_cached(config) else 0
        compared = min(counts.train, PER_CLASS * counts.classes)
        forward = (counts.train * views + compared) * rates.teacher.image_s
        disk = 2 * counts.train * views * counts.classes + 4 * compared * counts.classes
        return StepEstimate(
            step=stage, seconds=forward, disk_bytes=disk, memory_bytes=rates.teacher.peak_bytes + disk
        )
    if stage == "export":
        disk = rates.onnx_bytes.get("fp32.onnx", 0)
        return StepEstimate(
            step=stage, seconds=rates.export_s, disk_bytes=disk, memory_bytes=rates.files_bytes
        )
    if stage == "precision":
        # Every file answers the test images; mixed precision asks the validation images again and again.
        passes = counts.test * len(rates.onnx_bytes) + min(config.precision.calibration_images, counts.train)
        if "int8" in config.precision.modes and config.precision.mixed == "auto":
            passes += 2 * min(config.precision.validation_images, counts.val)
        seconds = rates.precisions_s + passes * rates.onnx_image_s
        return StepEstimate(
            step=stage, seconds=seconds, disk_bytes=sum(rates.onnx_bytes.values()),
            memory_bytes=rates.files_bytes + _bytes(side, counts.test),
        )  # fmt: skip
    if stage == "qad":
        runs = config.precision.qad.when == "always"
        return StepEstimate(step=stage, seconds=0.0) if not runs else None
    if stage == "report":
        return StepEstimate(
            step=stage, seconds=rates.report_s, disk_bytes=1_000_000, memory_bytes=rates.report_bytes
        )
    if target and not remote and config.targets[target].engine == "onnxruntime":
        return _on_target(config, stage, config.targets[target], rates, counts)
    return None


def _bytes(side: int, images: int) -> int:
    """Of prepared images, which are read into memory."""
    return 3 * side * side * images


def _training(stage: str, section: Training, rates: Trained, counts: Counts, side: int) -> StepEstimate:
    steps = math.ceil(counts.train / section.batch_size) * section.epochs
    # Each epoch is judged on the validation images; in the end these and the test images answer once more.
    answers = counts.val * section.epochs + counts.val + counts.test
    return StepEstimate(
        step=stage,
        seconds=steps * rates.step_s + answers * rates.image_s,
        disk_bytes=4 * rates.parameters + 4 * counts.test * counts.classes,
        memory_bytes=rates.peak_bytes + _bytes(side, counts.train + counts.val),
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
        decoded = boundary == "image_to_class"
        batches = [1] if decoded else target.batch_sizes
        for batch in batches:
            query = rates.onnx_query_s + (rates.decode_s if decoded else (batch - 1) * rates.onnx_image_s)
            cases = 1 + (len(set(plan.streams) - {1}) if not decoded and batch == batches[0] else 0)
            limits = Limits(plan.warmup_ms / 1000, plan.min_samples, plan.min_seconds, plan.max_seconds)
            seconds += cases * engines * _case(limits, plan.rounds, query)
    if plan.rate_fps is not None:
        seconds += engines * (plan.rate_seconds or RATE_ARRIVALS / plan.rate_fps)
    if rates.other_cores > MAX_OTHER_CORES:  # every round is taken again in the hope of a quieter time
        seconds *= 2
    if target.threads is None and environment.cores() > 1:
        limits = choosing(min(CHOOSING_S, plan.min_seconds))
        seconds += 2 * engines * _case(limits, ROUNDS, rates.onnx_query_s)
    if rates.energy and plan.energy_s:
        seconds += (1 + engines) * (plan.energy_s + SETTLE_S)
    return seconds + _LOADS * engines * _load_s(rates)


def _case(limits: Limits, rounds: int, query: float) -> float:
    """Seconds of a case in all its turns, whose warm-up is a quarter after the first one (`turns.share`).

    Args:
        limits: of the case.
        rounds: its turns.
        query: seconds of one.
    """
    wanted = max(limits.min_seconds, limits.min_samples * query)
    return min(limits.max_seconds, wanted) + limits.warmup_s * (1 + (rounds - 1) / 4)
