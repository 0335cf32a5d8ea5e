"""The CUDA runtime is found where CUDA's installer or pip puts it; if it is nowhere, it is said how to get it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.runtime import cudart
from export.runtime.errors import BackendMissing
from pipeline.places import access

HERE = Path(__file__).parent


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of packages, the only one; nothing is installed elsewhere."""
    monkeypatch.setattr(sys, "path", ["", str(tmp_path / "nowhere"), str(tmp_path / "site [1]")])
    monkeypatch.setattr(cudart, "FOLDERS", (str(tmp_path / "cuda*/lib64"),))
    return tmp_path / "site [1]"


@pytest.mark.parametrize(
    ("wheel", "name"),
    [
        ("nvidia/cu13/lib", "libcudart.so.13"),  # nvidia-cuda-runtime
        ("nvidia/cuda_runtime/lib", "libcudart.so.12"),  # nvidia-cuda-runtime-cu12
        ("nvidia/cuda_runtime/lib", "libcudart.so.11.0"),  # nvidia-cuda-runtime-cu11
    ],
)
def test_a_wheels_library_is_found(wheel: str, name: str, site: Path) -> None:
    """As the wheels lay it out; a real library, so that it is really loaded."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (site / wheel).mkdir(parents=True)
    # No name that another library of this process could have been loaded by.
    plain = name.replace("libcudart", "libcudart-made-up")
    command = [compiler, "-shared", "-fPIC", "-o", str(site / wheel / plain), str(HERE / "stub_cudart.c")]
    subprocess.run(command, check=True)
    assert cudart.Cuda(cudart.load([plain])).device_count() == 1
    assert cudart.Cuda(cudart.load(["libcudart-made-up.so.99", plain])).compute_capability() == (8, 7)


def test_the_systems_own_comes_before_a_wheels(site: Path, tmp_path: Path) -> None:
    """What an administrator installed fits the driver."""
    name = "libcudart.so.13"
    for folder in (tmp_path / "cuda-13.0/lib64", site / "nvidia/cu13/lib", site / "nvidia/cublas/lib"):
        folder.mkdir(parents=True)
        (folder / name).touch()
    wheel = site / "nvidia/cu13/lib" / name
    assert cudart._found(name) == [str(tmp_path / "cuda-13.0/lib64" / name), str(wheel)]


def test_where_there_is_none_it_is_said_how_to_get_it(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that the device can have: pip's on a desktop, JetPack's on a Jetson."""
    with pytest.raises(BackendMissing, match="CUDA runtime library cannot be loaded"):
        cudart.load(["libcudart-made-up.so.98"])
    with pytest.raises(BackendMissing, match=r"too old: .*cudaGetDeviceCount"):
        cudart.Cuda(object())
    monkeypatch.setattr(cudart, "loaded", lambda: cudart.Cuda(object()))
    count, reason = cudart.probe()
    assert count == 0 and "nvidia-cuda-runtime" in reason
    desktop, jetson = tmp_path / "desktop", tmp_path / "jetson"
    (jetson / "etc").mkdir(parents=True)
    (jetson / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3\n")
    found = cudart.install_fix(str(desktop))
    assert f"{sys.executable} -m pip install nvidia-cuda-runtime (CUDA 13" in found
    assert "nvidia-cuda-runtime-cu12" in found and "jetpack" not in found
    assert cudart.install_fix(str(jetson)) == "sudo apt install nvidia-jetpack"


def test_a_desktop_is_told_the_whole_list_at_once() -> None:
    """TensorRT-RTX's wheels require no CUDA runtime: who follows this can run an engine."""
    assert (
        "tensorrt_rtx_cu13 nvidia-cuda-runtime numpy"
        in access.access_of({"packages": {}}, "tensorrt_rtx").fix
    )


def test_the_wheel_of_this_environment_has_that_layout() -> None:
    """Where pip installed a CUDA runtime here, it is one of those that are looked for."""
    found = [path for place in sys.path if place for path in Path(place).glob("nvidia/*/lib/libcudart.so.1*")]
    if not found:
        pytest.skip("no wheel of the CUDA runtime here")
    assert {str(path) for path in found} <= {path for name in cudart.NAMES for path in cudart._found(name)}
