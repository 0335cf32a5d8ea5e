"""Protects: files from elsewhere are refused in one clear message, and open sizes can be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.__main__ import main
from export.engines import BACKENDS
from export.errors import EngineError, ExportError
from export.image_input import fixed_copy, require_image_input
from export.sizes import Sizes, named_size

FLOAT = TensorProto.FLOAT


def _file(path: Path, *inputs: Any, weights_as_inputs: bool = False) -> Path:
    """A convolution of the input `x`, or of nothing else where other inputs are given."""
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    images = len(inputs) == 1 and inputs[0][1] == FLOAT and len(inputs[0][2] or ()) == 4
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    made = [helper.make_tensor_value_info(*each) for each in inputs]
    if weights_as_inputs:
        made.append(helper.make_tensor_value_info("w", FLOAT, [4, 3, 3, 3]))
    graph = helper.make_graph(
        nodes if images else [helper.make_node("Identity", ["x"], ["y"])], "g", made,
        [helper.make_tensor_value_info("y", inputs[0][1], None)], [weight] if images else [],
    )  # fmt: skip
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 9 if weights_as_inputs else 17)],
        ir_version=3 if weights_as_inputs else 8,
    )
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([("x", TensorProto.INT64, [1, 16])], "its input is x: int64 [1, 16]"),
        ([("x", TensorProto.BOOL, [1, 16])], "x: bool [1, 16]"),
        ([("x", TensorProto.STRING, [1, 16])], "x: string [1, 16]"),
        ([("x", TensorProto.DOUBLE, ["n", 16])], "x: float64 [n, 16]"),
        ([("x", FLOAT, [])], "x: float32 [] (a single number)"),
        ([("x", FLOAT, None)], "x: float32 of unknown shape"),
        ([("x", FLOAT, [1, 3]), ("z", FLOAT, [1])], "has 2 inputs: x: float32 [1, 3]; z: float32 [1]"),
        ([("x", FLOAT, ["N", 3, "H", "W"])], "leaves sizes of its input open: x: float32 [N, 3, H, W]"),
    ],
)
def test_other_inputs_are_told_by_name_type_and_shape(tmp_path: Path, inputs: list[Any], says: str) -> None:
    """Building and loading say the same, whatever the library would have made of the file."""
    path = _file(tmp_path / "a.onnx", *inputs)
    with pytest.raises(EngineError) as loaded:
        BACKENDS["onnxruntime"].load(path)
    with pytest.raises(ExportError) as built:
        BACKENDS["onnxruntime"].build(path, tmp_path / "out.onnx")
    assert says in loaded.value.what and loaded.value.what == built.value.what
    assert loaded.value.fix == built.value.fix != ""


def test_weights_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    """Files of before IR 4 list them."""
    path = _file(tmp_path / "a.onnx", ("x", FLOAT, ["N", 3, 8, 8]), weights_as_inputs=True)
    assert require_image_input(onnx.load(path), "a.onnx").name == "x"


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (["N", 3, "H", "W"], Sizes(8)),
        (["N", 3, "H", "W"], Sizes(None, {"H": 8, "3": 8})),
        (["N", 3, "S", "S"], Sizes(None, {"S": 8, "2": 8})),
        ([None, None, None, None], Sizes(8, {"1": 3})),
    ],
)
def test_open_sizes_can_be_said(tmp_path: Path, shape: list[Any], sizes: Sizes) -> None:
    """By name, by place, or both of an image at once; the batch stays open, and the engine runs."""
    path = _file(tmp_path / "a.onnx", ("x", FLOAT, shape))
    (tmp_path / "fixed").mkdir()
    engine = BACKENDS["onnxruntime"].load(fixed_copy(path, sizes, tmp_path / "fixed"))
    assert engine.input_shape == (3, 8, 8) and engine.batch_sizes == ()
    assert engine.infer(np.ones((2, 3, 8, 8), np.float32)).shape == (2, 4)


@pytest.mark.parametrize(
    ("shape", "sizes", "says"),
    [
        (["N", 3, "H", "W"], Sizes(None, {"Q": 8}), "no open size 'Q'"),
        ([None, None, None, None], Sizes(8), "which sizes of a.onnx are height and width is not known"),
        (["N", 3, 8, 8], Sizes(8), "which sizes"),
        (["N", 3, "H", "W"], Sizes(None, {"H": 8}), ""),
    ],
)
def test_sizes_that_do_not_fit(tmp_path: Path, shape: list[Any], sizes: Sizes, says: str) -> None:
    """A name that is not there, and a size that could be the channels, are not guessed at."""
    path = _file(tmp_path / "a.onnx", ("x", FLOAT, shape))
    (tmp_path / "fixed").mkdir()
    with pytest.raises(ExportError) as caught:
        require_image_input(onnx.load(fixed_copy(path, sizes, tmp_path / "fixed")), "a.onnx")
    assert says in caught.value.what and caught.value.fix


@pytest.mark.parametrize("text", ["H", "=3", "H=", "H=0", "H=-1", "H=x", "H=99999999999999", "H=²"])
def test_what_is_no_size(text: str) -> None:
    """Refused where it is typed."""
    with pytest.raises(ValueError, match="NAME=SIZE"):
        named_size(text)


def test_the_command_takes_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`export build` of a file with open sizes: one message without them, an engine with them."""
    path, out = _file(tmp_path / "a.onnx", ("x", FLOAT, ["N", 3, "H", "W"])), tmp_path / "o.onnx"
    words = ["build", str(path), str(out), "--backend", "onnxruntime"]
    assert main(words) == 1
    assert "--dim H=224 --dim W=224" in capsys.readouterr().err and not out.exists()
    assert main([*words, "--size", "8"]) == 0
    assert BACKENDS["onnxruntime"].load(out).input_shape == (3, 8, 8)
