"""A data set of the hub from end to end, against a stand-in for the hub on this machine. The real one was not asked."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.figkd.data.hub import COMMIT, Hub, serving

pytestmark = [
    pytest.mark.slow,  # the address of the hub is read when the library is imported, so in a process of its own
    pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed"),
]
NAMES = ["ash", "oak"]
SPLITS = {"train": 12, "test": 4}
TAKE = """
import json, sys
from pathlib import Path
from figkd.data import class_names, prepare, preview
options = json.loads(sys.argv[1])
problems = preview("hf_datasets", None, options)
said = None
if not problems:
    said = prepare("hf_datasets", None, Path("out"), image_size=16, store_size=16, options=options)
    said["names"] = class_names(Path("out"))
print(json.dumps([[problem.what for problem in problems], said]))
"""


def _jpeg(number: int, label: int) -> bytes:
    noise = np.random.default_rng([number, label]).integers(0, 50, (24, 24, 3), dtype=np.uint8)
    noise[..., label] += 200
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


def _parquet() -> dict[str, bytes]:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Encoded

    features = Features(
        {"photo": Encoded(), "tree": ClassLabel(names=NAMES), "site": ClassLabel(names=["a", "b"])}
    )
    files = {"README.md": b"---\nlicense: mit\n---\n# trees\n"}
    for number, (split, count) in enumerate(SPLITS.items()):
        rows = [(_jpeg(100 * number + i, i % 2), i % 2) for i in range(2 * count)]
        table = Dataset.from_dict(
            {
                "photo": [{"bytes": image, "path": None} for image, _ in rows],
                "tree": [label for _, label in rows],
                "site": [0] * len(rows),
            },
            features=features,
        )
        buffer = io.BytesIO()
        table.to_parquet(buffer)
        files[f"data/{split}-00000-of-00001.parquet"] = buffer.getvalue()
    return files


def _folders() -> dict[str, bytes]:
    return {
        f"{split}/{name}/{i}.jpg": _jpeg(100 * number + i, label)
        for number, (split, count) in enumerate(SPLITS.items())
        for label, name in enumerate(NAMES)
        for i in range(count)
    }


def _taken(hub: Hub, folder: Path, **options: str) -> tuple[list[str], Any]:
    """What a process that knows this hub alone says: problems before the download, and the prepared data."""
    home = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    given = json.dumps({"name": hub.name, "revision": COMMIT} | options)
    done = subprocess.run(
        [sys.executable, "-c", TAKE, given], cwd=folder, env={**os.environ, **home}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    problems, said = json.loads(done.stdout.splitlines()[-1])
    return problems, said


def test_parquet_files_are_downloaded_once_and_prepared(tmp_path: Path) -> None:
    """A label column that must be named, splits, names of the classes, images as bytes."""
    with serving(Hub("trees/photos", _parquet())) as hub:
        problems, said = _taken(hub, tmp_path, label_column="tree")
        assert problems == [] and said["names"] == NAMES
        assert sum(said["counts"].values()) == 32 and said["counts"]["test"] == 8
        assert hub.downloads() == sorted(hub.files)


def test_an_image_folder_on_the_hub(tmp_path: Path) -> None:
    """The layout of the library's image folders: classes from folders."""
    with serving(Hub("trees/folder", _folders())) as hub:
        problems, said = _taken(hub, tmp_path)
        assert problems == [] and said["names"] == NAMES and said["counts"]["test"] == 8


@pytest.mark.parametrize("wrong", [{"revision": "f" * 40}, {"name": "trees/none"}])
def test_what_is_not_there_is_one_message_before_any_download(wrong: dict[str, str], tmp_path: Path) -> None:
    """A commit or a name that the hub does not have."""
    with serving(Hub("trees/photos", _folders())) as hub:
        (problem,), said = _taken(hub, tmp_path, **wrong)
        assert problem.startswith("datasets cannot open trees/") and "doesn't exist" in problem
        assert said is None and hub.downloads() == []
