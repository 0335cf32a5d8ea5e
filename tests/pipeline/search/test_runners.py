"""Where trials run: processes that may die, jobs of submitit's local executor, tasks of a local Ray cluster.

The requests are ones that the function refuses: what is protected is the way there and back.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from pipeline.config.search import Search
from pipeline.core.errors import EnvironmentFault
from pipeline.search.runners import WorkerDied, runner
from pipeline.search.trial import TrialRequest


def _section(**values: object) -> Search:
    return Search.model_validate({"space": {"seed": [1]}, "objectives": {"val_top1": "max"}} | values)


def _request(folder: Path) -> TrialRequest:
    return TrialRequest(config='{"name": "no config"}', folder=str(folder), kind="rung", epochs=1)


def _worker() -> multiprocessing.process.BaseProcess:
    return next(p for p in multiprocessing.active_children() if p.name == "figkd-trial")


def _there_and_back(section: Search, folder: Path) -> None:
    with runner(section, folder) as run:
        outcome = run(_request(folder))
    assert outcome.failure is not None and "data" in outcome.failure.what


def test_a_process_that_dies_is_told_and_started_again(tmp_path: Path) -> None:
    """The trial's reason names the signal; the next trial runs; at the end nothing is left."""
    with runner(_section(), tmp_path) as run:
        assert run(_request(tmp_path)).failure is not None
        worker = _worker()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)  # so that the next trial is under way when the kernel kills it
        killer = threading.Timer(0.3, os.kill, (worker.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(WorkerDied, match="killed by signal 9: probably by the OOM killer"):
            run(_request(tmp_path))
        assert run(_request(tmp_path)).failure is not None and _worker().pid != worker.pid
    assert not [p for p in multiprocessing.active_children() if p.name == "figkd-trial"]


def test_an_interrupt_ends_what_runs(tmp_path: Path) -> None:
    """On the way out of a search a trial under way is given up, and does not hold the exit back."""
    said: list[str] = []

    def call() -> None:
        try:
            run(_request(tmp_path))
        except WorkerDied as error:
            said.append(str(error))

    with pytest.raises(KeyboardInterrupt), runner(_section(), tmp_path) as run:
        run(_request(tmp_path))
        worker = _worker()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        thread = threading.Thread(target=call)
        thread.start()
        time.sleep(0.3)
        raise KeyboardInterrupt
    thread.join(20)
    assert not thread.is_alive() and said and not worker.is_alive()


@pytest.mark.parametrize(
    ("engine", "package", "extra"), [("submitit", "submitit", "slurm"), ("ray", "ray", "ray")]
)
def test_a_missing_package_is_told(engine: str, package: str, extra: str, tmp_path: Path) -> None:
    """Exit code 4 with what to install."""
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(EnvironmentFault) as caught, runner(_section(engine=engine), tmp_path):
        pass
    assert f"the package {package} is not installed" in caught.value.what
    assert f"figkd-pipeline[{extra}]" in caught.value.fix


@pytest.mark.slow
def test_submitit_on_this_machine(tmp_path: Path) -> None:
    """The executor that SLURM's jobs are submitted by, with its local cluster."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    _there_and_back(_section(engine="submitit", slurm={"cluster": "local", "timeout_min": 5}), tmp_path)


def test_slurm_that_is_not_there(tmp_path: Path) -> None:
    """Told before anything is trained."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    with pytest.raises(EnvironmentFault) as caught, runner(_section(engine="submitit"), tmp_path):
        pass
    assert "slurm" in caught.value.what.lower() and "slurm.cluster: local" in caught.value.fix


@pytest.mark.slow
def test_ray_on_this_machine(tmp_path: Path) -> None:
    """A cluster that is started here."""
    pytest.importorskip("ray", reason="ray is not installed")
    _there_and_back(_section(engine="ray"), tmp_path)


def test_a_ray_cluster_that_is_not_there(tmp_path: Path) -> None:
    """Told with where the address stands."""
    pytest.importorskip("ray", reason="ray is not installed")
    section = _section(engine="ray", ray={"address": "127.0.0.1:1"})
    with pytest.raises(EnvironmentFault) as caught, runner(section, tmp_path):
        pass
    assert caught.value.where == "search.ray.address"
