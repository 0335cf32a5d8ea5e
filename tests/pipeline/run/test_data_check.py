"""The data are read in one way by every command: what one says, the others say, before anything is trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.core.errors import Exit
from tests.pipeline import trees
from tests.pipeline.conftest import Done, figkd

CONFIG = """\
name: mine
data: {{dataset: image_folder, root: {root}, image_size: 32, store_size: 32, options: {options}}}
teacher: {{model: figkd/resnet_tiny, epochs: 1}}
student: {{model: figkd/dsconv_nano}}
precision: {{modes: [fp32]}}
targets: {{cpu: {{engine: onnxruntime}}}}
"""


def _config(folder: Path, options: str = "{}") -> Path:
    path = folder / "mine.yaml"
    path.write_text(CONFIG.format(root=folder / "images", options=options))
    return path


def _run(folder: Path, *arguments: str) -> Done:
    return figkd("run", "mine.yaml", "--until", "data", *arguments, cwd=folder)


def test_a_class_with_one_image_is_told_by_every_command(tmp_path: Path) -> None:
    """The same words and the fix from init, config check, doctor, plan and run; the option lets it go on."""
    trees.image_folder(tmp_path / "images", images=8)
    for path in sorted((tmp_path / "images/class_2").iterdir())[1:]:
        path.unlink()
    _config(tmp_path)
    expected = (
        "1 of 3 classes has fewer than 3 different images (one for each of train, val, test): class_2 (1)"
    )
    for words, code in (
        (("init", "images", "-o", "x.yaml"), Exit.CONFIG),
        (("config", "check", "mine.yaml"), Exit.ENVIRONMENT),
        (("doctor", "mine.yaml"), Exit.ENVIRONMENT),
        (("plan", "mine.yaml"), Exit.ENVIRONMENT),
        (("run", "mine.yaml"), Exit.ENVIRONMENT),
    ):
        done = figkd(*words, cwd=tmp_path)
        said = " ".join((done.out + done.err).split())
        assert done.code == code and expected in said, (words, said)
        assert "small_classes" in said and "leave_out" in said
    assert not (tmp_path / ".figkd/artifacts").exists()
    _config(tmp_path, "{small_classes: leave_out}")
    done = _run(tmp_path)
    assert done.code == 0 and "2 classes" in done.err
    assert "left out: 1 x class with too few images (as asked for)" in done.err


def test_what_changed_is_said_by_plan_and_run(tmp_path: Path) -> None:
    """Images, classes, and that yesterday's test images are test images still."""
    trees.image_folder(tmp_path / "images", classes=2, images=24)
    _config(tmp_path)
    assert _run(tmp_path).code == 0
    assert "data: " not in figkd("plan", "mine.yaml", cwd=tmp_path).out
    trees.image_folder(tmp_path / "more", classes=3, images=40)
    shutil.copytree(tmp_path / "more/class_2", tmp_path / "images/class_2")
    for index in range(30, 33):
        shutil.copy(tmp_path / f"more/class_0/{index:03d}.jpg", tmp_path / f"images/class_0/{index:03d}.jpg")
    (tmp_path / "images/class_1/000.jpg").unlink()
    for done in (figkd("plan", "mine.yaml", cwd=tmp_path), _run(tmp_path)):
        said = done.out + done.err
        assert done.code == 0
        assert "data: 43 images added (40 class_2, 3 class_0)" in said
        assert "data: 1 images removed (1 class_1)" in said
        assert "data: classes added: class_2" in said
        assert "old test images are test images still" in said and "trained on now" not in said


@pytest.mark.parametrize("command", ["plan", "run"])
def test_copies_across_given_splits_are_refused_before_anything_runs(tmp_path: Path, command: str) -> None:
    """A test set of training images: exit 4 with a pair and the way out."""
    trees.image_folder(tmp_path / "images/train", classes=2, images=8)
    shutil.copytree(tmp_path / "images/train", tmp_path / "images/test")
    _config(tmp_path)
    done = figkd(command, "mine.yaml", cwd=tmp_path)
    assert done.code == Exit.ENVIRONMENT
    assert "16 of 16 test images are copies of train images" in done.err
    assert "data.options.copies: leave_out" in done.err


def test_force_prepares_the_data_again(tmp_path: Path) -> None:
    """The way out that docs name where a cache is in doubt."""
    trees.image_folder(tmp_path / "images", classes=2, images=12)
    _config(tmp_path)
    assert "started" in _run(tmp_path).err
    assert "started" not in _run(tmp_path).err
    assert "started" in _run(tmp_path, "--force", "data").err


def test_configs_are_checked_where_their_data_are_not(tmp_path: Path) -> None:
    """`config check` needs no data; what was left out is noted where they are."""
    _config(tmp_path)
    assert figkd("config", "check", "mine.yaml", cwd=tmp_path).code == 0
    trees.image_folder(tmp_path / "images", classes=2, images=4)
    (tmp_path / "images/class_0/gone.png").symlink_to("/nonexistent")
    done = figkd("config", "check", "mine.yaml", cwd=tmp_path)
    assert done.code == 0 and "1 x link to nothing (class_0/gone.png)" in done.out + done.err
