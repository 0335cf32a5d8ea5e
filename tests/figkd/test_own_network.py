"""Protects networks of a user's own: what is imported, what counts as their source, and one message a mistake."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from figkd import own_network
from figkd.errors import ModelError
from figkd.models import build_model, head_names

GOOD = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, 2)
        self.head = nn.Linear(width, num_classes)
    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))

def make(num_classes):
    return Net(num_classes)

def sized(*, num_classes, image_size):
    return Net(num_classes, width=image_size // 4)

def rest(**options):
    return Net(options["num_classes"])
"""


def _file(folder: Path, text: str, name: str = "nets.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("function", ["make", "sized", "rest", "Net"])
def test_functions_and_classes_build(tmp_path: Path, function: str) -> None:
    """Each way to take the class count; the head is found, and the same seed gives the same weights."""
    name = own_network.in_file(f"nets:{function}", _file(tmp_path, GOOD))
    torch.manual_seed(1)
    model = build_model(name, 5, image_size=16)
    assert model(torch.zeros(2, 16, 16, 3, dtype=torch.uint8)).shape == (2, 5)
    assert head_names(model, name, 5, image_size=16) == ["backbone.head.weight", "backbone.head.bias"]
    torch.manual_seed(1)
    again = build_model(name, 5, image_size=16).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("text", "function", "what", "fix"),
    [
        (GOOD, "mak", "has no function 'mak'", "it has make"),
        ("make = 3\n", "make", "is no function but int", "called with num_classes"),
        ("def make(num_classes)\n    pass\n", "make", "SyntaxError", "correct the module"),
        ("import no_such_thing\n", "make", "needs the module 'no_such_thing'", "from . import no_such_thing"),
        ("raise ValueError('at import')\n", "make", "ValueError: at import", "correct the module"),
        ("raise SystemExit('gone')\n", "make", "SystemExit: gone", "correct the module"),
        (
            "def make(num_classes):\n    raise RuntimeError('a\\nb')\n",
            "make",
            "RuntimeError: a b",
            "correct the function",
        ),
        ("def make(num_classes, depth):\n    pass\n", "make", "needs the argument 'depth'", "default"),
        ("def make(width=3):\n    pass\n", "make", "does not take num_classes", "add the parameter"),
        ("def make(num_classes):\n    pass\n", "make", "returns NoneType", "an instance of torch.nn.Module"),
        (
            "from torch import nn\ndef make(num_classes):\n    return nn.ReLU\n",
            "make",
            "returns the class ReLU",
            "instance",
        ),
        (
            GOOD.replace("(width, num_classes)", "(width, 7)"),
            "make",
            "shape (1, 7), not (1, 5)",
            "num_classes",
        ),
        (
            GOOD.replace("self.head(", "(x, x) + (").replace("mean((2, 3)))", "mean((2, 3)),)"),
            "make",
            "Net returns several",
            "one output",
        ),
        (
            GOOD.replace("nn.Conv2d(3,", "nn.Conv2d(1,"),
            "make",
            "does not take images of 16 x 16",
            "image_size",
        ),
    ],
)
def test_each_mistake_has_one_message(tmp_path: Path, text: str, function: str, what: str, fix: str) -> None:
    """What is wrong, where in the user's file, and how to fix it."""
    name = own_network.in_file(f"nets:{function}", _file(tmp_path, text))
    with pytest.raises(ModelError) as caught:
        build_model(name, 5, image_size=16)
    assert what in caught.value.what and "\n" not in caught.value.what
    assert fix in caught.value.fix


def test_where_the_error_is(tmp_path: Path) -> None:
    path = _file(tmp_path, "def make(num_classes):\n    return 1 / 0\n")
    with pytest.raises(ModelError, match=r"ZeroDivisionError: division by zero \(.*nets\.py:2\)"):
        own_network.build(f"{path}:make", 3, 16)


def test_a_package_is_loaded_whole_and_a_lone_file_alone(tmp_path: Path) -> None:
    """Relative imports work in a package; a file beside another cannot import it, so its digest holds all."""
    package = tmp_path / "mine"
    _file(package, "", "__init__.py")
    _file(package, GOOD, "blocks.py")
    inner = _file(package, "from .blocks import make\n", "nets.py")
    assert own_network.build(f"{inner}:make", 3, 16)
    assert own_network.source_files(inner) == [package / n for n in ("__init__.py", "blocks.py", "nets.py")]
    _file(tmp_path, GOOD, "lonely_blocks.py")
    alone = _file(tmp_path, "from lonely_blocks import make\n", "alone.py")
    assert own_network.source_files(alone) == [alone]
    with pytest.raises(ModelError, match="needs the module 'lonely_blocks'"):
        own_network.build(f"{alone}:make", 3, 16)
    missing = _file(package, "from .gone import make\n", "broken.py")
    with pytest.raises(ModelError, match=r"needs the module 'mine\.gone'"):
        own_network.build(f"{missing}:make", 3, 16)


def test_changed_code_is_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects long processes: key and network follow the contents, also of one second and size (compiled modules)."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = _file(tmp_path, GOOD)
    narrow = own_network.build(f"{path}:make", 3, 16)
    _file(tmp_path, GOOD.replace("width=4", "width=8"))
    wide = own_network.build(f"{path}:make", 3, 16)
    assert sum(p.numel() for p in wide.parameters()) > sum(p.numel() for p in narrow.parameters())
    assert not list(tmp_path.rglob("*.pyc"))  # nothing is left beside the user's code


def test_changed_code_that_a_function_imports_is_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of a package's other module, imported when the function is called."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    package = tmp_path / "late"
    package.mkdir()
    (package / "__init__.py").touch()
    late = "from torch import nn\ndef make(num_classes):\n from .wide import W\n return nn.Linear(W, num_classes)\n"
    path = _file(package, late, "net.py")
    widths = []
    for width in (4, 8):
        os.utime(_file(package, f"W = {width}\n", "wide.py"), (1e9, 1e9))
        widths.append(own_network.build(f"{path}:make", 3, 16).in_features)
    assert widths == [4, 8]


def test_what_a_module_prints_does_not_mix_with_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(tmp_path, GOOD + "\nprint('loading')\n")
    own_network.build(f"{path}:make", 3, 16)
    assert capsys.readouterr() == ("", "loading\n")


def test_installed_modules_are_found_without_running_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checking a config must not run code: neither the module nor the packages above it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    _file(tmp_path / "theirs_of_test", "raise RuntimeError\n", "__init__.py")
    file = _file(tmp_path / "theirs_of_test", GOOD, "nets.py")
    assert own_network.installed("theirs_of_test.nets") == file
    assert "theirs_of_test" not in sys.modules
    assert own_network.installed("theirs_of_test.others") is None
    assert own_network.installed("no_such_module_at_all") is None
    with pytest.raises(ModelError, match=r"importing theirs_of_test\.nets raised RuntimeError"):
        own_network.build("theirs_of_test.nets:make", 3, 16)
    with pytest.raises(ModelError, match="no module named 'no_such_module_at_all'"):
        own_network.build("no_such_module_at_all:make", 3, 16)
    assert build_model("torchvision.models:squeezenet1_1", 4, image_size=64)


@pytest.mark.parametrize("name", ["a:b", "a.b:c.d", "_x:Y9"])
def test_names(name: str) -> None:
    assert own_network.is_own(name)


@pytest.mark.parametrize(
    "name", ["", "a", ":", "a:", ":b", "a.py/b:c", "a:b:c", "timm/x:y", "a.py:b", "a..b:c", "ä:b", "a:b\n"]
)
def test_no_names(name: str) -> None:
    assert not own_network.is_own(name)


def test_what_it_raises_at_work_is_its_own(tmp_path: Path) -> None:
    """Its line and words, also where a library that it called raised; nothing of that where it was not at work."""
    text = GOOD.replace("self.conv(x).relu()", "self.conv(x[:, len(x) - 1 :]).relu()")
    path = _file(tmp_path, text)
    model = build_model(own_network.in_file("nets:make", path), 5, image_size=16)
    with pytest.raises(RuntimeError) as caught:
        model(torch.zeros(2, 16, 16, 3, dtype=torch.uint8))
    found = own_network.at_work(caught.value)
    line = next(n for n, each in enumerate(text.splitlines(), 1) if "x[:, len" in each)
    assert found is not None and f"{found}".startswith(f"{path}:{line} raised RuntimeError: Given groups=1")
    assert own_network.at_work(ValueError("of ours")) is None
