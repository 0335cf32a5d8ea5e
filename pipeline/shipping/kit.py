"""`ship kit`: files for Ansible and Mender, written into a folder of the user's."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.faults import environment_fault

KITS = ("ansible", "mender")
_PROGRAMS = ("figkd-bundle",)


def write_kit(name: str, folder: Path) -> list[Path]:
    """Write a kit into a folder that does not exist or is empty.

    Args:
        name: one of `KITS`.
        folder: where.

    Returns:
        The files.

    Raises:
        ConfigError: there is something in the folder.
        EnvironmentFault: it cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError("there is something already", where=str(folder), fix="give another folder")
        return _copied(files("pipeline.shipping.kits") / name, folder)
    except OSError as error:
        raise environment_fault(error, str(folder)) from None


def _copied(source: Traversable, target: Path) -> list[Path]:
    target.mkdir(parents=True, exist_ok=True)
    found = []
    for entry in sorted(source.iterdir(), key=lambda one: one.name):
        path = target / entry.name
        if entry.is_dir():
            found += _copied(entry, path) if entry.name != "__pycache__" else []
        else:
            path.write_bytes(entry.read_bytes())
            path.chmod(0o755 if entry.name in _PROGRAMS else 0o644)
            found.append(path)
    return found
