"""Checks of TensorRT and TensorRT-RTX: does everything hold that could not be run without a GPU?

Engines of a small convolutional network made here (no PyTorch needed) are built, loaded, run, timed and refitted.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx

from benchmarks.gpu.checks import Failed, Found, NotApplicable, NotRun, Options, demand
from benchmarks.gpu.engine_rig import BATCHES, PRECISIONS, TOLERANCE, Net, Rig, make_files, make_images
from export.engines import BACKENDS
from export.engines.options import TensorRTOptions
from export.engines.trt_cache import CacheKey
from export.engines.trt_layers import layers_path
from export.engines.trt_refusals import planned, require
from export.engines.trt_versions import bindings_missing
from export.engines.trtexec import flags
from export.errors import BuildError, EngineError
from export.measure import latency_stats
from export.precision import to_bf16
from export.runtime import cudart

SECONDS = 3.0
"""Least time of a latency measurement."""


def names(rig: Rig) -> Found:
    """The bindings have every name that this package calls."""
    missing = bindings_missing(rig.trt, rig.chosen)
    return demand(not missing, "names are missing", {"missing": missing})


def build(rig: Rig) -> Found:
    """Each precision builds with a profile for each batch size, and says of what the engine consists."""
    found: Found = {}
    for precision in PRECISIONS:
        info = rig.build(precision, precision)
        layers = json.loads(layers_path(rig.folder / f"{precision}.engine").read_text())
        found[precision] = {
            "seconds": info.build_seconds, "bytes": info.bytes, "composition": info.composition, "notes": info.notes,
            "engine_layers": layers["engine"] is not None,
        }  # fmt: skip
    return demand(all(row["engine_layers"] for row in found.values()), "the inspector gave no layers", found)


def parity(rig: Rig) -> Found:
    """Logits of each engine against the same file in ONNX Runtime."""
    found: Found = {}
    for precision in PRECISIONS:
        engine = rig.engine(precision)
        found[precision] = rig.agreement(engine, precision)
        same = engine.infer(np.repeat(rig.images[:1], 4, 0))
        found[precision]["identical_rows_apart"] = float(np.ptp(same, axis=0).max() / np.abs(same).max())
        engine.close()
    holds = all(
        row["finite"] and row["relative_error"] <= row["tolerance"] and row["identical_rows_apart"] < 1e-3
        for row in found.values()
    )
    return demand(holds, "logits differ", found)


def profiles(rig: Rig) -> Found:
    """Batches in turn through the profiles: an image has the same logits in each."""
    engine = rig.engine()
    whole = engine.infer(rig.images)
    gaps = {}
    for count in (1, 4, 3, 1, 9):
        part = engine.infer(rig.images[:count])
        gaps[str(count)] = float(np.abs(part - whole[:count]).max() / np.abs(whole).max())
    engine.close()
    return demand(max(gaps.values()) < TOLERANCE["fp16"], "profiles differ", {"relative_error": gaps})


def graph(rig: Rig) -> Found:
    """The inference is captured as a CUDA graph; enqueueing it costs less than without."""
    engine = rig.engine()
    captured = engine.time(rig.images[:1], rig.limits(2))
    engine.close()
    median = float(np.median(captured.arrays["enqueue"]))
    found = {"notes": captured.notes, "enqueue_median_ms": median, "n": len(captured.latency)}
    return demand("CUDA graph" in captured.notes, "no graph was captured", found)


def timing(rig: Rig) -> Found:
    """Latency at both boundaries and batch sizes, of each precision; parts add up."""
    rows: Found = {}
    wrong: list[str] = []
    for precision in PRECISIONS:
        engine = rig.engine(precision)
        for batch in BATCHES:
            for boundary in ("engine", "engine+copies"):
                name = f"{precision}, batch {batch}, {boundary}"
                taken = engine.time(rig.images[:batch], rig.limits(3), boundary=boundary)
                parts = {key: float(np.median(value)) for key, value in taken.arrays.items()}
                stats = latency_stats(taken.latency, batch=batch, wall_seconds=taken.wall_seconds)
                facts = asdict(stats) | {"warnings": [asdict(caution) for caution in stats.cautions]}
                rows[name] = facts | {"median_of_parts_ms": parts, "notes": taken.notes}
                total = sum((taken.arrays[k] for k in ("h2d", "compute", "d2h") if k in taken.arrays), 0.0)
                if not np.allclose(taken.latency, total) or taken.latency.min() <= 0:
                    wrong.append(name)
        engine.close()
    return demand(not wrong, f"parts do not add up: {wrong}", rows)


def trtexec_path() -> str | None:
    """NVIDIA's command line, on the PATH or where JetPack and the Debian packages put it."""
    return shutil.which("trtexec") or shutil.which("trtexec", path="/usr/src/tensorrt/bin")


def trtexec(rig: Rig) -> Found:
    """Median GPU compute time of one engine, here and in trtexec, in turns: within 10 %."""
    program = trtexec_path()
    if program is None or rig.backend.name != "tensorrt":
        raise NotApplicable("there is no trtexec for this library here")
    rig.build("alone", sizes=(1,))
    path, times = rig.folder / "alone.engine", rig.folder / "times.json"
    command = [
        program,
        f"--loadEngine={path}",
        f"--exportTimes={times}",
        "--warmUp=200",
        f"--duration={rig.seconds:g}",
    ]
    command += flags(str(rig.trt.__version__)).time["engine"]
    engine = rig.backend.load(path)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(3):
        taken = engine.time(rig.images[:1], rig.limits(2))
        ours.append(float(np.median(taken.arrays["compute"])))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"trtexec ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}")
        theirs.append(statistics.median(row["computeMs"] for row in json.loads(times.read_text())))
    engine.close()
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    found = {"median_ms": ours, "trtexec_median_ms": theirs, "ratio": ratio, "command": command}
    return demand(abs(ratio - 1) < 0.1, "the two differ", found)


def streams(rig: Rig) -> Found:
    """Two lanes at once from two threads: each is right, and images a second beside one lane's."""
    engine = rig.engine()
    batch = np.ascontiguousarray(rig.images[:4])
    expected = engine.infer(batch)
    rates = {}
    for count in (1, 2):
        queries = engine.queries(batch, boundary="engine+copies", streams=count)
        done = [0] * count
        until = time.perf_counter() + rig.seconds

        def drive(index: int, queries: Any = queries, done: Any = done, until: float = until) -> None:
            while time.perf_counter() < until:
                queries[index]()
                done[index] += 1

        threads = [threading.Thread(target=drive, args=(index,)) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rates[str(count)] = 4 * sum(done) / rig.seconds
    gap = float(np.abs(engine.infer(batch) - expected).max() / np.abs(expected).max())
    engine.close()
    return demand(
        gap < 1e-3, "logits differ after several streams", {"images_per_s": rates, "relative_error": gap}
    )


def timing_cache(rig: Rig) -> Found:
    """The second build with a timing cache is faster; a damaged cache is replaced."""
    if not rig.chosen.timing_cache:
        raise NotApplicable("this library has no timing cache")
    caches = rig.folder / "caches"
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    first = rig.build("cached", timing_caches=caches)
    for _ in range(3):
        seconds["without"].append(rig.build("cached").build_seconds)
        again = rig.build("cached", timing_caches=caches)
        seconds["with"].append(again.build_seconds)
    found: Found = {"seconds": seconds, "first": first.notes, "again": again.notes}
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    demand("reused" in str(again.notes), "the cache was not reused", found)
    demand(medians["with"] < medians["without"], "the cache saved no time", found)
    (path,) = caches.glob("*.cache")
    path.write_bytes(path.read_bytes()[:-100])
    after = rig.build("cached", timing_caches=caches)
    found["after_damage"] = after.notes
    return demand(
        "started again" in str(after.notes), "a damaged cache was not noticed", found | {"file": path.name}
    )


def foreign_cache(rig: Rig) -> Found:
    """A timing cache of another device, under this one's name, is refused by the library or by us."""
    if not rig.chosen.timing_cache:
        raise NotApplicable("this library has no timing cache")
    caches = rig.folder / "foreign"
    rig.build("cached", timing_caches=caches)
    (path,) = caches.glob("*.cache")
    facts = path.with_name(f"{path.name}.json")
    known = json.loads(facts.read_text())
    assert set(vars(CacheKey("", "", "", "", "", ""))) < set(known)
    facts.write_text(json.dumps(known | {"device": "another GPU"}))
    info = rig.build("cached", timing_caches=caches)
    return demand("another device" in str(info.notes), "a foreign cache was used", {"notes": info.notes})


def stripping(rig: Rig) -> Found:
    """An engine without its weights is smaller, and the same once they are put back."""
    if not rig.chosen.stripping:
        raise NotApplicable("this version cannot strip weights")
    plain, stripped = rig.build("plain"), rig.build("stripped", strip_weights=True)
    begin = time.perf_counter()
    engine = rig.backend.load(rig.folder / "stripped.engine")
    found = {
        "plain_bytes": plain.bytes, "stripped_bytes": stripped.bytes, "load_seconds": time.perf_counter() - begin,
        **rig.agreement(engine, "fp16"),
    }  # fmt: skip
    engine.close()
    demand(found["relative_error"] <= found["tolerance"], "logits differ after refitting", found)
    return demand(stripped.bytes < plain.bytes, "the engine is not smaller", found)


def version_compatible(rig: Rig) -> Found:
    """A version-compatible engine builds, and loads in this version."""
    if not rig.chosen.version_compatible:
        raise NotApplicable("this library has no version compatibility")
    info = rig.build("compatible", version_compatible=True)
    engine = rig.backend.load(rig.folder / "compatible.engine")
    found = {"bytes": info.bytes, **rig.agreement(engine, "fp16")}
    engine.close()
    return demand(found["relative_error"] <= found["tolerance"], "logits differ", found)


def hardware_compatible(rig: Rig) -> Found:
    """Engines for more than one model of GPU build and run here."""
    levels = rig.chosen.hardware_compatibility
    if not levels:
        raise NotApplicable("this library names compute capabilities instead")
    found: Found = {}
    for level in levels:
        try:
            info = rig.build(level, hardware_compatibility=level)
        except BuildError as error:
            if "Jetson" in error.what:
                raise NotApplicable(error.what) from error
            raise
        engine = rig.backend.load(rig.folder / f"{level}.engine")
        found[level] = {"bytes": info.bytes, **rig.agreement(engine, "fp16")}
        engine.close()
    return demand(all(r["relative_error"] <= r["tolerance"] for r in found.values()), "logits differ", found)


def weak_typing(rig: Rig) -> Found:
    """The fallback builds INT8 and FP16 files without strong typing."""
    if not rig.chosen.weak_typing or not rig.chosen.strong_typing:
        raise NotApplicable("this version has one kind of typing")
    found: Found = {}
    for precision in ("fp16", "int8"):
        info = rig.build(f"weak_{precision}", precision, strong_typing=False)
        engine = rig.backend.load(rig.folder / f"weak_{precision}.engine")
        found[precision] = {"bytes": info.bytes, **rig.agreement(engine, precision)}
        engine.close()
    return demand(all(r["relative_error"] <= r["tolerance"] for r in found.values()), "logits differ", found)


def bf16(rig: Rig) -> Found:
    """A BF16 file builds and runs; ONNX Runtime has no BF16, so its FP32 logits are the reference."""
    try:
        require(rig.backend.place(), TensorRTOptions(), planned("bf16", 22))
    except BuildError as error:
        raise NotApplicable(error.what) from error
    if "SM75" in rig.targets:
        raise NotApplicable("Turing has no BF16")
    rig.files["bf16"] = rig.folder / "bf16.onnx"
    to_bf16(rig.files["fp32"], rig.files["bf16"])
    info = rig.build("bf16", "bf16")
    engine = rig.backend.load(rig.folder / "bf16.engine")
    found = {"bytes": info.bytes, "composition": info.composition, **rig.agreement(engine, "bf16", "fp32")}
    engine.close()
    return demand(found["relative_error"] <= found["tolerance"], "logits differ", found)


def limits(rig: Rig) -> Found:
    """Optimization levels and the workspace limit are taken; a limit that is too small has a remedy."""
    found: Found = {}
    for level in (0, 5) if rig.chosen.optimization_level else ():
        found[f"level {level}"] = rig.build("level", optimization_level=level).build_seconds
    found["64 MiB"] = rig.build("small", workspace_mb=64).build_seconds
    return found


def refusals(rig: Rig) -> Found:
    """Foreign, truncated and altered engines are refused, each with the command that builds it again."""
    rig.build("victim")
    path = rig.folder / "victim.engine"
    sidecar = rig.folder / "victim.engine.json"
    whole, facts = path.read_bytes(), json.loads(sidecar.read_text())
    library = rig.backend.name
    cases: dict[str, tuple[bytes, Found, str]] = {
        "version": (whole, facts | {"versions": {library: "8.6.0"}}, "same version only"),
        "platform": (whole, facts | {"platform": "riscv64"}, "was built on riscv64"),
        "gpu": (whole, facts | {"compute_capability": ["SM10"], "device": "another GPU"}, "is for SM10"),
        "truncated": (whole[:-100], facts, "is cut off"),
        "altered": (whole[:-1] + bytes([whole[-1] ^ 1]), facts, "SHA-256"),
    }
    messages: Found = {}
    wrong = []
    for name, (content, told, text) in cases.items():
        path.write_bytes(content)
        sidecar.write_text(json.dumps(told))
        try:
            rig.backend.load(path).close()
            messages[name] = "was loaded"
        except EngineError as error:
            messages[name] = str(error)
        if text not in messages[name] or "python -P -m export build" not in messages[name]:
            wrong.append(name)
    return demand(not wrong, f"not refused as it should be: {wrong}", messages)


def unsupported(rig: Rig) -> Found:
    """An operator that does not exist is refused with the node's name."""
    model = onnx.load(rig.files["fp32"])
    for node in model.graph.node:
        if node.name == "stem_relu":
            node.op_type, node.domain = "NoSuchOperator", "made.up"
    model.opset_import.add(domain="made.up", version=1)
    path = rig.folder / "unsupported.onnx"
    onnx.save(model, path)
    try:
        rig.backend.build(
            path, rig.folder / "x.engine", batch_sizes=BATCHES, compute_capabilities=rig.targets
        )
    except BuildError as error:
        found = {"message": str(error)}
        return demand(
            "stem_relu" in error.what and "NoSuchOperator" in error.what, "the node is not named", found
        )
    raise Failed("the file was built")


CHECKS: dict[str, Callable[[Rig], Found]] = {
    check.__name__: check
    for check in (
        names, build, parity, profiles, graph, timing, trtexec, streams, timing_cache, foreign_cache, stripping,
        version_compatible, hardware_compatible, weak_typing, bf16, limits, refusals, unsupported,
    )
}  # fmt: skip


def prepare(group: str, options: Options) -> tuple[Rig, Found]:
    """The library of that name on this machine's GPU, and the files to build from."""
    backend = BACKENDS[group]
    here = backend.availability()
    if not here.run:
        count, missing = cudart.probe()
        reason = here.detail if missing in here.detail else f"{missing}; {here.detail}"
        raise NotRun(f"{here.detail}; {here.fix}" if count else f"no GPU: {reason}")
    trt, dialect = backend.library()
    net = Net(side=16, width=4, blocks=1) if options.tiny else Net()
    images = make_images(net)
    rig = Rig(
        backend, trt, dialect, options.folder, make_files(options.folder, net, images), images,
        0.05 if options.tiny else SECONDS,
    )  # fmt: skip
    device = {"name": cudart.loaded().device_name(), "compute_capability": here.compute_capability}
    return rig, {group: {"versions": here.versions, "device": device}}
