"""The project as it was: what benchmarks compare it with."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SLOWER = "005eabf~1"
"""The last commit before the seconds of the demonstration, and of a busy machine, were worked on."""


def check_out(commit: str, folder: Path) -> str:
    """Write the files of a commit to a new folder; its full name."""
    name = subprocess.check_output(["git", "rev-parse", f"{commit}^{{commit}}"], cwd=ROOT, text=True).strip()
    archive = subprocess.check_output(["git", "archive", name], cwd=ROOT)
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return name
