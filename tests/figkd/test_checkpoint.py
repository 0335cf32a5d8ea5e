"""Checkpoints: deterministic bytes, atomic writes, data only, clear errors."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from figkd import checkpoint
from figkd.errors import CheckpointError, LabelError
from figkd.models import build_model

NAME = "figkd/dsconv_nano"


def test_round_trip(tmp_path: Path) -> None:
    """Protects weights and meta values on their way to disk and back."""
    model, other = (build_model(NAME, 4, image_size=32) for _ in range(2))
    path = tmp_path / "deep" / "model.ckpt"
    checkpoint.save(path, model.state_dict(), {"model": NAME, "top1": 57.5, "epochs": [1, 2]})
    assert checkpoint.load_into(other, path) == {"model": NAME, "top1": 57.5, "epochs": [1, 2]}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


def test_same_weights_same_bytes(tmp_path: Path) -> None:
    """Protects content addressing: neither the file's name nor the memory layout is in the bytes."""
    model = build_model(NAME, 4, image_size=32)
    checkpoint.save(tmp_path / "a.ckpt", model.state_dict(), {"seed": 1})
    model.to(memory_format=torch.channels_last)
    checkpoint.save(tmp_path / "b.ckpt", model.state_dict(), {"seed": 1})
    assert (tmp_path / "a.ckpt").read_bytes() == (tmp_path / "b.ckpt").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "b.ckpt"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against half-written files: the old one stays, nothing else is left behind."""
    path = tmp_path / "model.ckpt"
    checkpoint.save(path, {"w": torch.ones(2)})
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(path, {"w": torch.zeros(2)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    """Protects the reader: a pickle that calls something is refused."""

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "owned",))

    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        checkpoint.load(path)
    torch.save({"format": 1, "meta": Evil(), "state": {}}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of figkd"):
        checkpoint.load(path)
    assert not (tmp_path / "owned").exists()


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    """Protects: every kind of wrong file is a CheckpointError that names it."""
    path = tmp_path / "model.ckpt"
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        checkpoint.load(path)
    checkpoint.save(path, {"w": torch.ones(1000)})
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path)
    torch.save({"w": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of figkd"):
        checkpoint.load(path)
    torch.save({"format": 99, "meta": "{}", "state": {}}, path)
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.load(path)


def test_mismatches_are_explained(tmp_path: Path) -> None:
    """Protects: another architecture names its keys, another class count says so."""
    path = tmp_path / "model.ckpt"
    checkpoint.save(path, build_model(NAME, 4, image_size=32).state_dict())
    with pytest.raises(CheckpointError, match="it has 4 classes and the model 5"):
        checkpoint.load_into(build_model(NAME, 5, image_size=32), path)
    with pytest.raises(CheckpointError, match=r"missing key.*backbone\.blocks.*unexpected key"):
        checkpoint.load_into(build_model("figkd/resnet_tiny", 4, image_size=32), path)
    state = build_model(NAME, 4, image_size=32).state_dict()
    name = "backbone.stem.0.weight"
    checkpoint.save(path, {**state, name: torch.zeros(2, 3, 5, 5)})
    with pytest.raises(CheckpointError, match=r"shapes differ, e.g. backbone\.stem\.0\.weight"):
        checkpoint.load_into(build_model(NAME, 4, image_size=32), path)


def test_equal_values_give_equal_bytes_whether_or_not_they_are_one_object(tmp_path: Path) -> None:
    """Protects content digests: pickle alone writes a repeated object and an equal copy differently."""
    name = "".join(["a", "b"])
    for path, meta in (("1", {"x": name, "y": name}), ("2", {"x": name, "y": "".join(["a", "b"])})):
        checkpoint.save(tmp_path / path, {"w": torch.zeros(2)}, meta)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_checkpoint_of_other_classes_is_not_loaded(tmp_path: Path) -> None:
    """Protects every stage: same count, other names or another order, and the outputs would mean something else."""
    path, model = tmp_path / "model.ckpt", build_model(NAME, 3, image_size=32)
    checkpoint.save(path, model.state_dict(), {"classes": ["a", "b", "c"]})
    checkpoint.load_into(model, path, ["a", "b", "c"])
    with pytest.raises(LabelError, match=r'only in model.ckpt: "c"; only in the data: "d"'):
        checkpoint.load_into(model, path, ["a", "b", "d"])
    with pytest.raises(LabelError, match="another order"):
        checkpoint.load_into(model, path, ["b", "a", "c"])
    checkpoint.save(path, model.state_dict())
    with pytest.raises(LabelError, match="0 and 3"):
        checkpoint.load_into(model, path, ["a", "b", "c"])


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_what_is_not_there_yet_is_told(tmp_path: Path, name: str) -> None:
    """Protects a user whose clone has the pointers of large files, or whose copy broke off, from other advice."""
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4665\nsize 12345\n")
    with pytest.raises(CheckpointError, match="Git LFS pointer") as caught:
        checkpoint.read_saved(path)
    assert "git lfs pull" in caught.value.fix
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is empty"):
        checkpoint.read_saved(path)
