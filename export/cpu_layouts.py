"""Which INT8 file ONNX Runtime wants on a CPU: a pure function of what the CPU can do.

Light to import, as plans need it: no numpy, no onnx.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Literal

Name = Literal["u8s8", "u8s8_7bit", "s8s8"]

_X86 = ("x86_64", "amd64", "i386", "i486", "i586", "i686", "x86")
_ARM64 = ("aarch64", "arm64")
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})


@dataclass(frozen=True)
class CpuLayout:
    """How activations and weights of an INT8 file for ONNX Runtime's CPU are stored.

    Attributes:
        name: activations, then weights, as ONNX Runtime's documentation writes it.
        activations: what they are quantised to, asymmetric in either case.
        weight_bits: levels of the signed, symmetric weights: 8 bits are -127 to 127, 7 bits -64 to 64.
        cpus: for which CPUs the file is, in words.
        because: the reason.
    """

    name: Name
    activations: Literal["uint8", "int8"]
    weight_bits: Literal[7, 8]
    cpus: str
    because: str

    def facts(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)


CPU_LAYOUTS: dict[Name, CpuLayout] = {
    layout.name: layout
    for layout in (
        CpuLayout(
            "u8s8",
            "uint8",
            8,
            "x86-64 with AVX512-VNNI or AVX-VNNI, and CPUs that are neither x86 nor ARM with dot products",
            "their 8-bit products are summed in 32 bits",
        ),
        CpuLayout(
            "u8s8_7bit",
            "uint8",
            7,
            "x86 without AVX512-VNNI and AVX-VNNI; exact on every CPU",
            "VPMADDUBSW sums two products in 16 bits, which saturate with 8-bit weights",
        ),
        CpuLayout(
            "s8s8",
            "int8",
            8,
            "64-bit ARM with dot products (asimddp)",
            "ONNX Runtime's packed kernels for SDOT and SMMLA take signed activations; their sums have 32 bits",
        ),
    )
}


def cpu_layout(architecture: str, features: Collection[str]) -> CpuLayout:
    """The INT8 layout for a CPU.

    Args:
        architecture: as the system tells it, such as `x86_64` or `aarch64`.
        features: names as `/proc/cpuinfo` lists them (`flags` on x86, `Features` on ARM). One that is not listed
            counts as absent, so that an unknown x86 CPU gets the file that is exact everywhere.
    """
    machine = architecture.lower()
    if machine in _X86:
        return CPU_LAYOUTS["u8s8" if _VNNI & set(features) else "u8s8_7bit"]
    return CPU_LAYOUTS["s8s8" if machine in _ARM64 and "asimddp" in features else "u8s8"]


def features_for(name: str) -> tuple[str, ...]:
    """Of which features a CPU must have one to compute a layout exactly and fast; empty where any CPU does.

    Left out are the rare CPUs that need none: where a bundle offers another engine, they take that one.
    """
    return {"u8s8": tuple(sorted(_VNNI)), "s8s8": ("asimddp",)}.get(name, ())


def cpu_of(name: str) -> CpuLayout:
    """A layout by its name."""
    return next(layout for layout in CPU_LAYOUTS.values() if layout.name == name)
