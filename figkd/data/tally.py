"""Counts of what decoding did to a data set's images, as data.json keeps them and as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from figkd.data.decode import Decoded
from figkd.data.levels import Kind, Rules, as_json
from figkd.data.remarks import WORDS, Remark
from figkd.files import Json

_MOST_WARNINGS = 20

_KINDS: dict[Kind, str] = {"integer": "integers of more than 8 bits", "float": "floating-point values"}


class _Seen(TypedDict):
    """How many images something was about, and the first of them."""

    images: int
    example: str


class Tally:
    """Counts remarks and warnings, each with the first image that it was about."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._remarks: dict[str, _Seen] = {}
        self._warnings: dict[str, _Seen] = {}
        self._clipped = 0

    def add(self, image: Decoded, sample_id: str) -> None:
        """Count an image."""
        self._clipped += image.clipped
        for remark in sorted(image.remarks):
            _count(self._remarks, remark, sample_id)
        for text in image.warnings:
            if text in self._warnings or len(self._warnings) < _MOST_WARNINGS:
                _count(self._warnings, text, sample_id)

    def facts(self) -> Json:
        """`levels` (kind of values to those that become 0 and 255), `remarks` and `warnings` (each to `images` and an
        `example`), `clipped_values`; what there is of them, nothing for a data set of ordinary images."""
        found = {
            "levels": as_json(self._rules),
            "remarks": dict(sorted(self._remarks.items())),
            "clipped_values": self._clipped,
            "warnings": self._warnings,
        }
        return {name: value for name, value in found.items() if value}


def in_words(decoding: Mapping[str, Any]) -> list[str]:
    """What `Tally.facts` gives, a phrase for each kind of thing."""
    levels: Mapping[Kind, list[float]] = decoding.get("levels", {})
    remarks: Mapping[Remark, Mapping[str, Any]] = decoding.get("remarks", {})
    said = [
        f"{_KINDS[kind]}: {low:,.6g} is black, {high:,.6g} is white" for kind, (low, high) in levels.items()
    ]
    said += [
        f"{WORDS[remark]}: {_images(found['images'])}, e.g. {found['example']}"
        for remark, found in remarks.items()
    ]
    if warned := sum(found["images"] for found in decoding.get("warnings", {}).values()):
        said.append(f"{warned:,} warnings of the image library")
    return said


def _count(found: dict[str, _Seen], what: str, sample_id: str) -> None:
    found.setdefault(what, {"images": 0, "example": sample_id})["images"] += 1


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"
