"""How long torch's threads wait in a loop for each other before they sleep.

GNU's OpenMP, which torch's wheels bring along, has threads spin for milliseconds by default. That is free on an idle
machine. On one that does other work, a thread then burns the time slice that the thread it waits for would need: on two
cores with several other processes, training loses nine tenths of its speed and more. Sleeping at once
(`OMP_WAIT_POLICY=PASSIVE`) costs a wake-up at every operator. A short spin covers the gaps between operators and gives
the core away where the other thread is not running at all. No result depends on it.
"""

from __future__ import annotations

from collections.abc import MutableMapping

SPINS = 1_000
"""Rounds of the waiting loop, some 20 to 50 ns each: a few hundredths of a millisecond."""

_CHOSEN_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def spin_briefly(environment: MutableMapping[str, str]) -> None:
    """Limit how long OpenMP's threads spin, unless the user has chosen.

    To be called before torch is imported: the library reads its environment once, when it is loaded.
    """
    if not any(environment.get(name) for name in _CHOSEN_BY):
        environment["GOMP_SPINCOUNT"] = str(SPINS)
