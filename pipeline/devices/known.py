"""What is known of the devices of a run: each is asked once, and remembered for when it is off."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import TypedDict

from pipeline.config.targets import Target
from pipeline.core.address import LOCAL, Device
from pipeline.core.errors import DeviceFault
from pipeline.core.files import read_json, write_json
from pipeline.devices.facts import Facts
from pipeline.devices.messages import Unfit, checked
from pipeline.devices.session import connect


def device_of(target: Target) -> Device | None:
    """The device that a target names; None for this machine."""
    if target.device == LOCAL:
        return None
    return Device(target.device, **target.remote.model_dump())


class _Remembered(TypedDict):
    """What a device said when it was last reached."""

    device: str
    seen: str
    facts: Facts


@dataclass
class _Entry:
    guard: threading.Lock = field(default_factory=threading.Lock)
    asked: bool = False
    facts: Facts | None = None
    fault: DeviceFault | None = None


class KnownDevices:
    """Facts of devices. May be asked from several threads.

    Args:
        folder: where facts are remembered.
        note: told what is worth a line.
    """

    def __init__(self, folder: Path, note: Callable[[str], None] = lambda text: None) -> None:
        self.note = note
        self._folder = folder
        self._guard = threading.Lock()
        self._entries: dict[Device, _Entry] = {}

    def facts(self, device: Device) -> Facts:
        """What the device's `facts` job says; what it said last time if it cannot be reached now.

        Raises:
            DeviceFault: it cannot be reached, and never was.
        """
        entry = self._ask(device)
        if entry.facts is None:
            assert entry.fault is not None
            raise entry.fault
        return entry.facts

    def fault(self, device: Device) -> DeviceFault | None:
        """Why the device cannot be worked with now; None if it can."""
        return self._ask(device).fault

    def ask(self, devices: Iterable[Device]) -> None:
        """Ask all of these at once, as those that are off take their time."""
        wanted = {device for device in devices if not self._entry(device).asked}
        if wanted:
            with ThreadPoolExecutor(len(wanted)) as pool:
                list(pool.map(self._ask, wanted))

    def _entry(self, device: Device) -> _Entry:
        with self._guard:
            return self._entries.setdefault(device, _Entry())

    def _ask(self, device: Device) -> _Entry:
        entry = self._entry(device)
        with entry.guard:
            if not entry.asked:
                self._fill(device, entry)
                entry.asked = True
        return entry

    def _fill(self, device: Device, entry: _Entry) -> None:
        path = self._folder / f"{hashlib.sha256(device.url.encode()).hexdigest()[:16]}.json"
        try:
            with connect(device, note=self.note) as session:
                entry.facts = session.facts()
        except DeviceFault as fault:
            entry.fault = fault
            try:
                remembered = checked(_Remembered, read_json(path))
            except (OSError, ValueError, Unfit):
                return
            entry.facts = remembered["facts"]
            self.note(f"{fault.what}; taken as it was on {remembered['seen']}")
            return
        seen = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_json(path, {"device": device.url, "seen": seen, "facts": entry.facts})
