"""What trtexec exports as JSON: times and outputs, read in bounded memory.

C++ writes numbers that are not finite as `nan`, `-nan`, `inf` and `-inf` (`nan(ind)` elsewhere), which is no JSON and
which people must hear of as what it is. Times are 32-bit floats in ms since the start of the run, so that the
differences between them get coarser the longer the run is; the stamps themselves are printed with six digits.
"""

from __future__ import annotations

import json
import math
import os
import re
from array import array
from typing import Any, Dict, Iterator, Sequence, TextIO

import numpy as np

from export.runtime.sampling import Samples

from .errors import JobError

# Logits of a batch; a run of hours.
_MOST_OUTPUTS, _MOST_TIMES = 64 << 20, 4 << 30
_BLOCK = 1 << 20
_MANTISSA, _DIGITS = 24, 6
# `enqueue` is a difference of printed stamps: worth telling where a step is at most this share of a query.
_FINE = 0.01
_QUERY = re.compile(r"\{[^{}]*\}")
# Text in quotes is left alone; what stands outside of it and is no JSON is read as C++ means it.
_WORD = re.compile(
    r'("(?:[^"\\]|\\.)*")|(-?)\b(?:(nan)(?:\([^()]*\)|\b)|(inf)(?:inity)?\b)', re.IGNORECASE | re.DOTALL
)
_REPORT = "please report it"
_FIELDS = ("computeMs", "startEnqMs", "endEnqMs", "startComputeMs", "endComputeMs", "startH2dMs", "endD2hMs")
_COPIES = ("h2dMs", "d2hMs", "latencyMs")


def loads(text: str) -> Any:
    """JSON in which numbers may be written as C++ does.

    Raises:
        ValueError: it is no JSON otherwise either.
    """

    def plain(found: Any) -> str:
        quoted, sign, nan, _ = found.groups()
        if quoted is not None:
            return str(quoted)
        return "NaN" if nan else f"{sign}Infinity"

    try:
        try:
            return json.loads(text)
        except ValueError:
            return json.loads(_WORD.sub(plain, text))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def read_outputs(path: str) -> list[float]:
    """Values of the only output in the file of `--exportOutput`; they need not be finite.

    Raises:
        JobError: it cannot be read as that.
    """
    return outputs(_content(path, _MOST_OUTPUTS, "output"))


def outputs(text: str) -> list[float]:
    """As `read_outputs`, from the file's content."""
    try:
        (only,) = loads(text)
        return [float(value) for value in only["values"]]
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise JobError(
            f"trtexec's output has an unknown format, or more than one output ({error})", _REPORT
        ) from error


def read_times(path: str, batch: int, boundary: str, notes: Sequence[str]) -> Samples:
    """The file of `--exportTimes` as raw samples; see `timings`."""
    size = os.path.getsize(path)
    if size > _MOST_TIMES:
        raise JobError(f"trtexec wrote {size} bytes of times", "lower benchmark.sustained_s or max_seconds")
    with open(path, encoding="utf-8", errors="replace") as file:
        return timings(file, batch, boundary, notes)


def timings(file: TextIO, batch: int, boundary: str, notes: Sequence[str]) -> Samples:
    """`--exportTimes` as raw samples.

    Args:
        file: what trtexec wrote.
        batch: images a query.
        boundary: `latency` is GPU compute at `engine`, and H2D + compute + D2H at `engine+copies`.
        notes: of the result.

    Returns:
        Milliseconds by part; `at` is in seconds. `enqueue` is among them where the stamps are fine enough.

    Raises:
        JobError: no query, a time that is not finite, or another format.
    """
    names = ("compute", "enqueue", "at", *(() if boundary == "engine" else ("h2d", "d2h", "latency")))
    arrays: dict[str, array[float]] = {name: array("d") for name in names}
    first = begin = end = 0.0
    for number, query in enumerate(_queries(file)):
        if number == 0:
            first, begin = query["startComputeMs"], query["startH2dMs"]
        begin, end = min(begin, query["startH2dMs"]), max(end, query["endD2hMs"])
        arrays["compute"].append(query["computeMs"])
        arrays["enqueue"].append(query["endEnqMs"] - query["startEnqMs"])
        arrays["at"].append(max(0.0, 1e-3 * (query["startComputeMs"] - first)))
        if boundary != "engine":
            for name, field in zip(("h2d", "d2h", "latency"), _COPIES):
                arrays[name].append(query[field])
    if not arrays["compute"]:
        raise JobError("trtexec timed no query", "raise benchmark.min_samples or min_seconds")
    if boundary == "engine":
        arrays["latency"] = array("d", arrays["compute"])
    said = list(notes)
    middle = sorted(arrays["latency"])[len(arrays["latency"]) // 2]
    if printed_step(end) > _FINE * middle or min(arrays["enqueue"]) < 0:
        del arrays["enqueue"]
        said.append(f"no enqueue times: trtexec prints its stamps in steps of {printed_step(end):g} ms")
    return Samples(
        {name: np.array(values) for name, values in arrays.items()},
        batch,
        boundary,
        max(1e-9, 1e-3 * (end - begin)),
        tuple(said),
        resolution_ms=float_step(end),
    )


def float_step(value: float) -> float:
    """The distance between neighbouring 32-bit floats at `value`."""
    return math.ldexp(1.0, math.frexp(value)[1] - _MANTISSA) if value > 0 else 0.0


def printed_step(value: float) -> float:
    """The last of the six digits that C++ prints of `value`."""
    return 10.0 ** (math.floor(math.log10(value)) + 1 - _DIGITS) if value > 0 else 0.0


def _queries(file: TextIO) -> Iterator[Dict[str, float]]:
    """One query after the other, as trtexec writes them: flat objects in a list."""
    rest, before = "", "["
    block = file.read(_BLOCK)
    while block:
        rest += block
        end = 0
        for found in _QUERY.finditer(rest):
            between = rest[end : found.start()].strip()
            if between != before:
                raise _unknown(f"{between[:40]!r} before a query")
            before, end = ",", found.end()
            yield _query(found.group())
        rest = rest[end:]
        if len(rest) > 2 * _BLOCK:
            raise _unknown("a query without an end")
        block = file.read(_BLOCK)
    if "".join(rest.split()) != ("]" if before == "," else "[]"):
        raise _unknown("it is cut off")


def _query(text: str) -> dict[str, float]:
    try:
        found = loads(text)
    except ValueError as error:
        raise _unknown(str(error)) from error
    return {field: _number(found, field) for field in (*_FIELDS, *(_COPIES if _COPIES[0] in found else ()))}


def _number(query: Any, field: str) -> float:
    value = query.get(field)
    if type(value) not in (int, float):
        raise _unknown(f"{field} is missing" if value is None else f"{field} is no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise JobError(
            f"trtexec's times are not finite ({field}: {number})", "run again; if it stays, " + _REPORT
        )
    return number


def _unknown(why: str) -> JobError:
    return JobError(f"trtexec's times have an unknown format: {why}", _REPORT)


def _content(path: str, most: int, what: str) -> str:
    size = os.path.getsize(path)
    if size > most:
        raise JobError(f"trtexec's {what} has {size} bytes, at most {most} are read", _REPORT)
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
