"""`python -m export build model.onnx model.engine --backend tensorrt`: one engine from one ONNX file.

For a device that has the ONNX file and not the pipeline's store. What an engine that is refused tells to run is a
command of this program.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO, get_args

from export.engine_kinds import ENGINE_KINDS
from export.engines.options import HardwareCompatibility, TensorRTOptions
from export.errors import BackendMissing, ExportError
from export.sizes import HELP, Sizes, named_size
from export.terminal import close_streams, one_line, open_streams, visible


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m export", description=__doc__.split("\n", 1)[0])
    commands = made.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build an engine from an ONNX file")
    build.add_argument("onnx", type=Path)
    build.add_argument("out", type=Path)
    build.add_argument("--backend", required=True, choices=tuple(ENGINE_KINDS))
    build.add_argument("--size", type=int, help="height and width, where the file leaves them open")
    build.add_argument("--dim", type=_dim, action="append", default=[], metavar="NAME=SIZE", help=HELP)
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
    """Run a command; 0: done, 1: it failed, 4: this machine lacks something, 130: interrupted."""
    open_streams()
    code = _run(parser().parse_args(words))
    if fault := close_streams():
        _say(f"error: cannot write to stdout: {fault.strerror}", sys.stderr)
        close_streams()
        code = code or 4
    return code


def _run(arguments: argparse.Namespace) -> int:
    from export.engines import BACKENDS
    from export.image_input import fixed_copy

    sizes = Sizes(arguments.size, dict(arguments.dim))
    try:
        with tempfile.TemporaryDirectory(prefix="figkd-export-") as folder:
            info = BACKENDS[arguments.backend].build(
                fixed_copy(arguments.onnx, sizes, Path(folder)) if sizes else arguments.onnx,
                arguments.out,
                batch_sizes=arguments.batch_sizes,
                compute_capabilities=arguments.compute_capabilities,
                tensorrt=options_of(arguments),
                progress=_show if sys.stderr.isatty() else _silent,
            )
    except ExportError as error:
        _fail(error.what, error.fix)
        return 4 if isinstance(error, BackendMissing) else 1
    except OSError as error:
        _fail(str(error), "check the path, the disk's free space and rights, then run again")
        return 4
    except KeyboardInterrupt:
        _say("interrupted; nothing is left half-written", sys.stderr)
        return 130
    for note in filter(None, (*info.notes, info.remark)):
        _say(note, sys.stdout)
    size, seconds = info.bytes / 1e6, info.build_seconds
    _say(f"{arguments.out}: {size:.2f} MB, {info.layers} layers, built in {seconds:.1f} s", sys.stdout)
    return 0


def _dim(text: str) -> tuple[str, int]:
    try:
        return named_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _fail(what: str, fix: str) -> None:
    for label, text in (("error: ", what), ("  fix: ", fix)):
        if text:
            _say(label + text.replace("\n", "\n       "), sys.stderr)


def _say(text: str, stream: TextIO) -> None:
    print(visible(text), file=stream)


def _show(done: int, total: int, note: str) -> None:
    print(
        f"\r\x1b[K{done}/{total} {one_line(note)}",
        end="\n" if done == total else "",
        file=sys.stderr,
        flush=True,
    )


def _silent(*step: Any) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
