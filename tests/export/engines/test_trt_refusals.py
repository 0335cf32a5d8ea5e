"""Protects: one judgement of what TensorRT can build, and that its advice can be followed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto

from export.engines import trt_refusals
from export.engines.options import TensorRTOptions
from export.engines.trt_refusals import OnnxFile, Place, newer, planned, refusals, require
from export.errors import BackendMissing, BuildError
from tests.export.engines.test_trt_operators import model_of

HERE = Path(__file__).parent
PLAIN = TensorRTOptions()
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@pytest.mark.parametrize(
    ("module", "version", "options", "where", "says"),
    [
        ("tensorrt", "11.0.0", {"strong_typing": False}, {}, "11.0.0 is always strongly typed.*ONNX file"),
        ("tensorrt_rtx", "1.7.1", {"strong_typing": False}, {}, "always strongly typed"),
        (
            "tensorrt_rtx",
            "1.7.1",
            {"version_compatible": True},
            {},
            "no version-compatible engines.*same version",
        ),
        (
            "tensorrt_rtx",
            "1.7.1",
            {"hardware_compatibility": "ampere_plus"},
            {},
            "use none; name compute_capabilities",
        ),
        (
            "tensorrt",
            "10.8.0",
            {"hardware_compatibility": "same_compute_capability"},
            {},
            "use none or ampere_plus",
        ),
        (
            "tensorrt",
            "10.16.2",
            {"hardware_compatibility": "ampere_plus"},
            {"jetson": True},
            "not exist on a Jetson",
        ),
        ("tensorrt", "8.5.2", {"version_compatible": True}, {}, "no version-compatible engines"),
        ("tensorrt", "8.5.2", {"hardware_compatibility": "ampere_plus"}, {}, "use none"),
        ("tensorrt", "8.6.1", {"strip_weights": True}, {}, "cannot strip weights.*10.0 or later"),
        ("tensorrt", "10.3.0", {"strip_weights": True, "version_compatible": True}, {}, "cannot be refitted"),
        ("tensorrt_rtx", "1.7.1", {"strip_weights": True}, {"gpu": False}, "only on a machine with a GPU"),
        ("tensorrt", "8.6.1", {"tactic_dram_mb": 64}, {}, "no limit on tactic memory"),
        ("tensorrt", "10.3.0", {"optimization_level": 6}, {}, "level 6 does not exist"),
    ],
)
def test_what_a_version_does_not_have_is_refused(
    module: str, version: str, options: dict[str, Any], where: dict[str, bool], says: str
) -> None:
    (refusal,) = refusals(Place(module, version, **where), TensorRTOptions(**options), [])
    assert re.search(says, f"{refusal.what} ({refusal.fix})")


def test_what_a_version_has_is_taken() -> None:
    everything = TensorRTOptions(False, 5, 64, 64, True, "same_compute_capability")
    assert refusals(Place("tensorrt", "10.9.0"), everything, []) == []
    for module, version in (("tensorrt", "10.0.1"), ("tensorrt", "11.4.0"), ("tensorrt_rtx", "1.7.1")):
        assert refusals(Place(module, version), TensorRTOptions(strip_weights=True), []) == []


@pytest.mark.parametrize(
    ("version", "options", "precision", "says"),
    [
        ("8.5.2", {"optimization_level": 5}, "fp32", "no optimization level"),
        ("8.5.2", {"optimization_level": 3}, "fp32", ""),
        ("8.6.2", {"optimization_level": 5}, "fp32", ""),
        (
            "10.3.0",
            {"tactic_dram_mb": 64},
            "fp32",
            "10.3.0 through trtexec does not take tactic_dram_mb.*python3-libnv",
        ),
        ("11.4.1", {"tactic_dram_mb": 64}, "fp32", "does not take tactic_dram_mb"),
        ("11.4.1", {"strong_typing": False}, "fp32", "always strongly typed"),
        ("10.16.2", {"strong_typing": False}, "bf16", "BF16 files only strongly typed"),
        ("10.16.2", {"strong_typing": False}, "int8", ""),
        ("10.16.2", {}, "bf16", ""),
    ],
)
def test_what_trtexec_cannot_be_told_is_refused(
    version: str, options: dict[str, Any], precision: str, says: str
) -> None:
    """Not dropped: an engine that was built otherwise than asked is worse than none."""
    file = OnnxFile("a.onnx", precision, 22 if precision == "bf16" else 17)
    found = refusals(Place("tensorrt", version, "trtexec"), TensorRTOptions(**options), [file])
    assert [bool(re.search(says, f"{each.what} ({each.fix})")) for each in found] == [True] * bool(says)


ORIN = Place("tensorrt", "8.6.2", "python", jetson=True, capability="SM87")
XAVIER = Place("tensorrt", "8.5.2", "trtexec", jetson=True, capability="SM72")
PC = Place("tensorrt", "8.6.1")


@pytest.mark.parametrize(
    ("place", "fix"),
    [
        (PC, "use FP16 here, or TensorRT 10.15 or later"),
        (ORIN, "use FP16 here, or JetPack 7.2 or later, which has TensorRT 10.16"),
        (XAVIER, "use FP16 here"),
        (
            Place("tensorrt", "10.3.0", jetson=True, capability="SM87"),
            "use FP16 here, or JetPack 7.2 or later",
        ),
    ],
)
def test_bf16_is_refused_with_what_reads_it(place: Place, fix: str) -> None:
    """The other precisions are built from opset 18 and later; no board is sent to a JetPack that it does not get."""
    for opset in (18, 20, 23):
        (refusal,) = refusals(place, PLAIN, [planned(precision, opset) for precision in PRECISIONS])
        assert refusal.precisions == ("bf16",) and "reads no BF16 files: they need opset 22" in refusal.what
        assert refusal.fix.startswith(fix) and (place is not XAVIER or refusal.fix == fix)
    with pytest.raises(BuildError, match="reads no BF16 files"):
        require(PC, PLAIN, OnnxFile("foreign.onnx", "bf16", 17))


@pytest.mark.parametrize(
    ("place", "fix"),
    [
        (PC, "choose a convolutional student, or TensorRT 10.0 or later"),
        (ORIN, "choose a convolutional student, or JetPack 6.1 or later, which has TensorRT 10.3"),
        (XAVIER, "choose a convolutional student"),
    ],
)
def test_attention_is_one_refusal_where_the_builder_chooses(place: Place, fix: str) -> None:
    """For all precisions in one line, by node, with a way out that the board has."""
    model = model_of("MatMul", 2)
    (refusal,) = refusals(
        place, PLAIN, [planned(precision, 20, model) for precision in ("fp32", "fp16", "int8")]
    )
    assert "is given convolutional networks only: this one has attention (node the_node)" in refusal.what
    assert refusal.fix == fix and refusal.precisions == ("fp32", "fp16", "int8")
    assert refusals(Place("tensorrt", "10.3.0"), PLAIN, [planned("fp16", 20, model)]) == []


def test_what_an_older_operator_set_cannot_say_is_refused_with_its_operator() -> None:
    """Also for TensorRT 10, of a file of a set that is too new for it."""
    model = model_of("Det")
    for version, opset in (("8.5.2", 20), ("8.6.2", 18)):
        (refusal,) = refusals(Place("tensorrt", version), PLAIN, [planned("fp32", opset, model)])
        assert "operator Det at node the_node" in refusal.what
    flip = model_of("BitwiseNot", kind=TensorProto.INT32)
    (refusal,) = refusals(Place("tensorrt", "8.5.2"), PLAIN, [planned("fp32", 20, flip)])
    assert "8.5.2 cannot read the network: operator BitwiseNot at node the_node" in refusal.what
    norm = model_of("RMSNormalization", 2)
    norm.opset_import[0].version = 23
    for version, most in (("10.3.0", "20"), ("8.6.2", "17")):
        (refusal,) = refusals(Place("tensorrt", version), PLAIN, [planned("fp32", 23, norm)])
        assert f"{version} cannot read the network: operator RMSNormalization" in refusal.what
        assert f"opset {most} cannot say it" in refusal.what


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (Place("tensorrt", "8.4.1"), "pip install tensorrt"),
        (
            Place("tensorrt", "8.4.1", jetson=True, capability="SM87"),
            "update the device to JetPack 5.1 or later",
        ),
        (
            Place("tensorrt", "8.4.1", jetson=True, capability="SM72"),
            "update the device to JetPack 5.1 or later",
        ),
        (
            Place("tensorrt", "8.2.1", jetson=True, capability="SM53"),
            "no JetPack for this board has a newer one",
        ),
        (Place("tensorrt", "8.4.1", jetson=True), "update the device to JetPack 5.1 or later"),
    ],
)
def test_what_is_too_old_says_what_is_not(place: Place, says: str) -> None:
    """And no board is sent to a JetPack that does not exist for it."""
    assert says in newer(place)
    with pytest.raises(BackendMissing, match="too old"):
        refusals(place, PLAIN, [])


@pytest.mark.parametrize(
    ("version", "capability", "opset", "refused"),
    [
        ("10.3.0", "SM87", 20, {"bf16"}),
        ("10.13.3.9", "SM110", 20, {"bf16"}),
        ("10.16.2", "SM87", 20, set()),
        ("10.16.2", "SM75", 20, {"bf16"}),
        ("11.4.0", "SM89", 23, set()),
        ("10.3.0", "SM87", 21, {"bf16"}),
        ("10.3.0", "SM87", 24, {"fp32", "fp16", "int8", "bf16"}),
        ("8.6.2", "SM87", 20, {"bf16"}),
        ("8.5.2", "SM72", 23, {"bf16"}),
    ],
)
def test_files_that_are_to_be(version: str, capability: str, opset: int, refused: set[str]) -> None:
    """BF16 needs opset 22 whatever the others have, and Ampere."""
    files = [planned(precision, opset) for precision in PRECISIONS]
    found = refusals(Place("tensorrt", version, capability=capability), PLAIN, files)
    assert {name for refusal in found for name in refusal.precisions} == refused


def test_operators_are_judged_where_they_are_documented() -> None:
    model = model_of("Det")
    files = [planned(precision, 20, model) for precision in ("fp32", "fp16")]
    (refusal,) = refusals(Place("tensorrt", "10.3.0"), PLAIN, files)
    assert "operator Det" in refusal.what and refusal.precisions == ("fp32", "fp16")
    for place in (Place("tensorrt", "11.4.0"), Place("tensorrt_rtx", "1.7.1")):
        assert refusals(place, PLAIN, files) == []


# Headers of the table in docs/engines.md, and the versions that each stands for.
DOCUMENTED = {
    "8.5": ["tensorrt 8.5.2"],
    "8.6": ["tensorrt 8.6.1"],
    "10.0 to 10.8": ["tensorrt 10.0.1", "tensorrt 10.3.0", "tensorrt 10.8.0.43"],
    "10.9 to 10.16": ["tensorrt 10.9.0.34", "tensorrt 10.13.3.9", "tensorrt 10.16.1.11"],
    "11.x": ["tensorrt 11.0.0.114", "tensorrt 11.4.0.106"],
    "RTX 1.4 to 1.7": ["tensorrt_rtx 1.4.0.76", "tensorrt_rtx 1.7.1.116"],
}
ASKED: dict[str, dict[str, Any]] = {
    "`strong_typing: false`": {"strong_typing": False},
    "`optimization_level`": {"optimization_level": 5},
    "`tactic_dram_mb`": {"tactic_dram_mb": 64},
    "`workspace_mb`": {"workspace_mb": 64},
    "`version_compatible`": {"version_compatible": True},
    "`hardware_compatibility: ampere_plus`": {"hardware_compatibility": "ampere_plus"},
    "`hardware_compatibility: same_compute_capability`": {
        "hardware_compatibility": "same_compute_capability"
    },
    "`strip_weights`": {"strip_weights": True},
}


def test_the_documented_table_is_what_is_refused() -> None:
    """docs/engines.md says "refused" where a build is refused, and nowhere else."""
    text = (HERE.parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
    lines = text.split("## Options by version", 1)[1].split("\n- ", 1)[0].strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0][1:] == list(DOCUMENTED)
    cells = {row[0]: row[1:] for row in rows[2:]}
    assert set(ASKED) < set(cells)
    for key, options in ASKED.items():
        for cell, versions in zip(cells[key], DOCUMENTED.values(), strict=True):
            for version in versions:
                refused = bool(refusals(Place(*version.split()), TensorRTOptions(**options), []))
                assert refused is (cell == "refused"), (key, version)


def test_the_operator_set_of_bf16_files_is_the_one_that_is_written() -> None:
    """It stands twice, so that a judgement before training imports no ONNX."""
    from export.precision import bf16

    assert trt_refusals.BF16_OPSET == bf16.BF16_OPSET
