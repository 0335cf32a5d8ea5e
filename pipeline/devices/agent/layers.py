"""The list of a built engine's layers as the library tells it, in a file that the host reads (`export.engines`)."""

from __future__ import annotations

import os
from typing import Any, Callable

from .files import write_bytes

FILE = "layers.txt"
"""In the job's folder: the engine inspector's JSON, or the message of TensorRT-RTX's builder."""
MARK = "Layers:\nName: "
"""How that message begins; as in `export.engines.trt_built`."""
MOST = 16 << 20
"""Bytes that the host takes."""


def keep(trt: Any, log: Any, plan: bytes, emit: Callable[[dict[str, Any]], None]) -> None:
    """Write `FILE` for a plan that was just built; a list that cannot be had is told, and costs nothing else.

    Args:
        trt: the library.
        log: its logger; `layers` is the builder's message, where it told one.
        plan: the engine.
        emit: receives log lines.
    """
    try:
        text = log.layers or _inspected(trt, log, plan)
        if text:
            write_bytes(FILE, text.encode())
    except Exception as error:  # worth knowing, not worth losing the engine for
        emit({"log": f"the engine's layers cannot be listed: {error}"})


def kept() -> str:
    """`FILE` if there is one that the host takes, else ''."""
    return FILE if os.path.isfile(FILE) and 0 < os.path.getsize(FILE) <= MOST else ""


def _inspected(trt: Any, log: Any, plan: bytes) -> str:
    runtime = trt.Runtime(log)  # outlives its engine
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return ""
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
