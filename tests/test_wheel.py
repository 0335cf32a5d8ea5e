"""What a user installs: a wheel in an environment of its own, with no working copy in sight."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from figkd_pipeline import PACKAGES
from tests.pipeline.conftest import FONTS, ROOT, TINY, sets

pytestmark = pytest.mark.slow
OURS = (*PACKAGES, "figkd_pipeline")


@dataclass(frozen=True)
class Installed:
    """A wheel and the environment that it is installed in."""

    wheel: Path
    scripts: Path
    packages: Path

    def run(
        self, *words: str | Path, cwd: Path, path: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A program of the environment; `path` is its PYTHONPATH."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment |= {"OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": str(path)} if path else {})
        program, *arguments = map(str, words)
        return subprocess.run(
            [str(self.scripts / program), *arguments],
            cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=500,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built from a copy, since a build leaves files behind; torch and its like come from this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in OURS:
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # The network is needed only where the build's own setuptools is not here.
    here = ["--no-build-isolation"] if _setuptools() >= 77 else []
    build = [*pip, "wheel", "--no-deps", *here, "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    paths = sysconfig.get_paths("venv", vars={"base": str(folder / "venv"), "platbase": str(folder / "venv")})
    packages, scripts = Path(paths["purelib"]), Path(paths["scripts"])
    # A plain entry: the .pth files of that folder, an editable install of ours among them, are not read.
    (packages / "heavy.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [*pip, "--python", str(scripts / "python"), "install", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*install, "--force-reinstall", str(wheel)], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return Installed(wheel, scripts, packages)


def _setuptools() -> int:
    try:
        return int(version("setuptools").split(".")[0])
    except ModuleNotFoundError:
        return 0


def test_every_file_of_the_packages_is_in_the_wheel(installed: Installed) -> None:
    """Templates, `py.typed`, the agent's sources: whatever git tracks in a package, and nothing else."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", *OURS], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git working copy")
    with zipfile.ZipFile(installed.wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    assert names == set(listed.stdout.split())


def test_the_installed_command_runs_the_demonstration(installed: Installed, tmp_path: Path) -> None:
    """In an empty folder, with one config file, beside a user's own folders of the same names."""
    code = f"import {', '.join(OURS)}; print(*(m.__file__ for m in ({', '.join(OURS)})), sep='\\n')"
    done = installed.run("python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [Path(line).parent.parent for line in done.stdout.split()] == [installed.packages] * len(OURS)

    shutil.copy(FONTS, tmp_path)
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a folder of the user')\n")
    small = sets(TINY | {"teacher.epochs": 1, "distill.epochs": 1, "targets.rtx": "null"})
    done = installed.run("figkd-pipeline", "run", "--json", FONTS.name, *small, cwd=tmp_path, path=tmp_path)
    # One epoch may guess, which is exit code 3.
    assert done.returncode == 0 or "no better than guessing" in done.stderr, done.stderr
    assert {engine["state"] for engine in json.loads(done.stdout)["engines"]} == {"ran"}
    runs = tmp_path / "runs" / FONTS.stem
    assert {"report.html", "report.md", "result.json"} <= {path.name for path in runs.iterdir()}


def test_torchrun_finds_the_installed_packages(installed: Installed, tmp_path: Path) -> None:
    """`torchrun -m` puts the working directory first, as `python -m` does."""
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a folder of the user')\n")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m", "figkd_pipeline"]
    done = installed.run("python", *launch, "config", "check", FONTS, cwd=tmp_path, path=tmp_path)
    assert done.returncode == 0 and "ok" in done.stdout, done.stderr


def test_an_engine_is_built_beside_a_folder_called_export(installed: Installed, tmp_path: Path) -> None:
    """docs/engines.md: `python -P -m export` there."""
    (tmp_path / "export").mkdir()
    (tmp_path / "export/__main__.py").write_text("raise RuntimeError('a folder of the user')\n")
    done = installed.run("python", "-P", "-m", "export", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "python -m export" in done.stdout, done.stderr
