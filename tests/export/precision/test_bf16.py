"""Protects: BF16 files are valid ONNX with BF16 inside, and their emulation rounds as they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from export import graph
from export.engines import BACKENDS
from export.errors import PrecisionError
from export.onnx import describe
from export.precision import emulated, to_bf16, to_fp16


def test_the_file_is_bf16_inside(files: Any, tmp_path: Path) -> None:
    """Convolutions compute in BF16, hard-swish does not; the interface is unchanged."""
    facts = to_bf16(files.fp32, tmp_path / "b.onnx")
    assert facts["casts"] == 4 and facts["weights_flushed"] == 0  # in, around the hard-swish, out
    model = graph.load_model(tmp_path / "b.onnx")
    types = graph.value_types(model)
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert {types[name] for name in node.input} == {TensorProto.BFLOAT16}
    for key in ("inputs", "outputs"):
        assert describe(tmp_path / "b.onnx")[key] == describe(files.fp32)[key]
    assert describe(tmp_path / "b.onnx")["opset"] == 22
    with pytest.raises(PrecisionError, match="FP16 or BF16 weights already"):
        to_fp16(tmp_path / "b.onnx", tmp_path / "c.onnx")


def test_onnx_runtime_cannot_run_it_on_the_cpu(files: Any, tmp_path: Path) -> None:
    """Why there is an emulation. If this fails, ONNX Runtime has learnt BF16 and the emulation may go."""
    to_bf16(files.fp32, tmp_path / "b.onnx")
    with pytest.raises(Exception, match=r"NOT_IMPLEMENTED|bfloat16"):
        onnxruntime.InferenceSession(str(tmp_path / "b.onnx"), providers=["CPUExecutionProvider"])


def test_the_emulation_rounds(files: Any, tmp_path: Path) -> None:
    """Every weight and result has at most 8 significant bits, and predictions stay."""
    to_bf16(files.fp32, tmp_path / "b.onnx")
    model = emulated(graph.load_model(tmp_path / "b.onnx"))
    weights = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("_bf16")]
    assert weights
    for weight in weights:
        assert not (weight.view(np.uint32) & 0xFFFF).any()
    graph.save_model(model, tmp_path / "e.onnx")
    rounded, exact = (
        BACKENDS["onnxruntime"].load(path, threads=1).infer(files.images)
        for path in (tmp_path / "e.onnx", files.fp32)
    )
    assert not (rounded.view(np.uint32) & 0xFFFF).any()
    assert (rounded.argmax(1) == exact.argmax(1)).mean() > 0.97
    half = BACKENDS["onnxruntime"].load(files.fp16, threads=1).infer(files.images)
    assert np.abs(rounded - exact).mean() > 3 * np.abs(half - exact).mean()
