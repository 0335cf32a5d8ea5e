"""Small image trees in the layouts that users have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def _picture(path: Path, hue: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng((hue, seed))
    pixels = random.integers(0, 60, (72, 90, 3), dtype=np.uint8)
    pixels[:, :, hue % 3] += np.uint8(60 + 40 * (hue // 3))
    Image.fromarray(pixels).save(path)


def image_folder(root: Path, classes: int = 3, images: int = 30) -> Path:
    """ROOT/<class>/*.jpg."""
    for c in range(classes):
        for i in range(images):
            _picture(root / f"class_{c}" / f"{i:03d}.jpg", c, i)
    return root


def stanford_dogs(root: Path, classes: int = 3, train: int = 20, test: int = 8) -> Path:
    """The published layout: Images/<synset>-<breed>/*.jpg and lists/*.mat."""
    from scipy.io import savemat

    breeds = [f"n0208{5620 + c}-Breed_{c}" for c in range(classes)]
    (root / "lists").mkdir(parents=True)
    for name, ids in (("train", range(train)), ("test", range(train, train + test))):
        files = [f"{b}/{b.split('-')[0]}_{i}.jpg" for b in breeds for i in ids]
        labels = [[c + 1] for c in range(classes) for _ in ids]
        for file, (label,) in zip(files, labels, strict=True):
            _picture(root / "Images" / file, label - 1, int(file.rsplit("_", 1)[1][:-4]))
        cells = np.empty((len(files), 1), dtype=object)
        cells[:, 0] = files
        savemat(root / "lists" / f"{name}_list.mat", {"file_list": cells, "labels": np.array(labels)})
    return root
