"""The TensorBoard option: its file can be read back, and without the package the user is told what to install."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from figkd.errors import TrainingError
from figkd.events import EVENTS, EventFile

RECORD = {"epoch": 3, "loss": 0.5, "val_top1": None, "timing": {"images_per_s": 100.0, "mfu": None}}


def test_without_the_package_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects against a bare ImportError, and against an empty file left behind."""
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(TrainingError, match="needs the package tensorboard") as caught:
        EventFile(tmp_path / EVENTS)
    assert "pip install" in caught.value.fix
    assert not (tmp_path / EVENTS).exists()


def test_the_file_holds_the_records(tmp_path: Path) -> None:
    """Protects the curves: names, steps and values as TensorBoard reads them; None is left out."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventFile(tmp_path / "events" / EVENTS)
    events.add(RECORD)
    events.close()
    read = EventAccumulator(str(tmp_path / "events"))
    read.Reload()
    assert set(read.Tags()["scalars"]) == {"loss", "timing/images_per_s"}
    (event,) = read.Scalars("loss")
    assert (event.step, event.value) == (3, 0.5)
