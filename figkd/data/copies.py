"""Images of the same content: within a split, in two splits, under two labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from figkd.data.content import is_picture
from figkd.data.left_out import LeftOut
from figkd.data.listing import Sample
from figkd.data.store import SPLITS, SplitName
from figkd.errors import DataError
from figkd.files import Json

DECISIVE = 0.01
"""A larger part of copies decides a result: the budget that `init` writes is one percentage point of top-1, and copies
of training images can move top-1 by as much as their part of the split."""

_EXAMPLES = 5

Splits = Mapping[SplitName, Sequence[Sample]]


@dataclass(frozen=True)
class Copies:
    """Copies, found by content.

    Attributes:
        within: images more than contents, by split.
        across: images of the later split whose content is in the earlier one too, by (earlier, later).
        contradictory: images whose content stands under several labels.
        examples: a few pairs of ids.
    """

    within: Mapping[SplitName, int]
    across: Mapping[tuple[SplitName, SplitName], int]
    contradictory: int
    examples: Sequence[tuple[str, str]]

    def to_json(self) -> Json:
        """For data.json."""
        return {
            "within": dict(self.within),
            "across": {f"{first}, {second}": count for (first, second), count in self.across.items()},
            "contradictory": self.contradictory,
            "examples": [list(pair) for pair in self.examples],
        }

    def remarks(self) -> list[str]:
        """What there is of them, in sentences."""
        return sentences(self.to_json())


def sentences(copies: Mapping[str, Any]) -> list[str]:
    """What `Copies.to_json` gave, in sentences."""
    notes = [
        f"1 {name} image is a copy of another one there"
        if count == 1
        else f"{count:,} {name} images are copies of others there"
        for name, count in copies["within"].items()
        if count
    ]
    for pair, count in copies["across"].items():
        first, second = pair.split(", ")
        if count == 1:
            notes.append(f"1 {second} image is a copy of a {first} image")
        elif count:
            notes.append(f"{count:,} {second} images are copies of {first} images")
    if copies["contradictory"]:
        notes.append(f"{copies['contradictory']:,} images stand under several labels with one content")
    if notes and copies["examples"]:
        notes[-1] += f", e.g. {' and '.join(copies['examples'][0])}"
    return notes


def find_copies(splits: Splits, contents: Mapping[str, str]) -> Copies:
    """Count the copies in splits, given each sample's content by its id."""
    groups = _groups(splits, contents)
    pairs = list(combinations([name for name in SPLITS if name in splits], 2))
    within = dict.fromkeys(splits, 0)
    across = dict.fromkeys(pairs, 0)
    contradictory = 0
    crossing: list[tuple[str, str]] = []
    same: list[tuple[str, str]] = []
    for group in groups:
        by_split = {
            name: [s for split, s in group if split == name] for name in dict.fromkeys(n for n, _ in group)
        }
        for name, samples in by_split.items():
            within[name] += len(samples) - 1
        for first, second in pairs:
            if first in by_split and second in by_split:
                across[first, second] += len(by_split[second])
        conflict = len({sample.label for _, sample in group}) > 1
        contradictory += len(group) * conflict
        crosses = len(by_split) > 1
        first_id = group[0][1].sample_id
        other = next(
            (s for name, s in group if name != group[0][0] or s.label != group[0][1].label), group[1][1]
        )
        (crossing if conflict or crosses else same).append((first_id, other.sample_id))
    return Copies(within, across, contradictory, [*crossing, *same][:_EXAMPLES])


def refuse_copies(copies: Copies, splits: Splits) -> None:
    """See that copies do not decide a result.

    Raises:
        DataError: more than `DECISIVE` of a split is in another one, or of all images contradict each other.
    """
    fix = "remove them, or set data.options.copies: leave_out"
    pair = f" ({' and '.join(copies.examples[0])})" if copies.examples else ""
    for (first, second), count in copies.across.items():
        if count > DECISIVE * len(splits[second]):
            raise DataError(
                f"{count:,} of {len(splits[second]):,} {second} images are copies of {first} images{pair}: "
                "the result would say what was learnt by heart",
                fix + " (they stay in test, or else in val)",
            )
    total = sum(map(len, splits.values()))
    if copies.contradictory > DECISIVE * total:
        raise DataError(
            f"{copies.contradictory:,} of {total:,} images stand under several labels with the same content{pair}",
            fix + " (they are then left out altogether)",
        )


def without_copies(
    splits: Splits, contents: Mapping[str, str]
) -> tuple[dict[SplitName, list[Sample]], list[LeftOut]]:
    """Splits without what another one has too (test before val before train), and without contradictions."""
    owner: dict[str, SplitName] = {}
    labels: dict[str, set[int]] = {}
    alike = {contents[sample.sample_id] for group in _groups(splits, contents) for _, sample in group}
    for name in reversed(SPLITS):
        for sample in splits.get(name, ()):
            owner.setdefault(contents[sample.sample_id], name)
            labels.setdefault(contents[sample.sample_id], set()).add(sample.label)
    kept: dict[SplitName, list[Sample]] = {name: [] for name in splits}
    left_out: list[LeftOut] = []
    for name, samples in splits.items():
        for sample in samples:
            content = contents[sample.sample_id]
            if content in alike and len(labels[content]) > 1:
                left_out.append(LeftOut(sample.sample_id, "contradiction"))
            elif content in alike and owner[content] != name:
                left_out.append(LeftOut(sample.sample_id, "copy"))
            else:
                kept[name].append(sample)
    return kept, left_out


def _groups(splits: Splits, contents: Mapping[str, str]) -> list[list[tuple[SplitName, Sample]]]:
    """Samples of one content, where there are several and they are images."""
    found: dict[str, list[tuple[SplitName, Sample]]] = {}
    for name, samples in splits.items():
        for sample in samples:
            found.setdefault(contents[sample.sample_id], []).append((name, sample))
    return [group for group in found.values() if len(group) > 1 and is_picture(group[0][1])]
