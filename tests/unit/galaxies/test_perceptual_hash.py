"""Perceptual hashes: altered copies stay close.

Other galaxies and drawn pictures do not.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from raydistill.galaxies.pictures.images import prepare
from raydistill.galaxies.pictures.perceptual_hash import BITS, BYTES, MAX_DISTANCE, MIN_SIZE, perceptual_hashes


def galaxy(seed: int, size: int = 424) -> Image.Image:
    """Return an elliptical galaxy in the middle, with three neighbours, on noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    light = 180 * np.exp(-((x / 0.1) ** 2) - (y / 0.08) ** 2)
    for _ in range(3):
        cx, cy = rng.uniform(-0.4, 0.4, 2)
        light += rng.uniform(30, 120) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.001)
    noise = rng.normal(10, 12, (size, size, 3))
    return Image.fromarray(np.clip(light[..., None] * [1, 0.8, 0.6] + noise, 0, 255).astype(np.uint8))


def perceptual_hash(pixels: np.ndarray) -> bytes | None:
    return perceptual_hashes(pixels[None])[0]


def hash_of(picture: Image.Image, size: int = 32) -> bytes:
    result = perceptual_hash(prepare(np.asarray(picture), 1.0, size))
    assert result is not None
    assert len(result) == BYTES
    return result


def distance(a: bytes, b: bytes) -> int:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def jpeg(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=70)
    return Image.open(buffer)


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize(
    "alter",
    [
        jpeg,
        lambda picture: ImageEnhance.Brightness(picture).enhance(0.9),
        lambda picture: ImageEnhance.Brightness(picture).enhance(1.1),
        lambda picture: picture.resize((432, 432), Image.Resampling.LANCZOS),
        lambda picture: Image.fromarray(np.roll(np.asarray(picture), 1, axis=1)),
        lambda picture: picture.convert("L").convert("RGB"),
    ],
    ids=["compressed", "darker", "brighter", "resized", "shifted", "grey"],
)
def test_altered_copy_is_close(alter, size):
    for seed in range(5):
        original = galaxy(seed)
        assert distance(hash_of(original, size), hash_of(alter(original), size)) <= MAX_DISTANCE


def test_other_galaxies_are_far():
    hashes = [hash_of(galaxy(seed, 106)) for seed in range(40)]
    closest = min(distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i])
    assert closest > 3 * MAX_DISTANCE


def test_mirrored_picture_is_another_picture():
    original = galaxy(0)
    mirrored = original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert distance(hash_of(original), hash_of(mirrored)) > BITS / 4


@pytest.mark.parametrize("level", [0, 7, 255])
def test_flat_picture_has_no_hash(level):
    assert perceptual_hash(np.full((32, 32, 3), level, np.uint8)) is None


@pytest.mark.parametrize("width", [0.01, 0.05, 0.3])
def test_symmetric_drawing_has_no_hash(width):
    y, x = np.mgrid[:32, :32] / 31 - 0.5
    drawn = np.rint(255 * np.exp(-(x**2 + y**2) / width)).astype(np.uint8)
    assert perceptual_hash(np.repeat(drawn[..., None], 3, axis=2)) is None


def test_small_picture_has_no_hash():
    noise = np.random.default_rng(0).integers(0, 256, (MIN_SIZE, MIN_SIZE, 3), dtype=np.uint8)
    assert perceptual_hash(noise) is not None
    assert perceptual_hash(noise[1:, 1:]) is None


@pytest.mark.parametrize("size", [16, 40, 200])
def test_hash_does_not_depend_on_the_other_pictures(size):
    pictures = np.random.default_rng(0).integers(0, 256, (90, size, size, 3), dtype=np.uint8)
    pictures[[3, 50]] = 7
    together = perceptual_hashes(pictures)
    assert together == [perceptual_hash(picture) for picture in pictures]
    assert together == perceptual_hashes(np.asfortranarray(pictures))
    assert [n for n, value in enumerate(together) if value is None] == [3, 50]


@pytest.mark.parametrize("size", [16, 32, 64, 300])
def test_sums_are_exact(size):
    """Whole numbers held exactly as floats sum to the same bits in any order."""
    from raydistill.galaxies.pictures.perceptual_hash import _basis

    cosines, chosen = _basis(size)
    largest = 3 * 255 * np.abs(cosines).sum(axis=1).max()
    assert largest < 2**24, "float32 rounds"
    assert largest * np.abs(cosines).sum(axis=1).max() < 2**53, "float64 rounds"
    assert np.array_equal(cosines, np.rint(cosines))
    assert len(set(chosen.tolist())) == BITS
