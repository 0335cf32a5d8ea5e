"""What images are before they are decoded: formats and sizes, as few numbers, whatever the number of images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from figkd.files import Json


@dataclass(frozen=True)
class Source:
    """One image before it is decoded.

    Attributes:
        format: as Pillow names it; "array" for pixels out of a table or an archive, "rendered" for what is drawn here.
        width, height: pixels, upright.
        short_side: of the part that is used, pixels.
    """

    format: str
    width: int
    height: int
    short_side: int


class Sources:
    """Counts formats and sizes."""

    def __init__(self, view: int) -> None:
        """`view` is the side of what a network sees, pixels."""
        self._view = view
        self._formats: Counter[str] = Counter()
        self._widths: Counter[int] = Counter()
        self._heights: Counter[int] = Counter()
        self._enlarged = 0

    def add(self, source: Source) -> None:
        """Count an image."""
        self._formats[source.format] += 1
        self._widths[source.width] += 1
        self._heights[source.height] += 1
        self._enlarged += source.short_side < self._view

    def facts(self) -> Json:
        """For data.json: images by format, the most first; `min`, `median` (the lower one) and `max` of `width` and of
        `height`, pixels; `enlarged`, the images of which the part that is used is smaller than the view."""
        return {
            "formats": dict(sorted(self._formats.items(), key=lambda item: (-item[1], item[0]))),
            "width": _spread(self._widths),
            "height": _spread(self._heights),
            "enlarged": self._enlarged,
        }


def _spread(counts: Counter[int]) -> dict[str, int]:
    middle, passed = (counts.total() + 1) // 2, 0
    median = 0
    for value in sorted(counts):
        passed += counts[value]
        if passed >= middle:
            median = value
            break
    return {"min": min(counts, default=0), "median": median, "max": max(counts, default=0)}
