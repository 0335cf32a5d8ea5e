"""Protects: the layers of a built engine in one form, from the inspector's JSON and from TensorRT-RTX's builder log.

`rtx_layers_fp16.txt` and `rtx_layers_int8.txt` are what the builder of TensorRT-RTX 1.7.1 said of the net of
tests/export/conftest.py, for SM86.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.engines import BACKENDS
from export.engines.trt_built import BuiltLayer, document, from_inspector, read_layers, summary
from export.engines.trt_layers import layers_path
from export.runtime.trt_library import LAYERS_MARK

HERE = Path(__file__).parent
rtx = BACKENDS["tensorrt_rtx"]


def recorded(precision: str) -> tuple[BuiltLayer, ...]:
    return read_layers((HERE / f"rtx_layers_{precision}.txt").read_text())


def test_the_builders_log_of_rtx_is_read() -> None:
    """INT8 convolutions that write FP32, and a kernel after each that makes INT8 of it again."""
    assert summary(recorded("fp16")) == {
        "layers": 11, "reformats": 0, "requantise": 0, "compute": {"half -> half": 7},
        "by_output": {"float": 1, "half": 10}, "written_bytes": 37472,
    }  # fmt: skip
    assert summary(recorded("int8")) == {
        "layers": 17, "reformats": 0, "requantise": 6, "compute": {"int8 -> float": 7},
        "by_output": {"float": 8, "half": 2, "int8": 7}, "written_bytes": 103264,
    }  # fmt: skip
    first, second, *_ = recorded("int8")
    assert first.inputs == ("uint8",) and first.outputs == ("int8",) and first.written == 4 * 32 * 32
    assert not first.requantise  # the image is quantised once, whatever follows
    assert (second.name, second.kind, second.written) == ("0003_Conv_myl0_1", "correlation", 4 * 12 * 16 * 16)
    added = next(layer for layer in recorded("fp16") if layer.name == "0007_Conv_myl0_3")
    assert added.inputs == ("half", "half")  # constants are no activations


def inspected(*layers: Any) -> dict[str, Any]:
    return summary(from_inspector(json.dumps({"Layers": list(layers)})))


def test_the_inspectors_json_is_read_in_its_forms() -> None:
    """Details of 10.x and 11.x as NVIDIA's documentation prints them, and names alone."""
    int8 = "Thirty-two wide channel vectorized row major Int8 format"
    ten = inspected(
        {"Name": "Reformatting CopyNode for Input Tensor 0", "LayerType": "Reformat",
         "Inputs": [{"Name": "x", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Row major linear FP32"}],
         "Outputs": [{"Name": "a", "Dimensions": [1, 3, 8, 8], "Format/Datatype": int8}]},
        {"Name": "conv1 + relu1", "LayerType": "CaskConvolution", "ParameterType": "Convolution",
         "Inputs": [{"Name": "a", "Dimensions": [1, 3, 8, 8], "Format/Datatype": int8}],
         "Outputs": [{"Name": "b", "Dimensions": [1, 16, 8, 8],
                      "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}]},
        {"Name": "conv2", "LayerType": "CudaDepthwise", "ParameterType": "Convolution",
         "Inputs": [{"Name": "b", "Dimensions": [1, 16, 8, 8], "Format/Datatype": "Half"}],
         "Outputs": [{"Name": "c", "Dimensions": [1, 16, 8, 8], "Format/Datatype": "Half"}]},
    )  # fmt: skip
    assert ten == {
        "layers": 3, "reformats": 1, "requantise": 1, "compute": {"half -> half": 1, "int8 -> half": 1},
        "by_output": {"half": 2, "int8": 1}, "written_bytes": 192 + 2 * 2 * 16 * 64,
    }  # fmt: skip
    eleven = {"Name": "x", "LayerType": "gemm", "Outputs": [{"Name": "y", "DataType": "BFloat16"}]}
    assert inspected(eleven)["by_output"] == {"bf16": 1}
    names = inspected("Reformatting CopyNode for Output Tensor 0", "conv1")
    assert (names["layers"], names["reformats"], names["by_output"], names["written_bytes"]) == (
        2,
        1,
        {},
        None,
    )
    assert inspected() == summary(()) and summary(())["written_bytes"] is None


@pytest.mark.parametrize(
    "tensor",
    [
        {"Dimensions": "N/A due to dynamic shapes", "Format/Datatype": "Half"},
        {"Dimensions": [-1, 8], "Format/Datatype": "Half"},
        {"Dimensions": [1, 8], "Format/Datatype": "N/A due to dynamic shapes"},
        {"Dimensions": [1, 8], "Format/Datatype": "Int4"},
        {"Dimensions": [1, "x"], "DataType": "Half"},
        {"Dimensions": [10**60], "DataType": "Half"},
    ],
)
def test_bytes_that_are_not_known_are_not_guessed(tensor: dict[str, Any]) -> None:
    good = {"Name": "a", "LayerType": "kgen", "Outputs": [{"Dimensions": [2, 8], "Format/Datatype": "Half"}]}
    bad = {"Name": "b", "LayerType": "kgen", "Outputs": [tensor]}
    assert inspected(good)["written_bytes"] == 32
    assert inspected(good, bad)["written_bytes"] is None


def test_a_kernel_that_only_moves_is_told_from_one_that_computes() -> None:
    def kernel(name: str, kind: str = "kgen") -> BuiltLayer:
        return BuiltLayer(name, kind, ("half",), ("half",), 1)

    assert kernel("__myl_TranCast_myl0_3").reformat and not kernel("__myl_TranMean_myl0_8").reformat
    assert kernel("__myl_CorrMulAdd_myl0_1", "runtime_fusion").compute
    assert not kernel("__myl_MulCastAddRelu_myl0_4").compute
    assert BuiltLayer("f", "fusion", (), (), 1, "sm80_xmma_gemm_i8f32").compute


@pytest.mark.parametrize("text", ["", "{}", "[", '{"Layers": 3}', "null", "Layers:", "[" * 100_000])
def test_what_is_no_list_of_layers_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_layers(text)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(["Half", "Int8"]),
        lambda some: (
            st.lists(some, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["Name", "LayerType", "Inputs", "Outputs", "Dimensions", "DataType", "TacticName"]
                ),
                some,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_read_or_refused(value: Any) -> None:
    """Whatever a device's file holds: strings and counts come out, or a ValueError."""
    try:
        layers = read_layers(json.dumps({"Layers": value}))
    except ValueError:
        assert not isinstance(value, list)
        return
    assert json.loads(json.dumps(document(layers)))["summary"]["layers"] == len(value)


@given(st.text(alphabet=st.sampled_from("Name: LayrTpInuts[]{},Dmo8-\n"), max_size=400))
def test_any_log_is_read_or_refused(rest: str) -> None:
    document(read_layers(LAYERS_MARK + rest))


@pytest.mark.slow
@pytest.mark.skipif(not rtx.availability().built, reason=rtx.availability().detail)
def test_the_real_builder_lists_what_was_recorded(files: Any, tmp_path: Path) -> None:
    """The same layers by kind and types; names and fusions may change with a version of the library."""
    for precision in ("fp16", "int8"):
        rtx.build(getattr(files, precision), tmp_path / "m.engine", compute_capabilities=["SM86"])
        found = json.loads(layers_path(tmp_path / "m.engine").read_text())["engine"]
        known = Counter((layer.compute, layer.outputs[:1]) for layer in recorded(precision) if layer.compute)
        listed = [layer for layer in found["layers"] if layer["kind"] in ("correlation", "runtime_fusion")]
        assert len(listed) >= sum(known.values()) - 1
        assert found["summary"]["written_bytes"] > 0 and found["summary"]["requantise"] == (
            0 if precision == "fp16" else summary(recorded("int8"))["requantise"]
        )
