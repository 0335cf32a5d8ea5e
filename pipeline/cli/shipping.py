"""`ship`: a bundle to devices, what is installed there, and back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.cli.options import JSON, SET, common, load

if TYPE_CHECKING:
    from pipeline.core.address import Device
    from pipeline.devices.session import Session
    from pipeline.shipping.rollout import Ended
    from pipeline.shipping.ship import Shipped, There

T = TypeVar("T")


class _Ship(click.Group):
    """`ship BUNDLE DEVICE...` is `ship to BUNDLE DEVICE...`."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["to", *args]
        return super().parse_args(context, args)


@click.group(
    cls=_Ship, options_metavar="", subcommand_metavar="BUNDLE|CONFIG DEVICE... | status | rollback | kit"
)
def ship() -> None:
    """Install a bundle on devices, show what is installed, and roll back.

    DEVICE is ssh://[user@]host[:port], or the name of a target with -c CONFIG. The device works
    alone: it verifies the bundle, tests it, switches to it, watches it, and rolls back if it does not do well.
    """


_DEVICES = click.argument("names", metavar="DEVICE...", nargs=-1, required=True)
_OF = click.option(
    "-c", "--config", "config_path", type=click.Path(path_type=Path), metavar="CONFIG",
    help="The config that DEVICE is a target of.",
)  # fmt: skip
_ROOT = click.option("--root", default="", metavar="FOLDER", help="Folder of the releases on the device.")
_TRUST = click.option(
    "--device-trust", default="", metavar="FILE",
    help="Whose signatures count there; a file on the device (default: its own).",
)  # fmt: skip
_UNSIGNED = click.option("--unsigned", is_flag=True, help="Accept the bundle without checking who made it.")


@ship.command("to")
@click.argument("path", metavar="BUNDLE|CONFIG", type=click.Path(path_type=Path, exists=True))
@common(_DEVICES, _OF, SET, _ROOT, _TRUST, _UNSIGNED, JSON)
@click.option("--trust", "trust_path", default=None, metavar="FILE", help="Whose signatures count here.")
@click.option("--canary", is_flag=True, help="The first device commits before the others begin.")
@click.option("--parallel", default=8, type=click.IntRange(1, 64), help="Devices at the same time.")
@click.option("--window", type=click.FloatRange(0, 86_400), help="Seconds for which a release is watched.")
@click.option("--p99-ms", type=click.FloatRange(0), help="Slowest 99th percentile of latency while watched.")
def ship_to(
    path: Path,
    names: tuple[str, ...],
    config_path: Path | None,
    overrides: tuple[str, ...],
    root: str,
    device_trust: str,
    unsigned: bool,
    as_json: bool,
    trust_path: str | None,
    canary: bool,
    parallel: int,
    window: float | None,
    p99_ms: float | None,
) -> None:
    """Install a bundle (a folder or a tar file), or what the run of a config ships, on devices.

    Of a config's bundles, one for each target, a device gets the one that runs there.
    """
    from contextlib import ExitStack

    from pipeline.shipping.bundle import local_bundle
    from pipeline.shipping.rollout import exit_code, roll_out
    from pipeline.shipping.ship import options_of
    from pipeline.shipping.ship import ship as ship_one

    is_config = path.suffix in (".yaml", ".yml")
    devices = _named(names, config_path or (path if is_config else None), overrides)
    there = _there(root, device_trust, unsigned, options_of(window, p99_ms))
    trust = _trust(trust_path, unsigned)
    with ExitStack() as opened:
        paths = _of_config(path, overrides) if is_config else [path]
        bundles = [opened.enter_context(local_bundle(one, trust)) for one in paths]
        for bundle in bundles:
            _note(bundle.words)

        def install(session: Session) -> Shipped:
            return ship_one(session, bundles, there, lambda text: _note(f"{session.device.name}: {text}"))

        ended = roll_out(devices, _connected(install), canary=canary, parallel=parallel, tell=_tell)
    for one in ended:
        if one.result is None and one.error is None:
            _note(f"{one.device.name}: not begun, the first device failed")
    if as_json:
        _print_json(
            {
                "releases": [one.manifest.release for one in bundles],
                "devices": [_as_json(one) for one in ended],
            }
        )
    _leave(exit_code(ended))


@ship.command("status")
@common(_DEVICES, _OF, SET, _ROOT, _TRUST, _UNSIGNED, JSON)
def ship_status(
    names: tuple[str, ...],
    config_path: Path | None,
    overrides: tuple[str, ...],
    root: str,
    device_trust: str,
    unsigned: bool,
    as_json: bool,
) -> None:
    """Show what is installed on devices."""
    from pipeline.core.terminal import stdout
    from pipeline.shipping.rollout import exit_code, roll_out
    from pipeline.shipping.ship import status
    from pipeline.shipping.views import status_lines

    there = _there(root, device_trust, unsigned)

    work = _connected(lambda session: status(session, there))
    ended = roll_out(_named(names, config_path, overrides), work, tell=_tell_faults)
    for one in ended:
        for line in status_lines(one.device.name, one.result) if one.result and not as_json else ():
            stdout().say(line, hang=2)
    if as_json:
        found = {one.device.name: one.result.model_dump() for one in ended if one.result}
        _print_json(
            {"devices": found, "faults": {one.device.name: str(one.error) for one in ended if one.error}}
        )
    _leave(exit_code(ended))


@ship.command("rollback")
@common(_DEVICES, _OF, SET, _ROOT, _TRUST, _UNSIGNED, JSON)
@click.option("--to", metavar="ID", help="A release that was committed there. Default: the one before.")
def ship_rollback(
    names: tuple[str, ...],
    config_path: Path | None,
    overrides: tuple[str, ...],
    root: str,
    device_trust: str,
    unsigned: bool,
    as_json: bool,
    to: str | None,
) -> None:
    """Roll devices back to an earlier release."""
    from pipeline.core.terminal import stdout
    from pipeline.shipping.rollout import exit_code, roll_out
    from pipeline.shipping.ship import rollback

    there = _there(root, device_trust, unsigned)

    work = _connected(lambda session: rollback(session, there, to))
    ended = roll_out(_named(names, config_path, overrides), work, tell=_tell_faults)
    for one in ended:
        if one.result and not as_json:
            stdout().say(f"{one.device.name}: {one.result.id[:12]}, sequence {one.result.sequence}, serves")
    if as_json:
        _print_json({one.device.name: one.result.model_dump() for one in ended if one.result})
    _leave(exit_code(ended))


@ship.command("kit")
@click.argument("name", metavar="ansible|mender", type=click.Choice(["ansible", "mender"]))
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
def ship_kit(name: str, folder: Path) -> None:
    """Write what ships to a fleet without this machine into FOLDER: new or empty, and yours to change.

    ansible: a collection (module, role), an inventory and playbooks: waves, check mode, failed and unreachable apart.
    mender: an update module for the Mender client, and how to make artifacts for it.
    """
    from export.terminal import one_line
    from pipeline.core.terminal import stdout
    from pipeline.shipping.kit import write_kit

    found = write_kit(name, folder)
    stdout().say(f"{len(found)} files in {one_line(str(folder))}", label="wrote ")
    stdout().say(_NEXT[name], label="next: ")


_NEXT = {
    "ansible": "name your devices in inventory.yml, then: ansible-playbook ship.yml -e figkd_bundle=BUNDLE --check",
    "mender": "read README.md there",
}


def _connected(action: Callable[[Session], T]) -> Callable[[Device], T]:
    def work(device: Device) -> T:
        from pipeline.devices.session import connect

        with connect(device, note=_note) as session:
            return action(session)

    return work


def _of_config(path: Path, overrides: tuple[str, ...]) -> list[Path]:
    from pipeline.cli.options import store_of
    from pipeline.run.bundles import to_ship

    config = load(path, overrides)
    return to_ship(config, store_of(config))


def _named(names: tuple[str, ...], config_path: Path | None, overrides: tuple[str, ...]) -> list[Device]:
    from pipeline.devices.housekeeping import named_device

    config = load(config_path, overrides) if config_path else None
    return [named_device(name, config) for name in dict.fromkeys(names)]


def _there(root: str, trust: str, unsigned: bool, options: Any = ()) -> There:
    from pipeline.core.errors import ConfigError
    from pipeline.shipping.ship import There

    if trust and unsigned:
        raise ConfigError("--device-trust and --unsigned contradict each other", fix="give one of them")
    words = ("--unsigned",) if unsigned else ("--trust", trust) if trust else ()
    return There(root, words, tuple(options))


def _trust(path: str | None, unsigned: bool) -> Any:
    from export.runtime.bundle.cli import trust_of
    from export.runtime.bundle.errors import BundleError
    from pipeline.core.errors import ConfigError

    try:
        found = trust_of(path, unsigned=unsigned)
    except BundleError as error:
        raise ConfigError(error.what, fix=error.fix) from None
    if found is None:
        raise ConfigError("whose signatures count is not known", fix="give --trust FILE, or --unsigned")
    return found


_saying = threading.Lock()


def _note(text: str) -> None:
    from pipeline.core.terminal import stderr

    with _saying:
        stderr().say(text)


def _tell(ended: Ended[Shipped]) -> None:
    _tell_faults(ended)
    if ended.result:
        how = "committed" if ended.result.is_new else "serves already"
        _note(f"{ended.device.name}: {how}, {ended.result.sent / 1e3:.1f} kB sent")


def _tell_faults(ended: Ended[Any]) -> None:
    if ended.error is not None:
        from pipeline.core.terminal import stderr

        with _saying:
            stderr().say(str(ended.error), label="error: ")


def _as_json(one: Ended[Shipped]) -> dict[str, object]:
    state = "committed" if one.is_good else "failed" if one.error else "not begun"
    found: dict[str, object] = {"device": one.device.name, "state": state}
    if one.result:
        found |= {"id": one.result.id, "is_new": one.result.is_new, "bytes_sent": one.result.sent}
    if one.error:
        found |= {"error": one.error.what, "fix": one.error.fix, "exit_code": int(one.error.exit_code)}
    return found


def _print_json(found: Any) -> None:
    from pipeline.core.terminal import print_json

    print_json(json.dumps(found, indent=1))


def _leave(code: int) -> None:
    if code:
        raise click.exceptions.Exit(code)
