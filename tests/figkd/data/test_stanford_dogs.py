"""Stanford Dogs in its published layout, in small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from figkd.data import class_names, open_split, prepare, source_files
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import given

BREEDS = ["n02085620-Chihuahua", "n02086240-Shih-Tzu", "n02113799-standard_poodle"]

ANNOTATION = """<annotation><object><name>dog</name><bndbox><xmin>10</xmin><ymin>0</ymin><xmax>14</xmax>
<ymax>12</ymax></bndbox></object><object><name>dog</name><bndbox><xmin>12</xmin><ymin>2</ymin><xmax>20</xmax>
<ymax>20</ymax></bndbox></object></annotation>"""


def _cells(values: list[str]) -> np.ndarray:
    cells = np.empty((len(values), 1), dtype=object)
    cells[:, 0] = [np.array([value]) for value in values]
    return cells


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """4 training and 2 test images of 3 breeds; the part in the annotated boxes is red, the rest blue."""
    root = tmp_path / "dogs"
    lists: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for label, breed in enumerate(BREEDS):
        (root / "Images" / breed).mkdir(parents=True)
        (root / "Annotation" / breed).mkdir(parents=True)
        for index in range(6):
            stem = f"{breed.split('-')[0]}_{index}"
            image = Image.new("RGB", (20, 20), (0, 0, 250))
            image.paste((250, 0, 0), (10, 0, 20, 20))
            image.save(root / "Images" / breed / f"{stem}.jpg", quality=95, subsampling=0, comment=stem)
            (root / "Annotation" / breed / stem).write_text(ANNOTATION)
            lists["train" if index < 4 else "test"].append((f"{breed}/{stem}.jpg", label + 1))
    (root / "lists").mkdir()
    for name, entries in lists.items():
        savemat(
            root / "lists" / f"{name}_list.mat",
            {
                "file_list": _cells([file for file, _ in entries]),
                "annotation_list": _cells([file[:-4] for file, _ in entries]),
                "labels": np.array([[label] for _, label in entries], dtype=np.uint8),
            },
        )
    return root


def test_published_layout(root: Path, tmp_path: Path) -> None:
    """Protects the official split, the labels and the breeds' names, also of names with a hyphen."""
    said = prepare(
        "stanford_dogs", root, tmp_path / "out", image_size=8, store_size=10, val_fraction=0.25, seed=0
    )
    assert given(said) == {"train": 12, "test": 6}
    assert class_names(tmp_path / "out") == ["Chihuahua", "Shih-Tzu", "standard_poodle"]
    test = open_split(tmp_path / "out", "test")
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert test.ids[2] == "Images/n02086240-Shih-Tzu/n02086240_4.jpg"
    assert set(open_split(tmp_path / "out", "val").labels.tolist()) == {0, 1, 2}


def test_boxes(root: Path, tmp_path: Path) -> None:
    """Protects crop_boxes: the union of an image's boxes is kept."""
    prepare("stanford_dogs", root, tmp_path / "out", image_size=8, store_size=8, options={"crop_boxes": True})
    images = open_split(tmp_path / "out", "test").images.astype(int)
    assert images[..., 2].max() < 100 < images[..., 0].min()


def test_a_missing_annotation_leaves_its_image_out(root: Path, tmp_path: Path) -> None:
    """Protects long runs: an image whose box cannot be read is listed with the reason, the others are there."""
    (root / "Annotation" / BREEDS[0] / "n02085620_4").unlink()
    said = prepare(
        "stanford_dogs", root, tmp_path / "out", image_size=8, store_size=8, options={"crop_boxes": True}
    )
    assert said["counts"]["test"] == 5
    (entry,) = said["skipped"]
    assert (entry["split"], entry["file"]) == ("test", "Images/n02085620-Chihuahua/n02085620_4.jpg")
    assert "cannot read the annotation" in entry["reason"]


def test_lists_beside_the_images(root: Path) -> None:
    """Protects the archive as it unpacks: the lists directly in the root."""
    for file in (root / "lists").iterdir():
        file.rename(root / file.name)
    assert check("stanford_dogs", root) == []
    assert len(source_files("stanford_dogs", root)) == 2 + 18
    assert len(source_files("stanford_dogs", root, {"crop_boxes": True})) == 2 + 18 + 18


def test_missing_parts_are_named(root: Path, tmp_path: Path) -> None:
    """Protects preflight: what is missing, where it comes from, and what the tree should look like."""
    (root / "lists" / "test_list.mat").unlink()
    problem = check("stanford_dogs", root)[0]
    assert "lacks lists/test_list.mat" in problem
    assert "vision.stanford.edu" in problem
    assert "<root>/Images/n02085620-Chihuahua" in problem
    assert "needs a root" in check("stanford_dogs", None)[0]
    assert source_files("stanford_dogs", root) == []
    with pytest.raises(DataError, match="lacks"):
        prepare("stanford_dogs", root, tmp_path / "out", image_size=8, store_size=8)


def test_a_damaged_list_is_said(root: Path, tmp_path: Path) -> None:
    """Protects: a damaged list is a DataError with its path."""
    (root / "lists" / "train_list.mat").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"train_list\.mat is not the published list"):
        prepare("stanford_dogs", root, tmp_path / "out", image_size=8, store_size=8)
