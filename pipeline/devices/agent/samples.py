"""Raw samples as one file of doubles, so that the host can compute every statistic again."""

from __future__ import annotations

import sys
from array import array
from typing import Mapping


def write_samples(
    path: str, cases: Mapping[str, Mapping[str, array[float]]]
) -> dict[str, dict[str, list[int]]]:
    """Write arrays of doubles one after the other, little endian.

    Returns:
        case -> part -> [first value, how many], counted in values.
    """
    index: dict[str, dict[str, list[int]]] = {}
    at = 0
    with open(path, "wb") as file:
        for case, parts in cases.items():
            index[case] = {}
            for part, values in parts.items():
                if sys.byteorder != "little":
                    values = array("d", values)
                    values.byteswap()
                file.write(values.tobytes())
                index[case][part] = [at, len(values)]
                at += len(values)
    return index
