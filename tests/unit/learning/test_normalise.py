"""Normalisation and whitening map pixels to network inputs and back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from raydistill.learning.normalise import BLOCK, Normalisation, PixelSums, Whitening, one_hot, zca
from raydistill.seeding import generator


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=generator(0), dtype=torch.uint8)


def statistics(images_NHWC: torch.Tensor) -> Normalisation:
    flat_NC = images_NHWC.reshape(-1, 3).double() / 255
    return Normalisation(tuple(flat_NC.mean(dim=0).tolist()), tuple(flat_NC.std(dim=0, correction=0).tolist()))


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


def test_rows_keep_their_order_and_channels_come_first() -> None:
    images = torch.zeros(1, 4, 5, 3, dtype=torch.uint8)
    images[0, 1, 2, 0] = 255  # row 1, column 2, red
    out = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).apply(images)
    assert out.shape == (1, 3, 4, 5)
    assert out.nonzero().tolist() == [[0, 0, 1, 2]]
    assert out.dtype == torch.float32
    assert out.is_contiguous()


def test_values_outside_the_display_range_are_kept() -> None:
    wild = torch.tensor([-50.0, 0.0, 50.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    picture = Normalisation((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)).invert(wild)
    torch.testing.assert_close(picture.reshape(3, -1), torch.tensor([[-9.5], [0.5], [10.5]]).expand(3, 12))


# ---- whitening ----

EPS = 0.1


def correlated(count: int, height: int = 6, width: int = 5) -> torch.Tensor:
    """uint8 [N, H, W, 3]: smooth in space and alike in colour, as pictures are."""
    noise = torch.randn(count, 1, height + 2, width + 2, generator=generator(3))
    smooth = torch.nn.functional.avg_pool2d(noise, 3, stride=1).permute(0, 2, 3, 1)
    colour = 0.05 * torch.randn(count, height, width, 3, generator=generator(4))
    return (255 * (0.4 + 0.5 * smooth + colour)).clamp(0, 255).to(torch.uint8)


def flat(images_NHWC: torch.Tensor) -> torch.Tensor:
    """float64 [N, D], white is 1, in the order of [C, H, W]."""
    return images_NHWC.permute(0, 3, 1, 2).reshape(len(images_NHWC), -1).double() / 255


def whitening_of(images_NHWC: torch.Tensor, eps: float = EPS) -> Whitening:
    sums = PixelSums(images_NHWC[0].numel())
    sums.add(images_NHWC)
    return sums.whitening(eps)


def kornia(images_NCHW: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the result of kornia's `zca_mean`.

    The call is `zca_mean(images, unbiased=True, eps=eps, return_inverse=True)`.
    """
    x_ND = images_NCHW.reshape(len(images_NCHW), -1)
    mean_D = x_ND.mean(dim=0)
    covariance_DD = (x_ND - mean_D).T @ (x_ND - mean_D) / (len(x_ND) - 1)
    u_DD, s_D, _ = torch.linalg.svd(covariance_DD)
    return u_DD @ ((s_D + eps).rsqrt()[:, None] * u_DD.T), mean_D, u_DD @ ((s_D + eps).sqrt()[:, None] * u_DD.T)


def test_sums_give_mean_and_covariance_of_the_images() -> None:
    images = correlated(300)
    sums = PixelSums(90)
    sums.add(images)
    torch.testing.assert_close(sums.mean(), flat(images).mean(dim=0), rtol=1e-13, atol=0)
    torch.testing.assert_close(sums.covariance(), torch.cov(flat(images).T), rtol=0, atol=1e-15)


def test_whitened_training_images_have_the_covariance_that_eps_leaves() -> None:
    """(Σ + εI)^(-1/2) Σ (Σ + εI)^(-1/2) = (Σ + εI)^(-1) Σ, for the factors commute."""
    images = flat(correlated(400))
    covariance = torch.cov(images.T)
    forward, _ = zca(covariance, EPS)
    left = torch.cov(((images - images.mean(dim=0)) @ forward).T)
    expected = torch.linalg.solve(covariance + EPS * torch.eye(90).double(), covariance)
    torch.testing.assert_close(left, expected, rtol=0, atol=1e-12)
    assert not torch.allclose(covariance, expected, atol=0.1)


def test_small_eps_leaves_no_correlation() -> None:
    images = flat(correlated(400))
    forward, _ = zca(torch.cov(images.T), 1e-12)
    torch.testing.assert_close(torch.cov((images @ forward).T), torch.eye(90).double(), rtol=0, atol=1e-6)


def test_inverse_is_exact_with_fewer_images_than_pixels() -> None:
    for count in (400, 20, 1):
        sums = PixelSums(90)
        sums.add(correlated(count))
        forward, inverse = zca(sums.covariance(), EPS)
        torch.testing.assert_close(forward @ inverse, torch.eye(90).double(), rtol=0, atol=1e-12)


def test_invert_undoes_a_whitening() -> None:
    images = pixels(BLOCK + 7, 6, 5, 3)  # of other images, and of more than are whitened at a time
    whitening = whitening_of(correlated(400))
    torch.testing.assert_close(whitening.invert(whitening.apply(images)), images / 255, rtol=0, atol=1e-6)


def test_whitening_agrees_with_kornia_s_formula() -> None:
    images = correlated(60)
    forward, mean, inverse = kornia(images.permute(0, 3, 1, 2).double() / 255, EPS)
    ours = whitening_of(images)
    others = pixels(9, 6, 5, 3)
    white = ((flat(others) - mean) @ forward).reshape(9, 3, 6, 5)
    torch.testing.assert_close(ours.apply(others).double(), white, rtol=0, atol=2e-6)
    back = (white.flatten(1) @ inverse + mean).reshape(9, 3, 6, 5).permute(0, 2, 3, 1)
    torch.testing.assert_close(ours.invert(white.float()).double(), back, rtol=0, atol=1e-6)


def test_order_and_batches_of_the_images_keep_the_bits() -> None:
    images = correlated(200)
    sums = PixelSums(90)
    for batch in images[torch.randperm(200, generator=generator(5))].split(37):
        sums.add(batch)
    assert sums.whitening(EPS).digest == whitening_of(images).digest
    assert whitening_of(images[1:]).digest != whitening_of(images).digest
    assert whitening_of(images, 0.2).digest != whitening_of(images).digest


def test_mean_image_maps_to_zero_and_back() -> None:
    images = correlated(50)
    whitening = whitening_of(images)
    torch.testing.assert_close(whitening.apply(images).mean(dim=0), torch.zeros(3, 6, 5), rtol=0, atol=1e-6)
    picture = whitening.invert(torch.zeros(1, 3, 6, 5))
    torch.testing.assert_close(picture[0], images.double().mean(dim=0).float() / 255, rtol=0, atol=1e-6)
    assert whitening.invert(torch.full((1, 3, 6, 5), 100.0)).max() > 1


def test_whitening_of_no_images_is_empty() -> None:
    assert whitening_of(correlated(50)).apply(pixels(0, 6, 5, 3)).shape == (0, 3, 6, 5)


def test_digest_depends_on_the_values() -> None:
    same = [Normalisation((0.1, 0.2, 0.3), (1.0, 1.0, 1.0)).digest for _ in range(2)]
    assert same[0] == same[1] != Normalisation((0.1, 0.2, 0.3), (1.0, 1.0, 2.0)).digest


@pytest.fixture(scope="module")
def cifar(data_root: Path) -> torch.Tensor:
    """The central 16 px of 1,100 pictures of CIFAR-10."""
    pngs = pq.read_table(data_root / "cifar10_lossless_sample.parquet", columns=["png"])["png"].to_pylist()
    pictures = [np.asarray(Image.open(io.BytesIO(png)))[8:24, 8:24] for png in pngs]
    return torch.from_numpy(np.stack(pictures))


def neighbours(images_NCHW: torch.Tensor) -> float:
    """Return the correlation of pixels with their right neighbours."""
    pairs = torch.stack([images_NCHW[..., :-1].flatten(), images_NCHW[..., 1:].flatten()])
    return float(torch.corrcoef(pairs)[0, 1])


def test_whitening_of_real_pictures_can_be_inverted(cifar: torch.Tensor) -> None:
    fitted, others = cifar[:800], cifar[800:]
    whitening = whitening_of(fitted)
    white = whitening.apply(others)
    torch.testing.assert_close(whitening.invert(white), others / 255, rtol=0, atol=1e-6)
    forward, mean, _ = kornia(fitted.permute(0, 3, 1, 2).double() / 255, EPS)
    torch.testing.assert_close(white.flatten(1).double(), (flat(others) - mean) @ forward, rtol=0, atol=2e-6)
    assert neighbours(others.permute(0, 3, 1, 2) / 255) > 0.9
    assert neighbours(white) < 0.7, "measured .62: most directions vary by less than the eps of the papers"


def test_one_hot_rows() -> None:
    assert one_hot(torch.tensor([2, 0]), 4).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert one_hot(torch.tensor([], dtype=torch.long), 4).shape == (0, 4)
