"""A user's own images in folders named after their classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.data.decode import is_image
from figkd.data.files import Sample, write_samples
from figkd.data.split import stratified_split
from figkd.data.store import SPLITS, SplitName
from figkd.errors import DataError
from figkd.progress import Progress

DEFAULTS: dict[str, Any] = {"test_fraction": 0.2}

LAYOUT = """\
<root>/<class>/*.jpg                      split by class, with a seed; or
<root>/train|val|test/<class>/*.jpg       as given; val/ or test/ may be missing"""


def check(root: Path | None, options: Mapping[str, Any]) -> list[str]:
    """Problems that keep the data set from being prepared; cheap: file names only."""
    if root is None:
        return ["the image_folder data set needs a root folder"]
    if not root.is_dir():
        return [f"there is no folder {root}; expected:\n{LAYOUT}"]
    fraction = options.get("test_fraction", DEFAULTS["test_fraction"])
    if not 0 < fraction < 1:
        return [f"test_fraction is {fraction}; it must lie between 0 and 1"]
    found = _find(root)
    problems = []
    classes = _class_names(found)
    if len(classes) < 2:
        problems.append(
            f"{root} has images of {len(classes)} class(es), at least 2 are needed; expected:\n{LAYOUT}"
        )
    for name, by_class in found.items():
        extra = sorted(set(by_class) - set(classes))
        if extra:
            problems.append(f"classes in {name}/ that are not in train/: {', '.join(extra[:5])}")
    need = 1 + sum(name not in found for name in ("val", "test"))
    main = found.get("train") or next(iter(found.values()), {})
    small = sorted(name for name, files in main.items() if len(files) < need)
    if small and not problems:
        problems.append(f"classes with fewer than {need} images, too few to split: {', '.join(small[:5])}")
    return problems


def source_files(root: Path | None, options: Mapping[str, Any]) -> list[Path]:
    """Every image file, sorted."""
    if root is None or not root.is_dir():
        return []
    return sorted(file for by_class in _find(root).values() for files in by_class.values() for file in files)


def prepare(
    root: Path | None,
    out: Path,
    *,
    store_size: int,
    val_fraction: float,
    seed: int,
    options: Mapping[str, Any],
    facts: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Write the prepared data folder.

    Without test/, test is held out of what there is (option test_fraction, default 0.2), then val out of the
    rest of train (val_fraction); a given val/ is used as val, a given test/ as test.
    """
    problems = check(root, options)
    if problems or root is None:
        raise DataError(problems[0])
    found = _find(root)
    classes = _class_names(found)
    samples = {name: _samples(root, classes, by_class) for name, by_class in found.items()}
    train = samples.get("train", [])
    splits: dict[SplitName, list[Sample]] = {"train": train}
    if "test" in samples:
        splits["test"] = samples["test"]
    else:
        fraction = options.get("test_fraction", DEFAULTS["test_fraction"])
        splits["train"], splits["test"] = _hold_out(train, fraction, seed)
    if "val" in samples:
        splits["val"] = samples["val"]
    else:
        # Another seed: the same one would hold out the same positions of each class again.
        splits["train"], splits["val"] = _hold_out(splits["train"], val_fraction, seed + 1)
    return write_samples(out, classes, splits, store_size=store_size, facts=facts, progress=progress)


def _find(root: Path) -> dict[SplitName, dict[str, list[Path]]]:
    """Image files by split and class; a flat tree is all "train"."""
    if (root / "train").is_dir() and _folders(root / "train"):
        return {name: _by_class(root / name) for name in SPLITS if (root / name).is_dir()}
    return {"train": _by_class(root)}


def _by_class(folder: Path) -> dict[str, list[Path]]:
    found = {
        child.name: sorted(file for file in child.rglob("*") if is_image(file) and file.is_file())
        for child in _folders(folder)
    }
    return {name: files for name, files in found.items() if files}


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _class_names(found: Mapping[SplitName, Mapping[str, list[Path]]]) -> list[str]:
    return sorted(found.get("train", {}))


def _samples(root: Path, classes: list[str], by_class: Mapping[str, list[Path]]) -> list[Sample]:
    return [
        Sample(file, label, file.relative_to(root).as_posix())
        for label, name in enumerate(classes)
        for file in by_class.get(name, [])
    ]


def _hold_out(samples: list[Sample], fraction: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    kept, held = stratified_split([sample.label for sample in samples], fraction, seed)
    return [samples[i] for i in kept], [samples[i] for i in held]
