"""Protects: a network that cannot predict is refused where it arises, not passed on as one of 0 % accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from figkd.data.store import SplitName, SplitWriter
from figkd.errors import TrainingError
from figkd.models import build_model
from pipeline.stages.base import Work
from pipeline.stages.training import keep_network, pick_amp


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """Of a stage that has a network of two classes and 3 images of each split."""
    random = np.random.default_rng(0)
    data = tmp_path / "data"
    data.mkdir()
    parts: tuple[SplitName, ...] = ("val", "test")
    for part in parts:
        with SplitWriter(data, part, 32) as writer:
            for number in range(3):
                pixels = random.integers(0, 256, (32, 32, 3)).astype(np.uint8)
                writer.append(pixels, number % 2, f"{part}{number}")
    (data / "classes.json").write_text(json.dumps(["a", "b"]))
    arguments = {"model": "figkd/dsconv_nano", "image_size": 32}
    return Work(arguments, {"data": data}, {}, tmp_path / "out", tmp_path, lambda done, total, note: None)


@pytest.mark.parametrize(
    ("history", "fix"), [([{"epoch": 1, "timing": {}}], "learning rate"), ([], "other weights")]
)
def test_outputs_that_are_not_finite_are_refused(work: Work, history: list[dict[str, Any]], fix: str) -> None:
    """A trained network gets the learning rate as the fix, weights that were given do not; nothing is kept."""
    work.out.mkdir()
    model = build_model("figkd/dsconv_nano", 2, image_size=32)
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"figkd/dsconv_nano gives .* 3 of 3 val images") as caught:
        keep_network(work, model, history, {})
    assert fix in caught.value.fix
    assert not list(work.out.iterdir())


def test_a_sound_network_is_kept(work: Work) -> None:
    """The same call with finite weights writes everything."""
    work.out.mkdir()
    logits = keep_network(work, build_model("figkd/dsconv_nano", 2, image_size=32), [], {})
    assert logits.shape == (3, 2) and (work.out / "model.pt").is_file()


@pytest.mark.parametrize("native", [True, False])
def test_half_precision_is_chosen_where_the_gpu_computes_in_it(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects GPUs before Ampere, where torch emulates bf16 more slowly than it computes in fp32."""
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported", lambda including_emulation=True: native or including_emulation
    )
    assert pick_amp("auto", "cuda") == ("bf16" if native else "none")
    assert (pick_amp("auto", "cpu"), pick_amp("bf16", "cuda")) == ("none", "bf16")
