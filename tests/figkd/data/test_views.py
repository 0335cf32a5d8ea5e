"""Views: the crops they promise, replayable one by one, covered evenly by the schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from figkd.data.views import Views, make_views, schedule
from figkd.errors import FigkdError


def _images(count: int = 4, side: int = 8) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def _all(views: Views, images: torch.Tensor) -> torch.Tensor:
    """Every view of every image: [N, V, h, w, 3]."""
    count = len(views)
    ids = torch.arange(count).repeat(len(images))
    samples = torch.arange(len(images)).repeat_interleave(count)
    return views.apply(images.repeat_interleave(count, 0), ids, samples).unflatten(0, (len(images), count))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("store", "pad"), [(8, 1), (6, 2), (7, 1), (12, 2)])
def test_shifts_are_the_padded_crops(flip: bool, store: int, pad: int) -> None:
    """Protects the protocol: exactly the (2p+1)^2 crops of the edge-padded image, then their mirrors."""
    size, images = 6, _images(side=store)
    views = make_views("shift_flip" if flip else "shift", image_size=size, store_size=store, pad=pad)
    padded = np.pad(images.numpy(), ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    corner = (store - size) // 2
    crops = [
        padded[:, corner + y : corner + y + size, corner + x : corner + x + size]
        for y in range(2 * pad + 1)
        for x in range(2 * pad + 1)
    ]
    if flip:
        crops += [crop[:, :, ::-1] for crop in crops]
    assert len(views) == len(crops)
    np.testing.assert_array_equal(_all(views, images).numpy(), np.stack(crops, axis=1))


def test_none_is_the_evaluation_view() -> None:
    """Protects: "none" is the centre crop that evaluation uses."""
    from figkd.evaluate import centre_crop

    images = _images(side=9)
    views = make_views("none", image_size=6, store_size=9, pad=3)
    assert len(views) == 1
    np.testing.assert_array_equal(_all(views, images)[:, 0].numpy(), centre_crop(images.numpy(), 6))


def test_a_subset_is_made_of_distinct_views_of_the_full_set() -> None:
    """Protects `count`: K different views of each sample, other ones of other samples, seeded."""
    images = _images(count=6, side=8)
    full = make_views("shift", image_size=6, store_size=8, pad=2)
    chosen = []
    for seed in (0, 1):
        few = _all(make_views("shift", image_size=6, store_size=8, pad=2, count=5, seed=seed), images)
        all_views = _all(full, images)
        which = (few[:, :, None] == all_views[:, None]).flatten(3).all(3)
        assert bool((which.sum(2) == 1).all())
        ids = which.int().argmax(2)
        assert all(len(set(row.tolist())) == 5 for row in ids)
        assert len({tuple(row.tolist()) for row in ids}) > 1
        chosen.append(ids)
    assert not torch.equal(*chosen)
    assert len(make_views("shift", image_size=6, store_size=8, pad=1, count=99)) == 9


@pytest.mark.parametrize("kind", ["shift_flip", "random_resized_crop"])
def test_a_view_depends_on_its_ids_alone(kind: str) -> None:
    """Protects the logit cache: a view is the same in any batch, at any position."""
    images = _images(count=5)
    views = make_views(kind, image_size=6, store_size=8, pad=1, count=4, seed=3)  # type: ignore[arg-type]
    together = _all(views, images)
    alone = views.apply(images[3:4], torch.tensor([2]), torch.tensor([3]))
    assert torch.equal(alone[0], together[3, 2])


def test_resized_crops() -> None:
    """Protects random_resized_crop: flat images stay, slopes keep their range, views differ, flips occur."""
    views = make_views("random_resized_crop", image_size=16, store_size=24, count=64, seed=1)
    flat = torch.full((1, 24, 24, 3), 77, dtype=torch.uint8)
    assert bool((_all(views, flat) == 77).all())
    ramp = (
        torch.arange(0, 240, 10, dtype=torch.uint8)
        .expand(1, 24, 24)[..., None]
        .expand(1, 24, 24, 3)
        .contiguous()
    )
    crops = _all(views, ramp)[0].float()
    assert crops.shape == (64, 16, 16, 3)
    slopes = crops[:, 8, -1, 0] - crops[:, 8, 0, 0]
    mirrored = int((slopes < 0).sum())
    assert 16 < mirrored < 48
    # 16 of 24 px at a quarter of the area is a slope of about half of the whole, times sqrt of the ratio
    assert 0.4 * 230 < float(slopes.abs().min()) < float(slopes.abs().max()) <= 230
    assert crops.flatten(1).unique(dim=0).shape[0] > 60


def test_the_schedule_covers_every_view_once_a_cycle() -> None:
    """Protects the schedule: in V epochs a sample sees all V views; epochs need no history."""
    for count in (1, 7, 9, 25, 162):
        ids = torch.stack([schedule(epoch, 50, 3, n_views=count) for epoch in range(count)])
        assert bool((ids.sort(dim=0).values == torch.arange(count)[:, None]).all())
    assert torch.equal(ids[17], schedule(17, 50, 3, n_views=162))
    assert not torch.equal(ids[17], schedule(17, 50, 4, n_views=162))
    assert ids[0].unique().numel() > 20
    views = make_views("shift", image_size=6, store_size=8, pad=1, seed=5)
    assert torch.equal(views.schedule(2, 10), schedule(2, 10, 5, n_views=9))


def test_the_cycles_of_the_schedule_differ() -> None:
    """Protects against the same order of views in every cycle."""
    first = torch.stack([schedule(epoch, 30, 0, n_views=9) for epoch in range(9)])
    second = torch.stack([schedule(epoch, 30, 0, n_views=9) for epoch in range(9, 18)])
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "nosuch"}, "unknown kind of views"),
        ({"kind": "random_resized_crop"}, "need a count"),
        ({"kind": "none", "store_size": 5}, "6 px from 5 px"),
        ({"kind": "shift", "pad": -1}, "pad -1"),
        ({"kind": "shift", "count": 0}, "count 0"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, object], message: str) -> None:
    """Protects: wrong arguments raise when the views are made."""
    with pytest.raises(FigkdError, match=message):
        make_views(**{"image_size": 6, "store_size": 8, **options})  # type: ignore[arg-type]


def test_images_of_another_size_are_refused() -> None:
    """Protects: views made for one store are not applied to another."""
    views = make_views("shift", image_size=6, store_size=8, pad=1)
    with pytest.raises(FigkdError, match=r"uint8 \[B, 8, 8, 3\]"):
        views.apply(_images(side=9), torch.zeros(4, dtype=torch.int64), torch.arange(4))
