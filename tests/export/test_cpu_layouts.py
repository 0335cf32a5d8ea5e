"""Protects: what a CPU can do decides its INT8 file, whoever makes the file, and an unknown CPU gets a safe one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.cpu_layouts import CPU_LAYOUTS, cpu_layout, cpu_of
from export.machine import cpu_features

CPUINFO = {
    "zen3": "processor\t: 0\nflags\t\t: fpu avx2 vaes\n",
    "zen4": "flags\t\t: fpu avx2 avx512f avx512_vnni\n\nflags\t\t: fpu avx2 avx512f avx512_vnni\n",
    "alder_lake": "flags : avx2 avx_vnni\nvmx flags\t: avx512_vnni\n",
    "named_after_it": "flags : fpu avx2 avx512f\nmodel name : avx512_vnni\n",
    "orin": "Features\t: fp asimd evtstrm aes asimddp\nCPU part\t: 0xd42\n",
    "raspberry_pi_4": "Features\t: fp asimd evtstrm crc32 cpuid\n",
    "big_little": "Features\t: asimd asimddp\n\nFeatures\t: asimd\n",
    "grace": "Features\t: asimd asimddp sve i8mm\n",
    "silent": "",
}


@pytest.mark.parametrize(
    ("cpu", "architecture", "layout"),
    [
        ("zen3", "x86_64", "u8s8_7bit"),
        ("zen4", "x86_64", "u8s8"),
        ("zen4", "AMD64", "u8s8"),
        ("alder_lake", "x86_64", "u8s8"),
        ("named_after_it", "x86_64", "u8s8_7bit"),
        ("silent", "x86_64", "u8s8_7bit"),
        ("zen3", "i686", "u8s8_7bit"),
        ("orin", "aarch64", "s8s8"),
        ("grace", "aarch64", "s8s8"),
        ("raspberry_pi_4", "aarch64", "u8s8"),
        ("big_little", "aarch64", "u8s8"),
        ("silent", "arm64", "u8s8"),
        ("orin", "armv8l", "u8s8"),
        ("silent", "riscv64", "u8s8"),
    ],
)
def test_the_cpu_decides(cpu: str, architecture: str, layout: str) -> None:
    assert cpu_layout(architecture, cpu_features(CPUINFO[cpu])).name == layout


@given(architecture=st.one_of(st.sampled_from(["x86_64", "aarch64"]), st.text()), features=st.sets(st.text()))
def test_any_cpu_gets_a_layout_that_it_computes_exactly(architecture: str, features: set[str]) -> None:
    """8-bit weights on x86 only with VNNI; more features never take the layout away that VNNI gave."""
    found = cpu_layout(architecture, features)
    assert found is CPU_LAYOUTS[found.name] is cpu_of(found.name)
    if architecture == "x86_64":
        assert found.weight_bits == 7 and cpu_layout(architecture, features | {"avx_vnni"}).weight_bits == 8
