"""Fetch the study's emoji faces: 66 faces in eight families, as drawn by several vendors, from npm's packages.

    pip install resvg-py
    python benchmarks/study/fetch_emoji.py data/emoji
    python benchmarks/study/fetch_emoji.py data/emoji_families --families

Trained on four sets, validated on two and tested on one, each by vendors of its own: the faces are the same, the
drawings are not. Writes an `image_folder` of train/, val/ and test/, one class a face, or one a
family (Unicode's subgroups). The sets come from iconify's packages; nothing is installed, and nothing of them may be
committed without its licence: Noto Emoji and its first version Apache-2.0, Twemoji and EmojiOne 2 CC-BY-4.0, EmojiOne 1
and OpenMoji CC-BY-SA-4.0, Fluent Emoji MIT. Needs npm.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drawing import generator, save, varied
from PIL import Image

SETS: dict[str, tuple[str, str]] = {
    "noto": ("train", "1.2.9"),
    "noto-v1": ("train", "1.2.5"),
    "twemoji": ("train", "1.2.5"),
    "emojione": ("val", "1.2.3"),
    "emojione-v1": ("val", "1.2.3"),
    "openmoji": ("train", "1.2.29"),
    "fluent-emoji-flat": ("test", "1.2.6"),
}
"""Which split a set is for, and the version of its package."""
DRAWN = {"train": 16, "val": 8, "test": 16}
"""Samples of a face in a set."""

FAMILIES: dict[str, str] = {
    "smiling": """grinning-face grinning-face-with-big-eyes grinning-face-with-smiling-eyes
        beaming-face-with-smiling-eyes grinning-squinting-face grinning-face-with-sweat face-with-tears-of-joy
        slightly-smiling-face winking-face smiling-face-with-smiling-eyes smiling-face-with-halo""",
    "affection": """smiling-face-with-heart-eyes face-blowing-a-kiss kissing-face smiling-face
        kissing-face-with-closed-eyes kissing-face-with-smiling-eyes""",
    "tongue": """face-savoring-food face-with-tongue winking-face-with-tongue squinting-face-with-tongue""",
    "neutral": """neutral-face expressionless-face face-without-mouth smirking-face unamused-face
        grimacing-face""",
    "tired": "relieved-face pensive-face sleepy-face sleeping-face face-with-medical-mask",
    "concerned": """confused-face worried-face slightly-frowning-face face-with-open-mouth hushed-face
        astonished-face flushed-face frowning-face-with-open-mouth anguished-face fearful-face
        anxious-face-with-sweat sad-but-relieved-face crying-face loudly-crying-face face-screaming-in-fear
        confounded-face persevering-face disappointed-face downcast-face-with-sweat weary-face tired-face""",
    "negative": """face-with-steam-from-nose pouting-face angry-face smiling-face-with-horns
        angry-face-with-horns""",
    "animal": "monkey-face dog-face cow-face pig-face mouse-face rabbit-face tiger-face horse-face",
}
"""Faces by family, named as iconify does."""


def drawings(icons: Mapping[str, Any]) -> dict[str, str]:
    """SVG by name, of an iconify set (its icons.json), aliases followed."""
    side = (icons.get("width", 16), icons.get("height", 16))

    def body(name: str) -> Mapping[str, Any]:
        while name in icons.get("aliases", {}):
            name = icons["aliases"][name]["parent"]
        icon: Mapping[str, Any] = icons["icons"][name]
        return icon

    return {
        name: (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="'
            f'{icon.get("left", 0)} {icon.get("top", 0)} {icon.get("width", side[0])} {icon.get("height", side[1])}"'
            f' width="128" height="128">{icon["body"]}</svg>'
        )
        for name in (*icons["icons"], *icons.get("aliases", {}))
        for icon in (body(name),)
    }


def fetched(name: str, version: str, folder: Path) -> dict[str, str]:
    """The drawings of one set, out of its npm package."""
    command = [
        "npm",
        "pack",
        "--silent",
        f"@iconify-json/{name}@{version}",
        "--pack-destination",
        str(folder),
    ]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    with tarfile.open(folder / run.stdout.split()[-1]) as archive:
        content = archive.extractfile("package/icons.json")
        if content is None:
            raise SystemExit(f"the package of {name} has no icons.json")
        return drawings(json.load(content))


def rendered(svg: str) -> Image.Image:
    """The drawing on white, 128 px."""
    try:
        import resvg_py
    except ImportError:
        raise SystemExit("drawing SVG needs resvg: pip install resvg-py") from None
    picture = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--families", action="store_true", help="one class a family, not one a face")
    arguments = parser.parse_args()
    out: Path = arguments.out
    faces = [(family, face) for family, names in FAMILIES.items() for face in names.split()]
    with tempfile.TemporaryDirectory() as name:
        sets = {kind: fetched(kind, version, Path(name)) for kind, (_, version) in SETS.items()}
    everywhere = [(family, face) for family, face in faces if all(face in drawn for drawn in sets.values())]
    for kind, (split, _) in SETS.items():
        for family, face in everywhere:
            picture = rendered(sets[kind][face])
            for index in range(DRAWN[split]):
                sample = varied(picture, generator("emoji", kind, face, index))
                save(sample, out, split, family if arguments.families else face, f"{kind}_{face}_{index:02d}")
    (out / "packages.json").write_text(json.dumps({k: v for k, (_, v) in SETS.items()}, indent=1) + "\n")
    missing = sorted({face for _, face in faces} - {face for _, face in everywhere})
    print(f"{len(everywhere)} faces in {out}{'; not in every set: ' + ', '.join(missing) if missing else ''}")


if __name__ == "__main__":
    main()
