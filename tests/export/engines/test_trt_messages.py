"""Protects: what the parser and the builder say becomes one message with the node, the operator and a fix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.engines import BACKENDS
from export.engines.trt_messages import mentioned, nodes_of
from export.errors import BuildError
from export.runtime.trt_build import build_failure, parse_failure

ROOT = Path(__file__).parents[3]
rtx = BACKENDS["tensorrt_rtx"]
needs_rtx = pytest.mark.skipif(not rtx.availability().built, reason=rtx.availability().detail)


def model(operator: str = "Relu", domain: str = "", **attributes: Any) -> onnx.ModelProto:
    """A convolution, then `operator`."""
    weight = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "stem_conv", pads=[1, 1, 1, 1]),
        helper.make_node(operator, ["c"], ["y"], "the_culprit", domain=domain, **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("my.domain", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@needs_rtx
@pytest.mark.parametrize(
    ("operator", "domain"), [("Det", ""), ("Bernoulli", ""), ("MyOperator", "my.domain")]
)
def test_an_unsupported_operator_is_named_with_its_node(tmp_path: Path, operator: str, domain: str) -> None:
    """The real parser: it says "false", or that a plugin was not found."""
    path = tmp_path / "net.onnx"
    path.write_bytes(model(operator, domain).SerializeToString())
    with pytest.raises(BuildError) as caught:
        rtx.build(path, tmp_path / "net.engine", compute_capabilities=["SM86"])
    what = caught.value.what
    assert (
        f"cannot read net.onnx: node the_culprit (operator {operator}): the operator is not supported" in what
    )
    assert "engine: onnxruntime" in caught.value.fix
    assert not (tmp_path / "net.engine").exists()


def test_before_tensorrt_10_the_node_is_found_by_its_index() -> None:
    """There, errors have a number and no name."""
    error = SimpleNamespace(
        desc=lambda: "false", code=lambda: SimpleNamespace(name="UNSUPPORTED_NODE"), node=lambda: 1
    )
    log = SimpleNamespace(errors=[], warnings=[])
    found = parse_failure("tensorrt 8.6.1", "net.onnx", [error], log, nodes_of(model("Det")))
    assert "node the_culprit (operator Det): the operator is not supported" in found.what
    alone = parse_failure("tensorrt 8.6.1", "net.onnx", [error], log)
    assert alone.said == ["the operator is not supported"], "what a device says"


def test_many_errors_are_not_a_wall_of_text() -> None:
    def error(index: int) -> Any:
        return SimpleNamespace(
            desc=lambda: "no", code=lambda: SimpleNamespace(name="UNSUPPORTED_NODE_ATTR"), node=lambda: -1,
            node_name=lambda: f"n{index}", node_operator=lambda: "Resize",
        )  # fmt: skip

    log = SimpleNamespace(errors=[], warnings=[])
    found = parse_failure("tensorrt 10.3.0", "net.onnx", [error(i) for i in range(5)], log)
    assert found.what.count("operator Resize") == 3 and found.what.endswith("; and 2 more")
    assert (
        parse_failure("t", "net.onnx", [], log).what == "t cannot read net.onnx: the library gave no reason"
    )


@pytest.mark.parametrize(
    ("said", "node", "fix"),
    [
        (
            "[optimizer.cpp::computeCosts::4048] Error Code 10: Internal Error (Could not find any implementation for "
            "node {ForeignNode[stem_conv...the_culprit]}.)",
            "node stem_conv (operator Conv), node the_culprit (operator Relu)",
            "no kernel at this precision",
        ),
        ("Error Code 2: OutOfMemory (no further information) out of memory in stem_conv + the_culprit",
         "node stem_conv (operator Conv)", "workspace_mb"),
        ("Unable to load library: libnvinfer_lean.so.10", "", "version_compatible: false"),
    ],
)  # fmt: skip
def test_the_builders_errors_name_onnx_nodes(said: str, node: str, fix: str) -> None:
    found = build_failure(
        "tensorrt 10.3.0", "net.onnx", SimpleNamespace(errors=[said, said], warnings=[]), nodes_of(model())
    )
    assert "cannot build an engine from net.onnx" in found.what and node in found.what and fix in found.fix
    assert found.what.count(said) == 1


def test_only_whole_names_count_as_mentioned() -> None:
    assert mentioned("stem_conv2 the_culprits", model()) == []


_OLD_BUILDER = """
import gc, sys
from export.engines import BACKENDS
from export.errors import BuildError
from export.runtime import trt_build
from export.runtime.trt_library import RTX, library, make_logger

trt = library(RTX)

def collecting(trt, emit=None):
    "A logger in which the collector runs, if it may: without this it does so now and then."
    log = make_logger(trt, emit)
    kind = type(log)
    plain = kind.log
    def collect(self, severity, message):
        if gc.isenabled():
            gc.collect()
        plain(self, severity, message)
    kind.log = collect
    return log

gc.set_threshold(10**8)
circle = [trt.Builder(make_logger(trt))]
circle.append(circle)
del circle  # only the collector ends this builder
trt_build.make_logger = collecting
try:
    BACKENDS[RTX].build(sys.argv[1], sys.argv[2], compute_capabilities=["SM86"])
except BuildError:
    print("refused", gc.isenabled())
"""


@needs_rtx
def test_the_collector_does_not_end_an_old_builder_while_a_new_one_is_made(tmp_path: Path) -> None:
    """Protects against a process that hangs: the old one's end waits for what the library holds while it logs."""
    (tmp_path / "net.onnx").write_bytes(model("Det").SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", _OLD_BUILDER, tmp_path / "net.onnx", tmp_path / "net.engine"],
        capture_output=True, text=True, timeout=60, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout == "refused True\n", done.stderr
