"""The update module, called by the real Mender client in stand-alone mode (Debian's mender-client 3.4)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.shipping.kit import write_kit
from tests.export.runtime.install.made import entries_of, tar_of
from tests.pipeline.shipping.made import FAILS, bundle_at

pytestmark = pytest.mark.slow
MODULES = Path("/usr/share/mender/modules/v3")


class Client:
    """The client with data of its own; our module takes the place of the installed ones, for it alone."""

    def __init__(self, place: Path) -> None:
        self.place, self.root = place, place / "releases"
        write_kit("mender", place / "kit")
        settings = place / "mender.json"
        settings.write_text(f'{{"root": "{self.root}", "unsigned": true, "options": ["--window", "0"]}}')
        for name in ("data", "etc", "modules"):
            (place / name).mkdir()
        (place / "data/device_type").write_text("device_type=test\n")
        (place / "etc/mender.conf").write_text("{}")
        (place / "etc/artifact_info").write_text("artifact_name=none\n")
        module = place / "modules/figkd-bundle"
        shutil.copy(place / "kit/figkd-bundle", module)
        module.write_text(module.read_text().replace("/etc/figkd/mender.json", str(settings)))

    def artifact(self, name: str, bundle: Path) -> Path:
        """An artifact as kits/mender/README.md makes it."""
        tar, out = self.place / f"{name}.tar", self.place / f"{name}.mender"
        tar.write_bytes(tar_of(entries_of(str(bundle))))
        words = ["-T", "figkd-bundle", "-t", "test", "-n", name, "-f", str(tar), "-o", str(out)]
        subprocess.run(["mender-artifact", "write", "module-image", *words], check=True, capture_output=True)
        return out

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The client, in a mount namespace in which our module is installed."""
        mender = 'mender -d "$1/data" --no-syslog "${@:2}"'
        script = f'mount --bind "$1/modules" {MODULES} && mount --bind "$1/etc" /etc/mender && exec {mender}'
        command = ["unshare", "-m", "bash", "-c", script, "client", str(self.place), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    @property
    def serves(self) -> str:
        """Id of the release that is linked."""
        return (self.root / "current").readlink().name


@pytest.fixture
def client(tmp_path: Path) -> Client:
    if not shutil.which("mender") or not shutil.which("mender-artifact"):
        pytest.skip("the Mender client is not installed (apt install mender-client mender-artifact)")
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("a mount namespace needs root")
    return Client(tmp_path)


def test_install_commit_and_roll_back(client: Client, tmp_path: Path) -> None:
    one = client.artifact("one", bundle_at(tmp_path / "b1", 1))
    two = client.artifact("two", bundle_at(tmp_path / "b2", 2))
    bad = client.artifact("bad", bundle_at(tmp_path / "b3", 3, FAILS))
    done = client.call("install", str(one))
    assert done.returncode == 0, done.stdout + done.stderr
    first = client.serves
    assert client.call("commit").returncode == 0
    assert client.call("install", str(two)).returncode == 0
    assert client.serves != first
    assert client.call("rollback").returncode == 0
    assert client.serves == first
    assert client.call("install", str(two)).returncode == 0 and client.call("commit").returncode == 0
    second = client.serves
    done = client.call("install", str(bad))
    assert done.returncode != 0 and "label b instead of a" in done.stdout + done.stderr
    assert client.serves == second != first
    assert "two" in client.call("show-artifact").stdout
