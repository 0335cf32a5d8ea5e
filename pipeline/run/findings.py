"""What a look at a machine found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "absent", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `absent` is worth knowing, `fault` stops a run.

    `device` is the device that it is about, empty for this machine.
    """

    what: str
    state: State
    found: str
    fix: str = ""
    wanted: str = ""
    device: str = ""
