"""`device`: what lies on a device, and taking it away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from export.terminal import one_line
from pipeline.cli.options import JSON, SET, common, load

if TYPE_CHECKING:
    from pipeline.core.address import Device


@click.group()
def device() -> None:
    """List what is stored on the devices of a config, and clean them.

    DEVICE is ssh://[user@]host[:port], or the name of a target with -c CONFIG, which also knows the target's
    `remote` settings.
    """


_DEVICE = click.argument("device_name", metavar="DEVICE")
_OF = click.option(
    "-c", "--config", "config_path", type=click.Path(path_type=Path), metavar="CONFIG",
    help="The config that DEVICE is a target of.",
)  # fmt: skip


@device.command("show")
@common(_DEVICE, _OF, SET, JSON)
def device_show(
    device_name: str, config_path: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """List the work folder of a device, and the host that uses it."""
    from pipeline.core.terminal import print_json, stdout
    from pipeline.devices.housekeeping import describe_inventory
    from pipeline.devices.session import connect

    with connect(_named_device(device_name, config_path, overrides), note=_say) as session:
        folder, free, inventory = session.hello.folder, session.hello.free, session.inventory()
    if as_json:
        known = inventory.model_dump(include={"entries", "jobs", "holder"})
        print_json(json.dumps({"folder": folder, "free": free, **known}, indent=1))
        return
    for line in describe_inventory(folder, free, inventory):
        stdout().say(line, hang=2)


@device.command("clean")
@common(_DEVICE, _OF, SET, JSON)
@click.option("--force", is_flag=True, help="Also end what runs there, whoever started it.")
def device_clean(
    device_name: str, config_path: Path | None, overrides: tuple[str, ...], as_json: bool, force: bool
) -> None:
    """Remove the work folder from a device, with all that is in it."""
    from pipeline.core.terminal import print_json, stdout
    from pipeline.devices.session import connect

    with connect(_named_device(device_name, config_path, overrides), note=_say) as session:
        folder = session.hello.folder
        done = session.clean(force=force)
    if as_json:
        document = {"folder": folder, "removed": done.removed, "left": done.left}
        print_json(json.dumps(document, indent=1))
        return
    left = f"; not ours, and left: {', '.join(map(one_line, done.left))}" if done.left else ""
    stdout().say(f"{one_line(folder)}: {done.removed / 1e6:.1f} MB removed{left}", hang=2)


def _named_device(name: str, config_path: Path | None, overrides: tuple[str, ...]) -> Device:
    from pipeline.devices.housekeeping import named_device

    return named_device(name, load(config_path, overrides) if config_path else None)


def _say(text: str) -> None:
    from pipeline.core.terminal import stderr

    stderr().say(text, label="note: ")
