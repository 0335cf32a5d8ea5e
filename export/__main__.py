"""`python -m export build model.onnx model.engine --backend tensorrt`: one engine from one ONNX file.

For a device that has the ONNX file and not the pipeline's store. What an engine that is refused tells to run is a
command of this program.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from export.engines.options import HardwareCompatibility, TensorRTOptions
from export.errors import BackendMissing, ExportError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m export", description=__doc__.split("\n", 1)[0])
    commands = made.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build an engine from an ONNX file")
    build.add_argument("onnx", type=Path)
    build.add_argument("out", type=Path)
    build.add_argument("--backend", required=True, choices=("onnxruntime", "tensorrt", "tensorrt_rtx"))
    build.add_argument("--batch-sizes", type=int, nargs="+", default=[1])
    build.add_argument("--compute-capabilities", nargs="+", default=[], help="TensorRT-RTX: SM86 and so on")
    build.add_argument("--optimization-level", type=int)
    build.add_argument("--workspace-mb", type=int)
    build.add_argument("--tactic-dram-mb", type=int)
    build.add_argument("--hardware-compatibility", choices=get_args(HardwareCompatibility), default="none")
    build.add_argument("--version-compatible", action="store_true")
    build.add_argument("--strip-weights", action="store_true")
    build.add_argument("--weak-typing", action="store_true", help="TensorRT 10 and older choose precisions")
    build.add_argument("--timing-caches", type=Path, help="folder of timing caches")
    return made


def options_of(arguments: argparse.Namespace) -> TensorRTOptions:
    """The builder's options on a command line."""
    return TensorRTOptions(
        strong_typing=not arguments.weak_typing,
        optimization_level=arguments.optimization_level,
        workspace_mb=arguments.workspace_mb,
        tactic_dram_mb=arguments.tactic_dram_mb,
        version_compatible=arguments.version_compatible,
        hardware_compatibility=arguments.hardware_compatibility,
        strip_weights=arguments.strip_weights,
        timing_caches=arguments.timing_caches,
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; 0: done, 1: it failed, 4: this machine lacks something."""
    arguments = parser().parse_args(words)
    from export.engines import BACKENDS

    try:
        info = BACKENDS[arguments.backend].build(
            arguments.onnx,
            arguments.out,
            batch_sizes=arguments.batch_sizes,
            compute_capabilities=arguments.compute_capabilities,
            tensorrt=options_of(arguments),
            progress=_show if sys.stderr.isatty() else _silent,
        )
    except ExportError as error:
        print(f"error: {error.what}" + (f"\n  fix: {error.fix}" if error.fix else ""), file=sys.stderr)
        return 4 if isinstance(error, BackendMissing) else 1
    for note in info.notes:
        print(note)
    size, seconds = info.bytes / 1e6, info.build_seconds
    print(f"{arguments.out}: {size:.2f} MB, {info.layers} layers, built in {seconds:.1f} s")
    return 0


def _show(done: int, total: int, note: str) -> None:
    print(f"\r\x1b[K{done}/{total} {note}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _silent(*step: Any) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
