"""Timing several engines side by side: the benchmark stage's and the `benchmark` command's common core."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.files import write_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.engines.protocol import Engine

Samples = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Measured:
    """Statistics in rows of JSON values, the raw samples behind them, and facts about the machine."""

    statistics: list[dict[str, Any]]
    samples: dict[str, dict[str, np.ndarray]]
    machine: dict[str, Any]


def measure_engines(
    engines: Mapping[str, Engine],
    stored: npt.NDArray[np.uint8],
    inputs: npt.NDArray[Any],
    *,
    image_size: int,
    batch_sizes: Sequence[int],
    boundaries: Sequence[str],
    warmup_s: float,
    min_samples: int,
    min_seconds: float,
    max_seconds: float,
    rounds: int,
    progress: Callable[[int, int, str], None],
) -> Measured:
    """Time every engine at every batch size and boundary, taking turns.

    Args:
        engines: by id.
        stored: uint8 [N, S, S, 3], what `image_to_class` decodes after it was encoded as JPEG.
        inputs: the same images as the graph takes them, [N, ...].
        image_size: side of the crop that the graph takes, pixels.
        batch_sizes: images in an inference.
        boundaries: `engine`, `engine+copies`, `image_to_class` (always one image).
        warmup_s: seconds before the first sample.
        min_samples: fewest samples of each case.
        min_seconds: least time for each case.
        max_seconds: most time for each case.
        rounds: turns.
        progress: called as progress(done, total, note).
    """
    import numpy as np

    from export.image import time_image_to_class
    from export.machine import machine_facts
    from export.measure import latency_stats, measure_interleaved

    limits: dict[str, Any] = {
        "warmup_s": warmup_s, "min_samples": min_samples, "min_seconds": min_seconds, "max_seconds": max_seconds,
    }  # fmt: skip
    before = machine_facts()
    cases = []
    meaning: dict[str, tuple[str, int, str]] = {}
    for boundary in boundaries:
        if boundary == "image_to_class":
            continue
        for batch in batch_sizes:
            images = np.ascontiguousarray(np.resize(inputs, (batch, *inputs.shape[1:])))
            for name, engine in engines.items():
                case = f"{name}|{batch}|{boundary}"
                cases.append((case, engine, images, boundary))
                meaning[case] = (name, batch, boundary)
    samples: dict[str, Any] = {}
    if cases:
        samples |= measure_interleaved(cases, rounds=rounds, progress=progress, **limits)
    if "image_to_class" in boundaries:
        encoded = [_jpeg(image) for image in stored]
        for done, (name, engine) in enumerate(engines.items()):
            progress(done, len(engines), f"{name} image to class")
            case = f"{name}|1|image_to_class"
            meaning[case] = (name, 1, "image_to_class")
            samples[case] = time_image_to_class(
                engine, encoded, store_size=stored.shape[1], image_size=image_size, **limits
            )
    statistics = []
    for case, (name, batch, boundary) in meaning.items():
        found = samples[case]
        row = {"id": name, "batch": batch, "boundary": boundary, "samples": case}
        figures = latency_stats(found.latency, batch=batch, wall_seconds=found.wall_seconds)
        row |= figures | {"throughput": figures.pop("throughput_images_per_s")}
        row["warnings"] = [*figures["warnings"], *found.notes]
        parts = {k: float(np.median(v)) for k, v in found.arrays.items() if k != "latency"}
        statistics.append(row | ({"median_of_parts_ms": parts} if parts else {}))
    raw = {case: dict(found.arrays) for case, found in samples.items()}
    return Measured(statistics, raw, {"before": before, "after": machine_facts()})


def _jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def save_samples(path: Path, samples: Samples) -> None:
    """Write raw samples (ms) as one .npz; the names are `<engine>|<batch>|<boundary>|<part>`."""
    import numpy as np

    buffer = io.BytesIO()
    arrays = {f"{case}|{part}": values for case, parts in samples.items() for part, values in parts.items()}
    np.savez_compressed(buffer, **{name.replace("/", ":"): values for name, values in arrays.items()})
    write_bytes(path, buffer.getvalue())
