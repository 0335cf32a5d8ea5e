"""A TensorRT engine on a GPU: loading, inference, timing."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, Iterator, Sequence

from . import cudart
from .arrays import Array
from .batches import check_batch, check_boundary, check_input, in_batches
from .errors import EngineError
from .facts import EngineFacts
from .sampling import Limits, Query, Samples, Step, sample, sustained
from .trt_lane import Lane, Launch, Slot, Tensors
from .trt_library import DTYPES, RTX, collector_held, failure, library, make_logger, said
from .trt_timing import Copying, Resident


class TensorRTEngine:
    """A deserialised engine with one input and one output, on CUDA device 0. Needs a GPU."""

    @collector_held()
    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        backend: str,
        batch_sizes: Sequence[int],
        *,
        host_code: bool = False,
        weights: str = "",
        cuda: cudart.Cuda | None = None,
    ) -> None:
        """Deserialise an engine file.

        Args:
            source: engine file, or its content.
            backend: `tensorrt` or `tensorrt_rtx`.
            batch_sizes: that it was built for, in the order of its profiles.
            host_code: the engine carries the runtime that it needs (built version compatible), and it may be run.
            weights: ONNX file that an engine without weights is refitted from; '' for none.
            cuda: the CUDA runtime; this machine's by default.

        Raises:
            BackendMissing: the library is absent, or there is no GPU to use.
            EngineError: the library refuses the engine, or the GPU's memory does not suffice.
        """
        self.backend = backend
        self._trt = trt = library(backend)
        self._cuda = cuda or cudart.required()
        self._log = make_logger(trt)
        self._runtime = trt.Runtime(self._log)
        if host_code:
            self._runtime.engine_host_code_allowed = True
        name, blob = "the engine", source
        if not isinstance(blob, bytes):
            name = os.path.basename(os.fspath(blob))
            with open(blob, "rb") as file:
                blob = file.read()
        self._engine = deserialised(trt, backend, self._runtime, self._log, name, blob)
        if weights:
            _refit(trt, self._engine, self._log, name, weights)
        self._tensors = _tensors(trt, self._engine, name)
        self.input_shape: tuple[int, ...] = self._tensors.input_shape
        self.input_dtype: str = self._tensors.input_dtype
        self.input_name, self.output_name = self._tensors.input, self._tensors.output
        self.batch_sizes: tuple[int, ...] = tuple(batch_sizes)
        self._lanes: list[Lane] = []
        self._bound: dict[tuple[int, int, str], _Bound] = {}
        self._lane()  # a missing context is an error when loading, not when running
        version = str(trt.__version__)
        self.facts: EngineFacts = {
            "device": self._cuda.device_name(),
            "compute_capability": "SM{}{}".format(*self._cuda.compute_capability()),
            **({"tensorrt_rtx": version} if backend == RTX else {"tensorrt": version}),
        }

    def run(self, images: Array) -> Array:
        """Logits float32 [B, C] of one accepted batch."""
        return self._lane().run(images)

    def infer(self, images: Array) -> Array:
        """Logits float32 [N, C] of `images` [N, ...]."""
        check_input(images, self.input_shape, self.input_dtype)
        return in_batches(images, self.batch_sizes, self.run)

    def time(self, batch: Array, limits: Limits, *, boundary: str = "engine") -> Samples:
        """CUDA-event times in trtexec's terms (see `trt_timing`).

        One query at a time. `engine`: input resident: `compute`, equal to `latency`. `engine+copies`: copies from and
        to pinned host memory as well: `h2d`, `compute`, `d2h`, whose sum is `latency`. Both have `enqueue`. The work is
        launched as a CUDA graph where it can be captured; `notes` says so.
        """
        with self._step(batch, boundary) as (step, note):
            return sample(step, limits, batch=len(batch), boundary=boundary, notes=(note,))

    def sustain(
        self, batch: Array, seconds: float, *, window_s: float, keep: int, between: Callable[[float], None]
    ) -> Samples:
        """Minutes of the same at boundary `engine`; see `sampling.sustained`."""
        with self._step(batch, "engine") as (step, note):
            return sustained(
                step, seconds, window_s=window_s, keep=keep, between=between, batch=len(batch), boundary="engine",
                notes=(note,),
            )  # fmt: skip

    def queries(self, batch: Array, *, boundary: str = "engine", streams: int = 1) -> list[Query]:
        """Queries for host-timed loops, each on a lane of its own; the host waits for a query's end."""
        self._check(batch, boundary)
        found: list[Query] = []
        for index in range(streams):
            key = (index, len(batch), boundary)
            if key not in self._bound:
                self._bound[key] = _Bound(self._lane(index), len(batch), copies=boundary == "engine+copies")
            self._bound[key].fill(batch)
            found.append(self._bound[key])
        return found

    def close(self) -> None:
        """Release graphs, lanes and engine, in this order."""
        for bound in self._bound.values():
            bound.close()
        for lane in self._lanes:
            lane.close()
        self._bound, self._lanes, self._engine = {}, [], None

    @contextlib.contextmanager
    def _step(self, batch: Array, boundary: str) -> Iterator[tuple[Step, str]]:
        """One timed query, and how it is launched."""
        self._check(batch, boundary)
        lane = self._lane()
        slot = _slot(lane, batch, "time")
        launch, graph, note = _launch(lane, slot)
        copies = boundary == "engine+copies"
        timer: Copying | Resident = (
            Copying(self._cuda, lane.stream, slot, launch)
            if copies
            else Resident(self._cuda, lane.stream, launch)
        )
        try:
            yield timer, note
        finally:
            timer.close()
            if graph is not None:
                graph.close()

    def _check(self, batch: Array, boundary: str) -> None:
        check_input(batch, self.input_shape, self.input_dtype)
        check_batch(len(batch), self.batch_sizes)
        check_boundary(boundary)

    def _lane(self, index: int = 0) -> Lane:
        if self._engine is None:
            raise EngineError("the engine is closed", "load it again")
        while len(self._lanes) <= index:
            context = self._context()
            lane = Lane(self._cuda, self._engine, context, self._log, self._tensors, self.batch_sizes)
            self._lanes.append(lane)
        return self._lanes[index]

    def _context(self) -> Any:
        if self.backend == RTX:
            # Lazy specialisation swaps kernels in the background, which would change timings under way.
            config = self._engine.create_runtime_config()
            strategy = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = strategy
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise failure("no execution context", self._log, "free memory on the GPU, or fewer streams")
        return context


def deserialised(trt: Any, backend: str, runtime: Any, log: Any, name: str, blob: bytes) -> Any:
    """The library's own engine.

    Args:
        trt: the library.
        backend: its name.
        runtime: the library's, made with `log`.
        log: from `make_logger`.
        name: of the engine's file, for messages.
        blob: its content.

    Raises:
        EngineError: the library refuses it.
    """
    if backend == RTX:
        validity, diagnostics = runtime.get_engine_validity(blob[: runtime.engine_header_size])
        if validity == trt.EngineValidity.INVALID:
            names = _diagnostics(trt, int(diagnostics))
            reasons = [names] if names else said(log)
            raise EngineError(f"{name} is refused by the library", "build it again here", said=reasons)
    engine = runtime.deserialize_cuda_engine(blob)
    if engine is None:
        what = f"{name} cannot be loaded by {backend} {trt.__version__}"
        raise failure(what, log, "build it again on this machine (--force build)")
    return engine


def _slot(lane: Lane, batch: Array, use: str) -> Slot:
    """A lane's slot that holds `batch` and has settled."""
    lane.select(len(batch))
    slot = lane.slot(use)
    slot.source.host[...] = batch
    lane.settle(slot)
    return slot


def _launch(lane: Lane, slot: Slot) -> tuple[Launch, cudart.Graph | None, str]:
    """How to queue a settled slot's inference; the graph to close afterwards; what to say of it."""
    captured, note = lane.capture(slot)
    if captured is None:
        return lambda: lane.enqueue(slot), None, note
    return captured.launcher(lane.stream), captured, note


class _Bound:
    """A query on a lane. Its graph is captured again when the lane has served another size in between."""

    def __init__(self, lane: Lane, size: int, *, copies: bool) -> None:
        self._lane, self._size, self._copies = lane, size, copies
        self._changes = -1
        self._graph: cudart.Graph | None = None

    def fill(self, batch: Array) -> None:
        """Make `batch` the query's input."""
        self._slot = _slot(self._lane, batch, f"query, copies: {self._copies}")
        if self._changes != self._lane.changes:
            self._bind()

    def __call__(self) -> None:
        """Run the query; its result is there afterwards, on the host too if copies are part of it."""
        lane, slot = self._lane, self._slot
        if self._changes != lane.changes:
            lane.select(self._size)
            lane.settle(slot)
            self._bind()
        if self._copies:
            slot.source.upload(lane.stream.handle)
        self._launch()
        if self._copies:
            slot.target.download(lane.stream.handle)
        lane.stream.synchronize()

    def _bind(self) -> None:
        self.close()
        self._launch, self._graph, _ = _launch(self._lane, self._slot)
        self._changes = self._lane.changes

    def close(self) -> None:
        """Destroy the graph."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None


def _diagnostics(trt: Any, bits: int) -> str:
    members: Callable[[], Any] = trt.EngineInvalidityDiagnostics.__members__.items
    return ", ".join(name.lower().replace("_", " ") for name, member in members() if int(member) & bits)


def _refit(trt: Any, engine: Any, log: Any, name: str, weights: str) -> None:
    refitter = trt.Refitter(engine, log)
    parser = trt.OnnxParserRefitter(refitter, log)
    if not parser.refit_from_file(weights):
        errors = [str(parser.get_error(i).desc()) for i in range(parser.num_errors)]
        what = f"the weights of {os.path.basename(weights)} cannot be put into {name}"
        raise EngineError(what, "build it again", said=errors or said(log), beside=log.warnings)
    if not refitter.refit_cuda_engine():
        raise failure(f"{name} cannot be refitted", log, "build it again, or without strip_weights")


def _tensors(trt: Any, engine: Any, name: str) -> Tensors:
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
    outputs = [n for n in names if n not in inputs]
    if len(inputs) != 1 or len(outputs) != 1:
        raise EngineError(
            f"{name} has {len(inputs)} inputs and {len(outputs)} outputs; one of each is needed",
            "export a classifier",
        )
    types = [DTYPES.get(engine.get_tensor_dtype(n).name, "") for n in (inputs[0], outputs[0])]
    if not set(types) <= {"uint8", "float32", "float16"}:
        found = engine.get_tensor_dtype(inputs[0]).name, engine.get_tensor_dtype(outputs[0]).name
        raise EngineError(
            f"{name} takes {found[0]} and gives {found[1]}", "keep inputs and outputs in float32"
        )
    return Tensors(
        input=inputs[0],
        output=outputs[0],
        input_shape=tuple(int(dim) for dim in tuple(engine.get_tensor_shape(inputs[0]))[1:]),
        input_dtype=types[0],
        output_dtype=types[1],
        classes=int(tuple(engine.get_tensor_shape(outputs[0]))[1]),
    )
