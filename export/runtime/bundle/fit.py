"""Which engine of a bundle this machine takes: the first that fits, the same each time; and why not those before it."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass

from ..cpu import features_in
from ..errors import ExportError
from ..readings import l4t_release, read
from .errors import CannotRun
from .manifest import EngineEntry, Manifest

_FIX = "take the bundle that was made for this machine"


class HostMachine:
    """This machine, looked at only as far as an engine asks."""

    def architecture(self) -> str:
        """As the system tells it."""
        return platform.machine()

    def l4t(self) -> str:
        """Release of NVIDIA's board support package; empty elsewhere."""
        return l4t_release()

    def cpu_features(self) -> list[str]:
        """Those that decide a file."""
        return features_in(read("/", "proc/cpuinfo"))

    def compute_capability(self) -> str:
        """Of the GPU, such as `SM87`.

        Raises:
            ExportError: there is none, or no library for it.
        """
        from .. import cudart

        return "SM%d%d" % cudart.required().compute_capability()

    def has(self, package: str) -> bool:
        """Whether it is installed."""
        return importlib.util.find_spec(package) is not None

    def version(self, package: str) -> str:
        """Of an installed package; empty where it cannot be imported."""
        try:
            return str(getattr(__import__(package), "__version__", ""))
        except Exception:  # the loader says what is missing
            return ""


@dataclass(frozen=True)
class Chosen:
    """The engine that a machine takes."""

    entry: EngineEntry
    passed: tuple[str, ...] = ()
    """Why not those before it, a sentence each."""

    @property
    def words(self) -> tuple[str, ...]:
        """Which it is and why not those before it, a line each; nothing where there was no choice."""
        return (*self.passed, "takes the engine %s" % self.entry.name) if self.entry.name else ()


def choose(manifest: Manifest, here: HostMachine | None = None) -> Chosen:
    """The first engine that fits.

    Args:
        manifest: of the bundle.
        here: the machine; None: this one.

    Raises:
        CannotRun: none does; says of each why.
    """
    here = here or HostMachine()
    if len(manifest.engines) == 1:
        return Chosen(_only(manifest.engines[0], here))
    passed: list[str] = []
    for entry in manifest.engines:
        try:
            found = _differs(entry, here) or _missing(entry, here) or _bound(entry, here)
        except ExportError as error:
            found = ["needs a GPU: %s" % error.what]
        if not found:
            return Chosen(entry, tuple(passed))
        passed.append("%s %s" % (entry.name, " and ".join(found)))
    raise CannotRun("none of the bundle's engines fits this machine: %s" % "; ".join(passed), _FIX)


def _only(entry: EngineEntry, here: HostMachine) -> EngineEntry:
    """Where there is nothing to choose, a library that is missing is left to its loader, which knows what helps."""
    try:
        found = _differs(entry, here) or _bound(entry, here)
    except ExportError as error:
        raise CannotRun(error.what, error.fix) from error
    if found:
        raise CannotRun("the engine %s" % " and ".join(found), _FIX)
    return entry


def _differs(entry: EngineEntry, here: HostMachine) -> list[str]:
    """What a look at the system tells."""
    needs, found = entry.needs, []
    if needs.architecture not in ("", here.architecture()):
        found.append("is for %s, this machine is %s" % (needs.architecture, here.architecture()))
    if needs.l4t not in ("", here.l4t()):
        found.append("is for L4T %s, here is %s" % (needs.l4t, here.l4t() or "none"))
    if needs.cpu_features and not set(needs.cpu_features).intersection(here.cpu_features()):
        found.append("is for a CPU with %s" % " or ".join(needs.cpu_features))
    return found


def _missing(entry: EngineEntry, here: HostMachine) -> list[str]:
    return (
        []
        if here.has(entry.backend)
        else ["needs %s, which is not installed for this Python" % entry.backend]
    )


def _bound(entry: EngineEntry, here: HostMachine) -> list[str]:
    """What its GPU and its library tell."""
    needs, found = entry.needs, []
    for package, version in sorted(needs.versions.items()):
        there = here.version(package)
        if there and there != version:
            found.append("is for %s %s, here is %s" % (package, version, there))
    if entry.backend != "onnxruntime":
        gpu = here.compute_capability()
        if needs.compute_capability and gpu not in needs.compute_capability:
            found.append("is for %s, the GPU here is %s" % (" or ".join(needs.compute_capability), gpu))
    return found
