"""The rules that keep the packages apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import LONGEST

ROOT = Path(__file__).parents[1]
FORBIDDEN = {"figkd": {"export", "pipeline"}, "export": {"figkd", "pipeline"}}


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_libraries_do_not_know_the_conductor_nor_each_other(package: str) -> None:
    """Someone may use `figkd` or `export` without the rest."""
    for path in (ROOT / package).rglob("*.py"):
        assert not _imports(path) & FORBIDDEN[package], path


def test_only_the_config_reads_yaml() -> None:
    """Nothing below the config reaches back into files or the environment of the user's shell."""
    for package in ("figkd", "export", "pipeline"):
        for path in (ROOT / package).rglob("*.py"):
            inside_config = path.is_relative_to(ROOT / "pipeline" / "config")
            shows = {ROOT / "pipeline/cli/configs.py", ROOT / "pipeline/report/html.py"}  # they print YAML
            if not inside_config and path not in shows:
                assert "yaml" not in _imports(path), path
            allowed = path.is_relative_to(ROOT / "pipeline/devices/agent")  # it starts programs there
            allowed |= path == ROOT / "export/runtime/serve/systemd.py"  # systemd says there whom to tell
            # Users say there how many threads there are, how they wait, and what malloc does.
            allowed |= path in [ROOT / "figkd" / name for name in ("free_cores.py", "openmp.py", "heap.py")]
            assert allowed or "os.environ" not in path.read_text(encoding="utf-8"), path


def _modules() -> dict[str, Path]:
    found = {}
    for package in ("figkd", "export", "pipeline"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imported(name: str, path: Path, modules: Collection[str]) -> set[str]:
    """Modules of ours that a module imports, in functions too; not what only a type checker reads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            inner = {f"{base}.{alias.name}" for alias in node.names} & set(modules)
            found |= inner or {base}
    return (found & set(modules)) - {name}


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_circle_of_files() -> None:
    """A file can be read, moved and tested without those that use it."""
    modules = _modules()
    graph = {name: _imported(name, path, modules) for name, path in modules.items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"files import each other: {' <- '.join(error.args[1])}")


# The floors of `pipeline`, top to bottom: a file may import from its own floor and from those below.
FLOORS = (
    "cli",
    "shipping",
    "estimate",
    "search",
    "run",
    "stages",
    "places",
    "devices",
    "results",
    "config",
    "core",
)
# Views: they read results (and the words of budgets, which stand in a table of the config), nothing else; whoever shows
# a run imports them.
REPORT_READS = {"results", "core", "config"}
REPORT_READERS = {"cli", "run", "stages.report"}


def _floor(module: str) -> str:
    """The folder of `pipeline` that a module is in; what lies loose at its top is as high as the command line."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (parts[1] in FLOORS or parts[1] == "report") else "cli"


def _runs_up(module: str, used: str) -> bool:
    if used == "pipeline":  # the version
        return False
    above, below = _floor(module), _floor(used)
    if above == "report":
        return below not in REPORT_READS | {"report"}
    if below == "report":
        return not any(f"{module}.".startswith(f"pipeline.{reader}.") for reader in REPORT_READERS)
    return FLOORS.index(above) > FLOORS.index(below)


def test_nothing_runs_back_up() -> None:
    """A floor knows those below it alone; imports inside functions count."""
    modules = _modules()
    found = sorted(
        (name, used)
        for name, path in modules.items()
        for used in _imported(name, path, modules)
        if name.startswith("pipeline.") and used.startswith("pipeline") and _runs_up(name, used)
    )
    assert not found, f"these run back up: {found}"


def test_files_stay_small_and_in_rooms() -> None:
    """A file can be read in one go, and what is new has a folder."""
    long = {name: path for name, path in _modules().items() if _lines(path) > 450}
    assert not long, long
    loose = sorted(path.name for path in (ROOT / "pipeline").glob("*.py"))
    assert len(loose) <= 3, loose


def test_the_longest_tests_are_there() -> None:
    """A file that was renamed would run last, and all workers but one would wait for it."""
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []


def test_plain_dicts_stay_at_the_edge() -> None:
    """What crosses a module has a type; `dict[str, Any]` is for JSON where it is read and written."""
    found = sum(path.read_text(encoding="utf-8").count("dict[str, Any]") for path in _modules().values())
    assert found < 120, found


@pytest.mark.parametrize(
    "package",
    ["figkd", "export", "pipeline", "figkd.data", "pipeline.stages.table", "figkd_pipeline.__main__"],
)
def test_packages_import_no_framework(package: str) -> None:
    """Importing a package is quick; heavy modules come when they are used."""
    heavy = {"torch", "onnx", "onnxruntime", "timm", "matplotlib"}
    code = f"import sys, {package}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
