"""Fetch the study's look-alike characters: 240 Han characters in 24 radicals, drawn in 20 fonts of Debian's packages.

    python benchmarks/study/fetch_characters.py data/characters
    python benchmarks/study/fetch_characters.py data/radicals --radicals

Trained on thirteen fonts, validated on three and tested on four others. Of every radical the ten characters that look
most alike are taken. Writes an `image_folder` of train/, val/ and test/, one class a character, or one a radical. Needs
`apt-get` and `dpkg-deb` (any Debian or Ubuntu); nothing is installed. Licences: the fonts are free, each under the
licence in its package (Arphic, IPA, M+, OFL, GPL with font exception, Apache, GlyphWiki); radicals and grades come from
KANJIDIC (Electronic Dictionary Research and Development Group, CC BY-SA 4.0). Nothing of them is part of this project.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from drawing import generator, save, varied
from PIL import Image, ImageDraw, ImageFont

FONTS: dict[str, dict[str, str]] = {
    "train": {
        "fonts-ipafont-gothic": "ipag.ttf",
        "fonts-ipafont-mincho": "ipam.ttf",
        "fonts-umeplus": "umeplus-gothic.ttf",
        "fonts-horai-umefont": "ume-tmo3.ttf",
        "fonts-arphic-uming": "uming.ttc",
        "fonts-arphic-ukai": "ukai.ttc",
        "fonts-cns11643-sung": "TW-Sung-98_1.ttf",
        "fonts-wqy-zenhei": "wqy-zenhei.ttc",
        "fonts-wqy-microhei": "wqy-microhei.ttc",
        "fonts-sawarabi-gothic": "sawarabi-gothic-medium.ttf",
        "fonts-motoya-l-cedar": "MTLc3m.ttf",
        "fonts-hanazono": "HanaMinA.ttf",
        "fonts-morisawa-bizud-gothic": "BIZUDGothic-Regular.ttf",
    },
    "val": {
        "fonts-morisawa-bizud-mincho": "BIZUDMincho-Regular.ttf",
        "fonts-motoya-l-maruberi": "MTLmr3m.ttf",
        "fonts-cns11643-kai": "TW-Kai-98_1.ttf",
    },
    "test": {
        "fonts-noto-cjk": "NotoSansCJK-Regular.ttc NotoSerifCJK-Regular.ttc",
        "fonts-lxgw-wenkai": "LXGWWenKai-Regular.ttf",
        "fonts-sawarabi-mincho": "sawarabi-mincho-medium.ttf",
    },
}
"""Font files by split and Debian package."""
DICTIONARY = "kanjidic"
RADICALS, CHARACTERS = 24, 10
"""Radicals, and characters of each."""
DRAWN = {"train": 2, "val": 2, "test": 3}
"""Samples of a character in a font."""
_SIDE = 96


def radicals(dictionary: str) -> dict[int, list[str]]:
    """Characters with a school grade by number of their radical (1 to 214), from the text of KANJIDIC."""
    found = collections.defaultdict(list)
    for line in dictionary.splitlines()[1:]:
        character, *facts = line.split()
        if any(fact[0] == "G" and fact[1:].isdigit() for fact in facts):
            classical = [fact[1:] for fact in facts if fact[0] == "C" and fact[1:].isdigit()]
            nelson = [fact[1:] for fact in facts if fact[0] == "B" and fact[1:].isdigit()]
            found[int((classical or nelson)[0])].append(character)
    return found


def glyph(font: Path, character: str) -> Image.Image:
    """Black on white, `_SIDE` px."""
    picture = Image.new("L", (_SIDE, _SIDE), "white")
    drawn = ImageFont.truetype(font, round(0.92 * _SIDE), layout_engine=ImageFont.Layout.BASIC)
    ImageDraw.Draw(picture).text((_SIDE / 2, _SIDE / 2), character, fill=0, font=drawn, anchor="mm")
    return picture


def alike(shapes: npt.NDArray[np.float32], wanted: int) -> list[int]:
    """Places of look-alikes: the closest two of shapes [n, pixels], then one by one what is closest to the group."""
    centred = shapes - shapes.mean(1, keepdims=True)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    closeness = unit @ unit.T
    np.fill_diagonal(closeness, -np.inf)
    group = [int(place) for place in np.unravel_index(closeness.argmax(), closeness.shape)]
    while len(group) < wanted:
        reach = closeness[group].max(0)
        reach[group] = -np.inf
        group.append(int(reach.argmax()))
    return group


def chosen(dictionary: str, fonts: Sequence[Path]) -> dict[str, list[str]]:
    """Look-alike characters that all fonts have, by their radical's number."""
    from fontTools.ttLib import TTFont

    known = set.intersection(*(set(TTFont(font, fontNumber=0, lazy=True).getBestCmap()) for font in fonts))
    usable = {
        number: [character for character in characters if ord(character) in known]
        for number, characters in radicals(dictionary).items()
    }
    largest = sorted(usable, key=lambda number: (-len(usable[number]), number))[:RADICALS]
    groups = {}
    for number in sorted(largest):
        shapes = [glyph(fonts[0], character).resize((24, 24)) for character in usable[number]]
        places = alike(np.stack([np.asarray(shape, np.float32).ravel() for shape in shapes]), CHARACTERS)
        groups[f"radical_{number:03d}"] = [usable[number][place] for place in places]
    return groups


def unpacked(folder: Path) -> tuple[dict[str, list[Path]], str, list[str]]:
    """Font files by split, the dictionary's text, and the packages' file names."""
    packages = [DICTIONARY, *(package for split in FONTS.values() for package in split)]
    subprocess.run(
        ["apt-get", "download", "-q", *packages], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    files = sorted(folder.glob("*.deb"))
    for file in files:
        subprocess.run(["dpkg-deb", "-x", file, folder / "x"], check=True)
    found = {path.name: path for path in (folder / "x").rglob("*") if path.is_file()}
    fonts = {
        split: [found[name] for names in wanted.values() for name in names.split()]
        for split, wanted in FONTS.items()
    }
    dictionary = (folder / "x/usr/share/edict" / DICTIONARY).read_text(encoding="euc-jp")
    return fonts, dictionary, [file.name for file in files]


def samples(
    groups: dict[str, list[str]], fonts: dict[str, list[Path]]
) -> Iterator[tuple[str, str, str, str, Image.Image]]:
    """Split, radical, character, name and image."""
    for split, files in fonts.items():
        for font in files:
            for radical, characters in groups.items():
                for character in characters:
                    picture = glyph(font, character)
                    code = f"u{ord(character):04x}"
                    for index in range(DRAWN[split]):
                        sample = varied(picture, generator("characters", font.stem, code, index))
                        yield split, radical, code, f"{font.stem}_{code}_{index}", sample.convert("L")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--radicals", action="store_true", help="one class a radical, not one a character")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        fonts, dictionary, packages = unpacked(Path(name))
        groups = chosen(dictionary, [file for files in fonts.values() for file in files])
        for split, radical, code, sample_name, sample in samples(groups, fonts):
            save(sample, out, split, radical if arguments.radicals else code, sample_name)
    said = {"packages": packages, "characters": groups}
    (out / "packages.json").write_text(
        json.dumps(said, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(f"{sum(map(len, groups.values()))} characters of {len(groups)} radicals in {out}")


if __name__ == "__main__":
    main()
