"""How fast a training runs: images a second, the share spent waiting for data, and of the arithmetic limit."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

# Dense bf16 rate of tensor cores in FLOP/s, from NVIDIA's data sheets; the first name that occurs in the GPU's counts.
_GPU_PEAKS = (
    ("H200", 989e12), ("H100 PCIe", 756e12), ("H100 NVL", 835e12), ("H100", 989e12), ("B200", 2250e12),
    ("A100", 312e12), ("L40S", 362e12), ("L40", 181e12), ("L4", 121e12), ("A10G", 70e12), ("A10", 125e12),
)  # fmt: skip
_MATMUL_SIDES = (128, 256, 512, 1024)
_MATMULS = 5
_LONG_S = 0.02


class Meter:
    """Times the epochs of a training.

    Args:
        flops_per_image: floating-point operations for one image, or None.
        peak: FLOP/s of the device, or None; the utilisation is None if either is.
    """

    def __init__(self, flops_per_image: float | None = None, peak: float | None = None) -> None:
        self._flops, self._peak = flops_per_image, peak
        self._began = self._waited_before = 0.0
        self._images = self._skipped_images = 0
        self._skipped_seconds = 0.0
        self._rate: float | None = None

    def start(self, waited: float) -> None:
        """Begin an epoch; `waited` is the total of seconds waited for data so far."""
        self._began, self._waited_before = time.perf_counter(), waited
        self._images = self._skipped_images = 0
        self._skipped_seconds = 0.0

    def count(self, images: int, skipped: float | None = None) -> None:
        """Images have been trained on; `skipped` seconds of compilation do not count, nor do their images."""
        self._images += images
        if skipped is not None:
            self._skipped_images += images
            self._skipped_seconds += skipped

    def stop(self, waited: float) -> dict[str, float | None]:
        """End the epoch, with the device idle.

        Returns:
            "seconds" (all of them), "images_per_s" (without compilation), "data_wait" (share of the seconds, 0 to 1)
            and "mfu" (model FLOP/s as a share of the device's peak; None where either is unknown).
        """
        seconds = time.perf_counter() - self._began
        timed, rest = self._images - self._skipped_images, seconds - self._skipped_seconds
        rate = timed / rest if timed and rest > 0 else self._images / seconds
        self._rate = rate
        known = self._flops is not None and self._peak is not None
        return {
            "seconds": seconds,
            "images_per_s": rate,
            "data_wait": (waited - self._waited_before) / seconds,
            "mfu": rate * (self._flops or 0) / (self._peak or 1) if known else None,
        }

    def note(self) -> str:
        """Speed in words, from the last epoch or, in the first one, from what there is of it."""
        rate = self._rate
        if rate is None:
            timed = self._images - self._skipped_images
            rest = time.perf_counter() - self._began - self._skipped_seconds
            if not timed or rest <= 0:
                return ""
            rate = timed / rest
        return f", {rate:,.0f} images/s"


def training_flops(model: nn.Module, image_size: int, *, backward: bool = True) -> float | None:
    """Floating-point operations of one image's forward (and backward) pass, as torch counts them.

    Matrix products and convolutions only, a multiply-add as two. Runs on shapes alone (the meta device), so that
    weights, statistics and generators stay as they are. None for a model that cannot be run that way.
    """
    from torch.utils.flop_counter import FlopCounterMode

    tensors = {
        name: torch.empty_like(tensor, device="meta").requires_grad_(backward and tensor.requires_grad)
        for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers())
    }
    images = torch.empty(2, image_size, image_size, 3, dtype=torch.uint8, device="meta")
    try:
        counted = FlopCounterMode(
            display=False, custom_mapping={torch.ops.aten.convolution_backward: _backward}
        )
        with counted as counter, torch.set_grad_enabled(backward):
            logits = torch.func.functional_call(model, tensors, (images,))
            if backward:
                logits.sum().backward()
    except Exception:  # whatever an unknown network does with tensors that have no values
        return None
    return float(counter.get_total_flops()) / len(images)


def _backward(
    gradient: Sequence[int], inputs: Sequence[int], weight: Sequence[int], *rest: Any, **_: Any
) -> int:
    """A convolution's backward pass from shapes: as much as forward for the gradient of its input and of its weight.

    torch's own count takes the latter for one group, so that a depthwise convolution counts `groups` times.
    """
    transposed, wanted = rest[4], rest[7]
    positions = (inputs if transposed else gradient)[2:]
    return 2 * int(sum(wanted[:2])) * gradient[0] * math.prod(positions) * math.prod(weight)


@functools.cache
def peak_flops(device: str, amp: str) -> float | None:
    """FLOP/s that the device reaches at best: measured on a CPU, from a table on a GPU; None where unknown.

    The measurement is the best of a few products of square matrices, at the current number of threads. It ends with
    the first size that takes long: where a CPU has no bf16 instructions, a product of the largest takes seconds.
    """
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name()
        # Without autocast a GPU mixes fp32 and TF32, which no single peak describes.
        return next((peak for key, peak in _GPU_PEAKS if key in name), None) if amp == "bf16" else None
    kind = torch.bfloat16 if amp == "bf16" else torch.float32
    best = 0.0
    for side in _MATMUL_SIDES:
        matrix = torch.ones(side, side, dtype=kind)
        seconds = []
        for _ in range(_MATMULS):
            began = time.perf_counter()
            matrix @ matrix
            seconds.append(time.perf_counter() - began)
        best = max(best, 2 * side**3 / min(seconds))
        if min(seconds) > _LONG_S:
            break
    return best
