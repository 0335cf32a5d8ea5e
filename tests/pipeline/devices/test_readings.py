"""Facts and readings of boards, from trees as their documentation describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from export.runtime import nvml, readings
from pipeline.devices import messages
from pipeline.devices.agent import board, memory, power_mode
from pipeline.devices.agent.errors import JobError
from pipeline.devices.facts import Reading
from pipeline.run.device_check import judge
from tests.pipeline.devices.boards import AGX_ORIN, ORIN_NANO, ORIN_NANO_LOCKED, RASPBERRY_PI, THOR, write


def test_an_orin_nano_says_what_it_is(tmp_path: Path) -> None:
    """Board, JetPack, L4T, CUDA, TensorRT, GPU, memory, power mode."""
    facts = board.facts(str(tmp_path), write(tmp_path, ORIN_NANO))
    expected = {
        "board": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "l4t": "36.4.3", "jetpack": "6.2+b77", "soc": "tegra234", "gpu": "Orin", "compute_capability": "SM87",
        "cuda": "12.6.11", "os": "Ubuntu 22.04.5 LTS", "memory_mb": 7620,
        "rails": ["VDD_CPU_GPU_CV", "VDD_IN", "VDD_SOC"],
    }  # fmt: skip
    assert {key: facts[key] for key in expected} == expected
    assert facts["memory_free_mb"] == {"available": 5000, "swap_free": 3810}
    assert facts["tensorrt"]["library"] == "10.3.0" and facts["tensorrt"]["version"] == "10.3.0"
    assert facts["power_mode"] == {"id": 1, "name": "25W", "available": ["15W", "25W", "MAXN_SUPER"]}
    assert facts["clocks"]["gpu"] == {
        "load_percent": 12.5,
        "mhz": 306,
        "min_mhz": 306,
        "max_mhz": 1020,
        "governor": "nvhost_podgov",
    }
    assert facts["clocks"]["cpu"] == {"mhz": 730, "max_mhz": 1728, "governor": "schedutil", "online": "0-5"}
    assert json.loads(json.dumps(facts)) == facts


def test_readings_leave_out_what_is_no_measurement(tmp_path: Path) -> None:
    """A sensor that is off, an unconnected channel, the sum of shunts, the fan."""
    root = write(tmp_path, ORIN_NANO)
    assert readings.temperatures(root) == {"cpu-thermal": 47.343, "gpu-thermal": 48.125, "tj-thermal": 48.125}
    assert readings.rails(root) == pytest.approx({"VDD_IN": 6.048, "VDD_CPU_GPU_CV": 1.512, "VDD_SOC": 1.26})
    assert readings.throttling(root) == {
        "count oc1 events": 0,
        "count oc3 events": 2,
        "state cpu-throttle-alert": 0,
    }


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (
            AGX_ORIN,
            {"VDD_GPU_SOC": 2.34, "VDD_CPU_CV": 0.4, "VIN_SYS_5V0": 4.023702, "VDDQ_VDD2_1V8AO": 0.54},
        ),
        (THOR, {"VIN": 41.5}),
        (RASPBERRY_PI, {}),
    ],
    ids=["agx_orin", "thor", "raspberry_pi"],
)
def test_rails_of_other_boards(tree: dict[str, str], expected: dict[str, float], tmp_path: Path) -> None:
    """Several sensors, another sensor, none."""
    assert readings.rails(write(tmp_path, tree)) == pytest.approx(expected)


def test_other_boards_are_recognised(tmp_path: Path) -> None:
    """JetPack by its L4T where the package does not say it; an unknown release is shown as it is."""
    thor = board.jetson(write(tmp_path / "thor", THOR))
    assert (thor["gpu"], thor["compute_capability"], thor["jetpack"]) == ("Thor", "SM110", "7.1")
    assert readings.gpu(str(tmp_path / "thor")) == {"mhz": 1575}
    assert board.jetson(write(tmp_path / "agx", AGX_ORIN))["jetpack"] == "6.2.1"
    strange = {"etc/nv_tegra_release": "# something new"}
    assert board.jetson(write(tmp_path / "new", strange)) == {
        "l4t_text": "something new",
        "l4t": "something new",
    }
    pi = write(tmp_path / "pi", RASPBERRY_PI)
    assert board.jetson(pi) == {"board": "Raspberry Pi 5 Model B Rev 1.0"}
    assert board.cpu_model(pi) == "Raspberry Pi 5 Model B Rev 1.0"
    assert readings.throttling(pi) == {"state Raspberry Pi firmware": 5.0}


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ("34.1.1", "5.0.1 DP"), ("35.1.0", "5.0.2"), ("35.2.1", "5.1"), ("35.3.1", "5.1.1"), ("35.4.1", "5.1.2"),
        ("35.5.0", "5.1.3"), ("35.6.0", "5.1.4"), ("35.6.1", "5.1.5"), ("35.6.4", "5.1.6"), ("36.2.0", "6.0 DP"),
        ("36.2", "6.0 DP"), ("36.3.0", "6.0"), ("36.4.0", "6.1"), ("36.4.3", "6.2"), ("36.4.4", "6.2.1"),
        ("36.4.7", "6.2.1"), ("36.5.0", "6.2.2"), ("38.2.0", "7.0"), ("38.2.1", "7.0"), ("38.4.0", "7.1"),
        ("39.2.0", "7.2"), ("39.2.1", "7.2.1"),
        ("35.6.9", ""), ("36.4.9", ""), ("37.1.0", ""), ("39.0.0", ""), ("40.1.0", ""),
    ],
)  # fmt: skip
def test_jetpacks_name_by_its_release(l4t: str, jetpack: str, tmp_path: Path) -> None:
    """As NVIDIA's archive lists them; a release that it does not list gets no name of a neighbour."""
    major, _, revision = l4t.partition(".")
    text = f"# R{major} (release), REVISION: {revision}, GCID: 1, BOARD: generic, EABI: aarch64, DATE: ..."
    found = board.jetson(write(tmp_path, {"etc/nv_tegra_release": text}))
    assert (found["l4t"], found["jetpack"]) == (l4t, jetpack)
    (finding,) = (f for f in judge(found | {"cores": 6, "release": "5.10"}) if f.what == "JetPack")
    assert finding.found == f"{jetpack or 'of unknown version'}, L4T {l4t}"


@pytest.mark.parametrize(
    ("swaps", "free"),
    [
        ("/dev/zram0 partition 1950208 0 5\n/dev/zram1 partition 1950208 1000 5\n", 0),
        ("/dev/zram0 partition 1950208 0 5\n/swapfile file 2097148 1048572 -2\n", 1024),
        ("/dev/nvme0n1p3 partition 2097148 0 -2\n/mnt/my\\040swap file 1048576 0 -3\n", 3071),
        ("/home/zramuser/swap file 1048576 0 -3\n", 1024),
        ("", 0),
    ],
    ids=["zram", "zram and a file", "disks", "a file of that name", "none"],
)
def test_swap_in_memory_is_no_memory(swaps: str, free: int, tmp_path: Path) -> None:
    """A stock Jetson has zram of half its memory: counted as free, a build is begun that the kernel will kill."""
    root = write(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 7802976 kB\nMemAvailable: 899072 kB\nSwapFree: 3900416 kB",
            "proc/swaps": f"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n{swaps}".rstrip("\n"),
        },
    )
    assert memory.free_mb(root) == {"available": 878, "swap_free": free}
    if free >= 1557 - 878:
        assert memory.check_build(100 << 20, 757, root)["wanted"] == 1557
        return
    with pytest.raises(JobError, match=rf"{878 + free} MiB of memory free \({free} MiB of it swap on disk\)"):
        memory.check_build(100 << 20, 757, root)
    (finding,) = (
        found
        for found in judge(
            {"cores": 6, "release": "5", "memory_mb": 7620, "memory_free_mb": memory.free_mb(root)}
        )
        if found.what == "memory"
    )
    assert finding.state == "absent"


def test_locked_clocks_are_read(tmp_path: Path) -> None:
    """As `jetson_clocks` leaves them; the memory's clock is told to root only."""
    free, locked = write(tmp_path / "free", ORIN_NANO), write(tmp_path / "locked", ORIN_NANO_LOCKED)
    assert "memory" not in readings.clocks(free)
    found = readings.clocks(locked)
    assert (found["gpu"]["min_mhz"], found["gpu"]["max_mhz"]) == (1020, 1020)
    assert found["memory"] == {"mhz": 3199, "min_mhz": 204, "max_mhz": 3199, "locked": True}
    assert (found["cpu"]["min_mhz"], found["cpu"]["max_mhz"]) == (1728, 1728)
    for reading in (readings.snapshot(free), readings.snapshot(locked)):
        assert messages.checked(Reading, reading) == reading  # the host takes it


class _Nvml:
    """NVML of a GPU with these clocks, by kind; an unknown one is refused (3 is NOT_SUPPORTED)."""

    def __init__(self, status: int = 0, clocks: dict[int, int] | None = None) -> None:
        self.status, self.clocks, self.closed = status, clocks or {}, 0

    def nvmlInit_v2(self) -> int:
        return self.status

    def nvmlShutdown(self) -> int:
        self.closed += 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:
        return index

    def nvmlDeviceGetClockInfo(self, device: Any, kind: int, value: Any) -> int:
        if kind not in self.clocks:
            return 3
        value._obj.value = self.clocks[kind]
        return 0

    def nvmlDeviceGetMaxClockInfo(self, device: Any, kind: int, value: Any) -> int:
        value._obj.value = 2 * self.clocks.get(kind, 0)
        return 0 if kind in self.clocks else 3


def test_a_desktop_gpu_tells_its_clocks_through_nvml() -> None:
    """What one driver does not know is left out; whether clocks are locked is never claimed."""
    library = _Nvml(clocks={1: 1980, 2: 9501})
    assert nvml.clocks(lambda name: library) == {
        "gpu": {"mhz": 1980, "max_mhz": 3960}, "memory": {"mhz": 9501, "max_mhz": 19002},
    }  # fmt: skip
    assert library.closed == 1
    assert nvml.clocks(lambda name: _Nvml()) == {} == nvml.clocks(lambda name: _Nvml(status=9))

    def absent(name: str) -> Any:
        raise OSError("no such library")

    assert nvml.clocks(absent) == {} == nvml.clocks(lambda name: object())


def test_an_empty_tree_is_no_error(tmp_path: Path) -> None:
    """Whatever cannot be read is left out."""
    facts = board.facts(str(tmp_path), str(tmp_path))
    assert "board" not in facts and "power_mode" not in facts and facts["rails"] == []
    assert set(readings.snapshot(str(tmp_path))) == {"at"}


def test_who_else_uses_the_gpu(tmp_path: Path) -> None:
    """By the device files that processes hold open."""
    for pid, name, target in (
        (7, "deepstream-app", "/dev/nvhost-gpu"),
        (8, "bash", "/dev/tty"),
        (9, "x", "/dev/nvidia0"),
    ):
        (tmp_path / f"proc/{pid}/fd").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/comm").write_text(f"{name}\n")
        (tmp_path / f"proc/{pid}/fd/3").symlink_to(target)
    assert board.gpu_users(str(tmp_path)) == ["deepstream-app", "x"]


class _Nvpmodel:
    """`nvpmodel` that changes the status file of a tree; `refuses` is what it says instead."""

    def __init__(self, root: str, refuses: str = "") -> None:
        self.root, self.refuses, self.calls = Path(root), refuses, []  # type: ignore[var-annotated]

    def __call__(self, command: list[str]) -> tuple[int, str]:
        self.calls.append(command)
        if self.refuses:
            return 1, self.refuses
        (self.root / "var/lib/nvpmodel/status").write_text(f"pmode:{int(command[-1]):04d}")
        return 0, ""


def test_a_power_mode_is_set_and_put_back(tmp_path: Path) -> None:
    """Also after a failure; what it was before is kept on disk meanwhile, for a run after a kill."""
    root = write(tmp_path / "root", ORIN_NANO)
    program = _Nvpmodel(root)
    with (
        pytest.raises(ZeroDivisionError),
        power_mode.held("15w", str(tmp_path), root=root, run=program) as mode,
    ):
        assert (mode["id"], mode["name"]) == (0, "15W")
        assert json.loads((tmp_path / "cache/power_mode.json").read_text()) == {"id": 1}
        raise ZeroDivisionError
    assert power_mode.current(root)["name"] == "25W"
    assert [call[-2:] for call in program.calls] == [["-m", "0"], ["-m", "1"]]
    assert not (tmp_path / "cache/power_mode.json").exists()
    with (
        power_mode.held("25W", str(tmp_path), root=root, run=program),
        power_mode.held(None, "", root=root) as mode,
    ):
        assert mode["name"] == "25W"
    assert len(program.calls) == 2, "the mode that it is in is not set again"


def test_a_mode_is_known_with_and_without_its_prefix(tmp_path: Path) -> None:
    """NVIDIA's guide has 15W for what the nvpmodel.conf of an AGX Orin calls MODE_15W."""
    conf = "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=MODE_15W >\n"
    root = write(tmp_path / "root", {**ORIN_NANO, "etc/nvpmodel.conf": conf})
    for number, wanted in enumerate(("15W", "mode_15w", "MODE_15W")):
        program = _Nvpmodel(root)
        with power_mode.held(wanted, str(tmp_path / str(number)), root=root, run=program) as mode:
            assert (mode["id"], mode["name"]) == (1, "MODE_15W")


def test_a_mode_that_a_killed_run_left_is_put_back(tmp_path: Path) -> None:
    """By the next job, though it asks for no mode itself."""
    root = write(tmp_path / "root", ORIN_NANO)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/power_mode.json").write_text('{"id": 2}')
    with power_mode.held(None, str(tmp_path), root=root, run=_Nvpmodel(root)):
        pass
    assert power_mode.current(root)["name"] == "MAXN_SUPER"
    assert not (tmp_path / "cache/power_mode.json").exists()


@pytest.mark.parametrize(
    ("wanted", "refusal", "what", "fix"),
    [
        (
            "15W",
            "sudo: a password is required",
            "power mode 15W cannot be set: sudo: a password",
            "sudo nvpmodel -m 0",
        ),
        (
            "MAXN_SUPER",
            "Reboot required for changing to this power mode: MAXN_SUPER",
            "needs a reboot",
            "answer YES",
        ),
        ("30W", "", "no power mode '30W'", "15W, 25W, MAXN_SUPER"),
    ],
)
def test_a_power_mode_that_cannot_be_had(
    wanted: str, refusal: str, what: str, fix: str, tmp_path: Path
) -> None:
    """One message with the command that helps."""
    root = write(tmp_path / "root", ORIN_NANO)
    held = power_mode.held(wanted, str(tmp_path), root=root, run=_Nvpmodel(root, refusal))
    with pytest.raises(JobError, match=what) as caught, held:
        raise AssertionError("the block must not run")
    assert fix in caught.value.fix


def test_what_nvpmodel_answers() -> None:
    """Name and id on two lines."""
    assert power_mode.parse_query("NV Power Mode: MAXN\n0\n") == {"name": "MAXN", "id": 0}
    assert power_mode.parse_query("NVPM ERROR: ...") == {}
