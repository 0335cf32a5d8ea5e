"""Names of models without importing them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from figkd.model_names import BUILT_IN, all_models, known_model, suggest


def test_names_are_those_of_the_packages() -> None:
    """Protects the reading of source files against the packages' own registries."""
    import timm
    import torchvision

    names = set(all_models())
    assert {f"timm/{name}" for name in timm.list_models()} <= names
    top = {f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)}
    assert {name for name in names if name.startswith("torchvision/")} == top
    assert set(BUILT_IN) <= names


def test_tags_of_timm_are_those_of_the_package() -> None:
    """Protects names with a pretrained tag: all that timm lists are known."""
    import timm

    tagged = timm.list_pretrained("resnet*") + timm.list_pretrained("mobilenetv4*")
    assert tagged
    assert [name for name in tagged if not known_model(f"timm/{name}")] == []


@pytest.mark.parametrize(
    "name",
    ["resnet18", "timm/nosuch", "timm/resnet18.nosuch", "figkd/nosuch", "torchvision/resnet18.x", "x/y", ""],
)
def test_unknown_names(name: str) -> None:
    """Protects: a wrong name is found out before anything is imported."""
    assert not known_model(name)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("figkd/resnet_tini", "figkd/resnet_tiny"),
        ("timm/resnet81", "timm/resnet18"),
        ("resnet18", "timm/resnet18"),
        ("torchvision/resnet-18", "torchvision/resnet18"),
        ("tim/mobilenetv4_conv_small", "timm/mobilenetv4_conv_small"),
        ("timm/mobilenetv4_conv_small.e2400_r224", "timm/mobilenetv4_conv_small.e2400_r224_in1k"),
    ],
)
def test_suggestions(wrong: str, right: str) -> None:
    """Protects the message that a typing error gets."""
    found = suggest(wrong)
    assert right in found
    assert len(found) <= 3


def test_light_modules_do_not_import_torch() -> None:
    """Protects the start-up time of a command line: names, methods, errors and data sets need no torch."""
    code = (
        "import sys, figkd, figkd.errors, figkd.loss.methods, figkd.model_names, figkd.loss.order, figkd.data as d\n"
        "assert figkd.model_names.known_model('timm/resnet18')\n"
        "assert not d.examine('fonts', None).problems\n"
        "heavy = {'torch', 'timm', 'torchvision', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
