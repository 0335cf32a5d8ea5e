"""Fetch the 100 text faces of the study's larger task from Debian's packages: no root rights, nothing installed.

    python benchmarks/study/fetch_faces.py data/fonts100

Needs `apt-get` and `dpkg-deb` (any Debian or Ubuntu). Packages are downloaded to a temporary folder; only the faces
named here are kept. The versions that were fetched are written to `packages.json` beside them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

_PLAIN = ("Regular", "Bold", "Italic", "BoldItalic")
_FREE = {"Sans": "Oblique", "Mono": "Oblique", "Serif": "Italic"}
_GYRE = ("adventor", "bonum", "cursor", "heros", "pagella", "schola", "termes")

FACES: dict[str, list[str]] = {
    "fonts-liberation": [f"Liberation{family}-{style}" for family in ("Sans", "Serif", "Mono") for style in _PLAIN],
    "fonts-dejavu-core": [
        f"DejaVu{family}{style}" for family in ("Sans", "SansMono", "Serif") for style in ("", "-Bold")
    ],
    "fonts-dejavu-extra": [
        *(f"DejaVu{family}-{style}" for family in ("Sans", "SansMono") for style in ("Oblique", "BoldOblique")),
        *(f"DejaVuSerif-{style}" for style in ("Italic", "BoldItalic")),
    ],
    "fonts-freefont-ttf": [
        f"Free{family}{style}"
        for family, slant in _FREE.items()
        for style in ("", "Bold", slant, f"Bold{slant}")
    ],
    "fonts-roboto-unhinted": [f"Roboto-{style}" for style in _PLAIN],
    "fonts-open-sans": [f"OpenSans-{style}" for style in _PLAIN],
    "fonts-lato": [f"Lato-{style}" for style in _PLAIN],
    "fonts-crosextra-carlito": [f"Carlito-{style}" for style in _PLAIN],
    "fonts-crosextra-caladea": [f"Caladea-{style}" for style in _PLAIN],
    "fonts-linuxlibertine": [
        *(f"LinLibertine_{style}" for style in ("R", "RB", "RI", "RBI")),
        *(f"LinBiolinum_{style}" for style in ("R", "RB", "RI")),
    ],
    "fonts-texgyre": [
        f"texgyre{family}-{style}" for family in _GYRE for style in ("regular", "bold", "italic", "bolditalic")
    ],
    "fonts-paratype": [
        "PTS55F", "PTS75F", "PTS56F", "PTS76F", "PTF55F", "PTF75F", "PTF56F", "PTF76F", "PTN57F",
    ],
}  # fmt: skip
"""Faces by Debian package: 25 families, mostly regular, bold, italic and bold italic."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            ["apt-get", "download", "-q", *FACES], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        packages = sorted(folder.glob("*.deb"))
        for package in packages:
            subprocess.run(["dpkg-deb", "-x", package, folder / "x"], check=True)
        found = {path.stem: path for path in (folder / "x").rglob("*") if path.suffix in (".ttf", ".otf")}
        wanted = [face for faces in FACES.values() for face in faces]
        if missing := [face for face in wanted if face not in found]:
            raise SystemExit(f"these faces are not in the packages: {', '.join(missing)}")
        for face in wanted:
            shutil.copyfile(found[face], out / found[face].name)
        said = [package.name for package in packages]
    (out / "packages.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    print(f"{len(wanted)} faces of {len(said)} packages in {out}")


if __name__ == "__main__":
    main()
