"""From a started ssh to an agent that says hello."""

from __future__ import annotations

import time

from pipeline.core.address import Device
from pipeline.core.errors import DeviceFault
from pipeline.devices.agent.wire import PROTOCOL
from pipeline.devices.archive import OLDEST_PYTHON, Archive, order, remote_command
from pipeline.devices.channel import Bounds, Channel, TooMuch
from pipeline.devices.faults import fault
from pipeline.devices.messages import (
    Greeting,
    Hello,
    Need,
    NoFolder,
    OldPython,
    Ready,
    Unfit,
    read,
    read_first,
)
from pipeline.devices.sharing import sharing_options

# Lines that a login shell may print before the agent speaks.
_CHATTER_LINES = 1000
# All that is said until the agent has greeted, and one line of it, in bytes; and how long it may take, in s.
_GREETING_BYTES, _LINE_BYTES, _GREETING_S = 4 << 20, 1 << 20, 300.0


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


def greet(channel: Channel, device: Device, agent: Archive) -> Hello:
    """Start the agent, sent along if it is not there yet; what it says of itself and the device.

    Raises:
        ConnectionLost: nobody is there.
        Unfit, TooMuch: what is there is not an agent.
        DeviceFault: the device cannot run the agent.
    """
    bounds = Bounds(_LINE_BYTES, _GREETING_BYTES, time.monotonic() + _GREETING_S)
    channel.send_bytes(order(device, agent))
    said = _first_words(channel, bounds)
    if isinstance(said, Need):
        channel.send_bytes(agent.content)
        said = _first_words(channel, bounds)
    if isinstance(said, OldPython | NoFolder):
        raise _refusal(device, said)
    if isinstance(said, Need):
        raise Unfit("it asks for the agent again")
    line = channel.receive_line(bounds)
    protocol = read(Greeting, line).protocol
    if protocol != PROTOCOL:
        raise fault(
            device,
            f"its agent speaks version {protocol} of the protocol, this program {PROTOCOL}",
            f"figkd-pipeline device clean {device.url}, then run again",
        )
    return read(Hello, line)


def _first_words(channel: Channel, bounds: Bounds) -> Need | Ready | OldPython | NoFolder:
    """What the bootstrap says, after whatever the login shell printed."""
    for _ in range(_CHATTER_LINES):
        _, mark, rest = channel.receive_line(bounds).partition(b"figkd-agent ")
        if mark:
            return read_first(rest)
    raise TooMuch("its login shell prints without end")


def _refusal(device: Device, said: OldPython | NoFolder) -> DeviceFault:
    if isinstance(said, OldPython):
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return fault(
            device,
            f"its Python ({device.python}) is {said.found}; {oldest} or later is needed",
            "install a newer one next to it, and set the target's remote.python to it",
        )
    what = f"the work folder {said.folder} cannot be used: {said.problem}"
    fix = said.fix or ("free some space there" if said.full else "make it writable")
    return fault(device, what, f"{fix}, or set the target's remote.folder to another place")
