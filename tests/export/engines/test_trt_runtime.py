"""Protects: building for, loading on and running on a GPU, as far as that is logic and not a GPU.

CUDA and TensorRT are the stand-ins of stand_ins.py. What a real GPU does with the same calls is checked by
benchmarks/gpu/engines.py.
"""

from __future__ import annotations

import base64
import inspect
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.engines.options import TensorRTOptions
from export.engines.sidecar import sidecar_path
from export.engines.tensorrt import TensorRTBackend
from export.engines.trt_layers import layers_path
from export.errors import BackendMissing, BuildError, EngineError
from export.runtime import cudart
from export.runtime.cudart import Graph, Stream
from export.runtime.remedies import Skipped
from export.runtime.sampling import Limits
from tests.export.engines.stand_ins import COMPUTE_MS, COPY_MS, Cuda, Error, tensorrt

VERSION = "10.13.3.9"
CLASSES, SIDE = 5, 4
RECORD = json.loads(Path(__file__).with_name("surface.json").read_text())


@dataclass
class Bench:
    """A machine with a GPU and TensorRT."""

    gpu: Cuda
    trt: Any
    backend: TensorRTBackend
    onnx: Path
    folder: Path

    def build(self, name: str = "m.engine", sizes: tuple[int, ...] = (1, 4), **options: Any) -> Path:
        out = self.folder / name
        self.backend.build(self.onnx, out, batch_sizes=sizes, tensorrt=TensorRTOptions(**options))
        return out

    @property
    def config(self) -> Any:
        """The builder's config of the last build."""
        return self.trt._state.configs[-1]


def model(path: Path) -> Path:
    """uint8 images to logits: logit[c] = (c + 1) * mean(image)."""
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], "to_float", to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "w"], ["logits"], "classify"),
    ]
    pixels = SIDE * SIDE * 3
    values = [(c + 1) / pixels for c in range(CLASSES)] * pixels
    weight = helper.make_tensor("w", TensorProto.FLOAT, [pixels, CLASSES], values)
    shapes = (["batch", SIDE, SIDE, 3], ["batch", CLASSES])
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shapes[0])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shapes[1])],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    gpu = Cuda()
    trt = tensorrt(gpu, VERSION)
    monkeypatch.setattr(cudart, "loaded", gpu.runtime)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    return Bench(gpu, trt, TensorRTBackend("tensorrt"), model(tmp_path / "net.onnx"), tmp_path)


def images(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def expected(batch: Any) -> Any:
    return batch.reshape(len(batch), -1).mean(1, keepdims=True) * np.arange(1, CLASSES + 1)


def test_the_stand_ins_have_no_name_that_the_real_ones_lack() -> None:
    """Else these tests would pass on calls that fail on a GPU."""
    column = RECORD["columns"].index(f"tensorrt {VERSION}")
    real = {name for name, marks in RECORD["names"].items() if marks[column] == "1"}
    trt: ModuleType = tensorrt(Cuda(), VERSION)
    mine: set[str] = set()
    for name, value in vars(trt).items():
        if name.startswith("_"):
            continue
        mine.add(name)
        if inspect.isclass(value):
            names = value.__members__ if hasattr(value, "__members__") else vars(value)
            mine |= {f"{name}.{member}" for member in names if not member.startswith("_")}
    assert len(mine) > 80 and sorted(mine - real) == []
    try:
        library = cudart.load()
    except BackendMissing:
        pytest.skip("no libcudart here")
    calls = {name for name in dir(Cuda()) if name.startswith("cuda")}
    assert len(calls) > 20 and [name for name in sorted(calls) if not hasattr(library, name)] == []


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", VERSION, "11.4.0.106"])
def test_the_stand_ins_methods_take_what_the_real_ones_take(version: str) -> None:
    """So that a call with too many arguments, or too few, fails here."""
    column = RECORD["columns"].index(f"tensorrt {version}")
    real: dict[str, list[list[str]]] = {}
    for entry, marks in RECORD["parameters"].items():
        path, _, parameters = entry.rstrip(")").partition("(")
        if marks[column] == "1":
            real.setdefault(path, []).append(parameters.split(", ") if parameters else [])
    compared = 0
    for name, kind in vars(tensorrt(Cuda(), version)).items():
        for member, method in vars(kind).items() if inspect.isclass(kind) else ():
            path = f"{name}.{member}"
            if path not in real or not inspect.isfunction(method):
                continue
            mine = len(inspect.signature(method).parameters) - 1
            fits = [sum(not p.endswith("=") for p in each) <= mine <= len(each) for each in real[path]]
            assert any(fits), path
            compared += 1
    assert compared > 25


def test_a_driver_that_does_not_work_is_a_clear_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.backend.availability().compute_capability == "SM89"
    broken = lambda attribute, device: (Error.cudaErrorMemoryAllocation, None)  # noqa: E731
    monkeypatch.setattr(bench.gpu, "cudaDeviceGetAttribute", broken)
    here = bench.backend.availability()
    assert (here.built, here.run) == (False, False) and "cudaDeviceGetAttribute" in here.detail


def test_inference_switches_profiles_and_pads(bench: Bench) -> None:
    """11 images through profiles of 1 and 4: 4 + 4 + 3 padded to 4; then one image in its own profile."""
    engine = bench.backend.load(bench.build())
    for count in (11, 1, 4, 2):
        batch = images(count, count)
        np.testing.assert_allclose(engine.infer(batch), expected(batch), rtol=1e-5)
    with pytest.raises(EngineError, match="uint8 images"):
        engine.infer(images(1).astype(np.float32))
    engine.close()
    assert bench.gpu.leaks() == {}
    with pytest.raises(EngineError, match="closed"):
        engine.infer(images(1))


def test_the_engine_boundary_is_compute_alone(bench: Bench) -> None:
    engine = bench.backend.load(bench.build())
    before = set(map(str, bench.gpu.leaks().items()))
    found = engine.time(images(4), Limits(0, 20, 0, 5))
    assert set(found.arrays) == {"latency", "compute", "enqueue"} and len(found.latency) == 20
    assert (found.latency == COMPUTE_MS).all() and (found.arrays["enqueue"] > 0).all()
    assert found.notes == ("CUDA graph",)
    assert {"device", "pinned", "stream"} == set(
        bench.gpu.leaks()
    )  # kept for the next call; events and graph are not
    engine.time(images(4), Limits(0, 2))
    assert set(map(str, bench.gpu.leaks().items())) != before
    engine.close()
    assert bench.gpu.leaks() == {}


def test_with_copies_one_query_at_a_time(bench: Bench) -> None:
    """A single camera's latency: nothing of another query overlaps it."""
    engine = bench.backend.load(bench.build(sizes=(4,)))
    engine.infer(images(4))
    begin = len(bench.gpu.log)
    found = engine.time(images(4), Limits(0, 10), boundary="engine+copies")
    assert found.notes == ("CUDA graph",)
    for part, ms in (
        ("h2d", COPY_MS),
        ("compute", COMPUTE_MS),
        ("d2h", COPY_MS),
        ("latency", 2 * COPY_MS + COMPUTE_MS),
    ):
        np.testing.assert_allclose(found.arrays[part], ms)
    query = ["0:up", "0:graph compute", "0:down", "event:synchronize"]
    steps = [step for step in bench.gpu.log[begin:] if step in query]
    assert steps[-44:] == 11 * query  # the first one warms up
    engine.close()
    assert bench.gpu.leaks() == {}


def test_without_a_graph_the_work_is_enqueued(bench: Bench) -> None:
    engine = bench.backend.load(bench.build())
    bench.gpu.capturable = False
    found = engine.time(images(1), Limits(0, 3))
    assert "plain enqueue: capture failed" in found.notes[0] and "0:graph compute" not in bench.gpu.log
    np.testing.assert_allclose(engine.infer(images(2)), expected(images(2)), rtol=1e-5)
    engine.close()
    assert bench.gpu.leaks() == {}


@pytest.mark.parametrize("failing", ["what is captured", "cudaGraphInstantiateWithFlags"])
def test_a_graph_that_fails_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Protects the GPU's memory: what was captured until then is destroyed."""
    cuda = bench.gpu.runtime()
    stream = Stream(cuda)

    def enqueue() -> None:
        if failing == "what is captured":
            raise EngineError("it cannot be enqueued", "")

    monkeypatch.setattr(
        bench.gpu, "cudaGraphInstantiateWithFlags", lambda *_: (Error.cudaErrorMemoryAllocation, None)
    )
    with pytest.raises(EngineError, match="enqueued" if failing == "what is captured" else failing):
        Graph(cuda, stream, enqueue)
    assert bench.gpu.leaks() == {"stream": 1}
    stream.close()


@pytest.mark.parametrize("boundary", ["engine", "engine+copies"])
def test_queries_have_lanes_of_their_own(bench: Bench, boundary: Any) -> None:
    engine = bench.backend.load(bench.build())
    queries = engine.queries(images(4), boundary=boundary, streams=3)
    assert len(queries) == 3 and len(bench.gpu.live["stream"]) == 3
    bench.gpu.log.clear()
    for query in queries:
        query()
    one = (
        ["graph compute", "synchronize"]
        if boundary == "engine"
        else ["up", "graph compute", "down", "synchronize"]
    )
    assert bench.gpu.log == [f"{lane}:{step}" for lane in range(3) for step in one]
    engine.close()
    assert bench.gpu.leaks() == {}


def test_queries_of_several_sizes_may_take_turns(bench: Bench) -> None:
    """A graph is of no use once its lane has served another size, and enqueueing would write past its buffers."""
    engine = bench.backend.load(bench.build())
    small, large = images(1, 1), images(4, 2)
    ones, fours = (engine.queries(batch, boundary="engine+copies", streams=2) for batch in (small, large))
    for _ in range(2):
        for query, batch in ((ones[0], small), (fours[1], large), (fours[0], large), (ones[1], small)):
            query()
            np.testing.assert_allclose(query._slot.target.host, expected(batch), rtol=1e-5)
        engine.infer(images(3))
    again = engine.queries(large + 1, boundary="engine+copies")
    again[0]()
    np.testing.assert_allclose(again[0]._slot.target.host, expected(large + 1), rtol=1e-5)
    assert len(bench.gpu.live["exec"]) == 4  # one a query, however often they were captured
    engine.close()
    assert bench.gpu.leaks() == {}


def test_a_full_gpu_is_said(bench: Bench) -> None:
    engine = bench.backend.load(bench.build())
    bench.gpu.memory = 10
    with pytest.raises(EngineError, match=r"cudaMalloc.*cudaErrorMemoryAllocation"):
        engine.infer(images(4))
    engine.close()
    assert bench.gpu.leaks() == {}


def test_each_batch_size_gets_a_profile_and_each_option_its_place(bench: Bench) -> None:
    bench.build(
        sizes=(8, 1), optimization_level=5, workspace_mb=64, tactic_dram_mb=128, version_compatible=True,
        hardware_compatibility="same_compute_capability",
    )  # fmt: skip
    config = bench.config
    assert [p._shapes["image"] for p in config._profiles] == [(1, SIDE, SIDE, 3), (8, SIDE, SIDE, 3)]
    assert config._pools == {"WORKSPACE": 64 << 20, "TACTIC_DRAM": 128 << 20}
    assert config.builder_optimization_level == 5 and config._flags == ["VERSION_COMPATIBLE"]
    assert config.hardware_compatibility_level.name == "SAME_COMPUTE_CAPABILITY"
    assert config.profiling_verbosity.name == "DETAILED"
    engine = bench.backend.load(bench.folder / "m.engine")
    assert engine._runtime.engine_host_code_allowed is True


def test_one_batch_size_is_static(bench: Bench) -> None:
    bench.build(sizes=(4,))
    assert bench.config._profiles == []


def test_strong_typing_is_the_default_and_weak_typing_a_switch(bench: Bench) -> None:
    """Weakly typed, the library may use the precisions that the file has, and no others."""
    from export.engines.trt_fit import precision_flags
    from export.engines.trt_versions import dialect

    strong, weak = bench.build("strong.engine"), bench.build("weak.engine", strong_typing=False)
    assert json.loads(strong.read_text())["typed"] and not json.loads(weak.read_text())["typed"]
    facts = json.loads((bench.folder / "weak.engine.json").read_text())
    assert facts["options"]["strong_typing"] is False
    assert bench.config._flags == []  # an FP32 file stays FP32
    half = onnx.load(bench.onnx)
    half.graph.initializer[0].data_type = TensorProto.FLOAT16
    assert precision_flags(half, dialect("tensorrt", VERSION)) == ["FP16"]
    half.graph.node.add(op_type="QuantizeLinear", input=["w", "s"], output=["q"])
    assert precision_flags(half, dialect("tensorrt", VERSION)) == ["FP16", "INT8"]


def test_a_version_without_strong_typing_is_told_flags_and_layers(bench: Bench, files: Any) -> None:
    """TensorRT 8.6 gets FP32 values of opset 17 and may choose FP16, but where FP16's range was left."""
    from export.precision import to_fp16

    bench.trt.__version__ = "8.6.1"
    half = bench.folder / "half.onnx"
    to_fp16(files.fp32, half, keep_fp32=["HardSwish"])
    info = bench.backend.build(half, bench.folder / "m.engine", batch_sizes=[1, 4])
    assert "8.6.1 chose FP32 or FP16" in info.remark and "held in FP32" in info.remark
    assert info.options["strong_typing"] is False
    assert bench.config._flags == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
    held = bench.trt._state.held
    assert any(name.endswith("HardSwish") for name in held) and not any(
        name.endswith("Conv") for name in held
    )
    assert set(map(tuple, held.values())) == {("FLOAT", "FLOAT")}
    plan = json.loads((bench.folder / "m.engine").read_text())
    parsed = onnx.load_from_string(base64.b64decode(plan["model"]))
    assert parsed.opset_import[0].version == 17
    assert TensorProto.FLOAT16 not in {tensor.data_type for tensor in parsed.graph.initializer}
    assert onnx.load(half).opset_import[0].version == 20  # the file itself is left alone


def test_timing_caches_are_kept_per_version_device_and_kind(bench: Bench) -> None:
    caches = bench.folder / "caches"
    bench.build(timing_caches=caches)
    bench.build(timing_caches=caches)
    assert bench.trt._state.known == [set(), {"to_float", "flatten", "classify"}]
    bench.build(timing_caches=caches, strong_typing=False)
    bench.gpu.name = "Other GPU"
    bench.build(timing_caches=caches)
    assert sorted(path.name for path in caches.glob("*.cache")) == [
        f"timing_tensorrt_{VERSION}_Other-GPU_SM89_x86-64_fp32.cache",
        f"timing_tensorrt_{VERSION}_Test-GPU_SM89_x86-64_fp32-weak.cache",
        f"timing_tensorrt_{VERSION}_Test-GPU_SM89_x86-64_fp32.cache",
    ]
    assert bench.trt._state.known[2:] == [set(), set()]


def test_a_stripped_engine_is_refitted_when_loaded(bench: Bench) -> None:
    path = bench.build(strip_weights=True)
    assert bench.config._flags == ["STRIP_PLAN", "REFIT_IDENTICAL"]
    weights = bench.folder / "m.engine.weights.onnx"
    engine = bench.backend.load(path)
    np.testing.assert_allclose(
        engine.infer(images(3)), expected(images(3)), rtol=1e-5
    )  # zeros without weights
    moved = bench.folder / "moved.engine"
    for suffix in ("", ".json", ".weights.onnx"):
        (bench.folder / f"m.engine{suffix}").rename(bench.folder / f"moved.engine{suffix}")
    bench.backend.load(moved)
    weights = bench.folder / "moved.engine.weights.onnx"
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(
        EngineError, match=r"without its weights, and moved.engine.weights.onnx is missing or another"
    ):
        bench.backend.load(moved)
    weights.unlink()
    with pytest.raises(EngineError, match=r"put moved.engine.weights.onnx beside it"):
        bench.backend.load(moved)


def test_the_engines_layers_are_asked_for_where_there_is_a_gpu(bench: Bench) -> None:
    path = bench.build()
    found = json.loads(layers_path(path).read_text())
    assert found["engine"]["summary"] == {
        "layers": 1, "reformats": 0, "requantise": 0, "compute": {}, "by_output": {"half": 1}, "written_bytes": None,
    }  # fmt: skip
    assert [layer["name"] for layer in found["engine"]["layers"]] == ["all"]
    assert [layer["name"] for layer in found["network"]["layers"]] == ["to_float", "flatten", "classify"]
    facts = json.loads((bench.folder / "m.engine.json").read_text())
    assert facts["composition"]["engine"]["by_output"] == {"half": 1}


def test_the_sidecar_names_all_that_binds_the_engine(bench: Bench) -> None:
    bench.build()
    facts = json.loads((bench.folder / "m.engine.json").read_text())
    assert facts["versions"] == {"tensorrt": VERSION} and facts["compute_capability"] == ["SM89"]
    assert (facts["device"], facts["platform"], facts["l4t"]) == ("Test GPU", "x86_64", "")
    assert facts["source"]["file"] == "net.onnx" and len(facts["source"]["sha256"]) == 64
    assert "timing_caches" not in facts["options"] and facts["options"]["hardware_compatibility"] == "none"
    assert str(bench.folder) not in json.dumps(facts)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "Other GPU"}, "built on Test GPU, this GPU is Other GPU"),
        ({"capability": (12, 0)}, r"is for SM89, this GPU is SM120 \(Test GPU\)"),
    ],
)
def test_a_foreign_engine_is_refused_with_the_rebuild_command(
    bench: Bench, change: dict[str, Any], says: str
) -> None:
    path = bench.build()
    for name, value in change.items():
        setattr(bench.gpu, name, value)
    with pytest.raises(EngineError, match=says) as caught:
        bench.backend.load(path)
    assert (
        f"python -P -m export build net.onnx {path} --backend tensorrt --batch-sizes 1 4" in caught.value.fix
    )


def test_another_version_is_refused(bench: Bench) -> None:
    path = bench.build()
    bench.trt.__version__ = "11.4.0.106"
    with pytest.raises(EngineError, match=r"built by tensorrt 10\.13\.3\.9, here is 11\.4\.0\.106"):
        bench.backend.load(path)


def test_a_truncated_engine_is_refused(bench: Bench) -> None:
    path = bench.build()
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(EngineError, match=rf"m.engine is cut off: {size - 7:,} of {size:,} bytes") as caught:
        bench.backend.load(path)
    assert "python -P -m export build net.onnx" in caught.value.fix


def test_a_failing_build_leaves_nothing(bench: Bench) -> None:
    bench.trt._state.refuse_build = "Could not find any implementation for node classify."
    with pytest.raises(BuildError, match=r"at node classify \(operator MatMul\): Could not find") as caught:
        bench.build()
    assert "workspace_mb" in caught.value.fix
    assert sorted(path.name for path in bench.folder.iterdir()) == ["net.onnx"]


def test_skipped_tactics_are_counted_and_leave_the_sidecar_alone(bench: Bench) -> None:
    """What memory was free on one day is no property of the engine's file."""
    bench.trt._state.warnings = [
        "Tactic Device request: 600MB Available: 302MB. Device memory is insufficient to use tactic.",
        "UNSUPPORTED_STATE: Skipping tactic 33 due to insufficient memory on requested size of 629145600 detected",
        "Detected layernorm nodes in FP16.",
    ]
    out = bench.folder / "skipped.engine"
    assert bench.backend.build(bench.onnx, out).skipped_tactics == Skipped(1, 600)
    assert "skipped_tactics" not in sidecar_path(out).read_text()
    bench.trt._state.warnings = []
    assert bench.backend.build(bench.onnx, out).skipped_tactics is None


def test_a_library_that_makes_no_builder_says_why(bench: Bench) -> None:
    """TensorRT 8.6 warns that the driver is too old, and Python sees a TypeError of pybind11."""
    bench.trt._state.no_builder = (
        "CUDA initialization failure with error: 35. Please check your CUDA installation"
    )
    with pytest.raises(BuildError, match="cannot start: CUDA initialization failure") as caught:
        bench.backend.build(bench.onnx, bench.folder / "m.engine")
    assert "580" in caught.value.fix and "too old" in caught.value.what


def test_memory_that_ran_out_while_building_is_told_with_the_remedy(bench: Bench) -> None:
    """The texts that the devices send, too: one table."""
    bench.trt._state.refuse_build = "Error Code 2: OutOfMemory (no further information)"
    with pytest.raises(BuildError, match="OutOfMemory") as caught:
        bench.backend.build(bench.onnx, bench.folder / "m.engine")
    assert "workspace_mb" in caught.value.fix
