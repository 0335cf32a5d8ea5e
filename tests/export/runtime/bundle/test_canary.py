"""Labelled images in a bundle: a model that is clearly worse here fails, one that is as good passes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export.runtime.bundle import UNSIGNED, open_bundle
from export.runtime.bundle.canary import Canary, run_canary
from export.runtime.bundle.cli import main
from export.runtime.bundle.errors import BundleRefused
from export.runtime.bundle.golden import npy_bytes
from export.runtime.bundle.model import load, model_of
from tests.export.bundle.tiny import bundle, content
from tests.pipeline.devices.tiny import images


def _with_canary(folder: Path, right: int, count: int = 40) -> Path:
    """A bundle whose engine had all of `count` images right where it was made, and has `right` of them right here."""
    views = np.concatenate([images(4)] * (count // 4))
    with load(bundle(folder / "plain"), UNSIGNED) as model:
        answers = model.logits(list(views)).argmax(axis=1).astype("<i4")
    labels = answers.copy()
    labels[right:] = (labels[right:] + 1) % 5
    files = {
        "canary/inputs.npy": npy_bytes(views),
        "canary/labels.npy": npy_bytes(labels),
        "canary/answers.npy": npy_bytes(labels),
    }
    return bundle(folder / "labelled", more=files)


def test_one_that_is_worse_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _with_canary(tmp_path, right=30)
    assert main(["self-test", "--unsigned", "--bundle", str(folder)]) == 0, "not without the option"
    assert main(["self-test", "--unsigned", "--canary", "--bundle", str(folder)]) == 1
    said = capsys.readouterr()
    assert "30 of 40 labelled images are right, 40 were; 10 were lost and 0 won" in said.err
    assert main(["self-test", "--unsigned", "--canary", "--json", "--bundle", str(folder)]) == 1
    assert json.loads(capsys.readouterr().out)["canary"]["passed"] is False


def test_one_that_is_as_good_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _with_canary(tmp_path, right=38)
    assert main(["self-test", "--unsigned", "--canary", "--bundle", str(folder)]) == 0
    assert (
        "38 of 40 labelled images are right, 40 where it was made; 2 lost, 0 won" in capsys.readouterr().out
    )


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    plain = open_bundle(bundle(tmp_path / "plain"), UNSIGNED)
    with model_of(plain) as model:
        with pytest.raises(BundleRefused, match="no labelled images"):
            run_canary(plain, model)
        files = {f"canary/{name}.npy": npy_bytes(np.zeros(3, "<i4")) for name in ("labels", "answers")}
        views = content(tmp_path / "made").inputs
        for inputs in (npy_bytes(views[:2]), npy_bytes(np.zeros(3, "<i4")), b"no array"):
            folder = bundle(tmp_path / f"b{len(inputs)}", more={**files, "canary/inputs.npy": inputs})
            with pytest.raises(BundleRefused):
                run_canary(open_bundle(folder, UNSIGNED), model)


def test_chance_alone_fails_one_in_a_hundred_at_most() -> None:
    """The same accuracy, and images that change sides by chance."""
    chance = np.random.default_rng(0)
    failed = 0
    for _ in range(2000):
        changed = int(chance.integers(5, 60))
        lost = int(chance.binomial(changed, 0.5))
        failed += not Canary(500, 400, 400, lost, changed - lost).passed
    assert failed <= 35  # 20 expected at most; three standard errors
    assert Canary(500, 400, 400, 0, 0).p == 1.0
