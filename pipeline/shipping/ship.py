"""One device: what fits is sent, as far as it is not there, and installed by the device's own program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from pipeline.core.errors import BundleFault, DeviceFault, PipelineError, TakenBack
from pipeline.devices.faults import unfit
from pipeline.devices.messages import Event, Unfit, checked
from pipeline.devices.session import Session
from pipeline.shipping.bundle import LocalBundle
from pipeline.shipping.fit import unmet
from pipeline.shipping.messages import RELEASE, Answered, Fault, Installed, RolledBack, Status

A = TypeVar("A", bound=BaseModel)
Progress = Callable[[str], None]
_RECOVER_S = 60.0
_ASK_S = 300.0


@dataclass(frozen=True)
class There:
    """How the program on a device is called."""

    root: str = ""
    """Folder of the releases; empty for the usual one."""
    trust: tuple[str, ...] = ()
    """`--trust FILE` (on the device), `--unsigned`, or nothing for the device's own trust."""
    options: tuple[str, ...] = ()
    """More options of `install`."""


@dataclass(frozen=True)
class Shipped:
    """A bundle that serves on a device."""

    device: str
    id: str
    is_new: bool
    sent: int
    """Bytes, the protocol's own included."""


def ship(session: Session, bundles: Sequence[LocalBundle], there: There, say: Progress) -> Shipped:
    """Bring the bundle that fits to a device, and wait for the device's judgement.

    Args:
        session: open.
        bundles: verified here; the first one that runs on the device is taken.
        there: how the program is called there.
        say: receives what happens, a line each.

    Raises:
        DeviceFault: it is lost, or no bundle runs there; then nothing is sent.
        BundleFault: the device refused the bundle.
        TakenBack: the release failed its self-test or while it was watched; the one before serves.
        KeyboardInterrupt: it was interrupted; the release before serves, unless the new one was committed already.
    """
    bundle = bundles[0] if len(bundles) == 1 else _fitting(session, bundles)
    about: dict[str, object] = {"release": bundle.manifest.release, "signatures": bundle.signatures}
    missing = _ask(session, there, {"do": "missing", **about}).get("missing", [])
    if missing and len(bundles) == 1:
        _fitting(session, bundles)
    if missing == [bundle.manifest.release]:  # by its manifest the device knows what else it lacks
        _send(session, bundle, missing, say)
        missing = _ask(session, there, {"do": "missing", **about}).get("missing", [])
    _send(session, bundle, missing, say)
    words = ["install", *there.trust, *there.options]
    try:
        found = _ask(session, there, {"do": "install", "arguments": words, **about}, say, detached=True)
    except KeyboardInterrupt:
        say("interrupted: what served before is put back")
        recovery = {"do": "command", "arguments": ["recover", *there.trust]}
        with contextlib.suppress(PipelineError), session.calm():
            _ask(session, there, recovery, limit_s=_RECOVER_S)
        raise
    answer = _answer(session, found, Installed)
    return Shipped(session.device.name, answer.id, answer.is_new, session.sent)


def _fitting(session: Session, bundles: Sequence[LocalBundle]) -> LocalBundle:
    facts, reasons = session.facts(), []
    for bundle in bundles:
        lacks = unmet(bundle.manifest, facts)
        if not lacks:
            return bundle
        reasons.append(f"{bundle.manifest.target}: {'; '.join(lacks)}")
    raise DeviceFault(
        f"{session.device.name}: the bundle does not run there: {' | '.join(reasons)}",
        fix="ship the bundle of a target that is such a device",
    )


def _send(session: Session, bundle: LocalBundle, digests: Sequence[str], say: Progress) -> None:
    for digest in digests:
        path = bundle.files.get(digest)
        if path is not None:  # nothing else is sent, whatever a device asks for
            say(f"sending {path.name}")
            session.put(path)


def status(session: Session, there: There) -> Status:
    """What is installed on a device.

    Raises:
        DeviceFault: it is lost, or nothing was ever installed there.
    """
    return _command(session, there, Status, "status")


def rollback(session: Session, there: There, to: str | None) -> RolledBack:
    """Let an earlier release serve again.

    Args:
        session: open.
        there: how the program is called there.
        to: its id, or the beginning of it; None for the one before.

    Raises:
        DeviceFault: it is lost, or there is no such release.
    """
    return _command(session, there, RolledBack, "rollback", *(["--to", to] if to else []))


def _command(session: Session, there: There, kind: type[A], *words: str) -> A:
    found = _ask(session, there, {"do": "command", "arguments": [*words, *there.trust]})
    return _answer(session, found, kind)


def _ask(
    session: Session,
    there: There,
    request: Mapping[str, object],
    say: Progress = lambda text: None,
    *,
    detached: bool = False,
    limit_s: float | None = None,
) -> Answered:
    def heard(event: Event) -> None:
        if event.log:
            say(event.log)

    limit = limit_s if limit_s or detached else _ASK_S
    done = session.run(RELEASE, {"root": there.root, **request}, heard, detached=detached, limit_s=limit)
    if detached:
        session.release(done.job)
    return done.result


def _answer(session: Session, found: Answered, kind: type[A]) -> A:
    """What the program printed, or the error that it stands for."""
    code, answer = found.get("code", 0), found.get("answer", {})
    name = session.device.name
    try:
        if code == 0:
            return checked(kind, answer)
        fault = checked(Fault, answer)
    except Unfit as error:
        raise unfit(session.device, "what the installing program printed", error) from None
    errors: dict[int, type[PipelineError]] = {1: TakenBack, 6: BundleFault}
    raise errors.get(code, DeviceFault)(f"{name}: {fault.error}", where=fault.where, fix=fault.fix)


def options_of(window_s: float | None, p99_ms: float | None) -> Sequence[str]:
    """Options of `install` for how a release is watched."""
    given = (("--window", window_s), ("--p99-ms", p99_ms))
    return [word for name, value in given if value is not None for word in (name, f"{value:g}")]
