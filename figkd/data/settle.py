"""From what a data set's module found to the three splits that are decoded: who is in, and on which side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from figkd.data.copies import Copies, find_copies, refuse_copies, without_copies
from figkd.data.hold_out import hold_out
from figkd.data.left_out import LeftOut, remedies
from figkd.data.listing import Listing, Sample
from figkd.data.store import SPLITS, SplitName
from figkd.errors import DataError

Origin = Literal["given", "rest", "held_out", "rendered"]
"""How a split came about: it was given; it is what was left of given images when others were held out; it was held
out; it was rendered here."""


@dataclass(frozen=True)
class Settled:
    """A listing with its three splits.

    Attributes:
        listing: as it was read, without the classes that were left out; with everything that was left out.
        splits: samples of train, val and test.
        contents: digest of each sample's content by its id.
        copies: what is there more than once.
    """

    listing: Listing
    splits: Mapping[SplitName, Sequence[Sample]]
    contents: Mapping[str, str]
    copies: Copies


def settle(listing: Listing, contents: Mapping[str, str], *, val_fraction: float, seed: int) -> Settled:
    """Decide about small classes and copies, and hold out the splits that are missing.

    Args:
        listing: what the module found.
        contents: digest of each sample's content by its id.
        val_fraction: part of train that becomes val where none is given.
        seed: of what is held out.

    Raises:
        DataError: an image is in two splits, classes are too small, or copies decide the result.
    """
    _refuse_two_places(listing)
    if listing.demands is not None and listing.demands.copies == "leave_out":
        kept, out = without_copies(listing.splits, contents)
        listing = replace(listing, splits=kept, left_out=[*listing.left_out, *out])
    listing = without_small_classes(listing, contents)
    if listing.demands is not None:
        refuse_copies(find_copies(listing.splits, contents), listing.splits)
    splits: dict[SplitName, Sequence[Sample]] = dict(listing.splits)
    if "test" not in splits and listing.test_fraction is not None:
        leave = 1 if "val" in splits else 2
        splits |= _hold_out(splits["train"], "test", listing.test_fraction, seed, contents, leave)
    if "val" not in splits:
        splits |= _hold_out(splits["train"], "val", val_fraction, seed, contents, 1)
    return Settled(listing, splits, contents, find_copies(splits, contents))


def origins(settled: Settled) -> dict[SplitName, Origin]:
    """How each split came about, for data.json."""
    given = settled.listing.splits
    train: Origin = "given" if set(given) == set(settled.splits) else "rest"
    found: dict[SplitName, Origin] = {
        name: "given" if name in given else "held_out" for name in SPLITS if name in settled.splits
    }
    return {**found, "train": train}


def without_small_classes(listing: Listing, contents: Mapping[str, str] | None = None) -> Listing:
    """A listing whose classes have an image for every split, by number of images or, if known, of contents.

    Raises:
        DataError: there are smaller classes, and they are not to be left out; fewer than two remain; a class of
            another split is not in train.
    """
    if listing.demands is None:
        return listing
    _refuse_one_class(listing)
    held_out = [name for name in ("val", "test") if name not in listing.splits]
    need = 1 + len(held_out)
    found: dict[int, set[str]] = {label: set() for label in range(len(listing.classes))}
    for sample in listing.splits.get("train", ()):
        found[sample.label].add(sample.sample_id if contents is None else contents[sample.sample_id])
    small = [label for label, members in found.items() if len(members) < need]
    if small and listing.demands.small_classes == "refuse":
        shown = [_small(listing, label, len(found[label])) for label in small[:5]]
        purpose = f"one for each of train, {', '.join(held_out)}" if held_out else "for train"
        has = "has" if len(small) == 1 else "have"
        cures = remedies(listing.left_out) if any(listing.why.get(listing.classes[c]) for c in small) else ""
        cure = f"{cures}; or " if cures else ""
        raise DataError(
            f"{len(small)} of {len(listing.classes)} classes {has} fewer than {need} different images "
            f"({purpose}): {', '.join(shown)}{', ...' if len(small) > 5 else ''}",
            f"{cure}add images, remove the class, or set data.options.small_classes: leave_out",
        )
    if small:
        listing = _without(listing, set(small))
        _refuse_one_class(listing)
    return listing


def _refuse_one_class(listing: Listing) -> None:
    if len(listing.classes) < 2:
        raise DataError(
            f"there are images of {'1 class' if listing.classes else 'no class'}, at least 2 are needed",
            "put the images of each class in a folder of its own, or list them with their labels",
        )


def _small(listing: Listing, label: int, count: int) -> str:
    name = listing.classes[label]
    return f"{name} ({count}{'; left out: ' + listing.why[name] if listing.why.get(name) else ''})"


def _without(listing: Listing, labels: set[int]) -> Listing:
    stay = [label for label in range(len(listing.classes)) if label not in labels]
    new = {label: index for index, label in enumerate(stay)}
    lost = dict.fromkeys(labels, 0)
    for samples in listing.splits.values():
        for sample in samples:
            if sample.label in lost:
                lost[sample.label] += 1
    return replace(
        listing,
        classes=[listing.classes[label] for label in stay],
        splits={
            name: [replace(s, label=new[s.label]) for s in samples if s.label in new]
            for name, samples in listing.splits.items()
        },
        left_out=[
            *listing.left_out,
            *(LeftOut(listing.classes[label], "small_class", count) for label, count in sorted(lost.items())),
        ],
    )


def _refuse_two_places(listing: Listing) -> None:
    owner: dict[str, SplitName] = {}
    for name, samples in listing.splits.items():
        for sample in samples:
            other = owner.setdefault(sample.sample_id, name)
            if other != name:
                raise DataError(f"{sample.sample_id} is in both {other} and {name}", "list it once")


def _hold_out(
    samples: Sequence[Sample],
    name: SplitName,
    fraction: float,
    seed: int,
    contents: Mapping[str, str],
    leave: int,
) -> dict[SplitName, Sequence[Sample]]:
    held = hold_out(
        [contents[sample.sample_id] for sample in samples],
        [sample.label for sample in samples],
        fraction,
        seed=seed,
        salt=name,
        leave=leave,
    )
    return {
        "train": [sample for sample, out in zip(samples, held, strict=True) if not out],
        name: [sample for sample, out in zip(samples, held, strict=True) if out],
    }
