"""A user's own list of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from figkd.data import class_names, source_files
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import labels_and_ids, lines, picture, prepared


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """12 images."""
    for index in range(12):
        picture(tmp_path / "root" / "photos" / f"{index:02d}.jpg")
    return tmp_path / "root"


def _rows(splits: bool = False) -> list[str]:
    parts = ["train"] * 6 + ["Validation"] * 2 + ["TEST"] * 4
    return [
        f"photos/{index:02d}.jpg,{'oak' if index % 2 else 'ash tree'}{',' + parts[index] if splits else ''}"
        for index in range(12)
    ]


def test_list_without_splits(root: Path, tmp_path: Path) -> None:
    """Protects labels as text, sorted classes, and splits held out with the seed."""
    lines(root / "labels.csv", "path,label", *_rows())
    said = prepared("csv", root, tmp_path / "out", test_fraction=0.34)
    assert sum(said["counts"].values()) == 12 and min(said["counts"].values()) >= 2
    assert class_names(tmp_path / "out") == ["ash tree", "oak"]
    found = [pair for split in ("train", "val", "test") for pair in labels_and_ids(tmp_path / "out", split)]
    assert sorted(found, key=lambda pair: pair[1]) == [(i % 2, f"photos/{i:02d}.jpg") for i in range(12)]
    assert len(source_files("csv", root)) == 13


def test_list_with_splits(root: Path, tmp_path: Path) -> None:
    """Protects given splits, in words that people use."""
    lines(root / "labels.csv", "path,label,split", *_rows(splits=True))
    said = prepared("csv", root, tmp_path / "out")
    assert said["counts"] == {"train": 6, "val": 2, "test": 4}
    assert labels_and_ids(tmp_path / "out", "val") == [(0, "photos/06.jpg"), (1, "photos/07.jpg")]


def test_names_of_file_and_columns(root: Path, tmp_path: Path) -> None:
    """Protects the options, a byte order mark, quotes, other columns, and numbers in the order of numbers."""
    rows = [f'{index};"photos/{index:02d}.jpg";{(2, 10, 1)[index % 3]}' for index in range(12)]
    (root / "my list.csv").write_text("\n".join(["nr;Bild;Art", *rows]) + "\n", encoding="utf-8-sig")
    options = {"file": "my list.csv", "path_column": "Bild", "label_column": "Art", "delimiter": ";"}
    prepared("csv", root, tmp_path / "out", **options)
    assert class_names(tmp_path / "out") == ["1", "2", "10"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\na.jpg,x\n", r"labels\.csv, line 1: no column path; the columns are file, label"),
        ("", "no column path, label; the columns are none"),
        ("path,label\nphotos/00.jpg,x\nphotos/01.jpg\n", "line 3: expected path,label"),
        ("path,label\nphotos/00.jpg,x\nphotos/01.jpg,\n", "line 3: expected path,label"),
        ("path,label\nphotos/00.jpg,x,y\n", "line 2: expected path,label"),
        ("path,label,split\nphotos/00.jpg,x,extra\n", "line 2: split 'extra' is not one of train, val, test"),
        ("path,label\nphotos/00.jpg,x\nphotos/01.jpg,y\nphotos/00.jpg,x\n", "line 4: .* is listed in line 2 already"),
        ("path,label\nphotos/00.jpg,x\nphotos/77.jpg,y\n", r"1 of 2 files .* do not exist \(line 3: photos/77\.jpg\)"),
        ("path,label\nphotos/00.jpg,x\nphotos/01.jpg,x\n", "images of 1 class"),
        ('path,label\n"photos/00.jpg,x\n', "cannot read .*labels.csv"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_line(root: Path, tmp_path: Path, text: str, said: str) -> None:
    """Protects the user's time: each kind of mistake is named with its line, before a run starts too."""
    (root / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        prepared("csv", root, tmp_path / "out")
    assert check("csv", root)


def test_other_problems(root: Path) -> None:
    """Protects: a missing list, a column that the options name wrongly, a file that is not UTF-8."""
    assert "lacks labels.csv; list your images" in check("csv", root)[0]
    lines(root / "labels.csv", "path,label", *_rows())
    assert "no column part" in check("csv", root, {"split_column": "part"})[0]
    assert "delimiter is ''" in check("csv", root, {"delimiter": ""})[0]
    assert "test_fraction is 2" in check("csv", root, {"test_fraction": 2})[0]
    (root / "labels.csv").write_bytes(b"path,label\nphotos/\xff.jpg,x\n")
    assert "save it as UTF-8" in check("csv", root)[0]


@pytest.mark.parametrize(
    "spelling", ["./photos/00.jpg", "photos//00.jpg", "photos/../photos/00.jpg", "ABSOLUTE", "link.jpg"]
)
def test_an_image_is_its_file(root: Path, spelling: str) -> None:
    """Protects the test score: other spellings and links of a path are the same image, which is listed once."""
    (root / "link.jpg").symlink_to(root / "photos/00.jpg")
    other = spelling.replace("ABSOLUTE", str(root / "photos/00.jpg"))
    lines(root / "labels.csv", "path,label,split", *_rows(splits=True), f"{other},oak,test")
    (problem,) = check("csv", root)
    assert "line 14:" in problem and "is listed in line 2 already, as photos/00.jpg" in problem


def test_classes_have_one_order(root: Path, tmp_path: Path) -> None:
    """Protects the class index: labels that are one number have an order that no hash seed changes, and are told."""
    labels = ["1", "01", "001", "10"]
    rows = [f"photos/{index:02d}.jpg,{labels[index % 4]}" for index in range(12)]
    lines(root / "labels.csv", "path,label", *rows)
    said = prepared("csv", root, tmp_path / "out")
    assert class_names(tmp_path / "out") == ["001", "01", "1", "10"]
    assert "labels that are one number are different classes: 001, 01, 1" in said["notes"]


def test_what_is_not_listed_and_what_lies_outside_is_told(root: Path, tmp_path: Path) -> None:
    """Protects: forgotten lines, and paths that lead out of the root."""
    picture(tmp_path / "elsewhere" / "a.jpg")
    picture(root / "photos" / "forgotten.jpg")
    lines(root / "labels.csv", "path,label", *_rows(), "../elsewhere/a.jpg,oak")
    said = prepared("csv", root, tmp_path / "out")
    assert said["left_out"] == {"not_listed": {"count": 1, "examples": ["photos/forgotten.jpg"]}}
    assert said["notes"][0].startswith("1 listed images lie outside of the root")


def test_words_for_splits_are_those_of_folders(root: Path, tmp_path: Path) -> None:
    """Protects: one table of words; here several may mean the same."""
    rows = [row.replace("Validation", "dev").replace("TEST", "holdout") for row in _rows(splits=True)]
    rows[0] = rows[0].replace("train", "Training")
    lines(root / "labels.csv", "path,label,split", *rows)
    assert prepared("csv", root, tmp_path / "out")["counts"] == {"train": 6, "val": 2, "test": 4}


def test_paths_of_another_system(root: Path, tmp_path: Path) -> None:
    """Backslashes between folders are characters of a name here: the message says which sign is meant."""
    lines(root / "labels.csv", "path,label", *(row.replace("/", "\\") for row in _rows()))
    with pytest.raises(DataError, match="12 of 12 files") as caught:
        prepared("csv", root, tmp_path / "out")
    assert "write / for" in caught.value.fix
    lines(root / "labels.csv", "path,label", *_rows(), "photos/99.jpg,oak")
    with pytest.raises(DataError, match="1 of 13 files") as caught:
        prepared("csv", root, tmp_path / "out")
    assert "write /" not in caught.value.fix
