"""Protects: a model repository says of an engine what is true of it, and what Triton cannot serve is refused.

Whether Triton takes it is tried in `test_tritonserver.py`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.publish import triton
from export.publish.pbtxt import Enum, text_of
from export.publish.source import CannotExport, Source, open_source
from export.publish.triton import Options
from export.publish.triton_release import release_of
from export.runtime.bundle import UNSIGNED
from tests.export.bundle.tiny import NAMES, bundle
from tests.export.publish.stand_in import plan_bundle


def _files(*sources: Source, **options: Any) -> dict[str, bytes]:
    found = triton.repository(sources, Options(**options))
    return {name: data if isinstance(data, bytes) else data() for name, data in found.items()}


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return open_source(bundle(tmp_path_factory.mktemp("onnx")), UNSIGNED)


def _plan(folder: Path, *words: Any, **changes: Any) -> Source:
    return open_source(plan_bundle(folder, *words, **changes), UNSIGNED)


def test_an_onnx_engine_with_an_open_batch(onnx: Source) -> None:
    files = _files(onnx)
    assert files.keys() == {
        "NOTE.md", "tiny/config.pbtxt", "tiny/labels.txt", "tiny/warmup/golden", "tiny/1/model.onnx",
    }  # fmt: skip
    assert files["tiny/1/model.onnx"] == onnx.bundle.read("engine/fp32.onnx")
    assert files["tiny/labels.txt"].decode() == "".join(f"{name}\n" for name in NAMES)
    assert files["tiny/warmup/golden"] == onnx.golden.inputs[0].tobytes()
    config = files["tiny/config.pbtxt"].decode()
    assert config.startswith(
        'name: "tiny"\nbackend: "onnxruntime"\nplatform: "onnxruntime_onnx"\n'
        'default_model_filename: "model.onnx"\nmax_batch_size: 8\n'
        'input {\n  name: "image"\n  data_type: TYPE_UINT8\n  dims: [8, 8, 3]\n}\n'
        'output {\n  name: "logits"\n  data_type: TYPE_FP32\n  dims: [5]\n  label_filename: "labels.txt"\n}\n'
        "instance_group {\n  count: 1\n  kind: KIND_CPU\n}\n"
        "dynamic_batching {\n  max_queue_delay_microseconds: 0\n}\n"
    )
    assert [line for line in config.splitlines() if "batch_size:" in line] == [
        "max_batch_size: 8", "  batch_size: 1", "  batch_size: 8",
    ]  # fmt: skip
    assert "max_batch_size: 2\n" in _files(onnx, max_batch=2)["tiny/config.pbtxt"].decode()
    assert "dynamic_batching" not in _files(onnx, max_batch=1)["tiny/config.pbtxt"].decode()


def test_the_python_backend_runs_the_same_file(onnx: Source) -> None:
    files = _files(onnx, python_backend=True, name="faces")
    assert files["faces/1/model.onnx"] == onnx.bundle.read("engine/fp32.onnx")
    compile(files["faces/1/model.py"], "model.py", "exec")
    config = files["faces/config.pbtxt"].decode()
    assert 'name: "faces"\nbackend: "python"\nmax_batch_size: 8\n' in config
    assert "intra_op_thread_count" in config


def test_a_plan_of_one_batch_size(tmp_path: Path) -> None:
    """Its batch is a dimension; only the GPU that it was built for gets it; the note names the server."""
    source = _plan(tmp_path / "one", l4t="36.4")
    files = _files(source)
    assert files["tiny/1/model.plan"] == b"ftrtSM87"
    config = files["tiny/config.pbtxt"].decode()
    assert 'backend: "tensorrt"\nplatform: "tensorrt_plan"\ndefault_model_filename: "model.plan"\n' in config
    assert 'cc_model_filenames {\n  key: "8.7"\n  value: "model.plan"\n}\nmax_batch_size: 0\n' in config
    assert "dims: [1, 8, 8, 3]" in config
    assert "kind: KIND_GPU" in config
    assert "dynamic_batching" not in config
    note = files["NOTE.md"].decode()
    assert "tritonserver:24.08-py3-igpu" in note
    assert "SM87" in note


@pytest.mark.parametrize(("sizes", "together"), [((1, 4), False), ((1, 2, 3), True)])
def test_a_plan_of_several_batch_sizes(tmp_path: Path, sizes: tuple[int, ...], together: bool) -> None:
    """Requests are put together only where every number of images is taken."""
    files = _files(_plan(tmp_path / "one", batch_sizes=sizes))
    config = files["tiny/config.pbtxt"].decode()
    assert f"max_batch_size: {sizes[-1]}\n" in config
    assert ("dynamic_batching" in config) is together
    assert ("takes no other number" in files["NOTE.md"].decode()) is not together


def test_one_model_of_plans_for_several_gpus(tmp_path: Path) -> None:
    sources = [_plan(tmp_path / sm, [sm]) for sm in ("SM87", "SM120")]
    files = _files(*sources)
    assert files["tiny/1/model_sm87.plan"] == b"ftrtSM87"
    assert files["tiny/1/model_sm120.plan"] == b"ftrtSM120"
    config = files["tiny/config.pbtxt"].decode()
    assert 'key: "8.7"\n  value: "model_sm87.plan"' in config
    assert 'key: "12.0"\n  value: "model_sm120.plan"' in config
    assert "default_model_filename" not in config


def test_what_does_not_belong_together_is_refused(tmp_path: Path, onnx: Source) -> None:
    first = _plan(tmp_path / "first")
    others = {
        "two bundles are for SM87": _plan(tmp_path / "same"),
        "differ in TensorRT": _plan(tmp_path / "version", ["SM89"], version="10.4.0.26"),
        "differ in name": _plan(tmp_path / "name", ["SM89"], name="other"),
        "differ in classes": _plan(tmp_path / "classes", ["SM89"], classes=NAMES[::-1]),
        "differ in batch sizes": replace(_plan(tmp_path / "sizes", ["SM89"]), batch_sizes=(2,)),
        "differ in student": replace(_plan(tmp_path / "student", ["SM89"]), lineage="other"),
        "which ones is not known": _plan(tmp_path / "all", []),
        "only where all are of TensorRT": onnx,
    }
    for message, other in others.items():
        with pytest.raises(CannotExport, match=message):
            triton.repository([first, other], Options())


def test_what_triton_cannot_serve_is_refused(tmp_path: Path, onnx: Source) -> None:
    rtx = _plan(tmp_path / "rtx", backend="tensorrt_rtx", version="1.7.0")
    with pytest.raises(CannotExport, match="TensorRT-RTX, which Triton has no backend for"):
        triton.repository([rtx], Options())
    weights = {"file": "fp32.engine.weights.onnx", "sha256": "0" * 64}
    stripped = _plan(tmp_path / "stripped", facts={"weights": weights})
    with pytest.raises(CannotExport, match="without its weights"):
        triton.repository([stripped], Options())
    with pytest.raises(CannotExport, match="runs ONNX Runtime"):
        triton.repository([_plan(tmp_path / "plan")], Options(python_backend=True))
    for name in ("../up", "a b", ".hidden"):
        with pytest.raises(CannotExport, match="no model of the name"):
            triton.repository([onnx], Options(name=name))


def test_the_server_for_a_version() -> None:
    assert release_of("10.3.0.26") == "24.08"
    assert release_of("8.6.2.3") is None
    assert release_of("") is None


def test_a_version_compatible_plan_says_how(tmp_path: Path) -> None:
    source = _plan(tmp_path / "one", facts={"options": {"version_compatible": True}})
    assert "version-compatible=true" in _files(source)["NOTE.md"].decode()


def test_a_normalised_input_is_warmed_up_with_normalised_values(tmp_path: Path) -> None:
    source = open_source(bundle(tmp_path, layout="float32_nchw"), UNSIGNED)
    files = _files(source)
    assert "data_type: TYPE_FP32\n  dims: [3, 8, 8]" in files["tiny/config.pbtxt"].decode()
    assert files["tiny/warmup/golden"] == source.preprocessing.batch(source.golden.inputs[:1]).tobytes()
    assert len(files["tiny/warmup/golden"]) == np.prod((3, 8, 8)) * 4


def test_text_format() -> None:
    text = text_of([("a", 'é"\\\n'), ("b", Enum("X")), ("c", [1, -2]), ("d", [("e", True)]), ("f", [])])
    assert text == 'a: "\\303\\251\\"\\\\\\012"\nb: X\nc: [1, -2]\nd {\n  e: true\n}\nf: []\n'
