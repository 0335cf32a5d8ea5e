"""What the stages' work on a device has in common: the session, a job, and the files that go to and fro."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.devices import results
from pipeline.devices.facts import Facts
from pipeline.devices.faults import unfit
from pipeline.devices.messages import Event, Job, Unfit
from pipeline.devices.session import Done, Session, connect
from pipeline.devices.store import Part, parts
from pipeline.places import access
from pipeline.stages.base import Work

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

R = TypeVar("R")


@contextlib.contextmanager
def device_session(work: Work) -> Iterator[tuple[Session, Facts]]:
    """A session with the target's device, and what it says of itself."""
    assert work.device is not None  # the stage asked for a device
    with connect(work.device, note=work.note) as session:
        yield session, session.facts()


def run_job(work: Work, session: Session, job: Job[R], request: dict[str, Any], what: str) -> Done[R]:
    """Run a job that outlives the connection; a job of an earlier run that asked for the same is taken."""

    def told(event: Event) -> None:
        if event.progress is not None:
            done, total, note = event.progress
            work.progress(done, total, f"{what}: {note}")

    done = session.run(job, request, told, detached=True)
    if done.found:
        work.note(
            f"{what}: the job '{job.name}' of an earlier run was found on {session.device.name} and taken"
        )
    return done


def engine_specs(
    session: Session, work: Work, facts: Facts, built: Path, rows: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Engine files sent (those built there are there already), and how they are loaded."""
    specs = {}
    for row in rows:
        digest = session.put(built / row["file"], amount_of(work, f"sending {row['file']}"))
        known = ("threads", "spinning", "denormals_as_zero")
        options = {key: work.arguments[key] for key in known if key in work.arguments}
        specs[row["id"]] = access.engine_spec(facts, row, digest, options)
    return specs


def image_groups(
    work: Work, session: Session, images: npt.NDArray[np.uint8], *, together: bool
) -> Iterator[list[dict[str, Any]]]:
    """Parts of the images that are on the device: all of them, or one after the other."""
    group: list[dict[str, Any]] = []
    sent = 0
    for part in parts(images, work.scratch / "images"):
        group.append(_sent(session, part, work, sent, len(images)))
        sent += part.count
        if not together:
            yield group
            group = []
    if group:
        yield group


def _sent(session: Session, part: Part, work: Work, before: int, total: int) -> dict[str, Any]:
    def amount(done: int, size: int) -> None:
        work.progress(before + part.count * done // max(1, size), total, "test images on the device")

    return {"blob": session.put(part.path, amount), "count": part.count}


def put_bytes(session: Session, folder: Path, content: bytes) -> str:
    """Send a few bytes; returns their digest."""
    path = folder / "encoded.jpg"
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


def amount_of(work: Work, what: str) -> Callable[[int, int], None]:
    """Progress of a file that is sent."""
    return lambda done, total: work.progress(done >> 10, max(1, total >> 10), f"{what} (kB)")
