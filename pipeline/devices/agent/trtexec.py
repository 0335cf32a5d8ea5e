"""TensorRT on the device through its command line `trtexec`, where there is no Python API.

The arguments come from the host, for the device's version: the one table is `export.engines.trtexec`. `{onnx}`,
`{engine}`, `{cache}` and `{layers}` in them stand for paths.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import Callable, Mapping, Sequence

from .errors import JobError, killed
from .requests import Emit

PLACES = (
    "/usr/src/tensorrt/bin/trtexec",
    "/usr/local/tensorrt/bin/trtexec",
    "/opt/tensorrt/bin/trtexec",
    "/usr/bin/trtexec",
    "/usr/local/bin/trtexec",
)
# What trtexec says on its way through a build, in order.
_MILESTONES = (
    ("Start parsing network model", 1),
    ("Finish parsing network model", 2),
    ("Finished parsing network model", 2),
    ("timing cache", 3),
    ("Compiler backend is used", 3),
    ("Engine generation completed", 4),
    ("Engine built in", 5),
)
# What it says before the first query, those of the warm-up included.
_BEGINS = "Starting inference"
_KEPT = 10_000
_PREFIX = re.compile(r"^\[[^\]]*\] (?:\[([A-Z])\] )?(?:\[TRT\] )?")
# Lines of others in trtexec's output, such as the Jetson's driver and the linker, have no level.
_COMPLAINT = re.compile(
    r"error|fail|terminate called|what\(\)|cannot|abort|killed|fault|assert|not found", re.IGNORECASE
)
_ITS_OWN = ("&&&&", "===", " ")
_BANNER = re.compile(r"\[TensorRT v([0-9.]+)\]")


def version_of(banner: str) -> str:
    """Version in trtexec's first line (`v100300` is 10.3.0, `v8502` 8.5.2, `v11.1.0.106` itself), or ''."""
    found = _BANNER.search(banner)
    if not found:
        return ""
    text = found.group(1)
    if "." in text:
        return text
    number = int(text)
    if number >= 100_000:  # from 10 on: two digits each
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return f"{number // 1000}.{number // 100 % 10}.{number % 100}"  # 8.x: one digit, then two


def find(root: str = "/", given: str | None = None) -> str:
    """Where trtexec is: as given, in its usual places under `root`, or on the PATH; '' if nowhere."""
    import shutil

    for place in ([given] if given else []) + [os.path.join(root, p.lstrip("/")) for p in PLACES]:
        if os.access(place, os.X_OK):
            return place
    return (shutil.which("trtexec") or "") if root == "/" else ""


def required(given: str | None) -> str:
    """As `find`.

    Raises:
        JobError: there is none.
    """
    program = find(given=given)
    if not program:
        fix = "sudo apt install libnvinfer-bin (and python3-libnvinfer) on the device"
        raise JobError("there is no trtexec on the device", fix, "missing")
    return program


def probe(path: str) -> str:
    """Version that a trtexec reports; '' if it cannot be started."""
    try:
        done = subprocess.run(
            [path, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return version_of(done.stdout.decode(errors="replace")[:2000])


def filled(arguments: Sequence[str], places: Mapping[str, str]) -> list[str]:
    """Arguments with their placeholders replaced."""
    result = []
    for argument in arguments:
        for name, path in places.items():
            argument = argument.replace(f"{{{name}}}", path)
        result.append(argument)
    return result


def call(
    argv: Sequence[str],
    log: str,
    emit: Emit,
    what: str,
    environment: dict[str, str] | None = None,
    working: Callable[[], None] = lambda: None,
) -> str:
    """Run trtexec to its end, its output in the file `log`.

    Args:
        argv: the command.
        log: appended to.
        emit: receives the milestones as progress, warnings and errors as log lines.
        what: for messages, such as `the build of fp16`.
        environment: variables beside the agent's own.
        working: called when inference begins.

    Returns:
        The banner line.

    Raises:
        JobError: it cannot be started, was killed, or failed; the message has trtexec's own reason.
    """
    banner = ""
    heard = _Heard(emit)
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, **(environment or {})),
        )
    except OSError as error:
        raise JobError(
            f"trtexec cannot be started: {error}", "sudo apt install libnvinfer-bin", "missing"
        ) from error
    assert process.stdout is not None
    try:
        with open(log, "a", encoding="utf-8") as file, process.stdout as output:
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                file.write(line + "\n")
                banner = banner or (line if "&&&& RUNNING" in line else "")
                heard.line(line)
                if _BEGINS in line:
                    working()
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if code in (-9, 137):
        raise killed(what, 9)
    if code or not banner:
        raise heard.failure(what, code)
    return banner


class _Heard:
    """What trtexec says while it runs."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._errors: list[str] = []
        self._warnings: list[str] = []
        self._others: list[str] = []

    def line(self, line: str) -> None:
        """Errors and warnings are kept and passed on, milestones are progress."""
        found = _PREFIX.match(line)
        level, text = (found.group(1) or "", line[found.end() :]) if found else ("", line)
        if level in ("E", "F"):
            self._keep(self._errors, text)
        elif level == "W":
            self._keep(self._warnings, text)
        elif not level and not line.startswith(_ITS_OWN) and _COMPLAINT.search(line):
            self._keep(self._others, line)
        for phrase, step in _MILESTONES:
            if phrase in line:
                self._emit({"progress": [step, 5, text]})
                return

    def failure(self, what: str, code: int) -> JobError:
        """The error for a run that ended with `code`."""
        said = self._errors or self._others or [f"exit code {code}, see the log"]
        return JobError(
            f"{what} failed in trtexec",
            said=said,
            beside=[*self._warnings, *(self._others if self._errors else ())],
        )

    def _keep(self, kept: list[str], text: str) -> None:
        if len(kept) < _KEPT:
            kept.append(text)
        self._emit({"log": text})
