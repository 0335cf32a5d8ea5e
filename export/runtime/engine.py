"""A loaded engine, as far as every one of them goes; not thread-safe."""

from __future__ import annotations

from typing import Protocol

from .arrays import Array
from .facts import EngineFacts
from .sampling import Query


class Engine(Protocol):
    """An engine that runs in this process."""

    input_shape: tuple[int, ...]
    """Of one image, without the batch."""
    input_dtype: str
    input_name: str
    output_name: str
    batch_sizes: tuple[int, ...]
    """Accepted batch sizes; empty where any size is."""
    facts: EngineFacts
    """How it runs."""

    def infer(self, images: Array) -> Array:
        """Logits float32 [N, C] of `images` [N, ...]; any N is cut into accepted batches, the last padded."""
        ...

    def queries(self, batch: Array, *, boundary: str = "engine", streams: int = 1) -> list[Query]:
        """`streams` queries of `batch` for host-timed loops, such as several at once or a fixed rate.

        Each has buffers (and, on a GPU, a context and a stream) of its own: one query must not be called twice at
        the same time, different ones may. `boundary` says what a call includes. They end with the engine.

        Raises:
            EngineError: another shape than the engine takes, or more streams than it can run at once.
        """
        ...

    def close(self) -> None:
        """Release what the engine holds; it cannot be used afterwards."""
        ...
