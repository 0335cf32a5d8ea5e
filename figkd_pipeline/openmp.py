"""How long the threads of OpenMP spin before they sleep, which its library reads once, when it is loaded."""

from __future__ import annotations

from collections.abc import MutableMapping

SPINS = "20000"
"""About a millisecond, by the CPU's pace, instead of OpenMP's fifteenfold: on an idle machine operations follow each
other sooner, and on one that does other work threads that spin for long take the time that the awaited one needs."""

_USERS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def spin_briefly(environ: MutableMapping[str, str]) -> None:
    """Say so in the environment, unless the user has said something else."""
    if not any(map(environ.get, _USERS)):
        environ["GOMP_SPINCOUNT"] = SPINS
