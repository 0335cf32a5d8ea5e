"""An engine that the command line `trtexec` runs."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import replace
from typing import Any, Callable

import numpy as np

from export.runtime.facts import EngineFacts
from export.runtime.sampling import Limits, Samples, thinning
from export.runtime.warmup import LONGEST_S, WINDOW_S, ClockWatch, WarmUp, gpu_mhz

from . import trtexec
from .requests import EngineSpec
from .trtexec_json import read_outputs, read_times

LOG = "trtexec.log"


class TrtexecEngine:
    """An engine that is run by starting trtexec: each batch, and each timing, is a process of its own."""

    starts_a_process = True

    def __init__(self, path: str, spec: EngineSpec) -> None:
        self._path, self._spec = path, spec
        self._flags = spec["trtexec"]
        self._program = trtexec.required(self._flags.get("path"))
        self.input_shape: tuple[int, ...] = tuple(int(size) for size in spec["input"]["shape"])
        self.input_dtype = spec["input"]["dtype"]
        self.batch_sizes = tuple(spec["batch_sizes"])
        self.facts: EngineFacts = {"trtexec": self._program, "flags": self._flags["time"]}
        self._per_query_s = 0.0
        self._steady_after_s = 0.0

    def run(self, images: Any) -> Any:
        """Logits of one batch, an array [B, C]; trtexec writes them with six significant digits."""
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
            values = read_outputs(target)
        return np.asarray(values, "float32").reshape(len(images), -1)

    def warm(
        self,
        batch: Any,
        read_mhz: Callable[[], float | None] = gpu_mhz,
        seconds: float = LONGEST_S,
        window_s: float = WINDOW_S,
    ) -> WarmUp | None:
        """See after how long the GPU's clock is steady: each run that is timed warms up for so long, as it starts cold.

        Args:
            batch: what is run.
            read_mhz: the clock now; None where it cannot be read.
            seconds: of the one run that is watched.
            window_s: between two readings.

        Returns:
            None where the clock cannot be read: then nothing was run, and the usual warm-up must do.
        """
        if read_mhz() is None:
            return None
        with ClockWatch(read_mhz, window_s) as watch:
            flags = [*self._flags["time"]["engine"], *self._shapes(len(batch))]
            run = [f"--warmUp={round(1000.0 * seconds)}", "--iterations=1", "--duration=0", *flags]
            self._call(run, "warm-up", watch.begin)
        warm = watch.warm_up()
        self._steady_after_s = warm.seconds if warm.steady else 0.0
        return warm

    def time(self, batch: Any, limits: Limits, *, boundary: str = "engine") -> Samples:
        """Queries of one trtexec run, warm-ups removed; the loop and the clocks are trtexec's."""
        # How long a query takes is not known before the first turn: that one is short.
        wanted = 10
        if self._per_query_s:
            wanted = max(10, min(limits.min_samples, int(limits.max_seconds / self._per_query_s)))
        samples = self._timed(len(batch), boundary, limits.warmup_s, wanted, max(limits.min_seconds, 0.1))
        self._per_query_s = samples.wall_seconds / max(1, len(samples.latency))
        return samples

    def sustain(
        self, batch: Any, seconds: float, *, window_s: float, keep: int, between: Callable[[float], None]
    ) -> Samples:
        """One long run at boundary `engine`; telemetry can only be taken before and after it."""
        samples = self._timed(len(batch), "engine", 0.2, 10, seconds)
        between(seconds)
        every = max(1, len(samples.latency) // keep)
        return replace(
            samples,
            arrays={name: samples.arrays[name][::every] for name in ("latency", "at")},
            notes=(*samples.notes, *thinning(every)),
            thinned_from=len(samples.latency),
        )

    def close(self) -> None:
        """Nothing is held between runs."""

    def _timed(self, batch: int, boundary: str, warmup_s: float, iterations: int, seconds: float) -> Samples:
        flags = list(self._flags["time"][boundary])
        with tempfile.TemporaryDirectory(dir=os.curdir) as folder:
            times = os.path.join(folder, "times.json")
            self._call(
                [
                    f"--warmUp={round(1000.0 * max(warmup_s, self._steady_after_s))}",
                    f"--iterations={iterations}",
                    f"--duration={math.ceil(seconds)}",
                    "--exportTimes=" + times,
                    *flags,
                    *self._shapes(batch),
                ],
                "timing",
            )
            return read_times(times, batch, boundary, ("trtexec " + " ".join(flags),))

    def _call(self, arguments: list[str], what: str, working: Callable[[], None] = lambda: None) -> None:
        argv = [self._program, "--loadEngine=" + self._path, *arguments]
        what = "{} of {}".format(what, self._spec["id"])
        trtexec.call(argv, LOG, lambda event: None, what, working=working)

    def _shapes(self, batch: int) -> list[str]:
        if len(self.batch_sizes) == 1:
            return []  # a static engine refuses the flag
        shape = "x".join(str(n) for n in (batch, *self.input_shape))
        return ["--shapes={}:{}".format(self._spec["input"]["name"], shape)]
