"""Which model names exist, found without importing torch, timm or torchvision.

Checking a configuration must not cost seconds of imports, so the names are read from the installed packages'
source files: both register their models with a `@register_model` decorator.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import lru_cache
from pathlib import Path

BUILT_IN: dict[str, str] = {
    "figkd/resnet_tiny": "residual network for 32 px images, about 0.3 M parameters",
    "figkd/dsconv_nano": "depthwise-separable network for 32 px images, about 5 k parameters",
    # The CIFAR-100 networks of the distillation literature, with the parameters that they have there.
    "figkd/resnet20": "ResNet for 32 px images, 0.28 M parameters",
    "figkd/resnet32": "ResNet for 32 px images, 0.47 M parameters",
    "figkd/resnet56": "ResNet for 32 px images, 0.86 M parameters",
    "figkd/resnet110": "ResNet for 32 px images, 1.74 M parameters",
    "figkd/resnet8x4": "ResNet for 32 px images, four times as wide, 1.23 M parameters",
    "figkd/resnet32x4": "ResNet for 32 px images, four times as wide, 7.43 M parameters",
    "figkd/resnet50_cifar": "ResNet-50 with a stem for 32 px images, 23.7 M parameters",
    "figkd/wrn_16_2": "Wide ResNet for 32 px images, 0.70 M parameters",
    "figkd/wrn_40_1": "Wide ResNet for 32 px images, 0.57 M parameters",
    "figkd/wrn_40_2": "Wide ResNet for 32 px images, 2.26 M parameters",
    "figkd/vgg8": "VGG for 32 px images, 3.97 M parameters",
    "figkd/vgg13": "VGG for 32 px images, 9.46 M parameters",
    "figkd/mobilenetv2_half": "MobileNetV2 of half width for 32 px images, 0.81 M parameters",
    "figkd/shufflenetv1": "ShuffleNet for 32 px images, 0.95 M parameters",
    "figkd/shufflenetv2": "ShuffleNetV2 for 32 px images, 1.36 M parameters",
}
"""Built-in names and what they are."""

_REGISTERED = re.compile(r"^@register_model(?:\(\))?\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


def known_model(name: str) -> bool:
    """Whether `build_model` knows `name`; for timm, a tag of pretrained weights after a dot counts too."""
    if name in BUILT_IN:
        return True
    family, _, short = name.partition("/")
    if family == "torchvision":
        return short in _names("torchvision")
    base, dot, tag = short.partition(".")
    return family == "timm" and base in _names("timm") and (not dot or tag in timm_tags(base))


def suggest(name: str, n: int = 3) -> list[str]:
    """The `n` known names nearest to `name`, best first; may be fewer or none."""
    family, slash, short = name.partition("/")
    base, _, tag = short.partition(".")
    if family == "timm" and base in _names("timm"):
        tags = timm_tags(base)
        near = difflib.get_close_matches(tag, tags, n, cutoff=0.0)
        return [f"timm/{base}.{near_tag}" for near_tag in near] or [f"timm/{base}"]
    wanted = short.lower() if slash else name.lower()
    # Names without a family, or with a wrong one, are compared by their last part.
    pool: dict[str, list[str]] = {}
    for full in all_models():
        pool.setdefault(full.partition("/")[2], []).append(full)
    found: list[str] = []
    for short_name in difflib.get_close_matches(wanted, pool, n * 2, cutoff=0.5):
        found += sorted(pool[short_name], key=lambda full: not full.startswith(f"{family}/"))
    same_family = [full for full in found if full.startswith(f"{family}/")]
    others = [full for full in found if full not in same_family]
    return (same_family + others)[:n]


def all_models() -> list[str]:
    """Every known name, without the tags of pretrained weights."""
    return [
        *BUILT_IN,
        *(f"timm/{name}" for name in sorted(_names("timm"))),
        *(f"torchvision/{name}" for name in sorted(_names("torchvision"))),
    ]


def timm_tags(base: str) -> list[str]:
    """Tags of the pretrained weights that timm lists for the model `base`."""
    pattern = re.compile(rf"""['"]{re.escape(base)}\.([\w.\-]+)['"]\s*:""")
    return sorted({tag for text in _sources("timm") if base in text for tag in pattern.findall(text)})


@lru_cache(maxsize=2)
def _names(package: str) -> frozenset[str]:
    return frozenset(name for text in _sources(package) for name in _REGISTERED.findall(text))


@lru_cache(maxsize=2)
def _sources(package: str) -> tuple[str, ...]:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return ()
    # Only the top folder: torchvision keeps detection, segmentation and video models in sub-folders.
    files = sorted((Path(spec.origin).parent / "models").glob("*.py"))
    return tuple(text for file in files if "@register_model" in (text := file.read_text(encoding="utf-8")))
