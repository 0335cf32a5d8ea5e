"""Names of files in a bundle: the same file on every file system, and inside the folder."""

import re
from typing import Iterable

LONGEST = 200
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*\Z")
# Names that another file system takes for a device.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)", re.IGNORECASE)


def fault_of_name(name: str) -> str:
    """What is wrong with a file's name; empty if nothing is."""
    if len(name) > LONGEST:
        return "is longer than %d characters" % LONGEST
    for part in name.split("/"):
        if not _PART.match(part) or part.endswith(".") or _RESERVED.match(part):
            return "is no name of a file in a bundle"
    return ""


def fault_of_names(names: Iterable[str]) -> str:
    """What is wrong with names together: twins that differ in case, a file that is a folder too; empty if nothing."""
    known = {}  # type: dict[str, str]
    folders = {}  # type: dict[str, str]
    for name in sorted(names):
        folded = name.lower()
        if folded in known:
            return "%s and %s differ in case only" % (known[folded], name)
        known[folded] = name
        parts = name.split("/")
        for end in range(1, len(parts)):
            folder = "/".join(parts[:end])
            other = folders.setdefault(folder.lower(), folder)
            if other != folder:
                return "the folders %s and %s differ in case only" % (other, folder)
    both = sorted(set(known) & set(folders))
    return "%s is a file and a folder" % known[both[0]] if both else ""
