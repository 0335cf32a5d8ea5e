"""TensorRT on the device through its command line `trtexec`, where there is no Python API.

The arguments come from the host, for the device's version: the one table is `export.engines.trtexec`. `{onnx}`,
`{engine}`, `{cache}` and `{times}` in them stand for paths.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import tempfile
from array import array
from typing import Any, Callable, Mapping, Sequence

from .batches import numpy
from .errors import JobError, killed
from .sampling import Limits, Timed
from .tensorrt_api import REMEDIES

PLACES = (
    "/usr/src/tensorrt/bin/trtexec",
    "/usr/local/tensorrt/bin/trtexec",
    "/opt/tensorrt/bin/trtexec",
    "/usr/bin/trtexec",
    "/usr/local/bin/trtexec",
)
# What trtexec says on its way through a build, in order.
_MILESTONES = (
    ("Start parsing network model", 1),
    ("Finish parsing network model", 2),
    ("Finished parsing network model", 2),
    ("timing cache", 3),
    ("Compiler backend is used", 3),
    ("Engine generation completed", 4),
    ("Engine built in", 5),
)
LOG = "trtexec.log"
_PREFIX = re.compile(r"^\[[^\]]*\] (\[[A-Z]\] )?(\[TRT\] )?")
_BANNER = re.compile(r"\[TensorRT v([0-9.]+)\]")


def version_of(banner: str) -> str:
    """Version in trtexec's first line (`v100300` is 10.3.0, `v8502` 8.5.2, `v11.1.0.106` itself), or ''."""
    found = _BANNER.search(banner)
    if not found:
        return ""
    text = found.group(1)
    if "." in text:
        return text
    number = int(text)
    if number >= 100_000:  # from 10 on: two digits each
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return f"{number // 1000}.{number // 100 % 10}.{number % 100}"  # 8.x: one digit, then two


def find(root: str = "/", given: str | None = None) -> str:
    """Where trtexec is: as given, in its usual places under `root`, or on the PATH; '' if nowhere."""
    import shutil

    for place in ([given] if given else []) + [os.path.join(root, p.lstrip("/")) for p in PLACES]:
        if os.access(place, os.X_OK):
            return place
    return (shutil.which("trtexec") or "") if root == "/" else ""


def required(given: str | None) -> str:
    """As `find`.

    Raises:
        JobError: there is none.
    """
    program = find(given=given)
    if not program:
        fix = "sudo apt install libnvinfer-bin (with python3-libnvinfer beside it) on the device"
        raise JobError("there is no trtexec on the device", fix, "missing")
    return program


def probe(path: str) -> str:
    """Version that a trtexec reports; '' if it cannot be started."""
    try:
        done = subprocess.run(
            [path, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return version_of(done.stdout.decode(errors="replace")[:2000])


def filled(arguments: Sequence[str], places: Mapping[str, str]) -> list[str]:
    """Arguments with their placeholders replaced."""
    result = []
    for argument in arguments:
        for name, path in places.items():
            argument = argument.replace(f"{{{name}}}", path)
        result.append(argument)
    return result


def call(
    argv: Sequence[str],
    log: str,
    emit: Callable[[dict[str, Any]], None],
    what: str,
    environment: dict[str, str] | None = None,
) -> str:
    """Run trtexec to its end, its output in the file `log`.

    Args:
        argv: the command.
        log: appended to.
        emit: receives the milestones as progress, warnings and errors as log lines.
        what: for messages, such as `the build of fp16`.
        environment: variables beside the agent's own.

    Returns:
        The banner line.

    Raises:
        JobError: it cannot be started, was killed, or failed; the message has trtexec's own reason.
    """
    banner = ""
    errors: list[str] = []
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, **(environment or {})),
        )
    except OSError as error:
        raise JobError(
            f"trtexec cannot be started: {error}", "sudo apt install libnvinfer-bin", "missing"
        ) from error
    assert process.stdout is not None
    try:
        with open(log, "a", encoding="utf-8") as file, process.stdout as output:
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                file.write(line + "\n")
                banner = banner or (line if "&&&& RUNNING" in line else "")
                _tell(line, errors, emit)
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if code in (-9, 137):
        raise killed(what, 9)
    if code or not banner:
        reason = "; ".join(dict.fromkeys(errors)) or f"exit code {code}, see the log"
        for text, fix, kind in REMEDIES:
            if text.lower() in reason.lower():
                raise JobError(f"{what} failed in trtexec: {reason}", fix, kind)
        raise JobError(f"{what} failed in trtexec: {reason}", "", "failed")
    return banner


def _tell(line: str, errors: list[str], emit: Callable[[dict[str, Any]], None]) -> None:
    text = _PREFIX.sub("", line)
    if "[E]" in line[:40]:
        errors.append(text)
        emit({"log": text})
    elif "[W]" in line[:40]:
        emit({"log": text})
    for phrase, step in _MILESTONES:
        if phrase in line:
            emit({"progress": [step, 5, text]})
            return


class TrtexecEngine:
    """An engine that is run by starting trtexec: each batch, and each timing, is a process of its own."""

    starts_a_process = True

    def __init__(self, path: str, spec: dict[str, Any]) -> None:
        self._path, self._spec = path, spec
        self._flags = spec["trtexec"]
        self._program = required(self._flags.get("path"))
        self.input_shape: tuple[int, ...] = tuple(spec["input"]["shape"])
        self.input_dtype = spec["input"]["dtype"]
        self.batch_sizes = tuple(spec["batch_sizes"])
        self.facts = {"trtexec": self._program, "flags": self._flags["time"]}
        self._per_query_s = 0.0

    def run(self, images: Any) -> Any:
        """Logits of one batch, an array [B, C]; trtexec writes them with six significant digits."""
        np = numpy()
        with tempfile.TemporaryDirectory(dir=os.curdir) as folder:
            source, target = os.path.join(folder, "input.bin"), os.path.join(folder, "output.json")
            with open(source, "wb") as file:
                file.write(np.ascontiguousarray(images).tobytes())
            self._call(
                [
                    "--loadInputs={}:{}".format(self._spec["input"]["name"], source),
                    "--exportOutput=" + target,
                    "--iterations=1",
                    "--duration=0",
                    "--warmUp=0",
                    *list(self._flags["infer"]),
                    *self._shapes(len(images)),
                ],
                "inference",
            )
            with open(target, encoding="utf-8") as text:
                values = outputs(json.load(text))
        return np.asarray(values, "float32").reshape(len(images), -1)

    def time(self, batch: Any, boundary: str, limits: Limits) -> Timed:
        """Queries of one trtexec run, warm-ups removed; the loop and the clocks are trtexec's."""
        # How long a query takes is not known before the first turn: that one is short.
        wanted = limits.min_samples if self._per_query_s else 10
        if self._per_query_s:
            wanted = max(10, min(wanted, int(limits.max_seconds / self._per_query_s)))
        timed = self._timed(len(batch), boundary, limits.warmup_s, wanted, max(limits.min_seconds, 0.1))
        self._per_query_s = timed.wall_seconds / max(1, len(timed))
        return timed

    def sustain(
        self, batch: Any, seconds: float, window_s: float, keep: int, between: Callable[[float], None]
    ) -> Timed:
        """One long run at boundary `engine`; telemetry can only be taken before and after it."""
        timed = self._timed(len(batch), "engine", 0.2, 10, seconds)
        between(seconds)
        every = max(1, len(timed) // keep)
        arrays = {"latency": timed.arrays["latency"][::every], "at": timed.arrays["at"][::every]}
        notes = [f"one sample in {every} was kept"] if every > 1 else []
        return Timed(arrays, timed.wall_seconds, (*timed.notes, *notes), len(timed))

    def loop(self, batch: Any) -> Callable[[], None]:
        """A second of inference, for power readings."""
        return lambda: self._call(
            [
                "--iterations=1",
                "--duration=1",
                "--warmUp=0",
                *list(self._flags["time"]["engine"]),
                *self._shapes(len(batch)),
            ],
            "inference",
        )

    def close(self) -> None:
        """Nothing is held between runs."""

    def _timed(self, batch: int, boundary: str, warmup_s: float, iterations: int, seconds: float) -> Timed:
        flags = list(self._flags["time"][boundary])
        with tempfile.TemporaryDirectory(dir=os.curdir) as folder:
            times = os.path.join(folder, "times.json")
            self._call(
                [
                    f"--warmUp={round(1000.0 * warmup_s)}",
                    f"--iterations={iterations}",
                    f"--duration={math.ceil(seconds)}",
                    "--exportTimes=" + times,
                    *flags,
                    *self._shapes(batch),
                ],
                "timing",
            )
            with open(times, encoding="utf-8") as text:
                return timings(json.load(text), boundary, ("trtexec " + " ".join(flags),))

    def _call(self, arguments: list[str], what: str) -> None:
        argv = [self._program, "--loadEngine=" + self._path, *arguments]
        call(argv, LOG, lambda event: None, "{} of {}".format(what, self._spec["id"]))

    def _shapes(self, batch: int) -> list[str]:
        if len(self.batch_sizes) == 1:
            return []  # a static engine refuses the flag
        shape = "x".join(str(n) for n in (batch, *self.input_shape))
        return ["--shapes={}:{}".format(self._spec["input"]["name"], shape)]


def timings(trace: Sequence[Mapping[str, float]], boundary: str, notes: Sequence[str]) -> Timed:
    """`--exportTimes` as raw samples.

    `latency` is GPU compute at boundary `engine`, and H2D + compute + D2H with copies; `at` is in seconds.
    """
    if not trace:
        raise JobError("trtexec timed no query", "raise benchmark.min_samples or min_seconds")
    try:
        arrays = {
            "compute": array("d", (query["computeMs"] for query in trace)),
            "enqueue": array("d", (query["endEnqMs"] - query["startEnqMs"] for query in trace)),
            "at": array(
                "d", (1e-3 * (query["startComputeMs"] - trace[0]["startComputeMs"]) for query in trace)
            ),
        }
        if boundary == "engine":
            arrays["latency"] = array("d", arrays["compute"])
        else:
            arrays["h2d"] = array("d", (query["h2dMs"] for query in trace))
            arrays["d2h"] = array("d", (query["d2hMs"] for query in trace))
            arrays["latency"] = array("d", (query["latencyMs"] for query in trace))
        span = max(query["endD2hMs"] for query in trace) - min(query["startH2dMs"] for query in trace)
    except (KeyError, TypeError) as error:
        raise JobError(
            f"trtexec's times have an unknown format: {error} is missing", "please report it"
        ) from error
    return Timed(arrays, max(1e-9, 1e-3 * span), notes)


def outputs(exported: Any) -> list[float]:
    """Values of the only output in `--exportOutput`'s JSON."""
    if not isinstance(exported, list) or len(exported) != 1 or "values" not in exported[0]:
        raise JobError("trtexec's output has an unknown format, or more than one output", "please report it")
    return [float(value) for value in exported[0]["values"]]
