"""What a search reads of a scouting: its rows, its file, and what fits the budgets."""

from pipeline.results.rows.scouted import (
    SCOUT_FILE,
    Candidate,
    ScoutDocument,
    ScoutRow,
    read_scouted,
    write_scouted,
)
from pipeline.results.scouted import (
    AsEngine,
    Held,
    at_ends,
    candidates_that_fit,
    concerns,
    fits,
    held_against,
)

__all__ = [
    "SCOUT_FILE", "AsEngine", "Candidate", "Held", "ScoutDocument", "ScoutRow", "at_ends", "candidates_that_fit",
    "concerns", "fits", "held_against", "read_scouted", "write_scouted",
]  # fmt: skip
