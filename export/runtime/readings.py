"""What changes on a device while it works: temperatures, clocks, power rails, load, throttling.

Every reader takes the root of the file system, so that recorded trees of other boards can be read too. What cannot
be read is left out. No reader needs root's rights or starts a process.
"""

from __future__ import annotations

import glob
import os
import re
import threading
import time
from typing import Callable

from . import nvml

Value = nvml.Value
"""What a reader finds: a clock or a load, whether it is locked, the name of a governor."""
# Power sensors of NVIDIA's boards: INA3221 up to Orin, INA238 on Thor.
_SENSORS = ("ina3221", "ina3221x", "ina238")
_GPUS = ("gv11b", "ga10b", "gb10b", "gp10b", "gm20b", "gpu")
# A rail that carries the whole board, where there is one.
TOTALS = ("VDD_IN", "VIN", "POM_5V_IN", "SYS_VIN")
_OFFLINE_C = -200.0
# Where the clock of a Tegra's memory can be read: by root, on most releases.
_EMC = ("sys/kernel/debug/bpmp/debug/clk/emc", "sys/kernel/debug/clk/emc")


def mode_key(name: str) -> str:
    """What all spellings of a power mode share: NVIDIA's guide has 15W for what some boards call MODE_15W."""
    return re.sub("^mode_", "", name.lower())


def read(root: str, path: str) -> str:
    """A file's text without its end of line or NULs; '' if it cannot be read."""
    try:
        with open(os.path.join(root, path.lstrip("/")), encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0 \n")
    except OSError:
        return ""


def number(root: str, path: str) -> float | None:
    """A file's number; None if there is none."""
    try:
        return float(read(root, path))
    except ValueError:
        return None


def l4t_release(root: str = "/") -> str:
    """Release of Jetson Linux such as `36.4.3`; the raw line where its form is unknown; empty elsewhere."""
    line = next(iter(read(root, "etc/nv_tegra_release").splitlines()), "")
    found = re.search(r"R(\d+).*?REVISION:\s*(\d+(?:\.\d+)*)", line)
    return f"{found[1]}.{found[2]}" if found else line.strip("# ").strip()


def temperatures(root: str = "/") -> dict[str, float]:
    """Celsius by thermal zone; sensors that are off (-256 on Jetson) are left out."""
    found: dict[str, float] = {}
    for zone in _glob(root, "sys/class/thermal/thermal_zone*"):
        value = number(root, zone + "/temp")
        if value is not None and value / 1000 > _OFFLINE_C:
            name = read(root, zone + "/type") or os.path.basename(zone)
            found[name if name not in found else f"{name}:{os.path.basename(zone)}"] = value / 1000
    return found


def rails(root: str = "/") -> dict[str, float]:
    """Watts by power rail, from the board's INA sensors."""
    found: dict[str, float] = {}
    for sensor in _glob(root, "sys/class/hwmon/hwmon*"):
        if read(root, sensor + "/name") not in _SENSORS:
            continue
        for path in _glob(root, sensor + "/in[0-9]*_label"):
            channel = re.sub(r"^in(\d+)_label$", r"\1", os.path.basename(path))
            label = read(root, path)
            # Channel 7 of an INA3221 is the sum of its shunts, and unconnected channels are labelled so.
            if (
                not label
                or "NC" in label.split("_")
                or label == "NC"
                or channel == "7"
                or "sum" in label.lower()
            ):
                continue
            volts = number(root, f"{sensor}/in{channel}_input")
            amperes = number(root, f"{sensor}/curr{channel}_input")
            if volts is not None and amperes is not None:
                found[label] = volts * amperes / 1e6
        micro = number(root, sensor + "/power1_input")
        if micro is not None:
            found[read(root, sensor + "/label") or os.path.basename(sensor)] = micro / 1e6
    return found


def gpu(root: str = "/") -> dict[str, Value]:
    """`load_percent`, `mhz`, `min_mhz`, `max_mhz` and `governor` of a Tegra's GPU; empty elsewhere.

    `jetson_clocks` locks the clock by raising `min_mhz` to `max_mhz`.
    """
    for folder in _glob(root, "sys/class/devfreq/*"):
        name = read(root, folder + "/device/of_node/name")
        if (
            name not in _GPUS
            and not os.path.basename(folder).startswith("gpu-gpc")
            and not os.path.basename(folder).endswith(_GPUS)
        ):
            continue
        found: dict[str, Value] = {}
        load = number(root, folder + "/device/load")
        if load is not None:
            found["load_percent"] = load / 10
        for key, file in (("mhz", "cur_freq"), ("min_mhz", "min_freq"), ("max_mhz", "max_freq")):
            hertz = number(root, f"{folder}/{file}")
            if hertz is not None:
                found[key] = round(hertz / 1e6)
        governor = read(root, folder + "/governor")
        if governor:
            found["governor"] = governor
        return found
    return {}


def memory_clock(root: str = "/") -> dict[str, Value]:
    """`mhz`, `min_mhz`, `max_mhz` of a Tegra's memory (EMC), and `locked` (by `jetson_clocks`); most need root."""
    found: dict[str, Value] = {}
    for folder in _EMC:
        for key, file in (("mhz", "rate"), ("min_mhz", "min_rate"), ("max_mhz", "max_rate")):
            hertz = number(root, f"{folder}/{file}")
            if hertz is not None:
                found[key] = round(hertz / 1e6)
        locked = number(root, f"{folder}/mrq_rate_locked")
        if locked is not None:
            found["locked"] = locked > 0
        if found:
            break
    return found


def clocks(root: str = "/") -> dict[str, dict[str, Value]]:
    """`gpu`, `memory` and `cpu`, as far as they can be read: a Tegra's, else a desktop GPU's."""
    found = {"gpu": gpu(root), "memory": memory_clock(root), "cpu": cpu_clocks(root)}
    if not found["gpu"] and root == "/":
        found.update(nvml.clocks())
    return {part: values for part, values in found.items() if values}


def cpu_clocks(root: str = "/") -> dict[str, Value]:
    """`mhz` (mean over the cores that are on), `min_mhz`, `max_mhz`, `governor` (all of them), `online`."""
    current, limit, least = [], [], []
    for folder in _glob(root, "sys/devices/system/cpu/cpu[0-9]*"):
        now, top = (
            number(root, f"{folder}/cpufreq/{name}") for name in ("scaling_cur_freq", "scaling_max_freq")
        )
        if now is not None:
            current.append(now / 1000)
        if top is not None:
            limit.append(top / 1000)
        bottom = number(root, f"{folder}/cpufreq/scaling_min_freq")
        if bottom is not None:
            least.append(bottom / 1000)
    found: dict[str, Value] = {}
    if current:
        found["mhz"] = round(sum(current) / len(current))
    if limit:
        found["max_mhz"] = round(max(limit))
    if least:
        found["min_mhz"] = round(min(least))
    governors = {
        read(root, f"{folder}/cpufreq/scaling_governor")
        for folder in _glob(root, "sys/devices/system/cpu/cpu[0-9]*")
    }
    if governors - {""}:
        found["governor"] = ", ".join(sorted(governors - {""}))[:200]
    online = read(root, "sys/devices/system/cpu/online")
    if online:
        found["online"] = online
    return found


def throttling(root: str = "/") -> dict[str, float]:
    """What slows the device down, by name: counters that only grow, and states that are 0 while all is well."""
    found: dict[str, float] = {}
    for sensor in _glob(root, "sys/class/hwmon/hwmon*"):  # Orin: over-current and under-voltage events
        for path in _glob(root, sensor + "/oc*_event_cnt"):
            value = number(root, path)
            if value is not None:
                found[f"count {os.path.basename(path)[:-10]} events"] = value
    for device in _glob(root, "sys/class/thermal/cooling_device*"):
        kind = read(root, device + "/type")
        value = number(root, device + "/cur_state")
        if value is not None and "fan" not in kind.lower() and ("throttle" in kind or "alert" in kind):
            found[f"state {kind}"] = value
    counts = [
        number(root, p)
        for p in _glob(root, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
    ]
    known = [value for value in counts if value is not None]
    if known:
        found["count CPU thermal throttling"] = sum(known)
    firmware = read(root, "sys/devices/platform/soc/soc:firmware/get_throttled")
    if firmware:  # Raspberry Pi: bits 0 to 3 say what happens now
        try:
            found["state Raspberry Pi firmware"] = float(int(firmware, 16) & 0xF)
        except ValueError:
            pass
    return found


def snapshot(root: str = "/") -> dict[str, object]:
    """One reading of everything; `at` is a monotonic time in seconds."""
    found: dict[str, object] = {"at": time.monotonic()}
    readers: dict[str, Callable[[str], dict[str, float]]] = {
        "temperatures": temperatures,
        "rails": rails,
        "throttling": throttling,
    }
    for name, reader in readers.items():
        value = reader(root)
        if value:
            found[name] = value
    found.update(clocks(root))
    return found


class RailSampler:
    """Reads the power rails in a thread, for runs that are not timed."""

    def __init__(self, root: str = "/", interval_s: float = 0.05) -> None:
        self._root, self._interval_s = root, interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self.samples: list[tuple[float, dict[str, float]]] = []

    def __enter__(self) -> RailSampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            self.samples.append((time.monotonic(), rails(self._root)))
            if self._stop.wait(self._interval_s):
                return


def _glob(root: str, pattern: str) -> list[str]:
    """Paths below `root` (without it), in the order of their numbers."""
    start = len(os.path.join(root, ""))
    found = glob.glob(os.path.join(glob.escape(root), pattern.lstrip("/")))
    return sorted((path[start:] for path in found), key=lambda p: [int(d) for d in re.findall(r"\d+", p)])
