"""What benchmarks of training share: facts about the device, its measured rates, networks and images for it."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from figkd.data.split import Split
from figkd.models import ImageClassifier, build_model
from figkd.replicas import threads

PAIRS = {
    "fonts": ("figkd/resnet_tiny", "figkd/dsconv_nano", 21),
    "cifar": ("figkd/resnet32x4", "figkd/resnet8x4", 100),
}
"""Teacher, student, classes."""

SIDE, PAD = 32, 4
Run = Callable[[Callable[..., None]], list[dict[str, Any]]]
"""A training that is given the progress that it reports to, and returns its history."""


def facts(device: str) -> dict[str, Any]:
    """The machine and its versions."""
    return {
        "device": torch.cuda.get_device_name() if device != "cpu" else _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": _version("torchvision"),
        "cuda": torch.version.cuda if device != "cpu" else None,
        "cudnn": torch.backends.cudnn.version() if device != "cpu" else None,
        "numpy": np.__version__,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def spread(values: list[float]) -> dict[str, Any]:
    """Median, quartiles and number."""
    low, high = np.percentile(values, [25, 75])
    return {"median": statistics.median(values), "q1": float(low), "q3": float(high), "n": len(values)}


def best(work: Callable[[], Any], device: str, times: int = 20) -> float:
    """Shortest of some times, in seconds; on a CPU in CPU seconds of one thread.

    The time of other threads reaches a process's clock up to a tick late, so the shortest would leave some of it out.
    """
    clock = time.thread_time if device == "cpu" else time.perf_counter
    seconds = []
    with threads(1) if device == "cpu" else contextlib.nullcontext():
        for _ in range(times):
            wait(device)
            began = clock()
            work()
            wait(device)
            seconds.append(clock() - began)
    return min(seconds)


def matmul_rate(device: str, amp: str) -> float:
    """FLOP/s (on a CPU, per CPU second) of a large matrix product in the dtype of the forward pass."""
    dtype = torch.bfloat16 if amp == "bf16" else torch.float32
    rates = []
    for side in (256, 512, 1024) if device == "cpu" else (4096, 8192):  # the fastest fits in the caches
        left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
        rates.append(2 * side**3 / best(lambda one=left, other=right: one @ other, device, 8))  # type: ignore[misc]
    return max(rates)


def copy_rate(device: str) -> float:
    """Bytes/s (on a CPU, per CPU second), read and written, of a large copy: the best of several."""
    count = 2**26 if device == "cpu" else 2**30
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / best(lambda: target.copy_(source), device)


def make_pair(pair: str, size: int) -> tuple[ImageClassifier, ImageClassifier, Split]:
    """Teacher, student and random images."""
    teacher_name, student_name, classes = PAIRS[pair]
    torch.manual_seed(0)
    teacher = build_model(teacher_name, classes, image_size=SIDE).eval()
    student = build_model(student_name, classes, image_size=SIDE)
    return teacher, student, random_images(size, SIDE, classes)


def random_images(size: int, side: int, classes: int) -> Split:
    """So many square images with labels, the same every time."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size, side, side, 3), dtype=np.uint8)
    return Split(images, rng.integers(0, classes, size), [str(number) for number in range(size)])


def take_turns(run: Run, between: Callable[[], dict[str, float]]) -> list[dict[str, float]]:
    """Run a training with a round of something else after each epoch, and leave out the first.

    Returns:
        Of each epoch "ours" (images/s) and "cpu_seconds", and what `between` found after it.
    """
    rows: list[dict[str, float]] = []
    last, busy = -1, time.process_time()

    def after(done: int, total: int, note: str) -> None:
        nonlocal last, busy
        if done == last:  # said twice: the epoch is over, and its clock has stopped
            own = time.process_time() - busy
            rows.append({"cpu_seconds": own, **between()})
            busy = time.process_time()
        last = done

    history = run(after)
    for row, record in zip(rows, history, strict=True):
        row["ours"] = record["timing"]["images_per_s"]
    return rows[1:]
