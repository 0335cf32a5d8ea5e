"""Better and worse where several things count: the Pareto front, and who is promoted. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Losses = tuple[float, ...]
"""Of each objective; less is better."""


def dominates(first: Losses, second: Losses) -> bool:
    """Whether the first is nowhere worse, and somewhere better."""
    return all(a <= b for a, b in zip(first, second, strict=True)) and first != second


def front_of(points: Mapping[str, Losses]) -> list[str]:
    """The points that no other dominates, in the order in which they are given; of equal ones the first."""
    found: list[str] = []
    for name, losses in points.items():
        if any(dominates(other, losses) for other in points.values()):
            continue
        if losses not in [points[other] for other in found]:
            found.append(name)
    return found


def ranked(points: Mapping[int, Sequence[Losses]]) -> list[int]:
    """Trials from best to worst.

    A trial counts by the best of its points (one a precision): first by how many fronts must be taken away before one
    of them is on the front (NSGA-II's rank); within a front by the room that the point has to its neighbours, so that
    what is kept is spread over the front; then by number.

    Args:
        points: the losses of each trial's points, by the trial's number.
    """
    left = {(number, i): losses for number, each in points.items() for i, losses in enumerate(each)}
    order: list[int] = []
    while left:
        front = [
            name for name, mine in left.items() if not any(dominates(other, mine) for other in left.values())
        ]
        room = _room({name: left[name] for name in front})
        for name in sorted(front, key=lambda name: (-room[name], name)):
            if name[0] not in order:
                order.append(name[0])
        left = {name: losses for name, losses in left.items() if name not in set(front)}
    return order


def promoted(points: Mapping[int, Sequence[Losses]], factor: int) -> list[int]:
    """One in `factor` trials, at least one, the best first."""
    return ranked(points)[: max(1, -(-len(points) // factor))]


def _room(front: Mapping[tuple[int, int], Losses]) -> dict[tuple[int, int], float]:
    """Crowding distance (Deb et al. 2002); infinite at the ends."""
    room = dict.fromkeys(front, 0.0)
    for objective in range(len(next(iter(front.values())))):
        line = sorted(front, key=lambda name: (front[name][objective], name))
        span = front[line[-1]][objective] - front[line[0]][objective]
        room[line[0]] = room[line[-1]] = float("inf")
        for before, name, after in zip(line, line[1:], line[2:], strict=False):
            if span > 0:
                room[name] += (front[after][objective] - front[before][objective]) / span
    return room
