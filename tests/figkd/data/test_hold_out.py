"""The law of the splits: an image is held out for its content, so growing data keep their test set."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from figkd.data.hold_out import hold_out
from figkd.errors import DataError

Images = list[tuple[str, int]]
"""Content and label."""

IMAGES = st.lists(st.tuples(st.integers(0, 200).map(str), st.integers(0, 4)), max_size=80).map(
    lambda found: sorted({content: (content, label) for content, label in found}.values())
)
FRACTIONS = st.floats(0.02, 0.6)


def _held(images: Images, fraction: float, seed: int = 0, leave: int = 1) -> dict[str, bool]:
    chosen = hold_out(
        [c for c, _ in images], [label for _, label in images], fraction, seed=seed, salt="test", leave=leave
    )
    return {content: out for (content, _), out in zip(images, chosen, strict=True)}


def _free(images: Images, fraction: float, seed: int, leave: int = 1) -> set[int]:
    """Classes in which the hash alone decides: some lie below the fraction, and enough do not."""
    alone = {}
    for content, label in images:
        # One content in a class of its own with enough that remain: what the hash says of it.
        padded = [(content, 0), *((f"{content}/{i}", 1) for i in range(200))]
        chosen = hold_out([c for c, _ in padded], [1] * len(padded), fraction, seed=seed, salt="test")
        alone.setdefault(label, []).append(chosen[0])
    return {label for label, held in alone.items() if any(held) and held.count(False) >= leave}


@settings(max_examples=60, deadline=None)
@given(IMAGES, IMAGES, FRACTIONS, st.integers(0, 50))
def test_adding_images_or_classes_moves_none(old: Images, new: Images, fraction: float, seed: int) -> None:
    """Protects comparisons of two data versions: whatever comes, an old image stays on its side."""
    labels = dict(old)
    grown = sorted(
        {**{c: (c, label + 3) for c, label in new}, **{c: (c, label) for c, label in old}}.values()
    )
    assert dict(grown).items() >= labels.items()
    free = _free(old, fraction, seed)
    before, after = _held(old, fraction, seed), _held(grown, fraction, seed)
    assert all(before[content] == after[content] for content, label in old if label in free)


@settings(max_examples=60, deadline=None)
@given(IMAGES, FRACTIONS, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(images: Images, fraction: float, random: Random) -> None:
    """Protects against file systems that list in another order."""
    shuffled = list(images)
    random.shuffle(shuffled)
    assert _held(images, fraction) == _held(shuffled, fraction)


@settings(max_examples=60, deadline=None)
@given(IMAGES, FRACTIONS, st.integers(1, 2), st.integers(0, 50))
def test_every_class_is_on_both_sides(images: Images, fraction: float, leave: int, seed: int) -> None:
    """Protects small classes: one is held out where enough remain, and `leave` contents remain."""
    held = _held(images, fraction, seed, leave)
    for label in {label for _, label in images}:
        outs = [held[content] for content, other in images if other == label]
        if len(outs) > leave:
            assert any(outs) and outs.count(False) >= leave
        else:
            assert not any(outs)


@settings(max_examples=30, deadline=None)
@given(IMAGES, FRACTIONS)
def test_removing_an_image_moves_none(images: Images, fraction: float) -> None:
    """Protects cleaning up: without one image the others stay, in classes that still have both sides."""
    held = _held(images, fraction)
    for gone in images[:5]:
        fewer = [image for image in images if image != gone]
        free = _free(fewer, fraction, 0)
        after = _held(fewer, fraction)
        assert all(held[c] == after[c] for c, label in fewer if label in free)


@pytest.mark.parametrize(
    "copy", [lambda images: images + images, lambda images: images + [(c, (n + 1) % 3) for c, n in images]]
)
def test_copies_stay_together(copy: Callable[[Images], Images]) -> None:
    """Protects the test score: what is held out has no copy that is trained on, whatever its label."""
    images = copy([(str(i), i % 3) for i in range(60)])
    chosen = hold_out([c for c, _ in images], [n for _, n in images], 0.3, seed=0, salt="test")
    sides: dict[str, set[bool]] = {}
    for (content, _), out in zip(images, chosen, strict=True):
        sides.setdefault(content, set()).add(out)
    assert all(len(side) == 1 for side in sides.values())


def test_seed_salt_and_share() -> None:
    """Protects: another seed or salt is another, independent choice; the share is the fraction."""
    contents, labels = [str(i) for i in range(4000)], [0] * 4000
    choices = [
        hold_out(contents, labels, 0.2, seed=seed, salt=salt)
        for seed, salt in ((0, "test"), (1, "test"), (0, "val"))
    ]
    for chosen in choices:
        assert abs(sum(chosen) - 800) < 130  # five standard deviations
    for other in choices[1:]:
        assert abs(sum(a and b for a, b in zip(choices[0], other, strict=True)) - 160) < 65
    assert not any(hold_out(contents, labels, 0, seed=0, salt="test"))
    for fraction in (-0.1, 1.0):
        with pytest.raises(DataError, match="split fraction"):
            hold_out(contents, labels, fraction, seed=0, salt="test")


@given(
    shown=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), min_size=1, max_size=60),
    fraction=st.sampled_from([0.05, 0.2, 0.5, 0.9]),
    leave=st.integers(1, 3),
    seed=st.integers(0, 50),
)
def test_every_class_keeps_what_it_must_though_it_shares_images_with_others(
    shown: list[tuple[int, int]], fraction: float, leave: int, seed: int
) -> None:
    """A few images under several labels are tolerated; they leave no class without training images."""
    contents, labels = [f"{content}" for content, _ in shown], [label for _, label in shown]
    held = hold_out(contents, labels, fraction, seed=seed, salt="test", leave=leave)
    side = dict(zip(contents, held, strict=True))
    assert [side[content] for content in contents] == held  # copies stay together
    for label in set(labels):
        own = {content for content, of in zip(contents, labels, strict=True) if of == label}
        assert sum(not side[content] for content in own) >= min(leave, len(own))
