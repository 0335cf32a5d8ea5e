"""Freed memory goes back to the system once nobody has asked for a while."""

from __future__ import annotations

from ..malloc import give_back

IDLE_S = 5.0


class Heap:
    """Freed memory that the C library keeps for the next request.

    glibc learns from large bodies and photos that were freed: it takes the next ones from heaps, of which threads have
    their own, and keeps up to twice the largest block there for good (mallopt(3), M_MMAP_THRESHOLD). While requests
    come that is faster: a photo of 4 megapixels takes 1.1 to 1.4 times as long without. Afterwards it is tens of MiB
    for nothing.
    """

    def __init__(self) -> None:
        self._answered, self._since, self._is_given_back = -1, 0.0, False

    def look(self, now_s: float, answered: int, is_busy: bool) -> None:
        """Give it back, once, after `IDLE_S` without a request.

        Args:
            now_s: of a clock that only goes on.
            answered: requests so far.
            is_busy: whether one waits, runs or arrives.
        """
        if is_busy or answered != self._answered:
            self._answered, self._since, self._is_given_back = answered, now_s, False
        elif not self._is_given_back and now_s - self._since >= IDLE_S:
            give_back()
            self._is_given_back = True
