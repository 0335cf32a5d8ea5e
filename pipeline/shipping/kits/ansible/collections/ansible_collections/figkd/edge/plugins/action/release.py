"""The controller's half of `figkd.edge.release`: the device says which bundle it takes; that one is sent if need be."""

from __future__ import annotations

import hashlib
import io
import json
import os
import posixpath
import re
import shlex
import tarfile
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

_MODULE = "figkd.edge.release"
_MANIFEST = "manifest.json"
_MOST_MANIFEST = 1 << 20
_INCOMING = "~/.cache/figkd-incoming"
_ATTEMPTS = 3
_AGAIN = "give a bundle's tar file or folder, as `figkd-pipeline bundle` writes it"


@dataclass(frozen=True)
class _Bundle:
    """A bundle on the controller; the device verifies it, here it is only looked at."""

    path: str
    id: str
    words: str
    channel: str
    sequence: int
    bytes: int
    engines: list[dict[str, Any]]

    @property
    def candidate(self) -> dict[str, Any]:
        return {"id": self.id, "engines": self.engines, "bytes": self.bytes}


class ActionModule(ActionBase):  # type: ignore[misc, unused-ignore]
    """See the module."""

    TRANSFERS_FILES = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Run the task on one device."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        arguments = {name: value for name, value in self._task.args.items() if name not in _OURS}
        for name in _OURS & set(self._task.args) - {"bundle", "incoming"}:
            raise AnsibleActionFail(f"`{name}` is not for tasks; see ansible-doc {_MODULE}")
        if arguments.get("state", "installed") != "installed":
            return {**result, **self._module(arguments, task_vars)}
        bundles = [_read(self._local(path)) for path in _listed(self._task.args.get("bundle"))]
        if not bundles:
            raise AnsibleActionFail(f"`bundle` is missing: {_AGAIN}")
        plan = self._module(
            {**arguments, "state": "planned", "candidates": [one.candidate for one in bundles]}, task_vars
        )
        if plan.get("failed") or plan.get("unreachable"):
            return {**result, **plan}
        return {**result, **self._install(arguments, bundles, plan, task_vars), "device": plan["device"]}

    def _install(
        self, arguments: dict[str, Any], bundles: list[_Bundle], plan: dict[str, Any], task_vars: Any
    ) -> dict[str, Any]:
        serving = next((one for one in bundles if one.id == plan["serves"]), None)
        chosen = serving or next((one for one in bundles if one.id == plan["chosen"]), None)
        known = {"releases": plan["releases"], "id": plan["serves"]}
        if chosen is None:
            reasons = "; ".join(f"{one.words}: {', '.join(plan['lacks'][one.id])}" for one in bundles)
            return {"failed": True, "outcome": "unfit", "msg": f"nothing was sent: {reasons}", **known}
        if serving is None and plan["room"]:
            words = f"nothing was sent: {chosen.words}: {plan['room'][0]}"
            return {"failed": True, "outcome": "lacks something", "msg": words, **known}
        if serving is not None:
            return {"changed": False, "outcome": "serves already", **known}
        if self._task.check_mode:
            return _foreseen(chosen, plan)
        done: dict[str, Any] = {}
        for _ in range(_ATTEMPTS):
            archive = self._send(chosen, self._task.args.get("incoming", _INCOMING))
            done = self._module({**arguments, "state": "installed", "archive": archive}, task_vars)
            if done.get("outcome") != "gone":
                break  # else the install of a controller that was lost ended, and removed it
        return done

    def _send(self, bundle: _Bundle, folder: str) -> str:
        """Bring the bundle into a folder that is for the connecting user alone; its path there."""
        folder = self._remote_expand_user(folder, sudoable=False)
        path = posixpath.join(folder, f"{bundle.id}.tar")
        with _archive(bundle) as local:
            quoted, name = shlex.quote(folder), shlex.quote(posixpath.basename(path))
            made = self._low_level_execute_command(
                f"umask 077 && mkdir -p {quoted} && test -O {quoted} && chmod 700 {quoted} && cd {quoted} && "
                f"{{ sha256sum {name} 2>/dev/null || true; }}",
                sudoable=False,
            )
            if made["rc"] != 0:
                raise AnsibleActionFail(f"{folder} cannot be made on the device: {made['stderr'].strip()}")
            if _sha256(local) not in made["stdout"]:
                self._transfer_file(local, path)
        return path

    def _local(self, path: str) -> str:
        return str(self._loader.path_dwim(path))

    def _module(self, arguments: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._execute_module(
            module_name=_MODULE, module_args=arguments, task_vars=task_vars
        )
        return found


_OURS = {"bundle", "incoming", "archive", "candidates"}


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else [str(value)] if value else []


def _read(path: str) -> _Bundle:
    try:
        manifest, size = _of_folder(path) if os.path.isdir(path) else _of_tar(path)
        found = json.loads(manifest)
        words = f"{found['name']} {found['target']} {hashlib.sha256(manifest).hexdigest()[:12]}"
        if not isinstance(found["sequence"], int):
            raise ValueError("its manifest is none")
        return _Bundle(
            path,
            hashlib.sha256(manifest).hexdigest(),
            words,
            str(found["channel"]),
            found["sequence"],
            size,
            _engines(found),
        )
    except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        raise AnsibleActionFail(f"{path} is no bundle: {error}; {_AGAIN}") from None


def _engines(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Name, back end and needs of each engine; of format 1 there is one."""
    if manifest["format"] == 1:
        return [{"name": "", "backend": str(manifest["engine"]["backend"]), "needs": dict(manifest["needs"])}]
    return [
        {"name": str(one["name"]), "backend": str(one["backend"]), "needs": dict(one["needs"])}
        for one in manifest["engines"]
    ]


def _of_folder(path: str) -> tuple[bytes, int]:
    with open(os.path.join(path, _MANIFEST), "rb") as file:
        manifest = file.read(_MOST_MANIFEST)
    return manifest, sum(size for _, _, size in _files(path))


def _of_tar(path: str) -> tuple[bytes, int]:
    with tarfile.open(path, "r:") as archive:
        for entry in archive:
            if entry.isfile() and entry.name.split("/")[1:] == [_MANIFEST] and entry.size <= _MOST_MANIFEST:
                content = archive.extractfile(entry)
                assert content is not None
                return content.read(), os.path.getsize(path)
    raise ValueError(f"it has no {_MANIFEST}")


def _files(folder: str) -> list[tuple[str, str, int]]:
    """Path, name in a tar file and size of a bundle's files and of the signatures beside it."""
    above, top = os.path.split(os.path.abspath(folder))
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            inside = os.path.relpath(path, folder).replace(os.sep, "/")
            found.append((path, f"{top}/{inside}", os.path.getsize(path)))
    signature = re.compile(re.escape(top) + r"\.[0-9a-f]{8,64}\.sig\Z")
    for name in os.listdir(above):
        if signature.match(name):
            path = os.path.join(above, name)
            found.append((path, name, os.path.getsize(path)))
    return sorted(found, key=lambda one: one[1])


class _archive:
    """A bundle as one tar file: itself, or a temporary one of the folder."""

    def __init__(self, bundle: _Bundle) -> None:
        self._path = bundle.path
        self._made = ""

    def __enter__(self) -> str:
        if not os.path.isdir(self._path):
            return self._path
        handle, self._made = tempfile.mkstemp(prefix="figkd-", suffix=".tar")
        with (
            os.fdopen(handle, "wb") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for path, name, _ in _files(self._path):
                with open(path, "rb") as content:
                    data = content.read()
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o644
                archive.addfile(entry, io.BytesIO(data))
        return self._made

    def __exit__(self, *error: object) -> None:
        if self._made:
            with suppress(OSError):
                os.unlink(self._made)


def _foreseen(chosen: _Bundle, plan: dict[str, Any]) -> dict[str, Any]:
    """What check mode says: nothing was sent, so nothing was verified."""
    known = (plan["releases"] or {}).get("releases", [])
    before = next((one for one in known if one["id"] == plan["serves"]), None)
    words = f"{before['name']} {before['id'][:12]}, sequence {before['sequence']}" if before else "no release"
    found: dict[str, Any] = {
        "changed": True,
        "outcome": "would install",
        "id": plan["serves"],
        "releases": plan["releases"],
        "diff": {"before": words + "\n", "after": f"{chosen.words}, sequence {chosen.sequence}\n"},
    }
    highest = max((one["sequence"] for one in known if one["channel"] == chosen.channel), default=0)
    if highest > chosen.sequence:
        found["warnings"] = [
            f"sequence {chosen.sequence} is older than {highest}, which was committed on the device"
        ]
    return found


def _sha256(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()
