"""Configs that nobody means to write: each gets a clear message, none a traceback, none hides other problems."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from export.terminal import one_line
from pipeline.config import load_config
from pipeline.config.problems import MAX_TOLD
from pipeline.config.yaml_tree import MAX_KEY
from pipeline.core.errors import ConfigError

GOOD = """\
name: demo
data: {dataset: fonts, image_size: 32}
teacher: {model: figkd/resnet_tiny}
student: {model: figkd/dsconv_nano}
"""
TARGETS = "targets: {cpu: {engine: onnxruntime}}\n"


def _error(folder: Path, text: str, *overrides: str) -> str:
    path = folder / "odd.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + TARGETS + "1: x\n", "keys must be text"),
        (GOOD + TARGETS + "null: x\n", "keys must be text"),
        ("a: &x [*x]\n", "contains itself"),
        (GOOD + TARGETS + "budgets: &b {top1: *b}\n", "contains itself"),
        (GOOD + TARGETS + "distill:\n", "distill: must be a section of keys"),
        (
            GOOD + TARGETS + "budgets: {top1: 80}\n",
            "budgets.top1 = 80: must be a section of keys; such as {min: ...}",
        ),
        (GOOD + TARGETS + "distill: {lr: .inf}\n", "distill.lr"),
        (GOOD + TARGETS + "distill: {batch_size: 1}\n", "distill.batch_size"),
        (GOOD + TARGETS + "distill: {figkd: {weight: 0, ce_weight: 0}}\n", "nothing to learn"),
        (GOOD + TARGETS + "seed: 99999999999999999999\n", "seed"),
        (GOOD + "targets: [a, b]\n", "targets = ['a', 'b']: must be a section of keys"),
    ],
    ids=lambda value: value.splitlines()[-1] if "\n" in value else value,
)
def test_odd_files(tmp_path: Path, text: str, said: str) -> None:
    """One message, at the key."""
    assert said in _error(tmp_path, text)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("precision.modes.0.x=1", "holds a value"),
        ("precision.modes.²=1", "not a position"),
        ("targets.cpu.batch_sizes=[1, 1]", "names a size twice"),
    ],
)
def test_odd_overrides(tmp_path: Path, override: str, said: str) -> None:
    """The same for `--set`."""
    text = GOOD + TARGETS + "precision: {modes: [fp32, fp16]}\nexport: {dynamic_batch: true}\n"
    assert said in _error(tmp_path, text, override)


def test_several_bad_items_of_a_list_stay_at_their_key(tmp_path: Path) -> None:
    """Problems of a list's items do not wander to the sections around it, nor hide those sections' problems."""
    text = GOOD + "targets: {cpu: {engine: onnxruntime, batch_sizes: [0, a, 1.5], theads: 2}}\n"
    lines = _error(tmp_path, text).splitlines()
    assert len(lines) == 3
    assert "targets.cpu.batch_sizes" in lines[1] and "targets.cpu.theads: unknown key" in lines[2]


def test_a_value_that_fits_no_member_of_a_union_is_one_problem(tmp_path: Path) -> None:
    """pydantic reports a union once a member; people want it once."""
    text = GOOD.replace("image_size: 32", "image_size: 32, options: {train_per_class: [4]}") + TARGETS
    assert _error(tmp_path, text).count("data.options.train_per_class") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("distill: {threads: AUTO}\n", "or must be 'auto'; did you mean 'auto'?"),
        ("distill: {threads: many}\n", "unable to parse string as an integer, or must be 'auto'"),
        ("distill: {threads: 0}\n", "must be greater than or equal to 1, or must be 'auto'"),
        ("precision: {select: in8}\n", "'bf16' or 'int8'; did you mean 'int8'?"),
        (
            "student: {model: figkd/dsconv_nano, classes: 5}\n",
            "'same as data', or must be a valid list, or must be a path",
        ),
        (
            "student: {model: figkd/dsconv_nano, classes: [5, 6]}\n",
            "'same as data', or must be a valid string",
        ),
    ],
)
def test_all_that_a_union_takes_is_said(tmp_path: Path, text: str, said: str) -> None:
    """Protects against a message that names one kind of value only."""
    key = text.partition(":")[0]
    base = "".join(line for line in GOOD.splitlines(keepends=True) if not line.startswith(f"{key}:"))
    assert said in _error(tmp_path, base + text + TARGETS)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("seed: 2020-13-45\n", 6, "seed = '2020-13-45': is a date"),
        ("seed: !!int abc\n", 6, "seed = 'abc': is not an integer"),
        ("distill:\n  amp: bf16\n  lr: !!float x\n", 8, "distill.lr = 'x': is not a number"),
        (
            "precision:\n  modes:\n  - fp32\n  - !!bool maybe\n",
            9,
            "precision.modes.1 = 'maybe': is not true or",
        ),
        ("seed: " + "1" * 5000 + "\n", 6, "seed = '1111"),
        ("store: !!binary aGk=\n", 6, "store = 'aGk=': has the type !!binary"),
        ('output: "a\\0b"\n', 6, "output = 'a\\x00b': has the control character U+0000"),
        ("output: >\n  a\n", 6, "output = 'a\\n': has a line break"),
        ("output: " + "x" * 300 + "\n", 6, "output = 'xxx"),
        ("x: " + "[" * 500 + "]" * 500 + "\n", 6, "nested too deeply"),
        ("precision: {modes: [" + "x, " * 4900 + "]}\n", 6, "precision.modes"),
        ("precision: {exclude: [" + "a, " * 1001 + "]}\n", 6, "at most 1000 items, not 1001"),
        ("distill: {teacher.lr: 1}\n", 6, "distill.teacher.lr: unknown key"),
        (f"{'k' * (MAX_KEY + 1)}: 1\n", 6, "a key of more than 128 characters"),
        ('"a\\nb\\e[31m": 1\n', 6, "a\\nb\\x1b[31m: a key with a line break"),
    ],
    ids=lambda value: value[:30].strip() if isinstance(value, str) else str(value),
)
def test_what_yaml_can_say_and_a_config_cannot_hold(tmp_path: Path, text: str, line: int, said: str) -> None:
    """One problem, on one line, with its key, file and line."""
    error = _error(tmp_path, GOOD + TARGETS + text)
    first, *fixes = error.splitlines()
    assert first.startswith(f"{tmp_path / 'odd.yaml'}:{line}: ") and len(fixes) <= 1
    assert said in first
    assert first.isprintable() and len(first) < 600


def test_faults_of_yaml_come_with_all_other_problems(tmp_path: Path) -> None:
    """They do not hide the rest, and a required key with a fault is not missing too."""
    text = (
        GOOD.replace("demo", "!!float x").replace("32", "4") + "targets: {cpu: {engine: !!int x}}\nsede: 1\n"
    )
    lines = _error(tmp_path, text).splitlines()
    assert [line.split(": ")[1].split(" = ")[0] for line in lines[1:]] == [
        "name", "data.image_size", "targets.cpu.engine", "sede",
    ]  # fmt: skip


def test_a_missing_key_names_the_file(tmp_path: Path) -> None:
    """It has no line, and one command may check many files."""
    error = _error(tmp_path, GOOD.replace("name: demo\n", "") + TARGETS)
    assert error.startswith(f"{tmp_path / 'odd.yaml'}: name: is required and missing")


def test_the_first_problems_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    """Thousands of problems are nothing to read, and near names of all of them took minutes."""
    text = GOOD + TARGETS + "".join(f"namm{i}: 1\n" for i in range(2000))
    began = time.process_time()
    lines = _error(tmp_path, text).splitlines()
    assert time.process_time() - began < 20  # about 0.3 s; it grew with the square of their number
    assert "2,000 problems" in lines[0] and len(lines) == MAX_TOLD + 2
    assert "odd.yaml:6: namm0: unknown key; did you mean 'name'?" in lines[1]
    assert lines[-1].strip() == "and 1,980 more"


@pytest.mark.parametrize(
    ("parent", "said"),
    [
        ("pipe.yaml", "is a pipe"),
        (".", "is a folder"),
        ("/dev/zero", "is a device"),
        ("loop.yaml", "Too many levels of symbolic links"),
        ("large.yaml", "is larger than"),
        ("x" * 300, "File name too long"),
        ("x" * 5000, "longer than 4,096"),
        ("x/" * 2000 + "x", "does not exist"),
        (r'"a\0b"', "the control character U+0000"),
        ("!!int x", "is not an integer"),
        ("2020-01-01", "is a date"),
        ("5", "must name one file"),
        ("{a: b}", "must name one file"),
    ],
    ids=lambda value: value[:20],
)
def test_extends_is_opened_as_carefully(tmp_path: Path, parent: str, said: str) -> None:
    """What it names is refused at its own line."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "large.yaml").write_text("#" * 100_001)
    error = _error(tmp_path, GOOD + TARGETS + f"extends: {parent}\n")
    assert said in error and error.startswith(f"{tmp_path / 'odd.yaml'}:6: extends")


def test_a_chain_of_files_is_bounded(tmp_path: Path) -> None:
    """In files, and in all their bytes and values together."""
    for i in range(40):
        (tmp_path / f"c{i}.yaml").write_text(f"extends: c{i + 1}.yaml\n")
    assert "c7.yaml:1: extends a chain of more than 8 files" in _error(tmp_path, "extends: c1.yaml\n")
    (tmp_path / "base.yaml").write_text(GOOD + TARGETS + "#" * 60_000)
    assert "extends 'base.yaml', which is larger" in _error(tmp_path, "extends: base.yaml\n" + "#" * 60_000)
    (tmp_path / "base.yaml").write_text("x: [" + "a," * 3000 + "]\n")
    assert "base.yaml:1: more than 5,000" in _error(
        tmp_path, "extends: base.yaml\nx: [" + "a," * 3000 + "]\n"
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("name=!!float x", "--set name=!!float x: name = 'x': is not a number"),
        ("seed=2020-13-45", "--set seed=2020-13-45: seed = '2020-13-45': is a date"),
        ("distill={lr: !!float x}", "distill.lr = 'x': is not a number"),
        (
            "data={image_size: 4, dataset: fonts}",
            "--set data={image_size: 4, dataset: fonts}: data.image_size = 4",
        ),
        ("name=[", "--set name=[: not valid YAML"),
        ("name=\x1b[31m", r"--set name=\x1b[31m: not valid YAML: the control character U+001B"),
        ("name=\udcff", r"--set name=\xff: not valid YAML: the control character U+DCFF"),
        (".".join("a" * 1000) + "=1", "is too long"),
        ("precision.modes." + "9" * 5000 + "=1", "is too long"),
        ("precision.modes." + "9" * 100 + "=1", "is not a position in a list of 2"),
        ("data={a: &a [x, x, x, x], b: " + "[" * 30, "nested too deeply"),
        ("data=[" + "x," * 20_000 + "]", "more than 5,000"),
        ("data=" + "#" * 100_000, "larger than"),
        ("data=&x [*x]", "contains itself"),
        ("name=a\n---\nb", "another document"),
        (
            "precision.exclude.0=x",
            "--set precision.exclude.0=x: precision.exclude = {'0': 'x'}: must be a valid list",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_overrides_have_the_same_bounds(tmp_path: Path, override: str, said: str) -> None:
    """Whatever a script puts there: the place is `--set`, and the text of it is cut."""
    error = _error(tmp_path, GOOD + TARGETS + "precision: {modes: [fp32, fp16]}\n", override)
    first = error.splitlines()[0]
    assert said in first and first.startswith("--set") and first.isprintable() and len(first) < 300


def test_a_problem_of_a_merged_key_is_told_where_it_is_written(tmp_path: Path) -> None:
    """`<<` brings a key from elsewhere in the file."""
    text = GOOD.replace("{model: figkd/resnet_tiny}", "{model: figkd/resnet_tiny, <<: *t}")
    error = _error(tmp_path, "distill: &t\n  momentum: 2\n" + text + TARGETS)
    assert "odd.yaml:2: distill.momentum" in error and "odd.yaml:2: teacher.momentum" in error


@pytest.mark.parametrize("name", ["a\nb.yaml", "a\x1b[31m.yaml", "a\udcff.yaml"], ids=repr)
def test_the_name_of_the_file_stays_on_its_line(tmp_path: Path, name: str) -> None:
    """Missing, broken, faulty or extended: messages are of plain characters."""
    path, shown = tmp_path / name, f"{tmp_path}/{one_line(name)}"
    good = GOOD + TARGETS
    for content in (None, b"a: [", b"- a", b"\xff", b"seed: !!int x", good.encode() + b"x: 1", b"a: 1\na: 2"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        said = str(caught.value)
        assert said.startswith(shown) and all(line.isprintable() for line in said.splitlines())
