"""FP16 and INT8 versions of an FP32 ONNX file: precision is decided here, engines only compile it."""

from export.precision.calibration import METHODS, MIN_CALIBRATION_IMAGES, Observed, Ranges, observe, ranges
from export.precision.fp16 import DEFAULT_KEEP_FP32, halve, to_fp16
from export.precision.int8 import (
    Weights,
    cpu_has_vnni,
    described,
    finish,
    int8_nodes,
    load_fp32,
    observe_file,
    quantise_for_onnxruntime,
    quantise_for_tensorrt,
    to_int8_onnxruntime,
    to_int8_tensorrt,
)
from export.precision.rules import LAYOUTS, RULES, Layout, Rule, kept_out

__all__ = [
    "DEFAULT_KEEP_FP32",
    "LAYOUTS",
    "METHODS",
    "MIN_CALIBRATION_IMAGES",
    "RULES",
    "Layout",
    "Observed",
    "Ranges",
    "Rule",
    "Weights",
    "cpu_has_vnni",
    "described",
    "finish",
    "halve",
    "int8_nodes",
    "kept_out",
    "load_fp32",
    "observe",
    "observe_file",
    "quantise_for_onnxruntime",
    "quantise_for_tensorrt",
    "ranges",
    "to_fp16",
    "to_int8_onnxruntime",
    "to_int8_tensorrt",
]
