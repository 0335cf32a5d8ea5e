"""A fleet by Ansible: waves, check mode, a link down, a full disk, a self-test that fails, a slow device, a lost host.

ansible-core, real sshds in network namespaces, the playbooks and the collection as `ship kit ansible` writes them. The
same with 20 devices and 50 kills is benchmarks/fleet_by_ansible.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from export.runtime.files import sha256
from pipeline.shipping.kit import write_kit
from tests.pipeline.shipping.fleet import Fleet, bundle, fleet_of, needed
from tests.pipeline.shipping.made import several_at

pytestmark = pytest.mark.slow
WAVES = '{"figkd_waves": [1, "40%", "100%"], "figkd_max_fail_percentage": 67}'


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    if shutil.which("ansible-playbook") is None:
        pytest.skip("Ansible is not installed (pip install figkd-pipeline[ansible])")
    if missing := needed():
        pytest.skip(missing)
    write_kit("ansible", tmp_path / "kit")
    with fleet_of(5, tmp_path / "kit", full=[5]) as found:
        yield found


def test_a_rollout_in_waves(fleet: Fleet, tmp_path: Path) -> None:
    one, two, three = (bundle(tmp_path / f"b{n}", n) for n in (1, 2, 3))
    cams = {machine.name: machine for machine in fleet.machines}

    done = fleet.play("ship.yml", "-e", f"figkd_bundle={one}", "--check", "--diff", "--limit", "cam1")
    assert "+small cpu" in done.stdout and "sequence 1" in done.stdout, done.stdout + done.stderr
    assert not cams["cam1"].state and not cams["cam1"].litter, "check mode changes nothing"

    done = fleet.play("ship.yml", "-e", f"figkd_bundle={one}", "-e", WAVES)
    assert done.returncode == 2, done.stdout
    good = ("cam1", "cam2", "cam3", "cam4")
    assert fleet.outcomes() == {**dict.fromkeys(good, "committed"), "cam5": "lacks something"}
    first = cams["cam1"].serves
    assert first and {cam.serves for cam in cams.values()} == {first, None}
    facts = json.loads((fleet.place / "kit/fleet.json").read_text())["devices"]["cam2"]
    assert facts["device"]["architecture"] and facts["releases"]["serves"] == first

    cams["cam2"].folder.joinpath("SLOW").touch()
    cams["cam3"].folder.joinpath("FAILS").touch()
    fleet.link(cams["cam4"], up=False)
    done = fleet.play("ship.yml", "-e", f"figkd_bundle={two}", "-e", WAVES)
    assert done.returncode != 0
    assert fleet.outcomes() == {
        "cam1": "committed", "cam2": "committed", "cam3": "taken back", "cam4": "unreachable",
        "cam5": "lacks something",
    }, done.stdout  # fmt: skip
    assert (
        "unreachable=1" in done.stdout
        and "2 committed, 1 taken back, 1 lacks something, 1 unreachable" in done.stdout
    )
    assert cams["cam3"].serves == cams["cam4"].serves == first != cams["cam1"].serves == cams["cam2"].serves

    fleet.link(cams["cam4"], up=True)
    cams["cam3"].folder.joinpath("FAILS").unlink()
    for after_s in (2.5, 5.0, 7.5):  # the host is lost while devices work
        fleet.play_and_kill("ship.yml", "-e", f"figkd_bundle={three}", "-e", WAVES, after_s=after_s)
    fleet.play("ship.yml", "-e", f"figkd_bundle={three}", "-e", WAVES)
    assert {cams[name].serves for name in good} == {sha256(three / "manifest.json")}, fleet.outcomes()
    assert not any(cam.litter for cam in cams.values())


def test_a_bad_release_stops_at_the_first_device(fleet: Fleet, tmp_path: Path) -> None:
    one, four = bundle(tmp_path / "b1", 1), bundle(tmp_path / "b4", 4)
    bad = bundle(tmp_path / "b2", 2, self_test='print("label b instead of a"); sys.exit(1)')
    needs = {"architecture": "riscv64", "compute_capability": [], "l4t": "", "versions": {}}
    other = bundle(tmp_path / "b3", 3, needs=needs)
    first, cam1 = sha256(one / "manifest.json"), fleet.machines[0]

    fleet.play("ship.yml", "-e", f"figkd_bundle={one}", "--limit", "cam1")
    assert fleet.play("ship.yml", "-e", f"figkd_bundle={bad}").returncode == 2
    assert list(fleet.outcomes().values()) == ["taken back", *["not begun"] * 4]
    assert [machine.serves for machine in fleet.machines] == [first, None, None, None, None]

    done = fleet.play("ship.yml", "-e", json.dumps({"figkd_bundle": [str(other)]}), "--limit", "cam1")
    assert fleet.outcomes()["cam1"] == "unfit" and "the engine is for riscv64" in done.stdout
    several = several_at(tmp_path / "b5", 3, {"architecture": "riscv64"}, {"cpu_features": ["no_such"]})
    done = fleet.play("ship.yml", "-e", json.dumps({"figkd_bundle": [str(several)]}), "--limit", "cam1")
    assert fleet.outcomes()["cam1"] == "unfit"
    assert "first: its CPU is " in done.stdout and "second: its CPU has no no_such" in done.stdout
    chosen = json.dumps({"figkd_bundle": [str(other), str(four)]})
    assert fleet.play("ship.yml", "-e", chosen, "--limit", "cam1").returncode == 0
    newest = sha256(four / "manifest.json")
    assert cam1.serves == newest
    for changed in (1, 0):
        done = fleet.play("rollback.yml", "-e", f"figkd_away_from={newest}", "--limit", "cam1")
        assert done.returncode == 0 and f"changed={changed}" in done.stdout, done.stdout
        assert cam1.serves == first
