"""What the views say of the layers of built engines, and of what they let expect: the same words in each."""

from __future__ import annotations

from pipeline.report import numbers
from pipeline.results.composition import BuiltEngine
from pipeline.results.engine import Engine
from pipeline.results.result import Result

HEAD = ["engine", "layers", "only reformat", "requantise", "convolutions and products", "written MB"]
MEANING = (
    "As the builder has fused them, for one inference. Types are those that a layer reads and writes; "
    "a layer that requantises makes INT8 of floating point for the next one. No time was measured for this."
)
_TYPES = {"half": "FP16", "float": "FP32", "int8": "INT8", "bf16": "BF16", "uint8": "UINT8", "fp8": "FP8"}
_EXPECT = {
    "no_faster": "expect INT8 to be no faster than {}",
    "maybe_no_faster": "INT8 may be no faster than {}",
}


def rows(result: Result) -> list[list[str]]:
    """A row for each engine whose layers are known, in the columns of `HEAD`; the first is the engine's id."""
    return [
        [
            engine.id,
            numbers.count(built.layers),
            numbers.count(built.reformats),
            numbers.count(built.requantise),
            _computing(built) or numbers.DASH,
            numbers.mb(None if built.written_bytes is None else built.written_bytes / 1e6),
        ]
        for engine in result.engines
        if (built := engine.composition.engine) is not None
    ]


def outlooks(result: Result) -> list[tuple[str, str]]:
    """Engine and what is to be expected of it, where its layers speak against INT8 and nothing was measured."""
    return [
        (engine.id, text)
        for engine in result.engines
        if engine.state != "ran" and (text := outlook(engine, result))
    ]


def outlook(engine: Engine, result: Result) -> str:
    """Why INT8 is not expected to be faster; empty where nothing speaks against it."""
    found = engine.outlook
    rival = next((other for other in result.engines if found and other.id == found.rival), None)
    if found is None or rival is None:
        return ""
    expected = _EXPECT[found.expect].format(rival.precision.upper())
    return f"{against(engine, rival)}: {expected} (counted, not measured)"


def against(engine: Engine, rival: Engine) -> str:
    """The layers of an INT8 engine beside those of another; empty where either's are not known."""
    ours, theirs = engine.composition.engine, rival.composition.engine
    if ours is None or theirs is None:
        return ""
    other = rival.precision.upper()
    parts = [f"{numbers.count(ours.layers)} layers against {numbers.count(theirs.layers)} of {other}"]
    if ours.requantise:
        verb = "layer requantises" if ours.requantise == 1 else "layers requantise"
        parts.append(f"{numbers.count(ours.requantise)} {verb}")
    if types := _computing(ours):
        parts.append(f"convolutions and products: {types}")
    if ours.written_bytes is not None and theirs.written_bytes is not None:
        mine, its = (numbers.fixed(built.written_bytes / 1e6, 1 if theirs.written_bytes >= 1e6 else 3)
                     for built in (ours, theirs) if built.written_bytes is not None)  # fmt: skip
        parts.append(f"bytes written {mine} MB against {its} MB")
    return f"INT8 engine: {'; '.join(parts)}"


def _computing(built: BuiltEngine) -> str:
    """'20 INT8 → FP32, 1 FP16 → FP16'."""
    most = sorted(built.compute.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n} {_arrow(types)}" for types, n in most)


def _arrow(types: str) -> str:
    return " → ".join(_TYPES.get(name, name or "?") for name in types.split(" -> "))
