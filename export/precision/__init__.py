"""FP16 and INT8 versions of an FP32 ONNX file: precision is decided here, engines only compile it."""

from export.precision.bf16 import emulated, to_bf16
from export.precision.calibration import METHODS, MIN_CALIBRATION_IMAGES, Observed, Ranges, observe, ranges
from export.precision.fp16 import DEFAULT_KEEP_FP32, halve, load_fp32, out_of_range, to_fp16
from export.precision.half_range import Finding, findings
from export.precision.int8 import described, finish, observe_file, to_int8_onnxruntime, to_int8_tensorrt
from export.precision.qdq import Weights, int8_nodes, quantise_for_onnxruntime, quantise_for_tensorrt
from export.precision.rules import LAYOUTS, RULES, Layout, Rule, kept_out

__all__ = [
    "DEFAULT_KEEP_FP32",
    "LAYOUTS",
    "METHODS",
    "MIN_CALIBRATION_IMAGES",
    "RULES",
    "Finding",
    "Layout",
    "Observed",
    "Ranges",
    "Rule",
    "Weights",
    "described",
    "emulated",
    "findings",
    "finish",
    "halve",
    "int8_nodes",
    "kept_out",
    "load_fp32",
    "observe",
    "observe_file",
    "out_of_range",
    "quantise_for_onnxruntime",
    "quantise_for_tensorrt",
    "ranges",
    "to_bf16",
    "to_fp16",
    "to_int8_onnxruntime",
    "to_int8_tensorrt",
]
