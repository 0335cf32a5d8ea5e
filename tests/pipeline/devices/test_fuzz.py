"""Whole stages against a device whose every message may be another: refused, or a result; never anything else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.core.address import Device
from pipeline.core.errors import DeviceFault
from pipeline.core.store import Store
from pipeline.devices import session as session_module
from pipeline.places.device import OnDevice
from pipeline.run.planning import Selection, plan
from pipeline.stages import benchmark
from pipeline.stages.base import Work
from tests.memory import growth
from tests.pipeline.conftest import FONTS, TINY, Finished
from tests.pipeline.devices.transcripts import mutant, recording_python, replaying_python

OUTSIDE = Path("/tmp/figkd-outside")


@dataclass(frozen=True)
class Played:
    """A stage, and what the device said while it ran."""

    run: Callable[[Work], object]
    work: Work
    transcript: bytes


@pytest.fixture(scope="module")
def stages(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Played]]:
    """`build`, `validate` and `benchmark` of the tiny demonstration, run once on the agent of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished.folder)
        patch.setattr(session_module, "RETRY_PAUSES_S", ())
        patch.setattr(benchmark, "IMAGES", 4)
        yield _played(tmp_path_factory.mktemp("played"))


def _played(folder: Path) -> dict[str, Played]:
    keys = TINY | {"benchmark.boundaries": "[engine, image_to_class]"}
    config = load_config(FONTS, [f"{key}={value}" for key, value in keys.items()])
    planned = {p.step.id: p for p in plan(config, Store(config.store.folder), Selection())}
    inputs = {step: p.artifact.path for step, p in planned.items() if p.artifact}
    python = recording_python(folder / "recording", folder / "transcript")
    device = Device("local", folder=str(folder / "device"), python=python, silence_s=5, job_s=60)
    found: dict[str, Played] = {}
    for name in ("build", "validate", "benchmark"):
        step = planned[f"{name}@cpu"].step
        out = folder / name
        out.mkdir()
        arguments = step.stage.arguments(config, "cpu")
        work = Work(
            arguments, dict(inputs), {}, out, folder / "scratch", lambda *_: None, place=OnDevice(device)
        )
        (folder / "transcript").unlink(missing_ok=True)
        step.stage.run(work)
        found[name] = Played(step.stage.run, work, (folder / "transcript").read_bytes())
        inputs[f"{name}@cpu"] = out
    return found


def _replayed(work: Work, python: str) -> OnDevice:
    """The place of work, its device replaced by one that repeats what was said."""
    assert isinstance(work.place, OnDevice)
    return OnDevice(replace(work.place.device, python=python))


def _fuzz(stages: Mapping[str, Played], place: Path, seeds: range) -> dict[str, int]:
    """Replay mutants; how many ended well and how many were refused."""
    counts = {"done": 0, "refused": 0}
    wrong: list[str] = []
    names = sorted(stages)
    ours = {p.name for p in place.iterdir()} | {"said", "replaying"}
    for seed in seeds:
        played = stages[names[seed % len(names)]]
        (place / "said").write_bytes(mutant(played.transcript, seed))
        python = replaying_python(place / "replaying", place / "said")
        out, scratch = place / "fuzz-out", place / "fuzz-scratch"
        out.mkdir()
        place_of_work = _replayed(played.work, python)
        try:
            played.run(replace(played.work, out=out, scratch=scratch, place=place_of_work))
            counts["done"] += 1
        except DeviceFault as fault:
            assert fault.exit_code == 5 and "local" in f"{fault.where} {fault.what}", (seed, fault)
            counts["refused"] += 1
        except Exception as error:
            wrong.append(f"seed {seed} ({names[seed % len(names)]}): {error!r}")
        shutil.rmtree(out)
        shutil.rmtree(scratch, ignore_errors=True)
        assert {p.name for p in place.iterdir()} <= ours, seed
        assert not OUTSIDE.exists(), seed
    assert not wrong, "\n".join(wrong[:20])
    return counts


def test_a_replay_of_the_truth_is_believed(stages: Mapping[str, Played], tmp_path: Path) -> None:
    """So that mutants are refused for their change, and not for being replayed."""
    for name, played in stages.items():
        (tmp_path / "said").write_bytes(played.transcript)
        python = replaying_python(tmp_path / "replaying", tmp_path / "said")
        out = tmp_path / f"again-{name}"
        out.mkdir()
        played.run(replace(played.work, out=out, place=_replayed(played.work, python)))
        assert {p.name for p in out.iterdir()} == {p.name for p in played.work.out.iterdir()}


def test_a_few_hundred_mutants(stages: Mapping[str, Played], tmp_path: Path) -> None:
    """Both ends are reached: some changes do not matter, most are refused."""
    counts = _fuzz(stages, tmp_path, range(int(__import__("os").environ.get("N", "300"))))
    assert counts["refused"] > 100 and counts["done"] > 5


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_mutants(stages: Mapping[str, Played], tmp_path: Path) -> None:
    """No exception but ours, no file outside the run's folder, and no growth of memory."""
    _fuzz(stages, tmp_path, range(10_000, 10_300))  # what is allocated once
    with growth() as taken:
        counts = _fuzz(stages, tmp_path, range(300, 10_300))
    print(f"{sum(counts.values())} mutants: {counts}, peak memory grew by {taken.bytes / 1e6:.0f} MB")
    assert sum(counts.values()) == 10_000 and taken.bytes < 300e6
