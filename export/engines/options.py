"""What can be asked of TensorRT's builder beyond the ONNX file and the batch sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LIBRARYS_LEVEL = 3
"""The optimization level that TensorRT takes by itself."""
HardwareCompatibility = Literal["none", "same_compute_capability", "ampere_plus"]


@dataclass(frozen=True)
class TensorRTOptions:
    """Options of the builder. What a version, TensorRT-RTX or a way of building does not have is refused
    (`export.engines.trt_refusals`), never dropped."""

    strong_typing: bool = True
    """Precision is exactly what the ONNX file says. False lets TensorRT 10 and older choose precisions itself, from
    those that the file uses: a fallback for networks that fail or lose speed when strongly typed."""
    optimization_level: int | None = None
    """0 to 5; None is the library's 3. TensorRT-RTX has no levels."""
    workspace_mb: int | None = None
    """Limit of scratch memory of the engine's kernels, in MiB; None is all of the GPU's."""
    tactic_dram_mb: int | None = None
    """Limit of the memory that trying out one kernel may take while building, in MiB; None is the library's: on a
    Jetson, 75 % of the memory that CPU and GPU share."""
    version_compatible: bool = False
    """Loads in later versions too; larger, sometimes slower, and it cannot be stripped."""
    hardware_compatibility: HardwareCompatibility = "none"
    """`none`: for this model of GPU. `same_compute_capability`: for all GPUs of its compute capability (TensorRT 10.9
    and later). `ampere_plus`: for Ampere and later. Wider is slower. Not on a Jetson."""
    strip_weights: bool = False
    """Leave the weights out of the engine file; they are put back from `<engine>.weights.onnx` when it is loaded."""
    timing_caches: Path | None = None
    """Folder of timing caches, one file per version, device and kind of network; None builds without one."""

    @property
    def workspace_bytes(self) -> int | None:
        """`workspace_mb` in bytes."""
        return None if self.workspace_mb is None else int(self.workspace_mb) << 20

    @property
    def tactic_dram_bytes(self) -> int | None:
        """`tactic_dram_mb` in bytes."""
        return None if self.tactic_dram_mb is None else int(self.tactic_dram_mb) << 20
