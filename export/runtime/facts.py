"""What an engine says of itself: its inputs and outputs, and how it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Sequence, TypedDict


class EngineFacts(TypedDict, total=False):
    """How an engine runs; plain values, each where its library tells it."""

    providers: list[str]
    """ONNX Runtime's, the first one first."""
    threads: int
    spinning: bool
    denormals_as_zero: bool
    onnxruntime: str
    """Version, as of the libraries below."""
    tensorrt: str
    tensorrt_rtx: str
    device: str
    """Name of the GPU."""
    compute_capability: str
    trtexec: str
    """Path of the program."""
    flags: Mapping[str, Sequence[str]]
    """Of trtexec, by boundary."""


@dataclass(frozen=True)
class Tensor:
    """An input or output: a dimension that is not fixed is its name, or `?`."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def to_json(self) -> Dict[str, Any]:
        """As plain values."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
