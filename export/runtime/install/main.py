"""The commands `install`, `rollback`, `status`, `gc` and `recover` of the runtime archive.

Exit codes: 0 done; 1 the release failed its self-test or while it was watched, and the old one serves; 2 wrong usage;
4 this device lacks something; 6 the bundle was refused; 130 interrupted, and the old one serves.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from typing import Any, Callable, Dict, List, NoReturn, Optional, Sequence

from ..bundle.canary import FOLDER as CANARY
from ..bundle.cli import PLACES, trust_of
from ..bundle.errors import BundleError
from .bundles import fits, verifier
from .child import Limits, run_limited
from .disk import FOLDER, LocalDisk
from .errors import INTERRUPTED, Environment, InstallError, Usage
from .health import Rules, watcher
from .primitive import KEEP, Prove, collect, install, rollback
from .recovery import recover
from .report import as_json, lines, status
from .site import Site, locked, prepare, refuse_shared, seen, this_machine
from .source import FolderSource, Source
from .tar import TarSource

RUNTIME = "run.pyz"
"""The archive inside a bundle that runs its self-test."""
_SLACK_S = 60.0

Say = Callable[[str], None]


def main(words: Sequence[str]) -> int:
    """Run one command; its exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a lost connection stops nothing: the device judges alone
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
    ):  # also where a shell has it ignored, as for jobs in the background
        signal.signal(number, _interrupt)
    try:
        given = _parser().parse_args(list(words))
        _RUN[given.command](given)
        return 0
    except InstallError as error:
        _print(sys.stderr, "error: {}".format(error))
        if "--json" in words:
            _print(sys.stdout, json.dumps({"error": error.what, "where": error.where, "fix": error.fix}))
        return error.exit_code
    except KeyboardInterrupt:
        _print(sys.stderr, "interrupted: what served before serves")
        return INTERRUPTED


def default_root() -> str:
    """Where releases lie unless something else is said: the system's place for root, the user's for anybody else."""
    return "/var/lib/figkd" if os.geteuid() == 0 else os.path.expanduser("~/.local/share/figkd")


def _install(given: argparse.Namespace) -> None:
    site, say = _site(given), _sayer(given)
    prepare(site)
    rules = Rules(window_s=given.window, most_p99_ms=given.p99_ms, load_s=given.load)
    limits = Limits(given.self_test_s, given.memory_mb)
    prove = _prover(given, limits, say)
    with locked(site.root):
        done = install(
            site,
            _source(given.bundle, site),
            prove,
            watcher(site, rules, prove, say),
            rules.window_s + rules.load_s + limits.seconds + _SLACK_S,
        )
    for text in done.notes:
        say(text)
    release = done.release
    words = "{} {}, sequence {}".format(release.name, release.id[:12], release.sequence)
    say("{}: {}".format("committed" if done.is_new else "serves already", words))
    _answer(given, {"id": release.id, "is_new": done.is_new, "sequence": release.sequence})


def _rollback(given: argparse.Namespace) -> None:
    site = _existing(given)
    with locked(site.root):
        release = rollback(site, given.to)
    _sayer(given)("{} {}, sequence {}, serves".format(release.name, release.id[:12], release.sequence))
    _answer(given, {"id": release.id, "sequence": release.sequence})


def _status(given: argparse.Namespace) -> None:
    found = status(_site(given))
    for line in lines(found):
        _sayer(given)(line)
    _answer(given, as_json(found))


def _collect(given: argparse.Namespace) -> None:
    site = _existing(given)
    with locked(site.root):
        gone = collect(site, given.keep)
    _sayer(given)("{} releases removed".format(len(gone)))
    _answer(given, {"removed": list(gone)})


def _recover(given: argparse.Namespace) -> None:
    site, say = _existing(given), _sayer(given)
    with locked(site.root):
        done = recover(site)
    for text in done.notes:
        say(text)
    say("release {} serves".format(done.state.active[:12]) if done.state.active else "no release serves")
    _answer(given, {"active": done.state.active, "notes": list(done.notes)})
    if done.state.active is None:
        raise Environment("no release here passes verification", site.root, "install a bundle")


_RUN: dict[str, Callable[[argparse.Namespace], None]] = {
    "install": _install,
    "rollback": _rollback,
    "status": _status,
    "gc": _collect,
    "recover": _recover,
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(message, self.prog, "see `{} --help`".format(self.prog))


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument("--root", default=default_root(), help="folder of the releases (%(default)s)")
    common.add_argument(
        "--trust", metavar="FILE", help="whose signatures count; default: " + " or ".join(PLACES)
    )
    common.add_argument(
        "--unsigned", action="store_true", help="accept bundles without checking who made them"
    )
    common.add_argument("--json", action="store_true", help="the result as one line of JSON")
    parser = _Parser(prog=RUNTIME, description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    one = commands.add_parser("install", parents=[common], help="install a bundle, or leave what serves")
    one.add_argument("bundle", help="folder or tar file")
    one.add_argument(
        "--window", type=_seconds, default=Rules.window_s, help="seconds for which it is watched"
    )
    one.add_argument(
        "--load", type=_seconds, default=Rules.load_s, help="seconds in which a runtime takes it up"
    )
    one.add_argument("--p99-ms", type=_seconds, help="the slowest 99th percentile of latency, milliseconds")
    one.add_argument("--self-test-s", type=_seconds, default=Limits.seconds, help="seconds for the self-test")
    one.add_argument(
        "--memory-mb", type=int, default=Limits.megabytes, help="resident memory for the self-test"
    )
    one = commands.add_parser("rollback", parents=[common], help="let an earlier release serve")
    one.add_argument("--to", metavar="ID", help="which (the one before)")
    commands.add_parser("status", parents=[common], help="what is installed")
    one = commands.add_parser("gc", parents=[common], help="remove releases that are not needed")
    one.add_argument("--keep", type=_count, default=KEEP, help="of the last ones, so many stay (%(default)s)")
    commands.add_parser("recover", parents=[common], help="after a crash: what served before serves again")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1e6:
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 1000:
        raise ValueError(text)
    return value


def _site(given: argparse.Namespace) -> Site:
    try:
        trust = trust_of(given.trust, unsigned=given.unsigned)
    except BundleError as error:
        raise Usage(error.what, fix=error.fix) from None
    if trust is None:
        raise Usage("whose signatures count is not known", RUNTIME, "give --trust FILE, or --unsigned")
    root = os.path.realpath(given.root)
    refuse_shared(root)
    return Site(root, LocalDisk(), verifier(trust, lambda: seen(root)), this_machine(), fits)


def _existing(given: argparse.Namespace) -> Site:
    site = _site(given)
    if site.disk.kind(site.root) != FOLDER:
        raise Environment("nothing was installed here", site.root, "give the folder with --root")
    return site


def _source(path: str, site: Site) -> Source:
    if os.path.isfile(path):
        return TarSource(path)
    return FolderSource(path, site.disk)


def _prover(given: argparse.Namespace, limits: Limits, say: Say) -> Prove:
    def prove(folder: str) -> None:
        begun = time.monotonic()
        run_limited(self_test(folder), limits)
        say("self-test passed in {:.1f} s".format(time.monotonic() - begun))

    def self_test(folder: str) -> List[str]:
        inside = os.path.join(folder, RUNTIME)
        archive = inside if os.path.isfile(inside) else os.path.abspath(sys.argv[0])
        trust = (
            ["--unsigned"]
            if given.unsigned
            else ["--trust", os.path.abspath(given.trust)]
            if given.trust
            else []
        )
        canary = ["--canary"] if os.path.isdir(os.path.join(folder, CANARY)) else []
        return [sys.executable, archive, "self-test", "--bundle", folder, *canary, *trust]

    return prove


def _sayer(given: argparse.Namespace) -> Say:
    """Lines go to the standard output, or beside the JSON to the standard error."""
    stream = sys.stderr if given.json else sys.stdout
    return lambda text: _print(stream, text)


def _answer(given: argparse.Namespace, found: Dict[str, Any]) -> None:
    if given.json:
        _print(sys.stdout, json.dumps(found, sort_keys=True))


def _print(stream: Any, text: str) -> None:
    """Whoever reads may be gone; the work goes on."""
    try:
        stream.write(text + "\n")
        stream.flush()
    except (OSError, ValueError):
        pass


def _interrupt(number: int, frame: Optional[object]) -> None:
    raise KeyboardInterrupt
