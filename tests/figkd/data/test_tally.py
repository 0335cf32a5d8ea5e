"""Counts of what decoding did: nothing for ordinary images, an example for everything else."""

from __future__ import annotations

import numpy as np

from figkd.data.decode import Decoded
from figkd.data.levels import Levels
from figkd.data.sources import Source
from figkd.data.tally import Tally, in_words

PIXELS = np.zeros((2, 2, 3), np.uint8)
SOURCE = Source("PNG", 2, 2, 2)


def test_ordinary_images_say_nothing() -> None:
    """Protects data.json of ordinary data: it stays as it was."""
    tally = Tally({})
    tally.add(Decoded(PIXELS, SOURCE), "a")
    assert tally.facts() == {}
    assert in_words({}) == []


def test_everything_is_counted_with_an_example() -> None:
    """Protects: what was lost can be found again, in numbers and in words."""
    tally = Tally({"integer": Levels(0, 4095)})
    tally.add(
        Decoded(PIXELS, SOURCE, frozenset({"clipped", "scaled_to_8_bits"}), 7, ("bad EXIF",)), "x/1.png"
    )
    tally.add(Decoded(PIXELS, SOURCE, frozenset({"scaled_to_8_bits"}), 0, ("bad EXIF",)), "x/2.png")
    facts = tally.facts()
    assert facts == {
        "levels": {"integer": [0, 4095]},
        "remarks": {
            "clipped": {"images": 1, "example": "x/1.png"},
            "scaled_to_8_bits": {"images": 2, "example": "x/1.png"},
        },
        "clipped_values": 7,
        "warnings": {"bad EXIF": {"images": 2, "example": "x/1.png"}},
    }
    said = in_words(facts)
    assert said[0] == "integers of more than 8 bits: 0 is black, 4,095 is white"
    assert "values beyond the data set's range, clipped: 1 image, e.g. x/1.png" in said
    assert said[-1] == "2 warnings of the image library"


def test_warnings_are_bounded() -> None:
    """Protects data.json: a library that says something else about each image does not fill it."""
    tally = Tally({})
    for index in range(100):
        tally.add(Decoded(PIXELS, SOURCE, warnings=(f"number {index}",)), str(index))
    assert len(tally.facts()["warnings"]) == 20
