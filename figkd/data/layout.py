"""Which folders are splits and which are classes, decided by structure where that is certain.

Where a tree can be read in two ways, the error shows both, and the option `layout` settles it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from figkd.data.left_out import LeftOut
from figkd.data.split_words import assign, word_of
from figkd.data.store import SPLITS, SplitName
from figkd.data.tree import Folder
from figkd.errors import DataError

_MOST_PARTS = 10
"""More folders that hold the same ones are classes, each seen from the left and from the right."""
LAYOUTS = ("auto", "classes", "splits")

ClassFolders = Mapping[str, Sequence[Folder]]
"""Folders by the class that they are named after."""


@dataclass(frozen=True)
class Layout:
    """A tree as it is read.

    Attributes:
        splits: class folders of "train", and of "val" and "test" where they are given. Those of train may be empty.
        beside: images that are in no class folder.
        notes: what had to be concluded, in sentences.
        named: whether a folder that could be taken for a split is read as a class.
    """

    splits: Mapping[SplitName, ClassFolders]
    beside: Sequence[LeftOut] = ()
    notes: Sequence[str] = field(default_factory=tuple)
    named: bool = False


def read_layout(root: Folder, layout: str) -> Layout:
    """The splits and classes of a tree.

    Args:
        root: the tree.
        layout: "classes": the folders are classes, whatever they are called. "splits": those with the name of a split
            are splits. "auto": whichever is certain.

    Raises:
        DataError: there are two readings, or none.
    """
    if layout not in LAYOUTS:
        raise DataError(f"layout is {layout!r}", f"one of {', '.join(LAYOUTS)}")
    top = _unwrapped(root)
    notes = [f"the classes are looked for in {top.place}/, the only folder with images"] if top.place else []
    splits = [folder for folder in top.folders if word_of(folder.name)]
    if layout == "splits":
        return _with_notes(_as_splits(top) if splits else _as_splits_of_classes(top), notes)
    if layout == "classes":
        return _with_notes(_as_classes(top), notes)
    if not splits:
        inside = [folder for folder in top.folders if _holds_splits(folder)]
        if not inside:
            _refuse_parts(top)
            return _with_notes(_as_classes(top), notes)
        with_images = [folder for folder in top.folders if folder.has_images()]
        if inside == with_images and not any(_grand_children(folder) for folder in inside):
            return _with_notes(_as_splits_of_classes(top), notes)
        raise _ambiguous(
            top,
            f"{_names(inside)} hold folders that are called like splits",
            "the splits lie inside of the class folders"
            if inside == with_images
            else f"{_names(inside)} hold splits of their own",
        )
    others = [folder for folder in top.folders if folder not in splits and folder.has_images()]
    with_classes = [folder for folder in splits if any(inner.has_images() for inner in folder.folders)]
    if not with_classes and others:
        return _with_notes(_as_classes(top), notes)  # a split would hold class folders
    if with_classes and not others and "train" in assign(folder.name for folder in with_classes):
        return _with_notes(_as_splits(top), notes)
    raise _ambiguous(
        top,
        f"{_names(splits)} {'are' if len(splits) > 1 else 'is'} called like splits"
        + (f", {_names(others)} {'are' if len(others) > 1 else 'is'} not" if others else ""),
        f"{_names(splits)} are splits"
        + (f", and {_names(others)} is not used" if others else "")
        + ("" if with_classes else ", whose images lie in no class folders"),
    )


def _unwrapped(root: Folder) -> Folder:
    """The folder that holds the splits or classes: folders that only wrap another one are passed."""
    top = root
    while not top.images:
        with_images = [folder for folder in top.folders if folder.has_images()]
        if len(with_images) != 1 or word_of(with_images[0].name):
            break
        (only,) = with_images
        if only.images or not any(inner.has_images() for inner in only.folders):
            break
        top = only
    return top


def _holds_splits(folder: Folder) -> bool:
    """Whether a folder has no images of its own, and all of its folders are called like splits."""
    inner = [child for child in folder.folders if child.has_images()]
    return bool(inner) and not folder.images and all(word_of(child.name) for child in inner)


def _refuse_parts(top: Folder) -> None:
    """Refuse folders that look like parts of one set, such as fold1 and fold2: each holds the same class folders."""
    parts = [folder for folder in top.folders if folder.has_images()]
    inner = sorted(
        ([child.name for child in folder.folders if child.has_images()] for folder in parts), key=len
    )
    if not 2 <= len(parts) <= _MOST_PARTS or any(folder.images for folder in parts) or len(inner[0]) < 2:
        return
    if all(set(names) <= set(inner[-1]) for names in inner):
        raise DataError(
            f"two readings of {top.place or 'the root'}: {_names(parts)} hold folders of the same names: "
            f"{', '.join(inner[0][:5])}. Either these are the classes, and {_names(parts)} are parts of the data; or "
            f"every folder is a class: {_names(parts)}",
            "name them train, val and test, or put each class in one folder; if they are classes, set "
            "data.options.layout: classes",
        )


def _grand_children(folder: Folder) -> bool:
    return any(inner.has_images() for child in folder.folders for inner in child.folders)


def _as_classes(top: Folder) -> Layout:
    named = any(word_of(folder.name) for folder in top.folders)
    return Layout({"train": _by_class(top.folders)}, _images_of(top), _nested(top.folders), named)


def _as_splits(top: Folder) -> Layout:
    found = assign(folder.name for folder in top.folders)
    folder_of = {folder.name: folder for folder in top.folders}
    splits: dict[SplitName, ClassFolders] = {}
    beside = [*_images_of(top), *(_whole(folder) for folder in top.folders if not word_of(folder.name))]
    notes: list[str] = []
    for split in SPLITS:
        if split not in found:
            continue
        folder = folder_of[found[split]]
        beside += _images_of(folder)
        if any(inner.has_images() for inner in folder.folders):
            splits[split] = _by_class(folder.folders)
            notes += _nested(folder.folders)
        else:
            notes.append(f"{folder.place}/ has no class folders with images: no {split} split is given")
    if "train" not in splits:
        raise DataError(
            f"there is no split for training among {_names(top.folders)}",
            "name it train, or set layout: classes",
        )
    return Layout(splits, [entry for entry in beside if entry.count], list(dict.fromkeys(notes)))


def _as_splits_of_classes(top: Folder) -> Layout:
    """<class>/<split>/*.jpg."""
    splits: dict[SplitName, dict[str, list[Folder]]] = {}
    beside = list(_images_of(top))
    for folder in top.folders:
        beside += _images_of(folder)
        for split, name in assign(child.name for child in folder.folders).items():
            child = next(child for child in folder.folders if child.name == name)
            splits.setdefault(split, {}).setdefault(_class_name(folder), []).append(child)
        beside += [_whole(child) for child in folder.folders if not word_of(child.name)]
    if "train" not in splits:
        raise DataError(
            f"no folder of {top.place or 'the root'} is a split", "name one train, or set layout: classes"
        )
    for folder in top.folders:
        splits["train"].setdefault(_class_name(folder), [folder] if not folder.has_images() else [])
    note = "the splits lie inside of the class folders"
    return Layout(splits, [entry for entry in beside if entry.count], [note])


def _by_class(folders: Sequence[Folder]) -> ClassFolders:
    found: dict[str, list[Folder]] = {}
    for folder in folders:
        found.setdefault(_class_name(folder), []).append(folder)
    return found


def _class_name(folder: Folder) -> str:
    """A folder's name in the form that is equal for equal texts: some systems take accents apart."""
    return unicodedata.normalize("NFC", folder.name)


def _images_of(folder: Folder) -> list[LeftOut]:
    return [LeftOut(image, "beside") for image in folder.images]


def _whole(folder: Folder) -> LeftOut:
    return LeftOut(f"{folder.place}/", "beside", sum(1 for _ in folder.all_images()))


def _nested(folders: Sequence[Folder]) -> list[str]:
    """A word about folders inside of class folders, where a user may have meant those."""
    inner = {
        child.name: child
        for folder in folders
        if not folder.images
        for child in folder.folders
        if len(folder.folders) > 1 and child.has_images()
    }
    if not inner:
        return []
    names = _names(list(inner.values()))
    return [f"folders inside of class folders ({names}) are no classes: their images count for the outer one"]


def _ambiguous(top: Folder, what: str, as_splits: str) -> DataError:
    classes = _names([folder for folder in top.folders if folder.has_images()])
    return DataError(
        f"two readings of {top.place or 'the root'}: {what}. Either {as_splits}; or every folder is a class: {classes}",
        "set data.options.layout to splits or to classes",
    )


def _names(folders: Sequence[Folder]) -> str:
    names = [folder.name for folder in folders]
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")


def _with_notes(layout: Layout, notes: Sequence[str]) -> Layout:
    return Layout(layout.splits, layout.beside, [*notes, *layout.notes], layout.named)
