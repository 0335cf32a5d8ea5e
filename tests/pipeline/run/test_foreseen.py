"""Protects time: what the listing of the data and the config decide is said before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config.schema import DeployConfig
from pipeline.run.data_check import Listed, look_at_data
from pipeline.run.foreseen import faults, unmakeable
from tests.pipeline.conftest import figkd

BASE: dict[str, Any] = {
    "name": "small",
    "data": {"dataset": "image_folder", "root": "images", "image_size": 32, "store_size": 36},
    "teacher": {"model": "figkd/resnet_tiny", "epochs": 1, "batch_size": 8},
    "student": {"model": "figkd/dsconv_nano"},
    "distill": {"method": "ce", "epochs": 1, "batch_size": 8},
    "targets": {"cpu": {"engine": "onnxruntime"}},
    "benchmark": {"min_seconds": 0.05, "min_samples": 10, "warmup_ms": 5, "rounds": 2, "energy_s": 0},
}


def _config(**sections: dict[str, Any]) -> DeployConfig:
    return DeployConfig.model_validate(BASE | sections)


def _images(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (36, 36, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.mark.parametrize(("train", "said"), [(31, True), (32, False)])
def test_too_few_images_to_calibrate(train: int, said: bool) -> None:
    """The bound is the one that the quantiser has."""
    found = list(unmakeable(_config(precision={"modes": ["fp32", "int8"]}), Listed(train, train, ["a", "b"])))
    assert [fault.where for fault in found] == ["precision.modes"] * said
    assert not list(
        unmakeable(_config(precision={"modes": ["fp32", "fp16"]}), Listed(train, train, ["a", "b"]))
    )


@pytest.mark.parametrize(
    ("parts", "where", "what", "fix"),
    [
        ({"accumulate": 7}, "accumulate", "leave 6 for 7 parts", "at most 6,"),
        ({"replicas": 8}, "replicas", "leave 6 for 8 parts", "at most 6,"),
        ({"accumulate": 2, "replicas": 4}, "replicas", "leave 6 for 8 parts", "at most 3,"),
        ({"accumulate": 4, "replicas": 2}, "replicas", "leave 6 for 8 parts", "at most 1,"),
    ],
)
@pytest.mark.parametrize("key", ["teacher", "distill"])
def test_steps_that_are_too_small_for_their_parts(
    key: str, parts: dict[str, int], where: str, what: str, fix: str
) -> None:
    """Twelve images in steps of eight are two of six, which cannot be cut in seven."""
    section = BASE[key] | parts
    (found,) = faults(_config(**{key: section}), Listed(12, 12, ["a", "b"]))
    assert found.where == f"{key}.{where}" and what in found.what and fix in found.fix
    assert not list(faults(_config(**{key: section}), Listed(16, 16, ["a", "b"])))


@pytest.mark.parametrize(
    ("groups", "says"), [({"g": ["a", "b"]}, ""), ({"g": ["a", "x"]}, "unknown"), ("{", "JSON")]
)
def test_a_hierarchy_of_other_classes(tmp_path: Path, groups: Any, says: str) -> None:
    """The file and the folder's names are both there before the teacher is trained."""
    file = tmp_path / "groups.json"
    file.write_text(groups if isinstance(groups, str) else json.dumps(groups))
    method = {"method": "figkd", "figkd": {"order": "hierarchy", "hierarchy": str(file)}}
    found = list(faults(_config(distill=BASE["distill"] | method), Listed(40, 40, ["a", "b"])))
    assert [says in fault.what for fault in found] == [True] * bool(says)
    assert all(fault.where == "distill.figkd.hierarchy" for fault in found)


def test_the_numbers_are_those_that_are_trained(tmp_path: Path) -> None:
    """Images that are held out do not calibrate; data that cannot be listed are another check's."""
    from figkd.data import prepare

    _images(tmp_path / "images", 10)
    config = _config(data=BASE["data"] | {"root": str(tmp_path / "images")})
    made = prepare("image_folder", tmp_path / "images", tmp_path / "out", image_size=32, store_size=36)
    counts = made["counts"]
    assert look_at_data(config).listed == Listed(counts["train"], sum(counts.values()), ["a", "b"])
    assert look_at_data(_config(data=BASE["data"] | {"root": str(tmp_path / "nothing")})).listed is None
    assert look_at_data(_config(data={"dataset": "fonts", "image_size": 32})).listed is None


def test_config_check_reads_the_listing(tmp_path: Path) -> None:
    """A config that is fine alone is not fine for these images: exit 2, the key and the fix."""
    _images(tmp_path / "images", 10)
    (tmp_path / "small.yaml").write_text(json.dumps(BASE))
    done = figkd("config", "check", "small.yaml", "--set", "precision.modes=[fp32,int8]", cwd=tmp_path)
    assert done.code == 2 and "small.yaml: precision.modes: int8 cannot be made" in done.err, done.err
    assert "take int8 out" in done.err and "ok" not in done.out
    assert figkd("config", "check", "small.yaml", "--set", "precision.modes=[fp32]", cwd=tmp_path).code == 0


@pytest.mark.slow
def test_what_cannot_be_made_does_not_end_the_run(tmp_path: Path) -> None:
    """The other precisions are built and reported; the exit code is that of a failed row."""
    _images(tmp_path / "images", 10)
    (tmp_path / "small.yaml").write_text(json.dumps(BASE))
    done = figkd("run", "small.yaml", "--set", "precision.modes=[fp32,fp16,int8]", "--json", cwd=tmp_path)
    assert done.code == 1, done.err
    rows = {row["precision"]: row for row in done.json["engines"]}
    assert [rows[name]["state"] for name in ("fp32", "fp16", "int8")] == ["ran", "ran", "failed"]
    assert "at least 32 training images" in rows["int8"]["detail"] and rows["int8"]["fix"]
    assert rows["int8"]["onnx_mb"] is None and done.json["verdict"] == "failed"
    assert (tmp_path / "runs/small/engines/cpu/fp16.onnx").is_file()
    assert (tmp_path / "runs/small/report.html").is_file()
    assert done.err.index("its rows will say so") < done.err.index("teacher")
