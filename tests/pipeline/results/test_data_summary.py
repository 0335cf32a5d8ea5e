"""The summary of prepared data: every number is that of the folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from figkd.data import prepare
from pipeline.results.data_summary import MOST_REASONS, DataSummary, _by_reason, summarise
from tests.pipeline.conftest import environment, figkd


def _messy(root: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in {"oak": 40, "ash": 10}.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            image = Image.fromarray(rng.integers(0, 255, (30, 50, 3), dtype=np.uint8))
            image.save(root / name / f"{index}.png")
    (root / "oak" / "empty.jpg").write_bytes(b"")
    (root / "oak" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    (root / "oak" / "copy.png").write_bytes((root / "oak" / "0.png").read_bytes())


def test_a_folder_that_has_everything(tmp_path: Path) -> None:
    """Protects "Your data": counts by class and split add up, and what is not used is accounted for."""
    _messy(tmp_path / "root")
    said = prepare("image_folder", tmp_path / "root", tmp_path / "out", image_size=32, store_size=36)
    data = summarise(tmp_path / "out")
    assert data.classes == ["ash", "oak"]
    assert {split.name: split.images for split in data.splits} == said["counts"]
    assert {name: sum(counts) for name, counts in data.images.items()} == said["counts"]
    assert [sum(counts[label] for counts in data.images.values()) for label in (0, 1)] == [10, 41]
    assert [split.origin for split in data.splits] == ["rest", "held_out", "held_out"]
    assert data.sources.formats == {"PNG": 51} and data.sources.enlarged == 51
    assert data.copies is not None and sum(data.copies.within.values()) == 1
    assert data.left_out["empty"].count == 1
    assert [found.examples for found in data.skipped.values()] == [["oak/broken.jpg"]]
    assert DataSummary.model_validate_json(data.model_dump_json()) == data


def test_what_is_rendered_has_no_copies(tmp_path: Path) -> None:
    """Protects `fonts`: its folder says less, and is summarised all the same."""
    sizes = {"train_per_class": 2, "val_per_class": 1, "test_per_class": 1}
    prepare("fonts", None, tmp_path / "out", image_size=8, store_size=8, options=sizes)
    data = summarise(tmp_path / "out")
    assert data.copies is None and data.sources.formats == {"rendered": 84}
    assert data.images["train"] == [2] * 21


def test_reasons_are_bounded() -> None:
    """Protects result.json: reasons that name sizes are many, and are counted together from some number on."""
    found = _by_reason({"split": "train", "file": str(n), "reason": f"{n} pixels"} for n in range(1000))
    assert len(found) == MOST_REASONS + 1 and sum(entry.count for entry in found.values()) == 1000
    assert found["other reasons"].count == 1000 - MOST_REASONS


def test_the_command(tmp_path: Path) -> None:
    """Protects `data CONFIG`: words, one JSON document, a page; no file of the user's is lost."""
    _messy(tmp_path / "photos")
    assert figkd("init", "photos", cwd=tmp_path).code == 0
    shown = figkd("data", "photos.yaml", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert "train (the rest)" in shown.out and "1 x empty file (oak/empty.jpg)" in shown.out
    page = tmp_path / "runs" / "photos" / "data.html"
    assert (
        "training image of oak" in page.read_text(encoding="utf-8")
        and str(page.relative_to(tmp_path)) in shown.out
    )
    done = figkd("data", "photos.yaml", "--json", "--html", "other.html", cwd=tmp_path)
    assert done.code == 0 and json.loads(done.out)["classes"] == ["ash", "oak"]
    assert (tmp_path / "other.html").is_file()
    config = (tmp_path / "photos.yaml").read_bytes()
    refused = figkd("data", "photos.yaml", "--html", "photos.yaml", cwd=tmp_path)
    assert refused.code == 2 and "not replaced" in refused.err and "Traceback" not in refused.err
    assert (tmp_path / "photos.yaml").read_bytes() == config
    nothing = figkd("data", "photos.yaml", "--set", "data.root=nowhere", cwd=tmp_path)
    assert nothing.code == 4 and nothing.out == ""


def test_the_command_imports_no_framework(tmp_path: Path) -> None:
    """Protects the answer's speed: to look at images needs no torch."""
    _messy(tmp_path / "photos")
    assert figkd("init", "photos", cwd=tmp_path).code == 0
    code = (
        "import sys\nfrom pipeline.cli.entry import execute\n"
        "assert execute(['data', 'photos.yaml', '-q']) == 0\n"
        "sys.exit(bool({'torch', 'timm', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True)
    assert done.returncode == 0, done.stderr
