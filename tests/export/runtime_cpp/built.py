"""The C++ runtime as tests build it: with address and undefined-behaviour sanitizers, warnings as errors."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


def missing() -> str:
    """What is missing to build it; empty if nothing."""
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    for header, package in (("nlohmann/json.hpp", "nlohmann-json3-dev"), ("openssl/evp.h", "libssl-dev")):
        code = f"#include <{header}>\n"
        compiled = ["c++", "-std=c++17", "-E", "-x", "c++", "-o", "/dev/null", "-"]
        if subprocess.run(compiled, input=code, text=True, capture_output=True).returncode:
            return f"{header} is not found: apt-get install {package}"
    return ""


def build(folder: Path, *options: str) -> Path:
    """Configure and build in `folder`; where the programs lie."""
    configure = [
        "cmake", "-S", str(HERE), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Debug",
        "-DFIGKD_SANITIZE=address,undefined", "-DFIGKD_WARNINGS_AS_ERRORS=ON", *options,
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", str(folder), "--parallel", "2"]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.fail(f"{' '.join(command[:4])} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return folder
