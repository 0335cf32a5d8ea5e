"""Several devices: the first one alone if asked for, then the others at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.core.address import Device
from pipeline.core.errors import Exit, PipelineError
from pipeline.devices.session import abort_sessions

T = TypeVar("T")


@dataclass(frozen=True)
class Ended(Generic[T]):
    """How one device ended: with a result, with an error, or not begun because the first one failed."""

    device: Device
    result: T | None = None
    error: PipelineError | None = None

    @property
    def is_good(self) -> bool:
        """Whether it did what was asked."""
        return self.error is None and self.result is not None


def roll_out(
    devices: Sequence[Device],
    work: Callable[[Device], T],
    *,
    canary: bool = False,
    parallel: int = 8,
    tell: Callable[[Ended[T]], None] = lambda ended: None,
) -> list[Ended[T]]:
    """Work on devices.

    Args:
        devices: in this order.
        work: what is done with one; it raises `PipelineError`.
        canary: the first device must end well before the others begin.
        parallel: so many at the same time.
        tell: called with each as it ends.

    Returns:
        How each ended, in the order of `devices`.

    Raises:
        KeyboardInterrupt: it was interrupted; every device was notified, and left as `work` leaves it then.
    """

    stopping = threading.Event()

    def one(device: Device) -> Ended[T]:
        if stopping.is_set():
            raise KeyboardInterrupt
        try:
            ended = Ended(device, work(device))
        except PipelineError as error:
            ended = Ended(device, error=error)
        tell(ended)
        return ended

    first = [one(device) for device in devices[:1]] if canary else []
    rest = devices[len(first) :]
    if first and not first[0].is_good:
        return [*first, *(Ended(device) for device in rest)]
    with ThreadPoolExecutor(max_workers=max(1, min(parallel, len(rest)))) as pool:
        try:
            return [*first, *pool.map(one, rest)]
        except KeyboardInterrupt:
            stopping.set()
            abort_sessions()
            raise


def exit_code(ended: Sequence[Ended[T]]) -> Exit:
    """The exit code of all: 0 if all are good, else that of the fault that says most about the bundle."""
    found = {one.error.exit_code for one in ended if one.error is not None}
    for code in (Exit.BUNDLE_REFUSED, Exit.STAGE_FAILED, Exit.CONFIG, Exit.ENVIRONMENT):
        if code in found:
            return code
    return Exit.DEVICE if found else Exit.OK
