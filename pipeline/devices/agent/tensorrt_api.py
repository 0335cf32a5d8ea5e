"""TensorRT and TensorRT-RTX on the device through their Python API: build an engine, run it, time it.

What differs between versions comes from the host as `dialect`: the one table is `export.engines.trt_versions`.
Names are looked up; enumerations are renumbered between major versions.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Callable, Iterable

from . import cudart, layers
from .errors import JobError
from .files import write_bytes
from .sampling import Limits, Step, Timed, sample, sustained

MODULES = {"tensorrt": ("tensorrt",), "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
_MOST_WARNINGS = 10_000
DTYPES = {"UINT8": "uint8", "FLOAT": "float32", "HALF": "float16"}
_INSTALL = {
    "tensorrt": "sudo apt install python3-libnvinfer on the device, for its system Python",
    "tensorrt_rtx": "pip install tensorrt_rtx_cu13 nvidia-cuda-runtime on the device",
}


def library(backend: str) -> Any:
    """The module of a back end.

    Raises:
        JobError: it cannot be imported.
    """
    import importlib

    failure: Exception | None = None
    for name in MODULES[backend]:
        try:
            return importlib.import_module(name)
        except Exception as error:  # ImportError, or a missing shared library in whatever guise
            failure = failure or error
    raise JobError(
        f"{backend} cannot be imported on the device: {failure}", _INSTALL[backend], "missing"
    ) from failure


def build(
    onnx: str, engine: str, request: dict[str, Any], emit: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Build a plain engine file.

    Args:
        onnx: path of the ONNX file; precision is what it says.
        engine: path to write.
        request: `backend`, `dialect`, `batch_sizes`, and where given `workspace_mb`, `tactic_dram_mb`,
            `optimization_level`, `compute_capabilities`, `timing_cache` (a path).
        emit: receives `{"progress": [done, total, note]}` from the builder's top-level steps, and `{"log": line}`.

    Returns:
        `inputs`, `outputs`, `layers`, `versions`.

    Raises:
        JobError: the library's reason for failing, with the node where it names one.
    """
    backend, dialect = request["backend"], request["dialect"]
    trt = library(backend)
    log = _logger(trt, emit)
    try:
        builder = trt.Builder(log)
    except (
        Exception
    ) as error:  # pybind11 says that a factory returned nothing, whatever the library's reason is
        raise _failure(f"{backend} cannot start", log, log.errors or log.warnings or [str(error)]) from error
    typing = "STRONGLY_TYPED" if dialect["strong_typing"] else "EXPLICIT_BATCH"
    network = builder.create_network(1 << int(getattr(trt.NetworkDefinitionCreationFlag, typing)))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(onnx):
        errors = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
        raise _failure("the ONNX file cannot be parsed", log, errors)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the layers are not told
    _profiles(builder, network, config, request["batch_sizes"])
    if request.get("workspace_mb"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(request["workspace_mb"]) << 20)
    if request.get("tactic_dram_mb"):
        config.set_memory_pool_limit(trt.MemoryPoolType.TACTIC_DRAM, int(request["tactic_dram_mb"]) << 20)
    targets = request.get("compute_capabilities") or []
    if targets:
        config.num_compute_capabilities = len(targets)
        for index, name in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    if dialect["optimization_level"] and request.get("optimization_level") is not None:
        config.builder_optimization_level = int(request["optimization_level"])
    for flag in () if dialect["strong_typing"] else dialect["weak_flags"]:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if not dialect["strong_typing"] and dialect["fp32_layers"]:
        _hold_fp32(trt, config, network, set(dialect["fp32_layers"]))
    cache = request.get("timing_cache") if dialect["timing_cache"] else None
    if cache:
        _open_cache(config, cache)
    monitor = _monitor(trt, emit) if dialect["progress_monitor"] else None
    if monitor is not None:
        config.progress_monitor = monitor
    facts = {
        "inputs": [_tensor(network.get_input(i)) for i in range(network.num_inputs)],
        "outputs": [_tensor(network.get_output(i)) for i in range(network.num_outputs)],
        "layers": int(network.num_layers),
        "versions": {backend: str(trt.__version__)},
    }
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise _failure("the engine cannot be built", log)
    plan = bytes(serialized)
    write_bytes(engine, plan)
    if cache:
        write_bytes(cache, bytes(config.get_timing_cache().serialize()))
    layers.keep(trt, log, plan, emit)
    return facts


def _hold_fp32(trt: Any, config: Any, network: Any, names: set[str]) -> None:
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        if layer.name in names:
            layer.precision = trt.DataType.FLOAT
            for index in range(layer.num_outputs):
                layer.set_output_type(index, trt.DataType.FLOAT)


class TrtEngine:
    """A deserialised engine with one input and one output on CUDA device 0."""

    def __init__(self, path: str, spec: dict[str, Any], cuda: cudart.Cuda | None = None) -> None:
        backend = spec["backend"]
        trt = self._trt = library(backend)
        self._cuda = cuda or cudart.Cuda()
        if not self._cuda.device_count():
            raise JobError(
                "there is no CUDA device", "run on a device with an NVIDIA GPU and its driver", "missing"
            )
        self._log = _logger(trt, lambda event: None)
        self._runtime = trt.Runtime(self._log)
        with open(path, "rb") as file:
            self._engine = self._runtime.deserialize_cuda_engine(file.read())
        if self._engine is None:
            what = f"the engine cannot be loaded by {backend} {trt.__version__}"
            raise _failure(what, self._log, fix="build it again on this device (--force build)")
        self._stream = cudart.new_stream(self._cuda)
        self._buffers: dict[int, tuple[cudart.Buffer, cudart.Buffer]] = {}
        self._context = self._make_context()
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        outputs = [n for n in names if n not in inputs]
        if len(inputs) != 1 or len(outputs) != 1:
            raise JobError(
                f"the engine has {len(inputs)} inputs and {len(outputs)} outputs; one of each is needed"
            )
        self._input, self._output = inputs[0], outputs[0]
        self.input_shape = tuple(int(d) for d in tuple(self._engine.get_tensor_shape(self._input))[1:])
        self.input_dtype = DTYPES[self._engine.get_tensor_dtype(self._input).name]
        self._output_dtype = DTYPES[self._engine.get_tensor_dtype(self._output).name]
        self._classes = int(tuple(self._engine.get_tensor_shape(self._output))[1])
        self.batch_sizes = tuple(spec["batch_sizes"])
        major, minor = self._cuda.compute_capability()
        self.facts = {backend: str(trt.__version__), "compute_capability": f"SM{major}{minor}"}

    def run(self, images: Any) -> Any:
        """Logits of one accepted batch, an array [B, C]."""
        source, target = self._select(len(images))
        source.host[...] = images
        source.upload(self._stream)
        self._enqueue()
        target.download(self._stream)
        self._cuda.call("cudaStreamSynchronize", self._stream)
        return target.host.copy()

    def time(self, batch: Any, boundary: str, limits: Limits) -> Timed:
        """CUDA-event times of one query at a time; see `export.engines.tensorrt.TensorRTEngine.time`."""
        step, note, close = self._step(batch, boundary)
        try:
            return sample(step, limits, (note,))
        finally:
            close()

    def sustain(
        self, batch: Any, seconds: float, window_s: float, keep: int, between: Callable[[float], None]
    ) -> Timed:
        """Minutes of the same at boundary `engine`."""
        step, note, close = self._step(batch, "engine")
        try:
            timed = sustained(step, seconds, window_s, keep, between)
        finally:
            close()
        return Timed(timed.arrays, timed.wall_seconds, (note, *timed.notes), timed.queries)

    def loop(self, batch: Any) -> Callable[[], None]:
        """One inference with the input resident, not timed."""
        self.run(batch)

        def once() -> None:
            self._enqueue()
            self._cuda.call("cudaStreamSynchronize", self._stream)

        return once

    def close(self) -> None:
        """Release GPU memory, context, engine and stream, in this order."""
        for source, target in self._buffers.values():
            source.close()
            target.close()
        self._buffers.clear()
        if self._engine is not None:
            self._context = None
            self._engine = None
            self._cuda.call("cudaStreamDestroy", self._stream)

    def _step(self, batch: Any, boundary: str) -> tuple[Step, str, Callable[[], None]]:
        self.run(batch)  # selects the profile and fills the input; shapes must settle before a capture
        cuda, stream = self._cuda, self._stream
        source, target = self._buffers[len(batch)]
        graph, note = self._capture()
        events = [cudart.new_event(cuda) for _ in range(4)]
        copies = boundary == "engine+copies"

        def launch() -> None:
            if graph:
                cuda.call("cudaGraphLaunch", graph, stream)
            else:
                self._enqueue()

        def step() -> dict[str, float]:
            cuda.call("cudaEventRecord", events[0], stream)
            if copies:
                source.upload(stream)
            cuda.call("cudaEventRecord", events[1], stream)
            begin = time.perf_counter()
            launch()
            enqueue = 1e3 * (time.perf_counter() - begin)
            cuda.call("cudaEventRecord", events[2], stream)
            if copies:
                target.download(stream)
            cuda.call("cudaEventRecord", events[3], stream)
            cuda.call("cudaStreamSynchronize", stream)
            compute = cudart.elapsed_ms(cuda, events[1], events[2])
            if not copies:
                return {"latency": compute, "compute": compute, "enqueue": enqueue}
            h2d = cudart.elapsed_ms(cuda, events[0], events[1])
            d2h = cudart.elapsed_ms(cuda, events[2], events[3])
            return {
                "latency": h2d + compute + d2h,
                "h2d": h2d,
                "compute": compute,
                "d2h": d2h,
                "enqueue": enqueue,
            }

        def close() -> None:
            for event in events:
                cuda.call("cudaEventDestroy", event)
            if graph:
                cuda.call("cudaGraphExecDestroy", graph)

        return step, note, close

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
            raise _failure("no execution context", self._log, fix="free memory on the device", kind="memory")
        return context

    def _select(self, batch: int) -> tuple[cudart.Buffer, cudart.Buffer]:
        if batch not in self._buffers:
            source = cudart.Buffer(self._cuda, (batch, *self.input_shape), self.input_dtype)
            self._buffers[batch] = (
                source,
                cudart.Buffer(self._cuda, (batch, self._classes), self._output_dtype),
            )
        source, target = self._buffers[batch]
        if self._engine.num_optimization_profiles > 1:
            profile = self.batch_sizes.index(batch)
            if self._context.active_optimization_profile != profile:
                self._context.set_optimization_profile_async(profile, self._stream)
                self._cuda.call("cudaStreamSynchronize", self._stream)
        if not self._context.set_input_shape(self._input, (batch, *self.input_shape)):
            raise _failure(f"the engine refuses batch {batch}", self._log, fix="build it for this size")
        self._context.set_tensor_address(self._input, source.device)
        self._context.set_tensor_address(self._output, target.device)
        return source, target

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise _failure("the engine failed", self._log, fix="see dmesg on the device")

    def _capture(self) -> tuple[int, str]:
        check = getattr(self._context, "is_stream_capturable", None)
        if check is not None and not check(self._stream):
            return 0, "plain enqueue: the engine says that it cannot be captured"
        try:
            return cudart.capture(self._cuda, self._stream, self._enqueue), "CUDA graph"
        except JobError as error:
            self._cuda.forget_error()
            return 0, f"plain enqueue: capture failed ({error.words})"


def _profiles(builder: Any, network: Any, config: Any, sizes: list[int]) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    dynamic = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    for size in sorted(sizes) if dynamic else ():
        profile = builder.create_optimization_profile()
        for tensor in dynamic:
            shape = (size, *tuple(tensor.shape)[1:])
            profile.set_shape(tensor.name, shape, shape, shape)
        config.add_optimization_profile(profile)


def _open_cache(config: Any, path: str) -> None:
    data = b""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            data = file.read()
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")  # of another GPU or version: start afresh
        config.set_timing_cache(cache, False)


def _tensor(tensor: Any) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": DTYPES.get(tensor.dtype.name, tensor.dtype.name.lower()),
        "shape": ["batch" if int(dim) < 0 else int(dim) for dim in tuple(tensor.shape)],
    }


def _logger(trt: Any, emit: Callable[[dict[str, Any]], None]) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps errors, the first warnings and the list of layers; passes warnings and errors on."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.layers = ""

        def log(self, severity: Any, message: str) -> None:
            kinds = trt.ILogger.Severity
            if severity in (kinds.ERROR, kinds.INTERNAL_ERROR):
                self.errors.append(message.strip())
            elif severity == kinds.WARNING and len(self.warnings) < _MOST_WARNINGS:
                self.warnings.append(message.strip())
            elif message.startswith(layers.MARK):
                self.layers = message
            if severity in (kinds.ERROR, kinds.INTERNAL_ERROR, kinds.WARNING):
                emit({"log": message.strip()})

    return Log()


def _monitor(trt: Any, emit: Callable[[dict[str, Any]], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """The builder's phases as one count; called from the builder's threads, which must not see an exception."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._lock = threading.Lock()
            self._top = ("", 1)
            self._done = 0

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            with self._lock:
                if parent is None and not self._top[0]:
                    self._top = (name, max(1, steps))
            self._report(name)

        def step_complete(self, name: str, step: int) -> bool:
            with self._lock:
                if name == self._top[0]:
                    self._done = max(self._done, step + 1)
            self._report(name)
            return True

        def phase_finish(self, name: str) -> None:
            self._report(name)

        def _report(self, note: str) -> None:
            try:
                emit({"progress": [self._done, self._top[1], note]})
            except Exception:  # the host is gone: the build goes on without it
                pass

    return Monitor()


def _parser_error(error: Any) -> str:
    parts = [str(error.desc()).strip() if hasattr(error, "desc") else str(error)]
    for label in ("node_name", "node_operator"):
        value = getattr(error, label, None)
        if callable(value) and value():
            parts.append("{} {}".format(label.replace("_", " "), value()))
    return ", ".join(parts)


def _failure(what: str, log: Any, said: Iterable[str] = (), fix: str = "", kind: str = "failed") -> JobError:
    """What failed, in the library's words: the parser's where given, else what the logger heard."""
    heard = [*said] or log.errors or log.warnings[-3:] or ["the library gave no reason"]
    return JobError(what, fix, kind, said=heard, beside=log.warnings)
