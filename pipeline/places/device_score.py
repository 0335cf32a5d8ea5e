"""Engines scored on a device: the images go there once, the logits come back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.core.address import Device
from pipeline.devices import results
from pipeline.devices.agent.requests import InferRequest
from pipeline.devices.results import INFER
from pipeline.devices.store import fits
from pipeline.places.device_jobs import (
    device_session,
    engine_specs,
    fetch_array,
    image_groups,
    run_job,
    transform,
)
from pipeline.places.place import Answers, Context, ScoreTask

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MOST_STARTS = 500
"""Batches that are scored through trtexec, which takes a second or two to start for each."""
# Copies of one image that must get the same logits.
_COPIES = 4


def score(device: Device, task: ScoreTask, context: Context) -> Iterator[Answers]:
    """See `Place.score`.

    Raises:
        DeviceFault: the device is lost.
    """
    import numpy as np

    from export.accuracy import rows_agree

    total = len(task.images.stored)
    rows = []
    for row in task.rows:
        if row.access == "trtexec" and total / max(row.engine.batch_sizes) > MOST_STARTS:
            context.note(
                f"{row.id}: not scored on the device: trtexec would be started for every batch of {total:,} images; "
                "sudo apt install python3-libnvinfer there, then --force validate"
            )
        else:
            rows.append(row)
    if not rows:
        return
    images, wanted = task.images.cropped(), transform(task.images)
    logits: dict[str, list[npt.NDArray[np.float32]]] = {row.id: [] for row in rows}
    agreeing: dict[str, bool] = {}
    with device_session(device, context) as (session, facts):
        specs = engine_specs(session, context, facts, task.built, rows, {"threads": task.threads})
        all_at_once = fits(images, session.hello.free)
        for group in image_groups(context, session, images, together=all_at_once):
            for row in rows:
                repeat = 0 if row.id in agreeing else max(_COPIES, *row.engine.batch_sizes)
                request: InferRequest = {
                    "engine": specs[row.id],
                    "parts": group,
                    "image": list(images.shape[1:]),
                    "transform": wanted,
                    "repeat": repeat,
                    "discard": not all_at_once and row is rows[-1],
                }
                done = run_job(context, session, INFER, request, row.id)
                shape = (sum(part["count"] for part in group), task.classes)
                logits[row.id].append(fetch_array(session, done.job, results.LOGITS, context.scratch, shape))
                if repeat:
                    again = (repeat, task.classes)
                    repeated = fetch_array(session, done.job, results.REPEATED, context.scratch, again)
                    agreeing[row.id] = rows_agree(repeated)
                session.release(done.job)
    for row in rows:
        yield Answers(row.id, np.concatenate(logits.pop(row.id)), agreeing[row.id])
