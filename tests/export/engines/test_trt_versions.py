"""Protects: the one table of differences between TensorRT versions, against what the real bindings have.

`surface.json` is a record of the bindings of 20 versions (record_surface.py says how it is made). The slow test makes a
part of it again.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import export.engines
from export.engines.options import TensorRTOptions
from export.engines.trt_versions import (
    DIALECTS,
    bindings_missing,
    check_options,
    dialect,
    parse_version,
    required_names,
)
from export.errors import BackendMissing, BuildError

HERE = Path(__file__).parent
RECORD: dict[str, Any] = json.loads((HERE / "surface.json").read_text())
COLUMNS: list[str] = RECORD["columns"]


def names_in(column: str) -> set[str]:
    index = COLUMNS.index(column)
    return {name for name, marks in RECORD["names"].items() if marks[index] == "1"}


@pytest.mark.parametrize(
    ("text", "version"),
    [("10.3.0", (10, 3, 0)), ("11.4.0.106", (11, 4, 0, 106)), ("8.6.1.post1", (8, 6, 1)), ("", ())],
)
def test_versions_are_compared_as_numbers(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("column", COLUMNS)
def test_real_bindings_have_every_name_that_is_called(column: str) -> None:
    """8.6, 10.0 to 10.3, 10.7 to 10.9, 10.13, 10.15, 10.16, 11.0 to 11.4, RTX 1.4 to 1.7."""
    chosen = dialect(*column.split())
    assert sorted(set(required_names(chosen)) - names_in(column)) == []


@pytest.mark.parametrize("column", COLUMNS)
def test_what_the_table_denies_is_not_there(column: str) -> None:
    """A column that says no must be one where the bindings lack it, so that nothing is refused without need."""
    chosen, names = dialect(*column.split()), names_in(column)
    rtx = chosen.compute_capabilities
    assert chosen.strong_typing is ("NetworkDefinitionCreationFlag.STRONGLY_TYPED" in names)
    assert chosen.progress_monitor is ("IBuilderConfig.progress_monitor" in names)
    assert chosen.tactic_dram is ("MemoryPoolType.TACTIC_DRAM" in names) or not chosen.strong_typing
    assert chosen.named_errors is ("ParserError.node_operator" in names)
    assert chosen.stripping is ("OnnxParserRefitter" in names and "BuilderFlag.STRIP_PLAN" in names)
    assert chosen.bf16 is ("DataType.BF16" in names)
    assert rtx is ("ComputeCapability" in names)
    if not rtx:  # TensorRT-RTX has the names of some of these, and says that it does not support them
        assert chosen.weak_typing is ("BuilderFlag.FP16" in names)
        level = "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY"
        assert ("same_compute_capability" in chosen.hardware_compatibility) is (level in names)


def test_every_attribute_that_the_code_reads_off_the_bindings_is_listed() -> None:
    """A call that is added without its name in `required_names` would be checked against no version."""
    dialects = [entry for rows in DIALECTS.values() for _, entry in rows]
    listed = {part for entry in dialects for name in required_names(entry) for part in name.split(".")}
    known = {part for name in RECORD["names"] for part in name.split(".")}
    # Attributes of our own and of Python's that the bindings happen to have a name for.
    ours = {"FLOAT16", "append", "clear", "enqueue", "file", "float32", "format", "kind", "start"}
    folder = Path(export.engines.__file__).parent
    read: set[str] = set()
    speaking = set(folder.glob("trt_*.py")) - {folder / "trt_operators.py"}  # which reads ONNX files alone
    for path in [*speaking, folder / "tensorrt.py"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert len(read & listed) > 60
    assert sorted((read & known) - listed - ours) == []


@pytest.mark.parametrize(
    ("module", "version", "strong", "weak", "max_opset", "ahead_of_time"),
    [
        ("tensorrt", "8.6.1", False, True, 17, False),
        ("tensorrt", "10.3.0", True, True, 20, False),
        ("tensorrt", "10.13.3.9", True, True, 20, False),
        ("tensorrt", "10.16.1", True, True, 24, False),
        ("tensorrt", "11.4.0.106", True, False, 24, False),
        ("tensorrt_rtx", "1.7.1.116", True, False, 24, True),
    ],
)
def test_dialects(
    module: str, version: str, strong: bool, weak: bool, max_opset: int, ahead_of_time: bool
) -> None:
    chosen = dialect(module, version)
    assert (chosen.strong_typing, chosen.weak_typing, chosen.max_opset) == (strong, weak, max_opset)
    assert chosen.compute_capabilities is ahead_of_time
    assert chosen.timing_cache is not ahead_of_time  # on RTX it does nothing and asks for a GPU


def test_old_versions_are_refused() -> None:
    for module, version in (("tensorrt", "8.5.3"), ("tensorrt_rtx", "1.1")):
        with pytest.raises(BackendMissing, match=f"{module} {version} is too old"):
            dialect(module, version)


def test_rows_ascend() -> None:
    for rows in DIALECTS.values():
        assert [first for first, _ in rows] == sorted(first for first, _ in rows)


def test_missing_bindings_are_named() -> None:
    missing = bindings_missing(SimpleNamespace(Builder=None), dialect("tensorrt", "10.3.0"))
    assert "IProgressMonitor.phase_start" in missing and "Builder.build_serialized_network" in missing


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
    asked = TensorRTOptions(**options)
    with pytest.raises(BuildError, match=says):
        check_options(
            f"{module} {version}", dialect(module, version), asked, **{"jetson": False, "gpu": True, **where}
        )


def test_what_a_version_has_is_taken() -> None:
    everything = TensorRTOptions(False, 5, 64, 64, True, "same_compute_capability")
    check_options("tensorrt 10.9", dialect("tensorrt", "10.9.0"), everything, jetson=False, gpu=True)
    stripped = TensorRTOptions(strip_weights=True)
    for module, version in (("tensorrt", "10.0.1"), ("tensorrt", "11.4.0"), ("tensorrt_rtx", "1.7.1")):
        check_options(version, dialect(module, version), stripped, jetson=False, gpu=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "column",
    [
        "tensorrt 8.6.1",
        "tensorrt 10.3.0",
        "tensorrt 10.13.3.9",
        "tensorrt 11.4.0.106",
        "tensorrt_rtx 1.7.1.116",
    ],
)
def test_the_record_is_what_the_bindings_say(column: str) -> None:
    """Fetches the bindings from PyPI and lists their names again."""
    script = HERE / "record_surface.py"
    spec = importlib.util.spec_from_file_location("record_surface", script)
    assert spec is not None and spec.loader is not None
    recorder = importlib.util.module_from_spec(spec)
    sys.modules["record_surface"] = recorder
    spec.loader.exec_module(recorder)
    try:
        found = recorder.surface_of(recorder.PINS[column])
    except recorder.Unreachable as error:
        pytest.skip(f"the bindings cannot be looked at here: {error}")
    assert column == f"{column.split()[0]} {found.version}"
    assert set(found.names) == names_in(column)
    lists = {f"{path}({parameters})" for path, each in found.parameters.items() for parameters in each}
    index = COLUMNS.index(column)
    assert lists == {name for name, marks in RECORD["parameters"].items() if marks[index] == "1"}


# Headers of the table in docs/engines.md, and the versions that each stands for.
DOCUMENTED = {
    "8.6": ["tensorrt 8.6.1"],
    "10.0 to 10.8": ["tensorrt 10.0.1", "tensorrt 10.3.0", "tensorrt 10.8.0.43"],
    "10.9 to 10.16": ["tensorrt 10.9.0.34", "tensorrt 10.13.3.9", "tensorrt 10.16.1.11"],
    "11.x": ["tensorrt 11.0.0.114", "tensorrt 11.4.0.106"],
    "RTX 1.4 to 1.7": ["tensorrt_rtx 1.4.0.76", "tensorrt_rtx 1.7.1.116"],
}
ASKED: dict[str, dict[str, Any]] = {
    "`strong_typing: false`": {"strong_typing": False},
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
                chosen = dialect(*version.split())
                try:
                    check_options(version, chosen, TensorRTOptions(**options), jetson=False, gpu=True)
                    refused = False
                except BuildError:
                    refused = True
                assert refused is (cell == "refused"), (key, version)
