"""The training loop: it learns, repeats itself to the bit, and continues exactly where it was killed."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from figkd.data.logits import cache_logits, open_logits
from figkd.data.split import Split
from figkd.data.views import make_views
from figkd.distributed import World
from figkd.errors import CheckpointError, TrainingError, TrainingPaused
from figkd.loss.build import build_loss
from figkd.models import ImageClassifier
from figkd.objective import compile_mode
from figkd.train import _for_group, train
from tests.warm import environment, warm

CLASSES = 4


def _split(count: int = 48, seed: int = 0) -> Split:
    """Images whose class is the brightest quarter, 8 x 8 with noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % CLASSES
    images = rng.integers(0, 120, (count, 8, 8, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        y, x = divmod(int(label), 2)
        image[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] += 100
    return Split(images, labels, [str(index) for index in range(count)])


def _model(seed: int = 0, dropout: float = 0.2) -> ImageClassifier:
    torch.manual_seed(seed)
    return ImageClassifier(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(8 * 9, CLASSES),
        ),
        (0.5,) * 3,
        (0.25,) * 3,
    )


def _views(seed: int = 0) -> Any:
    return make_views("shift", image_size=6, store_size=8, pad=1, seed=seed)


def _run(model: nn.Module | None = None, **changes: Any) -> tuple[nn.Module, list[dict[str, Any]]]:
    model = model or _model()
    arguments: dict[str, Any] = {
        "loss": build_loss("ce", CLASSES),
        "views": _views(),
        "epochs": 4,
        "batch_size": 16,
        "lr": 0.05,
        "val": _split(seed=1),
        "seed": 7,
        **changes,
    }
    return model, train(model, arguments.pop("split", None) or _split(), **arguments)


def _plain(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "timing"} for record in history]


def _same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns_and_reports(tmp_path: Path) -> None:
    """Protects the whole: a learnable task is learnt, records are complete, the log is the history."""
    steps: list[tuple[int, int]] = []
    model, history = _run(
        epochs=12,
        log_path=tmp_path / "log.jsonl",
        progress=lambda done, total, note: steps.append((done, total)),
    )
    assert history[-1]["val_top1"] > 90
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert [record["epoch"] for record in history] == list(range(1, 13))
    keys = {"epoch", "loss", "train_top1", "val_top1", "lr", "timing"}
    assert all(set(record) == keys for record in history)
    assert set(history[0]["timing"]) == {"seconds", "images_per_s", "data_wait", "mfu", "threads"}
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == history
    assert steps[0] == (1, 36)
    assert steps[-1] == (36, 36)
    assert not model.training


def test_same_arguments_same_bits() -> None:
    """Protects reproducibility, whatever the caller's generator; another seed trains differently."""
    first, one = _run()
    model = _model()
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    second, two = _run(model)
    assert torch.equal(state, torch.random.get_rng_state())
    assert _same(first, second)
    assert _plain(one) == _plain(two)
    assert not _same(first, _run(seed=8)[0])


class _Stop(Exception):
    pass


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ema_decay": 0.9, "optimizer": "adamw", "lr": 0.01, "schedule": "cosine", "warmup_epochs": 1.0},
        {"amp": "bf16", "grad_clip": 0.5, "schedule": "step", "step_at": (0.5,)},
        {"optimizer": "muon", "accumulate": 2},
    ],
)
def test_an_interrupted_run_ends_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    """Protects exact resume: stopped in the third epoch and taken up, the weights are equal to the bit."""
    whole, expected = _run(**options)

    def stop(done: int, total: int, note: str) -> None:
        if done == 7:
            raise _Stop

    state = tmp_path / "state"
    with pytest.raises(_Stop):
        _run(state_path=state, progress=stop, **options)
    seen: list[int] = []
    resumed, history = _run(state_path=state, progress=lambda done, *_: seen.append(done), **options)
    assert seen[:2] == [6, 7]  # what it goes on from is said first
    assert _same(whole, resumed)
    assert _plain(history) == _plain(expected)
    again, _ = _run(state_path=state, progress=stop, **options)
    assert _same(whole, again)


CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
from pathlib import Path
import test_train as t
torch.set_num_threads(1)
def die(done, total, note):
    if done == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
model, history = t._run(state_path=Path({state!r}), progress=die)
torch.save(model.state_dict(), {out!r})
"""


def test_kill_dash_nine(tmp_path: Path) -> None:
    """Protects against a real SIGKILL: a new process continues and ends with the uninterrupted run's bits."""

    def child(at: int) -> int:
        code = CHILD.format(
            tests=str(Path(__file__).parent),
            state=str(tmp_path / "state"),
            at=at,
            out=str(tmp_path / "out.pt"),
        )
        return subprocess.run(warm().command("-c", code), check=False, env=environment()).returncode

    assert child(8) == -signal.SIGKILL
    assert not (tmp_path / "out.pt").exists()
    assert child(-1) == 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = _run()[0].state_dict()
    finally:
        torch.set_num_threads(threads)
    resumed = torch.load(tmp_path / "out.pt", weights_only=True)
    assert list(resumed) == list(whole)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    """Protects against continuing with other arguments or another start: the message names them."""
    state = tmp_path / "state"
    _run(state_path=state, epochs=1)
    with pytest.raises(CheckpointError, match="differs in: epochs, lr"):
        _run(state_path=state, epochs=2, lr=0.1)
    with pytest.raises(CheckpointError, match="differs in: start"):
        _run(_model(seed=5), state_path=state, epochs=1)


def test_a_damaged_state_starts_again(tmp_path: Path) -> None:
    """Protects against a flipped byte on disk: said, and trained from the start with the same end."""
    state = tmp_path / "state"
    whole, _ = _run(state_path=state)
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 1
    state.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged: starting again"):
        again, _ = _run(state_path=state)
    assert _same(whole, again)


def test_parts_of_the_loss_are_logged(tmp_path: Path) -> None:
    """Protects the record: the mean of each part, which together are the loss, also of mixed images in micro-batches;
    a loss of one part, or one that does not say, has none."""
    mixed = {"mixup": 0.4, "cutmix": 1.0, "accumulate": 2}
    _, history = _run(loss=build_loss("figkd", CLASSES), teacher=_model(2), epochs=2, **mixed)
    for record in history:
        assert list(record["parts"]) == ["task", "detail", "correlation"]
        assert sum(record["parts"].values()) == pytest.approx(record["loss"], rel=1e-6)
        assert min(record["parts"].values()) > 0
    figkd = build_loss("figkd", CLASSES)
    _, silent = _run(loss=lambda *given: figkd(*given), teacher=_model(2), epochs=2, **mixed)
    assert [record["loss"] for record in silent] == [record["loss"] for record in history]
    assert all("parts" not in record for record in (*silent, *_run(epochs=1)[1]))


def test_cached_logits_train_like_the_teacher_itself(tmp_path: Path) -> None:
    """Protects the cache: the student sees the logits of its own views, up to float16."""
    teacher, _ = _run(epochs=3)
    path = cache_logits(teacher, _split().images, _views(), tmp_path / "logits.npy")
    losses = [
        _run(_model(1), loss=build_loss("figkd", CLASSES), epochs=2, **source)[1]
        for source in ({"teacher": teacher}, {"teacher_logits": open_logits(path)}, {"teacher": _model(2)})
    ]
    online, cached, other = ([record["loss"] for record in history] for history in losses)
    assert cached == pytest.approx(online, rel=1e-3)
    assert other != pytest.approx(online, rel=1e-2)


def test_norms_and_biases_are_not_decayed() -> None:
    """Protects the parameter groups: with a zero gradient only matrices shrink."""
    model = _model()
    before = {name: value.clone() for name, value in model.named_parameters()}

    def nothing(student: torch.Tensor, teacher: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
        return student.sum() * 0

    _run(model, loss=nothing, weight_decay=0.5)
    for name, value in model.named_parameters():
        shrunk = bool((value.abs() < before[name].abs()).any())
        assert shrunk == (value.ndim >= 2), name


def test_the_average_is_what_counts() -> None:
    """Protects EMA: the result is the average, not the last weights, and is what is validated."""
    plain, last = _run()
    averaged, history = _run(ema_decay=0.9)
    assert not _same(plain, averaged)
    assert [record["loss"] for record in history] == [record["loss"] for record in last]
    assert [record["val_top1"] for record in history] != [record["val_top1"] for record in last]


# Losses of the epochs of `_run(epochs=4)` with everything on, on an x86 CPU. A change of more than rounding is a change
# of what is trained: of the order, the views, the mixing, the schedule, the optimizer or the loss.
EXPECTED = {"plain": [1.39672, 1.02088, 0.67347, 0.50652], "everything": [1.45233, 1.31273, 1.11612, 1.04901]}
EVERYTHING: dict[str, Any] = {
    "ema_decay": 0.99, "accumulate": 2, "mixup": 0.4, "cutmix": 1.0, "grad_clip": 1.0, "schedule": "cosine",
    "warmup_epochs": 1, "momentum": 0.8, "decay_norms": True,
}  # fmt: skip


@pytest.mark.parametrize("name", list(EXPECTED))
def test_expected_losses(name: str) -> None:
    """Protects the training as a whole: the series of losses of a tiny run, frozen."""
    _, history = _run(**(EVERYTHING if name == "everything" else {}))
    assert [record["loss"] for record in history] == pytest.approx(EXPECTED[name], rel=2e-3)


@pytest.mark.parametrize("stop_at", [1, 4, 7, 11])
def test_exact_resume_with_everything_on(stop_at: int, tmp_path: Path) -> None:
    """Protects resume with EMA, accumulation, mixing and warm-up: stopped at any step, it ends with the same bits."""
    whole, history = _run(**EVERYTHING)

    def stop(done: int, total: int, note: str) -> None:
        if done == stop_at:
            raise _Stop

    with pytest.raises(_Stop):
        _run(**EVERYTHING, state_path=tmp_path / "state", progress=stop)
    again, resumed = _run(**EVERYTHING, state_path=tmp_path / "state")
    assert _same(whole, again)
    assert _plain(resumed) == _plain(history)


@pytest.mark.parametrize("pauses", [(1,), (2, 3), (1, 1, 2)])
def test_a_training_that_pauses_ends_with_the_same_bits(pauses: tuple[int, ...], tmp_path: Path) -> None:
    """Protects successive halving: a promoted trial goes on as if it had never paused, on the whole schedule."""
    whole, history = _run(**EVERYTHING)
    for epochs in pauses:
        with pytest.raises(TrainingPaused) as paused:
            _run(**EVERYTHING, state_path=tmp_path / "state", pause_after=epochs)
        assert _plain(paused.value.history) == _plain(history[:epochs])
    again, resumed = _run(**EVERYTHING, state_path=tmp_path / "state", pause_after=4)
    assert _same(whole, again) and _plain(resumed) == _plain(history)
    with pytest.raises(TrainingError, match="without a state file"):
        _run(pause_after=1)


def test_resume_says_where_it_goes_on(tmp_path: Path) -> None:
    """A person who started it again must see that the hours before are not lost."""

    def stop(done: int, total: int, note: str) -> None:
        if note.startswith("epoch 2/4"):
            raise _Stop

    with pytest.raises(_Stop):
        _run(state_path=tmp_path / "state", progress=stop)
    said: list[str] = []
    _run(state_path=tmp_path / "state", progress=lambda done, total, note: said.append(note))
    assert said[0] == "goes on after epoch 1/4" and said[1].startswith("epoch 2/4")


def test_accumulation_gives_the_gradient_of_the_whole_step() -> None:
    """Protects micro-batches: without batch norm and dropout, two halves train like the whole, up to rounding."""

    def net() -> ImageClassifier:
        torch.manual_seed(3)
        return ImageClassifier(
            nn.Sequential(nn.Flatten(), nn.Linear(108, 16), nn.ReLU(), nn.Linear(16, CLASSES))
        )

    divided: list[dict[str, int]] = [{}, {"accumulate": 3}, {"replicas": 3}, {"accumulate": 2, "replicas": 2}]
    (one, first), *others = (_run(net(), **parts, batch_size=15) for parts in divided)
    for two, second in others:
        for a, b in zip(one.parameters(), two.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        assert [r["loss"] for r in first] == pytest.approx([r["loss"] for r in second], rel=1e-5)


class _Eval(nn.Module):
    """A network whose running statistics are not finite after the epochs named: only evaluation shows it."""

    def __init__(self, broken: set[int]) -> None:
        super().__init__()
        self.inner, self.broken, self.seen = _model(), broken, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(images)
        if self.training:
            return logits
        self.seen += 1
        return logits * (float("inf") if self.seen in self.broken else 1.0)


def test_a_network_that_only_predicts_nan_is_not_a_result(tmp_path: Path) -> None:
    """Protects against "done, top-1 0.0 %": the loss is finite, evaluation is not, and no state says it is done."""
    state = tmp_path / "state"
    with pytest.raises(TrainingError, match="18 of 18 validation images are not finite") as caught:
        _run(_Eval({2}), epochs=2, val=_split(18, seed=1), state_path=state)
    assert "learning rate" in caught.value.fix
    with pytest.raises(TrainingError):  # what was kept is the epoch before, and leads there again
        _run(_Eval({1}), epochs=2, val=_split(18, seed=1), state_path=state)


def test_a_network_may_recover(tmp_path: Path) -> None:
    """Protects long warm-ups: only the last epoch's weights count."""
    _, history = _run(_Eval({1}), epochs=2, val=_split(18, seed=1))
    assert history[0]["val_top1"] == 0 and history[1]["val_top1"] > 0


def test_weights_that_are_not_numbers_need_no_validation_images() -> None:
    """Protects runs without a validation split: the last step can spoil weights after a finite loss."""
    with pytest.raises(TrainingError, match="weights are not finite"):
        _run(lr=1e300, epochs=1, batch_size=48, val=None)


def test_a_loss_that_explodes_stops_the_run(tmp_path: Path) -> None:
    """Protects against saving weights that are not numbers."""
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in epoch 1"):
        _run(lr=1e30, loss=build_loss("logit_mse", CLASSES), teacher=_model(2), state_path=tmp_path / "state")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": make_views("none", image_size=6, store_size=9)}, "images of 8 px but views of 9 px"),
        ({"epochs": 0}, "0 epochs"),
        ({"schedule": "nosuch"}, "unknown schedule"),
        ({"optimizer": "nosuch"}, "unknown optimizer"),
        ({"teacher_logits": np.zeros((48, 8, 4), np.float16)}, r"logits \(48, 8, 4\) for 48 images with 9"),
        ({"teacher_logits": np.zeros((48, 9, 4), np.float16), "teacher": _model()}, "both cached and online"),
        ({"teacher_logits": np.zeros((48, 9, 4), np.float16), "mixup": 0.2}, "those of unmixed images"),
        ({"accumulate": 17}, "steps of 16 images for 17 micro-batches"),
        ({"compile": "nosuch"}, "unknown compile mode"),
        ({"accumulate": 3, "replicas": 6}, "steps of 16 images for 3 micro-batches, 6 replicas"),
        ({"replicas": 0}, "in 1 x 0 parts"),
        ({"replicas": 2, "compile": "default"}, "compile: default with 2 replicas on a CPU"),
        ({"compile": "reduce-overhead", "accumulate": 2}, "CUDA graphs would overwrite gradients"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    """Protects: arguments that do not fit raise before the first step."""
    with pytest.raises(TrainingError, match=message):
        _run(**changes)


@pytest.mark.parametrize(
    "parts", [{"accumulate": 2}, {"replicas": 2}, {"accumulate": 2, "compile": "default"}]
)
def test_parts_of_one_image_are_refused_where_batch_norm_needs_two(parts: dict[str, Any]) -> None:
    """Protects: a variance of one value is no traceback of torch; where each image has several values, all is well."""
    if "compile" not in parts:  # building it would take seconds
        _run(batch_size=2, epochs=1, **parts)
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3), nn.Linear(3, CLASSES))
    model = ImageClassifier(pooled, (0.5,) * 3, (0.25,) * 3)
    with pytest.raises(TrainingError, match="a part of a step has one image") as caught:
        _run(model, batch_size=2, epochs=1, **parts)
    assert "raise batch_size" in caught.value.fix


@pytest.mark.parametrize("method", ["ce", "figkd"])
def test_each_size_of_a_step_is_compiled_once(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against compiling again in every epoch; what is compiled is what is run (here by an eager back end),
    the parts of the loss included."""
    compile_ = torch.compile

    def eagerly(function: Any, *, mode: str, dynamic: bool) -> Any:
        assert mode == "default"
        return compile_(function, backend="eager", dynamic=dynamic)

    torch.compiler.reset()
    counters = pytest.importorskip("torch._dynamo.utils").counters
    monkeypatch.setattr(torch, "compile", eagerly)
    cache = np.random.default_rng(0).normal(size=(47, 9, 4)).astype(np.float16) if method == "figkd" else None
    given: dict[str, Any] = {"loss": build_loss(method, CLASSES), "teacher_logits": cache}
    given |= {"batch_size": 19, "split": _split(47), "epochs": 3}  # steps of 16, 16 and 15 images
    plain, expected = _run(**given)
    counters.clear()
    compiled, history = _run(**given, compile="default")
    assert counters["stats"]["unique_graphs"] == 2
    # A compiled graph adds the gradients of the loss's parts in another order, so the last bits may differ.
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict(), **close)
    for record, other in zip(_plain(history), _plain(expected), strict=True):
        torch.testing.assert_close(record, other, **close)


def test_a_failed_compilation_says_how_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a traceback on machines without a compiler."""

    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler here")

    compile_ = torch.compile
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", lambda function, **_: compile_(function, backend=broken))
    with pytest.raises(TrainingError, match=r"torch.compile failed: .*no compiler here") as caught:
        _run(compile="default")
    assert caught.value.fix == "set compile: none"


@pytest.mark.parametrize(
    ("size", "accumulate", "has", "mode"),
    [
        (1, 1, {"gcc", "Python.h"}, "reduce-overhead"),
        (1, 2, {"clang", "Python.h"}, "default"),
        (2, 1, {"gcc", "Python.h"}, "default"),
        (1, 1, {"Python.h"}, "none"),
        (1, 1, {"cc", "Python.h"}, "none"),
        (1, 1, {"gcc"}, "none"),
    ],
)
def test_what_auto_compiles_on_a_gpu(
    size: int, accumulate: int, has: set[str], mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects gradients that are kept between micro-batches from CUDA graphs, and machines that cannot compile.

    Triton looks for gcc and clang, not for cc, and for Python's headers, which are a package of their own on Debian.
    """
    monkeypatch.setattr("shutil.which", lambda name: name if name in has else None)
    monkeypatch.setattr("sysconfig.get_path", lambda *_: str(tmp_path))
    if "Python.h" in has:
        (tmp_path / "Python.h").touch()
    assert compile_mode("auto", "cuda", World(0, size), accumulate) == mode
    assert compile_mode("auto", "cpu", World(0, size), accumulate) == "none"


@pytest.mark.parametrize("precise", ["of all", "of convolutions"])
def test_the_callers_precision_is_kept(precise: str) -> None:
    """Protects a caller who switched TF32 off: training asks cuDNN for algorithms that repeat, and for nothing else."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32

    def flags(*_: object) -> None:
        seen.append((cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark))  # type: ignore[attr-defined]

    seen: list[tuple[str, bool, bool]] = []
    try:
        if precise == "of all":
            cudnn.allow_tf32 = False
        else:
            cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        wanted = cudnn.conv.fp32_precision  # type: ignore[attr-defined]
        cudnn.benchmark = True
        _run(epochs=1, progress=flags)
        assert set(seen) == {(wanted, True, False)}
        assert (cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark) == (wanted, False, True)  # type: ignore[attr-defined]
    finally:
        cudnn.benchmark = False
        cudnn.allow_tf32 = before  # of all kinds of operators


def test_batch_norms_are_synchronised_on_gpus_with_their_activations() -> None:
    """Protects timm's networks, whose norm layers activate too; the weights keep their names for the checkpoint."""
    from figkd.models import build_model

    model = build_model("timm/mobilenetv3_small_050", 4, image_size=32)
    group = _for_group(model, "cuda", World(0, 2))
    kinds = [type(module).__name__ for module in group.modules()]
    assert "SyncBatchNormAct" in kinds
    assert not any(kind.startswith("BatchNorm") for kind in kinds)
    assert list(group.state_dict()) == list(model.state_dict())
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(group.eval()(images), model.eval()(images))
    assert _for_group(model, "cpu", World(0, 2)) is model
