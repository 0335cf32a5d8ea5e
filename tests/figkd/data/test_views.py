"""Views: the crops they promise, replayable one by one, covered evenly by the schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from figkd.data.views import Views, make_views
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


def _sorted(views: np.ndarray) -> np.ndarray:
    """Views of each sample [N, V, ...] as rows in lexical order, for comparing sets."""
    rows = views.reshape(*views.shape[:2], -1)
    return np.stack([row[np.lexsort(row.T)] for row in rows])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("store", "pad"), [(8, 1), (6, 2), (7, 1), (12, 2)])
def test_shifts_are_the_padded_crops(flip: bool, store: int, pad: int) -> None:
    """Protects the protocol: exactly the (2p+1)^2 crops of the edge-padded image, and their mirrors, once each."""
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
    np.testing.assert_array_equal(_sorted(_all(views, images).numpy()), _sorted(np.stack(crops, axis=1)))


def test_none_is_the_evaluation_view() -> None:
    """Protects: "none" is the centre crop that evaluation uses."""
    from figkd.evaluate import centre_crop

    images = _images(side=9)
    views = make_views("none", image_size=6, store_size=9, pad=3)
    assert len(views) == 1
    np.testing.assert_array_equal(_all(views, images)[:, 0].numpy(), centre_crop(images.numpy(), 6))


@pytest.mark.parametrize("kind", ["shift", "shift_flip", "random_resized_crop"])
def test_fewer_views_are_the_first_of_more(kind: str) -> None:
    """Protects `count`: a cache of many views serves students that see fewer, and K views are K different ones."""
    options = {"image_size": 6, "store_size": 8, "pad": 2, "seed": 3}
    images = _images(count=6, side=8)
    many = _all(make_views(kind, count=25, **options), images)  # type: ignore[arg-type]
    few = _all(make_views(kind, count=5, **options), images)  # type: ignore[arg-type]
    assert torch.equal(few, many[:, :5])
    assert all(len(sample.flatten(1).unique(dim=0)) == 5 for sample in few)
    assert len(make_views("shift", image_size=6, store_size=8, pad=1, count=99)) == 9


def test_the_order_of_views_is_a_seeded_one_of_each_sample() -> None:
    """Protects an epoch's variety: one number means different shifts of different samples, other ones by seed."""
    ramp = torch.arange(64, dtype=torch.uint8).view(1, 8, 8, 1).expand(60, 8, 8, 3).contiguous()
    ids, samples = torch.zeros(60, dtype=torch.int64), torch.arange(60)
    corners = []
    for seed in (0, 1):
        views = make_views("shift", image_size=6, store_size=8, pad=2, seed=seed)
        corners.append(views.apply(ramp, ids, samples)[:, 3, 3, 0])
        assert corners[-1].unique().numel() > 10
    assert not torch.equal(*corners)


@pytest.mark.parametrize("kind", ["none", "shift_flip", "random_resized_crop"])
def test_places_may_be_made_for_a_whole_epoch(kind: str) -> None:
    """Protects a training loop that places an epoch's views at once and cuts them batch by batch."""
    images = _images(count=12)
    views = make_views(kind, image_size=6, store_size=8, pad=1, count=4, seed=3)  # type: ignore[arg-type]
    ids, samples = views.schedule(1, 12), torch.arange(12)
    places = views.place(ids, samples)
    batch = torch.tensor([7, 2, 11])
    assert torch.equal(
        views.cut(images[batch], places[batch]), views.apply(images[batch], ids[batch], samples[batch])
    )


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
    """Protects the schedule: V epochs show a sample all V views; epochs need no history, and share a view number."""
    for count in (1, 7, 25):
        views = make_views("random_resized_crop", image_size=6, store_size=8, count=count)
        ids = torch.stack([views.schedule(epoch, 50) for epoch in range(2 * count)])
        assert bool((ids[:count].sort(dim=0).values == torch.arange(count)[:, None]).all())
        assert torch.equal(ids[:count], ids[count:])
        assert bool((ids == ids[:, :1]).all())


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
