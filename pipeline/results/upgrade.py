"""Results of earlier schemas as results of this one: pure, and nothing is invented.

Schema 1 stored sentences where schema 2 has codes and numbers. What a sentence said beyond its numbers cannot be told
from it again, so it is kept as the text that it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SOURCES = ("engine", "torch")
_CALIBRATION = re.compile(r"(?P<method>\w+)(?: (?P<percentile>[\d.]{1,20}) %)?, (?P<images>\d{1,12}) images")


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a result.json, as schema 2 has them; those of schema 2 as they are, damaged ones too."""
    result = dict(values)
    if result.get("schema_version") != 1:
        return result
    result["schema_version"] = 2
    result.pop("summary", None)
    result["shipping"] = [_shipping(choice) for choice in _list(result, "shipping")]
    result["engines"] = [_engine(engine) for engine in _list(result, "engines")]
    result["precisions"] = [_precision(file) for file in _list(result, "precisions")]
    return result


def upgraded_benchmark(values: Any) -> Any:
    """The same of what `benchmark --json` and `--output` wrote."""
    if not isinstance(values, dict) or values.get("benchmark_version", 1) != 1:
        return values
    return values | {"benchmark_version": 2, "latency": [_latency(row) for row in _list(values, "latency")]}


def _shipping(choice: Any) -> Any:
    if not isinstance(choice, dict) or "why" not in choice:
        return choice
    rest = {key: value for key, value in choice.items() if key != "why"}
    return rest | {"reason": {"code": "recorded", "text": choice["why"]}}


def _engine(engine: Any) -> Any:
    if not isinstance(engine, dict):
        return engine
    engine = engine | {"latency": [_latency(row) for row in _list(engine, "latency")]}
    if isinstance(accuracy := engine.get("accuracy"), dict) and accuracy.get("source") not in _SOURCES:
        emulated = "emulated" in str(accuracy.get("source"))
        engine["accuracy"] = accuracy | {"source": "onnx_emulated" if emulated else "onnx"}
    if isinstance(runtime := engine.get("runtime"), dict):
        # The choice in words; the chosen number itself is `threads`.
        engine["runtime"] = {key: value for key, value in runtime.items() if key != "threads_chosen"}
    return engine


def _latency(row: Any) -> Any:
    """Warnings as what was noted: their codes are not known, their numbers stand in the row."""
    if not isinstance(row, dict):
        return row
    return row | {"warnings": [], "notes": _list(row, "warnings")}


def _precision(file: Any) -> Any:
    if not isinstance(file, dict):
        return file
    file = file | {"calibration": _calibration(file.get("calibration"))}
    file["kept_out"] = [_kept_out(row) for row in _list(file, "kept_out")]
    if isinstance(cpu := file.get("cpu"), dict):
        file["cpu"] = {key: value for key, value in cpu.items() if key not in ("cpus", "because")}
    return file


def _kept_out(row: Any) -> Any:
    if not isinstance(row, dict) or "why" not in row:
        return row
    rest = {key: value for key, value in row.items() if key != "why"}
    return rest | {"text": row["why"], "what": str(row.get("what")).removesuffix(" (FP32)")}


def _calibration(words: Any) -> Any:
    """Of 'percentile 99.9 %, 512 images'; None where it is not such a text."""
    found = _CALIBRATION.fullmatch(words) if isinstance(words, str) else None
    if found is None:
        return None
    share = found["percentile"]
    return {
        "method": found["method"],
        "percentile": float(share) if share else None,
        "images": int(found["images"]),
    }


def _list(values: Mapping[str, Any], key: str) -> list[Any]:
    found = values.get(key, [])
    return found if isinstance(found, list) else [found]
