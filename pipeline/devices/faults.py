"""What OpenSSH's messages mean, and what a job's failure means: what happened, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable

from pipeline.core.address import Device
from pipeline.core.errors import DeviceFault
from pipeline.devices.channel import ConnectionLost
from pipeline.devices.messages import Failure

_Advice = Callable[[Device], str]

# First match wins; the texts are those of OpenSSH 7.6 to 10, which speaks English only.
_MEANINGS: tuple[tuple[str, str, _Advice], ...] = (
    (
        r"Offending .* key in",
        "the host key is not the one that was known: the device was set up again, or this is another machine",
        lambda d: f"make sure which it is; then remove that line and connect once by hand: {d.by_hand}",
    ),
    (
        r"Host key verification failed|host key is known|REVOKED HOST KEY",
        "its host key is not known here",
        lambda d: f"connect once by hand and compare the fingerprint: {d.by_hand}",
    ),
    (
        r"Permission denied|Too many authentication failures|No supported authentication methods",
        "authentication was refused",
        lambda d: (
            f"this must work without a question: {d.by_hand} -o BatchMode=yes true (ssh-copy-id installs a "
            "key; ssh-add gives an encrypted one to the agent)"
        ),
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        "there is no host of that name",
        lambda d: "check the name in the config, or add a Host entry to your ssh config",
    ),
    (
        r"Connection refused",
        "unreachable: nothing accepts ssh connections there",
        lambda d: f"is its ssh server running, and the port right? Try {d.by_hand}",
    ),
    (
        r"timed out|Timeout|No route to host|Network is unreachable|Host is down",
        "unreachable: no answer",
        lambda d: f"is it switched on and on the network? Try {d.by_hand}",
    ),
    (
        r"Bad configuration option|Can't open user config file|terminating, .* bad configuration|Bad owner or perm",
        "the ssh config cannot be used",
        lambda d: f"fix it until this works: {d.by_hand}",
    ),
    (
        r"kex_exchange_identification|Connection (closed|reset)|banner exchange",
        "its ssh server closed the connection",
        lambda d: f"too many connections, or a firewall? Try {d.by_hand}",
    ),
)


def connection_fault(device: Device, lost: ConnectionLost) -> DeviceFault:
    """Why a connection could not be made."""
    for pattern, what, advice in _MEANINGS:
        if found := re.search(pattern, lost.errors):
            line = next(text for text in lost.errors.splitlines() if found.group(0) in text)
            return fault(device, f"{what} ({line.strip(' @')})", advice(device))
    if lost.code in (126, 127):
        return fault(
            device,
            f"there is no Python: {_last(lost.errors) or device.python}",
            "install Python 3.8 or later there (apt install python3), or set the target's remote.python",
        )
    return fault(device, f"could not connect: {_last(lost.errors) or lost.reason}", f"try {device.by_hand}")


class JobFailed(DeviceFault):
    """A job on a device failed and said why.

    Attributes:
        kind: as `pipeline.devices.agent.errors.JobError` lists them.
        log: the end of the job's log.
    """

    def __init__(self, what: str, *, fix: str = "", kind: str = "failed", log: str = "") -> None:
        super().__init__(what, fix=fix)
        self.kind = kind
        self.log = log


# Kinds of failures whose reason is a library's; of the others the agent knows what helps.
_BY_LIBRARIES = frozenset({"failed", "memory", "killed"})
_SHOWN = 4
# What the Jetson's driver and the C++ runtime write into a job's log, past every logger.
_PAST_LOGGERS = re.compile(r"^\s*(NvMap|NvRm|terminate called|what\(\):|Killed)")


def job_failed(device: Device, outcome: Failure) -> JobFailed:
    """What a device said of a job that failed, with what it means and what helps."""
    from export.runtime.remedies import understood, with_meaning  # a package that imports onnx

    shown = outcome.said[:_SHOWN]
    more = f"; and {len(outcome.said) - _SHOWN} more lines" if len(outcome.said) > _SHOWN else ""
    what = f"{device.name}: {outcome.what}" + (f": {'; '.join(shown)}{more}" if shown else "")
    beside = [*outcome.beside, *(line for line in outcome.log.splitlines() if _PAST_LOGGERS.match(line))]
    known = outcome.kind in _BY_LIBRARIES
    found = understood([outcome.what, *outcome.said], beside) if known else None
    return JobFailed(
        with_meaning(what, found),
        fix=found.fix if found else outcome.fix,
        kind=found.kind if found and outcome.kind == "failed" else outcome.kind,
        log=outcome.log,
    )


class Distrusted(DeviceFault):
    """A device said what does not fit: another connection would not help."""


def unfit(device: Device, what: str, why: Exception) -> Distrusted:
    """A message that was refused: which, and why."""
    return Distrusted(
        f"{device.name}: {what} was refused: {why}",
        fix=(
            "another program answers in the agent's place, or it was changed: look at the device; then "
            f"figkd-pipeline device clean {device.url}, and run again"
        ),
    )


def fault(device: Device, what: str, fix: str = "") -> DeviceFault:
    """A fault of a device, which it names."""
    return DeviceFault(f"{device.name}: {what}", fix=fix)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
