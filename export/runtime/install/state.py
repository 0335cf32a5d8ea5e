"""`state.json`: which releases were committed on this device, which one serves, and which one is on trial.

It is the only truth: links are made to agree with it, and it changes by one rename.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterable, Mapping, Optional, Tuple

FORMAT = 1
MOST_BYTES = 1 << 20
KEEP_HISTORY = 200
KEEP_REASONS = 20
_ID = re.compile(r"[0-9a-f]{64}\Z")
_LONGEST = 300


@dataclass(frozen=True)
class Release:
    """What a bundle says of itself; only `verify` makes one."""

    id: str
    """SHA-256 (hex) of the manifest."""
    name: str
    channel: str
    """Whose releases replace each other."""
    sequence: int
    """Grows with each release of a channel."""
    signers: Tuple[str, ...] = ()
    """Ids of the keys that signed it and are trusted; none where it was taken unsigned."""
    created: str = ""
    """When it was made, UTC."""

    @property
    def lines(self) -> Tuple[str, ...]:
        """What sequences are compared within: a channel and a signer. A new key starts its own line."""
        return tuple("{} {}".format(self.channel, signer) for signer in self.signers or ("unsigned",))


@dataclass(frozen=True)
class Trial:
    """A release that serves and has not been committed yet."""

    to: str
    boot_id: str
    """Of the boot in which the trial began: it does not survive another one."""
    deadline: float
    """Seconds since that boot, by which it is committed or taken back."""


@dataclass(frozen=True)
class State:
    """See the module."""

    active: Optional[str] = None
    """Id of the committed release that serves when no trial runs."""
    committed: Tuple[Release, ...] = ()
    """Oldest first."""
    withdrawn: Tuple[str, ...] = ()
    """Ids that were committed, and rolled back by hand since: never chosen by a recovery."""
    trial: Optional[Trial] = None
    highest: Mapping[str, int] = field(default_factory=dict)
    """Line (see `Release.lines`) to the highest sequence that was committed."""
    seen: str = ""
    """When the newest release that was committed was made, UTC."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Id to why it was taken back, the last ones."""

    @property
    def previous(self) -> Optional[str]:
        """Id of the release to roll back to."""
        ids = [release.id for release in self.committed if release.id not in self.withdrawn]
        before = ids[: ids.index(self.active)] if self.active in ids else ids
        return before[-1] if before else None

    def release(self, id: str) -> Optional[Release]:
        """A committed release by its id."""
        return next((release for release in self.committed if release.id == id), None)

    def after_commit(self, release: Release) -> State:
        """The state once a release on trial has proved itself."""
        others = tuple(one for one in self.committed if one.id != release.id)
        highest = dict(self.highest)
        for line in release.lines:
            highest[line] = max(release.sequence, highest.get(line, 0))
        return replace(
            self,
            active=release.id,
            committed=(*others, release)[-KEEP_HISTORY:],
            withdrawn=tuple(id for id in self.withdrawn if id != release.id),
            trial=None,
            highest=highest,
            seen=max(self.seen, release.created),
            failed={id: why for id, why in self.failed.items() if id != release.id},
        )

    def after_failure(self, id: str, why: str) -> State:
        """The state once a release was taken back, or not even tried."""
        others = [(one, said) for one, said in self.failed.items() if one != id]
        return replace(self, trial=None, failed=dict([*others, (id, why[:_LONGEST])][-KEEP_REASONS:]))


def encode(state: State) -> bytes:
    """The bytes of `state.json`."""
    return json.dumps(_plain(state), sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def decode(content: bytes) -> State:
    """The state in these bytes.

    Raises:
        ValueError: they are not a state of this format.
    """
    try:
        found = json.loads(content.decode("ascii"))
        if found["format"] != FORMAT:
            raise ValueError("format {!r}".format(found["format"]))
        trial = found["trial"]
        state = State(
            active=None if found["active"] is None else _id(found["active"]),
            committed=tuple(_release(one) for one in found["committed"]),
            withdrawn=tuple(_id(one) for one in found["withdrawn"]),
            trial=None
            if trial is None
            else Trial(_id(trial["to"]), _text(trial["boot_id"]), float(trial["deadline"])),
            highest={_text(line): _count(sequence) for line, sequence in found["highest"].items()},
            seen=_text(found["seen"]),
            failed={_id(one): _text(why) for one, why in found["failed"].items()},
        )
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("{}: {}".format(type(error).__name__, error)) from None
    ids = [release.id for release in state.committed]
    if len(set(ids)) != len(ids) or (state.active is not None and state.active not in ids):
        raise ValueError("its releases contradict each other")
    return state


def _plain(state: State) -> Dict[str, Any]:
    trial = state.trial
    return {
        "format": FORMAT,
        "active": state.active,
        "committed": [
            {
                "id": one.id,
                "name": one.name,
                "channel": one.channel,
                "sequence": one.sequence,
                "signers": list(one.signers),
                "created": one.created,
            }
            for one in state.committed
        ],
        "withdrawn": list(state.withdrawn),
        "trial": trial and {"to": trial.to, "boot_id": trial.boot_id, "deadline": trial.deadline},
        "highest": dict(state.highest),
        "seen": state.seen,
        "failed": dict(state.failed),
    }


def _release(found: Any) -> Release:
    signers: Iterable[Any] = found["signers"]
    return Release(
        _id(found["id"]),
        _text(found["name"]),
        _text(found["channel"]),
        _count(found["sequence"]),
        tuple(_text(one) for one in signers),
        _text(found["created"]),
    )


def _id(value: Any) -> str:
    if not isinstance(value, str) or not _ID.match(value):
        raise ValueError("no release id: {!r:.80}".format(value))
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise ValueError("no text: {!r:.80}".format(value))
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError("no count: {!r:.80}".format(value))
    return value
