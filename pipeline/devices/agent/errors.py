"""What a job says when it cannot do what it was asked."""

from __future__ import annotations

MEMORY_ADVICE = (
    "close other programs, lower workspace_mb, add swap (a 4 GB swap file serves), and run again; "
    "on a Jetson the GPU uses the same memory"
)


class JobError(Exception):
    """A failure to be told to the user as it is.

    Args:
        what: what happened.
        fix: what to do about it.
        kind: `request` (asked for something that cannot be), `missing` (the device lacks something), `memory`,
            `disk`, `killed`, `rebooted`, `busy`, or `failed` for everything else.
    """

    def __init__(self, what: str, fix: str = "", kind: str = "failed") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.kind = kind


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
        return JobError(
            f"{what} was killed (137: {cause})", MEMORY_ADVICE, "memory" if oom_kills else "killed"
        )
    return JobError(f"{what} was ended by signal {signal_number}", "run again", "killed")
