"""The words that people and exporters use for splits: one table for folders, CSV files and Hugging Face."""

from __future__ import annotations

import re
from collections.abc import Iterable

from figkd.data.store import SplitName
from figkd.errors import DataError

WORDS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "holdout": "test",
    "heldout": "test",
}
"""Words in lower case; `eval` and `evaluation` are test, or val where there is another word for test."""

_EITHER = frozenset({"eval", "evaluation"})
# train_set, val-images, Test Data, train2017
_WITH_NOUN = re.compile(
    r"(?P<word>[a-z]+|hold[ _-]out|held[ _-]out)([ _-]?(set|split|data|images|imgs)|[ _-]?20\d\d)?"
)


def word_of(name: str) -> str | None:
    """The split word in a name, in lower case; None if it is not the name of a split."""
    found = _WITH_NOUN.fullmatch(name.strip().casefold())
    word = re.sub("[ _-]", "", found["word"]) if found else ""
    return word if word in WORDS or word in _EITHER else None


def meanings(names: Iterable[str]) -> dict[str, SplitName]:
    """The split of each name that is one; several names may mean the same."""
    words = {name: word for name in names if (word := word_of(name))}
    splits = {name: WORDS[word] for name, word in words.items() if word in WORDS}
    # What a user calls eval is what the result is measured on, unless there is a test set beside it.
    spare: SplitName = "val" if "test" in splits.values() else "test"
    return {name: splits.get(name, spare) for name in words}


def assign(names: Iterable[str]) -> dict[SplitName, str]:
    """The name of each split, where no two may mean the same.

    Raises:
        DataError: two names mean one split.
    """
    found: dict[SplitName, str] = {}
    for name, split in meanings(sorted(names)).items():
        if found.setdefault(split, name) != name:
            raise DataError(f"{found[split]} and {name} both mean {split}", "keep one of them, or join them")
    return found
