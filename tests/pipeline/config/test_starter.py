"""What `init` writes, the config reader reads, whatever the folder is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.config.schema import Goal
from pipeline.config.starter import write_starter
from pipeline.core.errors import ConfigError
from pipeline.run.data_check import look_at_data
from tests.needs import unicode_names


def _images(folder: Path, *classes: str, count: int = 3) -> Path:
    for name in classes or ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            (folder / name / f"{index}.jpg").write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "x" * 200,
        "a: b # c",
        "'\"{}",
        pytest.param("é名\U0001f600", marks=unicode_names),
        "2020-01-01",
        "1",
        "...",
        "-",
        "null",
    ],
)
def test_a_starter_config_is_a_good_config(tmp_path: Path, name: str) -> None:
    """Names that YAML would take for something else, or that are longer than a deployment's may be."""
    path, _ = write_starter(_images(tmp_path / name), tmp_path / "mine.yaml")
    assert load_config(path).data.root == tmp_path / name


@pytest.mark.parametrize("name", [b"a\nb", b"a\x1b[31m", b"a\x7fb", b"a\xff"], ids=repr)
def test_a_folder_whose_name_no_config_holds_is_refused(tmp_path: Path, name: bytes) -> None:
    """With a message of one line, before a file is written that the next command refuses."""
    folder = _images(tmp_path / os.fsdecode(name))
    with pytest.raises(ConfigError, match="cannot be written into a config") as caught:
        write_starter(folder, tmp_path / "mine.yaml")
    assert caught.value.where.isprintable() and "link" in caught.value.fix
    assert not (tmp_path / "mine.yaml").exists()


def test_the_name_of_the_file_cannot_leave_its_comment(tmp_path: Path) -> None:
    """It is repeated in the first lines of the file."""
    path, _ = write_starter(_images(tmp_path / "pets"), tmp_path / "a\nname: b\n.yaml")
    assert load_config(path).name == "pets"


def test_a_layout_that_could_be_mistaken_is_written_down(tmp_path: Path) -> None:
    """A class called train: what is certain today stays as it is when folders come in."""
    path, _ = write_starter(_images(tmp_path / "cars", "bus", "car", "train"), tmp_path / "mine.yaml")
    assert load_config(path).data.options == {"layout": "classes"}
    assert "# 3 classes, 9 images" in path.read_text()


def test_two_readings_are_asked_and_answered_by_an_option(tmp_path: Path) -> None:
    """The message names the option of `init`, and the answer goes into the config."""
    folder = _images(tmp_path / "x", "train/a", "train/b", "bus/c")
    with pytest.raises(ConfigError, match="two readings") as caught:
        write_starter(folder, tmp_path / "mine.yaml")
    assert caught.value.fix == "add --option layout=splits or --option layout=classes"
    path, remarks = write_starter(folder, tmp_path / "mine.yaml", options={"layout": "splits"})
    assert load_config(path).data.options == {"layout": "splits"}
    assert any("3 x beside the class folders (bus/)" in remark for remark in remarks)


def test_a_class_with_too_few_images_is_told_with_the_way_out(tmp_path: Path) -> None:
    """Not after the config is written, and not by `run` first."""
    folder = _images(tmp_path / "x", "a", "b")
    _images(folder, "c", count=1)
    with pytest.raises(ConfigError, match=r"1 of 3 classes .*: c \(1\)") as caught:
        write_starter(folder, tmp_path / "mine.yaml")
    assert "add --option small_classes=leave_out" in caught.value.fix
    path, _ = write_starter(folder, tmp_path / "mine.yaml", options={"small_classes": "leave_out"})
    assert "# 2 classes, 6 images" in path.read_text()


def test_what_is_no_image_is_no_class(tmp_path: Path) -> None:
    """The reader is that of `run`: other suffixes, other systems' folders."""
    folder = _images(tmp_path / "x", "a", "b")
    (folder / "a" / "0.jpg").rename(folder / "a" / "0.pgm")
    _images(folder, "__MACOSX", "@eaDir", ".git", count=40)
    path, _ = write_starter(folder, tmp_path / "mine.yaml")
    assert "# 2 classes, 6 images" in path.read_text()


def test_an_option_that_does_not_exist(tmp_path: Path) -> None:
    """Told before a file is written."""
    with pytest.raises(ConfigError, match="no option 'colour'"):
        write_starter(_images(tmp_path / "x"), tmp_path / "mine.yaml", options={"colour": "red"})


def test_an_absolute_goal_waits_for_its_number(tmp_path: Path) -> None:
    """Commented, since only the user knows it; taking the mark away gives a good config."""
    path, _ = write_starter(_images(tmp_path / "pets"), tmp_path / "mine.yaml")
    assert load_config(path).budgets.top1 == Goal(max_drop=1.0)
    path.write_text(path.read_text().replace("# min: 90 ", "min: 90 "))
    assert load_config(path).budgets.top1 == Goal(max_drop=1.0, min=90)


def _listed(folder: Path, text: str = "") -> Path:
    (folder / "imgs").mkdir(parents=True)
    for index in range(6):
        (folder / "imgs" / f"{index}.jpg").write_bytes(b"x")
    rows = "".join(f"imgs/{index}.jpg,{'ab'[index % 2]}\n" for index in range(6))
    (folder / "labels.csv").write_text(text or f"path,label\n{rows}")
    return folder


def test_a_list_of_labels_is_read_as_such(tmp_path: Path) -> None:
    """Images in one folder and a list beside them: the list has the labels, as a run of that config takes them."""
    path, remarks = write_starter(_listed(tmp_path / "x"), tmp_path / "mine.yaml")
    assert load_config(path).data.dataset == "csv"
    assert "dataset: csv                   # 2 classes, 6 images" in path.read_text()
    assert any("labels.csv" in told and "--dataset image_folder" in told for told in remarks)


def test_a_list_may_be_meant_for_something_else(tmp_path: Path) -> None:
    """Where it cannot be read, the message names the other reading; where folders are asked for, it is no matter."""
    folder = _images(_listed(tmp_path / "x", "name;class\n"), "a", "b")
    with pytest.raises(ConfigError, match="no column") as caught:
        write_starter(folder, tmp_path / "mine.yaml")
    assert "--dataset image_folder" in caught.value.fix
    (folder / "imgs").rename(tmp_path / "imgs")
    path, remarks = write_starter(folder, tmp_path / "mine.yaml", dataset="image_folder")
    assert load_config(path).data.dataset == "image_folder" and not remarks


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """Protects a user who names the list, or an archive, from looking for a typing error."""
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(ConfigError, match="a file, not a folder"):
        write_starter(tmp_path / "labels.csv", None)


def test_a_folder_of_the_library_datasets_is_read_as_such(tmp_path: Path) -> None:
    """Parquet files need no option; their rows are counted, and the checks before a run read them too."""
    datasets = pytest.importorskip("datasets")
    images = {"image": [{"bytes": bytes([index]), "path": None} for index in range(40)]}
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    table = datasets.Dataset.from_dict(
        images | {"label": [index % 2 for index in range(40)]}, features=datasets.Features(kinds)
    )
    (tmp_path / "mine/data").mkdir(parents=True)
    table.to_parquet(str(tmp_path / "mine/data/train-00000-of-00001.parquet"))
    path, _ = write_starter(tmp_path / "mine", tmp_path / "mine.yaml")
    assert "# 2 classes, 40 images" in path.read_text()
    config = load_config(path)
    assert config.data.dataset == "hf_datasets"
    listed = look_at_data(config).listed
    assert listed is not None and listed.images == 40 and list(listed.classes) == ["cat", "dog"]
