"""Test the map of pixel values between two surveys."""

from __future__ import annotations

import numpy as np
import torch

from raydistill.statistics.quantiles import QuantileMap


def pictures(count: int, seed: int) -> torch.Tensor:
    """Return pictures with many dark pixels, as those of galaxies have."""
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.gamma(2.0, [10.0, 14.0, 8.0], (count, 16, 16, 3)).clip(0, 255).astype(np.uint8))


def test_equal_pictures_stay_as_they_are():
    images = pictures(30, 0)
    assert QuantileMap.between(images, images).apply(images).equal(images)
    twice = torch.cat([images, images])  # the same shares of each value
    assert QuantileMap.between(images, twice).apply(images).equal(images)


def test_it_undoes_another_stretch():
    source, target = pictures(300, 0), pictures(300, 1)
    stretched = (255 * (target / 255.0).sqrt()).round().to(torch.uint8)
    mapped = QuantileMap.between(stretched, source).apply(stretched)
    assert (stretched.float() - target.float()).abs().mean() > 20
    assert (mapped.float() - target.float()).abs().mean() < 0.5


def test_it_is_monotonic_and_treats_each_channel_alone():
    images, reference = pictures(20, 2), pictures(20, 3) // 2 + 5
    table = QuantileMap.between(images, reference).table_LC
    assert table.dtype == torch.uint8
    assert (table[1:].int() >= table[:-1].int()).all()
    red = QuantileMap.between(images[..., :1], reference[..., :1]).table_LC
    assert red[:, 0].equal(table[:, 0])


def test_values_beyond_those_of_the_reference_get_its_ends():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    reference = torch.full((1, 4, 4, 1), 7, dtype=torch.uint8)
    reference[0, 0, 0, 0] = 200
    mapped = QuantileMap.between(images, reference).apply(images)
    assert (mapped.min(), mapped.max()) == (7, 200)
