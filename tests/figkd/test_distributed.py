"""Training on several processes: the result of one, and a clean end when one of them is killed."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import torch

from figkd.distributed import ALONE, World
from figkd.feed import layout
from tests.warm import environment, warm

# Without dropout and batch norm, which see only their own process's share on a CPU.
RUN = """
import os, signal, sys
from contextlib import suppress
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from torch import nn
torch.set_num_threads(1)
import test_train as t
from figkd.models import ImageClassifier
from figkd.distributed import ALONE, PeerLost, connect, disconnect, leave
world = connect() if "WORLD_SIZE" in os.environ else ALONE
torch.manual_seed(3)
net = ImageClassifier(nn.Sequential(
    nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(72, t.CLASSES)))
def die(done, total, note):
    if done == {kill_at} and world.rank == {victim}:
        os.kill(os.getpid(), signal.SIGKILL)
try:
    model, history = t._run(net, world=world, batch_size=15, ema_decay=0.9, progress=die, **{extra},
                            state_path=Path({state!r}) if {state!r} else None)
except PeerLost as error:
    print(error, file=sys.stderr)
    leave(7)
if world.first:
    torch.save((model.state_dict(), [r["loss"] for r in history], [r["val_top1"] for r in history]), {out!r})
disconnect(world)
for task in Path("/proc/self/task").glob("*/comm"):
    with suppress(OSError):  # of another thread, which has just ended
        if "gloo" in task.read_text():
            sys.exit("a thread of gloo is still alive")
"""


def _start(code: str, rank: int, size: int, port: int) -> subprocess.Popen[str]:
    group = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    env = environment() | ({key: str(value) for key, value in group.items()} if size > 1 else {})
    return subprocess.Popen(warm().command("-c", code), env=env, stderr=subprocess.PIPE, text=True)


# The default recipe compares the images of a batch with each other, so that a process's share alone would not do.
FIGKD = """dict(loss=t.build_loss("figkd", t.CLASSES), split=t._split(47),
    teacher_logits=torch.randn(47, 9, 4, generator=torch.Generator().manual_seed(1)).half().numpy())"""


def _together(
    size: int,
    out: Path,
    state: Path | None = None,
    *,
    kill_at: int = -1,
    victim: int = 1,
    extra: str = "dict(accumulate=2)",
) -> list[tuple[int, str]]:
    """Run a group; its exit codes and messages, in the order of the ranks."""
    code = RUN.format(
        tests=str(Path(__file__).parent), out=str(out), state=str(state or ""), kill_at=kill_at, victim=victim,
        extra=extra,
    )  # fmt: skip
    return _outcomes(code, size)


def _outcomes(code: str, size: int) -> list[tuple[int, str]]:
    """Exit codes and messages of `size` processes that run `code` as a group."""
    with socket.socket() as held:  # open all the time, so that no other program is given the port
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        group = [_start(code, rank, size, held.getsockname()[1]) for rank in range(size)]
        try:
            said = [process.communicate(timeout=300)[1] for process in group]
        finally:
            for process in group:
                process.kill()
    return [(process.returncode, text) for process, text in zip(group, said, strict=True)]


@pytest.mark.parametrize(
    "extra", ["dict(accumulate=2)", FIGKD, "dict(mixup=0.4, cutmix=1.0, accumulate=3, optimizer='muon')"]
)
def test_two_processes_train_as_one(extra: str, tmp_path: Path) -> None:
    """Protects the global batch: two gloo processes give the single process's losses and weights, up to rounding."""
    for size, name in ((1, "one"), (2, "two")):
        outcomes = _together(size, tmp_path / name, extra=extra)
        assert [code for code, _ in outcomes] == [0] * size, outcomes
    (one, losses, val), (two, shared, val_shared) = (
        torch.load(tmp_path / name, weights_only=True) for name in ("one", "two")
    )
    assert shared == pytest.approx(losses, rel=1e-5)
    assert val_shared == val
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-5, rtol=1e-4, msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes make that nobody kills."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert [code for code, _ in _together(2, out)] == [0, 0]
    return out


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_cleanly_and_the_next_run_goes_on(
    victim: int, whole: Path, tmp_path: Path
) -> None:
    """Protects against hanging and half results: SIGKILL of a rank ends the other with one message; resume is exact."""
    codes = _together(2, tmp_path / "out", tmp_path / "state", kill_at=9, victim=victim)
    assert codes[victim][0] == -signal.SIGKILL
    code, message = codes[1 - victim]
    assert code == 7 and f"another of the 2 processes ended (this is process {1 - victim})" in message
    assert not (tmp_path / "out").exists() and (tmp_path / "state").exists()
    again = _together(2, tmp_path / "out", tmp_path / "state")
    assert [code for code, _ in again] == [0, 0], again
    (weights, losses, _), (resumed, resumed_losses, _) = (
        torch.load(path, weights_only=True) for path in (whole, tmp_path / "out")
    )
    assert resumed_losses == losses
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


STARVED = """
import sys, torch
from figkd.distributed import connect, disconnect, leave
world = connect()
for _ in range(3):
    world.add(torch.ones(3))
    world.broadcast("x")
{end}
"""

# A thread of gloo that does not get the processor when it is about to let go of a collective's tensors.
STARVE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
static __thread char name[16];
int pthread_mutex_lock(pthread_mutex_t *mutex) {
  static int (*lock)(pthread_mutex_t *);
  if (!lock) lock = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
  if (!strstr(name, "gloo")) prctl(PR_GET_NAME, name);
  if (strstr(name, "gloo_runloop")) usleep(20000);
  return lock(mutex);
}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), [("disconnect(world)", 0), ("leave(7)", 7)])
def test_a_starved_thread_of_gloo_does_not_abort_the_process(
    end: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the end of a training on a busy machine: no SIGABRT ("terminate called without an active exception").

    Without the order in `disconnect`, a third of these processes ended so.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "starve.c").write_text(STARVE)
    library = tmp_path / "starve.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, tmp_path / "starve.c", "-ldl"], check=True, timeout=60
    )
    monkeypatch.setenv("LD_PRELOAD", str(library))
    for _ in range(4):
        outcomes = _outcomes(STARVED.format(end=end), 2)
        assert [found for found, _ in outcomes] == [code, code], outcomes


STUCK = """
import torch
from torch import distributed
from figkd.distributed import PeerLost, connect, leave
world = connect()
if world.first:
    distributed.all_reduce(torch.ones(3), async_op=True)  # as in a backward pass; the other never joins in
    leave(1)
try:
    world.broadcast(None)
except PeerLost:
    leave(7)
"""


def test_an_error_ends_the_process_though_a_collective_is_under_way() -> None:
    """Protects against two processes that wait for each other: who fails goes, and the other learns of it."""
    outcomes = _outcomes(STUCK, 2)
    assert [code for code, _ in outcomes] == [1, 7], outcomes


@pytest.mark.parametrize(
    ("count", "steps", "accumulate", "size"), [(48, 4, 1, 2), (47, 4, 3, 2), (10, 3, 1, 3)]
)
def test_shares_cover_every_step_once(count: int, steps: int, accumulate: int, size: int) -> None:
    """Protects the split of the work: together the processes take each place once, and a step's weights add up."""
    slots = [layout(count, steps, accumulate, World(rank, size)) for rank in range(size)]
    places = sorted(place for mine in slots for slot in mine for place in range(slot.start, slot.stop))
    assert places == list(range(count))
    for step in range(steps):
        assert sum(slot.weight for slot in slots[0] if slot.step == step) == pytest.approx(1.0)
    assert sum(slot.last for slot in slots[0]) == steps


def test_a_single_process_needs_no_group() -> None:
    """Protects the ordinary run: no communication, no torch.distributed."""
    tensor = torch.ones(2)
    assert ALONE.broadcast("x") == "x" and ALONE.add(tensor) is tensor and ALONE.share(7) == (0, 7)
