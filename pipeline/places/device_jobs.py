"""What work on a device has in common: the session, a job, and the files that travel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.core.address import Device
from pipeline.devices import results
from pipeline.devices.agent.requests import Blob, EngineSpec, LoadOptions, Transform
from pipeline.devices.facts import Facts
from pipeline.devices.faults import unfit
from pipeline.devices.job_run import Done
from pipeline.devices.messages import Event, Job, Unfit
from pipeline.devices.session import Session, connect
from pipeline.devices.store import Part, parts
from pipeline.places import access
from pipeline.places.images import Images
from pipeline.places.place import Context
from pipeline.results.rows.engines import EngineRow

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

R = TypeVar("R")


@contextlib.contextmanager
def device_session(device: Device, context: Context) -> Iterator[tuple[Session, Facts]]:
    """A session with a device, and what it says of itself."""
    with connect(device, note=context.note) as session:
        yield session, session.facts()


def run_job(
    context: Context, session: Session, job: Job[R], request: Mapping[str, Any], what: str
) -> Done[R]:
    """Run a job that outlives the connection; a job of an earlier run that asked for the same is taken."""

    def on_event(event: Event) -> None:
        if event.progress is not None:
            done, total, note = event.progress
            context.progress(done, total, f"{what}: {note}")

    done = session.run(job, request, on_event, detached=True)
    if done.found:
        context.note(
            f"{what}: the job '{job.name}' of an earlier run was found on {session.device.name} and taken"
        )
    return done


def engine_specs(
    session: Session,
    context: Context,
    facts: Facts,
    built: Path,
    rows: Sequence[EngineRow],
    options: LoadOptions,
) -> dict[str, EngineSpec]:
    """Engine files sent (those built there are there already), and how they are loaded."""
    specs = {}
    for row in rows:
        file = row.engine.file
        digest = session.put(built / file, amount_of(context, f"sending {file}"))
        specs[row.id] = access.engine_spec(facts, row, digest, options)
    return specs


def transform(images: Images) -> Transform | None:
    """How the agent makes the graph's input of uint8 images; None where it takes them as they are."""
    found = images.normalisation()
    return None if found is None else {"mean": found.mean, "std": found.std}


def image_groups(
    context: Context, session: Session, images: npt.NDArray[np.uint8], *, together: bool
) -> Iterator[list[Blob]]:
    """Parts of the images that are on the device: all of them, or one after the other."""
    group: list[Blob] = []
    sent = 0
    for part in parts(images, context.scratch / "images"):
        group.append(_sent(session, part, context, sent, len(images)))
        sent += part.count
        if not together:
            yield group
            group = []
    if group:
        yield group


def _sent(session: Session, part: Part, context: Context, before: int, total: int) -> Blob:
    def amount(done: int, size: int) -> None:
        context.progress(before + part.count * done // max(1, size), total, "test images on the device")

    return {"blob": session.put(part.path, amount), "count": part.count}


def put_bytes(session: Session, folder: Path, content: bytes) -> str:
    """Send a few bytes; returns their digest."""
    path = folder / "encoded"
    path.write_bytes(content)
    try:
        return session.put(path)
    finally:
        path.unlink()


def fetch_array(
    session: Session, job: str, name: str, folder: Path, shape: tuple[int, ...], dtype: str = "float32"
) -> npt.NDArray[Any]:
    """An array that a job left as a file, of a shape and type that are known beforehand."""
    path = session.fetch(job, name, folder / name, results.npy_bytes(shape, dtype))
    try:
        return results.read_npy(path.read_bytes(), shape, dtype)
    except Unfit as error:
        raise unfit(session.device, f"its file {name}", error) from None
    finally:
        path.unlink()


def amount_of(context: Context, what: str) -> Callable[[int, int], None]:
    """Progress of a file that is sent."""
    return lambda done, total: context.progress(done >> 10, max(1, total >> 10), f"{what} (kB)")
