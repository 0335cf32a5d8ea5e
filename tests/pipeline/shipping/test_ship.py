"""A bundle reaches a device, only what is missing is sent, and the device decides; once over a real sshd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from export.runtime.bundle import UNSIGNED
from pipeline.core.address import Device
from pipeline.core.errors import BundleFault, DeviceFault, TakenBack
from pipeline.devices.session import Session, connect
from pipeline.shipping.bundle import local_bundle
from pipeline.shipping.messages import Status
from pipeline.shipping.ship import Shipped, There, rollback, ship, status
from pipeline.shipping.views import status_lines
from tests.export.runtime.install.made import entries_of, tar_of
from tests.pipeline.devices.conftest import sshd  # noqa: F401
from tests.pipeline.devices.sshd import Sshd
from tests.pipeline.shipping.made import FAILS, bundle_at, several_at


@pytest.fixture
def device(tmp_path: Path) -> Device:
    import sys

    return Device("local", folder=str(tmp_path / "work"), python=sys.executable, silence_s=5)


@pytest.fixture
def session(device: Device) -> Iterator[Session]:
    with connect(device) as found:
        yield found


@pytest.fixture
def there(tmp_path: Path) -> There:
    return There(str(tmp_path / "releases"), ("--unsigned",))


def _ship(session: Session, path: Path, there: There, said: list[str] | None = None) -> Shipped:
    with local_bundle(path, UNSIGNED) as bundle:
        return ship(session, [bundle], there, (said if said is not None else []).append)


def test_ship_status_rollback(session: Session, there: There, tmp_path: Path) -> None:
    one = _ship(session, bundle_at(tmp_path / "b1", 1), there)
    said: list[str] = []
    two = _ship(session, bundle_at(tmp_path / "b2", 2), there, said)
    assert "sending manifest.json" in said and any(line.startswith("self-test passed") for line in said)
    assert not any("fp32.onnx" in line for line in said), "the engine is there already"
    found = status(session, there)
    assert (found.serves, found.previous) == (two.id, one.id)
    assert rollback(session, there, None).id == one.id
    lines = status_lines("here", status(session, there))
    assert [line.split()[1] for line in lines[1:]] == ["rolled", "serves"]
    assert not os.listdir(tmp_path / "work/blobs"), "a release holds the files, once"
    assert os.readlink(tmp_path / "releases/current") == f"releases/{one.id}"


def test_a_second_ship_of_the_same_bundle_sends_next_to_nothing(
    device: Device, there: There, tmp_path: Path
) -> None:
    path = bundle_at(tmp_path / "b1", 1, engine=os.urandom(300_000))
    with connect(device) as session:
        first = _ship(session, path, there)
    with connect(device) as session:
        second = _ship(session, path, there)
    assert first.is_new and not second.is_new
    assert first.sent > 300_000 and second.sent <= 5_000, second.sent


def test_a_tar_file_is_shipped_as_the_folder_is(session: Session, there: There, tmp_path: Path) -> None:
    folder = bundle_at(tmp_path / "b1", 1)
    (tmp_path / "b1.tar").write_bytes(tar_of(entries_of(str(folder))))
    with local_bundle(tmp_path / "b1.tar", UNSIGNED) as packed, local_bundle(folder, UNSIGNED) as plain:
        assert packed.manifest.release == plain.manifest.release
        assert ship(session, [packed], there, lambda text: None).is_new


def test_what_the_device_refuses_or_takes_back(session: Session, there: There, tmp_path: Path) -> None:
    serves = _ship(session, bundle_at(tmp_path / "b2", 2), there).id
    with pytest.raises(BundleFault, match="sequence 1 of small is older than 2"):
        _ship(session, bundle_at(tmp_path / "b1", 1), there)
    with pytest.raises(TakenBack, match="image 3: label b instead of a"):
        _ship(session, bundle_at(tmp_path / "b3", 3, FAILS), there)
    assert status(session, there).serves == serves


def test_a_bundle_that_does_not_fit_is_not_sent(session: Session, there: There, tmp_path: Path) -> None:
    needs = {
        "architecture": "riscv64",
        "compute_capability": ["SM87"],
        "l4t": "",
        "versions": {"tensorrt": "10.3.0"},
    }
    said: list[str] = []
    with pytest.raises(DeviceFault, match=r"its CPU is .*, the engine is for riscv64; its GPU is") as caught:
        _ship(session, bundle_at(tmp_path / "b1", 1, needs=needs), there, said)
    assert "its tensorrt is" in caught.value.what and not said


def test_of_several_bundles_a_device_gets_the_one_that_runs_there(
    session: Session, there: There, tmp_path: Path
) -> None:
    needs = {"architecture": "riscv64", "compute_capability": [], "l4t": "", "versions": {}}
    other, fits = bundle_at(tmp_path / "b1", 1, needs=needs), bundle_at(tmp_path / "b2", 2)
    with local_bundle(other, UNSIGNED) as one, local_bundle(fits, UNSIGNED) as two:
        assert ship(session, [one, two], there, lambda text: None).id == two.manifest.release


def test_of_several_engines_one_must_run_there_before_anything_is_sent(
    session: Session, there: There, tmp_path: Path
) -> None:
    facts = session.facts()
    first = several_at(tmp_path / "b1", 1, {"architecture": "riscv64"}, {"cpu_features": ["no_such"]})
    said: list[str] = []
    with pytest.raises(DeviceFault, match=r"first: its CPU is .* riscv64; second: its CPU has no no_such"):
        _ship(session, first, there, said)
    assert not said
    fits = several_at(tmp_path / "b2", 2, {"architecture": "riscv64"}, {"architecture": facts["machine"]})
    assert _ship(session, fits, there, said).is_new
    assert any(line.startswith("first is for riscv64") for line in said) and "takes the engine second" in said


def test_a_damaged_bundle_is_refused_here(tmp_path: Path) -> None:
    folder = bundle_at(tmp_path / "b1", 1)
    (folder / "labels.json").write_bytes(b"[]")
    with pytest.raises(BundleFault, match=r"labels\.json"), local_bundle(folder, UNSIGNED):
        pass
    (tmp_path / "b.tar").write_bytes(b"no tar file" * 100)
    with pytest.raises(BundleFault, match="no tar file"), local_bundle(tmp_path / "b.tar", UNSIGNED):
        pass


def test_status_compares_answers_with_the_reference() -> None:
    reference = {"confidence": [0] * 31 + [1000], "classes": [500, 500]}
    found = {
        "root": "/r", "serves": "a" * 64, "active": "a" * 64, "previous": None, "trial": None, "at_work": False,
        "bytes": 1, "releases": [], "failed": {}, "runtimes": [],
    }  # fmt: skip

    def said(counted: dict[str, object], reference: object = reference) -> str:
        outputs = {"days": 7, "counted": counted, "reference": reference}
        return "\n".join(status_lines("cam1", Status.model_validate({**found, "outputs": outputs})))

    assert "answers in 7 days: 1000 images, as on validation images" in said(reference)
    changed = said({"confidence": [0] * 31 + [1000], "classes": [900, 100]})
    assert (
        "NOT as on validation images" in changed and "classes     40.0 % moved, p 7.7e-85  differs" in changed
    )
    assert "confidence  0.0 % moved, p 1" in changed
    assert "too few to compare" in said({"confidence": [0] * 31 + [9], "classes": [4, 5]})
    assert "the bundle has no reference" in said(reference, None)
    assert status_lines("cam1", Status.model_validate(found)), "runtimes of earlier versions count nothing"


def test_a_device_without_releases(session: Session, there: There) -> None:
    with pytest.raises(DeviceFault, match="nothing was installed in"):
        status(session, there)


def test_over_a_real_sshd(sshd: Sshd, there: There, tmp_path: Path) -> None:  # noqa: F811
    path = bundle_at(tmp_path / "b1", 1, engine=os.urandom(300_000))
    with connect(sshd.device()) as session:
        assert _ship(session, path, there).is_new
    with connect(sshd.device()) as session:
        assert _ship(session, path, there).sent <= 5_000
        assert status(session, there).serves
