"""Protects: what a user can get wrong ends in one sentence that names it, and in no file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import graph
from export.errors import PrecisionError
from export.precision import observe_file, to_bf16, to_fp16, to_int8_onnxruntime, to_int8_tensorrt

IMAGES = np.random.default_rng(0).standard_normal((40, 4, 8, 8)).astype(np.float32)
MAKERS: dict[str, Callable[..., Any]] = {
    "fp16": to_fp16,
    "bf16": to_bf16,
    "tensorrt": lambda src, dst: to_int8_tensorrt(src, dst, IMAGES),
    "onnxruntime": lambda src, dst: to_int8_onnxruntime(src, dst, IMAGES),
}


def write(path: Path, kind: str, domain: str = "", opset: int = 20) -> Path:
    """A convolution, a node of type `kind`, and a head."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "first"),
        helper.make_node(kind, ["c"], ["d"], "odd", domain=domain),
        helper.make_node("GlobalAveragePool", ["d"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["y"], "flat"),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["batch", 4, 8, 8]), ("y", ["batch", 4]))
    )
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32)[:, :, None, None], "w")
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], [weight]), opset_imports=imports, ir_version=10
    )
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("maker", list(MAKERS))
def test_an_unknown_operator_is_named(maker: str, tmp_path: Path) -> None:
    """Node, operator and way out, whichever precision was asked for."""
    source = write(tmp_path / "s.onnx", "Magic", "com.example")
    with pytest.raises(
        PrecisionError, match=r"node 'odd' is a com\.example\.Magic, an operator that ONNX.*fp32"
    ):
        MAKERS[maker](source, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_an_invalid_graph_is_told(tmp_path: Path) -> None:
    """An operator on a type that it does not take: node, operator and type are named."""
    source = write(tmp_path / "s.onnx", "BitwiseNot")
    with pytest.raises(
        PrecisionError, match=r"not valid ONNX: .*BitwiseNot, node name: odd.*tensor\(float\)"
    ):
        observe_file(source, IMAGES)


def test_what_onnx_runtime_cannot_load_is_told(tmp_path: Path) -> None:
    """Calibration runs the FP32 file; a file that cannot run is told with ONNX Runtime's reason."""
    source = write(tmp_path / "s.onnx", "Relu")
    model = onnx.load(str(source))
    model.opset_import[0].version = 9999
    onnx.save(model, str(source))
    with pytest.raises(
        PrecisionError, match=r"cannot run the FP32 file, so nothing can be calibrated: .*9999"
    ):
        observe_file(source, IMAGES)


@pytest.mark.parametrize("maker", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:31], "31 calibration images were given; INT8 ranges need at least 32"),
        (
            IMAGES[:, :, :4],
            r"calibration images are float32 \[4, 4, 8\], the model takes float32 \[4, 8, 8\]",
        ),
        (IMAGES.astype(np.float64), "calibration images are float64"),
        (np.where(IMAGES > 3, np.nan, IMAGES), "contain NaN or infinity"),
        (np.ones_like(IMAGES), "no content: 40 of 40 are one constant colour, and all are identical"),
    ],
)
def test_bad_calibration_data_is_told(maker: str, images: Any, message: str, tmp_path: Path) -> None:
    """Too few, the wrong size or type, broken, or without content."""
    source = write(tmp_path / "s.onnx", "Relu")
    make = to_int8_tensorrt if maker == "tensorrt" else to_int8_onnxruntime
    with pytest.raises(PrecisionError, match=message):
        make(source, tmp_path / "out.onnx", images)
    assert not (tmp_path / "out.onnx").exists()


def test_a_network_that_gives_nan_is_told(tmp_path: Path) -> None:
    """The tensor is named: a range of NaN would quantise to nothing."""
    source = write(tmp_path / "s.onnx", "Log")
    with pytest.raises(
        PrecisionError, match=r"produces NaN or infinity on calibration images \(tensor 'd'\)"
    ):
        observe_file(source, IMAGES)


def test_an_old_opset_is_told(tmp_path: Path) -> None:
    """FP16 Q/DQ nodes exist from opset 19 on."""
    source = write(tmp_path / "s.onnx", "Relu", opset=18)
    with pytest.raises(PrecisionError, match=r"opset 18; FP16 Q/DQ needs 19.*export with opset 20"):
        to_int8_tensorrt(source, tmp_path / "out.onnx", IMAGES)
    to_int8_onnxruntime(source, tmp_path / "cpu.onnx", IMAGES)
    assert graph.load_model(tmp_path / "cpu.onnx")
