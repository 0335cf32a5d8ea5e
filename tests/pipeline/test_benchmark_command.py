"""`figkd-pipeline benchmark FILE...`: any files from anywhere, without a config; its exit codes and its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.results.latency import BenchmarkDocument
from tests.pipeline.conftest import figkd

FAST = ("--seconds", "0.05", "--threads", "1")


def _network(path: Path, side: int = 8, *, normalises: bool = True, batch: int | str = 1) -> Path:
    """Mean of the image, weighted to two logits; uint8 NHWC or float NCHW in."""
    import numpy as np

    shape = [batch, side, side, 3] if normalises else [batch, 3, side, side]
    kind = TensorProto.UINT8 if normalises else TensorProto.FLOAT
    axes = [1, 2] if normalises else [2, 3]
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "w"], ["logits"]),
    ]
    weights = [
        numpy_helper.from_array(np.ones((3, 2), np.float32), "w"),
        numpy_helper.from_array(np.array(axes, np.int64), "axes"),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 2])], weights,
    )  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Two files of different image sizes, timed once."""
    folder = tmp_path_factory.mktemp("benchmark")
    files = [_network(folder / "a" / "small.onnx", 8), _network(folder / "b" / "large.onnx", 16)]
    done = figkd(
        "benchmark",
        *files,
        *FAST,
        "--streams",
        "2",
        "--output",
        "now.json",
        "--report",
        "page.html",
        "--json",
        cwd=folder,
    )
    assert done.code == 0, done.err
    return folder, done


def test_any_files_side_by_side(measured: tuple[Path, Any]) -> None:
    """Every boundary and number of streams of both; what is printed is what is written."""
    folder, done = measured
    document = BenchmarkDocument.model_validate(done.json)
    assert (folder / "now.json").read_text() == done.out
    rows = {(Path(r.id).name, r.boundary, r.streams) for r in document.latency}
    assert rows == {
        (name, boundary, streams)
        for name in ("small.onnx", "large.onnx")
        for boundary, streams in (
            ("engine", 1), ("engine", 2), ("engine+copies", 1), ("engine+copies", 2), ("image_to_class", 1),
        )
    }  # fmt: skip
    assert all(r.round_medians and r.n >= 10 and sum(c for _, c in r.histogram) > 0 for r in document.latency)
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert (
        page.count("<svg") == 5 and "small.onnx" in page and done.err.rstrip().endswith("report: page.html")
    )
    assert document.packages["onnxruntime"] != "none" and document.machine["before"]["cpu"]["model"]


def test_no_regression_against_an_easy_baseline_and_one_against_a_hard_one(
    measured: tuple[Path, Any], tmp_path: Path
) -> None:
    """Exit 0 and 3, also on a busy machine; the file lies in another folder than it did."""
    folder, _ = measured
    moved = _network(tmp_path / "elsewhere" / "small.onnx", 8)
    for factor, code, judgement in ((1000.0, 0, "faster"), (0.001, 3, "regression")):
        document = json.loads((folder / "now.json").read_text())
        for row in document["latency"]:
            row["median"] *= factor
            row["intervals"]["median"] = [factor * v for v in row["intervals"]["median"]]
            row["round_medians"] = [factor * v for v in row["round_medians"]]
            row["disturbed"] = False
        document["machine"].pop("during")
        (tmp_path / "old.json").write_text(json.dumps(document))
        arguments = ("--baseline", tmp_path / "old.json", "--max-regression", "5%")
        done = figkd("benchmark", moved, *FAST, *arguments, "--json", cwd=tmp_path)
        assert done.code == code, done.err
        assert {change["judgement"] for change in done.json["comparison"]} == {judgement}
        assert ("regression: " in done.err) == (code == 3)


def test_floats_and_batches_and_a_rate(tmp_path: Path) -> None:
    """A graph that does not normalise cannot be given an image; tables go to stdout."""
    net = _network(tmp_path / "f.onnx", normalises=False, batch="batch")
    done = figkd("benchmark", net, *FAST, "--batch", "2", "--rate-fps", "5000", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "5000 fps" in done.out and "image_to_class" not in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "FILE"),
        (("none.onnx",), "no such file"),
        (("junk.onnx",), "cannot be read as ONNX"),
        (("junk.engine",), "needs its sidecar"),
        (("net.onnx", "--batch", "3"), "does not fit the options"),
        (("net.onnx", "--set", "a=b"), "--set needs a CONFIG"),
        (("c.yaml", "--threads", "2"), "is for files without CONFIG"),
        (("net.onnx", "--max-regression", "5%"), "needs --baseline"),
        (("net.onnx", "--report", "net.onnx"), "another file is there"),
        (("net.onnx", "--baseline", "none.json"), "no such file"),
        (("net.onnx", "--baseline", "junk.onnx"), "neither a result.json nor a benchmark"),
        (("net.onnx", "--seconds", "0.05", "--baseline", "other.json"), "has no row of an engine"),
    ],
)
def test_wrong_usage_exits_2(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """One clear message."""
    _network(tmp_path / "net.onnx")
    for name in ("junk.onnx", "junk.engine"):
        (tmp_path / name).write_text("junk")
    empty = BenchmarkDocument(created="", latency=[])
    (tmp_path / "other.json").write_text(empty.model_dump_json())
    done = figkd("benchmark", *arguments, cwd=tmp_path)
    assert done.code == 2 and said in done.err, done.err


def test_open_sizes_are_said_on_the_command_line(tmp_path: Path) -> None:
    """A file with open height and width: exit 2 and what is open without them, a measurement with them."""
    from onnx import load

    path = _network(tmp_path / "a" / "open.onnx", 8)
    model = load(path)
    for place, name in ((1, "H"), (2, "W")):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_param = name
    onnx.save(model, path)
    refused = figkd("benchmark", path, *FAST, cwd=tmp_path)
    assert refused.code == 2 and "image: uint8 [1, H, W, 3]" in refused.err and "--size 224" in refused.err
    assert figkd("benchmark", path, *FAST, "--dim", "H", cwd=tmp_path).code == 2
    done = figkd("benchmark", path, *FAST, "--size", "8", "--json", cwd=tmp_path)
    assert done.code == 0 and done.json["latency"], done.err
