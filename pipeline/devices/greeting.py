"""From a started ssh to an agent that says hello."""

from __future__ import annotations

import json
from typing import Any

from pipeline.devices.address import Device
from pipeline.devices.agent.wire import PROTOCOL
from pipeline.devices.archive import OLDEST_PYTHON, Archive, order, remote_command
from pipeline.devices.channel import Channel, ConnectionLost
from pipeline.devices.faults import fault
from pipeline.devices.sharing import sharing_options
from pipeline.errors import DeviceFault

# Lines that a login shell may print before the agent speaks.
_CHATTER_LINES = 1000


def start(device: Device) -> Channel:
    """Start ssh.

    Raises:
        DeviceFault: there is no ssh here.
    """
    command = device.command(remote_command(device), sharing_options(device))
    try:
        return Channel(command, device.silence_s)
    except OSError as error:
        raise fault(device, f"ssh cannot be started: {error}", "install the OpenSSH client") from error


def greet(channel: Channel, device: Device, agent: Archive) -> dict[str, Any]:
    """Start the agent, sent along if it is not there yet; what it says of itself and the device.

    Raises:
        ConnectionLost: nobody is there.
        DeviceFault: the device cannot run the agent.
    """
    channel.send_bytes(order(device, agent))
    said = _first_words(channel)
    if said["type"] == "need":
        channel.send_bytes(agent.content)
        said = _first_words(channel)
    if said["type"] == "error":
        raise _refusal(device, said)
    hello = channel.receive() or {}
    if hello.get("type") != "hello" or hello.get("protocol") != PROTOCOL:
        raise fault(
            device,
            f"its agent speaks version {hello.get('protocol')} of the protocol, this program {PROTOCOL}",
            f"figkd-pipeline device clean {device.url}, then run again",
        )
    return hello


def _first_words(channel: Channel) -> dict[str, Any]:
    """What the bootstrap says, after whatever the login shell printed."""
    for _ in range(_CHATTER_LINES):
        _, mark, rest = channel.receive_line().partition(b"figkd-agent ")
        if mark:
            return dict(json.loads(rest))
    raise ConnectionLost("its login shell prints without end", errors="its login shell prints without end")


def _refusal(device: Device, said: dict[str, Any]) -> DeviceFault:
    if said["what"] == "python":
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return fault(
            device,
            f"its Python ({device.python}) is {said['found']}; {oldest} or later is needed",
            "install a newer one beside it, and set the target's remote.python to it",
        )
    what = f"the work folder {said['folder']} cannot be used: {said['problem']}"
    fix = "free some space there" if said["full"] else "make it writable"
    return fault(device, what, f"{fix}, or set the target's remote.folder to another place")
