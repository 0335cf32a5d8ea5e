"""The memory that engines of ONNX Runtime take on this machine, measured in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_START = "import sys; sys.path.insert(0, sys.argv[1]); from export.memory import child; child(sys.argv[2:])"
_EACH_S = 60.0


def engine_memory(files: Sequence[Path], threads: Sequence[int | None]) -> list[int | None]:
    """What loading each engine and one inference add to the peak memory of a process that has the library, in bytes.

    Args:
        files: engines of ONNX Runtime.
        threads: of each; None: all.

    Returns:
        For each; None where it could not be measured.
    """
    if not files:
        return []
    asked = [json.dumps([str(file.absolute()), count]) for file, count in zip(files, threads, strict=True)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _START, str(_ROOT), *asked], stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_EACH_S * (1 + len(files)), check=True,
        )  # fmt: skip
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return [None] * len(files)
    sound = isinstance(found, list) and len(found) == len(files)
    return [each if isinstance(each, int) else None for each in found] if sound else [None] * len(files)


def child(asked: Sequence[str]) -> None:
    """The measuring process: writes a JSON list to stdout."""
    import numpy  # noqa: F401 - so that it is not counted
    import onnxruntime  # noqa: F401

    import export.engines.onnxruntime  # noqa: F401
    from export.runtime.memory import added_by

    found = [
        added_by(partial(_use, Path(file), threads), _EACH_S) for file, threads in map(json.loads, asked)
    ]
    sys.stdout.write(json.dumps(found))


def _use(file: Path, threads: int | None) -> None:
    import numpy as np

    from export.engines import BACKENDS

    engine = BACKENDS["onnxruntime"].load(file, threads=threads)
    batch = engine.batch_sizes[0] if engine.batch_sizes else 1
    engine.infer(np.zeros((batch, *engine.input_shape), engine.input_dtype))
