"""Protects: an ONNX file from anywhere is one error, or a graph that holds what it declares."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.engines.onnxruntime import OnnxRuntimeBackend
from export.errors import ExportError
from export.model_file import check_file, load_model, save_model
from tests.memory import growth

FLOAT = TensorProto.FLOAT
WEIGHTS = numpy_helper.from_array(np.ones((192, 4), np.float32), "w")
FLATTEN, PRODUCT = helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])


def _input(dims: Any, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("x", kind, dims)


def _model(
    dims: Any = ("N", 3, 8, 8), *, nodes: Any = (FLATTEN, PRODUCT), inputs: Any = None, outputs: Any = None,
    more: Any = (), opset: int = 18, ir: int = 9,
) -> onnx.ModelProto:  # fmt: skip
    inputs = [_input(dims)] if inputs is None else inputs
    outputs = [helper.make_tensor_value_info("y", FLOAT, ["N", 4])] if outputs is None else outputs
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, [WEIGHTS, *more])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def _tensor(dims: Any, kind: int = FLOAT) -> TensorProto:
    tensor = numpy_helper.from_array(np.ones(1, np.float32), "t")
    del tensor.dims[:]
    tensor.dims.extend(dims)
    tensor.data_type = kind
    return tensor


def _in_a_branch(tensor: TensorProto) -> onnx.ModelProto:
    """A tensor that is not of the graph, but of a constant in a graph in the graph."""
    out = helper.make_tensor_value_info("o", FLOAT, None)
    inner = helper.make_graph([helper.make_node("Constant", [], ["o"], value=tensor)], "i", [], [out])
    nodes = [helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner), FLATTEN, PRODUCT]
    return _model(nodes=nodes, more=[helper.make_tensor("c", TensorProto.BOOL, [], [True])])


def _loops() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Add", ["x", "b"], ["a"]),
        helper.make_node("Add", ["a", "x"], ["b"]),
        FLATTEN,
        PRODUCT,
    ]


def _nested(levels: int) -> bytes:
    """Graphs in attributes of nodes of graphs, as bytes: no library would write so many."""
    data = b""
    for _ in range(levels):
        for field in (6, 5, 1):
            size, length = len(data), b""
            while size > 127:
                length, size = length + bytes([size & 127 | 128]), size >> 7
            data = bytes([field << 3 | 2]) + length + bytes([size]) + data
    return b"\x3a" + data


WRONG: dict[str, tuple[bytes | onnx.ModelProto, str]] = {
    "negative size": (_model(("N", 3, -5, 8)), r"'x' has the shape \[3, -5, 8\]"),
    "negative batch": (_model((-5, 3, 8, 8)), r"'x' has the shape \[-5, 3, 8, 8\]"),
    "size zero": (_model(("N", 3, 0, 8)), "sizes are 1 or more"),
    "huge input": (_model(("N", 3, 1 << 31, 1 << 31)), "more than"),
    "largest size": (_model(("N", 3, (1 << 63) - 1, 8)), "more than"),
    "empty": (b"", "is empty"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n", "git lfs pull"),
    "text": (b"hello world\n", "cannot be read as ONNX"),
    "JPEG": (b"\xff\xd8\xff\xe0" + random.Random(0).randbytes(5000), "cannot be read as ONNX|holds no ONNX"),
    "cut off": (_model().SerializeToString()[:-40], "cannot be read as ONNX"),
    "5,000 levels": (_nested(5000), "cannot be read as ONNX"),
    "five million nodes of nothing": (b"\x3a\x80\xad\xe2\x04" + b"\x0a\x00" * 5_000_000, "more than 1,048,576 parts"),
    "a cycle": (_model(nodes=_loops()), "topologically sorted"),
    "a terabyte of nothing": (_model(more=[_tensor([1 << 20, 1 << 20])]), "needs 4,398,046,511,104"),
    "negative tensor": (_model(more=[_tensor([-1])]), r"has the shape \[-1\]"),
    "unknown type": (_model(more=[_tensor([1], 999)]), "unknown type 999"),
    "no type": (_model(more=[_tensor([1], 0)]), "unknown type 0"),
    "too many values": (_model(more=[_tensor([0])]), "needs 0"),
    "in a branch": (_in_a_branch(_tensor([1 << 40])), "needs 4,398,046,511,104"),
    "a name twice": (_model(more=[WEIGHTS]), "not unique"),
    "a result twice": (_model(nodes=[FLATTEN, FLATTEN, PRODUCT]), "SSA"),
    "no inputs": (_model(inputs=[]), "no ONNX graph"),
    "no outputs": (_model(outputs=[]), "no ONNX graph"),
    "opset 0": (_model(opset=0), "not valid ONNX"),
    "opset -1": (_model(opset=-1), "not valid ONNX"),
    "opset 9999": (_model(opset=9999), "ONNX Runtime .* cannot load"),
    "IR 99": (_model(ir=99), "ir_version"),
    "unknown operator": (_model(nodes=[helper.make_node("Nonsense", ["x"], ["y"])]), "Nonsense"),
    "no type of the input": (_model(inputs=[onnx.ValueInfoProto(name="x")]), "not valid ONNX"),
    "no shape of the input": (_model(None), "not valid ONNX|of unknown shape"),
    "scalar": (_model([]), "single number|no tensor"),
    "sequence": (_model(inputs=[helper.make_tensor_sequence_value_info("x", FLOAT, None)]), "single number|no tensor"),
    "shapes that do not fit": (_model(("N", 3, 9, 8)), "do not fit|cannot load"),
    "what fills the memory": (
        _model(
            nodes=[helper.make_node("ConstantOfShape", ["s"], ["big"]),
                   helper.make_node("ReduceSum", ["big"], ["r"], keepdims=0), FLATTEN,
                   helper.make_node("MatMul", ["f", "w"], ["p"]), helper.make_node("Add", ["p", "r"], ["y"])],
            more=[numpy_helper.from_array(np.array([1 << 24, 1 << 24], np.int64), "s")],
        ),
        "ONNX Runtime failed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_built_from_is_said(tmp_path: Path, name: str) -> None:
    """One error of ours when an engine is built, and when the file itself is loaded as one."""
    value, says = WRONG[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(value if isinstance(value, bytes) else value.SerializeToString())
    with growth() as taken:
        with pytest.raises(ExportError, match=says):
            OnnxRuntimeBackend().build(path, tmp_path / "out.onnx")
        if name != "what fills the memory":  # it fills it only when it runs
            with pytest.raises(ExportError):
                OnnxRuntimeBackend().load(path)
    assert taken.bytes < 512 << 20
    assert not (tmp_path / "out.onnx").exists()


def test_an_output_without_shape_is_read(tmp_path: Path) -> None:
    """Other tools write such files, and every runtime takes them."""
    model = _model(outputs=[helper.make_tensor_value_info("y", FLOAT, None)])
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert load_model(path) == model


def _outside(folder: Path) -> None:
    (folder.parent / "up.bin").write_bytes(bytes(3072))


def _linked(folder: Path) -> None:
    _outside(folder)
    (folder / "data.bin").symlink_to("../up.bin")


EXTERNAL: dict[str, tuple[dict[str, str], Callable[[Path], object], str]] = {
    "missing": ({"location": "data.bin"}, lambda f: None, "not there"),
    "none": ({}, lambda f: None, "own folder"),
    "folder above": ({"location": "../up.bin"}, _outside, "own folder"),
    "back and forth": ({"location": "a/../../up.bin"}, _outside, "own folder"),
    "absolute": ({"location": "/etc/passwd"}, lambda f: None, "own folder"),
    "a link": ({"location": "data.bin"}, _linked, "own folder"),
    "a FIFO": ({"location": "data.bin"}, lambda f: os.mkfifo(f / "data.bin"), "own folder"),
    "a folder": ({"location": "data.bin"}, lambda f: (f / "data.bin").mkdir(), "own folder"),
    "too short": ({"location": "data.bin"}, lambda f: (f / "data.bin").write_bytes(b"1"), "needs 3,072"),
    "itself": ({"location": "m.onnx"}, lambda f: None, "needs 3,072"),
    "a zero byte": ({"location": "a\0b"}, lambda f: None, "not there"),
    "negative length": ({"location": "data.bin", "length": "-1"}, _outside, "of '-1' bytes"),
    "length of letters": ({"location": "data.bin", "length": "abc"}, _outside, "of 'abc' bytes"),
    "huge offset": ({"location": "data.bin", "offset": "9" * 30}, _outside, "external data from"),
}  # fmt: skip


def _external(folder: Path, said: dict[str, str]) -> Path:
    model = _model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in said.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


@pytest.mark.parametrize("name", EXTERNAL)
def test_external_data_lies_in_the_models_folder(tmp_path: Path, name: str) -> None:
    """No path of a file is followed out of its folder, and none is waited for."""
    said, make, says = EXTERNAL[name]
    folder = tmp_path / "sub"
    folder.mkdir()
    make(folder)
    path = _external(folder, said)
    for use in (
        load_model,
        OnnxRuntimeBackend().load,
        lambda p: OnnxRuntimeBackend().build(p, tmp_path / "o"),
    ):
        with pytest.raises(ExportError, match=says):
            use(path)


def test_external_data_that_is_there_is_read(tmp_path: Path) -> None:
    """The check refuses nothing that is right: whole files, and parts of them."""
    (tmp_path / "data.bin").write_bytes(bytes(100) + np.full(768, 2, np.float32).tobytes() + b"more")
    path = _external(tmp_path, {"location": "data.bin", "offset": "100", "length": "3072"})
    assert numpy_helper.to_array(load_model(path).graph.initializer[0]).mean() == 2
    assert OnnxRuntimeBackend().load(path).infer(np.ones((1, 3, 8, 8), np.float32)).tolist() == [[384.0] * 4]


@pytest.mark.parametrize("kind", [k for k in TensorProto.DataType.values() if k])
def test_every_type_of_tensor_passes(tmp_path: Path, kind: int) -> None:
    """Sizes are counted right, also where several values share a byte, raw or in fields."""
    name = TensorProto.DataType.Name(kind)
    values: Any = ["a", "b", "c"] if name == "STRING" else [1, 1, 1]
    model = _model(more=[helper.make_tensor("t", kind, [3], values)])
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    check_file(tmp_path / "a.onnx")
    if name != "STRING":
        raw = numpy_helper.from_array(numpy_helper.to_array(model.graph.initializer[1]), "t")
        (tmp_path / "b.onnx").write_bytes(_model(more=[raw]).SerializeToString())
        check_file(tmp_path / "b.onnx")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_without_a_wait(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "m.onnx")
    with pytest.raises(ExportError, match="cannot be read"):
        load_model(tmp_path / "m.onnx")


def test_mutants(tmp_path: Path) -> None:
    """600 mutants of the bytes and of the structure: an error of ours, or an engine; soon, and in little memory."""
    path, good = tmp_path / "m.onnx", _model()
    save_model(good, path)
    whole = path.read_bytes()
    start, built = time.monotonic(), 0
    with growth() as taken:
        for seed in range(600):
            chance = random.Random(seed)
            path.write_bytes(_changed(good, chance) if seed % 2 else _flipped(whole, chance))
            try:
                OnnxRuntimeBackend().build(path, tmp_path / "out.onnx", threads=1)
                OnnxRuntimeBackend().load(path, threads=1).close()
                built += 1
            except ExportError:
                continue
    assert 0 < built < 600
    assert taken.bytes < 512 << 20
    assert time.monotonic() - start < 300


def _flipped(data: bytes, chance: random.Random) -> bytes:
    made = bytearray(data)
    # The weights are most of the bytes, and say nothing of the structure.
    places = [i for i in range(len(made)) if not 200 < i < len(made) - 300] or list(range(len(made)))
    for _ in range(chance.choice((1, 1, 2, 5))):
        made[chance.choice(places)] = chance.randrange(256)
    return bytes(made)


def _changed(good: onnx.ModelProto, chance: random.Random) -> bytes:
    model = onnx.ModelProto()
    model.CopyFrom(good)
    numbers = (0, -1, -5, 1, 7, 1 << 31, 1 << 62, -(1 << 63))
    names = ("", "x", "f", "w", "y", "\u202e", "../x", "N")
    dims = [d for v in (*model.graph.input, *model.graph.output) for d in v.type.tensor_type.shape.dim]
    for _ in range(chance.choice((1, 2, 3))):
        node, tensor = chance.choice(model.graph.node), model.graph.initializer[0]
        kind = chance.randrange(10)
        if kind == 0:
            chance.choice(dims).dim_value = chance.choice(numbers)
        elif kind == 1:
            tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(numbers)
        elif kind == 2:
            tensor.data_type = chance.randrange(-1, 40)
        elif kind == 3:
            tensor.raw_data = tensor.raw_data[: chance.randrange(3072)]
        elif kind == 4:
            node.op_type = chance.choice(
                ("Conv", "Resize", "Tile", "Loop", "ConstantOfShape", "Gather", "", "Reshape")
            )
        elif kind == 5:
            node.input[chance.randrange(len(node.input))] = chance.choice(names)
        elif kind == 6:
            node.output[0] = chance.choice(names)
        elif kind == 7:
            model.opset_import[0].version = chance.choice(numbers)
        elif kind == 8:
            node.attribute.append(
                helper.make_attribute(chance.choice(("axis", "to", "value", "body")), chance.choice(numbers))
            )
        else:
            model.graph.input[0].type.tensor_type.elem_type = chance.randrange(-1, 30)
    return bytes(model.SerializeToString())
