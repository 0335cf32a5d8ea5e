"""Records which names the real bindings of TensorRT and TensorRT-RTX have, version by version.

    python tests/export/engines/record_surface.py          # writes surface.json beside this file

How: for each pinned version the wheel of the *bindings* is fetched with `pip download --no-deps` (about 1 MB each, from
PyPI). The bindings link against libnvinfer, which is large and not needed to look at names: for every NVIDIA library
that the extension names as needed, a stub is compiled with gcc that defines the extension's undefined symbols as
functions returning 0. The extension is then imported in a process of its own, and every public name of the module, and
of the classes and enumerations in it, is listed. Nothing of NVIDIA's libraries is run or looked into.

`surface.json`: `columns` are the versions; `names` maps each dotted name to a string with one mark a column, `1` where
the name is there and `.` where it is not. `parameters` holds the methods that this package calls with
their parameters as the bindings' docstrings give them, `IBuilderConfig.set_timing_cache(cache, ignore_mismatch)`, with
the same marks. `called` are the names that were looked up.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # runs from a plain checkout

from export.engines.trt_versions import DIALECTS, required_names

RECORD = Path(__file__).with_name("surface.json")

# Distribution and version of the bindings; the first part of a column's name is the Python module.
PINS: dict[str, str] = {
    "tensorrt 8.6.1": "tensorrt_bindings==8.6.1",
    "tensorrt 10.0.1": "tensorrt_cu12_bindings==10.0.1",
    "tensorrt 10.1.0": "tensorrt_cu12_bindings==10.1.0",
    "tensorrt 10.2.0": "tensorrt_cu12_bindings==10.2.0",
    "tensorrt 10.3.0": "tensorrt_cu12_bindings==10.3.0",
    "tensorrt 10.7.0": "tensorrt_cu12_bindings==10.7.0",
    "tensorrt 10.8.0.43": "tensorrt_cu12_bindings==10.8.0.43",
    "tensorrt 10.9.0.34": "tensorrt_cu12_bindings==10.9.0.34",
    "tensorrt 10.13.3.9": "tensorrt_cu13_bindings==10.13.3.9",
    "tensorrt 10.15.1.29": "tensorrt_cu13_bindings==10.15.1.29",
    "tensorrt 10.16.1.11": "tensorrt_cu13_bindings==10.16.1.11",
    "tensorrt 11.0.0.114": "tensorrt_cu13_bindings==11.0.0.114",
    "tensorrt 11.1.0.106": "tensorrt_cu13_bindings==11.1.0.106",
    "tensorrt 11.2.1.2": "tensorrt_cu13_bindings==11.2.1.2",
    "tensorrt 11.3.0.99": "tensorrt_cu13_bindings==11.3.0.99",
    "tensorrt 11.4.0.106": "tensorrt_cu13_bindings==11.4.0.106",
    "tensorrt_rtx 1.4.0.76": "tensorrt_rtx_cu13_bindings==1.4.0.76",
    "tensorrt_rtx 1.5.0.114": "tensorrt_rtx_cu13_bindings==1.5.0.114",
    "tensorrt_rtx 1.6.1.120": "tensorrt_rtx_cu13_bindings==1.6.1.120",
    "tensorrt_rtx 1.7.1.116": "tensorrt_rtx_cu13_bindings==1.7.1.116",
}

_LIST = """
import importlib, inspect, json, sys
module = importlib.import_module(sys.argv[1])
names = []
for name in dir(module):
    if name.startswith("_"):
        continue
    value = getattr(module, name)
    names.append(name)
    if inspect.isclass(value):
        names += [f"{name}.{member}" for member in dir(value) if not member.startswith("_")]
        for member in dir(value):  # an enumeration inside a class, such as ILogger.Severity
            inner = getattr(value, member, None)
            if inspect.isclass(inner) and not member.startswith("_") and hasattr(inner, "__members__"):
                names += [f"{name}.{member}.{entry}" for entry in inner.__members__]
docs = {}
for path in json.loads(sys.argv[2]):
    value = module
    for part in path.split("."):
        value = getattr(value, part, None)
    docs[path] = getattr(value, "__doc__", None) or ""
print(json.dumps({"version": module.__version__, "names": sorted(set(names)), "docs": docs}))
"""


class Unreachable(Exception):
    """The package index, gcc or binutils cannot be used here."""


@dataclass(frozen=True)
class Surface:
    """What the bindings of one version have."""

    version: str
    names: list[str]
    """Sorted, dotted."""
    parameters: dict[str, list[str]]
    """Method that this package calls to its overloads, each the names of its parameters, joined by commas."""


def surface_of(requirement: str) -> Surface:
    """The surface of the bindings that `requirement` (`name==version`) names.

    Raises:
        Unreachable: the wheel cannot be fetched, or there is no compiler.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", name, requirement],
            timeout=120,
        )
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        (extension,) = folder.glob("*_bindings/*.so")
        _stubs(extension, folder / "stubs")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _LIST, extension.parent.name, json.dumps(called())],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            cwd=folder,
            env=os.environ | {"LD_LIBRARY_PATH": str(folder / "stubs"), "PYTHONPATH": name},
        )
    found = json.loads(done.stdout)
    methods = {path: overloads(doc, path.split(".")[-1]) for path, doc in found["docs"].items()}
    return Surface(
        found["version"], found["names"], {path: lists for path, lists in methods.items() if lists}
    )


def called() -> list[str]:
    """Names that this package uses, of any version, and the constructors of its classes."""
    every = {name for rows in DIALECTS.values() for _, entry in rows for name in required_names(entry)}
    made = ("Builder", "OnnxParser", "OnnxParserRefitter", "Refitter", "Runtime")
    return sorted(every | {f"{name}.__init__" for name in made})


def overloads(doc: str, name: str) -> list[str]:
    """Parameters of each overload in a docstring of pybind11, such as `cache, ignore_mismatch`; without `self`,
    and with `=` behind those that have a default."""
    found = []
    for line in doc.splitlines():
        match = re.match(rf"(?:\d+\. )?{name}\(self: [\w.]+(.*)\) -> ", line.strip())
        if match:
            parts = re.split(r", (?=\w+: )", match[1])[1:]
            found.append(", ".join(part.split(":")[0] + ("=" if " = " in part else "") for part in parts))
    return sorted(set(found))


def _stubs(extension: Path, folder: Path) -> None:
    folder.mkdir()
    dynamic = _run(["readelf", "-d", "-W", str(extension)]).splitlines()
    needed = [line.split("[")[1].rstrip("]") for line in dynamic if "(NEEDED)" in line]
    symbols = [
        line.split()[-1] for line in _run(["nm", "-D", "--undefined-only", str(extension)]).splitlines()
    ]
    # Symbols with a version belong to the C and C++ libraries, those of Python to the interpreter.
    ours = [name for name in symbols if "@" not in name and not name.lstrip("_").startswith("Py")]
    source = folder / "stub.c"
    source.write_text("\n".join(f"void* {name}(void) {{ return 0; }}" for name in ours))
    for library in needed:
        if library.startswith(("libnv", "libtensorrt")):
            flags = ["-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{library}"]
            _run(["gcc", *flags, str(source), "-o", str(folder / library)])


def _run(command: list[str], timeout: float = 60) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
    except FileNotFoundError:
        raise Unreachable(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{_short(command)} took too long") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unreachable(f"{_short(command)} failed: {last}") from None
    return done.stdout


def _short(command: list[str]) -> str:
    return " ".join([Path(command[0]).name, *command[1:4]])


def table(columns: dict[str, Iterable[str]]) -> dict[str, str]:
    """Names to marks, from column to names."""
    sets = [set(names) for names in columns.values()]
    every = sorted(set().union(*sets))
    return {name: "".join("1" if name in column else "." for column in sets) for name in every}


def main() -> None:
    found: dict[str, Surface] = {}
    for column, requirement in PINS.items():
        found[column] = surface_of(requirement)
        print(f"{column}: {len(found[column].names)} names", flush=True)
    names = table({column: surface.names for column, surface in found.items()})
    pairs = {c: [f"{p}({a})" for p, lists in s.parameters.items() for a in lists] for c, s in found.items()}
    record = {
        "how": "made by record_surface.py from the bindings' wheels on PyPI; see there",
        "columns": list(PINS),
        "called": called(),
        "parameters": table(pairs),
        "names": names,
    }
    RECORD.write_text(json.dumps(record, indent=0) + "\n")


if __name__ == "__main__":
    main()
