"""Protects: what cannot be built is told before training, and `doctor`, `run` and the build say the same of it.

No Jetson has run here: what each JetPack says of itself is written down from its documentation.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import numpy as np
import onnx
import pytest
from annotated_types import Ge, Le
from onnx import TensorProto, helper, numpy_helper

from export.engines import Availability
from export.engines.options import HardwareCompatibility, TensorRTOptions
from export.engines.tensorrt import TensorRTBackend
from export.engines.trt_refusals import Place, planned, refusals
from export.engines.trt_versions import DIALECTS
from export.precision import to_bf16, to_fp16, to_int8_tensorrt
from pipeline.cli.planning import print_plan
from pipeline.config import load_config
from pipeline.config.schema import DeployConfig, Export
from pipeline.core.address import Device
from pipeline.core.errors import ConfigError, DeviceFault, EnvironmentFault
from pipeline.devices.faults import JobFailed
from pipeline.devices.known import KnownDevices
from pipeline.places import device_build
from pipeline.places.device import OnDevice
from pipeline.results.rows.engines import read_engines, write_not_made
from pipeline.run import doctor
from pipeline.run.back_ends import judge, lacks
from pipeline.run.device_check import _back_ends
from pipeline.run.planning import Selection
from pipeline.stages import build
from pipeline.stages.base import Work
from pipeline.stages.precision import onnx_file
from tests.pipeline.conftest import FONTS, ROOT

PLAIN = TensorRTOptions()
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
ALL = set(PRECISIONS)
# L4T, compute capability, TensorRT, and the precisions that are refused there.
JETPACKS: dict[str, tuple[str, str, str, set[str]]] = {
    "5.0.2": ("35.1.0", "SM87", "8.4.1", ALL),
    "5.1 Xavier": ("35.2.1", "SM72", "8.5.2", {"bf16"}),
    "5.1": ("35.2.1", "SM87", "8.5.2", {"bf16"}),
    "6.0": ("36.3.0", "SM87", "8.6.2", {"bf16"}),
    "6.1": ("36.4.0", "SM87", "10.3.0", {"bf16"}),
    "6.2": ("36.4.3", "SM87", "10.3.0", {"bf16"}),
    "7.0": ("38.2.0", "SM110", "10.13.2", {"bf16"}),
    "7.1": ("38.4.0", "SM110", "10.13.3.9", {"bf16"}),
    "7.2 Orin": ("39.2.0", "SM87", "10.16.2", set()),
    "7.2 Thor": ("39.2.0", "SM110", "10.16.2", set()),
}
ACCESS = ("python", "trtexec")


def facts_of(jetpack: str, access_name: str) -> dict[str, Any]:
    """What a board says (job `facts`), as far as it decides; with one of the two access."""
    l4t, capability, version, _ = JETPACKS[jetpack]
    program = access_name == "trtexec"
    return {
        "l4t": l4t,
        "jetpack": jetpack.split()[0],
        "gpu": "Thor" if capability == "SM110" else "Orin",
        "compute_capability": capability,
        "packages": {"numpy": "1.26.4"},
        "machine": "aarch64",
        "tensorrt": {
            "python": "" if program else version,
            "trtexec": "/usr/src/tensorrt/bin/trtexec" if program else "",
            "trtexec_version": version if program else "",
        },
    }


class _One:
    """A device that answers."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts

    def ask(self, devices: Any) -> None:
        pass

    def fault(self, device: Device) -> DeviceFault | None:
        return None

    def facts(self, device: Device) -> dict[str, Any]:
        return self._facts


def config_of(**changes: Any) -> DeployConfig:
    """One target, `orin`, on a device."""
    keys = {
        "targets": "{orin: {engine: tensorrt, device: 'ssh://orin'}}",
        "precision.modes": "[fp32, fp16, bf16, int8]",
        "budgets.engine_mb": "null",
        **changes,
    }
    return load_config(FONTS, [f"{key}={value}" for key, value in keys.items()])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small convolutional network in every precision, named as the stage `precision` names them."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(8, 3, 3, 3)) / 5,
        "v": rng.normal(size=(8, 8, 3, 3)) / 8,
        "fc": rng.normal(size=(8, 5)),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "scale"], ["g"], "scale"),
        helper.make_node("Transpose", ["g"], ["x"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w"], ["a"], "first", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "v"], ["c"], "second", kernel_shape=[3, 3]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], "pool"),
        helper.make_node("Flatten", ["d"], ["e"], "flatten"),
        helper.make_node("Gemm", ["e", "fc"], ["logits"], "fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 16, 16, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
        + [numpy_helper.from_array(np.float32(1 / 255), "scale")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    paths = {precision: folder / onnx_file(precision) for precision in PRECISIONS}
    onnx.save(model, paths["fp32"])
    images = rng.integers(0, 256, (32, 16, 16, 3), dtype=np.uint8)
    to_fp16(paths["fp32"], paths["fp16"])
    to_bf16(paths["fp32"], paths["bf16"])
    to_int8_tensorrt(paths["fp32"], paths["int8"], images)
    (folder / "mixed").mkdir()
    to_int8_tensorrt(paths["fp32"], folder / "mixed" / paths["int8"].name, images, exclude=("second",))
    return folder


REACHED = "the request reached the device"


def what_build_says(
    config: DeployConfig, facts: dict[str, Any], files: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """By precision, why the stage `build` did not ask the device for an engine; empty where it did."""

    @contextmanager
    def session(device: Device, context: Any) -> Iterator[Any]:
        yield SimpleNamespace(device=Device("ssh://orin"), put=lambda path, amount=None: "0" * 64), facts

    def job(*request: Any) -> None:
        raise JobFailed(REACHED)

    monkeypatch.setattr(device_build, "device_session", session)
    monkeypatch.setattr(device_build, "run_job", job)
    (folder / "out").mkdir(parents=True)
    arguments = build.STAGE.arguments(config, "orin")
    inputs = {"precision": files, "qad": folder}
    write_not_made(files, {})
    work = Work(
        arguments, inputs, {}, folder / "out", folder / "scratch", lambda *step: None,
        place=OnDevice(Device("ssh://orin")),
    )  # fmt: skip
    try:
        build.STAGE.run(work)
    except DeviceFault as fault:
        return dict.fromkeys(arguments["precisions"], fault.what)
    return {row.precision: row.detail.replace(REACHED, "") for row in read_engines(folder / "out")}


def what_run_says(config: DeployConfig, facts: dict[str, Any]) -> dict[str, str]:
    """The same of the check before training."""
    verdict = judge(config, ["orin"], cast(KnownDevices, _One(facts)), building=True)
    precisions = build.STAGE.arguments(config, "orin")["precisions"]
    said = dict.fromkeys(precisions, "")
    for fault in verdict.faults:
        assert isinstance(fault, DeviceFault) and fault.where == "targets.orin on orin"
        said = {precision: said[precision] or fault.what for precision in precisions}
    for note in verdict.notes:
        names, _, what = note.removeprefix("targets.orin: ").partition("; its rows")[0].partition(": ")
        said |= dict.fromkeys(names.split(", "), what)
    return said


def what_doctor_says(config: DeployConfig, facts: dict[str, Any]) -> dict[str, str]:
    """The same of `doctor`."""
    precisions = build.STAGE.arguments(config, "orin")["precisions"]
    said = dict.fromkeys(precisions, "")
    findings = list(_back_ends(facts, config, ["orin"]))
    assert {finding.what for finding in findings} == {"tensorrt for orin"}
    for finding in findings:
        if finding.state == "fault":
            said = {precision: said[precision] or finding.found for precision in precisions}
        elif finding.state == "absent":
            names, _, what = finding.found.partition(": ")
            said |= dict.fromkeys(names.split(", "), what)
    return said


@pytest.mark.parametrize("access_name", ACCESS)
@pytest.mark.parametrize("jetpack", list(JETPACKS))
def test_doctor_run_and_build_agree_on_every_jetpack(
    jetpack: str, access_name: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All precisions at once, each alone, and an INT8 file some of whose layers are not INT8."""
    facts, refused = facts_of(jetpack, access_name), JETPACKS[jetpack][3]
    for asked in (PRECISIONS, *((precision,) for precision in PRECISIONS)):
        config = config_of(**{"targets.orin.precisions": f"[{', '.join(asked)}]"})
        said = what_run_says(config, facts)
        assert {precision for precision, what in said.items() if what} == refused & set(asked)
        assert what_doctor_says(config, facts) == said
        assert what_build_says(config, facts, files, tmp_path / "-".join(asked), monkeypatch) == said
    mixed = config_of(**{"targets.orin.precisions": "[int8]"})
    found = what_build_says(mixed, facts, files / "mixed", tmp_path / "mixed", monkeypatch)
    assert found == what_run_says(mixed, facts)


@pytest.mark.parametrize("access_name", ACCESS)
@pytest.mark.parametrize("jetpack", ["5.1 Xavier", "5.1", "6.0", "6.2"])
def test_run_and_build_agree_on_attention(
    jetpack: str, access_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the builder would choose the precisions; before training by the rehearsed graph, then by the file."""
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["k"], "keys", perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["f", "k"], ["a"], "scores"),
        helper.make_node("GlobalAveragePool", ["a"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["logits"], "flatten"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 16, 16, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 16])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / onnx_file("fp32"))
    config, facts = config_of(**{"targets.orin.precisions": "[fp32]"}), facts_of(jetpack, access_name)
    verdict = judge(config, ["orin"], cast(KnownDevices, _One(facts)), building=True, graph=lambda: model)
    said = [fault.what for fault in verdict.faults] or [""]
    assert ("has attention (node scores)" in said[0]) is (jetpack != "6.2") and len(said) == 1
    assert what_build_says(config, facts, tmp_path, tmp_path / "made", monkeypatch) == {"fp32": said[0]}


def test_the_documented_table_is_what_is_refused() -> None:
    """docs/devices.md says "refused" where a build is refused, and nowhere else."""
    text = (ROOT / "docs/devices.md").read_text(encoding="utf-8").split("## Which JetPack builds what", 1)[1]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    documented = {row[0]: row[2:5] for row in rows if row[0][:1].isdigit()}
    assert len(documented) == 6
    for jetpack, (l4t, _, version, refused) in JETPACKS.items():
        number = jetpack.split()[0]
        (row,) = (row for name, row in documented.items() if number in re.findall(r"[\d.]+", name))
        assert version.startswith(row[0]) and l4t
        assert row[1:] == ["refused" if kind in refused else "yes" for kind in ("int8", "bf16")]
        assert len({kind in refused for kind in ("fp32", "fp16", "int8")}) == 1


def _products() -> onnx.ModelProto:
    """A network with attention, as far as its structure decides."""
    nodes = [helper.make_node("MatMul", ["q", "k"], ["a"], "scores")]
    types = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 4]) for name in "qka"]
    return helper.make_model(
        helper.make_graph(nodes, "net", types[:2], types[2:]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )


@pytest.mark.parametrize(
    ("jetpack", "access_name", "fix"),
    [
        ("5.0.2", "trtexec", "update the device to JetPack 5.1 or later"),
        ("5.0.2", "python", "update the device to JetPack 5.1 or later"),
        ("5.1", "trtexec", "choose a convolutional student, or JetPack 6.1 or later"),
        ("5.1", "python", "choose a convolutional student, or JetPack 6.1 or later"),
        ("6.0", "python", "choose a convolutional student, or JetPack 6.1 or later"),
        ("5.1 Xavier", "trtexec", "choose a convolutional student"),
        ("5.1 Xavier", "python", "choose a convolutional student"),
    ],
)
def test_an_old_jetpack_is_refused_in_one_line(jetpack: str, access_name: str, fix: str) -> None:
    """Before training, also where other targets are left: the engine will not be there however long one waits.

    What is too old altogether, and a transformer where the builder would choose the precisions.
    """
    config = config_of(**{"targets.orin.precisions": "[fp32, fp16, int8]"})
    known = cast(KnownDevices, _One(facts_of(jetpack, access_name)))
    (fault,) = judge(config, ["orin"], known, building=True, graph=_products).faults
    assert fault.fix.startswith(fix) and "\n" not in fault.what and int(fault.exit_code) == 5
    assert "Xavier" not in jetpack or fault.fix == fix
    assert judge(config, ["orin"], known, building=False).faults == []
    given = {"targets.orin.required": False, "targets.orin.precisions": "[fp32, fp16, int8]"}
    waived = judge(config_of(**given), ["orin"], known, building=True, graph=_products)
    assert waived.faults == [] and len(waived.notes) == 1 and "its rows will say so" in waived.notes[0]


@pytest.mark.parametrize("engine", ["tensorrt", "tensorrt_rtx"])
def test_a_driver_that_is_too_old_is_told_before_training(
    engine: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a desktop over ssh: `doctor`, the run and the build say the same, with what helps."""
    desktop: dict[str, Any] = {
        "gpu": "NVIDIA GeForce RTX 4090", "driver": "550.54.14", "compute_capability": "SM89", "machine": "x86_64",
        "packages": {"numpy": "2.1.0", "tensorrt_rtx": "1.7.1"}, "cuda_runtime": "13.0",
        "tensorrt": {"python": "10.13.3", "trtexec": "", "trtexec_version": "", "library": "", "version": "10.13.3"},
    }  # fmt: skip
    config = config_of(targets=f"{{orin: {{engine: {engine}, device: 'ssh://orin', precisions: [fp16]}}}}")
    (fault,) = judge(config, ["orin"], cast(KnownDevices, _One(desktop)), building=True).faults
    assert int(fault.exit_code) == 5 and "driver 550.54.14 is too old for CUDA 13.0" in fault.what
    assert "update the driver there" in fault.fix
    (finding,) = _back_ends(desktop, config, ["orin"])
    assert finding.state == "fault" and finding.found == fault.what and finding.fix == fault.fix
    assert what_build_says(config, desktop, files, tmp_path, monkeypatch) == {"fp16": fault.what}
    newer = desktop | {"driver": "580.65.06"}
    assert judge(config, ["orin"], cast(KnownDevices, _One(newer)), building=True).faults == []


@pytest.mark.parametrize(
    ("changes", "version", "access_name", "says"),
    [
        ({"strong_typing": False}, "11.4.1", "python", "always strongly typed"),
        ({"strong_typing": False}, "11.4.1", "trtexec", "always strongly typed"),
        ({"tactic_dram_mb": 64}, "10.3.0", "trtexec", "does not take tactic_dram_mb"),
        ({"tactic_dram_mb": 64}, "10.3.0", "python", ""),
        ({"strong_typing": False}, "10.3.0", "trtexec", ""),
    ],
)
def test_options_of_devices_are_judged_as_those_here(
    changes: dict[str, Any], version: str, access_name: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both by the version there and by its access method."""
    monkeypatch.setitem(JETPACKS, "x", ("39.2.0", "SM87", version, set()))
    given = {f"targets.orin.{key}": value for key, value in changes.items()}
    config = config_of(**{"targets.orin.precisions": "[fp16]", **given})
    found = [lack.what for lack in lacks(config, "orin", facts_of("x", access_name))]
    assert len(found) == bool(says) and all(says in what for what in found)


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "10.16.1", "11.4.0.106"])
def test_the_library_here_is_judged_as_one_on_a_device(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` and `doctor` in the same words, a fault or a note by the same rule."""
    there = Availability(True, True, f"tensorrt {version}", versions={"tensorrt": version})
    monkeypatch.setattr(TensorRTBackend, "availability", lambda self: there)
    monkeypatch.setattr(TensorRTBackend, "place", lambda self: Place(self.name, version, capability="SM89"))
    config = config_of(targets="{pc: {engine: tensorrt}}")
    refused = refusals(
        Place("tensorrt", version, capability="SM89"), PLAIN, [planned(name, 20) for name in PRECISIONS]
    )
    verdict = judge(config, ["pc"], None, building=True)
    found = list(doctor._targets(config, lambda: None))
    whole = [refusal for refusal in refused if set(refusal.precisions) == ALL]
    assert [(fault.what, fault.fix) for fault in verdict.faults] == [(each.what, each.fix) for each in whole]
    assert all(isinstance(fault, EnvironmentFault) for fault in verdict.faults)
    assert len(verdict.faults) + len(verdict.notes) == len(refused) == len(found)
    assert [finding.state for finding in found] == [
        "fault" if each in whole else "absent" for each in refused
    ]
    assert all(each.what in finding.found for each, finding in zip(refused, found, strict=True))


def test_plan_says_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And ends with the code of the device."""
    config = config_of(store=tmp_path)
    for jetpack, code, says in (("5.0.2", 5, "8.4.1 is too old"), ("6.2", 0, "bf16: tensorrt 10.3.0")):
        known = _One(facts_of(jetpack, "python"))
        monkeypatch.setattr("pipeline.run.planning.known_devices", lambda *given, known=known: known)
        assert print_plan(config, Selection(), as_json=False) == code
        told = capsys.readouterr()
        assert says in told.err + told.out


def test_operators_decide_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is only asked for where the library's operators are documented and something is left to be built."""
    asked = []
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Det", ["x"], ["y"], "the_node")],
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )

    def graph() -> onnx.ModelProto:
        asked.append(1)
        return model

    config = config_of(**{"targets.orin.precisions": "[fp16]"})
    (lack,) = lacks(config, "orin", facts_of("6.2", "python"), graph)
    assert "operator Det at node the_node is not supported by TensorRT 10.3" in lack.what
    assert len(asked) == 1
    every = config_of()  # with BF16, which is refused for another reason
    for jetpack in ("5.1", "6.0", "6.2"):
        found = list(lacks(every, "orin", facts_of(jetpack, "python"), graph))
        assert [lack.precisions for lack in found] == [("fp32", "fp16", "int8"), ("bf16",)]
        assert not any(lack.partial for lack in found) and "operator Det" in found[0].what
        known = cast(KnownDevices, _One(facts_of(jetpack, "python")))
        faults = judge(every, ["orin"], known, building=True, graph=graph).faults
        assert [str(lack) for lack in found] == [fault.what for fault in faults]
    asked.clear()
    (lack,) = lacks(config, "orin", facts_of("6.0", "python"), graph)
    assert "operator Det at node the_node is not supported by TensorRT 8.6" in lack.what and len(asked) == 1
    for jetpack, version in (("5.0.2", "8.4.1"), ("7.2 Orin", "10.16.2")):
        assert all(version in lack.what for lack in lacks(config, "orin", facts_of(jetpack, "python"), graph))
    assert len(asked) == 1


def test_every_opset_that_is_advised_can_be_configured() -> None:
    """Over all generations, opsets and precisions: `export with opset N` is one that the config and the parser take."""
    least, most = (
        next(
            getattr(bound, name) for bound in Export.model_fields["opset"].metadata if isinstance(bound, kind)
        )
        for kind, name in ((Ge, "ge"), (Le, "le"))
    )
    advised = 0
    for module, rows in DIALECTS.items():
        for first, _ in rows:
            place = Place(module, ".".join(map(str, first)))
            for opset, precision in itertools.product(range(least, most + 3), PRECISIONS):
                for refusal in refusals(place, PLAIN, [planned(precision, opset)]):
                    for number in map(int, re.findall(r"with opset (\d+)", refusal.fix)):
                        advised += 1
                        assert max(least, 19) <= number <= most
                        assert refusals(place, PLAIN, [planned("int8", number)]) == []
    assert advised > 5


def test_what_no_version_can_do_is_refused_by_the_config() -> None:
    """`config check` knows no library. What it lets pass must be possible somewhere, and the other way round."""
    from pipeline.config import load_config

    for compatible, level, strip, typed in itertools.product(
        (True, False), get_args(HardwareCompatibility), (True, False), (True, False)
    ):
        options = TensorRTOptions(
            strong_typing=typed,
            version_compatible=compatible,
            hardware_compatibility=level,
            strip_weights=strip,
        )
        places = [Place("tensorrt", ".".join(map(str, first))) for first, _ in DIALECTS["tensorrt"]]
        possible = any(not refusals(place, options, []) for place in places)
        given = {
            "version_compatible": compatible, "hardware_compatibility": level, "strip_weights": strip,
            "strong_typing": typed,
        }  # fmt: skip
        keys = [f"targets.pc.{key}={str(value).lower()}" for key, value in given.items()]
        try:
            load_config(FONTS, ["targets.pc.engine=tensorrt", *keys])
            accepted = True
        except ConfigError:
            accepted = False
        assert accepted is possible, given
