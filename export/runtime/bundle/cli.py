"""`run.pyz`: a bundle classifies photos, checks itself and says what it is.

Exit codes: 0 ok, 1 the self-test failed, 2 wrong use or an image that cannot be read, 4 this machine lacks something,
6 the bundle is refused, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Callable, Dict, List, Sequence

from .errors import WRONG_USE, BundleError, CannotRun, ImageRefused
from .manifest import Manifest
from .trust import MOST_BYTES as MOST_TRUST_BYTES
from .trust import parse_trust
from .verify import UNSIGNED, Bundle, Choice, open_bundle

PLACES = ("/etc/figkd/trust.json", "~/.config/figkd/trust.json")
"""Where trust is looked for; the first counts."""
_INTERRUPTED = 130
_NOT_CHECKED = "note: no signature was checked: this machine has no trust.json (--trust FILE, or --unsigned)"


class WrongUse(BundleError):
    """The command line asks for something that cannot be."""

    exit_code = WRONG_USE


def main(words: Sequence[str] | None = None, bundle: str | None = None) -> int:
    """Run a command line; the exit code.

    Args:
        words: what follows the program's name; None: the process's.
        bundle: folder of the bundle where `--bundle` does not say; None: that in which the program lies.
    """
    try:
        arguments = _parser().parse_args(words)
        place = arguments.bundle or bundle or os.path.dirname(os.path.abspath(sys.argv[0]))
        return _COMMANDS[arguments.command](place, arguments)
    except BundleError as error:
        _say("error: %s" % error.what)
        if error.fix:
            _say("  fix: %s" % error.fix)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        _say("error: there is not enough memory")
        return CannotRun.exit_code
    except OSError as error:
        _say("error: %s" % one_line(str(error)))
        return CannotRun.exit_code


def trust_of(file: str | None, *, unsigned: bool, found: Sequence[str] = PLACES) -> Choice | None:
    """Whose signatures count: the file that was given, the choice that none do, or what this machine has; else None.

    Raises:
        BundleRefused: a file is no trust.
        WrongUse: both were said, or the file is missing.
    """
    if file and unsigned:
        raise WrongUse("--trust and --unsigned contradict each other", "give one of them")
    if unsigned:
        return UNSIGNED
    for place in [file] if file else [os.path.expanduser(place) for place in found]:
        if file or os.path.lexists(place):
            try:
                with open(place, "rb") as content:
                    return parse_trust(content.read(MOST_TRUST_BYTES + 1))
            except OSError as error:
                raise WrongUse("%s cannot be read: %s" % (place, error.strerror)) from None
    return None


def one_line(text: str) -> str:
    """A text without what a terminal acts on."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _open(place: str, arguments: argparse.Namespace) -> Bundle:
    trust = trust_of(arguments.trust, unsigned=arguments.unsigned)
    if trust is None:
        _say(_NOT_CHECKED)
        trust = UNSIGNED
    return open_bundle(place, trust)


def _classify(place: str, arguments: argparse.Namespace) -> int:
    from .model import model_of

    code = 0
    rows: List[Dict[str, object]] = []
    with model_of(_open(place, arguments)) as model:
        for file in arguments.images:
            row: Dict[str, object] = {"file": file}
            try:
                labels = model.classify(file, arguments.top)
            except ImageRefused as error:
                code = error.exit_code
                row["error"] = error.what
                _say("error: %s: %s" % (one_line(file), error.what))
            else:
                row["labels"] = [vars(label) for label in labels]
                if not arguments.json:
                    said = (
                        "%s %.1f %%" % (one_line(label.name), 100 * label.probability) for label in labels
                    )
                    print("%s: %s" % (one_line(file), ", ".join(said)), flush=True)
            rows.append(row)
    if arguments.json:
        print(json.dumps(rows, indent=1))
    return code


def _verify(place: str, arguments: argparse.Namespace) -> int:
    trust = trust_of(arguments.trust, unsigned=arguments.unsigned)
    if trust is None:
        raise WrongUse("whose signatures count is not known", "give --trust FILE, or --unsigned")
    bundle = open_bundle(place, trust)
    signers = list(bundle.signers)
    if arguments.json:
        print(json.dumps({"release": bundle.manifest.release, "signers": signers}, indent=1))
    else:
        whose = (
            "signed by %s" % ", ".join(key[:16] for key in signers) if signers else "signatures not checked"
        )
        print("ok: %s, %d files, %s" % (bundle.manifest.release, len(bundle.manifest.files), whose))
    return 0


def _self_test(place: str, arguments: argparse.Namespace) -> int:
    from .canary import require_canary, run_canary
    from .model import model_of
    from .self_test import require, self_test

    bundle = _open(place, arguments)
    with model_of(bundle) as model:
        found = self_test(bundle, model)
        labelled = run_canary(bundle, model) if arguments.canary else None
    if arguments.json:
        more = {"canary": labelled.to_json()} if labelled else {}
        print(json.dumps({**found.to_json(), **more}, indent=1))
    else:
        print("%d golden inputs, largest difference of a logit %.3g (%.3g is allowed)"
              % (found.inputs, found.max_abs_logit, found.allowed_logit))  # fmt: skip
        print("%d golden images, %d with the very pixels, largest difference %d (%d is allowed for JPEG); %s"
              % (found.images, found.images_exact, found.max_abs_pixel, found.allowed_pixel, found.note))  # fmt: skip
        print("%.3g ms an image, preprocessing not included" % found.latency_ms)
        if labelled:
            print("%d of %d labelled images are right, %d where it was made; %d lost, %d won"
                  % (labelled.right, labelled.images, labelled.was_right, labelled.lost, labelled.won))  # fmt: skip
    require(found)
    if labelled:
        require_canary(labelled)
    if not arguments.json:
        print("self-test passed")
    return 0


def _engine_facts(manifest: Manifest) -> Dict[str, object]:
    """The engine; of several all, with the one that this machine takes."""
    from .fit import choose

    if len(manifest.engines) == 1:
        (only,) = manifest.engines
        return {"engine": only.file, "backend": only.backend, "precision": only.precision}
    try:
        chosen = choose(manifest)
        here, passed = chosen.entry.name, list(chosen.passed)
    except CannotRun as error:
        here, passed = "none", [error.what]
    engines = ["%s (%s %s)" % (each.name, each.backend, each.precision) for each in manifest.engines]
    return {"engines": engines, "engine here": here, **({"not taken": passed} if passed else {})}


def _info(place: str, arguments: argparse.Namespace) -> int:
    from .model import read_labels, read_preprocessing

    bundle = _open(place, arguments)
    manifest = bundle.manifest
    classes = read_labels(bundle)
    size = read_preprocessing(bundle).size
    facts = {
        "release": manifest.release,
        "name": manifest.name,
        "target": manifest.target,
        "channel": manifest.channel,
        "sequence": manifest.sequence,
        "created": manifest.created,
        "verdict": manifest.verdict,
        **({} if manifest.counts else {"counts": "off"}),
        **_engine_facts(manifest),
        "classes": len(classes),
        "image": "%d x %d" % (size, size),
        "bytes": manifest.size,
        "licences": list(manifest.licences),
        "signers": list(bundle.signers),
    }
    if arguments.json:
        print(json.dumps({**facts, "labels": list(classes)}, indent=1))
        return 0
    for name, value in facts.items():
        print("%-11s %s" % (name, ", ".join(value) or "none" if isinstance(value, list) else value))
    shown = ", ".join(map(one_line, classes[:20]))
    print("%-11s %s%s" % ("labels", shown, ", ..." if len(classes) > 20 else ""))
    return 0


_COMMANDS: Dict[str, Callable[[str, argparse.Namespace], int]] = {
    "classify": _classify,
    "verify": _verify,
    "self-test": _self_test,
    "info": _info,
}


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--bundle", metavar="FOLDER", help="default: the folder in which this program lies")
    common.add_argument(
        "--trust", metavar="FILE", help="whose signatures count; default: %s" % " or ".join(PLACES)
    )
    common.add_argument(
        "--unsigned", action="store_true", help="accept the bundle without checking who made it"
    )
    common.add_argument("--json", action="store_true", help="print one JSON document")
    parser = argparse.ArgumentParser(
        prog="run.pyz",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="More (each with --help): serve; install, rollback, status, gc, recover. "
        + " ".join((__doc__ or "").split("\n\n")[1].split()),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    classify = commands.add_parser("classify", parents=[common], help="say what images show")
    classify.add_argument("images", nargs="+", metavar="IMAGE")
    classify.add_argument("--top", type=int, default=1, metavar="N", help="how many classes")
    commands.add_parser("verify", parents=[common], help="check every file and the signatures")
    test = commands.add_parser(
        "self-test", parents=[common], help="compare answers and pixels with the golden ones"
    )
    test.add_argument(
        "--canary", action="store_true", help="also classify the labelled images that the bundle brings"
    )
    commands.add_parser("info", parents=[common], help="say what it is")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
