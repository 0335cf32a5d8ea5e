"""`fonts`: tell apart look-alike type faces, rendered here.

Without a root, the 21 Latin faces that come with matplotlib (DejaVu Sans, Sans Mono and Serif, STIX General,
Computer Modern; regular, bold, slanted), without those of symbols and of size variants. With a root, every font file
in that folder is a class. An image shows a few random letters; their size, place, rotation, blur, contrast and noise
vary.
"""

from __future__ import annotations

import importlib.util
import math
import string
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from figkd.data.files import channel_moments, mean_and_std
from figkd.data.options import Options
from figkd.data.sources import Source, Sources
from figkd.data.store import SPLITS, SplitName, SplitWriter, new_folder, write_facts
from figkd.errors import DataError
from figkd.files import Json
from figkd.progress import Progress

FACES: tuple[str, ...] = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmr10",
    "cmb10",
    "cmti10",
    "cmss10",
    "cmtt10",
)
CLASSES = FACES
"""Names of matplotlib's faces: the classes, in the order of their labels."""

SUFFIXES = frozenset({".ttf", ".otf"})

DEFAULTS: Options = {"train_per_class": 600, "val_per_class": 100, "test_per_class": 100}

LAYOUT = """\
no root: rendered from the fonts in matplotlib/mpl-data/fonts/ttf; or
<root>/*.ttf, *.otf        one class a file, in the order of the names"""


def check(root: Path | None, options: Mapping[str, Any]) -> list[DataError]:
    """Problems that keep the data set from being prepared."""
    problems = []
    faces = _faces(root)
    missing = [path.stem for path in faces if not path.is_file()]
    if root is not None and len(faces) < 2:
        problems.append(
            DataError(f"{root} has {len(faces)} font file(s), at least 2 are needed", f"expected:\n{LAYOUT}")
        )
    elif missing:
        problems.append(
            DataError(f"matplotlib's fonts are missing ({', '.join(missing[:3])})", "pip install matplotlib")
        )
    for name, default in DEFAULTS.items():
        value = options.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            problems.append(DataError(f"fonts option {name} is {value!r}", "it must be a positive integer"))
    return problems


def source_files(root: Path | None, options: Mapping[str, Any]) -> list[Path]:
    """The font files."""
    return _faces(root)


def prepare(
    root: Path | None,
    out: Path,
    *,
    store_size: int,
    val_fraction: float,
    seed: int,
    options: Mapping[str, Any],
    facts: Mapping[str, Any],
    progress: Progress,
) -> Json:
    """Render the prepared data folder; `val_fraction` is not used, the splits' sizes are options."""
    problems = check(root, options)
    if problems:
        raise problems[0]
    settings = {**DEFAULTS, **options}
    sizes = {name: int(settings[f"{name}_per_class"]) for name in SPLITS}
    faces = _faces(root)
    total, done = sum(sizes.values()) * len(faces), 0
    image_size = int(facts["image_size"])
    moments = np.zeros((2, 3))
    sources = Sources(image_size)
    drawn = Source("rendered", store_size, store_size, store_size)
    with new_folder(out) as folder:
        for name in SPLITS:
            with SplitWriter(folder, name, store_size) as writer:
                for label, face in enumerate(faces):
                    for index in range(sizes[name]):
                        pixels = render(face, name, label, index, image_size, store_size, seed)
                        writer.append(pixels, label, f"{face.stem}/{name}/{index:06d}")
                        sources.add(drawn)
                        if name == "train":
                            moments += channel_moments(pixels)
                    done += sizes[name]
                    progress(done, total, f"{name} images")
        counts = {name: size * len(faces) for name, size in sizes.items()}
        mean, std = mean_and_std(moments, counts["train"])
        said = {**facts, "origins": dict.fromkeys(SPLITS, "rendered")}
        said |= {"classes": len(faces), "store_size": store_size, "counts": counts}
        said.update({"mean": mean, "std": std, "skipped": [], "sources": sources.facts()})
        write_facts(folder, [face.stem for face in faces], said)
    return said


def render(
    face: Path, split: SplitName, label: int, index: int, image_size: int, store_size: int, seed: int
) -> npt.NDArray[np.uint8]:
    """Render one sample, a function of its arguments alone.

    Letters scale with `image_size`; a larger `store_size` shows more of the surroundings, which leaves room
    for shifts.

    Returns:
        uint8 [store_size, store_size, 3].
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), label, index])
    draw = rng.random(8)
    letters = "".join(string.ascii_letters[i] for i in rng.integers(0, 52, 3))
    size = round(image_size * (0.44 + 0.12 * draw[0]))
    offset = (draw[1:3] - 0.5) * image_size * 0.12
    centre = (store_size / 2 + offset[0], store_size / 2 + offset[1])
    canvas = Image.new("L", (store_size, store_size))
    ImageDraw.Draw(canvas).text(centre, letters, fill=255, font=_font(face, size), anchor="mm")
    angle = math.degrees((draw[3] - 0.5) * 0.12)
    canvas = canvas.rotate(angle, Image.Resampling.BICUBIC, center=centre)
    if draw[4] > 0.5:
        canvas = canvas.filter(ImageFilter.GaussianBlur(float(draw[4] - 0.5) * image_size / 32))
    ink = np.asarray(canvas, dtype=np.float32) / 255
    contrast = 120 + 120 * draw[5]
    grey = 255 - draw[6] * (255 - contrast) - contrast * ink
    grey += rng.standard_normal(grey.shape, dtype=np.float32) * np.float32(2 + 6 * draw[7])
    pixels = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return np.repeat(pixels[:, :, None], 3, axis=2)


def _faces(root: Path | None) -> list[Path]:
    """The font files, by label."""
    if root is not None:
        return sorted(path for path in root.glob("*") if path.suffix.lower() in SUFFIXES)
    # Found without importing matplotlib, which takes most of a second.
    spec = importlib.util.find_spec("matplotlib")
    package = Path(spec.origin).parent if spec is not None and spec.origin is not None else Path("matplotlib")
    return [package / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf" for name in FACES]


@lru_cache(maxsize=4096)
def _font(face: Path, size: int) -> ImageFont.FreeTypeFont:
    # The basic layout engine is always there; the other one depends on how Pillow was built.
    return ImageFont.truetype(face, size, layout_engine=ImageFont.Layout.BASIC)
