"""Order of training images: each once an epoch, in windows that fit into memory."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raydistill.diffusion.order import ImageOrder

SIZES = st.lists(st.integers(0, 7), min_size=1, max_size=8).filter(any).map(tuple)


@given(SIZES, st.integers(1, 30), st.integers(1, 9))
def test_every_image_is_used_once_an_epoch(sizes: tuple[int, ...], window: int, batch_size: int) -> None:
    order = ImageOrder(sizes, window, seed=3)
    drawn = torch.cat([order.batch(step, batch_size) for step in range(3 * order.num_images // batch_size + 1)])
    for epoch in range(2):
        rows = drawn[epoch * order.num_images : (epoch + 1) * order.num_images]
        assert rows.sort().values.tolist() == list(range(order.num_images))


@given(SIZES, st.integers(1, 30), st.integers(0, 60), st.integers(1, 60))
def test_windows_cover_the_positions_and_stay_small(
    sizes: tuple[int, ...], window: int, first: int, count: int
) -> None:
    order = ImageOrder(sizes, window, seed=3)
    windows = list(order.windows(first, first + count))
    assert windows[0].first <= first
    assert windows[-1].first + len(windows[-1].rows_N) >= first + count
    for earlier, following in pairwise(windows):
        assert following.first == earlier.first + len(earlier.rows_N)
    for part in windows:
        assert part.rows_N.sort().values.tolist() == list(range(sum(sizes[group] for group in part.groups)))
        assert len(part.rows_N) <= window or sum(sizes[group] > 0 for group in part.groups) == 1


def test_seed_and_epoch_change_the_order() -> None:
    batch = ImageOrder((60, 40), 70, seed=0).batch
    assert not torch.equal(batch(0, 100), batch(1, 100))
    assert not torch.equal(batch(0, 100), ImageOrder((60, 40), 70, seed=1).batch(0, 100))
    assert batch(0, 250).shape == (250,)


def test_no_images_are_rejected() -> None:
    with pytest.raises(ValueError, match="at least one training image"):
        ImageOrder((0, 0), 10, seed=0)
