"""How a network begins: what the config says of weights, checked before the data are prepared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from figkd import checkpoint
from figkd.errors import LabelError
from figkd.models import ImageClassifier, build_model
from pipeline.config import load_config
from pipeline.core.errors import StageFailed
from pipeline.core.files import write_json
from pipeline.places import environment
from pipeline.results.class_order import columns, in_order, told_classes
from pipeline.run import doctor
from pipeline.stages.base import Work
from pipeline.stages.start import SAME, Start, begin
from tests.pipeline import trees
from tests.pipeline.conftest import figkd

NAME = "figkd/dsconv_nano"
RANDOM = Start(
    model=NAME,
    image_size=32,
    seed=0,
    trains=True,
    pretrained=False,
    checkpoint=None,
    classes=None,
    mean=None,
    std=None,
)
CONFIG = """\
name: c
data: {dataset: image_folder, root: photos, image_size: 32}
teacher: {model: figkd/resnet_tiny, checkpoint: w.pth}
student: {model: figkd/dsconv_nano}
distill: {epochs: 1, views: {count: 1}}
targets: {cpu: {engine: onnxruntime}}
"""


def _bias(model: ImageClassifier) -> list[float]:
    return [round(float(v), 5) for v in model.state_dict()["backbone.head.bias"]]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A state dict whose head's biases are 0, 1 and 2."""
    state = build_model(NAME, 3, image_size=32).state_dict()
    state["backbone.head.bias"] = torch.arange(3.0)
    torch.save(state, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def test_names_are_a_list_a_file_or_an_assertion(weights: Path) -> None:
    """Each form of `classes`, with the rows that it gives; without one a trained network gets a new head."""
    given = replace(RANDOM, checkpoint=weights, trains=False)
    names = weights.with_name("names.txt")
    names.write_text("c\nb\na\n")
    assert _bias(begin(replace(given, classes=["b", "c", "a"]), ["a", "b", "c"])[0]) == [2, 0, 1]
    assert _bias(begin(replace(given, classes=names), ["a", "b", "c"])[0]) == [2, 1, 0]
    assert _bias(begin(replace(given, classes=SAME), ["a", "b", "c"])[0]) == [0, 1, 2]
    with pytest.raises(LabelError, match="does not say which classes"):
        begin(given, ["a", "b", "c"])
    model, said = begin(replace(given, trains=True), ["a", "b", "c"])
    assert "new one is trained" in said and _bias(model) != [0, 1, 2]


def test_random_weights_follow_from_the_seed() -> None:
    """Same seed, same network; and a start from nothing says nothing."""
    first, second, other = (begin(replace(RANDOM, seed=seed), ["a", "b"]) for seed in (1, 1, 2))
    assert _bias(first[0]) == _bias(second[0]) != _bias(other[0])
    assert first[1] == ""


def test_published_weights_as_they_are_have_their_own_classes() -> None:
    """Protects: no random head is taken as it is, and no download is begun to find out."""
    start = replace(RANDOM, model="timm/resnet18", pretrained=True, trains=False, classes=SAME)
    with pytest.raises(LabelError, match="have 1000 outputs, the data 3 classes"):
        begin(start, ["a", "b", "c"])


def _config(folder: Path, classes: int = 3) -> None:
    trees.image_folder(folder / "photos", classes=classes, images=8)
    (folder / "c.yaml").write_text(CONFIG)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("state dict", ("does not say which classes its 3 outputs are", "same as data")),
        ("renamed", ('only in w.pth: "a", "b", "c"', 'only in the data: "class_0"')),
        ("another network", ("does not fit figkd/resnet_tiny", "missing")),
        ("pickled", ("pickled object", "state_dict()")),
        ("text", ("not written by torch.save",)),
    ],
)
def test_a_teacher_that_does_not_fit_is_told_before_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, says: tuple[str, ...]
) -> None:
    """Exit 2, the key, the fix, nothing made, and the user's file left alone; doctor says the same."""
    _config(tmp_path)
    path, model = tmp_path / "w.pth", build_model("figkd/resnet_tiny", 3, image_size=32)
    if kind == "state dict":
        torch.save(model.state_dict(), path)
    elif kind == "renamed":
        checkpoint.save(path, model.state_dict(), {"classes": ["a", "b", "c"]})
    elif kind == "another network":
        checkpoint.save(path, build_model(NAME, 3, image_size=32).state_dict())
    elif kind == "pickled":
        torch.save(model, path)
    else:
        path.write_text("no weights\n")
    before = path.read_bytes()
    done = figkd("run", "c.yaml", "--until", "teacher", cwd=tmp_path)
    assert done.code == 2 and "teacher.checkpoint" in done.err, done.err
    assert all(text in done.err for text in says), done.err
    assert "delete" not in done.err and path.read_bytes() == before
    assert not (tmp_path / ".figkd/artifacts/data").exists()
    monkeypatch.chdir(tmp_path)
    (found,) = (f for f in doctor.examine(load_config("c.yaml")) if f.what == "teacher.checkpoint")
    assert found.state == "fault" and all(text in found.found + found.fix for text in says), found


def test_doctor_without_torch_builds_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the command that a user calls where the installation is broken."""
    _config(tmp_path)
    monkeypatch.chdir(tmp_path)
    torch.save(build_model("figkd/resnet_tiny", 3, image_size=32).state_dict(), "w.pth")
    config, version_of = load_config("c.yaml"), environment.version_of
    assert "teacher.checkpoint" in {f.what for f in doctor.examine(config)}
    monkeypatch.setattr(
        environment, "version_of", lambda name: "none" if name == "torch" else version_of(name)
    )
    states = {f.what: f.state for f in doctor.examine(config)}
    assert states["torch"] == "fault" and "teacher.checkpoint" not in states


def test_a_student_starts_from_a_file_and_says_what_became_of_its_head(tmp_path: Path) -> None:
    """Other classes: a new head, said; the key changes with the file's content, not with its place."""
    _config(tmp_path, classes=4)
    torch.save(build_model("figkd/resnet_tiny", 4, image_size=32).state_dict(), tmp_path / "w.pth")
    torch.save({"model": build_model(NAME, 3, image_size=32).state_dict()}, tmp_path / "s.pth")
    keys = {"teacher.classes": SAME, "student.checkpoint": "s.pth", "teacher.allow_chance_level": "true"}
    arguments = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    done = figkd("run", "c.yaml", "--until", "distill", *arguments, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "student: took its model; its head is for 3 outputs of other or unknown classes" in done.err


@pytest.mark.parametrize(
    ("allowed", "labels", "answers", "refused", "warns"),
    [
        ("refused", [0, 0, 0, 1], [0, 0, 0, 0], True, False),
        ("allowed", [0, 0, 0, 1], [0, 0, 0, 0], False, True),
        ("refused", [0, 0, 0, 1], [1, 0, 0, 1], True, False),
        # 7 of 7 against 4 of 7: Wilson's interval starts above 57 %, that of the difference below 0.
        ("refused", [0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1], False, True),
        ("refused", [0, 1] * 20, [0, 1] * 20, False, False),
    ],
)
def test_a_teacher_at_chance_level_does_not_teach(
    tmp_path: Path, allowed: str, labels: list[int], answers: list[int], refused: bool, warns: bool
) -> None:
    """What naming the most frequent class reaches is refused, or told aloud, by the report's own rule."""
    from export.predictions import Predictions, save_predictions
    from pipeline.stages import logits

    (tmp_path / "teacher").mkdir()
    (tmp_path / "data").mkdir()
    said = Predictions(np.array(answers), np.ones(len(answers), np.float32))
    save_predictions(tmp_path / "teacher/predictions.npz", {"teacher": said})
    np.save(tmp_path / "data/test.npy", np.zeros((len(labels), 2, 2, 3), np.uint8))
    np.save(tmp_path / "data/test_labels.npy", np.array(labels))
    write_json(tmp_path / "data/test_ids.json", [str(index) for index in range(len(labels))])
    write_json(tmp_path / "data/classes.json", ["a", "b"])
    notes: list[str] = []
    inputs: Any = {name: tmp_path / name for name in ("teacher", "data")}
    work = Work(
        {"at_chance_level": allowed}, inputs, {}, tmp_path, tmp_path, lambda *_: None, note=notes.append
    )
    if refused:
        with pytest.raises(
            StageFailed, match=r"of 4 test images right; always naming .* gives 75.0 %"
        ) as error:
            logits._check_teacher(work)
        assert "allow_chance_level" in error.value.fix
    else:
        logits._check_teacher(work)
        assert any("WARNING" in note for note in notes) is warns


def test_columns_of_a_file_are_mapped_by_name(tmp_path: Path) -> None:
    """Engines and files against the data: mapped, refused, or untold."""
    from export import contract
    from export.onnx import export_onnx

    path = tmp_path / "m.onnx"
    model, image = build_model(NAME, 3, image_size=32), contract.ImageInput("NHWC", "uint8", 32, 32)
    example = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    export_onnx(model, example, path, dynamic_batch=False, metadata=contract.metadata(["a", "b", "c"], image))
    assert told_classes(path) == ["a", "b", "c"] and columns(path, ["a", "b", "c"]) is None
    order = columns(path, ["c", "a", "b"])
    assert in_order(np.array([[0.0, 1.0, 2.0]], np.float32), order).tolist() == [[2, 0, 1]]
    with pytest.raises(LabelError, match=r'only in m.onnx: "c"; only in the data: "d"'):
        columns(path, ["a", "b", "d"])
    export_onnx(model, example, path, dynamic_batch=False)
    assert told_classes(path) == [] and columns(path, ["x", "y", "z"]) is None
