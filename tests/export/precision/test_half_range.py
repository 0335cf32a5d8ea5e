"""Protects: what FP16 cannot hold is found on real images, and stays FP32 or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export import graph
from export.engines import BACKENDS
from export.errors import PrecisionError
from export.precision import findings, observe_file, to_fp16, to_int8_tensorrt
from export.precision.half_range import LIMIT, subnormal_loss

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0.5, 1.5, (40, 4, 8, 8)).astype(np.float32)


def logits(path: Path, images: Any) -> Any:
    return BACKENDS["onnxruntime"].load(path, threads=1).infer(images)


def in_half(path: Path, images: Any) -> Any:
    """What the file says, computed in real FP16: ONNX Runtime's CPU uses FP32 where it has no FP16 kernel."""
    return ReferenceEvaluator(str(path)).run(None, {"x": images})[0]


def write(path: Path, middle: list[onnx.NodeProto], tensors: dict[str, Any]) -> Path:
    """x -> 1x1 convolution `c` -> `middle`, which makes `m` -> mean over space -> y."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], "conv"), *middle]
    nodes += [helper.make_node("GlobalAveragePool", ["m"], ["p"], "pool")]
    nodes += [helper.make_node("Flatten", ["p"], ["y"], "flat")]
    tensors = {"w": np.eye(4, dtype=np.float32)[:, :, None, None]} | tensors
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
            [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in tensors.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, str(path))
    return path


def overflowing(path: Path) -> Path:
    """(300 * c) ** 2 / 1e4: every constant fits into FP16, the square reaches 2e5 and does not."""
    middle = [
        helper.make_node("Mul", ["c", "up"], ["u"], "up"),
        helper.make_node("Mul", ["u", "u"], ["s"], "square"),
        helper.make_node("Div", ["s", "down"], ["m"], "down"),
    ]
    return write(path, middle, {"up": 300.0, "down": 1e4})


def test_an_overflow_is_found_and_kept_fp32(tmp_path: Path) -> None:
    """Without the check the file gives infinity; with it the right numbers, and the report names the node."""
    source = overflowing(tmp_path / "s.onnx")
    to_fp16(source, tmp_path / "blind.onnx")
    with np.errstate(over="ignore"):
        assert np.isinf(in_half(tmp_path / "blind.onnx", IMAGES)).all()
    facts = to_fp16(source, tmp_path / "h.onnx", seen=observe_file(source, IMAGES, histograms=False))
    np.testing.assert_allclose(in_half(tmp_path / "h.onnx", IMAGES), logits(source, IMAGES), rtol=5e-3)
    assert [(f["node"], f["kind"]) for f in facts["out_of_range"]] == [
        ("square", "overflow"),
        ("down", "overflow"),
    ]
    assert facts["fp32_nodes"] == {"Div": 1, "Mul": 1} and facts["range_images"] == 40
    assert "'s' reaches 2.0" in facts["out_of_range"][0]["says"]


def test_forcing_an_overflow_is_refused(tmp_path: Path) -> None:
    """The message names the node, the value and the remedy; no file is left."""
    source = overflowing(tmp_path / "s.onnx")
    seen = observe_file(source, IMAGES, histograms=False)
    with pytest.raises(
        PrecisionError, match=r"'square' is forced to FP16.*'s' reaches 2\.\d+e\+05.*40 calib"
    ):
        to_fp16(source, tmp_path / "h.onnx", seen=seen, force_fp16=["square"])
    with pytest.raises(PrecisionError, match="no node matches 'sqare'"):
        to_fp16(source, tmp_path / "h.onnx", seen=seen, force_fp16=["sqare"])
    assert not (tmp_path / "h.onnx").exists()


def test_forcing_what_fits_is_obeyed(tmp_path: Path) -> None:
    """A type of the block list becomes FP16 where its values allow it."""
    source = write(tmp_path / "s.onnx", [helper.make_node("Pow", ["c", "two"], ["m"], "pow")], {"two": 2.0})
    seen = observe_file(source, IMAGES, histograms=False)
    assert to_fp16(source, tmp_path / "a.onnx", seen=seen)["fp32_nodes"] == {"Pow": 1}
    assert to_fp16(source, tmp_path / "b.onnx", seen=seen, force_fp16=["Pow"])["fp32_nodes"] == {}


def test_the_margin_is_kept(tmp_path: Path) -> None:
    """20000 fits into FP16, and is kept FP32 all the same: other images reach further."""
    for up, kept in ((LIMIT / 1.6, False), (20000.0, True)):
        middle = [helper.make_node("Mul", ["c", "up"], ["m"], "up")]
        source = write(tmp_path / "s.onnx", middle, {"up": up})
        seen = observe_file(source, IMAGES, histograms=False)
        found = {f.node for f in findings(graph.load_model(source), seen) if f.kind == "overflow"}
        assert ("up" in found) is kept


def test_a_mean_whose_sum_overflows(tmp_path: Path) -> None:
    """64 values of 1000 have a mean that fits and a sum that does not."""
    source = write(tmp_path / "s.onnx", [helper.make_node("Mul", ["c", "up"], ["m"], "up")], {"up": 1000.0})
    facts = to_fp16(source, tmp_path / "h.onnx", seen=observe_file(source, IMAGES, histograms=False))
    assert [(f["node"], f["kind"]) for f in facts["out_of_range"]] == [("pool", "sum")]


def test_squares_in_a_forced_norm(tmp_path: Path) -> None:
    """A LayerNorm of large activations may not be forced to FP16."""
    middle = [
        helper.make_node("Mul", ["c", "up"], ["u"], "up"),
        helper.make_node("LayerNormalization", ["u", "gamma"], ["m"], "norm"),
    ]
    source = write(tmp_path / "s.onnx", middle, {"up": 100.0, "gamma": np.arange(8)})
    seen = observe_file(source, IMAGES, histograms=False)
    assert to_fp16(source, tmp_path / "h.onnx", seen=seen)["fp32_nodes"] == {"LayerNormalization": 1}
    with pytest.raises(PrecisionError, match=r"'norm' is forced.*a sum of squares of 'u'"):
        to_fp16(source, tmp_path / "h.onnx", seen=seen, force_fp16=["norm"])


def test_weights_that_vanish(tmp_path: Path) -> None:
    """Tiny weights count where the result is made of them, and not in a channel that matters nothing."""
    weight = np.eye(4, dtype=np.float32)[:, :, None, None]
    middle = [helper.make_node("Mul", ["c", "up"], ["m"], "up")]
    tiny = write(tmp_path / "a.onnx", middle, {"w": weight * 1e-8, "up": 1e4})
    facts = to_fp16(tiny, tmp_path / "h.onnx", seen=observe_file(tiny, IMAGES, histograms=False))
    assert ("conv", "underflow") in [(f["node"], f["kind"]) for f in facts["out_of_range"]]
    np.testing.assert_allclose(logits(tmp_path / "h.onnx", IMAGES), logits(tiny, IMAGES), rtol=1e-2)
    weight[1] *= 1e-8
    dead = write(tmp_path / "b.onnx", middle, {"w": weight, "up": 1.0})
    facts = to_fp16(dead, tmp_path / "h.onnx", seen=observe_file(dead, IMAGES, histograms=False))
    assert facts["out_of_range"] == [] and facts["weights_flushed"] == 1


def test_weights_beside_large_inputs(tmp_path: Path) -> None:
    """Results in range can still be made of weights that FP16 rounds away."""
    weight = np.eye(4, dtype=np.float32)[:, :, None, None]
    scaled = IMAGES * 1000
    source = write(
        tmp_path / "s.onnx", [helper.make_node("Relu", ["c"], ["m"], "relu")], {"w": weight * 3.1e-7}
    )
    facts = to_fp16(source, tmp_path / "h.onnx", seen=observe_file(source, scaled, histograms=False))
    assert [(f["node"], f["kind"]) for f in facts["out_of_range"]] == [("conv", "weights")]
    assert subnormal_loss(np.array([1.0, 0.1, 1e-9, 0.0], np.float32)).tolist() == [0, 0, np.float32(1e-9), 0]


def test_int8_files_keep_such_nodes_out_too(tmp_path: Path) -> None:
    """The remainder of an INT8 file is FP16 and overflows as well; its scales would."""
    middle = [
        helper.make_node("Mul", ["c", "up"], ["u"], "up"),
        helper.make_node("Conv", ["u", "w"], ["d"], "second"),
        helper.make_node("Div", ["d", "up"], ["e"], "down"),
        helper.make_node("Conv", ["e", "w"], ["m"], "third"),
    ]
    source = write(tmp_path / "s.onnx", middle, {"up": 6e4})
    facts = to_int8_tensorrt(source, tmp_path / "q.onnx", IMAGES, without_rules=["classifier"])
    assert {f["node"] for f in facts["out_of_range"]} == {"up", "second", "down"}
    assert facts["quantised_nodes"] == {"Conv": 2}
    np.testing.assert_allclose(logits(tmp_path / "q.onnx", IMAGES), logits(source, IMAGES), atol=0.03)


def test_an_ordinary_network_has_no_findings(files: Any, tmp_path: Path) -> None:
    """A trained net keeps its file: the check costs nothing where nothing is wrong."""
    facts = to_fp16(files.fp32, tmp_path / "h.onnx", seen=observe_file(files.fp32, files.train))
    assert facts["out_of_range"] == []
    assert (tmp_path / "h.onnx").read_bytes() == files.fp16.read_bytes()
