"""`build`: an engine from an ONNX file, on the device that will run it."""

from __future__ import annotations

import os
import time

from export.runtime.files import sha256

from .. import files, layers, memory, power_mode
from ..blobs import blob
from ..errors import JobError
from ..requests import Answer, BuildRequest, Emit, Event

LOG = "build.log"


def run(request: BuildRequest, folder: str, emit: Emit) -> Answer:
    """Build one engine.

    Args:
        request: what is asked.
        folder: work folder; `cache` in it keeps TensorRT's timing caches between builds.
        emit: receives progress and log lines.

    Returns:
        `seconds`; `memory_mb` before; as far as the access method gives them `inputs`, `outputs`, `layers`, `versions`,
        `facts`. For TensorRT also `file`, `log` and `layer_list` with `bytes` and `sha256` of the engine.

    Raises:
        JobError: why not.
    """
    start = time.monotonic()
    onnx = blob(folder, request["onnx"])
    if request["access"] == "onnxruntime":
        emit({"progress": [0, 1, "creating a session"]})
        return dict(_checked(onnx, request), seconds=time.monotonic() - start, memory_mb=memory.free_mb())
    free = memory.check_build(os.path.getsize(onnx), int(request.get("workspace_mb") or 0))
    cache = ""
    if request.get("timing_cache"):
        cache = os.path.join(files.own_folder(os.path.join(folder, "cache")), request["timing_cache"])
    what = f"the build of {request['id']}"
    # Loads kernels when they are first used, which saves hundreds of MB; the default from CUDA 12.2 on.
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
    engine = request["name"]
    with power_mode.held(request.get("power_mode"), folder):  # tactics are chosen by time, and so by clocks
        if request["access"] == "trtexec":
            facts = _trtexec(request, onnx, engine, cache, emit, what)
        else:
            from ..tensorrt_api import build_engine

            facts = build_engine(onnx, engine, request, cache, _logged(emit))
    digest = sha256(engine)
    place = os.path.join(folder, "blobs", digest)
    if not os.path.exists(place):  # so that the host need not send it back
        os.link(engine, place)
    return dict(
        facts,
        file=engine,
        log=LOG if os.path.exists(LOG) else "",
        layer_list=layers.kept(),
        bytes=os.path.getsize(engine),
        sha256=digest,
        seconds=time.monotonic() - start,
        memory_mb=free,
    )


def _checked(onnx: str, request: BuildRequest) -> Answer:
    """Load a file and run it once at each batch size: what building means for ONNX Runtime."""
    from export.runtime.onnx_session import load

    engine = load(onnx, threads=request.get("threads"))
    try:
        logits = engine.try_batches(request["batch_sizes"])
        return {
            "inputs": [tensor.to_json() for tensor in engine.inputs],
            "outputs": [tensor.to_json() for tensor in engine.outputs],
            "facts": engine.facts,
            "classes": int(logits.shape[1]),
        }
    finally:
        engine.close()


def _trtexec(
    request: BuildRequest,
    onnx: str,
    engine: str,
    cache: str,
    emit: Emit,
    what: str,
) -> Answer:
    from .. import trtexec

    flags = request["trtexec"]
    program = trtexec.required(flags.get("path"))
    unfinished = f"{engine}.unfinished"
    kept = ("reused" if os.path.exists(cache) else "new") if cache else "none"
    arguments = trtexec.filled(
        flags["build"], {"onnx": onnx, "engine": unfinished, "cache": cache, "layers": layers.FILE}
    )
    banner = trtexec.call([program, *arguments], LOG, emit, what)
    if not os.path.exists(unfinished):
        raise JobError("trtexec ended well but wrote no engine", f"see {LOG}", "failed")
    os.replace(unfinished, engine)
    return {
        "versions": {"tensorrt": trtexec.version_of(banner)},
        "command": ["trtexec", *flags["build"]],
        "timing_cache": kept,
    }


def _logged(emit: Emit) -> Emit:
    def passed_on(event: Event) -> None:
        if "log" in event:
            with open(LOG, "a", encoding="utf-8") as file:
                file.write(event["log"] + "\n")
        emit(event)

    return passed_on
