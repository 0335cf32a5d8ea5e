"""Protects the two forms of `store`: a path, and a section; whichever file or `--set` says which part of it."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import load_config

BASE = """\
name: c
data: {dataset: fonts, image_size: 32}
teacher: {model: figkd/resnet_tiny}
student: {model: figkd/dsconv_nano}
targets: {cpu: {engine: onnxruntime}}
"""


def _folder(path: Path, *overrides: str) -> tuple[str, str | None]:
    store = load_config(path, overrides).store
    return str(store.folder), store.remote


def test_a_path_is_the_folder(tmp_path: Path) -> None:
    base, top = tmp_path / "base.yaml", tmp_path / "top.yaml"
    base.write_text(BASE)
    assert _folder(base) == (".figkd", None)
    assert _folder(base, "store=a") == ("a", None)
    assert _folder(base, "store.remote=r", "store=a") == ("a", "r")
    base.write_text(BASE + "store: a\n")
    assert _folder(base, "store.remote=r") == ("a", "r")
    top.write_text("extends: base.yaml\nstore: {remote: r}\n")
    assert _folder(top) == ("a", "r")
    assert _folder(top, "store=b") == ("b", "r")
    top.write_text("extends: base.yaml\nstore: {folder: c, remote: r}\n")
    assert _folder(top, "store.remote=null") == ("c", None)
