"""One script for a machine with a GPU: does everything hold on CUDA, how fast is it, and do engines run?

    python benchmarks/gpu_check.py --out DIR [--checks losses tensorrt tensorrt/parity ...] [--minutes 8]

The most valuable checks come first. Each ends after its own limit, in a process that a crash or a hang takes alone; it
prints a line and is in DIR/gpu_check.json as soon as it is done, so that a run which is cut keeps what it has. A check
is `passed`, `failed`, `not applicable` (the version does not have the feature) or `not run`, with the reason: no GPU,
a missing package, no time left. torch and numpy are enough for most; the others need Pillow, PyWavelets, torchvision,
and for engines onnx, ONNX Runtime and TensorRT or TensorRT-RTX. `--device cpu --tiny` tries the checks themselves.

Exit codes: 0 everything passed or is not applicable; 1 a check failed; 2 wrong arguments; 4 nothing failed, but not
everything was run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a plain checkout

from benchmarks.gpu.checks import CHECKS, Options
from benchmarks.gpu.run import run

_CPU_SLOWER = 5


def main(words: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = list(dict.fromkeys(name for check in CHECKS for name in (check.group, check.title)))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--checks", nargs="+", choices=known, default=known, metavar="CHECK", help=", ".join(known)
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="limit of the whole run")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="little data and small networks")
    given = parser.parse_args(words)
    # Limits are for a GPU; a CPU compiles and trains for longer.
    slower = _CPU_SLOWER if given.device == "cpu" else 1
    chosen = [
        replace(check, seconds=slower * check.seconds)
        for check in CHECKS
        if {check.group, check.title} & set(given.checks)
    ]
    summary = run(chosen, Options(given.device, given.tiny, given.out), given.out, 60 * given.minutes)
    return {"passed": 0, "failed": 1, "not run": 4}[summary["state"]]


if __name__ == "__main__":
    sys.exit(main())
