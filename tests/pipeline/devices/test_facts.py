"""Facts of a device within their types: whatever they say, what is made of them is a decision or a line of text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from export.engines.options import TensorRTOptions
from export.engines.trt_refusals import planned, refusals
from pipeline.devices.agent import board
from pipeline.devices.facts import Facts
from pipeline.devices.messages import Unfit, checked
from pipeline.places import access, telemetry
from pipeline.report.devices import device_facts
from pipeline.results.rows.engines import Tensor
from pipeline.run.device_check import judge
from tests.pipeline.devices.hostile import FACTS as FACTS_OF_ONE
from tests.pipeline.report.sample import sample

ADAPTER: TypeAdapter[Facts] = TypeAdapter(Facts)
VERSIONS = [
    "",
    "10.3.0",
    "8.5.2",
    "8",
    "99",
    "1.4.0.0",
    "v10",
    "-1",
    "1e9",
    "SM87",
    "SM",
    "unknown",
    "\x1b[2J",
]
WORDS = st.one_of(st.text(max_size=12), st.sampled_from(VERSIONS))
NUMBERS = st.floats(-1e15, 1e15)
COUNTS = st.integers(0, 1 << 53)
SOME = {"max_size": 3}
CLOCK = st.fixed_dictionaries({}, optional={"mhz": COUNTS, "max_mhz": COUNTS, "governor": WORDS})


def _reading(**more: Any) -> Any:
    measured = {
        name: st.dictionaries(WORDS, NUMBERS, **SOME) for name in ("temperatures", "rails", "throttling")
    }
    return st.fixed_dictionaries({"at": NUMBERS, **more}, optional=measured | {"gpu": CLOCK, "cpu": CLOCK})


TIMED = _reading(when=st.sampled_from(["before", "after", "between", "x"]))
NEEDED = ("system", "release", "machine", "python", "executable", "os", "cpu")
MORE = (
    "board",
    "soc",
    "gpu",
    "compute_capability",
    "driver",
    "l4t",
    "l4t_text",
    "jetpack",
    "cuda",
    "cuda_runtime",
)
PACKAGES = st.sampled_from(["numpy", "PIL", "onnxruntime", "tensorrt", "tensorrt_rtx"])
TENSORRT = ("python", "trtexec", "trtexec_version", "library", "version")
FACTS = st.fixed_dictionaries(
    {name: WORDS for name in NEEDED}
    | {name: COUNTS for name in ("cores", "memory_mb", "disk_free_bytes")}
    | {
        "clock": st.floats(0, 1e10),
        "memory_free_mb": st.fixed_dictionaries({}, optional={"available": COUNTS, "swap_free": COUNTS}),
        "gpu_users": st.lists(WORDS, **SOME),
        "packages": st.dictionaries(PACKAGES, WORDS, **SOME),
        "tensorrt": st.fixed_dictionaries({name: WORDS for name in TENSORRT}),
        "clocks": st.fixed_dictionaries({}, optional={"cpu": CLOCK, "gpu": CLOCK}),
        "readings": _reading(),
        "rails": st.lists(WORDS, **SOME),
    },
    optional={name: WORDS for name in MORE}
    | {
        "power_mode": st.fixed_dictionaries(
            {}, optional={"id": COUNTS, "name": WORDS, "available": st.lists(WORDS, **SOME)}
        ),
    },
)


@given(facts=FACTS)
def test_any_facts_are_judged(facts: Any) -> None:
    """Access, keys, requests, doctor's findings and the report's rows of facts that the boundary lets through."""
    facts = ADAPTER.validate_json(json.dumps(facts))
    assert isinstance(access.describe(facts), str)
    for finding in judge(facts):
        assert isinstance(finding.found, str)
    for backend in ("onnxruntime", "tensorrt", "tensorrt_rtx"):
        method = access.access_of(facts, backend)
        assert method.run <= method.built
        assert all(isinstance(value, str) for value in access.environment_of(facts, backend).values())
        if method.built:
            if backend != "onnxruntime":
                files = [planned(precision, 20) for precision in ("fp16", "bf16")]
                for refusal in refusals(access.place_of(facts, backend), TensorRTOptions(False, 5), files):
                    assert refusal.what and refusal.fix and refusal.precisions
            source = Tensor(name="image", dtype="uint8", shape=("batch", 8, 8, 3))
            request = access.build_request(
                facts, backend, name="a", engine_file="a.engine", onnx="0" * 64, source=source, precision="fp16",
                batch_sizes=[1, 4], options={},
            )  # fmt: skip
            assert json.dumps(request) and "/" not in request.get("timing_cache", "")
    device_facts(sample(devices={"orin": {"device": "d", "facts": facts}}))


@given(readings=st.lists(TIMED, max_size=4))
def test_any_readings_are_summed_up(readings: Any) -> None:
    result = {"readings": readings, "energy": {}, "sustained": {}}
    found = telemetry.summary(result, {})
    machine = {"device": "d", "facts": {}, **found}
    device_facts(sample(devices={"orin": machine}))


POWER = st.lists(
    st.tuples(NUMBERS, st.dictionaries(st.sampled_from(["VDD_IN", "VDD_GPU"]), NUMBERS, **SOME)), max_size=5
)


@given(idle=POWER, load=POWER, images=st.integers(1, 1 << 53), seconds=st.floats(1e-6, 1e7, exclude_min=True))
def test_any_energy_is_computed_or_not_known(idle: Any, load: Any, images: int, seconds: float) -> None:
    telemetry.energy_per_image({"images": images, "seconds": seconds, "idle": idle, "load": load})


def test_this_machine_fits(tmp_path: Any) -> None:
    """The types hold for a real machine; a board's trees are read in test_readings."""
    facts = board.facts(str(tmp_path))
    assert ADAPTER.validate_json(json.dumps(facts)) == facts


CHANGES: list[dict[str, Any]] = [
    {"cores": -1},
    {"cores": "many"},
    {"packages": 3},
    {"packages": {"numpy": 1}},
    {"more": 1},
    {"clock": None},
    {"readings": {"at": 1.0, "temperatures": {"a": "hot"}}},
    {"cpu": "x" * 300},
    {"gpu_users": ["a"] * 1001},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_what_is_not_facts_is_refused(change: Any) -> None:
    """Also what was kept from an earlier version, or damaged on the disk since."""
    assert checked(Facts, FACTS_OF_ONE) == FACTS_OF_ONE
    for facts in (FACTS_OF_ONE | change, [], "x", None, {}):
        with pytest.raises(Unfit):
            checked(Facts, facts)
