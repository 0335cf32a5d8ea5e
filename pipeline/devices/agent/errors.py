"""What a job says when it cannot do what it was asked."""

from __future__ import annotations

from typing import Iterable

from export.runtime.errors import BackendMissing, EngineError, ExportError, bounded


class JobError(Exception):
    """A failure that is shown to the user as it is.

    What a library said is passed on as it is: what it means, and what helps, the host knows
    (`export.runtime.remedies`).

    Args:
        what: what happened.
        fix: what to do about it, where the host knows nothing better.
        kind: `request` (asked for something that cannot be), `missing` (the device lacks something), `memory`,
            `disk`, `killed`, `rebooted`, `busy`, or `failed` for everything else.
        said: a library's messages of the failure.
        beside: its warnings, and what others said meanwhile.
    """

    def __init__(
        self,
        what: str,
        fix: str = "",
        kind: str = "failed",
        said: Iterable[str] = (),
        beside: Iterable[str] = (),
    ) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.kind = kind
        self.said = bounded(said)
        self.beside = bounded(beside)


def job_error(error: ExportError) -> JobError:
    """An error of the runtime as a job's, with the library's messages as they were."""
    if isinstance(error, EngineError):
        return JobError(error.summary, error.advice, error.kind, error.said, error.beside)
    return JobError(error.what, error.fix, "missing" if isinstance(error, BackendMissing) else "failed")


def killed(what: str, signal_number: int, oom_kills: int = 0) -> JobError:
    """A process that a signal ended; 9 is how Linux ends one when memory is out (a shell shows it as 137).

    Args:
        what: the process, such as `trtexec`.
        signal_number: the signal.
        oom_kills: processes that the kernel has killed for memory since the job began.
    """
    if signal_number == 9:
        cause = (
            "the kernel's log of this time shows that memory ran out"
            if oom_kills
            else "usually out of memory"
        )
        return JobError(f"{what} was killed (137: {cause})", "", "memory" if oom_kills else "killed")
    return JobError(f"{what} was ended by signal {signal_number}", "run again", "killed")
