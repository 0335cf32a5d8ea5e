"""The C++ runtime as tests build it: with address and undefined-behaviour sanitizers, warnings as errors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HEADERS = Path(
    os.environ.get("FIGKD_ONNXRUNTIME_INCLUDE") or Path.home() / ".cache" / "figkd" / "onnxruntime"
)
TENSORRT_HEADERS = Path(
    os.environ.get("FIGKD_TENSORRT_INCLUDE") or Path.home() / ".cache" / "figkd" / "tensorrt"
)
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


def missing() -> str:
    """What is missing to build it; empty if nothing."""
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    needed = {
        "nlohmann/json.hpp": "nlohmann-json3-dev",
        "openssl/evp.h": "libssl-dev",
        "jpeglib.h": "libjpeg-dev",
        "png.h": "libpng-dev",
    }
    for header, package in needed.items():
        code = f"#include <{header}>\n"
        compiled = ["c++", "-std=c++17", "-E", "-x", "c++", "-o", "/dev/null", "-"]
        if subprocess.run(compiled, input=code, text=True, capture_output=True).returncode:
            return f"{header} is not found: apt-get install {package}"
    return ""


def without_onnxruntime() -> str:
    """Why it cannot be built with ONNX Runtime; empty if it can."""
    if not (HEADERS / "onnxruntime_cxx_api.h").exists():
        return (
            "ONNX Runtime's headers are missing: cmake -P export/runtime_cpp/fetch_onnxruntime_headers.cmake"
        )
    return "" if onnxruntime_libraries() else "Python's onnxruntime has no shared library to link"


def onnxruntime_libraries() -> list[Path]:
    """ONNX Runtime's shared library in Python's package."""
    found = find_spec("onnxruntime")
    if found is None or found.origin is None:
        return []
    return sorted((Path(found.origin).parent / "capi").glob("libonnxruntime.so.*"))


def _packaged(pattern: str) -> Path | None:
    """A file of Python's packages."""
    return next(iter(sorted(Path(sysconfig.get_path("purelib")).glob(pattern))), None)


def tensorrt_options() -> list[str]:
    """CMake's options for TensorRT-RTX of Python's packages; empty where a part of it, or the headers, are missing."""
    parts = {
        "TENSORRT_LIBRARY": _packaged("tensorrt_rtx_libs/libtensorrt_rtx.so.*"),
        "CUDART_LIBRARY": _packaged("nvidia/cu*/lib/libcudart.so.*"),
        "CUDART_INCLUDE": _packaged("triton/backends/nvidia/include"),
        "TENSORRT_INCLUDE": TENSORRT_HEADERS if (TENSORRT_HEADERS / "NvInferRuntime.h").exists() else None,
    }
    return [f"-D{name}={path}" for name, path in parts.items()] if all(parts.values()) else []


def build(folder: Path, *options: str) -> Path:
    """Configure and build in `folder`; where the programs lie."""
    if not without_onnxruntime():
        options = (
            *options,
            f"-DONNXRUNTIME_INCLUDE={HEADERS}",
            f"-DONNXRUNTIME_LIBRARY={onnxruntime_libraries()[-1]}",
        )
    options = (*options, *tensorrt_options())
    configure = [
        "cmake", "-S", str(HERE), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Debug",
        "-DFIGKD_SANITIZE=address,undefined", "-DFIGKD_WARNINGS_AS_ERRORS=ON", *options,
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", str(folder), "--parallel", "2"]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.fail(f"{' '.join(command[:4])} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return folder
