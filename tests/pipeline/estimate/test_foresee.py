"""An estimate is the arithmetic of its rates, counts and durations; what nobody measured is unknown, not zero."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.config.schema import DeployConfig
from pipeline.estimate import rates as rates_module
from pipeline.estimate.foresee import Counts, foresee
from pipeline.estimate.rates import Rates, Trained
from pipeline.places import environment
from pipeline.report import estimate_words

FONTS = Path(__file__).parents[3] / "deploy_configs" / "fonts_cpu.yaml"
COUNTS = Counts(train=1000, val=100, test=200, classes=21)
TEACHER = Trained(step_s=0.1, batch=64, image_s=0.001, parameters=300_000, peak_bytes=400_000_000)
STUDENT = Trained(step_s=0.2, batch=128, image_s=0.0005, parameters=5_000, peak_bytes=350_000_000)
RATES = Rates(
    start_s=2.0, teacher=TEACHER, student=STUDENT, export_s=4.0, precisions_s=3.0, files_bytes=500_000_000,
    onnx_image_s=0.0001, onnx_query_s=0.0002, report_s=1.5, report_bytes=600_000_000, data_image_s=0.01,
    onnx_bytes={"fp32.onnx": 20_000, "fp16.onnx": 10_000, "int8.onnx": 8_000},
)  # fmt: skip


@pytest.fixture
def config() -> DeployConfig:
    return load_config(FONTS, ["targets.rtx=null"])


def test_each_stage(config: DeployConfig) -> None:
    """Images, steps, epochs, views and durations, times their rates; imports count once."""
    steps = ["data", "teacher", "logits", "distill", "export", "report", "build@cpu", "validate@cpu"]
    found = {step.step: step for step in foresee(config, steps, RATES, COUNTS, {}).steps}
    assert found["data"].seconds == pytest.approx(1300 * 0.01)
    assert found["data"].disk_bytes == 3 * 36 * 36 * 1300
    # 8 steps an epoch, 6 epochs; validation after each and at the end, then the test images.
    assert found["teacher"].seconds == pytest.approx(2.0 + 6 * 8 * 0.1 + (6 * 100 + 300) * 0.001)
    assert found["teacher"].memory_bytes == 400_000_000 + 3 * 36 * 36 * 1100
    assert found["distill"].seconds == pytest.approx(3 * 8 * 0.2 + (3 * 100 + 300) * 0.0005)
    assert found["logits"].seconds == pytest.approx(1000 * 4 * 0.001)
    assert found["logits"].disk_bytes == 2 * 1000 * 3 * 21 + 4 * 1000 * 21
    (few,) = foresee(config, ["logits"], RATES, replace(COUNTS, classes=3), {}).steps
    assert few.seconds == pytest.approx(2.0 + (1000 * 3 + 3 * 128) * 0.001)  # 128 images a class
    assert found["export"].seconds == 4.0
    assert found["validate@cpu"].seconds == pytest.approx(3 * 200 * 0.0001)
    assert found["build@cpu"].disk_bytes == 38_000
    assert found["report"].memory_bytes == 600_000_000  # what a process took before is still there


def test_the_benchmark_takes_what_the_config_says(
    config: DeployConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least so long for each engine and boundary, at most the limit; warm-ups, threads and loading come on top."""

    plan = config.benchmark.model_copy(update={"min_seconds": 0.5, "warmup_ms": 100.0})
    config = config.model_copy(update={"benchmark": plan})

    def seconds(config: DeployConfig = config, **changes: object) -> float:
        rates = RATES.model_copy(update=changes)
        (found,) = foresee(config, ["benchmark@cpu"], rates, COUNTS, {}).steps
        assert found.source == "config"
        assert found.seconds is not None
        return found.seconds

    monkeypatch.setattr(environment, "cores", lambda: 2)
    warming, loading = 0.1 + 9 * 0.025, 3 * 3 * (0.1 + 38_000 / 100e6)
    # One and two threads are tried, a sixth of a second each and half a second at most, with a warm-up of a tenth of
    # that in six turns.
    choosing, slow = (3 * 2 * (each + 0.05 * (1 + 5 / 4)) for each in (0.5 / 3, 0.5))
    assert seconds() == pytest.approx(9 * (0.5 + warming) + choosing + loading)
    assert seconds(onnx_query_s=1.0) == pytest.approx(9 * (10.0 + warming) + slow + loading)
    decoding = 6 * (0.5 + warming) + 3 * (1000 * 0.0052 + warming)
    assert seconds(decode_s=0.005) == pytest.approx(decoding + choosing + loading)
    # Rounds are taken again where others are at work, once each.
    assert seconds(other_cores=0.5) == pytest.approx(2 * 9 * (0.5 + warming) + choosing + loading)
    assert seconds(energy=True) == pytest.approx(9 * (0.5 + warming) + choosing + loading + 4 * (5.0 + 1.0))
    monkeypatch.setattr(environment, "cores", lambda: 1)
    assert seconds() == pytest.approx(9 * (0.5 + warming) + loading)


@pytest.mark.parametrize(
    ("tried", "at"),
    [
        ({4: 1.0, 8: 1.5, 64: 7.0}, 7.0),  # as measured
        ({4: 1.0, 8: 1.5}, 1.5 + 56 * 0.125),  # what does not grow counts once
        ({4: 1.0, 8: 0.9}, 0.9),  # a disturbed measurement: never less than a smaller batch
        ({4: 0.1, 8: 1.5}, 12.0),  # nor more than in proportion
        ({4: 1.0}, 16.0),
    ],
)
def test_a_batch_that_was_not_tried(tried: dict[int, float], at: float) -> None:
    """A step of 64 images is on the line through smaller ones."""
    assert rates_module._at(64, tried) == pytest.approx(at)


def test_what_is_not_known(config: DeployConfig) -> None:
    """A device's build was never seen here: unknown, or what an earlier run took; the total says `at least`."""
    steps = ["report", "package", "build@cpu"]
    found = foresee(config, steps, RATES, COUNTS, {"package": 3.0}, remote={"cpu"})
    assert [step.seconds for step in found.steps] == [1.5, 3.0, None]
    assert found.unknown == ["build@cpu"]
    assert estimate_words.total(found).startswith("at least 4.5 s")
    assert "not known: build@cpu" in estimate_words.total(found)
    assert estimate_words.total(foresee(config, [], RATES, COUNTS, {})) == "nothing has to run"
