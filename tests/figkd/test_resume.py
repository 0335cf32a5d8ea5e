"""The state of a training that something else wrote: a warning and a fresh start, or another run's, which stays."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from figkd import checkpoint, resume
from figkd.errors import CheckpointError

TOLD = {"lr": 0.1}


def _write(path: Path, value: Any) -> None:
    """With the digest made right, as nobody but an author of such files would."""
    body = checkpoint.to_bytes(value)
    path.write_bytes(hashlib.sha256(body).digest() + body)


def test_round_trip(tmp_path: Path) -> None:
    """What was saved is there again."""
    net, other = nn.Linear(2, 2), nn.Linear(2, 2)
    resume.save(tmp_path / "s", TOLD, {"net": net}, [{"epoch": 1}])
    assert resume.load(tmp_path / "s", TOLD, {"net": other}) == [{"epoch": 1}]
    assert torch.equal(net.weight, other.weight)


@pytest.mark.parametrize(
    "value",
    [
        None, [], {}, torch.ones(2), {"format": 2}, {"format": 2, "told": TOLD, "history": [], "net": 3},
        {"format": 2, "told": [], "history": [], "net": {}}, {"format": 2, "told": TOLD, "history": {}, "net": {}},
        {"format": torch.ones(2), "told": TOLD, "history": [], "net": {}},
    ],
)  # fmt: skip
def test_other_contents_count_as_damage(tmp_path: Path, value: Any) -> None:
    """Nothing of it is used."""
    _write(tmp_path / "s", value)
    with pytest.warns(UserWarning, match="is damaged: starting again"):
        assert resume.load(tmp_path / "s", TOLD, {"net": nn.Linear(2, 2)}) == []


@pytest.mark.parametrize(
    "data", [b"", b"x" * 10, hashlib.sha256(b"").digest(), hashlib.sha256(b"x").digest() + b"x"]
)
def test_other_bytes_count_as_damage(tmp_path: Path, data: bytes) -> None:
    """Also with a digest that is right."""
    (tmp_path / "s").write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged: starting again"):
        assert resume.load(tmp_path / "s", TOLD, {}) == []


def test_the_state_of_another_run_is_not_to_be_deleted(tmp_path: Path) -> None:
    """It may be the only copy of hours of work."""
    resume.save(tmp_path / "s", {"lr": 0.2}, {}, [])
    with pytest.raises(CheckpointError, match=r"another run \(differs in: lr\)") as error:
        resume.load(tmp_path / "s", TOLD, {})
    assert "delete" not in str(error.value)
