"""What a device said in a whole stage, written down, changed a little, and said again."""

from __future__ import annotations

import json
import random
import shlex
import sys
from pathlib import Path
from typing import Any

# In the place of a value: other types, bounds, paths, what terminals and parsers do not like.
VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2**31, 10**15, -(10**15), 10**400, 1.5, float("nan"), float("inf"), "", "x", "many",
    "../../figkd-outside", "/tmp/figkd-outside", "..", "~/.ssh/x", "\x1b[31m\x07", "a" * 100_000, [], {}, [1], {"a": 1},
    [[[[[[[[]]]]]]]], {"ok": True}, [None] * 1000, "\u202e\u2028", "0" * 64, "build.log", "SM87", "|", "99.99.99",
]  # fmt: skip
# In the place of a line, or after one.
LINES = [
    b"", b"{}", b"[]", b"null", b"{", b'{"type": "pong"}', b"[" * 100_000, b"\xff\xfe\x00", b"figkd-agent {}",
    b'{"type": "event"}', b'{"type": "outcome"}', b'{"type": "error"}', b"9" * 10_000, b"x" * 300_000,
]  # fmt: skip


def recording_python(path: Path, transcript: Path) -> str:
    """A Python whose output is written down as well."""
    return _script(path, f'{shlex.quote(sys.executable)} "$@" | tee {shlex.quote(str(transcript))}')


def replaying_python(path: Path, transcript: Path) -> str:
    """A program that says what was written down, whatever it is told, and goes."""
    return _script(
        path, f"exec 3<&0; cat <&3 >/dev/null 2>&1 & exec 3<&-; exec cat {shlex.quote(str(transcript))}"
    )


def _script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def mutant(transcript: bytes, seed: int) -> bytes:
    """The transcript with one to three changes, the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 2, 3))):
        transcript = _changed(transcript, rng)
    return transcript


def _changed(transcript: bytes, rng: random.Random) -> bytes:
    lines = transcript.split(b"\n")
    messages = [i for i, line in enumerate(lines) if b'"type"' in line and _parsed(line) is not None]
    if not messages or rng.random() < 0.15:
        return _damaged(transcript, rng)
    # Every kind of message as often, however many of each there are.
    kinds = sorted({_kind(lines[i]) for i in messages})
    kind = rng.choice(kinds)
    at = rng.choice([i for i in messages if _kind(lines[i]) == kind])
    how = rng.random()
    if how < 0.75:
        prefix, _, _ = lines[at].partition(b"{")
        value = _parsed(lines[at])
        lines[at] = prefix + json.dumps(_with_another_value(value, rng)).encode()
    elif how < 0.85:
        lines[at : at + 1] = [rng.choice(LINES), lines[at]] if rng.random() < 0.5 else [rng.choice(LINES)]
    elif how < 0.9:
        del lines[at]
    elif how < 0.95:
        lines.insert(at, lines[at])
    else:
        other = rng.choice(messages)
        lines[at], lines[other] = lines[other], lines[at]
    return b"\n".join(lines)


def _kind(line: bytes) -> str:
    value = _parsed(line)
    return f"{value.get('type')} {sorted(value)}" if isinstance(value, dict) else "none"


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line[line.index(b"{") :])
    except ValueError:
        return None


def _with_another_value(value: Any, rng: random.Random) -> Any:
    """One place in a JSON value changed: another value, gone, or one more."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in (
            list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        ):
            places.append((node, key))
            walk(node[key])

    walk(value)
    node, key = rng.choice(places)
    how = rng.random()
    if how < 0.7:
        node[key] = rng.choice(VALUES)
    elif how < 0.85:
        del node[key]
    elif isinstance(node, dict):
        node[rng.choice(["more", "", "log", "name", "../x", "\x1b[2J", "type", "re"])] = rng.choice(VALUES)
    else:
        node.insert(rng.randrange(len(node) + 1), rng.choice(VALUES))
    return value


def _damaged(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    how = rng.random()
    if how < 0.4:
        return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
    if how < 0.6:
        return content[:at]
    if how < 0.8:
        return content[:at] + rng.randbytes(rng.randrange(1, 50)) + content[at:]
    return content[:at] + content[at + rng.randrange(1, 50) :]
