"""FP16 and INT8 versions of an FP32 ONNX file: precision is decided here, engines only compile it."""

from export.precision.calibration import MIN_CALIBRATION_IMAGES
from export.precision.fp16 import DEFAULT_KEEP_FP32, to_fp16
from export.precision.int8 import cpu_has_vnni, to_int8_onnxruntime, to_int8_tensorrt

__all__ = [
    "DEFAULT_KEEP_FP32",
    "MIN_CALIBRATION_IMAGES",
    "cpu_has_vnni",
    "to_fp16",
    "to_int8_onnxruntime",
    "to_int8_tensorrt",
]
