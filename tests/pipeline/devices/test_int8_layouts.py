"""Protects: the CPU on which an engine will run decides its INT8 file, not the one that makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import load_config
from pipeline.config.schema import DeployConfig
from pipeline.core.store import Recipe
from pipeline.devices.known import KnownDevices
from pipeline.devices.session import Session
from pipeline.places import int8_layouts as module
from pipeline.places.int8_layouts import int8_layouts, undecided
from pipeline.stages import build, precision, qad
from tests.pipeline.conftest import FONTS
from tests.pipeline.devices.sshd import Sshd

ARM = {"machine": "aarch64", "cpu_features": ["asimd", "asimddp"]}


def config_of(server: Sshd, count: int = 1) -> DeployConfig:
    """The demonstration with targets on the server's device beside those of this machine."""
    remote = f"folder: '{server.folder}', ssh_config: '{server.config}', python: '{server.device().python}'"
    where = f"{{engine: onnxruntime, device: '{server.url}', remote: {{{remote}}}}}"
    return load_config(FONTS, [f"targets.there{i}={where}" for i in range(count)])


def say(monkeypatch: pytest.MonkeyPatch, here: list[str], **there: Any) -> None:
    """What this machine's CPU can do, and what the device says of its own (its facts are else real)."""
    facts = Session.facts
    monkeypatch.setattr(module, "architecture", lambda: "x86_64")
    monkeypatch.setattr(module, "cpu_features", lambda: here)
    monkeypatch.setattr(Session, "facts", lambda self: {**facts(self), **there})


def key(stage: Any, config: DeployConfig, target: str, layouts: dict[str, str]) -> str:
    arguments = stage.arguments(config, target) | stage.layout_arguments(config, target, layouts)
    return Recipe(stage.name, stage.version, arguments, {}, {}).key


def test_the_device_decides_and_the_key_says_so(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host without VNNI costs an ARM board no bit, nor does its VNNI spare another x86 one."""
    config = config_of(sshd)
    with monkeypatch.context() as patch:
        say(patch, ["avx2"], **ARM)
        found = int8_layouts(config, KnownDevices(tmp_path / "a"))
    assert found == {"cpu": "u8s8_7bit", "rtx": "tensorrt", "there0": "s8s8"}
    with monkeypatch.context() as patch:
        say(patch, ["avx2", "avx512_vnni"], machine="x86_64", cpu_features=["avx2"])
        other = int8_layouts(config, KnownDevices(tmp_path / "b"))
    assert other == {"cpu": "u8s8", "rtx": "tensorrt", "there0": "u8s8_7bit"}
    for stage, target in ((precision.STAGE, ""), (qad.STAGE, ""), (build.STAGE, "there0")):
        assert key(stage, config, target, found) != key(stage, config, target, other), stage.name
    # Targets of one layout share a file, and a config that has them one artifact, whichever machine is which.
    swapped = {"cpu": found["there0"], "rtx": "tensorrt", "there0": found["cpu"]}
    assert key(precision.STAGE, config, "", found) == key(precision.STAGE, config, "", swapped)
    rows = [build.STAGE.layout_arguments(config, t, found) for t in ("cpu", "there0")]  # type: ignore[misc]
    assert rows == [{"int8_layout": "u8s8_7bit"}, {"int8_layout": "s8s8"}]


def test_a_device_that_is_off_is_as_it_was_and_an_unknown_one_decides_nothing(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan without the device finds the same artifacts; without any facts its target is named."""
    config = config_of(sshd)
    with monkeypatch.context() as patch:
        say(patch, [], **ARM)
        found = int8_layouts(config, KnownDevices(tmp_path / "known"))
        sshd.stop()
        assert int8_layouts(config, KnownDevices(tmp_path / "known")) == found
        unknown = KnownDevices(tmp_path / "empty")
        assert "there0" not in int8_layouts(config, unknown) and undecided(config, unknown) == {"there0"}


def test_facts_of_an_earlier_version_give_what_is_exact_everywhere(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They say nothing of the CPU's features."""
    say(monkeypatch, [], machine="x86_64", cpu_features=[])
    assert int8_layouts(config_of(sshd), KnownDevices(tmp_path))["there0"] == "u8s8_7bit"
