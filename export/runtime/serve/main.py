"""The command `serve` of the runtime archive.

Exit codes: 0 ended by SIGTERM or Ctrl-C, after the last answer; 2 wrong usage; 4 this machine lacks something, the port
is taken, or the engine did not come back; 6 the bundle is refused; 130 interrupted before it served.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, NoReturn, Optional, Sequence

from ..bundle.cli import PLACES, WrongUse, one_line, trust_of
from ..bundle.errors import BundleError, CannotRun
from ..bundle.verify import UNSIGNED
from ..install import outputs
from ..install.bundles import verifier
from ..install.disk import LocalDisk
from ..install.errors import InstallError
from ..install.main import default_root
from ..install.site import MARK, Site, refuse_shared, seen, this_machine
from ..malloc import share_one
from .releases import Counts, Follower
from .served import open_served
from .server import Server, is_loopback, listen, url_of
from .service import Limits, Service
from .systemd import listening, notify

if TYPE_CHECKING:
    from .served import Served

HOST, PORT = "127.0.0.1", 8000
_INTERRUPTED = 130
_STOP_S = 5.0
_DEFAULTS = Limits()


@dataclass(frozen=True)
class Options:
    """What is served, where, and within which bounds."""

    bundle: str = ""
    """Folder of a bundle; empty: the releases in `root`."""
    root: str = ""
    """Folder of installed releases."""
    host: str = HOST
    port: int = PORT
    """0: any that is free."""
    name: Optional[str] = None
    """Of the model for clients; None: the bundle's."""
    trust: Optional[str] = None
    """File; None: this machine's."""
    unsigned: bool = False
    limits: Limits = _DEFAULTS
    counts: bool = True
    """Count answers by class and confidence, where `root` is served."""


def main(words: Sequence[str], bundle: Optional[str] = None) -> int:
    """Run the command; its exit code.

    Args:
        words: what follows the command.
        bundle: what is served where neither `--bundle` nor `--root` says it; None: that in which the program lies.
    """
    try:
        return serve(_options(words, bundle or os.path.dirname(os.path.abspath(sys.argv[0]))), _say)
    except (BundleError, InstallError) as error:
        _say("error: %s" % one_line(error.what))
        if error.fix:
            _say("  fix: %s" % one_line(error.fix))
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED


def serve(options: Options, say: Callable[[str], None]) -> int:
    """Serve until a signal; the exit code.

    Args:
        options: see there.
        say: one line for people.

    Raises:
        BundleRefused: the bundle is refused.
        CannotRun: the engine cannot run here, or the port is taken.
        WrongUse: trust is missing, or contradicts itself.
        InstallError: the releases cannot be used.
    """
    _import_all()
    share_one()
    try:
        sock = listening() or listen(options.host, options.port)
    except OSError as error:
        raise CannotRun(
            "%s port %d cannot be listened on: %s" % (options.host, options.port, error.strerror or error),
            "give another --port or --host",
        ) from None
    try:
        with sock:
            return asyncio.run(_serve(options, sock, say))
    except MemoryError:
        raise CannotRun("there is not enough memory") from None


async def _serve(options: Options, sock: socket.socket, say: Callable[[str], None]) -> int:
    loop = asyncio.get_running_loop()
    service = Service(options.limits, loop)
    follower = None
    try:
        if options.bundle:
            service.swap(_of_bundle(options, say))
        else:
            follower = _follower(options, service, loop, "serve-%d" % sock.getsockname()[1], say)
            first = follower.first()
            if first is not None:
                service.swap(first)
        # What libraries say of damaged images and broken connections: whoever sends them could fill the log.
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        server = Server(service, say)
        await server.start(sock)
        server.stop_on_signals()
        name = service.served.signature.name if service.served else "nothing yet"
        say("serves %s at %s" % (name, url_of(sock)))
        if not is_loopback(sock):
            say("warning: whoever reaches %s may use it, unencrypted: put a proxy with TLS and passwords in front"
                % url_of(sock))  # fmt: skip
        notify("READY=1")
        if follower is not None:
            follower.start()
        await server.until_stopped()
        say("stopped: %d answers" % sum(service.metrics.responses.values()))
        if server.is_lost:
            raise CannotRun("the engine does not come back from a request", "start it again, as systemd does")
        return 0
    finally:
        notify("STOPPING=1")
        if follower is not None:
            follower.stop()
        service.close(_STOP_S)


def _of_bundle(options: Options, say: Callable[[str], None]) -> Served:
    trust = trust_of(options.trust, unsigned=options.unsigned)
    if trust is None:
        say("note: no signature was checked: this machine has no trust.json (--trust FILE, or --unsigned)")
    return _told(open_served(options.bundle, trust or UNSIGNED, options.name, options.limits.images), say)


def _told(served: Served, say: Callable[[str], None]) -> Served:
    """Which of its bundle's engines it is."""
    for line in served.model.chosen.words if served.model.chosen else ():
        say(line)
    return served


def _follower(
    options: Options, service: Service, loop: asyncio.AbstractEventLoop, name: str, say: Callable[[str], None]
) -> Follower:
    root = os.path.realpath(options.root)
    if not os.path.isfile(os.path.join(root, MARK)):
        raise CannotRun(
            "no release was installed in %s" % root, "install one, or give the folder with --root"
        )
    refuse_shared(root)

    def open_release(folder: str) -> Served:
        """Trust is read at each load: it may have been rotated."""
        trust = trust_of(options.trust, unsigned=options.unsigned)
        if trust is None:
            raise WrongUse("whose signatures count is not known", "give --trust FILE, or --unsigned")
        return _told(open_served(folder, trust, options.name, options.limits.images, seen(root)), say)

    trust = trust_of(options.trust, unsigned=options.unsigned)
    if trust is None:
        raise WrongUse("whose signatures count is not known", "give --trust FILE, or --unsigned")
    site = Site(root, LocalDisk(), verifier(trust, lambda: seen(root)), this_machine())

    def swap(served: Served) -> None:
        loop.call_soon_threadsafe(service.swap, served)

    def refuse() -> None:
        loop.call_soon_threadsafe(service.refused)

    def counts() -> Counts:
        metrics, served = service.metrics, service.served
        release = served.release if served else ""
        return Counts(release, metrics.answered, metrics.failed, metrics.p99_ms(), service.is_stuck)

    def keep_outputs() -> None:
        served = service.served
        if served is not None:
            outputs.add(root, name, served.release, served.tally.take())

    service.counts_outputs = options.counts
    return Follower(site, name, open_release, swap, refuse, counts, say, keep_outputs)


def _import_all() -> None:
    """Everything that a later release may need: the archive that this runs from may be removed by then."""
    from .. import cudart, onnx_session, trt_engine  # noqa: F401


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise WrongUse(message, "see `run.pyz serve --help`")


def _options(words: Sequence[str], bundle: str) -> Options:
    given = _parser().parse_args(list(words))
    if given.bundle is not None and given.root is not None:
        raise WrongUse("--bundle and --root contradict each other", "give one of them")
    limits = Limits(
        waiting=given.waiting,
        connections=given.connections,
        body=given.body_mb << 20,
        bodies=4 * given.body_mb << 20,
        images=given.images,
        read_s=given.read_s,
    )
    root = given.root or ""
    return Options(
        "" if root else given.bundle or bundle, root, given.host, given.port, given.name, given.trust,
        given.unsigned, limits, not given.no_counts,
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run.pyz serve",
        description="Answer requests over HTTP: Open Inference Protocol v2, POST /classify, GET /metrics.",
        epilog=" ".join((__doc__ or "").split("\n\n")[1].split()),
    )
    parser.add_argument("--bundle", metavar="FOLDER", help="default: the folder in which this program lies")
    parser.add_argument(
        "--root", nargs="?", const=default_root(), metavar="FOLDER",
        help="serve what is installed there (%(const)s), and take up what is installed later",
    )  # fmt: skip
    parser.add_argument(
        "--trust", metavar="FILE", help="whose signatures count; default: " + " or ".join(PLACES)
    )
    parser.add_argument(
        "--unsigned", action="store_true", help="accept bundles without checking who made them"
    )
    parser.add_argument(
        "--no-counts", action="store_true",
        help="with --root: do not count answers by class and confidence (no images; 1 kB a day, in ROOT/outputs)",
    )  # fmt: skip
    parser.add_argument("--host", default=HOST, help="address to listen on (%(default)s: this machine alone)")
    parser.add_argument("--port", type=_between(0, 65535), default=PORT, help="(%(default)s)")
    parser.add_argument("--name", help="of the model for clients; default: the bundle's")
    parser.add_argument(
        "--waiting", type=_between(1, 10_000), default=_DEFAULTS.waiting, metavar="N",
        help="requests that wait or run, others get 503 (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--connections", type=_between(1, 10_000), default=_DEFAULTS.connections, metavar="N",
        help="that are open (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=_between(1, 10_000), default=_DEFAULTS.images, metavar="N",
        help="in a request (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--body-mb", type=_between(1, 1024), default=_DEFAULTS.body >> 20, metavar="N",
        help="MiB of a request; four times this for all (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--read-s", type=_seconds, default=_DEFAULTS.read_s, metavar="SECONDS",
        help="in which a request has to arrive (%(default)g)",
    )  # fmt: skip
    return parser


def _between(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError("%d to %d" % (low, high))
        return value

    return number


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError("0.1 to 3600")
    return value


def _say(text: str) -> None:
    try:
        print(one_line(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):  # nobody reads
        pass
