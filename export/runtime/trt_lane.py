"""One way through an engine: an execution context with a stream and buffers of its own.

A lane runs one query after the other; several lanes of one engine run at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from .arrays import Array
from .cudart import Buffer, Cuda, Graph, Stream
from .errors import EngineError
from .trt_library import failure

Launch = Callable[[], None]


@dataclass(frozen=True)
class Tensors:
    """The engine's one input and one output."""

    input: str
    output: str
    input_shape: tuple[int, ...]
    """Of one image."""
    input_dtype: str
    output_dtype: str
    classes: int


class Slot:
    """Input and output buffers of one query."""

    def __init__(self, source: Buffer, target: Buffer) -> None:
        self.source, self.target = source, target

    def close(self) -> None:
        """Free both."""
        self.source.close()
        self.target.close()


class Lane:
    """An execution context of an engine with one input and one output.

    Attributes:
        stream: where the engine's work is queued.
        changes: how often the batch size has changed. What was captured before a change must not be launched after it.
    """

    def __init__(
        self, cuda: Cuda, engine: Any, context: Any, log: Any, tensors: Tensors, batch_sizes: tuple[int, ...]
    ) -> None:
        """Take over `context`.

        Args:
            cuda: the CUDA runtime.
            engine: the deserialised engine.
            context: an execution context of it.
            log: the library's logger, for reasons of failures.
            tensors: the engine's input and output.
            batch_sizes: one a profile, in the profiles' order.
        """
        self._cuda, self._engine, self._context, self._log = cuda, engine, context, log
        self._tensors, self._batch_sizes = tensors, batch_sizes
        self._batch = 0
        self.changes = 0
        self._slots: dict[tuple[int, str], Slot] = {}
        self.stream = Stream(cuda)

    def select(self, batch: int) -> None:
        """Make `batch` the size of what runs next, and its optimization profile the active one."""
        if batch == self._batch:
            return
        self._batch = 0
        self.changes += 1
        if self._engine.num_optimization_profiles > 1:
            profile = self._batch_sizes.index(batch)
            if self._context.active_optimization_profile != profile:
                if not self._context.set_optimization_profile_async(profile, self.stream.handle):
                    what = f"the engine's profile for batch {batch} cannot be used"
                    fix = "use one stream, or build the engine for this size alone"
                    raise failure(what, self._log, fix)
                self.stream.synchronize()
        if not self._context.set_input_shape(self._tensors.input, (batch, *self._tensors.input_shape)):
            raise failure(f"the engine refuses batch {batch}", self._log, "build it for this size")
        self._batch = batch

    def slot(self, use: str) -> Slot:
        """Buffers of the selected batch size for one use, such as `infer`; made when first asked for."""
        key = (self._batch, use)
        if key not in self._slots:
            tensors = self._tensors
            source = Buffer(self._cuda, (self._batch, *tensors.input_shape), tensors.input_dtype)
            try:
                target = Buffer(self._cuda, (self._batch, tensors.classes), tensors.output_dtype)
            except EngineError:
                source.close()
                raise
            self._slots[key] = Slot(source, target)
        return self._slots[key]

    def enqueue(self, slot: Slot) -> None:
        """Queue one inference from the slot's device input to its device output."""
        self._context.set_tensor_address(self._tensors.input, slot.source.device)
        self._context.set_tensor_address(self._tensors.output, slot.target.device)
        if not self._context.execute_async_v3(self.stream.handle):
            raise failure("the engine failed", self._log, "see the driver's log (dmesg)")

    def run(self, images: Array) -> Array:
        """Logits float32 [B, C] of one accepted batch."""
        self.select(len(images))
        slot = self.slot("infer")
        slot.source.host[...] = images
        slot.source.upload(self.stream.handle)
        self.enqueue(slot)
        slot.target.download(self.stream.handle)
        self.stream.synchronize()
        logits: Array = slot.target.host.astype(np.float32, copy=True)
        return logits

    def settle(self, slot: Slot) -> None:
        """Bring the slot's input to the device and run it once, as a capture needs after the size has changed."""
        slot.source.upload(self.stream.handle)
        self.enqueue(slot)
        self.stream.synchronize()

    def capture(self, slot: Slot) -> tuple[Graph | None, str]:
        """The slot's inference as a CUDA graph, or None and why not.

        The slot must have settled since the size last changed.
        """
        check = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX
        if check is not None and not check(self.stream.handle):
            return None, "plain enqueue: the engine says that it cannot be captured"
        try:
            return Graph(self._cuda, self.stream, lambda: self.enqueue(slot)), "CUDA graph"
        except EngineError as error:
            self._cuda.forget_error()  # a failed capture leaves its error behind
            return None, f"plain enqueue: capture failed ({error.what})"

    def close(self) -> None:
        """Free buffers, context and stream."""
        for slot in self._slots.values():
            slot.close()
        self._slots.clear()
        self._context = None
        self.stream.close()
