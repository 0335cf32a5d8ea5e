"""Search files: typed, checked against the config that they vary, every problem with its key and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.config.dimensions import Choice, Real, Whole, point, size
from pipeline.config.search_file import LoadedSearch, load_search, trial_config
from pipeline.core.errors import ConfigError

BASE = """\
name: demo
data: {dataset: fonts, image_size: 32}
teacher: {model: figkd/resnet_tiny}
student: {model: figkd/dsconv_nano}
distill: {epochs: 9}
targets:
  cpu: {engine: onnxruntime}
  other: {engine: onnxruntime, threads: 1}
"""
HEAD = "base: base.yaml\n"
SPACE = "space: {distill.lr: [0.1, 0.2]}\n"
GOAL = "objectives: {val_top1: max}\n"


def _load(folder: Path, text: str, *overrides: str, base: str = BASE) -> LoadedSearch:
    (folder / "base.yaml").write_text(base, encoding="utf-8")
    path = folder / "find it.yaml"
    path.write_text(text, encoding="utf-8")
    return load_search(path, overrides)


def _error(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(folder, text, *overrides)
    return str(caught.value)


def test_a_search_is_read_into_typed_dimensions_and_objectives(tmp_path: Path) -> None:
    """Patterns are expanded, ranges typed; `--set search.x` is the search's, the rest the base's."""
    search = _load(
        tmp_path,
        HEAD
        + """\
space:
  student.model: ["figkd/dsconv*", figkd/resnet_tiny, figkd/resnet_tiny]
  distill.lr: {log: [0.01, 1]}
  distill.batch_size: {int: [32, 64]}
  distill.figkd.weight: {uniform: [0, 2]}
objectives: {val_top1: max, latency_p50_ms@cpu: min, throughput@other: max}
halving: {factor: 3}
""",
        "search.trials=5",
        "teacher.epochs=3",
    )
    assert search.space["student.model"] == Choice(("figkd/dsconv_nano", "figkd/resnet_tiny"))
    assert search.space["distill.lr"] == Real(0.01, 1.0, log=True)
    assert search.space["distill.batch_size"] == Whole(32, 64)
    assert [(o.name, o.target, o.direction) for o in search.objectives] == [
        ("val_top1", "", "max"),
        ("latency_p50_ms@cpu", "cpu", "min"),
        ("throughput@other", "other", "max"),
    ]
    assert (search.name, search.trials, search.wave, search.rungs) == ("find-it", 5, 5, (1, 3, 9))
    assert search.base.teacher.epochs == 3


def test_a_section_of_a_config_is_a_search_too(tmp_path: Path) -> None:
    """The config runs as before; trials have no section `search`, so that they share nothing with its text."""
    section = "search:\n  space: {data.image_size: [24, 32], distill.lr: [0.1, 0.3]}\n  objectives: {val_top1: max}\n"
    path = tmp_path / "whole.yaml"
    path.write_text(BASE + section + "  sampler: grid\n", encoding="utf-8")
    search = load_search(path, ["distill.epochs=2"])
    assert (search.name, search.trials, search.wave, search.rungs) == ("demo-search", 4, 4, (2,))
    config = trial_config(search, {"data.image_size": 24, "distill.lr": 0.3}, "demo-t1", {"distill.seed": 7})
    assert (config.name, config.search, config.data.image_size) == ("demo-t1", None, 24)
    assert (config.distill.lr, config.distill.seed, config.distill.epochs) == (0.3, 7, 2)
    assert load_config(path).search is not None
    path.write_text(BASE, encoding="utf-8")
    with pytest.raises(ConfigError, match="neither a section 'search' nor a key 'base'"):
        load_search(path)


def test_all_problems_are_told_at_once_with_line_and_fix(tmp_path: Path) -> None:
    """As for a deploy config."""
    said = _error(
        tmp_path,
        HEAD
        + """\
space:
  student.modl: [a]
  data.image_size: [24, 4000]
  distill.lr: {log: [0, 1]}
  distill.batch_size: {int: [9, 4]}
  data.options.train_per_class: [1]
  distill: [1]
  student.model: [figkd/nope]
objectives: {val_top1: min, latency_p50_ms: min, engine_mb@cp: min, foo: max, val_top5@cpu: max}
""",
    )
    for expected in (
        "find it.yaml:3: space.student.modl: no such key in a config; did you mean 'model'?",
        "find it.yaml:4: space.data.image_size = 4000: must be less than or equal to 1024",
        "find it.yaml:5: space.distill.lr = [0.0, 1.0]: a logarithm needs numbers above 0",
        "find it.yaml:6: space.distill.batch_size = [9, 4]: ends before it begins",
        "cannot be varied: it would compare accuracy on other images",
        "space.distill: is a section; vary one of its keys",
        "space.student.model = 'figkd/nope': unknown model",
        "objectives.val_top1 = 'min': is better the other way; write max",
        "write latency_p50_ms@cpu or latency_p50_ms@other",
        "there is no target 'cp'; did you mean 'cpu'?",
        "objectives.foo = 'max': unknown objective",
    ):
        assert expected in said, (expected, said)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + "space: {}\n" + GOAL, "space = {}: must have at least 1 item"),
        (HEAD + "space: {distill.lr: []}\n" + GOAL, "must have at least 1 item"),
        (HEAD + "space: {distill.lr: {lg: [1, 2]}}\n" + GOAL, "unknown key; choose from: int, log, uniform"),
        (HEAD + "space: {distill.lr: {}}\n" + GOAL, "must have exactly one of log, uniform and int"),
        (HEAD + SPACE + "objectives: {engine_mb@cpu: min}\n", "do not name val_top1"),
        (HEAD + SPACE + GOAL + "trils: 4\n", "trils: unknown key; did you mean 'trials'?"),
        (HEAD + SPACE + GOAL + "halving: {min_epochs: 9}\n", "leaves nothing to promote a trial to"),
        (HEAD + "space: {distill.epochs: [1, 2]}\n" + GOAL + "halving: {}\n", "the same epochs, which are varied"),
        (HEAD + "space: {distill.lr: {log: [1, 2]}}\n" + GOAL + "sampler: grid\n", "a grid needs a list of values"),
        (
            HEAD + "space: {distill.epochs: {int: [1, 200]}, distill.batch_size: {int: [2, 201]}}\n" + GOAL
            + "sampler: grid\n",
            "a grid of 40,000 points (200 x 200); at most 10,000 are tried; list fewer values",
        ),
        (HEAD + SPACE + "objectives: {val_top1: max, engine_mb@cpu: min}\nscout: false\n", "is needed by an objective"),
        (HEAD + SPACE + GOAL + "trials: 10001\n", "less than or equal to 10000"),
        ("base: no.yaml\n" + SPACE + GOAL, "no such config file"),
    ],
)  # fmt: skip
def test_bad_input(text: str, expected: str, tmp_path: Path) -> None:
    """Each ends before anything runs, with what to write instead."""
    assert expected in _error(tmp_path, text)


def test_a_finite_space_is_numbered(tmp_path: Path) -> None:
    """A grid goes through every combination once, the last key fastest."""
    space = {"a": Choice((1, 2)), "b": Whole(5, 7)}
    points = [point(space, index) for index in range(int(size(space)))]
    assert points[:3] == [{"a": 1, "b": 5}, {"a": 1, "b": 6}, {"a": 1, "b": 7}]
    assert len({str(each) for each in points}) == 6
