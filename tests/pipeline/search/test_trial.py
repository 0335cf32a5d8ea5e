"""Which failures of a trial are its config's own: those come again, and a second attempt is a waste of a training."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from export.errors import BackendMissing, ExportError
from figkd.errors import TrainingError
from pipeline.core.errors import ConfigError, DeviceFault
from pipeline.core.store import Store
from pipeline.run import conductor
from pipeline.search import trial
from pipeline.search.trial import TrialRequest, run_trial
from tests.pipeline.search.pretend import searched


@dataclass
class _Raising:
    """A stage that raises."""

    error: BaseException
    name: str = "distill"

    def run(self, _work: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (TrainingError("the loss is nan in epoch 1", "lower the learning rate"), True),
        (ExportError("this operator has no ONNX form"), True),
        (ConfigError("these keys contradict each other"), True),
        (MemoryError(), False),
        (RuntimeError("a defect of ours"), False),
        (OSError(28, "No space left on device"), False),
        (BackendMissing("onnxruntime is not installed"), False),
        (DeviceFault("the device is off"), False),
    ],
)
def test_only_the_configs_own_failure_is_final(
    error: BaseException, final: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the wrapping that a run gives to what a stage raises."""

    def run(_config: object, store: Store, *_: object) -> None:
        conductor._run_stage(SimpleNamespace(stage=_Raising(error), id="distill"), None, store)  # type: ignore[arg-type]

    monkeypatch.setattr(trial.conductor, "run", run)
    config = searched(tmp_path).base.model_dump_json(exclude={"scout", "search"})
    outcome = run_trial(
        TrialRequest(config=config, folder=os.getcwd(), kind="rung", epochs=1, logs=str(tmp_path))
    )
    assert outcome.failure is not None and outcome.failure.final is final
