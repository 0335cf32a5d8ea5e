"""Lists of class names, in the order of a network's outputs: compared by name wherever two of them meet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from figkd.errors import LabelError
from figkd.files import parse_json, read_bytes

_BYTES = 1 << 24
_SHOWN = 3


def mapping(theirs: Sequence[str], ours: Sequence[str], *, what: str, of: str = "the data") -> list[int]:
    """For each class of `ours`, its index in `theirs`: what is in the order of `theirs` is mapped by it.

    Args:
        theirs: class names in the order of outputs or weights, each once.
        ours: the class names that are wanted.
        what: whose list `theirs` is, for the message.
        of: whose list `ours` is.

    Raises:
        LabelError: the lists hold other names; the message tells the differences of both.
    """
    for owner, names in ((what, theirs), (of, ours)):
        if _repeats(names):
            raise LabelError(f"{owner} names a class more than once", "give every class its own name")
    place = {name: index for index, name in enumerate(theirs)}
    if place.keys() != set(ours):
        raise LabelError(differences(theirs, ours, what=what, of=of))
    return [place[name] for name in ours]


def differences(theirs: Sequence[str], ours: Sequence[str], *, what: str, of: str = "the data") -> str:
    """What two lists do not have in common, in words."""
    wanted, given = set(ours), set(theirs)
    extra = [name for name in theirs if name not in wanted]
    missing = [name for name in ours if name not in given]
    return (
        f"{what} has other classes than {of}: {len(theirs):,} and {len(ours):,}; "
        f"only in {what}: {_shown(extra) or 'none'}; only in {of}: {_shown(missing) or 'none'}"
    )


def read_names(path: Path) -> list[str]:
    """The class names of a file: a JSON list, or one a line; at least two, each once.

    Raises:
        LabelError: the file cannot be read, or holds something else.
    """
    fix = "write one class name a line, in the order of the outputs, or a JSON list of them"
    try:
        text = read_bytes(path, _BYTES).decode("utf-8-sig")
        names = parse_json(text) if text.lstrip().startswith("[") else text.splitlines()
    except OSError as error:
        raise LabelError(f"{path} cannot be read: {error.strerror or error}", fix) from error
    except ValueError as error:
        raise LabelError(f"{path} is no list of class names: {error}", fix) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise LabelError(f"{path} is no list of class names", fix)
    while names and not names[-1].strip():
        names.pop()
    if len(names) < 2 or not all(name.strip() for name in names):
        raise LabelError(f"{path} has {'an empty name' if len(names) > 1 else 'fewer than two names'}", fix)
    if _repeats(names):
        raise LabelError(f"{path} holds a class name more than once", fix)
    return names


def _repeats(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)


def _shown(names: Sequence[str]) -> str:
    """The first names, so that none can pass for the text around it."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(json.dumps(name[:60], ensure_ascii=False) for name in names[:_SHOWN]) + more
