"""Mutants of the shipped configs: what a slip, a bad editor, a hostile author or a broken disk makes of them.

As a script it reads a range of mutants through the command line's entry point in one process, and prints what came
of them as JSON: `python mutants.py FIRST COUNT FOLDER`.
"""

from __future__ import annotations

import collections
import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from tests.memory import peak_bytes

SHIPPED = Path(__file__).parents[3] / "deploy_configs"
CONFIGS = sorted(path.relative_to(SHIPPED) for path in SHIPPED.rglob("*.yaml"))

# Values that YAML types itself, or that some key may not be able to hold.
VALUES = (
    "2020-13-45", "2020-01-01", "2020-01-01T99:99:99Z", "!!int abc", "!!int ''", "!!int 0x", "!!float x",
    "!!bool maybe",
    "!!null x", "!!str", "!!timestamp x", "!!binary '*'", "!!set {a}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!map [a]",
    "!!seq {a: 1}", "!!python/object/apply:os.system [id]", "!!python/name:os.system", "!mine x", "=", "<<", "~", "",
    "1" * 5000, "-" + "9" * 400, "9223372036854775808", ".inf", "-.inf", ".nan", "1e400", "1.0e+400", "-0.0", "-1", "0",
    "0x" + "f" * 300, "0b" + "1" * 80, "0777", "1_000", "1:30:00", "1:" * 2000 + "1", "99:99.5", "yes", "on", "null",
    "[]", "{}", "[1]", "{a: b}", "[[[[[[]]]]]]", "'", '"', '"\\0"', '"\\e[31m"', '"\\ud800"', '"\\UFFFFFFFF"', '"\\x"',
    '"a\n\n b"', "|\n  a\n  b", ">-\n  a", "a\u2028b", "é", "名", "\U0001f600", "/dev/zero", "../../..", "/", "~/x",
    "." * 300,
    "x" * 5000, "x" * 300, "*nowhere", "&a x", "&a [*a]", "&a {b: *a}", "fp32", "ssh://" + ":" * 400, "ssh://a:b@c",
    "timm/", "timm/resnet50.", "torchvision/resnet5", "db99", "1000000000", "0.5", "1.5", "true", "{min: .nan}",
    "{<<: 5}", "{<<: [1, {a: 1}]}", "? a", "- a", "%YAML 1.1", "---", "...", "# x", "@", "`", "\t", ": ",
)  # fmt: skip
LINES = (
    "1: x", "null: x", "? [a]\n: x", "{a: b}: x", "2020-01-01: x", "!!int x: y", "on: x", "=: x", '"a\\nb\\e[31m": x',
    "a.b: x", ". : x", "'': x", "<<: *nowhere", "<<: {name: x}", "extends: .", "extends: pipe.yaml",
    "extends: /dev/zero",
    "extends: [a]", "extends: 5", "extends: loop.yaml", 'extends: "a\\0b"', "extends: " + "x" * 300, "extends: null",
    "---", "...", "%YAML 2.0", "%YAML " + "1" * 5000 + ".1", "%TAG ! tag:x,2000:", "\tname: x", "name: x",
    "targets: null",
)  # fmt: skip
SETS = (
    "name=!!float x", "=", "a", "name", ".=1", "a..b=1", ".".join("a" * 1000) + "=1", "data.options=" + "[" * 500,
    "precision.modes.0=fp16", "precision.modes.²=1", "precision.modes." + "9" * 5000 + "=1", "precision.modes.0.a=1",
    "targets=null", "targets.cpu=null", "seed=1", "seed=2020-13-45", "name=\x1b[31m", "name=\udcff", "a=&x [*x]",
    "data={a: &a [x, x, x, x], b: &b [*a, *a, *a, *a], c: &c [*b, *b, *b, *b], d: [*c, *c, *c, *c]}", "<<={a: 1}",
    "distill.epochs=\n", "distill.views={kind: shift, pad: 0}", "extends=x.yaml", "1=2",
    "teacher.checkpoint=" + "x" * 300,
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A config file beside a shipped one, and what the command line sets."""

    path: Path
    content: bytes
    overrides: tuple[str, ...]


def mutant(seed: int) -> Mutant:
    """The mutant of a seed."""
    rng = random.Random(seed)
    path = rng.choice(CONFIGS)
    text = (SHIPPED / path).read_text(encoding="utf-8")
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        text = rng.choice(_TEXTS)(text, rng)
    content = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.25:
        content = rng.choice(_BYTES)(content, rng)
    overrides = tuple(rng.choices(SETS, k=rng.choice((1, 1, 2, 5)))) if rng.random() < 0.15 else ()
    return Mutant(path.with_name(f"mutant-{seed}.yaml"), content, overrides)


def _line(change: Callable[[str, random.Random], str]) -> Callable[[str, random.Random], str]:
    def mutate(text: str, rng: random.Random) -> str:
        lines = text.split("\n")
        place = rng.randrange(len(lines))
        lines[place] = change(lines[place], rng)
        return "\n".join(lines)

    return mutate


def _swap_lines(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return "\n".join(lines)


def _splice(text: str, rng: random.Random) -> str:
    other = (SHIPPED / rng.choice(CONFIGS)).read_text(encoding="utf-8").split("\n")
    lines = text.split("\n")
    start = rng.randrange(len(other))
    place = rng.randrange(len(lines))
    return "\n".join(lines[:place] + other[start : start + rng.randint(1, 30)] + lines[place:])


def _value(line: str, rng: random.Random) -> str:
    return re.sub(r"(:\s+).*", lambda found: found[1] + rng.choice(VALUES), line, count=1)


def _flow_value(line: str, rng: random.Random) -> str:
    words = list(re.finditer(r"[\w./-]+", line))
    if not words:
        return line
    word = rng.choice(words)
    return line[: word.start()] + rng.choice(VALUES) + line[word.end() :]


def _typo(line: str, rng: random.Random) -> str:
    place = rng.randrange(len(line) + 1)
    letter = rng.choice("abcxyz_.:-0 #\"'{}[],&*!|>%@\t")
    return rng.choice((line[:place] + letter + line[place:], line[:place] + line[place + 1 :]))


def _bomb(text: str, rng: random.Random) -> str:
    """Aliases of aliases: `wide` to the power of `levels` values."""
    levels, wide = rng.randint(1, 9), rng.randint(1, 12)
    form = rng.choice(("[{}]", "{{<<: [{}]}}"))
    first = "[x]" if form == "[{}]" else "{x: 1, y: [2]}"
    lines = [f"b0: &b0 {first}"]
    for level in range(1, levels + 1):
        lines.append(f"b{level}: &b{level} {form.format(', '.join([f'*b{level - 1}'] * wide))}")
    return _at_a_line(text, "\n".join(lines), rng)


def _nested(text: str, rng: random.Random) -> str:
    depth = rng.choice((5, 19, 21, 500, 5000, 40_000))
    open_, close = rng.choice((("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")))
    return _at_a_line(text, f"deep: {open_ * depth}{close * (depth if rng.random() < 0.5 else 0)}", rng)


def _many(text: str, rng: random.Random) -> str:
    count = rng.choice((10, 500, 4000, 50_000))
    make: tuple[Callable[[], str], ...] = (
        lambda: "\n".join(f"namm{i}: {i}" for i in range(count)),
        lambda: f"precision: {{modes: [{'fp32, ' * count}]}}",
        lambda: f"budgets: {{top1: {{target: [{', '.join(f'cqu{i}' for i in range(count))}]}}}}",
        lambda: "targets: {" + ", ".join(f"t{i}: {{engine: onnx}}" for i in range(count)) + "}",
        lambda: "data: {options: {" + ", ".join(f"train_per_clas{i}: x" for i in range(count)) + "}}",
        lambda: "\n".join("name: x" for _ in range(count)),
        lambda: f"{'k' * count}: 1",
        lambda: f"name: {'n' * count}",
        lambda: "distill:\n" + "\n".join(f"  epoch{i}: 1" for i in range(count)),
        lambda: "#" * count,
        lambda: "\n" * count,
    )
    return _at_a_line(text, rng.choice(make)(), rng)


def _at_a_line(text: str, what: str, rng: random.Random) -> str:
    lines = text.split("\n")
    lines.insert(rng.choice((len(lines), rng.randrange(len(lines) + 1))), what)
    return "\n".join(lines)


_TEXTS: tuple[Callable[[str, random.Random], str], ...] = (
    _line(_value),
    _line(_value),
    _line(_flow_value),
    _line(_flow_value),
    _line(_typo),
    _line(_typo),
    _line(lambda line, rng: " " * rng.randint(0, 6) + line.lstrip()),
    _line(lambda line, rng: "\t" + line),
    _line(lambda line, rng: "\n".join([line] * rng.randint(0, 3))),
    _line(lambda line, rng: line + rng.choice(VALUES)),
    _swap_lines,
    _splice,
    _bomb,
    _nested,
    _many,
    lambda text, rng: _at_a_line(text, rng.choice(LINES), rng),
    lambda text, rng: text[: rng.randrange(len(text) + 1)],
    lambda text, rng: text.replace(
        *rng.choice((("true", "maybe"), ("{", "["), ("]", "}"), (": ", ":"), ("  ", " ")))
    ),
)


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content or b"x")
    for _ in range(rng.choice((1, 1, 3, 20))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut_or_repeat(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    end = start + rng.randint(0, 40)
    return content[:start] + content[start:end] * rng.choice((0, 0, 2, 1000)) + content[end:]


_BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _flip,
    _cut_or_repeat,
    lambda content, rng: b"\xef\xbb\xbf" + content,
    lambda content, rng: content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\x85", b"\x00"))),
    lambda content, rng: content.decode("utf-8", "replace").encode("utf-16"),
    lambda content, rng: content + bytes(rng.randrange(256) for _ in range(20)),
)


@dataclass
class Outcome:
    """What came of some mutants.

    Attributes:
        codes: how many ended with each exit code.
        bad: each that broke a promise: seed and which.
        cpu_s: the largest processor time that one took, in s.
        wall_s: the same by the clock on the wall.
        slowest: its seed.
        peak_mb: the largest resident memory of the process, in MB (10^6 bytes).
    """

    codes: dict[int, int]
    bad: list[str]
    cpu_s: float
    wall_s: float
    slowest: int
    peak_mb: float


class Hangs(BaseException):
    """A mutant took far too long."""


def read_mutants(seeds: range, folder: Path, limit_s: float) -> Outcome:
    """Check each mutant by `config check`, and show those that are good.

    Args:
        seeds: which.
        folder: an empty folder; the shipped configs are copied there.
        limit_s: a mutant that takes more processor time is broken off.
    """
    prepare(folder)
    codes: collections.Counter[int] = collections.Counter()
    bad: list[str] = []
    cpu_s = wall_s = 0.0
    slowest = -1
    with contextlib.chdir(folder):
        command("config", "check", str(CONFIGS[0]))  # the first one imports the packages
        for seed in seeds:
            made = mutant(seed)
            made.path.write_bytes(made.content)
            arguments = [str(made.path), *(word for text in made.overrides for word in ("--set", text))]
            cpu, wall = time.process_time(), time.perf_counter()
            try:
                with _limited(limit_s):
                    code, said = command("config", "check", *arguments)
            except Hangs:
                bad.append(f"{seed}: takes more than {limit_s} s")
                continue
            wall_s = max(wall_s, time.perf_counter() - wall)
            if (took := time.process_time() - cpu) > cpu_s:
                cpu_s, slowest = took, seed
            codes[code] += 1
            bad += [f"{seed}: {fault}" for fault in _faults(code, said, str(made.path))]
            if code == 0 and (shown := command("config", "show", *arguments))[0] != 0:
                bad.append(f"{seed}: good, and cannot be shown: {shown}")
            made.path.unlink()
    return Outcome(dict(codes), bad, cpu_s, wall_s, slowest, peak_bytes() / 1e6)


def prepare(folder: Path) -> None:
    """Copy the shipped configs to a folder, with files beside them that mutants may extend."""
    shutil.copytree(SHIPPED, folder, dirs_exist_ok=True)
    for place in (folder, folder / "paper"):
        os.mkfifo(place / "pipe.yaml")
        (place / "loop.yaml").symlink_to("loop.yaml")


def _faults(code: int, said: str, path: str) -> Iterator[str]:
    """Promises that the answer to a mutant breaks."""
    lines = said.rstrip("\n").split("\n")
    if code not in (0, 2):
        yield f"exit {code}: {said[:300]!r}"
    elif code == 2 and not said.strip():
        yield "refused without a word"
    if len(lines) > 23:
        yield f"{len(lines)} lines"
    for line in lines:
        if len(line) > 1500:
            yield f"a line of {len(line)} characters"
        if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", line):
            yield f"a control character: {line[:300]!r}"
    first, *others = lines if code == 2 else [path]
    if not re.match(r"(\S+\.yaml(:\d+)?: |--set)", first) and first != path:
        yield f"no place: {first[:300]!r}"
    for line in others:
        if not re.match(
            r"  +(fix: |and [\d,]+ more|\S+\.yaml:\d+: |--set |[\w.]+: is required and missing)", line
        ):
            yield f"no file and line: {line[:300]!r}"


def command(*arguments: str) -> tuple[int, str]:
    """Run a command line in this process; its exit code and what it said."""
    from pipeline import cli

    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # as strict as a terminal
    with (
        mock.patch.object(sys, "argv", ["figkd-pipeline", *arguments]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    said.flush()
    return code, said.buffer.getvalue().decode("utf-8")


@contextlib.contextmanager
def _limited(limit_s: float) -> Iterator[None]:
    def stop(_signal: int, _frame: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


if __name__ == "__main__":
    first, count = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, 2_000_000_000))  # the machine survives a defect
    print(json.dumps(vars(read_mutants(range(first, first + count), Path(sys.argv[3]), limit_s=30))))
