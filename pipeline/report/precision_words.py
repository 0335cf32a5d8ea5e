"""Precisions in words: which files there are, what was kept out of them and why."""

from __future__ import annotations

from collections.abc import Iterable

from export.cpu_layouts import CPU_LAYOUTS
from pipeline.report import numbers
from pipeline.results.precision import Calibration, FineTuning, KeptOut, PrecisionFile
from pipeline.results.result import Result


def fine_tuning(tuning: FineTuning) -> str:
    """What quantisation-aware distillation did to a file, in one sentence."""
    name = f"INT8 ({tuning.onnx})"
    if tuning.state == "not_needed":
        drop = numbers.fixed(tuning.student_val - tuning.val_before, 2)
        images = f"{numbers.count(tuning.val_n)} validation images"
        return f"{name}: not fine-tuned, its drop of {drop} points on {images} is allowed"
    how = f"{tuning.epochs} {'epoch' if tuning.epochs == 1 else 'epochs'} of {tuning.method}"
    if tuning.state == "diverged":
        return f"{name}: not fine-tuned: {tuning.why}; engines use the file as it was made"
    if tuning.state == "no_better" or tuning.drop_after is None:
        return (
            f"{name}: {how} on the quantised graph made it no better on "
            f"{numbers.count(tuning.val_n)} validation images "
            f"({numbers.percent(tuning.val_before)} % before, {numbers.percent(tuning.val_after)} % after); not kept"
        )
    return (
        f"{name} (QAD): {how} on the quantised graph; top-1 drop on the test set "
        f"{numbers.fixed(tuning.drop_before, 2)} points before, {numbers.fixed(tuning.drop_after, 2)} points after"
    )


CAUSES = {
    "rule": "rule",
    "config": "asked for",
    "accuracy": "accuracy",
    "range": "FP16's range",
}
"""Why layers are not in a file's precision, in a word."""
INT8_LAYOUTS = (
    "There can be several INT8 files of one network, because libraries and CPUs read INT8 differently. int8.onnx is "
    "for TensorRT and TensorRT-RTX: activations are signed and symmetric, and scales stand only at what convolutions "
    "and products read. int8_cpu_*.onnx are for ONNX Runtime on a CPU: scales also stand at what is written, and what "
    "the CPU can do decides the rest. Each rounds a little differently; give each file to its own library and CPU only."
)
TWO_DROPS = (
    "What may stay in INT8 is decided on validation images, so that the test images remain unseen; what it costs in "
    "the end is measured on the test images. Two sets of images give two figures for one file."
)


def on_test(result: Result, file: PrecisionFile) -> str:
    """What a file costs against FP32 on the test images, in a sentence; empty where one is not known."""
    whole = next((other.top1 for other in result.precisions if other.precision == "fp32"), None)
    if whole is None or file.top1 is None:
        return ""
    n = numbers.count(result.student.test.n)
    return f"On the {n} test images the file costs {numbers.fixed(whole - file.top1, 2)} points."


def mixed(file: PrecisionFile) -> str:
    """The search for what must leave INT8, in a sentence; empty if there was none."""
    found = file.mixed
    if found is None:
        return ""
    images = f"{numbers.count(found.n)} validation images"
    loss = f"INT8 costs {numbers.fixed(found.fp32 - found.before, 2)} points on {images}"
    allowed = f"{found.max_drop:g} points allowed"
    if not found.groups:
        return f"{loss} ({allowed})" + ("." if found.met else "; nothing could be taken out of it.")
    work = f"{numbers.fixed(found.macs_percent, 1)} % of the work"
    taken = f"{found.groups} group{'s' * (found.groups > 1)} of layers ({work})"
    end = f"{numbers.fixed(found.fp32 - found.after, 2)} points remain"
    return f"{loss} ({allowed}): {taken} left INT8, {end}" + (
        "." if found.met else "; the budget could not be held."
    )


def cpu(file: PrecisionFile) -> str:
    """For which CPUs a file is, and why, in a sentence; empty where that does not matter."""
    found = file.cpu
    if found is None:
        return ""
    layout = next((each for each in CPU_LAYOUTS.values() if each.name == found.name), None)
    asked = f" ({', '.join(found.targets)})" if found.targets else ""
    head, why = (f"For {layout.cpus}{asked}", f"; {layout.because}") if layout else (found.name + asked, "")
    return f"{head}: {found.activations} activations, weights of {found.weight_bits} bits{why}."


def kept_out(row: KeptOut) -> str:
    """What was kept out of a precision: the rule, the group or the node."""
    return f"{row.what} (FP32)" if row.cause == "range" else row.what


def why_kept_out(row: KeptOut) -> str:
    """Why it was."""
    if row.divergence is not None:
        before, after = row.divergence
        return f"in floating point it brings the divergence from FP32 from {before:.2g} to {after:.2g} nats"
    if row.range is not None:
        from export.precision.half_range import says

        return says(row.range.kind, row.range.tensor, row.range.value)
    if row.cause == "config":
        return "the config names them"
    if row.cause == "rule":
        from export.precision.rules import RULES

        return next((rule.because for rule in RULES if rule.name == row.what), row.text)
    return row.text


def calibration(found: Calibration | None) -> str:
    """How INT8 ranges were found: 'entropy, 512 images'; empty for other precisions."""
    if found is None:
        return ""
    share = f" {found.percentile:g} %" if found.percentile else ""
    return f"{found.method}{share}, {found.images} images"


def noteworthy(files: Iterable[PrecisionFile]) -> list[PrecisionFile]:
    """Files in which something left its precision for another reason than a rule or the config."""
    return [
        file
        for file in files
        if (file.mixed and (file.mixed.groups or not file.mixed.met))
        or any(kept.cause == "range" for kept in file.kept_out)
    ]


def in_range_kept(file: PrecisionFile) -> str:
    """Nodes that FP16 cannot hold, in a sentence; empty if there are none."""
    nodes = [kept for kept in file.kept_out if kept.cause == "range"]
    if not nodes:
        return ""
    what = "1 node stays" if len(nodes) == 1 else f"{len(nodes)} nodes stay"
    return f"{what} FP32: {why_kept_out(nodes[0])}."
