"""File trees of boards as NVIDIA's and Raspberry Pi's documentation describe them, written into a folder.

Not recorded from a board: names, units and layouts are the documented ones, the values are made up.
"""

from __future__ import annotations

from pathlib import Path

_NVPMODEL = """
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
CPU_ONLINE CORE_0 1
< PM_CONFIG DEFAULT=1 >
"""

# A swap file of 4 GiB beside the six zram devices of half the memory that JetPack makes.
SWAPS = (
    "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    + "".join(
        f"/dev/zram{number}                              partition\t650248\t\t0\t\t5\n" for number in range(6)
    )
    + "/swapfile                               file\t\t4194300\t\t292812\t\t-2\n"
)


def _ina3221(number: int, rails: dict[int, tuple[str, int, int]]) -> dict[str, str]:
    base = f"sys/class/hwmon/hwmon{number}"
    files = {f"{base}/name": "ina3221"}
    for channel, (label, millivolts, milliamperes) in rails.items():
        files |= {
            f"{base}/in{channel}_label": label,
            f"{base}/in{channel}_input": str(millivolts),
            f"{base}/curr{channel}_input": str(milliamperes),
        }
    return files


def _zones(values: dict[str, int]) -> dict[str, str]:
    files = {}
    for number, (name, value) in enumerate(values.items()):
        files |= {
            f"sys/class/thermal/thermal_zone{number}/type": name,
            f"sys/class/thermal/thermal_zone{number}/temp": str(value),
        }
    return files


ORIN_NANO = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: ...",
    "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nNAME="Ubuntu"',
    "etc/nvpmodel.conf": _NVPMODEL,
    "var/lib/nvpmodel/status": "pmode:0001",
    "var/lib/dpkg/status": (
        "Package: nvidia-jetpack-dev\nStatus: install ok installed\nVersion: 6.2+b77\n\n"
        "Package: nvidia-jetpack\nStatus: install ok installed\nPriority: standard\nVersion: 6.2+b77\n\n"
        "Package: libnvinfer10\nStatus: install ok installed\nVersion: 10.3.0.30-1+cuda12.5\n"
    ),
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\nCPU part\t: 0xd42\n",
    "proc/meminfo": "MemTotal:        7802976 kB\nMemAvailable:    5120000 kB\nSwapFree:        8095788 kB\n",
    "proc/swaps": SWAPS,
    "usr/local/cuda/version.json": '{"cuda" : {"name" : "CUDA SDK", "version" : "12.6.11"}, "cuda_cudart": {}}',
    "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
    **_ina3221(1, {
        1: ("VDD_IN", 5040, 1200), 2: ("VDD_CPU_GPU_CV", 5040, 300), 3: ("VDD_SOC", 5040, 250), 4: ("NC", 0, 0),
        7: ("sum of shunt voltages", 9, 9),
    }),
    **_zones({"cpu-thermal": 47343, "gpu-thermal": 48125, "cv0-thermal": -256000, "tj-thermal": 48125}),
    "sys/class/hwmon/hwmon0/name": "soctherm_oc",
    "sys/class/hwmon/hwmon0/oc1_event_cnt": "0",
    "sys/class/hwmon/hwmon0/oc3_event_cnt": "2",
    "sys/class/thermal/cooling_device0/type": "pwm-fan",
    "sys/class/thermal/cooling_device0/cur_state": "3",
    "sys/class/thermal/cooling_device1/type": "cpu-throttle-alert",
    "sys/class/thermal/cooling_device1/cur_state": "0",
    "sys/class/devfreq/17000000.gpu/device/of_node/name": "gpu\0",
    "sys/class/devfreq/17000000.gpu/device/load": "125",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000",
    "sys/class/devfreq/17000000.gpu/governor": "nvhost_podgov",
    "sys/class/devfreq/15340000.vic/device/of_node/name": "vic\0",
    "sys/class/devfreq/15340000.vic/cur_freq": "729600000",
    "sys/devices/system/cpu/online": "0-5",
    **{f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_cur_freq": "729600" for n in range(6)},
    **{f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_max_freq": "1728000" for n in range(6)},
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil",
}  # fmt: skip

# What `sudo jetson_clocks` makes of it, read by root.
ORIN_NANO_LOCKED = {
    **ORIN_NANO,
    "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000",
    "sys/class/devfreq/17000000.gpu/min_freq": "1020000000",
    "sys/kernel/debug/bpmp/debug/clk/emc/rate": "3199000000",
    "sys/kernel/debug/bpmp/debug/clk/emc/min_rate": "204000000",
    "sys/kernel/debug/bpmp/debug/clk/emc/max_rate": "3199000000",
    "sys/kernel/debug/bpmp/debug/clk/emc/mrq_rate_locked": "1",
    **{f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_min_freq": "1728000" for n in range(6)},
    **{f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_cur_freq": "1728000" for n in range(6)},
}

AGX_ORIN = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.7, GCID: 1, BOARD: generic, EABI: aarch64, DATE: ...",
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0",
    **_ina3221(
        3, {1: ("VDD_GPU_SOC", 20000, 117), 2: ("VDD_CPU_CV", 20000, 20), 3: ("VIN_SYS_5V0", 4986, 807)}
    ),
    **_ina3221(4, {1: ("NC", 0, 0), 2: ("VDDQ_VDD2_1V8AO", 1800, 300), 3: ("NC", 0, 0)}),
}

THOR = {
    "etc/nv_tegra_release": "# R38 (release), REVISION: 4.0, GCID: 1, BOARD: generic, EABI: aarch64, DATE: ...",
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,tegra264\0",
    "sys/class/hwmon/hwmon2/name": "ina238",
    "sys/class/hwmon/hwmon2/label": "VIN",
    "sys/class/hwmon/hwmon2/power1_input": "41500000",
    "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000",
}

RASPBERRY_PI = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005",
    **_zones({"cpu-thermal": 61450}),
}


def write(folder: Path, files: dict[str, str]) -> str:
    """Write a tree; returns its root as the agent takes it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + ("" if content.endswith("\0") else "\n"))
    return str(folder)
