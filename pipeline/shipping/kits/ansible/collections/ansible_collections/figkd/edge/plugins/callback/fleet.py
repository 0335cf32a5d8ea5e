"""How each device ended: counted as text after the recap, and as JSON where a file is named."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
type: aggregate
short_description: How each device of a rollout ended
description:
  - After the recap, prints how many devices committed, served the release already, failed (and why), were unreachable,
    or were not begun because an earlier wave stopped the rollout.
  - Writes the same, with the facts and releases of each device, as JSON.
requirements:
  - C(callbacks_enabled = figkd.edge.fleet) in ansible.cfg
options:
  output:
    description: File that the JSON is written to. Nothing is written by default.
    type: path
    ini:
      - section: callback_fleet
        key: output
    env:
      - name: FIGKD_FLEET_OUTPUT
"""

import json
import os
import tempfile
from typing import Any

from ansible.plugins.callback import CallbackBase

_TASK = ("figkd.edge.release", "release")
_KEPT = ("outcome", "id", "changed", "exit_code", "msg", "device", "releases", "log")
_ORDER = (
    "committed", "serves already", "rolled back", "serves another", "would install", "queried",
    "taken back", "refused", "unfit", "lacks something", "wrong use", "failed", "unreachable", "not begun",
)  # fmt: skip


class CallbackModule(CallbackBase):  # type: ignore[misc, unused-ignore]
    """See the module."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "figkd.edge.fleet"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._ended: dict[str, dict[str, Any]] = {}
        self._asked: dict[str, None] = {}

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """The hosts of a play; those of later waves are among them."""
        manager = play.get_variable_manager()
        hosts = manager._inventory.get_hosts(play.hosts, ignore_restrictions=True, order=play.order)
        self._asked.update({host.get_name(): None for host in hosts if host.get_name() != "localhost"})

    def v2_runner_on_ok(self, result: Any) -> None:
        """A device that did what was asked."""
        self._note(result, "queried")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A device that did not."""
        self._note(result, "failed", always=True)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A device that was not reached, or was lost: what it does it decides alone."""
        name = result._host.get_name()
        self._ended[name] = {"outcome": "unreachable", "msg": str(result._result.get("msg", ""))}

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The end."""
        if not self._ended:
            return
        devices = {name: self._ended.get(name, {"outcome": "not begun"}) for name in self._asked}
        counts: dict[str, int] = {}
        for one in devices.values():
            counts[one["outcome"]] = counts.get(one["outcome"], 0) + 1
        counts = dict(sorted(counts.items(), key=lambda item: _rank(item[0])))
        self._display.banner("FLEET")
        self._display.display(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
        for name, one in devices.items():
            if _rank(one["outcome"]) >= _rank("taken back"):
                why = " ".join(str(one.get("msg", "")).split())[:300]
                self._display.display(f"  {name}: {one['outcome']}{': ' + why if why else ''}")
        path = self.get_option("output")
        if path:
            _write(str(path), {"format": 1, "counts": counts, "devices": devices})

    def _note(self, result: Any, usual: str, always: bool = False) -> None:
        found = result._result
        if result._task.action in _TASK or always:
            kept = {name: found[name] for name in _KEPT if found.get(name) is not None}
            self._ended[result._host.get_name()] = {"outcome": usual, **kept}


def _rank(outcome: str) -> int:
    return _ORDER.index(outcome) if outcome in _ORDER else _ORDER.index("failed")


def _write(path: str, found: dict[str, Any]) -> None:
    """Whole, or not at all."""
    handle, fresh = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=".fleet-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1, sort_keys=True)
    os.replace(fresh, path)
