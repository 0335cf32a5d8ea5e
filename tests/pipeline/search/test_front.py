"""The Pareto front and who is promoted, against definitions written out on random points."""

from __future__ import annotations

import random

from pipeline.search.front import dominates, front_of, promoted, ranked


def test_the_front_is_what_nothing_dominates() -> None:
    """Compared with the definition, on points with ties and repetitions."""
    generator = random.Random(0)
    for _ in range(100):
        points = {str(i): (float(generator.randrange(5)), float(generator.randrange(5))) for i in range(12)}
        front = front_of(points)
        for name, losses in points.items():
            beaten = any(a[0] <= losses[0] and a[1] <= losses[1] and a != losses for a in points.values())
            first = next(other for other in points if points[other] == losses)
            assert (name in front) == (not beaten and name == first)
    assert front_of({}) == []
    assert not dominates((1.0, 2.0), (1.0, 2.0))


def test_promotion_takes_the_fronts_one_after_the_other() -> None:
    """A trial counts by the best of its points; all of a front come before any of the next."""
    points = {
        0: [(0.0, 9.0), (5.0, 5.0)],
        1: [(9.0, 9.0)],
        2: [(9.0, 0.0)],
        3: [(1.0, 9.5), (4.0, 4.0)],
        4: [(9.0, 10.0)],
    }
    order = ranked(points)
    assert set(order[:3]) == {0, 2, 3} and order[3:] == [1, 4]
    assert promoted(points, 2) == order[:3] and promoted(points, 16) == order[:1]
    assert promoted({7: [(1.0,)]}, 4) == [7]


def test_with_one_objective_it_is_a_ranking() -> None:
    """Successive halving as published."""
    assert ranked({n: [(float(-n),)] for n in range(6)}) == [5, 4, 3, 2, 1, 0]
