"""What the views say of the devices that engines ran on."""

from __future__ import annotations

from typing import Any

from sample import sample

from pipeline.report.devices import device_facts
from pipeline.report.html import render_html
from pipeline.report.markdown import render_markdown

HOSTILE = "<script>alert(1)</script>"
ORIN: dict[str, Any] = {
    "device": "orin-nano",
    "facts": {
        "board": "NVIDIA Jetson Orin Nano", "l4t": "36.4.3", "jetpack": "6.2", "gpu": "Orin", "cpu": "ARMv8",
        "cores": 6, "machine": "aarch64", "os": "Ubuntu 22.04.5 LTS", "python": "3.10.12", "memory_mb": 7620,
        "memory_free_mb": {"available": 5000}, "tensorrt": {"version": "10.3.0"}, "packages": {"numpy": "1.21.5"},
        "gpu_users": ["deepstream-app"],
    },
    "power_mode": {"id": 0, "name": "15W"},
    "before": {"gpu": {"mhz": 306, "max_mhz": 624, "governor": "nvhost_podgov"}, "throttling": {"count oc3 events": 1}},
    "after": {"gpu": {"mhz": 624}},
    "temperatures_c": {"tj-thermal": [44.0, 61.25, 58.0]},
    "throttled": [],
    "energy": {"orin/int8": {"mj_per_image": 1.0}},
    "sustained": {
        "orin/int8": {
            "seconds": 120.0, "queries": 60_000, "median": 2.0, "p99": 2.5, "first_median": 1.9, "last_median": 2.1,
            "slowdown_percent": 10.526,
        }
    },
    "golden": {"n": 32, "max_abs": 1, "differing_percent": 0.5},
    "clock_skew_s": -75.2,
    "missing": ["image_to_class: there is no Pillow on the device (sudo apt install python3-pil)"],
}  # fmt: skip


def test_every_fact_is_said_with_its_unit() -> None:
    """One line each, in words; a value that is not known is said not to be available."""
    ((target, rows),) = device_facts(sample(devices={"orin": ORIN}))
    said = dict(rows)
    assert target == "orin" and said["device"] == "orin-nano" and said["JetPack"] == "6.2"
    assert said["power mode"] == "15W (id 0)"
    assert said["GPU clock"] == "306 → 624 of 624 MHz, governor nvhost_podgov"
    assert said["temperature"] == "tj-thermal 44.0 → 61.2 → 58.0 °C (before, highest, after)"
    assert said["throttling"] == "none"
    assert said["sustained orin/int8"] == (
        "2 min 00 s, 60,000 queries: median 2.000 ms, p99 2.500 ms; first tenth 1.900 ms, last tenth 2.100 ms (+10.5 %)"
    )
    assert said["golden images"].startswith(
        "32 images decoded there and here: 0.50 % of the values differ, at most by 1"
    )
    assert said["clock"] == "-75.2 s against this machine's"
    assert said["other users of the GPU"] == "deepstream-app"
    assert "python3-pil" in said["not measured"]
    bare = dict(device_facts(sample(devices={"pi": {"device": "pi", "facts": {}}}))[0][1])
    assert "not available" in bare["temperature"] and "not available" in bare["throttling"]
    assert "not available" in bare["energy"]


def test_a_clock_that_is_coarse_is_said_beside_its_figures() -> None:
    """Where its steps are more than 1 % of the median."""
    for step, told in ((0.0078125, False), (0.0625, True)):
        run = ORIN["sustained"]["orin/int8"] | {"resolution_ms": step}
        ((_, rows),) = device_facts(sample(devices={"orin": ORIN | {"sustained": {"orin/int8": run}}}))
        assert ("steps of 62.5 µs (3.1 % of the median)" in dict(rows)["sustained orin/int8"]) is told


def test_both_pages_have_them_and_trust_no_text() -> None:
    """A device may call itself what it likes."""
    hostile = ORIN | {"device": HOSTILE, "facts": ORIN["facts"] | {"board": HOSTILE}}
    result = sample(devices={"orin": hostile})
    page, text = render_html(result), render_markdown(result)
    assert "Device of orin" in page and "## Devices" in text
    assert HOSTILE not in page and HOSTILE not in text
    assert "## Devices" not in render_markdown(sample())
