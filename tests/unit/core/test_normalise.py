"""From pixels to what networks see, and back."""

from __future__ import annotations

import torch

from raydistill.core.normalise import Normalisation, one_hot
from raydistill.seeding import generator


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=generator(0), dtype=torch.uint8)


def statistics(images_NHWC: torch.Tensor) -> Normalisation:
    flat = images_NHWC.reshape(-1, 3).double() / 255
    return Normalisation(tuple(flat.mean(dim=0).tolist()), tuple(flat.std(dim=0, correction=0).tolist()))


def test_normalised_training_images_have_mean_zero_and_deviation_one() -> None:
    images = pixels(9, 8, 8, 3)
    out = statistics(images).apply(images).double()
    torch.testing.assert_close(out.mean(dim=(0, 2, 3)), torch.zeros(3).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(out.std(dim=(0, 2, 3), correction=0), torch.ones(3).double(), rtol=1e-6, atol=0)


def test_invert_undoes_apply() -> None:
    images = pixels(4, 6, 5, 3)
    normalisation = statistics(pixels(20, 4, 4, 3) // 3)  # of other images
    back = normalisation.invert(normalisation.apply(images))
    torch.testing.assert_close(back, images / 255, rtol=0, atol=1e-6)
    assert torch.equal((back * 255).round().to(torch.uint8), images)


def test_rows_stay_rows_and_channels_go_first() -> None:
    images = torch.zeros(1, 4, 5, 3, dtype=torch.uint8)
    images[0, 1, 2, 0] = 255  # row 1, column 2, red
    out = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).apply(images)
    assert out.shape == (1, 3, 4, 5)
    assert out.nonzero().tolist() == [[0, 0, 1, 2]]
    assert out.dtype == torch.float32
    assert out.is_contiguous()


def test_pictures_are_clipped_to_what_a_screen_shows() -> None:
    wild = torch.tensor([-50.0, 0.0, 50.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    picture = Normalisation((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)).invert(wild)
    assert picture.view(3, -1).unique(dim=1).flatten().tolist() == [0.0, 0.5, 1.0]


def test_one_hot_rows() -> None:
    assert one_hot(torch.tensor([2, 0]), 4).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert one_hot(torch.tensor([], dtype=torch.long), 4).shape == (0, 4)
