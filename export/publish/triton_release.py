"""Which release of Triton's container has which TensorRT.

Source: NVIDIA's Deep Learning Frameworks Support Matrix,
https://docs.nvidia.com/deeplearning/frameworks/support-matrix.
"""

from __future__ import annotations

from export.engines.trt_versions import parse_version

MATRIX = "https://docs.nvidia.com/deeplearning/frameworks/support-matrix"
RELEASES: tuple[tuple[str, str], ...] = (
    ("8.5.1", "22.12"),
    ("8.5.2", "23.01"),
    ("8.5.3", "23.03"),
    ("8.6.1", "24.01"),
    ("8.6.3", "24.04"),
    ("10.0.1", "24.05"),
    ("10.1.0", "24.06"),
    ("10.2.0", "24.07"),
    ("10.3.0", "24.08"),
    ("10.4.0", "24.09"),
    ("10.5.0", "24.10"),
    ("10.6.0", "24.11"),
    ("10.7.0", "24.12"),
    ("10.8.0", "25.02"),
    ("10.9.0", "25.04"),
    ("10.10.0", "25.05"),
    ("10.11.0", "25.07"),
    ("10.13.2", "25.08"),
    ("10.13.3", "25.10"),
)
"""TensorRT's version to the newest release of Triton that has it."""


def release_of(version: str) -> str | None:
    """The release of Triton's container whose TensorRT is this version; None where none is known."""
    wanted = parse_version(version)[:3]
    return next((release for known, release in RELEASES if parse_version(known) == wanted), None)


def note(version: str, *, jetson: bool, version_compatible: bool) -> str:
    """Which server loads a plan of this version of TensorRT: a paragraph of Markdown."""
    release = release_of(version)
    tag = f"{release}-py3-igpu" if jetson else f"{release}-py3"
    if version_compatible:
        return (
            f"The plan was built by TensorRT {version} as version compatible: Triton with this or a later minor "
            "version loads it when it is started with `--backend-config=tensorrt,version-compatible=true`."
        )
    if release is None:
        return (
            f"The plan loads in TensorRT {version} only. Which release of Triton has it is not known here: see "
            f"{MATRIX}, or build the engine with the TensorRT of the Triton that you run."
        )
    return (
        f"The plan loads in TensorRT {version} only: take `nvcr.io/nvidia/tritonserver:{tag}`, whose TensorRT is of "
        f"the same version by NVIDIA's support matrix ({MATRIX}). This was not tried here."
    )
