"""A bundle on this machine: checked before anything of it is sent."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from export.runtime.bundle import BundleRefused, Manifest, open_bundle
from export.runtime.bundle.errors import BundleError
from export.runtime.bundle.manifest import NAME
from export.runtime.bundle.verify import Choice, signatures_of
from export.runtime.files import sha256
from export.runtime.install.disk import LocalDisk
from export.runtime.install.errors import InstallError, Refused
from export.runtime.install.site import BUNDLE
from export.runtime.install.source import stage
from export.runtime.install.tar import TarSource
from pipeline.core.errors import BundleFault, EnvironmentFault


@dataclass(frozen=True)
class LocalBundle:
    """A bundle that was verified here."""

    manifest: Manifest
    files: dict[str, Path]
    """Every file by its sha256 (hex), signatures included."""
    signatures: dict[str, str]
    """`KEY.sig` to sha256."""

    @property
    def words(self) -> str:
        """What messages call it."""
        return f"{self.manifest.name} {self.manifest.release[:12]}, sequence {self.manifest.sequence}"


@contextlib.contextmanager
def local_bundle(path: Path, trust: Choice) -> Iterator[LocalBundle]:
    """A bundle's folder or tar file, opened for shipping.

    Args:
        path: of the folder or tar file.
        trust: whose signatures count here.

    Raises:
        BundleFault: it is damaged, changed, or not signed as `trust` asks for.
        EnvironmentFault: it cannot be read, or unpacked.
    """
    with contextlib.ExitStack() as stack:
        try:
            if path.is_file():
                unpacked = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="figkd-ship-"))) / "b"
                stage(LocalDisk(), TarSource(str(path)), str(unpacked))
                folder = unpacked / BUNDLE
            else:
                folder = path.resolve()
            yield _opened(folder, trust)
        except BundleRefused as error:
            raise BundleFault(error.what, where=str(path), fix=error.fix) from None
        except Refused as error:
            raise BundleFault(error.what, where=str(path), fix=error.fix) from None
        except (BundleError, InstallError) as error:
            raise EnvironmentFault(error.what, where=str(path), fix=error.fix) from None


def _opened(folder: Path, trust: Choice) -> LocalBundle:
    manifest = open_bundle(folder, trust).manifest
    files = {entry.sha256: folder / name for name, entry in manifest.files.items()}
    files[manifest.release] = folder / NAME
    signatures = {}
    for name in signatures_of(str(folder)):
        path = folder.with_name(name)
        signatures[name.removeprefix(folder.name + ".")] = digest = sha256(path)
        files[digest] = path
    return LocalBundle(manifest, files, signatures)
