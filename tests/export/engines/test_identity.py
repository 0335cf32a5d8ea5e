"""Protects: an engine is loaded where it belongs, refused elsewhere, and the refusal says how to build it again."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from export.__main__ import options_of, parser
from export.engines.identity import HostMachine, incompatibility, rebuild_command
from export.engines.options import TensorRTOptions
from export.engines.trt_versions import dialect

ORIN = HostMachine("tensorrt", "10.3.0", "Orin", "SM87", "aarch64", "36.4.3")
DESKTOP = HostMachine("tensorrt", "10.13.3.9", "NVIDIA GeForce RTX 4090", "SM89", "x86_64", "")


def facts(here: HostMachine, **options: Any) -> dict[str, Any]:
    """The sidecar of an engine that was built there."""
    return {
        "backend": here.library,
        "versions": {here.library: here.version},
        "device": here.device,
        "compute_capability": [here.compute_capability],
        "platform": here.platform,
        "l4t": here.l4t,
        "batch_sizes": [1, 4],
        "source": {"file": "int8.onnx", "sha256": "0"},
        "options": {k: v for k, v in asdict(TensorRTOptions(**options)).items() if k != "timing_caches"},
    }


def refused(built: dict[str, Any], here: HostMachine) -> str:
    return incompatibility(built, here, dialect(here.library, here.version))


@pytest.mark.parametrize("here", [ORIN, DESKTOP])
def test_an_engine_belongs_where_it_was_built(here: HostMachine) -> None:
    assert refused(facts(here), here) == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"version": "10.7.0"},
            "built by tensorrt 10.3.0, here is 10.7.0; engines load in the same version only",
        ),
        ({"device": "Orin Nano"}, "built on Orin, this GPU is Orin Nano"),
        ({"compute_capability": "SM110", "device": "Thor"}, r"is for SM87, this GPU is SM110 \(Thor\)"),
        ({"platform": "x86_64"}, "built on aarch64, this machine is x86_64"),
        ({"l4t": "36.5"}, "built on Jetson Linux 36.4.3, here is Jetson Linux 36.5"),
        ({"l4t": ""}, "built on Jetson Linux 36.4.3, here is no Jetson"),
    ],
)
def test_everything_that_makes_it_unusable_is_looked_at(change: dict[str, str], says: str) -> None:
    import re

    assert re.search(says, refused(facts(ORIN), replace(ORIN, **change)))


@pytest.mark.parametrize(
    ("built", "runs", "loads"),
    [
        ("10.3.0", "10.13.3.9", True),
        ("10.3.0", "11.4.0.106", True),
        ("8.6.1", "10.3.0", True),
        ("10.13.3.9", "10.3.0", False),  # never in an older one
        ("11.0.0", "10.16.1", False),
        ("8.6.1", "11.0.0", False),  # two majors on
    ],
)
def test_version_compatible_engines_load_in_later_versions(built: str, runs: str, loads: bool) -> None:
    there, here = replace(DESKTOP, version=built), replace(DESKTOP, version=runs)
    why = refused(facts(there, version_compatible=True), here)
    assert (why == "") is loads
    assert refused(facts(there), here)  # without the option, in none


def test_hardware_compatible_engines_load_on_other_gpus() -> None:
    other, older = replace(DESKTOP, device="L4"), replace(DESKTOP, device="T4", compute_capability="SM75")
    assert refused(facts(DESKTOP, hardware_compatibility="same_compute_capability"), other) == ""
    newer = replace(DESKTOP, device="RTX 5090", compute_capability="SM120")
    assert "is for SM89" in refused(facts(DESKTOP, hardware_compatibility="same_compute_capability"), newer)
    assert refused(facts(DESKTOP, hardware_compatibility="ampere_plus"), newer) == ""
    assert "Ampere and later" in refused(facts(DESKTOP, hardware_compatibility="ampere_plus"), older)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimization_level": 5, "workspace_mb": 512, "tactic_dram_mb": 1024},
        {"version_compatible": True, "hardware_compatibility": "ampere_plus"},
        {"strip_weights": True},
        {"strong_typing": False},
    ],
)
def test_the_rebuild_command_builds_the_same_engine(options: dict[str, Any]) -> None:
    """A law: what the command line parses from the command is what the engine was built with."""
    import shlex

    command = rebuild_command(Path("out/my engine.engine"), facts(DESKTOP, **options))
    words = shlex.split(command)
    assert words[:4] == ["python", "-P", "-m", "export"]
    parsed = parser().parse_args(words[4:])
    assert (parsed.onnx, parsed.out) == (Path("int8.onnx"), Path("out/my engine.engine"))
    assert parsed.backend == "tensorrt" and parsed.batch_sizes == [1, 4]
    assert options_of(parsed) == TensorRTOptions(**options)


def test_rtx_engines_are_rebuilt_for_their_targets() -> None:
    rtx = replace(DESKTOP, library="tensorrt_rtx", version="1.7.1.116", device="")
    words = rebuild_command(Path("m.engine"), facts(rtx)).split()
    assert words[words.index("--compute-capabilities") + 1] == "SM89"
