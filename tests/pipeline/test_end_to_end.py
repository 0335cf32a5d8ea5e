"""The whole demonstration, shrunk: what a run leaves, what it costs to run again, and what changes invalidate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.results.result import Result
from pipeline.results.rows.samples import RawSamples
from tests.pipeline.conftest import CPU_FILE, FONTS, TINY, Finished, figkd, sets

STEPS = [
    "data", "teacher", "logits", "distill", "export", "precision", "qad", "build@cpu", "build@rtx", "validate@cpu",
    "validate@rtx", "benchmark@cpu", "benchmark@rtx", "report", "package@cpu", "package@rtx",
]  # fmt: skip

LAST = {"report", "package@cpu", "package@rtx"}
"""What every change reaches."""


def _result(finished: Finished) -> Result:
    return Result.model_validate_json(
        (finished.folder / "runs/fonts_cpu/result.json").read_text(encoding="utf-8")
    )


def _states(finished: Finished, *arguments: str, **changes: object) -> dict[str, str]:
    done = finished.figkd("plan", "--json", *arguments, **changes)
    assert done.code == 0, done.err
    return {row["step"]: row["state"] for row in done.json}


def test_a_run_leaves_report_engines_and_a_table(finished: Finished) -> None:
    """One row an engine; those for an absent GPU are built, inspected, and said not to have run."""
    runs = finished.folder / "runs/fonts_cpu"
    listed = {"result.json", "report.html", "report.md", "engines", "published.json"}
    assert {p.name for p in runs.iterdir()} == listed
    result = _result(finished)
    states = {engine.id: engine.state for engine in result.engines}
    ran = "ran" if result.machine["after"]["gpus"] else "built"
    assert states == {f"cpu/{p}": "ran" for p in ("fp32", "fp16", "int8")} | {
        f"rtx/{p}-SM86": ran for p in ("fp32", "fp16", "int8")
    }
    for engine in result.engines:
        assert engine.file is not None and (runs / engine.file).stat().st_size == round(
            engine.engine_mb * 1e6
        )  # type: ignore[operator]
        assert engine.accuracy is not None and engine.accuracy.n == 84
        if engine.state == "ran":
            assert all(row.intervals and len(row.round_medians) == 2 for row in engine.latency)
        if engine.precision == "int8":
            assert engine.int8 is not None and engine.int8.int8_layers > 0
        if engine.state == "built":
            assert "built, not run" in engine.detail and engine.accuracy.source != "engine"
            assert engine.composition.engine is not None and engine.composition.engine.written_bytes
    int8 = next(engine for engine in result.engines if engine.id == "rtx/int8-SM86")
    assert int8.outlook is not None and (int8.outlook.rival, int8.outlook.expect) == (
        "rtx/fp16-SM86",
        "no_faster",
    )
    assert "cpu/fp32" in finished.done.out and "report:" in finished.done.out


def test_numbers_in_the_result_come_from_the_samples_on_disk(finished: Finished) -> None:
    """A median of the report can be computed again from the raw samples."""
    (folder,) = (finished.folder / ".figkd/artifacts/benchmark@cpu").iterdir()
    samples = RawSamples(folder)
    for engine in _result(finished).engines:
        for row in engine.latency:
            raw = samples.of(row.samples)
            assert len(raw) == row.n >= 30
            assert np.median(raw) == pytest.approx(row.median)
            assert row.p99 is None or row.n >= 1000


def test_accuracy_in_the_result_is_that_of_the_stored_logits(finished: Finished) -> None:
    """The student's top-1 can be computed again from its test logits."""
    store = finished.folder / ".figkd/artifacts"
    (distill,), (data,) = (store / "distill").iterdir(), (store / "data").iterdir()
    hits = np.load(distill / "test_logits.npy").argmax(1) == np.load(data / "test_labels.npy")
    assert _result(finished).student.test.top1 == pytest.approx(100 * hits.mean())


def test_what_the_verdict_is_held_against_is_in_the_result(finished: Finished) -> None:
    """Guessing, the teacher and the mistakes, from the answers that were kept; pictures in the page alone."""
    result = _result(finished)
    assert result.verdict == "no_goal", "the tiny demonstration has no goal of accuracy"
    for network in (result.teacher, result.student):
        assert network.standing and network.standing.top1.percent == pytest.approx(network.test.top1)
        assert network.standing.majority.percent == pytest.approx(100 / 21)
    gap = result.student.standing.over_teacher  # type: ignore[union-attr]
    assert gap and gap.points == pytest.approx(result.student.test.top1 - result.teacher.test.top1)
    ran = [engine for engine in result.engines if engine.accuracy and engine.accuracy.source == "engine"]
    for engine in ran:
        assert engine.accuracy and engine.standing
        assert engine.standing.top1.percent == pytest.approx(engine.accuracy.top1)
    assert result.looked_at in {s.engine for s in result.shipping} and len(result.mistakes) == 12
    assert result.confusion and len(result.confusion.classes) == 12 and result.loads["cpu"].rounds
    page = (finished.folder / "runs/fonts_cpu/report.html").read_text(encoding="utf-8")
    assert page.count('alt="test image ') == 12 and page.count('alt="training image of ') >= 21
    assert "base64" not in (finished.folder / "runs/fonts_cpu/result.json").read_text(encoding="utf-8")


def test_a_result_is_data_and_not_words(finished: Finished) -> None:
    """Sentences are the views': what a library said of an engine, and what helps, are the only ones in a result."""

    def sentences(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from sentences(inner, name)
        elif isinstance(value, list):
            for inner in value:
                yield from sentences(inner, key)
        elif isinstance(value, str) and value.count(" ") >= 4:
            yield key, value

    text = (finished.folder / "runs/fonts_cpu/result.json").read_text(encoding="utf-8")
    found = {key: value for key, value in sentences(json.loads(text)) if key not in ("detail", "fix", "os")}
    assert found == {}


def test_the_result_says_which_layout_each_engine_reads(finished: Finished) -> None:
    """Two INT8 files, each with its share of INT8 and its calibration; every engine's file is among them."""
    result = _result(finished)
    files = {file.onnx: file for file in result.precisions}
    assert {engine.onnx for engine in result.engines} <= set(files)
    assert files[CPU_FILE].engines == ["onnxruntime"]
    assert files["int8.onnx"].engines in ([], ["tensorrt_rtx"])
    for name in ("int8.onnx", CPU_FILE):
        assert files[name].int8_macs_percent and files[name].calibration and files[name].mixed


def test_running_again_does_nothing(finished: Finished) -> None:
    """Everything is cached, and heavy packages are not even imported."""
    assert set(_states(finished).values()) == {"cached"}
    before = sorted(p for p in (finished.folder / ".figkd/artifacts").glob("*/*"))
    done = finished.figkd("run")
    assert done.code == 0
    assert done.err.count("cached") == len(STEPS)
    assert sorted((finished.folder / ".figkd/artifacts").glob("*/*")) == before


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"distill.epochs": 4}, "distill"),
        ({"distill.method": "kd"}, "distill"),
        ({"distill.method": "ce"}, "logits"),  # it needs no cache
        ({"distill.teacher_logits": "online"}, "logits"),
        ({"teacher.lr": 0.01}, "teacher"),
        ({"distill.views.count": 4}, "logits"),
        ({"export.opset": 19}, "export"),
        ({"precision.calibration_images": 40}, "precision"),
        ({"seed": 7}, "data"),
    ],
    ids=lambda value: str(value),
)
def test_a_changed_key_runs_only_what_depends_on_it(
    finished: Finished, change: dict[str, object], first: str
) -> None:
    """Stages before the changed one are cached, it and what follows are not."""
    states = _states(finished, **change)
    cut = STEPS.index(first)
    assert {s for s, state in states.items() if state == "cached"} == set(STEPS[:cut])


def test_an_online_teacher_gives_the_same_student(finished: Finished, tmp_path: Path) -> None:
    """Nothing heavy is kept of the teacher then, and the student differs by the cache's float16 rounding."""
    # In few steps, and without a correlation, whose gradient magnifies a rounding where all answers are still alike.
    store = shutil.copytree(finished.folder / ".figkd", tmp_path / "store")
    changes = {"distill.lr": 0.02, "distill.batch_size": 128, "distill.method": "kd", "store": store}
    logits = []
    for source in ("cached", "online"):
        done = finished.figkd(
            "run", "--until", "distill", "--json", **changes, **{"distill.teacher_logits": source}
        )
        assert done.code == 0, done.err
        logits.append(np.load(Path(done.json["distill"]) / "test_logits.npy"))
    assert "no cache; 504 images" in done.err
    assert not list(Path(done.json["logits"]).glob("train.npy*"))
    usual, online = logits
    np.testing.assert_allclose(online, usual, atol=1e-3 * np.abs(usual).max())


def test_a_change_of_one_target_leaves_the_other_alone(finished: Finished) -> None:
    """Targets do not invalidate each other."""
    states = _states(finished, **{"targets.cpu.threads": 1})
    run = {step for step, state in states.items() if state == "run"}
    assert run == {"build@cpu", "validate@cpu", "benchmark@cpu", *LAST}


def test_a_change_of_a_budget_runs_only_the_report(finished: Finished) -> None:
    """Judging again costs nothing."""
    states = _states(finished, **{"budgets.top1": "{min: 1}"})
    assert {step for step, state in states.items() if state == "run"} == LAST


def test_plan_says_why(finished: Finished) -> None:
    """The reason names key, old and new value."""
    done = finished.figkd("plan", **{"distill.epochs": 4})
    assert "run     distill            epochs: 3 -> 4" in done.out
    assert "after distill" in done.out


def test_a_missed_budget_exits_3_and_keeps_everything(finished: Finished, tmp_path: Path) -> None:
    """The report says which budget and by how much."""
    done = finished.figkd("run", "--json", **{"budgets.top1": "{min: 100}", "output": tmp_path})
    assert done.code == 3
    result = Result.model_validate(done.json)
    assert result.verdict == "budget_missed"
    judged = {e.id: e.budgets[0] for e in result.engines if e.target == "cpu"}
    for engine in result.engines:
        if engine.target == "cpu":
            assert engine.accuracy is not None
            assert judged[engine.id].verdict == "miss"
            assert judged[engine.id].margin == pytest.approx(engine.accuracy.top1 - 100)
    assert (tmp_path / "fonts_cpu/engines/cpu/fp32.onnx").is_file()


def test_a_budget_that_names_a_precision_is_a_demand(finished: Finished, tmp_path: Path) -> None:
    """Though another engine could be shipped, the named one must hold."""
    goal = "{max: 0.000001, precision: [int8]}"
    done = finished.figkd("run", "--json", **{"budgets.engine_mb": goal, "output": tmp_path})
    assert done.code == 3
    shipping = {s["target"]: s for s in done.json["shipping"]}
    assert shipping["cpu"]["state"] == "ship" and shipping["cpu"]["engine"] != "cpu/int8"


def test_a_corrupted_artifact_is_detected_said_and_rebuilt(finished: Finished, tmp_path: Path) -> None:
    """One flipped byte in the student: it is made again, comes out the same, and what depends on it stays valid."""
    shutil.copytree(finished.folder / ".figkd", tmp_path / ".figkd")
    (model,) = (tmp_path / ".figkd/artifacts/distill").glob("*/model.pt")
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    plan = figkd("plan", FONTS, *sets(TINY), cwd=tmp_path)
    assert "its artifact is damaged: model.pt has other contents" in plan.out
    done = figkd("run", FONTS, *sets(TINY), cwd=tmp_path)
    assert done.code == 0, done.err
    assert "the stored artifact is damaged (model.pt has other contents than were written)" in done.err
    assert done.err.count("cached") == len(STEPS) - 1, "the same student leaves everything after it valid"
    assert list((tmp_path / ".figkd/damaged").iterdir())


def test_until_from_and_force(finished: Finished, tmp_path: Path) -> None:
    """Stages can be chosen; --from refuses to run what it skips."""
    assert list(_states(finished, "--until", "export")) == STEPS[:5]
    forced = _states(finished, "--force", "validate")
    assert forced["validate@cpu"] == "run" and forced["build@cpu"] == "cached"
    assert _states(finished, "--from", "precision")["precision"] == "run"
    done = figkd("run", FONTS, *sets(TINY), "--from", "export", cwd=tmp_path)
    assert done.code == 2 and "--from export needs the artifact of 'data'" in done.err


def test_report_validate_and_benchmark_commands(finished: Finished, tmp_path: Path) -> None:
    """Each reruns its part alone; files given by path are scored and timed; a baseline is compared with."""
    report = finished.figkd("report", "--json", output=tmp_path)
    assert report.code == 0 and report.json["name"] == "fonts_cpu"
    model = finished.folder / "runs/fonts_cpu/engines/cpu/fp32.onnx"
    scored = finished.figkd("validate", "--json", "--model", model)
    assert scored.code == 0, scored.err
    assert scored.json[0]["top1"] == pytest.approx(_result(finished).student.test.top1)
    assert scored.json[0]["agreement"] == 100
    timed = finished.figkd("benchmark", "--json", "--model", model, "--model", model.with_name("fp16.onnx"))
    assert {row["id"] for row in timed.json["latency"]} == {str(model), str(model.with_name("fp16.onnx"))}
    shutil.copytree(finished.folder / ".figkd", tmp_path / "store")
    old = json.loads((finished.folder / "runs/fonts_cpu/result.json").read_text(encoding="utf-8"))
    for engine in old["engines"]:
        for row in engine["latency"]:
            row["median"] /= 1000  # a baseline that nothing can reach
            row["intervals"] = {}
    (tmp_path / "old.json").write_text(json.dumps(old))
    slower = finished.figkd(
        "benchmark", "--json", "--baseline", tmp_path / "old.json", "--max-regression", "5%",
        store=tmp_path / "store", output=tmp_path / "out",
    )  # fmt: skip
    assert slower.code == 3 and "slower than the baseline; allowed 5 %" in slower.err
    assert len(slower.json["comparison"]) == 9
    assert finished.figkd("benchmark", "--baseline", tmp_path / "none.json").code == 2


def test_a_missing_back_end_fails_the_run_only_if_demanded(finished: Finished, tmp_path: Path) -> None:
    """`tensorrt` is not installed here: its rows say so with the command that installs it; required, it is exit 4."""
    from pipeline.places.environment import version_of

    if version_of("tensorrt") != "none":
        pytest.skip("tensorrt is installed")
    optional = {"targets.trt": "{engine: tensorrt, required: false}", "output": tmp_path}
    done = finished.figkd("run", "--json", **optional)
    assert done.code == 0, done.err
    rows = [e for e in done.json["engines"] if e["target"] == "trt"]
    assert len(rows) == 3 and all(r["state"] == "missing" and "pip install" in r["fix"] for r in rows)
    required = finished.figkd("run", **{"targets.trt": "{engine: tensorrt}", "output": tmp_path})
    assert required.code == 4 and "targets.trt.engine" in required.err and "pip install" in required.err


def test_a_device_that_is_not_there_fails_though_everything_here_is_cached(
    finished: Finished, tmp_path: Path
) -> None:
    """This machine's numbers are never shown as another device's; the other target is worked on all the same."""
    elsewhere = {"targets.cpu.device": "ssh://no-such-host.invalid", "output": tmp_path}
    done = finished.figkd("run", **elsewhere)
    assert done.code == 5 and "no-such-host.invalid: there is no host of that name" in done.err
    result = json.loads((tmp_path / "fonts_cpu/result.json").read_text(encoding="utf-8"))
    assert {engine["target"] for engine in result["engines"]} == {"rtx"}
    assert {choice["target"]: choice["state"] for choice in result["shipping"]}["cpu"] == "failed"


def test_folders_that_cannot_be_written_are_told_before_anything_runs(finished: Finished) -> None:
    """Not after hours of training."""
    for key in ("output", "store"):
        done = finished.figkd("run", **{key: "/etc/passwd/x"})
        assert done.code == 4 and f"{key}: /etc/passwd/x cannot be written" in done.err


def test_files_that_do_not_fit_the_config_are_told(finished: Finished, tmp_path: Path) -> None:
    """Junk, and a model for other images."""
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    assert finished.figkd("benchmark", "--model", tmp_path / "junk.onnx").code == 2
    model = finished.folder / "runs/fonts_cpu/engines/cpu/fp32.onnx"
    other = {"data.image_size": 24, "data.store_size": 24, "store": tmp_path / "store"}
    done = finished.figkd("validate", "--model", model, **other)
    assert done.code == 2 and "does not fit this config" in done.err


def test_known_misses_count_where_nothing_ran(finished: Finished, tmp_path: Path) -> None:
    """An engine for an absent GPU cannot be faster than judged, but its accuracy is known."""
    goals = {
        "budgets.top1": "{min: 100}",
        "targets.cpu": "null",
        "budgets.engine_mb": "null",
        "output": tmp_path,
    }
    done = finished.figkd("run", "--json", **goals)
    assert done.code == 3 and done.json["shipping"][0]["state"] == "budget_missed"
