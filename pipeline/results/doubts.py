"""What makes a measured latency doubtful: other processes at work, a clock with coarse steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export.cautions import Caution
from pipeline.results.evidence import Load

MAX_OTHER_CORES = 0.15
"""CPU time of others, in cores, above which a round is taken again, and it is said if that did not help."""
# A clock whose steps are more than this share of the median is worth a word.
_FINE = 0.01


def load_of(machine: Mapping[str, Any]) -> Load | None:
    """Who else was at work during a measurement, from its facts of the machine; None where it is not known."""
    from export.runtime.load import is_disturbed

    during = machine.get("during")
    if not isinstance(during, Mapping) or not isinstance(during.get("seconds"), int | float):
        return None
    return Load(
        others=during.get("other_cores", 0.0),
        stolen=during.get("steal_cores", 0.0),
        seconds=during["seconds"],
        rounds=during.get("rounds", 0),
        repeated=during.get("repeated_rounds", 0),
        disturbed=is_disturbed(dict(during), MAX_OTHER_CORES),
    )


def coarse(step_ms: float, median_ms: float) -> list[Caution]:
    """The caution of a clock whose steps are more than 1 % of the median; none where they are finer."""
    if step_ms <= _FINE * median_ms:
        return []
    return [Caution("coarse_clock", {"step_ms": step_ms, "median_ms": median_ms})]
