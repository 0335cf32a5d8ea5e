"""Protects `model: module:function` in a config: where its file is looked for, what is refused without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.core.errors import ConfigError

CONFIG = """\
name: c
data: {dataset: fonts, image_size: 32}
teacher: {model: figkd/resnet_tiny}
student: {model: %s}
targets: {cpu: {engine: onnxruntime}}
"""


def _config(folder: Path, model: str, name: str = "c.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(CONFIG % model)
    return folder / name


def test_the_file_beside_the_config_that_names_it_is_taken(tmp_path: Path) -> None:
    """Also where another config extends it from another folder; one that is named counts more."""
    path = _config(tmp_path / "base", "nets:make")
    (tmp_path / "base/nets.py").write_text("raise SystemExit('a config that is read must not run this')\n")
    assert load_config(path).student.code == tmp_path / "base/nets.py"
    top = tmp_path / "top.yaml"
    top.write_text("extends: base/c.yaml\nname: top\n")
    assert load_config(top).student.code == tmp_path / "base/nets.py"
    (tmp_path / "nets.py").write_text("")
    assert load_config(top, [f"student.code={tmp_path}/nets.py"]).student.code == tmp_path / "nets.py"
    assert load_config(top, ["student.model=nets:other"]).student.code == tmp_path / "nets.py"
    assert load_config(top, ["student.model=figkd/dsconv_nano"]).student.code is None


def test_packages_and_dotted_names(tmp_path: Path) -> None:
    path = _config(tmp_path, "mine.nets:make")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/nets.py").write_text("")
    assert load_config(path).student.code == tmp_path / "mine/nets.py"
    (tmp_path / "mine/__init__.py").write_text("")
    assert load_config(path, ["student.model=mine:make"]).student.code == tmp_path / "mine/__init__.py"
    assert load_config(path, ["student.model=torchvision.models:resnet18"]).student.code is None


@pytest.mark.parametrize(
    ("model", "more", "told"),
    [
        ("nets:make", [], "no Python module 'nets'; put nets.py beside the config"),
        ("mine/nets.py:make", [], "such as nets:make"),
        ("nets.py:make", [], "such as nets:make"),
        ("'nets:'", [], "is module:function, such as my_nets:make"),
        ("sys:exit", [], "no Python module 'sys'"),
        ("torchvision.models:resnet18", ["student.pretrained=true"], "has no published weights"),
        ("nets:make", ["student.code=gone.py"], "student.code = 'gone.py': no such file"),
        ("nets:make", ["student.code=c.yaml"], "is not the file of the module 'nets'"),
        ("figkd/dsconv_nano", ["student.code=c.yaml"], "is not used by model figkd/dsconv_nano"),
        ("resnet_tini", [], "did you mean"),
        ("qqqqzzzz", [], "or module:function for your own"),
    ],
)
def test_each_mistake_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, more: list[str], told: str
) -> None:
    """With key, value and a way out; exit code 2."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_config(_config(tmp_path, model), more)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
