"""The jobs of a device with ONNX Runtime: what comes back is what the host's own engine gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from export.engines import BACKENDS
from export.runtime import turns
from export.runtime.bundle.preprocess import Preprocessing
from export.runtime.errors import EngineError
from pipeline.places import telemetry
from pipeline.places.images import Images
from pipeline.places.pictures import Pictures, encode
from pipeline.results.doubts import load_of
from tests.pipeline.devices.tiny import IMAGE, Place, classifier, images


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    job = tmp_path / "job"
    job.mkdir()
    monkeypatch.chdir(job)
    return Place(tmp_path)


SPEC = Preprocessing(side=16, size=8)


def _spec(place: Place, onnx: Path, **changes: Any) -> dict[str, Any]:
    return {
        "id": "edge/fp32", "backend": "onnxruntime", "access": "onnxruntime", "file": place.put(onnx), "threads": 1
    } | changes  # fmt: skip


def test_logits_are_the_hosts_to_the_last_bit(place: Place, tmp_path: Path) -> None:
    """In one part or in several, in any batch; rows of one image agree."""
    stored = images(37)
    onnx = classifier(tmp_path / "a.onnx", batch=None)
    expected = BACKENDS["onnxruntime"].load(onnx, threads=1).infer(stored)
    for cut in ([37], [20, 17]):
        parts = [place.part(block) for block in np.split(stored, np.cumsum(cut)[:-1])]
        request = {
            "engine": _spec(place, onnx),
            "parts": parts,
            "image": IMAGE,
            "transform": None,
            "repeat": 4,
        }
        result = place.run("infer", request)
        np.testing.assert_array_equal(np.load(result["logits"]), expected)
        assert result["count"] == 37
        repeated = np.load(result["repeated"])
        assert repeated.shape == (4, 5) and (repeated == repeated[0]).all()
    assert place.events[-1]["progress"] == [37, 37, "images"]


def test_a_graph_with_float_input_is_fed_with_the_hosts_own_bits(place: Place, tmp_path: Path) -> None:
    """The store is uint8 in either case; the device normalises with the same formula."""
    from pipeline.devices.agent.batches import graph_inputs as on_the_device

    stored = images(9)
    mean, std = [0.481234, 0.4578, 0.4082], [0.2686, 0.2613, 0.2758]
    ours = (stored.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    found = on_the_device(stored, {"mean": mean, "std": std})
    np.testing.assert_array_equal(found, ours.transpose(0, 3, 1, 2))
    assert found.flags.c_contiguous and found.dtype == np.float32
    np.testing.assert_array_equal(on_the_device(stored, None), Images(stored, 8, "uint8_nhwc", None).inputs())


def test_parts_are_removed_where_the_disk_is_small(place: Place, tmp_path: Path) -> None:
    """`discard` makes room for the next part."""
    part = place.part(images(3))
    onnx = classifier(tmp_path / "a.onnx")
    request = {
        "engine": _spec(place, onnx),
        "parts": [part],
        "image": IMAGE,
        "transform": None,
        "discard": True,
    }
    place.run("infer", request)
    assert not (place.folder / "blobs" / part["blob"]).exists()


def test_build_is_a_first_run_at_every_batch_size(place: Place, tmp_path: Path) -> None:
    """A file that this ONNX Runtime cannot load is told with its first line, not later in the middle of validation."""
    onnx = classifier(tmp_path / "a.onnx", batch=None)
    request = {
        "id": "edge/fp32", "backend": "onnxruntime", "access": "onnxruntime", "onnx": place.put(onnx),
        "name": "fp32.onnx", "batch_sizes": [1, 4], "threads": 1,
    }  # fmt: skip
    result = place.run("build", request)
    assert result["inputs"] == [{"name": "image", "dtype": "uint8", "shape": ["batch", 8, 8, 3]}]
    assert result["outputs"][0]["name"] == "logits" and result["seconds"] > 0
    with pytest.raises(EngineError, match="cannot load the file") as caught:
        place.run("build", request | {"onnx": place.put(b"junk")})
    assert "newer onnxruntime" in caught.value.fix


def _timing(place: Place, onnx: Path, **changes: Any) -> dict[str, Any]:
    stored = images(4)
    encoded = [place.put(encode(image)) for image in np.repeat(np.repeat(stored, 2, 1), 2, 2)]
    cases = [
        {"name": f"{name}|{batch}|{boundary}", "engine": name, "batch": batch, "boundary": boundary}
        for name in ("edge/a", "edge/b")
        for batch, boundary in ((1, "engine"), (2, "engine+copies"), (1, "image_to_class"))
    ]
    return {
        "engines": [_spec(place, onnx, id=name) for name in ("edge/a", "edge/b")],
        "cases": cases, "parts": [place.part(stored)], "image": IMAGE, "transform": None, "encoded": encoded,
        "preprocessing": SPEC.to_json(), "warmup_s": 0.01, "min_samples": 50, "min_seconds": 0.0, "max_seconds": 5.0,
        "rounds": 3, "max_load": 99.0, "agree": 99.0, "sustained_s": 0, "energy_s": 0,
    } | changes  # fmt: skip


def test_raw_samples_of_every_case_come_back(place: Place, tmp_path: Path) -> None:
    """As many as asked for, in one file of doubles; readings are taken before, between and after the turns."""
    result = place.run("time", _timing(place, classifier(tmp_path / "a.onnx", batch=None)))
    values = np.fromfile(result["samples"], "<f8")
    assert len(result["index"]) == 6
    for case, kinds in result["index"].items():
        at, count = kinds["latency"]
        assert count >= 50 and (values[at : at + count] > 0).all()
        if case.endswith("image_to_class"):
            steps = sum(values[kinds[k][0]] for k in ("decode", "resize", "infer", "argmax"))
            assert steps == pytest.approx(values[at])
    when = [reading["when"] for reading in result["readings"]]
    assert when[0] == "before" and when[-1] == "after" and when.count("between") == 3 * 6
    assert not result["missing"] and not result["energy"]


def test_who_used_the_devices_cpus_comes_back_for_each_round(place: Place, tmp_path: Path) -> None:
    """So that the host can tell who else was at work; this job's own share is there, as it worked."""
    result = place.run("time", _timing(place, classifier(tmp_path / "a.onnx", batch=None)))
    assert len(result["load"]) == 3 and result["repeated_rounds"] == 0
    assert all(each["seconds"] > 0 and each["own_cores"] > 0 for each in result["load"])


@pytest.mark.parametrize(
    ("others", "kept", "repeated"),
    [([0.0, 2.0, 0.0, 0.1], [0.0, 0.0, 0.1], 1), ([2.0, 2.0, 2.0, 1.0, 2.0, 2.0], None, 3)],
    ids=["it passes", "it stays"],
)
def test_a_disturbed_round_is_taken_again_on_the_device(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    others: list[float], kept: list[float] | None, repeated: int,
) -> None:  # fmt: skip
    """By the rule of this machine, and no oftener than there are rounds; what stays disturbed is said by the host."""
    left = iter(others)

    def load_between(*_: object) -> dict[str, float]:
        return {"seconds": 1.0, "own_cores": 1.0, "other_cores": next(left), "steal_cores": 0.0}

    monkeypatch.setattr(turns, "load_between", load_between)
    request = _timing(place, classifier(tmp_path / "a.onnx", batch=None), max_load=0.15)
    result = place.run("time", request)
    assert result["repeated_rounds"] == repeated
    assert next(left, None) is None, "every round was looked at, and no more were taken"
    found = [each["other_cores"] for each in result["load"]]
    assert found == kept if kept else len(found) == 3
    assert all(len(case["rounds"]) == 3 for case in result["cases"].values())
    told = [event["progress"][2] for event in place.events if "progress" in event]
    assert sum(turns.AGAIN in note for note in told) == 6 * repeated
    during = telemetry.load(cast(Any, result))
    load = load_of({"during": during})
    assert load is not None and (load.repeated, load.disturbed) == (repeated, kept is None)


def test_golden_images_show_how_the_device_decodes(place: Place, tmp_path: Path) -> None:
    """With the same Pillow there is no difference; a device that resizes otherwise is found."""
    from pipeline.places.telemetry import Golden, golden

    request = _timing(place, classifier(tmp_path / "a.onnx", batch=None), min_samples=1, rounds=1)
    result = place.run("time", request)
    found = np.load(result["golden"])
    encoded = [(place.folder / "blobs" / digest).read_bytes() for digest in request["encoded"]]
    pictures = Pictures(encoded, SPEC, "files")
    assert golden(found, pictures) == Golden(4, 0, 0.0)
    assert golden(np.roll(found, 1, axis=2), pictures).max_abs > 10


def test_a_device_without_pillow_says_so(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The boundary is missing with its reason, the others are there."""

    monkeypatch.setattr("pipeline.devices.agent.jobs.time._pillow", lambda: False)
    result = place.run("time", _timing(place, classifier(tmp_path / "a.onnx", batch=None), rounds=1))
    assert len(result["cases"]) == 4 and result["golden"] is None
    assert "python3-pil" in result["missing"][0]


def test_a_picture_that_the_device_cannot_decode_is_left_out_and_said(place: Place, tmp_path: Path) -> None:
    """Such as a HEIC photo where no library for it is installed: the others are timed."""
    request = _timing(place, classifier(tmp_path / "a.onnx", batch=None), rounds=1)
    some = request | {"encoded": [*request["encoded"], place.put(b"no image")]}
    result = place.run("time", some)
    assert len(result["cases"]) == 6 and result["golden"] is None
    assert "1 images cannot be decoded on the device: this is no image" in result["missing"][0]
    none = place.run("time", request | {"encoded": [place.put(b"no image")]})
    assert len(none["cases"]) == 4 and none["golden"] is None


def test_a_sustained_run_is_thinned_and_keeps_its_times(place: Place, tmp_path: Path) -> None:
    """Beside the short runs; every engine for so long."""
    from pipeline.places.telemetry import sustained

    request = _timing(place, classifier(tmp_path / "a.onnx", batch=None), rounds=1, sustained_s=0.6)
    result = place.run("time", request)
    values = np.fromfile(result["samples"], "<f8")
    for name in ("edge/a", "edge/b"):
        kinds = result["index"][f"sustained|{name}"]
        arrays = {k: values[at : at + n] for k, (at, n) in kinds.items()}
        facts = sustained(arrays, result["sustained"][name])
        assert (np.diff(arrays["at"]) > 0).all() and arrays["at"][-1] <= 0.7
        assert facts.queries >= facts.n == len(arrays["latency"])
        assert facts.series[-1][0] == arrays["at"][-1] and len(facts.series) <= 60


def test_energy_has_a_run_of_its_own(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle before anything is loaded, then each engine at work; where there are rails, and only there."""
    from export.runtime import readings
    from pipeline.devices.agent.jobs import time as job
    from pipeline.places.telemetry import energy_per_image

    for module in (readings, job):
        monkeypatch.setattr(module, "rails", lambda root="/": {"VDD_IN": 5.0})
    request = _timing(place, classifier(tmp_path / "a.onnx", batch=None), rounds=1, energy_s=0.3)
    runs = place.run("time", request)["energy"]
    assert set(runs) == {"edge/a", "edge/b"}
    for run in runs.values():
        assert run["images"] > 0 and len(run["idle"]) >= 3 and len(run["load"]) >= 3
        found = energy_per_image(run)
        assert found is not None and found.mj_per_image == pytest.approx(0, abs=1e-6)
        assert found.mj_per_image_total == pytest.approx(5000 * run["seconds"] / run["images"], rel=1e-6)


def test_the_faster_number_of_threads_is_taken(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for so small a network, unless the config says otherwise; the other number is told."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    onnx = classifier(tmp_path / "a.onnx", batch=None)
    open_, given = _spec(place, onnx, id="edge/a", threads=None), _spec(place, onnx, id="edge/b", threads=2)
    result = place.run("time", _timing(place, onnx, rounds=1, engines=[open_, given], min_seconds=0.05))
    assert result["facts"]["edge/b"]["threads"] == 2 and set(result["threads"]) == {"edge/a"}
    found = result["threads"]["edge/a"]
    assert found["chosen"] == result["facts"]["edge/a"]["threads"] and set(found["medians"]) == {"1", "4"}
    assert all(len(medians) == 6 for medians in found["medians"].values())
