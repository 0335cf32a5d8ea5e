"""What is different between data that were prepared before and data as they are now, image by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from figkd.data.settle import Settled
from figkd.data.store import SPLITS, class_names, facts, open_labels, read_contents

_NAMED = 5


@dataclass(frozen=True)
class Changes:
    """Images and classes that came and went.

    Attributes:
        added, removed: images by class; an image that got another label went from one class and came to another.
        changed: images whose name stayed while their content did not, by class; they count neither as added nor as
            removed.
        classes_added, classes_removed: names.
        tested: images of the test split before that are still there.
        test_kept: how many of those are still in the test split.
        into_train: how many of those are in the training split now.
    """

    added: Mapping[str, int]
    removed: Mapping[str, int]
    changed: Mapping[str, int]
    classes_added: tuple[str, ...]
    classes_removed: tuple[str, ...]
    tested: int
    test_kept: int
    into_train: int

    def sentences(self) -> list[str]:
        """The changes for people; empty where nothing differs."""
        notes = [
            f"{sum(counts.values()):,} images {word} ({_by_class(counts)})"
            for word, counts in (("added", self.added), ("removed", self.removed), ("changed", self.changed))
            if counts
        ]
        notes += [
            f"classes {word}: {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"
            for word, names in (("added", self.classes_added), ("removed", self.classes_removed))
            if names
        ]
        if self.tested and (notes or self.test_kept < self.tested):
            moved = f", {self.into_train:,} are trained on now" if self.into_train else ""
            notes.append(
                f"{self.test_kept:,} of the {self.tested:,} old test images are test images still{moved}"
            )
        return notes


def changes(folder: Path, now: Settled) -> Changes | None:
    """Compare a prepared data folder with what is there now.

    Returns:
        None if the folder does not say what its images' contents were: it was made by an earlier version.

    Raises:
        DataError: the folder is damaged.
    """
    names = class_names(folder)
    before: dict[str, tuple[str, str]] = {}  # class and content by id
    tests: set[str] = set()
    for split in SPLITS:
        contents = read_contents(folder, split)
        if contents is None:
            return None
        labels, ids = open_labels(folder, split)
        for sample_id, label, content in zip(ids, labels, contents, strict=True):
            before[sample_id] = (names[label], content)
        if split == "test":
            tests = set(contents)
    unseen = {entry["file"] for entry in facts(folder)["skipped"]}  # they could not be decoded, now as before
    after = {
        sample.sample_id: (now.listing.classes[sample.label], now.contents[sample.sample_id])
        for samples in now.splits.values()
        for sample in samples
        if sample.sample_id not in unseen
    }
    changed = {
        key
        for key, (name, content) in after.items()
        if key in before and before[key][0] == name and before[key][1] != content
    }
    old = Counter(value for key, value in before.items() if key not in changed)
    new = Counter(value for key, value in after.items() if key not in changed)
    here = {split: {now.contents[s.sample_id] for s in samples} for split, samples in now.splits.items()}
    still = {content for content in tests if any(content in found for found in here.values())}
    return Changes(
        _count(new - old),
        _count(old - new),
        dict(Counter(after[key][0] for key in sorted(changed))),
        tuple(name for name in now.listing.classes if name not in names),
        tuple(name for name in names if name not in now.listing.classes),
        len(still),
        len(still & here["test"]),
        len((still & here["train"]) - here["test"]),
    )


def _count(images: Counter[tuple[str, str]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (name, _), number in images.items():
        counts[name] += number
    return dict(sorted(counts.items()))


def _by_class(counts: Mapping[str, int]) -> str:
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = f", ... in {len(counts)} classes" if len(counts) > _NAMED else ""
    return ", ".join(f"{number:,} {name}" for name, number in largest[:_NAMED]) + more
