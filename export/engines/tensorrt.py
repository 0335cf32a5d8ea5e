"""TensorRT and TensorRT-RTX: one code path, two module names.

Networks are strongly typed: precision is what the ONNX file says. TensorRT-RTX builds ahead of time for named
compute capabilities and needs no GPU to do so; TensorRT builds on the GPU that will run the engine.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_format

from export import graph
from export.engines import cuda
from export.engines.batches import check_batch, check_input, in_batches
from export.engines.protocol import Array, Availability, Boundary, EngineInfo, Query, Samples
from export.engines.sampling import sample
from export.engines.sidecar import read_sidecar, write_sidecar
from export.engines.trt_versions import Dialect, dialect
from export.errors import BackendMissing, BuildError, EngineError
from export.files import sha256, write_bytes
from export.progress import Progress, no_progress

_MODULES = {"tensorrt": ("tensorrt",), "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
_INSTALL = {
    "tensorrt": "pip install tensorrt (desktop), or apt install python3-libnvinfer on a Jetson",
    "tensorrt_rtx": "pip install tensorrt_rtx_cu13 (x86-64 Linux)",
}
_DTYPES = {"UINT8": "uint8", "FLOAT": "float32", "HALF": "float16"}
# Messages of the library for which a remedy is known.
_REMEDIES = (
    (
        "FP32 GEMM is not supported",
        "Turing (SM75) takes no FP32: build it from the FP16 file, apart from the others",
    ),
    ("Non-zero zero point", "this is the ONNX Runtime layout; build from the INT8 file made for TensorRT"),
    ("has type Int32", "this is the ONNX Runtime layout; build from the INT8 file made for TensorRT"),
    ("out of memory", "lower workspace_mb, or free memory on the GPU"),
)


class TensorRTBackend:
    """Either library, by module name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def availability(self) -> Availability:
        """What this machine can do; never raises."""
        try:
            trt, chosen = self._library()
        except BackendMissing as error:
            return Availability(False, False, error.what, error.fix)
        except Exception as error:
            return Availability(False, False, f"{self.name} cannot be used: {error}", _INSTALL[self.name])
        version = str(trt.__version__)
        count, reason = cuda.probe()
        builds = count > 0 or chosen.compute_capabilities
        detail = f"{self.name} {version}" + ("" if count else f"; {reason}")
        fix = "" if count else "run engines on a machine with an NVIDIA GPU and its driver"
        return Availability(builds, count > 0, detail, fix, {self.name: version})

    def build(
        self,
        onnx: Path,
        out: Path,
        *,
        batch_sizes: Sequence[int] = (1,),
        compute_capabilities: Sequence[str] = (),
        workspace_mb: int | None = None,
        optimization_level: int | None = None,
        timing_cache: Path | None = None,
        threads: int | None = None,
        progress: Progress = no_progress,
    ) -> EngineInfo:
        """Build a plain engine file.

        Args:
            onnx: FP32, FP16 or TensorRT-layout INT8 file.
            out: where to write; nothing is written on failure.
            batch_sizes: one size makes a static engine; several need a dynamic file and get a profile each.
            compute_capabilities: `"SM86"` and so on, TensorRT-RTX only; empty is its portable default
                (Ampere, Ada, Blackwell and later).
            workspace_mb: limit of scratch memory, in MiB.
            optimization_level: 0 to 5, TensorRT only (TensorRT-RTX ignores it).
            timing_cache: read if it exists and rewritten, TensorRT only.
            threads: unused.
            progress: called with the builder's top-level steps.

        Raises:
            BackendMissing: the library is absent or too old.
            BuildError: no GPU where one is needed, an unknown compute capability, or the library's reason for
                failing, with the node where it names one.
        """
        start = time.perf_counter()
        trt, chosen = self._library()
        if not chosen.compute_capabilities:
            count, reason = cuda.probe()
            if count == 0:
                raise BuildError(
                    f"{self.name} builds on the GPU that runs the engine: {reason}",
                    "build on the target machine",
                )
        model = graph.load_model(Path(onnx))
        sizes = tuple(sorted({int(size) for size in batch_sizes}))
        _check_model(self.name, chosen, model, Path(onnx), sizes)
        targets = _targets(trt, chosen, compute_capabilities)

        out = Path(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=out.parent) as folder:
            source = Path(onnx)
            if len(sizes) == 1 and graph.batch_size(model) is None:
                graph.fix_batch(model, sizes[0])
                source = Path(folder) / "fixed.onnx"
                graph.save_model(model, source)
            blob, facts = _build(
                trt, chosen, source, sizes, targets, workspace_mb, optimization_level, timing_cache, progress
            )
        write_bytes(out, blob)
        info = EngineInfo(
            file=str(out),
            bytes=len(blob),
            build_seconds=time.perf_counter() - start,
            backend=self.name,
            versions={self.name: str(trt.__version__)},
            compute_capability=tuple(targets) if chosen.compute_capabilities else (_current_capability(),),
            batch_sizes=sizes,
            inputs=tuple(facts["inputs"]),
            outputs=tuple(facts["outputs"]),
            layers=int(facts["layers"]),
            sha256=sha256(out),
            device="" if chosen.compute_capabilities else cuda.device_name(),
        )
        write_sidecar(info, out)
        return info

    def load(
        self,
        path: Path,
        *,
        threads: int | None = None,
        provider: str | None = None,
        spinning: bool = True,
        denormals_as_zero: bool = False,
    ) -> TensorRTEngine:
        """Load an engine that this package built, on the GPU that it was built for.

        Raises:
            BackendMissing: the library is absent or too old.
            EngineError: no GPU; the file is missing, changed, of another library version or for another GPU.
        """
        trt, _ = self._library()
        rebuild = f"build it again with {self.name} {trt.__version__} on this machine"
        facts = read_sidecar(Path(path), self.name, rebuild)
        built_with = facts["versions"].get(self.name)
        if built_with != str(trt.__version__):
            raise EngineError(
                f"{Path(path).name} was built by {self.name} {built_with}, here is {trt.__version__}; "
                "engines load in the same version only",
                rebuild,
            )
        count, reason = cuda.probe()
        if count == 0:
            raise EngineError(
                f"{Path(path).name} is built, not run: {reason}",
                "run it on a machine with an NVIDIA GPU and its driver",
            )
        here, name = _current_capability(), cuda.device_name()
        wanted = facts["compute_capability"]
        if wanted and here not in wanted:
            raise EngineError(
                f"{Path(path).name} is for {', '.join(wanted)}, this GPU is {here} ({name})", rebuild
            )
        if facts["device"] and facts["device"] != name:
            raise EngineError(
                f"{Path(path).name} was built on {facts['device']}, this GPU is {name}", rebuild
            )
        return TensorRTEngine(self.name, trt, Path(path), facts)

    def _library(self) -> tuple[Any, Dialect]:
        failure: Exception | None = None
        for module in _MODULES[self.name]:
            try:
                trt = importlib.import_module(module)
                return trt, dialect(self.name, str(trt.__version__))
            except BackendMissing:
                raise
            except Exception as error:  # ImportError, or a missing shared library in whatever guise
                failure = failure or error
        if isinstance(failure, ModuleNotFoundError):
            raise BackendMissing(f"{self.name} is not installed", _INSTALL[self.name])
        raise BackendMissing(f"{self.name} cannot be imported: {failure}", _INSTALL[self.name])


class TensorRTEngine:
    """A deserialised engine with one input and one output, on CUDA device 0. Needs a GPU."""

    def __init__(self, name: str, trt: Any, path: Path, sidecar: dict[str, Any]) -> None:
        self.backend = name
        self._trt = trt
        self._log = _logger(trt)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineError(
                f"{path.name} cannot be loaded: {_reason(self._log)}", "build it again on this machine"
            )
        self._stream = cuda.Stream()
        self._buffers: dict[int, tuple[cuda.Buffer, cuda.Buffer]] = {}
        self._context = self._make_context()
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        outputs = [n for n in names if n not in inputs]
        if len(inputs) != 1 or len(outputs) != 1:
            raise EngineError(
                f"{path.name} has {len(inputs)} inputs and {len(outputs)} outputs; one of each is needed"
            )
        self._input, self._output = inputs[0], outputs[0]
        self.input_shape: tuple[int, ...] = tuple(self._engine.get_tensor_shape(self._input))[1:]
        self.input_dtype: str = _DTYPES[self._engine.get_tensor_dtype(self._input).name]
        self._output_dtype = np.dtype(_DTYPES[self._engine.get_tensor_dtype(self._output).name])
        self._classes = int(tuple(self._engine.get_tensor_shape(self._output))[1])
        self.batch_sizes: tuple[int, ...] = tuple(sidecar["batch_sizes"])
        self.facts: dict[str, Any] = {
            "device": cuda.device_name(),
            "compute_capability": _current_capability(),
            name: str(trt.__version__),
        }

    def infer(self, images: Array) -> Array:
        """Logits float32 [N, C] of `images` [N, ...]."""
        check_input(images, self.input_shape, self.input_dtype)
        return in_batches(images, self.batch_sizes, self._run)

    def time(
        self,
        batch: Array,
        *,
        boundary: Boundary = "engine",
        warmup_s: float = 0.2,
        min_samples: int = 1000,
        min_seconds: float = 0.0,
        max_seconds: float = 10.0,
    ) -> Samples:
        """CUDA-event times of one query at a time, in trtexec's terms.

        `engine`: GPU compute alone, input resident (`compute`, equal to `latency`). `engine+copies`: copies
        from and to pinned host memory as well (`h2d`, `compute`, `d2h`; `latency` is their sum). `enqueue` is
        host time. The work is launched as a CUDA graph where it can be captured; `notes` says so.
        """
        check_input(batch, self.input_shape, self.input_dtype)
        check_batch(len(batch), self.batch_sizes)
        if boundary not in ("engine", "engine+copies"):
            raise EngineError(f"unknown timing boundary {boundary!r}", "use 'engine' or 'engine+copies'")
        self._run(batch)  # selects the profile, fills the input; shapes must settle before a capture
        source, target = self._buffers[len(batch)]
        captured, note = self._capture()
        launch: Callable[[], None] = (
            self._enqueue if captured is None else (lambda: captured.launch(self._stream))
        )
        events = [cuda.Event() for _ in range(4)]
        copies = boundary == "engine+copies"
        handle = self._stream.handle

        def step() -> dict[str, float]:
            events[0].record(self._stream)
            if copies:
                source.upload(handle)
            events[1].record(self._stream)
            begin = time.perf_counter_ns()
            launch()
            enqueue = (time.perf_counter_ns() - begin) / 1e6
            events[2].record(self._stream)
            if copies:
                target.download(handle)
            events[3].record(self._stream)
            self._stream.synchronize()
            compute = events[2].since(events[1])
            if not copies:
                return {"latency": compute, "compute": compute, "enqueue": enqueue}
            h2d, d2h = events[1].since(events[0]), events[3].since(events[2])
            return {
                "latency": h2d + compute + d2h,
                "h2d": h2d,
                "compute": compute,
                "d2h": d2h,
                "enqueue": enqueue,
            }

        try:
            return sample(
                step,
                batch=len(batch),
                boundary=boundary,
                warmup_s=warmup_s,
                min_samples=min_samples,
                min_seconds=min_seconds,
                max_seconds=max_seconds,
                notes=(note,),
            )
        finally:
            for event in events:
                event.close()
            if captured is not None:
                captured.close()

    def queries(self, batch: Array, *, boundary: Boundary = "engine", streams: int = 1) -> list[Query]:
        """One query at a time on the engine's own stream; the host waits for its end."""
        check_input(batch, self.input_shape, self.input_dtype)
        check_batch(len(batch), self.batch_sizes)
        if streams != 1:
            raise EngineError(f"{streams} streams at once are not there for {self.backend} yet", "use one")
        self._run(batch)
        source, target = self._buffers[len(batch)]
        handle = self._stream.handle

        def run() -> None:
            if boundary == "engine+copies":
                source.upload(handle)
            self._enqueue()
            if boundary == "engine+copies":
                target.download(handle)
            self._stream.synchronize()

        return [run]

    def close(self) -> None:
        """Release GPU memory, stream, context and engine, in this order."""
        for source, target in self._buffers.values():
            source.close()
            target.close()
        self._buffers.clear()
        if self._engine is not None:
            self._context = None
            self._engine = None
            self._stream.close()

    def _make_context(self) -> Any:
        strategies = getattr(self._trt, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is not None and hasattr(self._engine, "create_runtime_config"):
            # Lazy specialisation swaps kernels in the background, which would change timings under way.
            config = self._engine.create_runtime_config()
            config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(f"no execution context: {_reason(self._log)}", "free memory on the GPU")
        return context

    def _select(self, batch: int) -> tuple[cuda.Buffer, cuda.Buffer]:
        if batch not in self._buffers:
            source = cuda.Buffer((batch, *self.input_shape), np.dtype(self.input_dtype))
            self._buffers[batch] = (source, cuda.Buffer((batch, self._classes), self._output_dtype))
        source, target = self._buffers[batch]
        if self._engine.num_optimization_profiles > 1:
            profile = self.batch_sizes.index(batch)
            if self._context.active_optimization_profile != profile:
                self._context.set_optimization_profile_async(profile, self._stream.handle)
                self._stream.synchronize()
        if not self._context.set_input_shape(self._input, (batch, *self.input_shape)):
            raise EngineError(
                f"the engine refuses batch {batch}: {_reason(self._log)}", "build it for this size"
            )
        self._context.set_tensor_address(self._input, source.device)
        self._context.set_tensor_address(self._output, target.device)
        return source, target

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineError(f"the engine failed: {_reason(self._log)}", "see the driver's log")

    def _run(self, images: Array) -> Array:
        if self._engine is None:
            raise EngineError("the engine is closed", "load it again")
        source, target = self._select(len(images))
        source.host[...] = images
        source.upload(self._stream.handle)
        self._enqueue()
        target.download(self._stream.handle)
        self._stream.synchronize()
        return target.host.astype(np.float32, copy=True)

    def _capture(self) -> tuple[cuda.Graph | None, str]:
        check = getattr(self._context, "is_stream_capturable", None)
        if check is not None and not check(self._stream.handle):
            return None, "plain enqueue: the engine says that it cannot be captured"
        try:
            return cuda.Graph(self._stream, self._enqueue), "CUDA graph"
        except EngineError as error:
            cuda.runtime().cudaGetLastError()  # a failed capture leaves its error behind
            return None, f"plain enqueue: capture failed ({error.what})"


def _check_model(
    name: str, chosen: Dialect, model: onnx_format.ModelProto, path: Path, sizes: tuple[int, ...]
) -> None:
    if not sizes or sizes[0] < 1:
        raise BuildError(f"batch sizes {list(sizes)} are not possible", "give numbers of at least 1")
    fixed = graph.batch_size(model)
    if fixed is not None and sizes != (fixed,):
        raise BuildError(
            f"{path.name} has a fixed batch of {fixed}, batch sizes {list(sizes)} were asked for",
            "export with a dynamic batch",
        )
    opset = graph.opset(model)
    if not chosen.min_opset <= opset <= chosen.max_opset:
        raise BuildError(
            f"{path.name} has opset {opset}, this {name} reads {chosen.min_opset} to {chosen.max_opset}",
            f"export with opset {min(20, chosen.max_opset)}",
        )
    if not chosen.half_qdq:
        halves = {t.name for t in model.graph.initializer if t.data_type == onnx_format.TensorProto.FLOAT16}
        if any(n.op_type == "QuantizeLinear" and n.input[1] in halves for n in model.graph.node):
            raise BuildError(
                f"this {name} cannot read Q/DQ on FP16 tensors", "use the FP16 file, or a newer TensorRT"
            )


def _targets(trt: Any, chosen: Dialect, names: Sequence[str]) -> list[str]:
    if not chosen.compute_capabilities:
        return []
    known = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    plain = [str(name).upper().replace(".", "") for name in names]
    targets = list(dict.fromkeys(name if name.startswith("SM") else f"SM{name}" for name in plain))
    unknown = [name for name in targets if name not in known]
    if unknown:
        raise BuildError(f"unknown compute capability {unknown[0]}", f"this version knows {', '.join(known)}")
    return targets


def _build(
    trt: Any,
    chosen: Dialect,
    path: Path,
    sizes: tuple[int, ...],
    targets: list[str],
    workspace_mb: int | None,
    optimization_level: int | None,
    timing_cache: Path | None,
    progress: Progress,
) -> tuple[bytes, dict[str, Any]]:
    log = _logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(
        1 << int(getattr(trt.NetworkDefinitionCreationFlag, chosen.network_flag))
    )
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(os.fspath(path)):
        errors = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
        raise _failure("the ONNX file cannot be parsed", "; ".join(errors) or _reason(log))
    config = builder.create_builder_config()
    dynamic = [
        network.get_input(i) for i in range(network.num_inputs) if -1 in tuple(network.get_input(i).shape)
    ]
    if dynamic:
        for size in sizes:
            profile = builder.create_optimization_profile()
            for tensor in dynamic:
                shape = (size, *tuple(tensor.shape)[1:])
                profile.set_shape(tensor.name, shape, shape, shape)
            config.add_optimization_profile(profile)
    if workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(workspace_mb) << 20)
    if targets:
        config.num_compute_capabilities = len(targets)
        for index, name in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    if chosen.optimization_level and optimization_level is not None:
        config.builder_optimization_level = int(optimization_level)
    for flag in chosen.precision_flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    cache = _open_cache(config, timing_cache) if chosen.timing_cache and timing_cache is not None else None
    monitor = _monitor(trt, progress) if chosen.progress_monitor else None
    if monitor is not None:
        config.progress_monitor = monitor
    facts = {
        "inputs": [_tensor(network.get_input(i)) for i in range(network.num_inputs)],
        "outputs": [_tensor(network.get_output(i)) for i in range(network.num_outputs)],
        "layers": network.num_layers,
    }
    serialized = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.failure is not None:
        raise monitor.failure
    if serialized is None:
        raise _failure("the engine cannot be built", _reason(log))
    if cache is not None and timing_cache is not None:
        write_bytes(timing_cache, bytes(config.get_timing_cache().serialize()))
    return bytes(serialized), facts


def _open_cache(config: Any, path: Path) -> Any:
    data = Path(path).read_bytes() if Path(path).is_file() else b""
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")  # of another GPU or version: start afresh
        config.set_timing_cache(cache, False)
    return cache


def _tensor(tensor: Any) -> dict[str, Any]:
    shape = ["batch" if int(dim) < 0 else int(dim) for dim in tuple(tensor.shape)]
    return {
        "name": tensor.name,
        "dtype": _DTYPES.get(tensor.dtype.name, tensor.dtype.name.lower()),
        "shape": shape,
    }


def _logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps what the library says of errors; prints nothing."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message.strip())

    return Log()


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Turns the builder's phases into one count; called from the builder's threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.failure: BaseException | None = None
            self._lock = threading.Lock()
            self._top: tuple[str, int] | None = None
            self._done = 0

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            with self._lock:
                if parent is None and self._top is None:
                    self._top = (name, steps)
            self._report(name)

        def step_complete(self, name: str, step: int) -> bool:
            with self._lock:
                if self._top is not None and name == self._top[0]:
                    self._done = max(self._done, step + 1)
            self._report(name)
            return self.failure is None

        def phase_finish(self, name: str) -> None:
            with self._lock:
                if self._top is not None and name == self._top[0]:
                    self._done = self._top[1]
            self._report(name)

        def _report(self, note: str) -> None:
            # An exception must not travel through the library; it is kept, the build cancelled, then raised.
            try:
                progress(self._done, max(1, self._top[1] if self._top else 1), note)
            except BaseException as error:
                self.failure = self.failure or error

    return Monitor()


def _parser_error(error: Any) -> str:
    parts = [str(error.desc()).strip() if hasattr(error, "desc") else str(error)]
    for label in ("node_name", "node_operator"):
        value = getattr(error, label, None)
        if callable(value) and value():
            parts.append(f"{label.replace('_', ' ')} {value()}")
    return ", ".join(parts)


def _reason(log: Any) -> str:
    return "; ".join(dict.fromkeys(log.errors)) or "the library gave no reason"


def _failure(what: str, reason: str) -> BuildError:
    fix = next((remedy for text, remedy in _REMEDIES if text.lower() in reason.lower()), "")
    return BuildError(f"{what}: {reason}", fix)


def _current_capability() -> str:
    major, minor = cuda.compute_capability()
    return f"SM{major}{minor}"


__all__ = ["TensorRTBackend", "TensorRTEngine"]
