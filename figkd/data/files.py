"""From lists of images to a prepared data folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from figkd.data.decode import Job, decode_many
from figkd.data.listing import Sample
from figkd.data.look import levels_of
from figkd.data.on_the_fly import FileListWriter, common_root, write_root
from figkd.data.originals import write_originals
from figkd.data.room import usable_cpus
from figkd.data.sources import Sources
from figkd.data.store import SPLITS, SplitName, SplitWriter, new_folder, write_contents, write_facts
from figkd.data.tally import Tally
from figkd.errors import DataError
from figkd.files import Json
from figkd.progress import Progress

MAX_SKIPPED = 0.5
"""More than this fraction of unreadable images in a split is an error: something else is wrong."""


def write_samples(
    out: Path,
    classes: Sequence[str],
    splits: Mapping[SplitName, Sequence[Sample]],
    *,
    contents: Mapping[str, str],
    store_size: int,
    facts: Mapping[str, Any],
    progress: Progress,
    workers: int | None = None,
) -> Json:
    """Decode all samples into a prepared data folder; returns what data.json says.

    `contents` has the digest of each sample's content by its id.

    With "decode": "on_the_fly" among the facts, the folder gets lists of the files instead of pixels. They are
    decoded all the same, once, so that a file that cannot be is found now.

    Samples that cannot be decoded are left out and listed under "skipped" with split and reason. "decoding" says what
    was done to unusual ones (see `figkd.data.tally`), "sources" what all were before (`figkd.data.sources`). "mean" and
    "std" are of the training images, per channel, on the scale 0..1.

    Raises:
        DataError: a split is empty, or more than half of it cannot be decoded.
    """
    on_the_fly = facts.get("decode") == "on_the_fly"
    total = sum(len(splits[name]) for name in SPLITS)
    done = 0
    skipped: list[dict[str, str]] = []
    counts: dict[str, int] = {}
    moments = np.zeros((2, 3))
    threads = workers or usable_cpus()
    rules = levels_of([_job(sample) for sample in splits["train"]], threads)
    tally, sources = Tally(rules), Sources(int(facts["image_size"]))
    root = common_root([_job(s) for name in SPLITS for s in splits[name]]) if on_the_fly and total else Path()
    with new_folder(out) as folder:
        if on_the_fly:
            write_root(folder, root)
        for name in SPLITS:
            samples = splits[name]
            jobs = (_job(sample) for sample in samples)
            decoded = decode_many(jobs, store_size, threads, rules)
            seen: set[int] = set()
            kept: list[Sample] = []
            with (
                FileListWriter(folder, name, root) if on_the_fly else SplitWriter(folder, name, store_size)
            ) as writer:
                for sample, image in zip(samples, decoded, strict=True):
                    if isinstance(image, DataError):
                        skipped.append({"split": name, "file": sample.sample_id, "reason": image.what})
                    else:
                        if isinstance(writer, FileListWriter):
                            writer.append(_job(sample), sample.label, sample.sample_id)
                        else:
                            writer.append(image.pixels, sample.label, sample.sample_id)
                        seen.add(sample.label)
                        kept.append(sample)
                        tally.add(image, sample.sample_id)
                        sources.add(image.source)
                        if name == "train":
                            moments += channel_moments(image.pixels)
                    done += 1
                    progress(done, total, f"{name} images")
                counts[name] = len(writer)
            write_contents(folder, name, [contents[sample.sample_id] for sample in kept])
            if len(samples) and counts[name] < len(samples) * (1 - MAX_SKIPPED):
                reason = skipped[-1]
                raise DataError(
                    f"{len(samples) - counts[name]} of {len(samples)} {name} images cannot be decoded, "
                    f"e.g. {reason['file']}: {reason['reason']}",
                    "check the files",
                )
            if not counts[name]:
                raise DataError(f"the {name} split has no images", "check the folder, or the split fractions")
            if name == "train" and (unseen := sorted(set(range(len(classes))) - seen)):
                names = ", ".join(classes[label] for label in unseen[:5])
                raise DataError(
                    f"no training image of {names} can be decoded", "check the files, or remove the class"
                )
            if name == "test":
                write_originals(folder, kept)
        mean, std = mean_and_std(moments, counts["train"])
        said = {**facts, "classes": len(classes), "store_size": store_size, "counts": counts}
        said.update({"mean": mean, "std": std, "skipped": skipped, "sources": sources.facts()})
        if decoding := tally.facts():
            said["decoding"] = decoding
        write_facts(folder, classes, said)
    return said


def _job(sample: Sample) -> Job:
    return Job(sample.image, sample.box, sample.cut_bottom)


def channel_moments(pixels: Any) -> Any:
    """First and second moments of an image uint8 [S, S, 3], per channel, scale 0..1: float64 [2, 3]."""
    # Sums of whole numbers below 2^53 are exact, so that the result does not depend on the order of addition.
    # This runs in one thread, while the others decode: float64 planes are ten times faster here than int64 pixels.
    planes = np.ascontiguousarray(pixels.reshape(-1, 3).T).astype(np.float64)
    count = planes.shape[1]
    squares = np.einsum("ij,ij->i", planes, planes)
    return np.stack([planes.sum(1) / (255.0 * count), squares / (255.0**2 * count)])


def mean_and_std(moments: Any, count: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel from summed moments of `count` images."""
    mean = moments[0] / max(count, 1)
    variance = np.maximum(moments[1] / max(count, 1) - mean**2, 0)
    return [round(float(v), 6) for v in mean], [round(float(v), 6) for v in np.sqrt(variance)]
