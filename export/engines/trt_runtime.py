"""A TensorRT engine on a GPU: loading, inference, timing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.engines import cuda
from export.engines.protocol import Array, Boundary, Query, Samples
from export.engines.trt_build import DTYPES
from export.engines.trt_lane import Lane, Launch, Slot, Tensors
from export.engines.trt_messages import engine_failure, make_logger, reason
from export.engines.trt_timing import Copying, Resident
from export.engines.trt_versions import Dialect
from export.errors import EngineError
from export.runtime.batches import check_batch, check_input, in_batches
from export.runtime.sampling import Limits, sample


class TensorRTEngine:
    """A deserialised engine with one input and one output, on CUDA device 0. Needs a GPU."""

    def __init__(
        self,
        name: str,
        trt: Any,
        chosen: Dialect,
        path: Path,
        sidecar: Mapping[str, Any],
        weights: Path | None,
    ) -> None:
        """Deserialise an engine file that has been checked.

        Args:
            name: of the back end.
            trt: the library.
            chosen: its dialect.
            path: engine file.
            sidecar: its facts.
            weights: ONNX file that an engine without weights is refitted from.

        Raises:
            EngineError: the library refuses the engine, or the GPU's memory does not suffice.
        """
        self.backend = name
        self._trt, self._chosen = trt, chosen
        self._log = make_logger(trt)
        self._runtime = trt.Runtime(self._log)
        if sidecar["options"].get("version_compatible"):
            self._runtime.engine_host_code_allowed = True  # the engine carries the runtime that it needs
        self._engine = _deserialize(trt, chosen, self._runtime, self._log, path)
        if weights is not None:
            _refit(trt, self._engine, self._log, path, weights)
        self._tensors = _tensors(trt, self._engine, path)
        self.input_shape: tuple[int, ...] = self._tensors.input_shape
        self.input_dtype: str = str(self._tensors.input_dtype)
        self.batch_sizes: tuple[int, ...] = tuple(sidecar["batch_sizes"])
        self._lanes: list[Lane] = []
        self._bound: dict[tuple[int, int, str], _Bound] = {}
        self._lane()  # a missing context is told when loading, not when running
        self.facts: dict[str, Any] = {
            "device": cuda.device_name(),
            "compute_capability": "SM{}{}".format(*cuda.compute_capability()),
            name: str(trt.__version__),
        }

    def infer(self, images: Array) -> Array:
        """Logits float32 [N, C] of `images` [N, ...]."""
        check_input(images, self.input_shape, self.input_dtype)
        return in_batches(images, self.batch_sizes, lambda part: self._lane().run(part))

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
        """CUDA-event times in trtexec's terms (see `export.engines.trt_timing`).

        One query at a time. `engine`: input resident: `compute`, equal to `latency`. `engine+copies`: copies from and
        to pinned host memory as well: `h2d`, `compute`, `d2h`, whose sum is `latency`. Both have `enqueue`. The work is
        launched as a CUDA graph where it can be captured; `notes` says so.
        """
        self._check(batch, boundary)
        lane = self._lane()
        slot = _slot(lane, batch, "time")
        launch, graph, note = _launch(lane, slot)
        copies = boundary == "engine+copies"
        timer = Copying(lane.stream, slot, launch) if copies else Resident(lane.stream, launch)
        try:
            limits = Limits(warmup_s, min_samples, min_seconds, max_seconds)
            return sample(timer, limits, batch=len(batch), boundary=boundary, notes=(note,))
        finally:
            timer.close()
            if graph is not None:
                graph.close()

    def queries(self, batch: Array, *, boundary: Boundary = "engine", streams: int = 1) -> list[Query]:
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

    def _check(self, batch: Array, boundary: str) -> None:
        check_input(batch, self.input_shape, self.input_dtype)
        check_batch(len(batch), self.batch_sizes)
        if boundary not in ("engine", "engine+copies"):
            raise EngineError(f"unknown timing boundary {boundary!r}", "use 'engine' or 'engine+copies'")

    def _lane(self, index: int = 0) -> Lane:
        if self._engine is None:
            raise EngineError("the engine is closed", "load it again")
        while len(self._lanes) <= index:
            context = self._context()
            self._lanes.append(Lane(self._engine, context, self._log, self._tensors, self.batch_sizes))
        return self._lanes[index]

    def _context(self) -> Any:
        if self._chosen.compute_capabilities:
            # Lazy specialisation swaps kernels in the background, which would change timings under way.
            config = self._engine.create_runtime_config()
            strategy = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = strategy
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            fix = "free memory on the GPU, or fewer streams"
            raise engine_failure("no execution context", self._log, fix)
        return context


def _slot(lane: Lane, batch: Array, use: str) -> Slot:
    """A lane's slot that holds `batch` and has settled."""
    lane.select(len(batch))
    slot = lane.slot(use)
    slot.source.host[...] = batch
    lane.settle(slot)
    return slot


def _launch(lane: Lane, slot: Slot) -> tuple[Launch, cuda.Graph | None, str]:
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
        self._graph: cuda.Graph | None = None

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


def _deserialize(trt: Any, chosen: Dialect, runtime: Any, log: Any, path: Path) -> Any:
    blob = path.read_bytes()
    if chosen.compute_capabilities:
        validity, diagnostics = runtime.get_engine_validity(blob[: runtime.engine_header_size])
        if validity == trt.EngineValidity.INVALID:
            names = _diagnostics(trt, int(diagnostics))
            raise EngineError(
                f"{path.name} is refused by the library: {names or reason(log)}", "build it again here"
            )
    engine = runtime.deserialize_cuda_engine(blob)
    if engine is None:
        raise engine_failure(f"{path.name} cannot be loaded", log, "build it again on this machine")
    return engine


def _diagnostics(trt: Any, bits: int) -> str:
    members: Callable[[], Any] = trt.EngineInvalidityDiagnostics.__members__.items
    return ", ".join(name.lower().replace("_", " ") for name, member in members() if int(member) & bits)


def _refit(trt: Any, engine: Any, log: Any, path: Path, weights: Path) -> None:
    refitter = trt.Refitter(engine, log)
    parser = trt.OnnxParserRefitter(refitter, log)
    if not parser.refit_from_file(str(weights)):
        errors = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors))
        raise EngineError(
            f"the weights of {weights.name} cannot be put into {path.name}: {errors or reason(log)}",
            "build it again",
        )
    if not refitter.refit_cuda_engine():
        raise EngineError(
            f"{path.name} cannot be refitted: {reason(log)}", "build it again, or without strip_weights"
        )


def _tensors(trt: Any, engine: Any, path: Path) -> Tensors:
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
    outputs = [n for n in names if n not in inputs]
    if len(inputs) != 1 or len(outputs) != 1:
        raise EngineError(
            f"{path.name} has {len(inputs)} inputs and {len(outputs)} outputs; one of each is needed",
            "export a classifier",
        )
    types = [DTYPES.get(engine.get_tensor_dtype(name).name, "") for name in (inputs[0], outputs[0])]
    if not set(types) <= {"uint8", "float32", "float16"}:
        found = engine.get_tensor_dtype(inputs[0]).name, engine.get_tensor_dtype(outputs[0]).name
        raise EngineError(
            f"{path.name} takes {found[0]} and gives {found[1]}", "keep inputs and outputs in float32"
        )
    return Tensors(
        input=inputs[0],
        output=outputs[0],
        input_shape=tuple(int(dim) for dim in tuple(engine.get_tensor_shape(inputs[0]))[1:]),
        input_dtype=np.dtype(types[0]),
        output_dtype=np.dtype(types[1]),
        classes=int(tuple(engine.get_tensor_shape(outputs[0]))[1]),
    )
