"""Comparison with a baseline: like with like, a change has a sign and an interval, noise is no regression."""

from __future__ import annotations

import json
import math
import os
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import ConfigError
from pipeline.report.comparison import other_machine, remarks
from pipeline.results.compare import (
    against,
    check_classes,
    parse_percent,
    read_baseline,
    rows_from,
)
from pipeline.results.latency import BenchmarkDocument, BenchmarkRow


def _row(median: float, noise: float | None = 0.01, **other: Any) -> BenchmarkRow:
    interval = None if noise is None else (median * (1 - noise), median * (1 + noise))
    fields: dict[str, Any] = {
        "id": "cpu/fp32", "batch": 1, "boundary": "engine", "n": 1000, "min": median, "mean": median,
        "median": median, "p90": median, "p95": median, "p99": median, "max": median, "std": 0.0,
        "cv_percent": 0.0, "throughput": 1000 / median, "drift_percent": 0.0, "warnings": [], "samples": "x",
        "intervals": {"median": interval},
    }  # fmt: skip
    return BenchmarkRow(**fields | other)


def test_slower_is_positive() -> None:
    """The change is relative to the baseline, its interval is what both intervals leave possible."""
    (change,) = against([_row(1.1)], [_row(1.0)])
    assert change.percent == pytest.approx(10)
    assert change.interval == (
        pytest.approx(100 * (1.1 * 0.99 / 1.01 - 1)),
        pytest.approx(100 * (1.1 * 1.01 / 0.99 - 1)),
    )
    assert against([_row(0.5)], [_row(1.0)])[0].percent == pytest.approx(-50)


def test_only_like_is_compared_with_like() -> None:
    """Another batch size, boundary, number of streams, rate or engine is no baseline."""
    others = (
        {"batch": 2},
        {"boundary": "engine+copies"},
        {"streams": 2},
        {"rate_fps": 30.0},
        {"id": "cpu/fp16"},
    )
    for other in others:
        assert against([_row(1.0)], [_row(1.0, **other)]) == []


def test_files_are_found_by_name_where_it_is_unique() -> None:
    """A build in another folder is compared with the one before; two of a name are not guessed at."""
    before = [_row(1.0, id="old/net.onnx"), _row(2.0, id="old/other.onnx")]
    (change,) = against([_row(1.5, id="new/net.onnx")], before)
    assert (change.before.id, change.percent) == ("old/net.onnx", pytest.approx(50))
    two = [_row(1.0, id="a/net.onnx"), _row(1.0, id="b/net.onnx")]
    assert against(two, before) == [] and against([_row(1.0, id="new/net.onnx")], two) == []


@pytest.mark.parametrize(
    ("now", "noise", "limit", "judgement"),
    [
        (1.10, 0.01, 5.0, "regression"),
        (1.04, 0.01, 5.0, "slower"),
        (1.10, 0.08, 5.0, "noise"),
        (1.10, 0.01, None, "slower"),
        (1.01, 0.01, 0.0, "noise"),
        (0.90, 0.01, 5.0, "faster"),
        (1.10, None, 5.0, "regression"),  # an old baseline without intervals: by the medians alone
    ],
)
def test_judgements(now: float, noise: float | None, limit: float | None, judgement: str) -> None:
    """A regression is more than allowed and more than noise."""
    (change,) = against([_row(now, noise)], [_row(1.0, noise)], limit)
    assert change.judgement == judgement


def test_noise_beyond_the_limit_is_said() -> None:
    """Nobody must take silence for a pass."""
    changes = against([_row(1.10, 0.08)], [_row(1.0, 0.08)], 5.0)
    (said,) = remarks(changes, 5.0)
    assert (
        said.startswith("inside the noise: cpu/fp32") and "10.0 % slower" in said and "quiet machine" in said
    )
    (said,) = remarks(against([_row(1.2)], [_row(1.0)], 5.0), 5.0)
    assert said.startswith("regression: ") and "allowed 5 %" in said
    assert remarks(against([_row(1.01)], [_row(1.0)], 5.0), 5.0) == []


def test_what_it_wrote_is_a_baseline(tmp_path: Path) -> None:
    """Round trip."""
    row = _row(1.0)
    document = BenchmarkDocument(created="2026-01-01T00:00:00Z", latency=rows_from([row]))
    (tmp_path / "x.json").write_text(document.model_dump_json())
    assert read_baseline(tmp_path / "x.json") == document


def test_another_machine_is_said() -> None:
    """Numbers of two CPUs differ for other reasons than the change under test."""
    here, there = ({"before": {"cpu": {"model": name}, "gpus": []}} for name in ("A", "B"))
    assert "another machine (B; here A)" in other_machine(here, there)
    assert other_machine(here, here) == other_machine(here, {}) == ""


@pytest.mark.parametrize(("text", "value"), [("5%", 5.0), ("5", 5.0), ("0.5 %", 0.5), (None, None)])
def test_percentages(text: str | None, value: float | None) -> None:
    """With and without the sign."""
    assert parse_percent(text) == value


@pytest.mark.parametrize("text", ["five", "-3%", "nan"])
def test_no_percentages(text: str) -> None:
    """Anything else is a usage error."""
    with pytest.raises(ConfigError):
        parse_percent(text)


@pytest.mark.parametrize("content", ["{}", "[]", "no json", json.dumps({"latency": [{"id": "x"}]})])
def test_a_baseline_of_another_kind_is_refused(content: str, tmp_path: Path) -> None:
    """A file that is none gets one clear message."""
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ConfigError, match=r"neither a result\.json nor a benchmark") as error:
        read_baseline(tmp_path / "x.json")
    assert "\n" not in error.value.what and len(error.value.what) < 400


@pytest.mark.parametrize("median", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("where", ["median", "intervals", "round_medians"])
def test_a_baseline_with_times_that_are_none_is_refused(median: float, where: str, tmp_path: Path) -> None:
    """Nothing is divided by zero, and no comparison with NaN passes for a good one."""
    value: Any = {"intervals": {"median": [median, 1.0]}, "round_medians": [median]}.get(where, median)
    row = _row(1.0).model_dump() | {where: value}
    (tmp_path / "x.json").write_text(json.dumps({"created": "", "latency": [row]}))
    with pytest.raises(ConfigError, match="a latency of 'cpu/fp32' is no positive number"):
        read_baseline(tmp_path / "x.json")


def test_a_baseline_that_is_no_file_is_refused_without_a_wait(tmp_path: Path) -> None:
    """A folder and a FIFO."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, says in (("folder", "Is a directory"), ("pipe", "not a regular file")):
        with pytest.raises(ConfigError, match=f"cannot be read: {says}"):
            read_baseline(tmp_path / name)


def test_mutants_of_a_baseline(tmp_path: Path) -> None:
    """400 mutants: one clear line, or rows that are compared."""
    machine = {"before": {"cpu": {"model": "A"}, "gpus": []}}
    document = BenchmarkDocument(created="", latency=[_row(1.0)], machine=machine)
    junk: list[Any] = [None, True, -1, 0, 1e400, "", "\x1b[2J", [], [[1]], {}, {"a": 1}, 10**30]
    compared = 0
    for seed in range(400):
        chance, values = random.Random(seed), json.loads(document.model_dump_json())
        place: Any = values
        while True:
            key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if not isinstance(place[key], dict | list) or not place[key] or chance.random() < 0.3:
                break
            place = place[key]
        place[key] = chance.choice(junk)
        data = bytearray(json.dumps(values).encode())
        if seed % 4 == 0:
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "x.json").write_bytes(data)
        try:
            before = read_baseline(tmp_path / "x.json")
        except ConfigError as error:
            assert len(str(error)) < 1000
            continue
        compared += 1
        remarks(against([_row(2.0)], before.latency, 5.0), 5.0)
        other_machine(before.machine, machine)
    assert 0 < compared < 400


def _rounds(median: float, **other: Any) -> BenchmarkRow:
    """Ten rounds within one percent of the median."""
    return _row(median, round_medians=[median * (1 + 0.001 * (i - 5)) for i in range(10)], **other)


@pytest.mark.parametrize("which", ["now", "before"])
def test_a_regression_under_load_is_undecided(which: str) -> None:
    """The same files in the same minute, with others at work: said, and no regression."""
    now, before = _rounds(1.3, disturbed=which == "now"), _rounds(1.0, disturbed=which == "before")
    (change,) = against([now], [before], 5.0)
    assert change.judgement == "undecided" and change.to_dict()["disturbed"]
    (said,) = remarks([change], 5.0)
    assert said.startswith("undecided: cpu/fp32") and "measure again on a quiet machine" in said
    assert ("the baseline, so" in said) == (which == "before")
    (plain,) = against([_rounds(2.1, disturbed=True)], [_rounds(1.0)], 5.0)
    assert plain.judgement == "regression", "even its fastest sample takes twice as long"
    (quiet,) = against([_rounds(1.3)], [_rounds(1.0)], 5.0)
    assert quiet.judgement == "regression"


def test_more_comparisons_ask_for_more() -> None:
    """A row whose rounds are slower by a chance of 2 % is a regression alone, and noise among ten."""
    before = [1.0, 1.02, 1.04, 1.06]
    now = [1.05, 1.07, 1.08, 1.09]  # one pair in sixteen the other way round
    doubtful = _row(1.075, 0.001, round_medians=now)
    old = _row(1.03, 0.001, round_medians=before)
    (alone,) = against([doubtful], [old], 2.0)
    assert alone.p is not None and 0.02 < alone.p < 0.05 and alone.judgement == "regression"
    others = [_rounds(1.0, id=f"cpu/{i}") for i in range(9)]
    first, *rest = against([doubtful, *others], [old, *others], 2.0)
    assert first.judgement == "noise" and {c.judgement for c in rest} == {"noise"}
    (said,) = remarks([first], 2.0)
    assert said.startswith("inside the noise")


def test_a_baseline_of_an_earlier_version_knows_its_load(tmp_path: Path) -> None:
    """It has the machine's account, and no flag in its rows."""
    row = {k: v for k, v in _row(1.0).model_dump().items() if k != "disturbed"}
    during = {"seconds": 30.0, "own_cores": 0.9, "other_cores": 1.7, "steal_cores": 0.0}
    values = {"created": "", "latency": [row], "machine": {"during": during}}
    (tmp_path / "x.json").write_text(json.dumps(values))
    assert [r.disturbed for r in read_baseline(tmp_path / "x.json").latency] == [True]
    during["other_cores"] = 0.01
    (tmp_path / "x.json").write_text(json.dumps(values))
    assert [r.disturbed for r in read_baseline(tmp_path / "x.json").latency] == [False]


def test_a_baseline_of_other_classes_is_refused() -> None:
    """Latencies of networks for other classes are no comparison; the order of the same classes does not matter."""
    check_classes(["a", "b"], ["b", "a"], "--baseline x")
    check_classes(["a", "b"], [], "--baseline x")
    with pytest.raises(ConfigError, match=r'only in the baseline: "c"; only in this measurement: "b"'):
        check_classes(["a", "b"], ["a", "c"], "--baseline x")


def test_a_result_of_before_is_read(tmp_path: Path) -> None:
    """The wavelet's order was called `class_order`, and there were no `outputs`."""
    from pipeline.results.result import Result
    from tests.pipeline.report.sample import sample

    values = json.loads(sample().model_dump_json())
    assert "class_order" not in json.dumps(values)
    values["student"]["class_order"] = values["student"].pop("wavelet_order")
    names = values.pop("outputs")
    assert Result.model_validate(values).student.wavelet_order == names[::-1]
    (tmp_path / "old.json").write_text(json.dumps(values))
    assert read_baseline(tmp_path / "old.json").outputs == names
