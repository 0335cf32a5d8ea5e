"""What in the work folder is the agent's own: nothing else is ever removed."""

from __future__ import annotations

import os
import re
from typing import Callable

from . import blobs, files, power_mode

MARK = ".figkd-device"
"""The bootstrap makes the folder with this file in it; a folder without it is not used."""
OURS = {
    "agent": re.compile(r"^[0-9a-f]{64}\.pyz(\.\d+)?$|^\.probe-\w+$"),
    "blobs": blobs.OURS,
    "cache": re.compile(
        r"^\.?tensorrt-[\w.-]+\.timing(\.json)?(\.\d+\.tmp)?$|^" + re.escape(power_mode.STATE) + "$"
    ),
    "jobs": re.compile(r"(?!)"),  # `Jobs.remove` removes them, one by one
}
"""Folder to the names of files that the agent makes there."""
_TOP = ("lock.json", "lock")


def ours(folder: str, kind: str) -> list[str]:
    """Paths of the agent's own files in one of its folders, in the order of their names."""
    place = os.path.join(folder, kind)
    try:
        names = sorted(os.listdir(place))
    except OSError:
        return []
    paths = [os.path.join(place, name) for name in names if OURS[kind].match(name)]
    return [path for path in paths if files.is_plain(path)]


def remove_ours(folder: str, alive: Callable[[], None]) -> list[str]:
    """Remove the agent's own files and the folders that are empty then; names of what is left.

    What hosts sent is recognised by its content, not by its name alone.
    The mark goes last, and stays where anything is left: the folder is the agent's as long as it is there.
    """
    left = []
    for kind in OURS:
        for path in ours(folder, kind):
            if kind != "blobs" or blobs.is_as_named(path, alive):
                files.remove(path)
        place = os.path.join(folder, kind)
        if os.path.islink(place) or not os.path.isdir(place):
            continue
        rest = sorted(os.listdir(place))
        left += [kind + "/" + name for name in rest]
        if not rest:
            os.rmdir(place)
    for name in _TOP:
        if files.is_plain(os.path.join(folder, name)):
            files.remove(os.path.join(folder, name))
    left += [name for name in sorted(os.listdir(folder)) if name != MARK and name not in OURS]
    if not left:
        files.remove(os.path.join(folder, MARK))
        try:
            os.rmdir(folder)
        except OSError:
            return sorted(os.listdir(folder))
    return left
