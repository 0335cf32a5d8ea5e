"""The checks in order of value, and what a check may answer. Imports nothing that a bare machine might lack."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Found = dict[str, Any]
STATES = ("passed", "failed", "not applicable", "not run")
_OURS = ("benchmarks", "export", "figkd", "pipeline")


class NotRun(Exception):
    """The machine lacks what the check needs."""


class NotApplicable(Exception):
    """The check makes no sense for this library or version."""


class Failed(Exception):
    """The check did not hold; `found` says what was measured."""

    def __init__(self, what: str, found: Found | None = None) -> None:
        super().__init__(what)
        self.found = found or {}


@dataclass(frozen=True)
class Options:
    """What all checks are told.

    Attributes:
        device: "cuda" or "cpu".
        tiny: little data and small networks, to try the checks themselves.
        folder: for files, shared by the processes of a group that follow each other.
    """

    device: str
    tiny: bool
    folder: Path


@dataclass(frozen=True)
class Check:
    """A check by name.

    Attributes:
        group: checks of a group share a process while all goes well.
        name: unique in its group.
        module: has `CHECKS`, functions of what its `prepare` returns, by name.
        seconds: after so many it is stopped.
    """

    group: str
    name: str
    module: str
    seconds: float

    @property
    def title(self) -> str:
        """Its name among all checks."""
        return self.name if self.group == self.name else f"{self.group}/{self.name}"


def _alone(name: str, module: str, seconds: float) -> Check:
    return Check(name, name, f"{__package__}.{module}", seconds)


ENGINES = {
    "names": 40, "build": 100, "parity": 60, "profiles": 40, "graph": 40, "timing": 90, "trtexec": 60, "streams": 40,
    "timing_cache": 120, "foreign_cache": 60, "stripping": 60, "version_compatible": 60, "hardware_compatible": 90,
    "weak_typing": 60, "bf16": 60, "limits": 90, "refusals": 40, "unsupported": 40,
}  # fmt: skip
LIBRARIES = ("tensorrt", "tensorrt_rtx")
CHECKS = (
    _alone("losses", "training", 60),
    _alone("figkd", "training", 90),
    _alone("amp", "training", 60),
    _alone("compile", "training", 120),
    _alone("cache", "training", 60),
    _alone("resume", "training", 60),
    _alone("speed_64", "speed", 150),
    _alone("limit_64", "speed", 90),
    *(Check(library, name, f"{__package__}.engines", most) for library in LIBRARIES for name, most in ENGINES.items()),
    _alone("limit_512", "speed", 90),
    _alone("speed_512", "speed", 150),
)  # fmt: skip


def demand(holds: bool, what: str, found: Found) -> Found:
    """Return `found`, or fail with it."""
    if not holds:
        raise Failed(what, found)
    return found


def run_check(check: Callable[[Any], Found], rig: Any) -> Found:
    """One check's result: `state`, `why` where it did not pass, `about`, `found`; `broke` if it was a mistake."""
    about = " ".join((check.__doc__ or "").split())
    try:
        return {"state": "passed", "why": "", "about": about, "found": check(rig)}
    except Exception as error:  # one check must not take the others along
        return {"about": about, **ended_by(error)}


def ended_by(error: Exception) -> Found:
    """What an exception says of a check: see `run_check`."""
    state, found = "failed", {}
    if isinstance(error, NotApplicable):
        state = "not applicable"
    elif isinstance(error, NotRun) or _lacks_package(error):
        state = "not run"
    elif isinstance(error, Failed):
        found = error.found
    else:
        last = "".join(traceback.format_exception(error))[-3000:]
        why = f"{type(error).__name__}: {error}"
        return {"state": state, "why": why, "found": {"traceback": last}, "broke": True}
    return {"state": state, "why": str(error), "found": found}


def _lacks_package(error: Exception) -> bool:
    """Whether a package of others is missing, not a module of ours."""
    return isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] not in _OURS
