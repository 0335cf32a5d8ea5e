"""Devices by name, and what lies on them, for people."""

from __future__ import annotations

import time

from export.terminal import one_line
from pipeline.config.problems import did_you_mean
from pipeline.config.schema import DeployConfig
from pipeline.core.address import PASSWORD, URL, Device
from pipeline.core.errors import ConfigError
from pipeline.devices.known import device_of
from pipeline.devices.messages import Inventory


def named_device(name: str, config: DeployConfig | None) -> Device:
    """A device by its URL, or by the name of a config's target.

    Raises:
        ConfigError: there is none of that name.
    """
    targets = {n: device for n, t in config.targets.items() if (device := device_of(t))} if config else {}
    if name in targets:
        return targets[name]
    if PASSWORD.match(name):
        raise ConfigError("an address with a password is refused", fix="use a key: ssh-copy-id installs one")
    if URL.match(name):
        return next((device for device in targets.values() if device.url == name), Device(name))
    if config is not None and name in config.targets:
        fix = (
            f"its devices are {', '.join(targets)}"
            if targets
            else "the config has no target on an ssh:// device"
        )
        raise ConfigError("is this machine, not a device", where=f"targets.{name}", fix=fix)
    fix = "write ssh://[user@]host[:port]" + ("" if config else ", or add -c CONFIG")
    if targets:
        fix = did_you_mean(name, targets)
    raise ConfigError("no such device", where=name, fix=fix)


def describe_inventory(folder: str, free: int, inventory: Inventory, now: float | None = None) -> list[str]:
    """What lies in a work folder with `free` bytes left on its disk, a line each, the largest first."""
    now = time.time() if now is None else now
    entries = sorted(inventory.entries, key=lambda entry: -entry.bytes)
    total = sum(entry.bytes for entry in entries)
    holder = inventory.holder
    running = [job for job, state in inventory.jobs.items() if state == "running"]
    lines = [
        f"{one_line(folder)}: {total / 1e6:.1f} MB in {len(entries)} entries, {free / 1e9:.1f} GB free",
        one_line(holder.words(running)) if holder else "no host works there",
    ]
    for entry in entries:
        state = inventory.jobs.get(entry.name.removeprefix("jobs/"), "")
        days = max(0.0, now - entry.used) / 86400
        name = one_line(f"{entry.name}  {state}".rstrip())
        lines.append(f"{entry.bytes / 1e6:10.1f} MB  {days:5.1f} days ago  {name}")
    return lines
