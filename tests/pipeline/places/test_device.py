"""What the stages keep of a device's work: the log of a build, and what it says of how the engine was built."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from export.runtime.remedies import Skipped
from pipeline.devices.agent.requests import Case
from pipeline.places.device_build import append_log
from pipeline.places.device_time import samples_of

LOG = """\
&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec
[10/01/2025-08:26:34] [W] [TRT] UNSUPPORTED_STATE: Skipping tactic 33 due to insufficient memory on requested size of \
629145600 detected for tactic 0xa5a46bfbd719d757.
[10/01/2025-08:26:34] [W] [TRT] Tactic Device request: 600MB Available: 302MB. Device memory is insufficient to use \
tactic.
[10/01/2025-08:26:35] [I] Engine built in 1.1 sec.
"""


def _kept(tmp_path: Path, content: bytes, engine: str) -> Skipped | None:
    def fetch(job: str, name: str, path: Path, most: int) -> Path:
        path.write_bytes(content)
        return path

    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    session: Any = SimpleNamespace(fetch=fetch)
    return append_log(session, "build-0", engine, scratch, tmp_path)


def test_a_devices_log_tells_which_tactics_were_skipped(tmp_path: Path) -> None:
    """Either access method writes such lines, and the log is kept whole, whatever bytes it holds."""
    assert _kept(tmp_path, LOG.encode(), "orin/fp16") == Skipped(1, 600)
    assert _kept(tmp_path, b"\xff\xfe nothing of that kind\n", "orin/int8") is None
    kept = (tmp_path / "build.log").read_text(encoding="utf-8")
    assert kept.startswith("== orin/fp16\n&&&& RUNNING") and "== orin/int8\n" in kept


def test_the_step_of_a_devices_clock_comes_along() -> None:
    """Into the samples that statistics are made of; an agent that tells none has none to tell."""
    case: Case = {"name": "orin/fp16|1|engine", "engine": "orin/fp16", "batch": 1, "boundary": "engine"}
    timed: Any = {"notes": [], "rounds": [], "wall_seconds": 1.0, "queries": 3}
    arrays = {"latency": np.ones(3), "at": np.arange(3.0)}
    assert samples_of(case, arrays, timed).resolution_ms == 0
    assert samples_of(case, arrays, timed | {"resolution_ms": 0.0078125}).resolution_ms == 0.0078125
