"""The power mode of a Jetson (`nvpmodel`): read, and if asked for set for a while and put back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from typing import Callable, Iterator, TypedDict

from export.runtime.readings import mode_key, read

from . import files
from .errors import JobError

# How a command is run: arguments to (exit code, output).
Run = Callable[["list[str]"], "tuple[int, str]"]
STATE = "power_mode.json"
"""The file in `cache/` that remembers the mode to put back."""


class PowerMode(TypedDict, total=False):
    """A power mode by id and name, and the names of all that the board has."""

    id: int
    name: str
    available: list[str]


_MODEL = re.compile(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)")


def modes(root: str = "/") -> dict[int, str]:
    """Id to name, from /etc/nvpmodel.conf; empty where there is no nvpmodel."""
    return {int(number): name for number, name in _MODEL.findall(read(root, "etc/nvpmodel.conf"))}


def current(root: str = "/", run: Run | None = None) -> PowerMode:
    """The mode now; empty on boards without power modes."""
    known = modes(root)
    stored = re.search(r"pmode:(\d+)", read(root, "var/lib/nvpmodel/status"))
    number = int(stored.group(1)) if stored else None
    name = known.get(number, "") if number is not None else ""
    asked: PowerMode = (
        parse_query((run or _run)(["nvpmodel", "-q"])[1]) if root == "/" and shutil.which("nvpmodel") else {}
    )
    found = asked or ({"id": number, "name": name} if number is not None else {})
    if found:
        found["available"] = [known[i] for i in sorted(known)]
    return found


def parse_query(text: str) -> PowerMode:
    """What `nvpmodel -q` says: `NV Power Mode: MAXN`, and the id on the next line."""
    found = re.search(r"NV Power Mode:\s*(\S+)\s*\n\s*(\d+)", text)
    return {"name": found.group(1), "id": int(found.group(2))} if found else {}


@contextlib.contextmanager
def held(wanted: str | None, folder: str, *, root: str = "/", run: Run | None = None) -> Iterator[PowerMode]:
    """The device in a power mode while the block runs; afterwards in the one that it was in before.

    Args:
        wanted: name of the mode, as nvpmodel.conf spells it or without `MODE_`; None leaves the device as it is.
        folder: work folder; it remembers the earlier mode in case this process is killed.
        root: of the file system.
        run: runs a command.

    Yields:
        `current` within the block.

    Raises:
        JobError: no such mode, or it cannot be set without root's password, or only by a reboot.
    """
    run = run or _run
    before = current(root, run)
    state = os.path.join(folder, "cache", STATE)
    left_over = _left_over(state)
    if wanted is None and left_over is None:
        yield before
        return
    known = {mode_key(name): number for number, name in modes(root).items()}
    if wanted is not None and mode_key(wanted) not in known:
        raise JobError(
            f"the device has no power mode {wanted!r}",
            f"it has {', '.join(modes(root).values())}"
            if known
            else "remove power_mode: there is no nvpmodel here",
            "request",
        )
    restore = left_over if left_over is not None else before.get("id")
    try:
        if wanted is not None and before.get("id") != known[mode_key(wanted)]:
            if restore is not None:
                files.own_folder(os.path.dirname(state))
                with open(state, "w", encoding="utf-8") as file:
                    json.dump({"id": restore}, file)
            _set(known[mode_key(wanted)], wanted, run, root)
        yield current(root, run)
    finally:
        if restore is not None and current(root, run).get("id") != restore:
            _set(restore, modes(root).get(restore, str(restore)), run, root)
        with contextlib.suppress(OSError):
            os.remove(state)


def put_back(folder: str, *, root: str = "/", run: Run | None = None) -> bool:
    """Put back the mode that a job which was killed has left; to be called while no job runs.

    Returns:
        False where it could not be done; it stays remembered, and is tried again by the next session and job.
    """
    state = os.path.join(folder, "cache", STATE)
    left_over = _left_over(state)
    if left_over is None:
        return True
    run = run or _run
    try:
        if current(root, run).get("id") != left_over:
            _set(left_over, modes(root).get(left_over, str(left_over)), run, root)
    except JobError:
        return False
    with contextlib.suppress(OSError):
        os.remove(state)
    return True


def _set(number: int, name: str, run: Run, root: str) -> None:
    command = ["nvpmodel", "-m", str(number)]
    if os.geteuid() != 0:
        command = ["sudo", "-n", *command]
    code, output = run(command)
    if current(root, run).get("id") == number:
        return
    by_hand = f"sudo nvpmodel -m {number}"
    if "reboot" in output.lower():
        raise JobError(
            f"power mode {name} needs a reboot of the device",
            f"on the device: {by_hand}, answer YES, and run again when it is up",
            "request",
        )
    reason = next((line.strip() for line in output.splitlines() if line.strip()), f"exit code {code}")
    raise JobError(
        f"power mode {name} cannot be set: {reason}",
        f"on the device: {by_hand}; or let this user do so without a password "
        f"(sudoers: USER ALL=(root) NOPASSWD: /usr/sbin/nvpmodel); or leave power_mode out",
        "request",
    )


def _left_over(state: str) -> int | None:
    try:
        with open(state, encoding="utf-8") as file:
            return int(json.load(file)["id"])
    except (OSError, ValueError, KeyError):
        return None


def _run(command: list[str]) -> tuple[int, str]:
    try:
        # No answer to a question about a reboot is a no.
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return 127, str(error)
    return done.returncode, done.stdout.decode(errors="replace")
