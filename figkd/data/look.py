"""A first, bounded look at a data set's images of more than 8 bits, from which their common rule follows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import gcd

import numpy as np

from figkd.data.decode import Job
from figkd.data.deep import deep_kind, seen_range
from figkd.data.levels import UNSEEN, Kind, Rules, rule_of
from figkd.data.opening import opened, reasons
from figkd.data.remarks import heard, listening
from figkd.data.room import LIMIT_BYTES, bytes_to_decode, shared_room
from figkd.errors import DataError

MOST = 128
"""Images of each kind whose values are looked at."""

_AT_ONCE = 64


def levels_of(jobs: Sequence[Job], workers: int) -> Rules:
    """The rule for each kind of images of more than 8 bits among `jobs`; empty if there is none.

    Every image is opened, of which few bytes of a photograph are read; `MOST` of a kind, from all over the list, are
    decoded. One that cannot be says nothing here: decoding it will tell.
    """
    ranges: dict[Kind, list[tuple[float, float]]] = {}
    with listening(), ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for some in _spread(jobs):
            wanted = {kind for kind in UNSEEN if len(ranges.get(kind, ())) < MOST}
            if not wanted:
                break
            for found in pool.map(partial(_look, wanted=wanted), some):
                if found is not None:
                    ranges.setdefault(found[0], []).append(found[1])
    return {kind: rule_of(kind, ranges[kind][:MOST]) for kind in sorted(ranges)}


def _look(job: Job, wanted: Collection[Kind]) -> tuple[Kind, tuple[float, float]] | None:
    """An image's kind and range; None if it is not wanted or cannot be decoded."""
    try:
        with heard(), reasons(), opened(job.image) as stored:
            kind = deep_kind(stored)
            if kind is None or kind not in wanted:
                return None
            needed = bytes_to_decode(stored, stored.size)
            if needed > LIMIT_BYTES:
                return None
            with shared_room().taken(needed):
                found = seen_range(stored)
            return (kind, found) if found else None
    except DataError:
        return None


def _spread(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """All images that may have more than 8 bits, a few at a time, in an order that soon has been everywhere."""
    count = len(jobs)
    # Steps of the golden ratio never come near where they have been before; coprime, they miss nothing.
    step = next(step for step in range(max(1, round(count * 0.618)), count + 2) if gcd(step, count) == 1)
    some: list[Job] = []
    for index in range(count):
        job = jobs[index * step % count]
        if not isinstance(job.image, np.ndarray):
            some.append(job)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    yield some
