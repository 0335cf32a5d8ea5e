"""What `ship kit` writes: complete, never over something else, and in agreement with the rest of the project.

The playbooks are run in test_ansible.py, the real Mender client in test_mender.py.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from export.runtime.bundle.manifest import Needs
from export.runtime.readings import l4t_release
from pipeline.cli.entry import execute
from pipeline.core.errors import EnvironmentFault
from pipeline.shipping.kit import KITS, write_kit
from tests.export.runtime.install.made import entries_of, tar_of
from tests.pipeline.shipping.made import FAILS, bundle_at

EDGE = "collections/ansible_collections/figkd/edge"


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kits")
    for name in KITS:
        assert execute(["ship", "kit", name, str(place / name)]) == 0
    return place


def test_the_kits_are_whole(kits: Path) -> None:
    ansible = {str(path.relative_to(kits / "ansible")) for path in (kits / "ansible").rglob("*.*")}
    assert ansible >= {
        "ansible.cfg", "inventory.yml", "ship.yml", "status.yml", "rollback.yml", f"{EDGE}/galaxy.yml",
        f"{EDGE}/plugins/modules/release.py", f"{EDGE}/plugins/action/release.py", f"{EDGE}/plugins/callback/fleet.py",
        f"{EDGE}/roles/ship/tasks/main.yml", f"{EDGE}/roles/ship/meta/argument_specs.yml",
    }  # fmt: skip
    assert not [name for name in ansible if "__pycache__" in name]
    assert (kits / "mender/figkd-bundle").stat().st_mode & 0o111


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "inventory.yml").write_text("mine")
    assert execute(["ship", "kit", "ansible", str(tmp_path)]) == 2
    assert "there is something already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["inventory.yml"]
    assert execute(["ship", "kit", "helm", str(tmp_path / "new")]) == 2
    with pytest.raises(EnvironmentFault):
        write_kit("mender", Path("/proc/none"))


def test_what_runs_on_devices_is_python_3_8(kits: Path) -> None:
    names = [kits / "mender/figkd-bundle", *(kits / f"ansible/{EDGE}/plugins").rglob("module*/*.py")]
    assert len(names) == 3
    for path in names:
        ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.fixture(scope="module")
def machine(kits: Path) -> ModuleType:
    path = kits / f"ansible/{EDGE}/plugins/module_utils/machine.py"
    spec = importlib.util.spec_from_file_location("figkd_machine", path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_facts_of_a_device(machine: ModuleType, tmp_path: Path) -> None:
    needs = {"versions": {"numpy": "1", "no-such-package": "1"}, "compute_capability": ["SM87"]}
    engine = {"name": "", "backend": "tensorrt", "needs": needs}
    facts = machine.facts_of([{"engines": [engine]}], str(tmp_path / "not/there"))
    assert facts["cpu_features"] and "tensorrt" not in facts["versions"]
    assert facts["l4t"] == l4t_release()
    assert facts["versions"]["numpy"] == __import__("numpy").__version__
    assert facts["versions"]["no-such-package"] == ""
    assert re.fullmatch(r"(SM\d+)?", facts["compute_capability"]) and facts["free_bytes"] > 0


@pytest.mark.parametrize(
    ("needs", "lacking"),
    [
        ({"architecture": "", "compute_capability": [], "l4t": "", "versions": {}}, []),
        ({"architecture": "x86_64"}, ["its CPU is aarch64, the engine is for x86_64"]),
        ({"compute_capability": ["SM72", "SM87"], "l4t": "36.4.3", "versions": {"tensorrt": "10.3.0"}}, []),
        ({"compute_capability": ["SM72"]}, ["its GPU is SM87, the engine is for SM72"]),
        ({"l4t": "35.1"}, ["its L4T is 36.4.3, the engine is for 35.1"]),
        ({"cpu_features": ["asimddp", "i8mm"]}, ["its CPU has no asimddp or i8mm"]),
        ({"versions": {"onnxruntime": "1.20"}}, ["its onnxruntime is missing, the engine is for 1.20"]),
    ],
)
def test_what_a_device_lacks(machine: ModuleType, needs: dict[str, object], lacking: list[str]) -> None:
    """In the words of `figkd-pipeline ship`, for the keys that a manifest has."""
    facts = {
        "architecture": "aarch64", "cpu_features": ["asimd"], "compute_capability": "SM87", "l4t": "36.4.3",
        "versions": {"tensorrt": "10.3.0"}, "free_bytes": 100 << 20,
    }  # fmt: skip
    engine = {"name": "first", "backend": "tensorrt", "needs": needs}
    assert machine.lacks({"engines": [engine]}, facts) == lacking
    other = {"name": "other", "backend": "onnxruntime", "needs": {}}
    several = [f"first: {line}" for line in lacking]
    found = machine.lacks({"engines": [engine, other]}, facts)
    assert found == ([*several, "other: its Python has no onnxruntime"] if lacking else [])
    assert not machine.lacks({"engines": [other, engine]}, {**facts, "versions": {"onnxruntime": "1.20"}})
    assert set(needs) <= set(Needs.__dataclass_fields__)
    assert not machine.lacks_room({"bytes": 1}, facts)
    assert machine.lacks_room({"bytes": 60 << 20}, facts) == ["143 MB are needed, 105 MB are free"]


def test_what_was_sent_stays_while_it_is_installed(machine: ModuleType, tmp_path: Path) -> None:
    """The install of a controller that was lost removes what was sent, also while the next one works with it."""
    (tmp_path / "own").mkdir()
    sent = tmp_path / "b.tar"
    sent.write_bytes(b"bundle")
    ours = Path(machine.held(str(sent), str(tmp_path / "own")))
    sent.unlink()
    assert ours.parent == tmp_path / "own" and ours.read_bytes() == b"bundle"
    with pytest.raises(FileNotFoundError):
        machine.held(str(sent), str(tmp_path / "own"))


class Mender:
    """The protocol of update modules, version 3, as its documentation has it: a folder with `files` and `tmp`."""

    def __init__(self, module: Path, place: Path) -> None:
        self.root = place / "releases"
        settings = place / "mender.json"
        settings.write_text(
            json.dumps({"root": str(self.root), "unsigned": True, "options": ["--window", "0"]})
        )
        self._module = place / "figkd-bundle"
        self._module.write_text(module.read_text().replace("/etc/figkd/mender.json", str(settings)))
        self._place = place
        self._count = 0
        self.settings = settings

    def artifact(self, bundle: Path) -> Path:
        """What the client makes before `ArtifactInstall`, with the payload that it stored itself."""
        self._count += 1
        tree = self._place / f"tree{self._count}"
        for name in ("files", "tmp", "header"):
            (tree / name).mkdir(parents=True)
        (tree / "files/bundle.tar").write_bytes(tar_of(entries_of(str(bundle))))
        return tree

    def call(self, state: str, tree: Path) -> subprocess.CompletedProcess[str]:
        """One state."""
        return subprocess.run(
            [sys.executable, str(self._module), state, str(tree)], cwd=tree, capture_output=True, text=True
        )

    @property
    def serves(self) -> str:
        """Id of the release that is linked."""
        return (self.root / "current").readlink().name


@pytest.fixture
def mender(kits: Path, tmp_path: Path) -> Mender:
    return Mender(kits / "mender/figkd-bundle", tmp_path)


def test_an_update_by_mender_and_back(mender: Mender, tmp_path: Path) -> None:
    one = mender.artifact(bundle_at(tmp_path / "b1", 1))
    assert mender.call("SupportsRollback", one).stdout == "Yes\n"
    assert mender.call("NeedsArtifactReboot", one).stdout == "No\n"
    for state in ("Download", "ArtifactInstall", "ArtifactCommit", "Cleanup"):
        done = mender.call(state, one)
        assert done.returncode == 0, done.stderr
    first = mender.serves
    two = mender.artifact(bundle_at(tmp_path / "b2", 2))
    assert mender.call("ArtifactInstall", two).returncode == 0
    assert mender.serves != first
    for _ in range(2):  # Mender calls it again after a restart
        assert mender.call("ArtifactRollback", two).returncode == 0
        assert mender.serves == first
    assert "serves, and not" in mender.call("ArtifactCommit", two).stderr
    assert mender.call("ArtifactFailure", two).returncode == mender.call("Cleanup", two).returncode == 0


def test_a_release_that_fails_by_mender(mender: Mender, tmp_path: Path) -> None:
    bad = mender.artifact(bundle_at(tmp_path / "b1", 1, FAILS))
    done = mender.call("ArtifactInstall", bad)
    assert done.returncode == 1 and "image 3: label b instead of a (exit code 1)" in done.stderr
    assert mender.call("ArtifactRollback", bad).returncode == 0, "there is nothing to go back to"
    good = mender.artifact(bundle_at(tmp_path / "b2", 2))
    assert mender.call("ArtifactInstall", good).returncode == 0
    assert mender.call("ArtifactRollback", good).stderr.endswith("goes on\n"), "a verified model beats none"
    assert mender.serves
    (good / "files/bundle.tar").write_bytes(b"no tar file" * 100)
    assert mender.call("ArtifactInstall", good).returncode == 1
    mender.settings.write_text('{"trusts": "x"}')
    assert "`trusts` is unknown" in mender.call("ArtifactInstall", bad).stderr
    assert mender.call("Nonsense", bad).returncode == 0, "states that later clients have"
