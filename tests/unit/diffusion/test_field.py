"""One large picture from a grid of conditions."""

from __future__ import annotations

import pytest
import torch

from raydistill.diffusion.conditions import Conditions
from raydistill.diffusion.field import field_size, sample_field
from raydistill.diffusion.options import Sampling
from raydistill.diffusion.sampling import sample
from raydistill.seeding import generator as seeded
from tests.unit.diffusion.test_model import LAYOUT, build, randomise

SAMPLING = Sampling(steps=3)


def classes(*numbers: int) -> Conditions:
    return Conditions.of(LAYOUT, len(numbers), **{"class": torch.eye(2)[list(numbers)]})


def noise(rows: int, columns: int, overlap: int) -> torch.Tensor:
    shape = (3, field_size(8, rows, overlap), field_size(8, columns, overlap))
    return torch.randn(shape, generator=seeded(0, "noise"))


def test_tiles_without_overlap_are_separate_samples() -> None:
    generator, start = randomise(build("flow")), noise(2, 3, 0)
    field = sample_field(generator, classes(0, 1, 0, 1, 1, 0), start, 3, 0, SAMPLING)
    tiles = start.unfold(1, 8, 8).unfold(2, 8, 8).permute(1, 2, 0, 3, 4).reshape(6, 3, 8, 8)
    expected = sample(generator, classes(0, 1, 0, 1, 1, 0), tiles, SAMPLING)
    found = field.unfold(1, 8, 8).unfold(2, 8, 8).permute(1, 2, 0, 3, 4).reshape(6, 3, 8, 8)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_overlaps_change_nothing_where_estimates_agree() -> None:
    """A last layer of 0 estimates every pixel from itself alone, so all tiles agree."""
    generator, start = build("flow"), noise(2, 2, 3)
    assert not generator.denoise(torch.zeros(1, 3, 8, 8), torch.tensor([0.5]), classes(0)).any()
    field = sample_field(generator, classes(0, 1, 1, 0), start, 2, 3, SAMPLING)
    tiles = torch.stack([start[:, y : y + 8, x : x + 8] for y in (0, 5) for x in (0, 5)])
    expected = sample(generator, classes(0, 1, 1, 0), tiles, SAMPLING)
    found = torch.stack([field[:, y : y + 8, x : x + 8] for y in (0, 5) for x in (0, 5)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_said() -> None:
    generator = build("flow")
    with pytest.raises(ValueError, match=r"the noise must have the shape \[3, 12, 12\], got \[3, 8, 8\]"):
        sample_field(generator, classes(0, 1, 1, 0), noise(1, 1, 0), 2, 4)
    with pytest.raises(ValueError, match="3 tiles of 8 pixels give no rows of 2 with 4 shared pixels"):
        sample_field(generator, classes(0, 1, 1), noise(2, 2, 4), 2, 4)
    with pytest.raises(ValueError, match="needs a generator that computes with pixels"):
        sample_field(build("components"), classes(0), noise(1, 1, 0), 1, 0)
