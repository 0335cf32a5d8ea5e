"""The pipe to a device, with `cat` at its other end."""

from __future__ import annotations

import json
import os
import time

import pytest

from pipeline.devices.channel import Bounds, Channel, ConnectionLost
from tests.descriptors import many_descriptors


def _bounds() -> Bounds:
    return Bounds(1000, 1000, time.monotonic() + 30)


def test_a_process_with_many_open_files_talks_to_devices() -> None:
    """Protects fleets: a connection takes several descriptors, and those from 1024 on work like others."""
    with many_descriptors():
        channel = Channel(["cat"], 30)
        assert channel._in > 1024 and channel._out > 1024
        channel.send({"ask": 1})
        assert json.loads(channel.receive_line(_bounds())) == {"ask": 1}
        channel.close()
        assert channel._process.returncode == 0, "it was killed, because its end was not noticed"


@pytest.mark.parametrize("waits", ["for an answer", "for its words to be taken"])
def test_silence_has_a_limit(waits: str) -> None:
    """Protects against a device that hangs."""
    channel = Channel(["sleep", "60"], 0.2)
    try:
        with pytest.raises(ConnectionLost, match=r"for 0\.2 s"):
            if waits == "for an answer":
                channel.receive_line(_bounds())
            else:
                channel.send_bytes(bytes(1 << 20))
    finally:
        os.kill(channel._process.pid, 9)
        channel.close()
