"""What lies below a data set's root and is not used: one entry each, with one reason of a closed list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from figkd.files import Json

Reason = Literal[
    "hidden",
    "system",
    "not_image",
    "empty",
    "dangling_link",
    "link_loop",
    "special",
    "unreadable",
    "name",
    "no_library",
    "too_deep",
    "beside",
    "not_listed",
    "unlabelled",
    "unused_split",
    "small_class",
    "copy",
    "contradiction",
]

HEIC_READER = "pip install 'figkd-pipeline[heif]'"

REASONS: dict[Reason, tuple[str, str]] = {
    "hidden": ("hidden", ""),
    "system": ("made by another program or system", ""),
    "not_image": ("no image", ""),
    "empty": ("empty file", "copy it again, or remove it"),
    "dangling_link": ("link to nothing", "mount what it points to, or remove it"),
    "link_loop": ("link to a folder that holds it", "remove the link"),
    "special": ("pipe, socket or device", "remove it"),
    "unreadable": ("not readable by this user", "give yourself the permission to read it"),
    "name": ("name that is not UTF-8", "rename it, e.g. with `convmv -r -f latin1 -t utf8 --notest FOLDER`"),
    "no_library": (
        "image of a format that nothing here reads",
        f"install its library (HEIC: {HEIC_READER}) or convert it to JPEG or PNG",
    ),
    "too_deep": ("more than 32 folders deep", "move it up"),
    "beside": ("beside the class folders", "move it into the folder of its class"),
    "not_listed": ("image that the list does not name", "add a line for it, or leave it"),
    "unlabelled": ("row without a label", "label it, or leave it"),
    "unused_split": ("split that is not used", "name it with train_split, val_split or test_split"),
    "small_class": ("class with too few images (as asked for)", ""),
    "copy": ("copy of an image of another split (as asked for)", ""),
    "contradiction": ("one image under several labels (as asked for)", ""),
}
"""What each reason means, and what a user must do about it; empty where there is nothing to do."""

_EXAMPLES = 5


@dataclass(frozen=True)
class LeftOut:
    """Something that is there and is not used; `place` is relative to the root, with a slash after a folder."""

    place: str
    reason: Reason
    count: int = 1


def summary(left_out: Iterable[LeftOut]) -> Json:
    """Number and first places by reason, for data.json."""
    found: Json = {}
    for entry in left_out:
        group = found.setdefault(entry.reason, {"count": 0, "examples": []})
        group["count"] += entry.count
        if len(group["examples"]) < _EXAMPLES:
            group["examples"].append(entry.place)
    return dict(sorted(found.items()))


def counted(left_out: Iterable[LeftOut]) -> str:
    """Numbers by reason in a few words, such as "20 x link to nothing, 1 x hidden"; empty for nothing."""
    numbers: Counter[Reason] = Counter()
    for entry in left_out:
        numbers[entry.reason] += entry.count
    return ", ".join(f"{number:,} x {REASONS[reason][0]}" for reason, number in numbers.most_common())


def remedies(left_out: Iterable[LeftOut]) -> str:
    """What to do about the reasons that a user must act on, the most frequent first; empty for none."""
    numbers: Counter[str] = Counter()
    for entry in left_out:
        if fix := REASONS[entry.reason][1]:
            numbers[fix] += entry.count
    return "; ".join(fix for fix, _ in numbers.most_common(3))


def remarks(left_out: Sequence[LeftOut]) -> list[str]:
    """A sentence for each reason that a user must act on: how many, which, and what to do."""
    return sentences(summary(left_out))


def sentences(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The same from what `summary` gave."""
    notes = []
    for reason, (words, fix) in REASONS.items():
        if fix and reason in found:
            places = found[reason]["examples"]
            more = ", ..." if len(places) > 2 else ""
            notes.append(
                f"left out: {found[reason]['count']:,} x {words} ({', '.join(places[:2])}{more}); {fix}"
            )
    return notes
