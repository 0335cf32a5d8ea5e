"""Small image trees in the layouts that users have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

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


def stanford40(root: Path, classes: int = 3, train: int = 6, test: int = 3) -> Path:
    """The published layout: JPEGImages/*.jpg and ImageSplits/*.txt."""
    splits = root / "ImageSplits"
    splits.mkdir(parents=True)
    actions = [f"action_{c}" for c in range(classes)]
    for c, action in enumerate(actions):
        files = [f"{action}_{i:03d}.jpg" for i in range(1, train + test + 1)]
        for i, file in enumerate(files):
            _picture(root / "JPEGImages" / file, c, i)
        (splits / f"{action}_train.txt").write_text("\n".join(files[:train]) + "\n")
        (splits / f"{action}_test.txt").write_text("\n".join(files[train:]) + "\n")
    rows = ["action_name\tnumber_of_images", *(f"{action}\t{train + test}" for action in actions)]
    (splits / "actions.txt").write_text("\n".join(rows) + "\n")
    return root


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a folder, served on a free port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()
