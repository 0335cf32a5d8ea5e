"""Each device is asked once a run, and remembered for when it is off."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import DeviceFault
from pipeline.devices.known import KnownDevices
from tests.pipeline.devices.sshd import Sshd


def test_a_device_that_is_off_is_remembered(sshd: Sshd, tmp_path: Path) -> None:
    """What was made on it is found in the store without it; working on it is refused with the reason."""
    device = sshd.device()
    facts = KnownDevices(tmp_path / "known").facts(device)
    assert facts["machine"]
    sshd.stop()
    known = KnownDevices(tmp_path / "known")
    fault = known.fault(device)
    assert fault is not None and "unreachable" in fault.what
    assert known.facts(device) == facts
    with pytest.raises(DeviceFault, match="unreachable"):
        KnownDevices(tmp_path / "empty").facts(device)
