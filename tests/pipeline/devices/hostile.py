"""A device that lies: a program in the place of its Python, which speaks the protocol, but for one answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# What an honest agent would say, by operation; {re} is the number of the request.
_PROGRAM = """#!{python}
import json, os, sys, time
WRONG = json.loads({wrong!r})
HELLO = {{"type": "hello", "protocol": 1, "python": "3.8.10", "node": "n", "boot_id": "b", "folder": "/f",
         "free": 10**12, "time": time.time(), "holder": None}}
HONEST = {{
    "ready": {{"type": "ready"}},
    "hello": HELLO,
    "introduce": {{"type": "ok", "time": time.time()}},
    "have": {{"type": "ok", "have": False, "partial": 0}},
    "put": {{"type": "go"}},
    "received": {{"type": "ok"}},
    "start": {{"type": "ok", "state": "started", "lost": None}},
    "event": {{"type": "event", "offset": 9, "event": {{"progress": [1, 2, "half"]}}}},
    "outcome": {{"type": "outcome", "outcome": {{"ok": True, "result": json.loads({facts!r}), "seconds": 0.1}}}},
    "fetch": {{"type": "file", "size": 4}},
    "content": None,
    "fetched": {{"type": "ok", "sha256": {digest!r}}},
    "release": {{"type": "ok"}},
    "cancel": {{"type": "ok"}},
    "list": {{"type": "ok", "entries": [], "jobs": {{}}, "holder": None}},
    "close": {{"type": "ok", "removed": 0}},
    "clean": {{"type": "ok", "removed": 0, "left": []}},
}}
def out(data):
    while data:
        data = data[os.write(1, data):]
def say(what, number=None):
    answer = WRONG.get(what, HONEST[what])
    kind = next(iter(answer), "") if isinstance(answer, dict) else ""
    if kind == "raw":
        return out(answer["raw"].encode("latin-1"))
    while kind in ("endless", "slowly"):
        out(answer[kind].encode("latin-1") * (8192 if kind == "endless" else 1))
        time.sleep(0.05 if kind == "slowly" else 0)
    if isinstance(answer, dict) and number is not None:
        answer = dict({{"re": number}}, **answer)
    out((b"figkd-agent " if what == "ready" else b"") + json.dumps(answer).encode() + b"\\n")
lines = iter(sys.stdin.buffer.readline, b"")
next(lines)
say("ready")
say("hello")
for line in lines:
    request = json.loads(line)
    op, number = request["op"], request.get("id")
    if op == "ping":
        out(b'{{"type": "pong", "time": 1.0}}\\n')
    elif op == "put":
        say("put", number)
        sys.stdin.buffer.read(request["size"] - request["offset"])
        say("received", number)
    elif op == "attach":
        say("event", number)
        say("outcome", number)
    elif op == "fetch":
        say("fetch", number)
        if "content" in WRONG:
            say("content")
        else:
            out(b"true")
        say("fetched", number)
    else:
        say(op, number)
"""
_TRUE = "b5bea41b6c623f7c09f1bf24dcae58ebab3c0cdd90ad966bc43a45b44867e12b"  # sha256 of "true"


FACTS = {
    "system": "Linux", "release": "5", "machine": "aarch64", "python": "3.8.10", "executable": "/usr/bin/python3",
    "os": "Ubuntu", "cpu": "ARM", "cores": 6, "memory_mb": 8000, "memory_free_mb": {"available": 4000, "swap_free": 0},
    "disk_free_bytes": 10**11, "clock": 1.7e9, "gpu_users": [], "packages": {"numpy": "1.24"}, "clocks": {},
    "tensorrt": {"python": "", "trtexec": "", "trtexec_version": "", "library": "", "version": ""},
    "readings": {"at": 1.0}, "rails": [],
}  # fmt: skip
"""What an honest device says of itself."""


def hostile_python(path: Path, wrong: dict[str, Any]) -> str:
    """Write the program; `wrong` maps an operation to what is said instead of its honest answer.

    `{"raw": text}` is sent as it is, `{"endless": text}` for ever, `{"slowly": text}` for ever, 20 times a second.
    """
    said = {"wrong": json.dumps(wrong), "facts": json.dumps(FACTS), "digest": _TRUE}
    path.write_text(_PROGRAM.format(python=sys.executable, **said))
    path.chmod(0o755)
    return str(path)
