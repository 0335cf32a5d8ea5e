"""A data set of thousands of classes: every character of a font is one, rendered from the fonts that are here.

`python benchmarks/many_classes.py OUT --classes 3000 --images 8` writes OUT/images/U+0041/0.png and so on, and
OUT/many_classes.yaml, a config for it with small networks. Nothing is downloaded: the fonts are those that matplotlib
ships; up to about 5,000 classes are of one family, further ones of the same characters in others. It shows what the
number of classes costs: `figkd-pipeline run OUT/many_classes.yaml`.
"""

from __future__ import annotations

import argparse
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

CUTS = ("", "-Bold", "-Oblique", "-BoldOblique")
FAMILIES = {
    "DejaVuSans": CUTS,
    "DejaVuSansMono": CUTS,
    "DejaVuSerif": ("", "-Bold", "-Italic", "-BoldItalic"),
}
SIDE = 32


@dataclass(frozen=True)
class Drawn:
    """A class: a character in a family of fonts."""

    character: str
    family: str

    @property
    def name(self) -> str:
        """U+0041; of further families U+0041-DejaVuSerif."""
        return f"U+{ord(self.character):04X}" + (
            f"-{self.family}" if self.family != next(iter(FAMILIES)) else ""
        )


def characters(count: int) -> list[Drawn]:
    """The first `count` characters, by family and code point, that differ from those before."""
    found: list[Drawn] = []
    seen: set[bytes] = {b""}
    for family in FAMILIES:
        font = ImageFont.truetype(fonts(family)[0], 24)
        seen.add(bytes(font.getmask("\ufffe")))
        for code in range(0x21, 0x1_0000):
            character = chr(code)
            if unicodedata.category(character)[0] not in "LNPS":
                continue
            mask = bytes(font.getmask(character))
            if mask in seen or not any(mask):
                continue
            seen.add(mask)
            found.append(Drawn(character, family))
            if len(found) == count:
                return found
    raise SystemExit(f"the fonts draw {len(found)} different characters; ask for at most as many")


def fonts(family: str) -> list[str]:
    """Paths of a family's files."""
    folder = Path(get_data_path()) / "fonts" / "ttf"
    return [str(folder / f"{family}{cut}.ttf") for cut in FAMILIES[family]]


def render(character: str, family: list[ImageFont.FreeTypeFont], random: np.random.Generator) -> Image.Image:
    """The character in a random cut, size, place and shade, with noise."""
    paper, ink = random.integers(170, 256), random.integers(0, 90)
    image = Image.new("L", (SIDE, SIDE), int(paper))
    font = family[random.integers(len(family))]
    place = tuple(SIDE / 2 + random.uniform(-2, 2, 2))
    ImageDraw.Draw(image).text(place, character, fill=int(ink), font=font, anchor="mm")
    noisy = np.asarray(image, np.float32) + random.normal(0, 8, (SIDE, SIDE))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def write(out: Path, classes: int, images: int) -> None:
    """Write the images and the config; the same for the same numbers."""
    sized = {
        family: [ImageFont.truetype(path, size) for path in fonts(family) for size in (17, 20, 23)]
        for family in FAMILIES
    }
    for drawn in characters(classes):
        folder = out / "images" / drawn.name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(images):
            random = np.random.default_rng([ord(drawn.character), number])
            render(drawn.character, sized[drawn.family], random).save(folder / f"{number}.png")
    network = {
        "epochs": 2,
        "batch_size": 128,
        "optimizer": "adamw",
        "lr": 0.003,
        "views": {"kind": "shift", "pad": 2, "count": 1},
    }
    config = {
        "name": f"characters{classes}",
        "data": {
            "dataset": "image_folder",
            "root": str(out / "images"),
            "image_size": SIDE,
            "store_size": SIDE,
        },
        "teacher": {"model": "figkd/resnet_tiny", **network},
        "student": {"model": "figkd/dsconv_nano"},
        "distill": {"method": "figkd", **network},
        "precision": {"modes": ["fp32", "fp16", "int8"], "calibration_images": 64},
        "targets": {"cpu": {"engine": "onnxruntime"}},
        "benchmark": {"min_seconds": 1},
        "budgets": {"top1": {"max_drop": 5}},
    }
    (out / "many_classes.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--classes", type=int, default=3000)
    parser.add_argument("--images", type=int, default=8, help="of each class")
    arguments = parser.parse_args()
    write(arguments.out, arguments.classes, arguments.images)


if __name__ == "__main__":
    main()
