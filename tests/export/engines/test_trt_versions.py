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
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import export.engines
import export.runtime
from export.engines.trt_versions import (
    DIALECTS,
    bindings_missing,
    dialect,
    parse_version,
    required_names,
)
from export.errors import BackendMissing

HERE = Path(__file__).parent
AGENT = HERE.parents[2] / "pipeline/devices/agent"
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
    ours = {
        "FLOAT16",
        "append",
        "clear",
        "enqueue",
        "extend",
        "file",
        "flags",
        "float32",
        "format",
        "kind",
        "read",
        "start",
        "warnings",
    }
    folder = Path(export.engines.__file__).parent
    read: set[str] = set()
    silent = (
        "trt_built.py",
        "trt_fit.py",
        "trt_operators.py",
        "trt_options.py",
        "trt_refusals.py",
    )  # texts and ONNX graphs alone
    speaking = {path for path in folder.glob("trt_*.py") if path.name not in silent}
    runtime = Path(export.runtime.__file__).parent
    speaking |= {*runtime.glob("trt_*.py"), runtime / "timing_cache.py", AGENT / "tensorrt_api.py"}
    for path in [*speaking, folder / "tensorrt.py"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert len(read & listed) > 60
    assert sorted((read & known) - listed - ours) == []


@pytest.mark.parametrize(
    ("module", "version", "strong", "weak", "max_opset", "ahead_of_time"),
    [
        ("tensorrt", "8.5.2", False, True, 16, False),
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
    for module, version in (("tensorrt", "8.4.3"), ("tensorrt_rtx", "1.1")):
        with pytest.raises(BackendMissing, match=f"{module} {version} is too old"):
            dialect(module, version)


def test_rows_ascend() -> None:
    for rows in DIALECTS.values():
        assert [first for first, _ in rows] == sorted(first for first, _ in rows)


def test_missing_bindings_are_named() -> None:
    missing = bindings_missing(SimpleNamespace(Builder=None), dialect("tensorrt", "10.3.0"))
    assert "IProgressMonitor.phase_start" in missing and "Builder.build_serialized_network" in missing


def recorder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_surface", HERE / "record_surface.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["record_surface"] = module
    spec.loader.exec_module(module)
    return module


def test_the_record_was_made_for_the_names_of_today() -> None:
    """A name that is called but was never looked up has no parameters in the record: make it again."""
    assert RECORD["called"] == recorder().called()


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
    record = recorder()
    try:
        found = record.surface_of(record.PINS[column])
    except record.Unreachable as error:
        pytest.skip(f"the bindings cannot be looked at here: {error}")
    assert column == f"{column.split()[0]} {found.version}"
    assert set(found.names) == names_in(column)
    lists = {f"{path}({parameters})" for path, each in found.parameters.items() for parameters in each}
    index = COLUMNS.index(column)
    assert lists == {name for name, marks in RECORD["parameters"].items() if marks[index] == "1"}
