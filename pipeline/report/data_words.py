"""The data in words and bounded tables: what the page, the Markdown and the terminal say alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from figkd.data import SplitName, copies, left_out, tally
from pipeline.report import numbers
from pipeline.report.worry import Worry, worst_first
from pipeline.results.data_summary import DataSummary, Spread, Unused

ORIGINS = {"given": "given", "rest": "the rest", "held_out": "held out", "rendered": "rendered here"}
FORMATS = {"array": "as pixels of a table or an archive", "rendered": "rendered here"}
MOST_ROWS = 60
"""More classes are not shown one by one."""
_FEWEST, _LARGEST = 20, 10
FEW_IMAGES = 20
"""A class of fewer training images is worth a word."""
UNEVEN = 5.0
"""So are a largest class of more times the smallest, "copies" and "enlarged" of a larger part of the images."""
_MANY_COPIES, _MANY_ENLARGED = 0.01, 0.1
_NAMED = 4


@dataclass(frozen=True)
class Fact:
    """A line of the summary; several values stand one below the other."""

    label: str
    values: Sequence[str]


@dataclass(frozen=True)
class ClassRow:
    """A class: number of its output, name, images by split."""

    output: int
    name: str
    images: Sequence[int]


@dataclass(frozen=True)
class ClassTable:
    """Classes one by one, or the smallest and the largest ones; `rest` says what is not shown, empty for nothing."""

    splits: Sequence[SplitName]
    rows: Sequence[ClassRow]
    rest: str


def facts(data: DataSummary) -> list[Fact]:
    """The data in a few lines."""
    found = [
        Fact("Images", [_splits(data)]),
        Fact("Classes", [_classes(data)]),
        Fact("Formats", [_formats(data)]),
        Fact("Size", [f"{_spread('width', data.sources.width)}, {_spread('height', data.sources.height)}"]),
        Fact("The network sees", [_view(data)]),
        Fact("Copies", _copies(data)),
        Fact("Left out", [_unused(left_out.REASONS[r][0], e) for r, e in _known(data)] or ["nothing"]),
        Fact("Not decodable", [_unused(reason, e) for reason, e in data.skipped.items()] or ["none"]),
        Fact("Decoding", tally.in_words(data.decoding) or ["nothing unusual"]),
    ]
    return [*found, Fact("Remarks", data.notes)] if data.notes else found


def class_table(data: DataSummary) -> ClassTable:
    """Images by class and split: all classes by output, or the smallest and the largest by training images."""
    splits = [split.name for split in data.splits]
    everyone = [
        ClassRow(output, name, [data.images[split][output] for split in splits])
        for output, name in enumerate(data.classes)
    ]
    if len(everyone) <= MOST_ROWS:
        return ClassTable(splits, everyone, "")
    ordered = sorted(everyone, key=lambda row: (data.images["train"][row.output], row.output))
    between = [data.images["train"][row.output] for row in ordered[_FEWEST:-_LARGEST]]
    rest = (
        f"The {_FEWEST} smallest and the {_LARGEST} largest classes. The {numbers.count(len(between))} between them "
        f"have {_range(between[0], between[-1])} training images each; result.json and `data --json` have them all."
    )
    return ClassTable(splits, [*ordered[:_FEWEST], *ordered[-_LARGEST:]], rest)


def worries(data: DataSummary) -> list[Worry]:
    """What in the data may spoil a result, the worst first."""
    copied = [worry for split in data.splits for worry in copy_worries(data, split.name)]
    return worst_first([*copied, *_repeats(data), *_class_worries(data), *_image_worries(data)])


def _class_worries(data: DataSummary) -> Iterator[Worry]:
    train = data.images["train"]
    few = sorted((n, index) for index, n in enumerate(train) if n < FEW_IMAGES)
    if few:
        named = ", ".join(f"“{data.classes[index]}” ({numbers.count(n)})" for n, index in few[:_NAMED])
        more = f" and {numbers.count(len(few) - _NAMED)} more" if len(few) > _NAMED else ""
        have = "1 class has" if len(few) == 1 else f"{numbers.count(len(few))} classes have"
        yield Worry(
            "miss",
            f"{have} fewer than {FEW_IMAGES} training images: {named}{more}. More images help these most.",
        )
    least, most = min(train), max(train)
    if most > UNEVEN * least:
        large, small = data.classes[train.index(most)], data.classes[train.index(least)]
        yield Worry(
            "miss",
            f"“{large}” has {numbers.count(round(most / max(least, 1)))} times as many training images as “{small}”. "
            "The share of right answers (top-1) then tells mostly about the large classes: read the mean per class "
            "beside it.",
        )


def copy_worries(data: DataSummary, split: SplitName) -> Iterator[Worry]:
    """Images of a split that are in an earlier one too."""
    sizes: dict[str, int] = {found.name: found.images for found in data.splits}
    what = "look better than they are" if split == "test" else "mislead what is chosen by them"
    for pair, count in (data.copies.across if data.copies else {}).items():
        first, second = pair.split(", ")
        if count and second == split:
            yield Worry(
                "miss",
                f"{_part(count, sizes[split], f'{split} images')} repeat {first} images: results on {split} "
                f"may {what}, by up to as much.",
            )


def _repeats(data: DataSummary) -> Iterator[Worry]:
    if data.copies is None:
        return
    sizes = {split.name: split.images for split in data.splits}
    if data.copies.contradictory:
        yield Worry(
            "miss",
            f"{_part(data.copies.contradictory, sum(sizes.values()), 'images')} stand under several labels with the "
            "same content: no model can be right on all of them.",
        )
    within = sum(data.copies.within.values())
    if within > _MANY_COPIES * sum(sizes.values()):
        yield Worry(
            "off",
            f"{_part(within, sum(sizes.values()), 'images')} repeat another one of their split, and count twice.",
        )


def _image_worries(data: DataSummary) -> Iterator[Worry]:
    total = sum(split.images for split in data.splits)
    if data.sources.enlarged > _MANY_ENLARGED * total:
        yield Worry(
            "off",
            f"{_part(data.sources.enlarged, total, 'images')} are smaller than the {data.image_size} px that the "
            "network sees. Enlarging adds no detail; a smaller data.image_size may do as well, and is faster.",
        )
    if skipped := sum(found.count for found in data.skipped.values()):
        which = "1 image" if skipped == 1 else f"{numbers.count(skipped)} images"
        yield Worry("off", f"{which} could not be decoded, and {'is' if skipped == 1 else 'are'} not used.")
    for said in left_out.sentences({r: entry.model_dump() for r, entry in data.left_out.items()}):
        yield Worry("off", f"{said[0].upper()}{said[1:]}.")


def _splits(data: DataSummary) -> str:
    parts = [f"{numbers.count(s.images)} {s.name} ({ORIGINS[s.origin]})" for s in data.splits]
    return f"{numbers.count(sum(s.images for s in data.splits))}: {', '.join(parts)}"


def _classes(data: DataSummary) -> str:
    least, most = min(data.images["train"]), max(data.images["train"])
    ratio = (
        f"; the largest has {_times(most / least)} times the smallest"
        if least and most >= 1.1 * least
        else ""
    )
    return f"{numbers.count(len(data.classes))}, {_range(least, most)} training images each{ratio}"


def _formats(data: DataSummary) -> str:
    ordered = sorted(data.sources.formats.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{numbers.count(n)} {FORMATS.get(name, name)}" for name, n in ordered)


def _spread(axis: str, found: Spread) -> str:
    if found.min == found.max:
        return f"{axis} {numbers.count(found.min)} px"
    return f"{axis} {numbers.count(found.median)} px (median; {_range(found.min, found.max)})"


def _view(data: DataSummary) -> str:
    side = f"{data.image_size} x {data.image_size} px"
    if data.store_size != data.image_size:
        side += f", the centre of {data.store_size} x {data.store_size} px"
    total = sum(split.images for split in data.splits)
    if data.sources.enlarged:
        side += f"; {_part(data.sources.enlarged, total, 'images')} are smaller, and enlarged"
    return side + ("; decoded on the fly" if data.on_the_fly else "")


def _copies(data: DataSummary) -> Sequence[str]:
    if data.copies is None:
        return ["not looked for"]
    return copies.sentences(data.copies.model_dump()) or ["none"]


def _known(data: DataSummary) -> list[tuple[left_out.Reason, Unused]]:
    return [(reason, data.left_out[reason]) for reason in left_out.REASONS if reason in data.left_out]


def _unused(reason: str, found: Unused) -> str:
    more = ", ..." if found.count > len(found.examples[:2]) else ""
    return f"{numbers.count(found.count)} x {reason} ({', '.join(found.examples[:2])}{more})"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 10 else numbers.count(round(ratio))


def _part(count: int, whole: int, what: str) -> str:
    percent = 100 * count / max(whole, 1)
    shown = f"{percent:.0f}" if percent >= 10 else f"{percent:.2g}" if percent >= 0.01 else "below 0.01"
    return f"{numbers.count(count)} of {numbers.count(whole)} {what} ({shown} %)"


def _range(low: int, high: int) -> str:
    return numbers.count(low) if low == high else f"{numbers.count(low)} to {numbers.count(high)}"
