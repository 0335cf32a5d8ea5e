"""Splits that stay: an image is held out because of what it shows, not because of what lies beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from figkd.errors import DataError


def hold_out(
    contents: Sequence[str], labels: Sequence[int], fraction: float, *, seed: int, salt: str, leave: int = 1
) -> list[bool]:
    """Choose images to hold out, by a hash of their content.

    An image is held out if the hash of (salt, seed, content) lies below the fraction. So neither other images nor
    their order, their names or the number of classes move an image, and copies stay together.

    The exception are small classes. A class of which no image lies below gives the one with the lowest hash; one of
    which fewer than `leave` contents would remain takes the highest back; one with `leave` contents or fewer gives
    none. What must remain goes before what must be given, where copies of an image are in several classes. Only in such
    a class can an image that comes later send another one back. With n contents and fraction f
    none lies below with probability (1 - f)^n.

    Args:
        contents: a text for each image that is equal for equal content, such as a digest.
        labels: class of each image.
        fraction: 0 <= fraction < 1; 0 holds out nothing.
        seed: of the choice.
        salt: of the choice too: another one chooses independently.
        leave: contents of a class that must remain.

    Returns:
        For each image whether it is held out.

    Raises:
        DataError: a fraction out of range.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"a split fraction of {fraction}", "0 <= fraction < 1")
    if fraction == 0:
        return [False] * len(contents)
    score = {content: _score(f"{salt}:{seed}:{content}") for content in set(contents)}
    held = {content for content, value in score.items() if value < fraction}
    of_class: dict[int, set[str]] = {}
    for content, label in zip(contents, labels, strict=True):
        of_class.setdefault(label, set()).add(content)
    for _, found in sorted(of_class.items()):
        ordered = sorted(found, key=lambda content: (score[content], content))
        chosen = [content for content in ordered if content in held] or ordered[:1]
        held.difference_update(chosen)
        held.update(chosen[: max(0, len(ordered) - leave)])
    # Classes that share contents undo each other's choices.
    for _, found in sorted(of_class.items()):
        taken = sorted(found & held, key=lambda content: (score[content], content))
        held.difference_update(taken[max(0, len(found) - leave) :])
    return [content in held for content in contents]


def _score(text: str) -> float:
    """Evenly distributed in 0 <= score < 1."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
