"""Spaces: normalised states, exact inverses, and noise that stays standard normal."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raydistill.diffusion.model import to_pixels, to_tensors
from raydistill.diffusion.options import ComponentSpace, PixelSpace
from raydistill.diffusion.processes import SIGMA_DATA
from raydistill.seeding import generator

SHAPE = (3, 6, 6)


def images(n: int, rank: int = 8) -> torch.Tensor:
    """Return images [n, 3, 6, 6] in a space of `rank` dimensions around a mean image."""
    g = generator(0, "images", n)
    factors, mean = torch.randn(rank, 108, generator=generator(0, "axes")), torch.randn(108, generator=generator(0))
    scales = torch.logspace(0, -1, rank)
    return (0.1 * torch.randn(n, rank, generator=g) * scales @ factors + 0.1 * mean).view(n, *SHAPE)


def test_pixels_survive_the_conversion_to_tensors_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    tensors = to_tensors(pixels)
    assert tensors.shape == (1, 3, 16, 16)
    assert (float(tensors.min()), float(tensors.max())) == (-1, 1)
    np.testing.assert_array_equal(to_pixels(tensors), pixels)
    np.testing.assert_array_equal(to_pixels(torch.tensor([-9.0, 9.0]).view(1, 1, 1, 2))[0, 0, :, 0], [0, 255])


def test_pixel_states_have_mean_zero_and_the_assumed_deviation() -> None:
    space = PixelSpace().module(SHAPE)
    data = images(200) + torch.tensor([0.3, 0.0, -0.2]).view(3, 1, 1)
    space.fit(data)
    states = space.encode(data)
    torch.testing.assert_close(states.mean(dim=(0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    assert float(states.square().mean().sqrt()) == pytest.approx(SIGMA_DATA, rel=1e-4)
    torch.testing.assert_close(space.decode(states), data)
    clipped = space.decode(space.clip(space.encode(torch.full((1, *SHAPE), 3.0))))
    torch.testing.assert_close(clipped, torch.ones(1, *SHAPE))


def test_equal_images_leave_the_pixel_scale_finite() -> None:
    space = PixelSpace().module(SHAPE)
    space.fit(torch.full((4, *SHAPE), 0.25))
    torch.testing.assert_close(space.encode(torch.full((1, *SHAPE), 0.25)), torch.zeros(1, *SHAPE))


def test_components_are_white_and_reproduce_images_of_low_rank() -> None:
    space = ComponentSpace(components=8).module(SHAPE)
    data = images(400)
    space.fit(data)
    states = space.encode(data)
    covariance = states.T @ states / len(states)
    torch.testing.assert_close(covariance, SIGMA_DATA**2 * torch.eye(8), rtol=0, atol=1e-4)
    torch.testing.assert_close(space.decode(states), data, rtol=0, atol=1e-4)


def test_components_equal_those_of_an_exact_decomposition() -> None:
    space = ComponentSpace(components=3).module(SHAPE)
    data = images(400, rank=30)
    space.fit(data)
    flat = (data - data.mean(dim=0)).flatten(1)
    _, singular, axes = torch.linalg.svd(flat, full_matrices=False)
    torch.testing.assert_close(space.std, singular[:3] / 20, rtol=1e-4, atol=0)
    torch.testing.assert_close((space.axes @ axes[:3].T).abs(), torch.eye(3), rtol=0, atol=1e-2)


def test_noise_of_components_is_standard_normal() -> None:
    space = ComponentSpace(components=6).module(SHAPE)
    space.fit(images(50))
    noise = space.encode_noise(torch.randn(20_000, *SHAPE, generator=generator(0, "noise")))
    torch.testing.assert_close(noise.T @ noise / 20_000, torch.eye(6), rtol=0, atol=0.05)


def test_components_beyond_the_rank_stay_zero() -> None:
    space = ComponentSpace(components=32).module(SHAPE)
    data = images(5)
    space.fit(data)
    states = space.encode(data)
    assert int((states.abs().amax(dim=0) > 1e-3).sum()) == 4  # five images span four dimensions around their mean
    assert bool(torch.isfinite(states).all())
    torch.testing.assert_close(space.decode(states), data, rtol=0, atol=1e-4)
