"""What a run will cost is said, and refused where it cannot be paid, before it starts."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.config import load_config
from pipeline.core.address import Device
from pipeline.core.errors import DeviceFault, EnvironmentFault
from pipeline.core.store import Store
from pipeline.devices.known import KnownDevices
from pipeline.run.planning import plan
from pipeline.run.preflight import CacheCost, cache_cost, few_views, preflight
from tests.pipeline.conftest import FONTS, TINY, Finished, figkd, sets


def _config(**changes: Any) -> Any:
    return load_config(FONTS, [f"{key}={value}" for key, value in changes.items()])


def test_the_cost_of_the_cache_is_exact_once_the_data_are_there(finished: Finished) -> None:
    """`plan` shows the bytes that the file will have, from the prepared data; nothing where none is written."""
    done = finished.figkd("plan", **{"distill.views.count": 4})
    size = 2 * 504 * 4 * 21
    assert f"take {size / 1e6:.1f} MB of disk (504 images x 4 views x 21 classes x 2 bytes)" in done.out
    rows = finished.figkd("plan", "--json", **{"distill.views.count": 4}).json
    assert {row["step"]: row["cache_bytes"] for row in rows if row["cache_bytes"]} == {"logits": size}
    assert "of disk" not in finished.figkd("plan").out
    assert "of disk" not in finished.figkd("plan", **{"distill.teacher_logits": "online"}).out
    (made,) = (finished.folder / ".figkd/artifacts/logits").glob("*/train.npy")
    assert made.stat().st_size == 128 + CacheCost(504, 3, 21).bytes


def test_a_disk_that_is_too_small_is_refused(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache counts, the message names the keys that make it smaller, and nothing has run."""
    monkeypatch.chdir(finished.folder)
    config = _config(**TINY | {"distill.views.count": 4})
    planned = plan(config, Store(config.store.folder))
    notes: list[str] = []
    needed = 1_000_000_000 + 2 * 504 * 4 * 21
    usage = type("Usage", (), {"free": needed})()
    monkeypatch.setattr("pipeline.run.preflight.shutil.disk_usage", lambda folder: usage)
    preflight(config, planned, notes.append)
    assert any("logits: the cache will take" in note for note in notes)
    usage.free = needed - 1
    with pytest.raises(EnvironmentFault, match=r"(?s)GB needed.*distill\.views\.count.*online"):
        preflight(config, planned, notes.append)


def test_a_missing_package_is_told_before_hours_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher must not be trained for a student whose curves cannot be written."""
    config = _config(**{"store": tmp_path, "distill.tensorboard": True})
    planned = plan(config, Store(config.store.folder))
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "tensorboard" else found(name)
    )
    with pytest.raises(EnvironmentFault, match="tensorboard is not installed") as caught:
        preflight(config, planned, lambda text: None)
    assert caught.value.where == "distill.tensorboard"


def test_nothing_is_said_of_unknown_data(tmp_path: Path) -> None:
    """Before the data are prepared nobody knows how many images can be decoded."""
    config = _config(store=tmp_path)
    assert cache_cost(config, plan(config, Store(config.store.folder))) is None


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({"distill.epochs": 20, "distill.views.count": 4}, True),
        ({"distill.epochs": 19, "distill.views.count": 4}, False),
        ({"distill.epochs": 500, "distill.views.count": 25}, False),  # all that a shift by 2 has
        ({"distill.epochs": 500, "distill.views.count": "null"}, False),
        ({"distill.epochs": 60, "distill.views": "{kind: random_resized_crop, count: 4}"}, True),
        ({"distill.epochs": 60, "distill.views": "{kind: none, count: 1}"}, False),
    ],
)
def test_few_views_are_warned_of(changes: dict[str, Any], warned: bool) -> None:
    """A student that sees four views fifteen times each overfits them; whoever asked for none is left alone."""
    assert bool(few_views(_config(**changes))) == warned


def test_moved_images_leave_what_follows_valid(tmp_path: Path) -> None:
    """Lists of files point to their place; the data of another place are the same, so their digest is."""
    from tests.pipeline import trees

    root = trees.image_folder(tmp_path / "photos", images=8)
    config = tmp_path / "c.yaml"
    config.write_text(
        "name: c\ndata: {dataset: image_folder, root: photos, image_size: 32, decode: on_the_fly}\n"
        "teacher: {model: figkd/resnet_tiny}\nstudent: {model: figkd/dsconv_nano}\n"
        "targets: {cpu: {engine: onnxruntime}}\n"
    )
    done = figkd("run", "c.yaml", "--until", "data", cwd=tmp_path)
    assert done.code == 0 and "decoded on the fly" in done.err, done.err
    root.rename(tmp_path / "moved")
    done = figkd("run", "c.yaml", "--until", "data", *sets({"data.root": "moved"}), cwd=tmp_path)
    assert done.code == 0, done.err
    first, second = (tmp_path / ".figkd/artifacts/data").iterdir()
    assert first.suffix == second.suffix
    assert (first / "root.json").read_text() != (second / "root.json").read_text()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"targets.rtx.strip_weights": True}, "strips weights only on a machine with a GPU"),
        ({}, ""),
    ],
)
def test_what_a_back_end_lacks_is_told_before_hours_of_training(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    """The library here builds, but not with these options: known at the start, not after the training."""
    from export.engines import BACKENDS
    from export.runtime import cudart

    if not BACKENDS["tensorrt_rtx"].availability().built or cudart.probe()[0]:
        pytest.skip("needs TensorRT-RTX, and no GPU")
    config = _config(**{"store": tmp_path, "targets.rtx.required": True, **changes})
    planned = plan(config, Store(config.store.folder))
    if not says:
        preflight(config, planned, lambda text: None)
        return
    with pytest.raises(EnvironmentFault, match=says):
        preflight(config, planned, lambda text: None)


class _Two:
    """Two devices: `near` answers and lacks every back end, `gone` does not answer."""

    def ask(self, devices: Any) -> None:
        pass

    def fault(self, device: Device) -> DeviceFault | None:
        return DeviceFault("gone: unreachable", fix="switch it on") if device.name == "gone" else None

    def facts(self, device: Device) -> dict[str, Any]:
        if device.name != "near":
            raise DeviceFault("gone: unreachable", fix="switch it on")
        return {"packages": {}, "python": "3.10", "machine": "x86_64"}


@pytest.mark.parametrize("local", [False, True])
def test_no_target_is_left_whatever_the_reasons(tmp_path: Path, local: bool) -> None:
    """One device cannot be reached and the other has no back end: refused before training, unless a target is left."""
    targets = {name: {"engine": "onnxruntime", "device": f"ssh://{name}"} for name in ("near", "gone")}
    if local:
        targets["here"] = {"engine": "onnxruntime"}
    path = tmp_path / "two.yaml"
    given = {
        "extends": str(FONTS),
        "store": str(tmp_path / "store"),
        "targets": {"cpu": None, "rtx": None, **targets},
        "budgets": {"engine_mb": None},
    }
    path.write_text(json.dumps(given), encoding="utf-8")
    config, known, notes = load_config(path, []), cast(KnownDevices, _Two()), list[str]()
    planned = plan(config, Store(config.store.folder), known=known)
    if local:
        preflight(config, planned, notes.append, known)
        assert sum("the other targets go on" in text for text in notes) == 2
        return
    with pytest.raises(DeviceFault, match=r"(?s)2 things.*gone: unreachable.*onnxruntime is not installed"):
        preflight(config, planned, notes.append, known)
