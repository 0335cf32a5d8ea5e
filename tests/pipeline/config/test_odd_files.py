"""Configs that nobody means to write: each gets a clear message, none a traceback, none hides other problems."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.errors import ConfigError

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
