#!/usr/bin/python
# -*- coding: utf-8 -*-
"""Install, roll back or list the releases of a device, by the program that every bundle brings along."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Install a bundle of figkd-pipeline on a device, roll it back, or list what is installed
description:
  - The device verifies the bundle, runs its self-test while the old release serves, switches, watches the new release,
    and commits it or takes it back. It decides alone, also if the controller or the connection is lost.
  - A release that serves already is left alone; nothing is sent.
  - Of several bundles the device takes the first one that it can run. If there is none, nothing is sent.
options:
  state:
    description:
      - C(installed) installs O(bundle).
      - C(rolled_back) goes back to O(to), or away from O(away_from).
      - C(queried) only reports what is installed.
    choices: [installed, rolled_back, queried]
    default: installed
    type: str
  bundle:
    description: Bundles on the controller, each a tar file or a folder. Required for C(state=installed).
    type: list
    elements: path
  to:
    description: The release to go back to, by (the beginning of) its id. It was committed on the device before.
    type: str
  away_from:
    description: A release that must not serve, by its id. Where another one serves, nothing is done.
    type: str
  root:
    description: Folder of the releases on the device. Default C(/var/lib/figkd) for root, else C(~/.local/share/figkd).
    type: path
  trust:
    description: File on the device that says whose signatures count. By default the device's own.
    type: path
  unsigned:
    description: Accept the bundle without checking who made it.
    type: bool
    default: false
  window:
    description: Seconds for which a release is watched before it is committed.
    type: float
  load:
    description: Seconds in which a runtime takes the release up.
    type: float
  p99_ms:
    description: The slowest 99th percentile of latency while it is watched, in milliseconds.
    type: float
  self_test_s:
    description: Seconds that the self-test may take.
    type: float
  memory_mb:
    description: Resident memory that the self-test may take, in MB.
    type: int
  wait:
    description: Seconds to wait for another install on the device, such as one whose controller was lost.
    type: float
    default: 600
  incoming:
    description: Folder on the device, of the user who connects, that bundles are sent to.
    type: str
    default: ~/.cache/figkd-incoming
  archive:
    description: The bundle on the device. Set by the action plugin.
    type: path
  candidates:
    description: What the bundles need. Set by the action plugin.
    type: list
    elements: dict
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Install a bundle
  figkd.edge.release:
    bundle: bundles/photos-cpu-3f9a41c07d22.tar

- name: Install the bundle that fits, and watch it for five minutes
  figkd.edge.release:
    bundle:
      - bundles/photos-orin-81c2d0a4e11f.tar
      - bundles/photos-cpu-3f9a41c07d22.tar
    window: 300

- name: See that a bad release serves nowhere
  figkd.edge.release:
    state: rolled_back
    away_from: 3f9a41c07d22
"""

RETURN = r"""
outcome:
  description: >-
    C(committed), C(serves already), C(rolled back), C(queried); on failure C(refused), C(taken back), C(unfit),
    C(lacks something) or C(wrong use).
  returned: always
  type: str
id:
  description: The release that serves now.
  returned: when one does
  type: str
device:
  description: Architecture, GPU, L4T, versions of the packages that the bundles need, free bytes.
  returned: with state=installed
  type: dict
releases:
  description: What C(run.pyz status --json) prints.
  returned: when anything is installed
  type: dict
exit_code:
  description: Of the program on the device.
  returned: on failure
  type: int
"""

import json
import os
import re
import sys
import tarfile
import time
from typing import Any, Dict, List, NoReturn, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.figkd.edge.plugins.module_utils.machine import facts_of, held, lacks, lacks_room

PROGRAM = "run.pyz"
_SENT = re.compile(r"[0-9a-f]{64}\.tar\Z")
_OUTCOMES = {1: "taken back", 2: "wrong use", 4: "lacks something", 6: "refused", 130: "taken back"}
_POLL_S = 1.0
_MOST_PROGRAM = 64 << 20


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["installed", "rolled_back", "queried", "planned"], "default": "installed"},
            "bundle": {"type": "list", "elements": "path"},
            "to": {},
            "away_from": {},
            "root": {"type": "path"},
            "trust": {"type": "path"},
            "unsigned": {"type": "bool", "default": False},
            "window": {"type": "float"},
            "load": {"type": "float"},
            "p99_ms": {"type": "float"},
            "self_test_s": {"type": "float"},
            "memory_mb": {"type": "int"},
            "wait": {"type": "float", "default": 600.0},
            "incoming": {"default": "~/.cache/figkd-incoming"},
            "archive": {"type": "path"},
            "candidates": {"type": "list", "elements": "dict"},
        },
        mutually_exclusive=[("trust", "unsigned"), ("to", "away_from")],
        supports_check_mode=True,
    )
    device = Device(module)
    {
        "installed": device.install,
        "rolled_back": device.roll_back,
        "queried": device.query,
        "planned": device.plan,
    }[module.params["state"]]()


class Device:
    """The releases of this device."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._given = module.params
        usual = "/var/lib/figkd" if os.geteuid() == 0 else os.path.expanduser("~/.local/share/figkd")
        self._root: str = self._given["root"] or usual

    def query(self) -> None:
        """What is installed; changes nothing."""
        self._end(False, "queried", self._status())

    def plan(self) -> None:
        """Which of the candidates the device takes, and whether that one serves already; changes nothing."""
        found = self._idle_status()
        facts = facts_of(self._given["candidates"], self._root)
        faults = {one["id"]: lacks(one, facts) for one in self._given["candidates"]}
        chosen = next((one for one in self._given["candidates"] if not faults[one["id"]]), None)
        room = lacks_room(chosen, facts) if chosen else []
        serves = found.get("serves") if found else None
        self._module.exit_json(
            changed=False,
            chosen=chosen and chosen["id"],
            lacks=faults,
            room=room,
            serves=serves,
            device=facts,
            releases=found,
        )

    def install(self) -> None:
        """Install the bundle that was sent."""
        before = self._status()
        archive = self._given["archive"]
        if not archive:
            self._module.fail_json(msg="`bundle` is missing: give a bundle's tar file or folder")
        options = []
        for name in ("window", "load", "p99_ms", "self_test_s", "memory_mb"):
            if self._given[name] is not None:
                options += ["--" + name.replace("_", "-"), str(self._given[name])]
        try:
            bundle = held(archive, self._module.tmpdir)
        except FileNotFoundError:
            self._module.fail_json(msg="the bundle that was sent is gone", outcome="gone")
        try:
            program = self._program() or self._unpacked(bundle)
            answer = self._call(program, ["install", bundle, *options], wait=True)
        finally:
            _clean(os.path.dirname(archive))
        outcome = "committed" if answer.get("is_new") else "serves already"
        self._end(bool(answer.get("is_new")), outcome, self._status(), before)

    def roll_back(self) -> None:
        """Go back to a release, or away from one; where that is so already, change nothing."""
        to, away_from = self._given["to"], self._given["away_from"]
        if not to and not away_from:
            self._module.fail_json(msg="give `to` or `away_from`: going back twice would go back too far")
        before = self._idle_status()
        serves = str((before or {}).get("serves") or "")
        if (away_from and not serves.startswith(away_from)) or (to and serves.startswith(to)):
            self._end(False, "serves already" if to else "serves another", before)
        if self._module.check_mode:
            target = to or (before or {}).get("previous") or "nothing"
            self._module.exit_json(
                changed=True, outcome="rolled back", id=target, **_diff(serves, target, before)
            )
        self._call(self._program(), ["rollback", *(["--to", to] if to else [])], wait=True)
        self._end(True, "rolled back", self._status(), before)

    def _status(self) -> Optional[Dict[str, Any]]:
        """What the program says; None where nothing is installed, or the state is damaged: an install repairs it."""
        if not os.path.isfile(os.path.join(self._root, "state.json")) or not self._program():
            return None
        code, answer, err = self._run(self._program(), ["status"])
        if code not in (0, 4):
            self._fail(
                code, str(answer.get("error") or err.strip() or "no word"), answer.get("fix"), known=None
            )
        return answer if code == 0 else None

    def _idle_status(self) -> Optional[Dict[str, Any]]:
        """The status once no install is at work, since that one may still be taken back."""
        end = time.monotonic() + (0.0 if self._module.check_mode else self._given["wait"])
        found = self._status()
        while found and found.get("at_work") and time.monotonic() < end:
            time.sleep(_POLL_S)
            found = self._status()
        return found

    def _program(self) -> str:
        """Of the release that serves, which the device verified by its own trust; empty where there is none."""
        path = os.path.join(self._root, "current", "bundle", PROGRAM)
        return path if os.path.isfile(path) else ""

    def _unpacked(self, archive: str) -> str:
        """The program of the bundle itself, for the first install."""
        path = os.path.join(self._module.tmpdir, PROGRAM)
        try:
            with tarfile.open(archive, "r:") as content:
                for entry in content:
                    if (
                        entry.isfile()
                        and entry.name.split("/")[1:] == [PROGRAM]
                        and entry.size < _MOST_PROGRAM
                    ):
                        source = content.extractfile(entry)
                        with open(path, "wb") as file:
                            file.write(source.read() if source else b"")
                        return path
        except (OSError, tarfile.TarError) as error:
            self._fail(6, "the bundle cannot be read: {}".format(error))
        self._fail(6, "the bundle has no {}".format(PROGRAM))

    def _call(self, program: str, words: List[str], wait: bool) -> Dict[str, Any]:
        """What the program prints; while another install holds the lock, it is called again until `wait` is over."""
        end = time.monotonic() + (self._given["wait"] if wait else 0.0)
        while True:
            code, answer, err = self._run(program, words)
            if code == 0:
                return answer
            if code != 4 or "at work" not in str(answer.get("error")) or time.monotonic() > end:
                break
            time.sleep(_POLL_S)
        said = str(answer.get("error") or err.strip() or "no word")
        self._fail(code, said, answer.get("fix"), err, self._status() if code != 2 else None)

    def _run(self, program: str, words: List[str]) -> Tuple[int, Dict[str, Any], str]:
        """Exit code, answer and log of the program."""
        trust = ["--unsigned"] if self._given["unsigned"] else []
        trust += ["--trust", self._given["trust"]] if self._given["trust"] else []
        command = [sys.executable, "-B", program, *words, "--root", self._root, "--json", *trust]
        code, out, err = self._module.run_command(command, cwd="/")
        return code, _parsed(out), err

    def _fail(
        self,
        code: int,
        what: str,
        fix: Optional[str] = None,
        log: str = "",
        known: Optional[Dict[str, Any]] = None,
    ) -> NoReturn:
        words = "{}; fix: {}".format(what, fix) if fix else what
        self._module.fail_json(
            msg=words,
            outcome=_OUTCOMES.get(code, "failed"),
            exit_code=code,
            id=(known or {}).get("serves"),
            releases=known,
            log=log.splitlines()[-20:],
        )
        raise AssertionError

    def _end(
        self,
        changed: bool,
        outcome: str,
        found: Optional[Dict[str, Any]],
        before: Optional[Dict[str, Any]] = None,
    ) -> NoReturn:
        serves = (found or {}).get("serves")
        more = _diff((before or {}).get("serves"), serves, found, before) if changed else {}
        self._module.exit_json(changed=changed, outcome=outcome, id=serves, releases=found, **more)
        raise AssertionError


def _diff(before: Any, after: Any, *known: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    return {"diff": {"before": _words(before, known), "after": _words(after, known)}}


def _words(id: Any, known: Tuple[Optional[Dict[str, Any]], ...]) -> str:
    for status in known:
        for one in (status or {}).get("releases", ()):
            if id and one["id"].startswith(id):
                return "{} {}, sequence {}\n".format(one["name"], one["id"][:12], one["sequence"])
    return "{}\n".format(str(id)[:12] if id else "no release")


def _parsed(out: str) -> Dict[str, Any]:
    try:
        found = json.loads(out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}


def _clean(folder: str) -> None:
    """Remove what was sent, by this controller or by one that was lost."""
    try:
        for name in os.listdir(folder):
            if _SENT.match(name):
                os.unlink(os.path.join(folder, name))
    except OSError:
        pass


if __name__ == "__main__":
    main()
