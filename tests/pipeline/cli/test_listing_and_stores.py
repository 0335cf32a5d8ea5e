"""Protects `list` and `store du|gc` as commands: what they print, without torch, and their exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from figkd.known_students import EXPORTED
from figkd.model_facts import model_facts
from figkd.model_names import BUILT_IN, known_model
from pipeline.core.store import Recipe, Store
from tests.pipeline.conftest import FONTS, ROOT, figkd


def test_known_students_are_those_that_were_measured() -> None:
    rows = json.loads((ROOT / "benchmarks/results/matrix.json").read_text())["rows"]
    full = {r["student"]: r for r in rows if (r["precision"], r["engine"]) == ("fp32", "onnxruntime")}
    assert set(EXPORTED) == {name for name, row in full.items() if row["state"] == "ok"}
    for name, tried in EXPORTED.items():
        assert known_model(name) and tried.image_size == full[name]["image_size"]
        assert tried.parameters == round(full[name]["parameters"] / 1e6, 2)


@pytest.mark.parametrize(("kind", "some"), [
    ("models", "timm/resnet18"), ("datasets", "image_folder"), ("methods", "dkd"), ("engines", "onnxruntime"),
])  # fmt: skip
def test_each_kind_is_listed(tmp_path: Path, kind: str, some: str) -> None:
    rows = figkd("list", kind, "--json", cwd=tmp_path).json
    assert some in {row["name"] for row in rows}
    table = figkd("list", kind, some, cwd=tmp_path)
    assert table.code == 0 and some in table.out


def test_patterns_and_mistakes(tmp_path: Path) -> None:
    """A part of a name, a shell pattern, and what matches nothing: exit code 2 with near names."""
    named = [row["name"] for row in figkd("list", "models", "figkd/wrn_4*", "--json", cwd=tmp_path).json]
    assert named == ["figkd/wrn_40_1", "figkd/wrn_40_2"]
    wrong = figkd("list", "models", "resnett18", cwd=tmp_path)
    assert wrong.code == 2 and "timm/resnet18" in wrong.err
    assert figkd("list", "methods", "zzz", cwd=tmp_path).code == 2
    assert figkd("list", "networks", cwd=tmp_path).code == 2
    assert figkd("list", "models", "--build", cwd=tmp_path).code == 2  # too many


def test_models_are_listed_without_torch() -> None:
    code = (
        "import sys\nfrom pipeline.cli.entry import execute\nexecute(['list', 'models', 'resnet'])\n"
        "sys.exit(bool({'torch', 'timm', 'onnx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_facts_that_are_asked_for() -> None:
    """Parameters as the built-in table says them; the library's own size."""
    assert model_facts("figkd/resnet20", 100).parameters == 278_324
    assert set(BUILT_IN) >= {"figkd/resnet20"}
    found = model_facts("timm/vit_tiny_patch16_224", 10)
    assert (found.image_size, found.fixed_size) == (224, True)
    assert model_facts("torchvision/mobilenet_v2", 10).image_size == 224


def test_du_and_gc(tmp_path: Path) -> None:
    """Dry run by default; a config's store; no store and different stores are exit code 2."""
    assert figkd("store", "du", cwd=tmp_path).code == 2
    store = Store(tmp_path / ".figkd")
    recipe = Recipe("teacher", 1, {})
    with store.lock(recipe), store.draft(recipe) as draft:
        (draft / "model.pt").write_bytes(b"x" * 3_000_000)
        made = store.commit(recipe, draft, provenance={})
    shown = figkd("store", "du", FONTS, cwd=tmp_path)
    assert shown.code == 0 and "3.0 MB" in shown.out and "teacher" in shown.out
    (row,) = figkd("store", "du", "--json", cwd=tmp_path).json["artifacts"]
    assert row["bytes"] == 3_000_000 and row["configs"] == []
    dry = figkd("store", "gc", cwd=tmp_path)
    assert dry.code == 0 and "would go teacher/" in dry.out and "--delete" in dry.out and made.path.is_dir()
    done = figkd("store", "gc", "--delete", "--json", cwd=tmp_path)
    assert done.json["bytes"] == 3_000_000 and not made.path.exists()
    other = tmp_path / "other.yaml"
    other.write_text(f"extends: {FONTS}\nstore: elsewhere\n")
    both = figkd("store", "gc", FONTS, other, cwd=tmp_path)
    assert both.code == 2 and "different stores" in both.err
