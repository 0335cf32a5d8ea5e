"""The stages in the order in which they run: a new one is one name here, and a module of that name with its `STAGE`.

The names alone, so that `--help` can list them without importing what the stages need; `table.STAGES` has the stages.
"""

STAGE_NAMES: tuple[str, ...] = (
    "data",
    "teacher",
    "logits",
    "distill",
    "export",
    "precision",
    "qad",
    "build",
    "validate",
    "benchmark",
    "report",
    "package",
)
