"""Protects: what the layers of an INT8 engine let expect, before anyone measures; frozen counts, frozen answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.engines.trt_built import read_layers, summary
from pipeline.results.composition import BuiltEngine, Composition, int8_outlook

RECORDED = Path(__file__).parents[2] / "export" / "engines"


def built(layers: int, megabytes: float | None, **counts: Any) -> BuiltEngine:
    given: dict[str, Any] = {"by_output": {"half": layers}, "compute": {"half -> half": 1}} | counts
    written = None if megabytes is None else round(1e6 * megabytes)
    return BuiltEngine(layers=layers, written_bytes=written, **given)


INT8 = {"by_output": {"int8": 1}, "compute": {"int8 -> float": 20}}


@pytest.mark.parametrize(
    ("int8", "rival", "expect"),
    [
        # resnet18 and mobilenetv4_conv_small as TensorRT-RTX 1.7.1 lists them.
        (built(52, 12.6, **INT8), built(24, 5.8), "no_faster"),
        (built(94, 11.9, **INT8), built(49, 4.3), "no_faster"),
        # Fused as on paper: as many layers, half the bytes.
        (built(24, 2.9, by_output={"int8": 24}, compute={"int8 -> int8": 20}), built(24, 5.8), None),
        (built(29, 2.9, **INT8), built(24, 5.8), None),
        (built(30, 2.9, **INT8), built(24, 5.8), "maybe_no_faster"),
        (built(24, 5.8, **INT8), built(24, 5.8), "maybe_no_faster"),
        # Shapes decided at run time: layers alone are a doubt, no verdict.
        (built(52, None, **INT8), built(24, 5.8), "maybe_no_faster"),
        (built(24, None, **INT8), built(24, None), None),
        # Quantised on paper only.
        (built(24, 2.9, by_output={"half": 24}, compute={"half -> half": 20}), built(24, 5.8), "no_faster"),
        # Built without details: nothing is known.
        (BuiltEngine(layers=52), built(24, 5.8), None),
        (built(52, 12.6, **INT8), BuiltEngine(layers=24), None),
    ],
)
def test_what_the_layers_let_expect(int8: BuiltEngine, rival: BuiltEngine, expect: str | None) -> None:
    assert int8_outlook(int8, rival) == expect


def test_a_recorded_pair_is_judged() -> None:
    """From the builder's words to the answer."""
    int8, fp16 = (
        BuiltEngine.model_validate(summary(read_layers((RECORDED / f"rtx_layers_{p}.txt").read_text())))
        for p in ("int8", "fp16")
    )
    assert int8_outlook(int8, fp16) == "no_faster" and int8_outlook(fp16, int8) == "no_faster"


@given(st.integers(0, 500), st.integers(1, 500), st.integers(0, 10**9), st.integers(0, 10**9))
def test_fewer_layers_and_fewer_bytes_never_speak_against_int8(
    ours: int, theirs: int, mine: int, its: int
) -> None:
    int8, rival = built(ours, mine / 1e6, **INT8), built(theirs, its / 1e6)
    if ours <= theirs and mine < its:
        assert int8_outlook(int8, rival) is None
    if ours > 2 * theirs and mine >= its:
        assert int8_outlook(int8, rival) == "no_faster"


def test_results_of_earlier_versions_are_read() -> None:
    """Their compositions are empty, or have fewer counts."""
    assert Composition.model_validate({}).engine is None
    old = {
        "network": {"layers": 7, "types": {}, "compute": 1, "quantised": 0, "half": 0, "float": 1},
        "engine": {"layers": 1, "reformats": 0, "by_output": {}},
    }
    assert (
        Composition.model_validate(old).model_dump()["network"] == old["network"]
        and Composition.model_validate(old).engine is not None
    )
