"""Small classes, copies and held-out splits: what goes into training, what into the result, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from figkd.data.content import contents_of
from figkd.data.copies import find_copies
from figkd.data.listing import Demands, Listing, Sample
from figkd.data.settle import Settled, settle, without_small_classes
from figkd.errors import DataError

STRICT, LENIENT = Demands(), Demands("leave_out", "leave_out")


def _sample(name: str, label: int, content: int | None = None) -> Sample:
    value = sum(ord(letter) * 31**i for i, letter in enumerate(name)) % 2**31 if content is None else content
    return Sample(np.full((2, 2), value, np.int64).view(np.uint8), label, name)  # type: ignore[arg-type]


def _samples(split: str, count: int, start: int = 0) -> list[Sample]:
    return [_sample(f"{split}/{i}", i % 2, start + i) for i in range(count)]


def _settle(listing: Listing, val_fraction: float = 0.2) -> Settled:
    samples = [sample for part in listing.splits.values() for sample in part]
    return settle(listing, contents_of(samples), val_fraction=val_fraction, seed=0)


def _ids(found: Settled) -> dict[str, set[str]]:
    return {name: {sample.sample_id for sample in part} for name, part in found.splits.items()}


def test_given_splits_stay_and_missing_ones_come_out_of_train() -> None:
    """Protects: nothing is lost or doubled, and nothing given is moved."""
    given: dict[Any, Any] = {
        "train": _samples("train", 40), "val": _samples("val", 4, 100), "test": _samples("test", 6, 200)
    }  # fmt: skip
    assert _settle(Listing(["a", "b"], given)).splits == given
    found = _ids(_settle(Listing(["a", "b"], {"train": given["train"]}, test_fraction=0.25)))
    assert min(len(part) for part in found.values()) >= 2
    assert sorted(name for part in found.values() for name in part) == sorted(
        s.sample_id for s in given["train"]
    )


def test_an_image_in_two_splits_is_refused() -> None:
    """Protects the test score: nothing that was trained on is tested on."""
    listing = Listing(["a", "b"], {"train": _samples("x", 8), "test": [_sample("x/1", 1, 900)]})
    with pytest.raises(DataError, match=r"x/1 is in both train and test"):
        _settle(listing)


def test_held_out_splits_share_no_content() -> None:
    """Protects by construction: every image is there twice, no copy is on another side."""
    train = _samples("a", 60) + _samples("b", 60)
    found = _settle(Listing(["a", "b"], {"train": train}, test_fraction=0.3, demands=STRICT))
    assert not any(found.copies.across.values())
    assert sum(found.copies.within.values()) == 60
    assert "copies of others" in found.copies.remarks()[0]


@pytest.mark.parametrize(("copied", "refused"), [(1, False), (2, True), (100, True)])
def test_copies_across_given_splits(copied: int, refused: bool) -> None:
    """Protects the result: more than 1 % of the test images from train are refused, fewer are told."""
    test = _samples("test", 100, 1000)
    test[:copied] = [_sample(f"test/{i}", i % 2, i) for i in range(copied)]
    listing = Listing(
        ["a", "b"], {"train": _samples("train", 200), "val": _samples("val", 10, 500), "test": test}
    )
    demanding = replace(listing, demands=STRICT)
    if refused:
        with pytest.raises(
            DataError, match=rf"{copied} of 100 test images are copies of train images \(train/0 and"
        ):
            _settle(demanding)
    else:
        assert _settle(demanding).copies.remarks() == [
            "1 test image is a copy of a train image, e.g. train/0 and test/0"
        ]
    assert _settle(listing).copies.across["train", "test"] == copied  # published data are as they are
    lenient = _settle(replace(listing, demands=LENIENT))
    assert len(lenient.splits["test"]) == 100 and len(lenient.splits["train"]) == 200 - copied
    assert [entry.reason for entry in lenient.listing.left_out] == ["copy"] * copied


def test_one_content_under_two_labels() -> None:
    """Protects against labels that contradict each other: refused, or left out altogether."""
    train = [*_samples("x", 60), *(_sample(f"y/{i}", 1 - i % 2, i) for i in range(4))]
    listing = Listing(["a", "b"], {"train": train}, test_fraction=0.3, demands=STRICT)
    with pytest.raises(DataError, match="8 of 64 images stand under several labels"):
        _settle(listing)
    found = _settle(replace(listing, demands=LENIENT))
    assert sum(map(len, found.splits.values())) == 56
    assert [entry.reason for entry in found.listing.left_out] == ["contradiction"] * 8
    assert _settle(replace(listing, demands=None)).copies.contradictory == 8


def test_files_that_are_no_images_are_no_copies(tmp_path: Any) -> None:
    """Protects against a false refusal: a downloader's error pages are left out later, with their reason."""
    splits: dict[Any, list[Sample]] = {"train": _samples("train", 20), "test": _samples("test", 20, 100)}
    for split in ("train", "test"):
        page = tmp_path / f"{split}.jpg"
        page.write_bytes(b"<html>404</html>")
        splits[split].append(Sample(page, 0, f"{split}/page"))
    found = _settle(Listing(["a", "b"], splits, demands=STRICT))
    assert not any(found.copies.across.values())


def test_small_classes() -> None:
    """Protects a user from a refusal after hours: named with number, reason and fix; or left out, and told."""
    train = [*_samples("x", 40), _sample("c/0", 2, 900), _sample("c/1", 2, 901)]
    listing = Listing(
        ["a", "b", "c", "d"],
        {"train": train},
        test_fraction=0.2,
        demands=STRICT,
        why={"d": "20 x link to nothing"},
    )
    with pytest.raises(DataError) as caught:
        without_small_classes(listing)
    assert "2 of 4 classes have fewer than 3 different images" in caught.value.what
    assert "c (2), d (0; left out: 20 x link to nothing)" in caught.value.what
    assert "data.options.small_classes: leave_out" in caught.value.fix
    found = without_small_classes(replace(listing, demands=LENIENT))
    assert found.classes == ["a", "b"] and len(found.splits["train"]) == 40
    assert [(entry.place, entry.count) for entry in found.left_out] == [("c", 2), ("d", 0)]
    assert without_small_classes(replace(listing, demands=None)).classes == ["a", "b", "c", "d"]


def test_copies_do_not_make_a_class_large() -> None:
    """Protects: one picture ten times cannot be in three splits; labels follow the classes that stay."""
    train = [
        *(_sample(f"a/{i}", 0, 7) for i in range(10)),
        *(_sample(f"x/{i}", 1 + i % 2, i + 50) for i in range(40)),
    ]
    listing = Listing(["a", "b", "c"], {"train": train}, test_fraction=0.2, demands=STRICT)
    with pytest.raises(DataError, match=r"a \(1\)"):
        _settle(listing)
    found = _settle(replace(listing, demands=LENIENT))
    assert found.listing.classes == ["b", "c"]
    assert {s.sample_id: s.label for part in found.splits.values() for s in part}["x/1"] == 1


def test_options() -> None:
    """Protects: a word that means nothing is said."""
    with pytest.raises(DataError, match="copies is 'drop'"):
        Demands.of({"small_classes": "refuse", "copies": "drop"})


def test_numbers_of_copies() -> None:
    """Protects data.json: within, across and contradictory are counted as docs say."""
    splits: dict[Any, list[Sample]] = {
        "train": [_sample("1", 0, 5), _sample("2", 0, 5), _sample("3", 1, 6)],
        "test": [_sample("4", 0, 5), _sample("5", 0, 6), _sample("6", 1, 8)],
    }
    contents = contents_of([s for part in splits.values() for s in part])
    assert find_copies(splits, contents).to_json() == {
        "within": {"train": 1, "test": 0},
        "across": {"train, test": 2},
        "contradictory": 2,
        "examples": [["1", "4"], ["3", "5"]],
    }
