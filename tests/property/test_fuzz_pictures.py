"""Damaged pictures are rejected, or have the pixels that Pillow and astropy read."""

from __future__ import annotations

import io
from random import Random

import numpy as np
import pytest
import tifffile
from astropy.io import fits
from astropy.visualization import make_lupton_rgb
from PIL import Image, UnidentifiedImageError

from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.images import RejectedImage, decode_picture
from tests.property.fuzz import damage, fast_or_long, repeat

FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("L", "P", "RGB"),
    "TIFF": ("1", "L", "RGB", "RGBA", "I;16", "CMYK"),
    "PPM": ("L", "RGB"),
}
BAND_TYPES = (">i2", ">i4", ">f4", ">f8", "uint16")


def random_picture(random: Random) -> bytes:
    """Return a picture of any format and mode."""
    name = random.choice(list(FORMATS))
    mode, rng = random.choice(FORMATS[name]), np.random.default_rng(random.getrandbits(32))
    size = (random.randint(1, 60), random.randint(1, 60))
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, size, dtype=np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (*size, 4), dtype=np.uint8)).convert(mode)
    content = io.BytesIO()
    image.save(content, format=name)
    return content.getvalue()


def pillow_pixels(content: bytes) -> np.ndarray | None:
    """Return RGB on black, float `[H, W, 3]`; None if the levels have no known range.

    Where Pillow cannot open a TIFF, tifffile must find more than 8 bits in it.
    """
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        with tifffile.TiffFile(io.BytesIO(content)) as file:  # imread would need a sound series of pages
            assert file.pages.first.asarray().dtype.itemsize > 1
        return None
    with image:
        image.load()
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            return None
        rgba = np.asarray(image.convert("RGBA"), dtype=np.float64)
    return np.asarray(rgba[..., :3] * rgba[..., 3:] / 255)


def check_picture(random: Random) -> None:
    content = random_picture(random)
    is_damaged = random.random() < 0.8
    if is_damaged:
        content = damage(content, random)
    try:
        pixels = decode_picture(content)
    except RejectedImage:
        assert is_damaged, "a sound picture was rejected"
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] == (3,)
    expected = pillow_pixels(content)
    if expected is not None:
        assert np.abs(pixels - expected).max(initial=0) <= 1


def random_fits(random: Random) -> tuple[bytes, FitsImages]:
    """Return a FITS file of three bands (one cube or three extensions) and its reader."""
    rng, side = np.random.default_rng(random.getrandbits(32)), random.randint(8, 40)
    bands = rng.normal(20, 8, (3, side, side)).clip(0, 60).astype(random.choice(BAND_TYPES))
    if random.random() < 0.5:
        hdus = fits.HDUList([fits.PrimaryHDU(bands)])
        images = FitsImages("pictures", channels=(0, 1, 2), stretch=20, minimum=5)
    else:
        layers = [fits.ImageHDU(band, name=name) for band, name in zip(bands, "IRG", strict=True)]
        hdus = fits.HDUList([fits.PrimaryHDU(), *layers])
        images = FitsImages("pictures", stretch=20, minimum=5)
    content = io.BytesIO()
    hdus.writeto(content)
    return content.getvalue(), images


def astropy_pixels(content: bytes, images: FitsImages) -> np.ndarray:
    """Return the picture that astropy shows of the bands, row 0 at the top."""
    with fits.open(io.BytesIO(content)) as hdus:
        cube = next((hdu.data for hdu in hdus if hdu.is_image and hdu.shape and len(hdu.shape) == 3), None)
        bands = [
            hdus[channel].data if cube is None or isinstance(channel, str) else cube[channel]
            for channel in images.channels
        ]
        scaled = [np.array(band, np.float64) * scale for band, scale in zip(bands, images.scales, strict=True)]
    return np.asarray(make_lupton_rgb(*scaled, minimum=images.minimum, stretch=images.stretch, Q=images.q)[::-1])


def check_fits(random: Random) -> None:
    content, images = random_fits(random)
    is_damaged = random.random() < 0.8
    if is_damaged:
        content = damage(content, random)
    try:
        pixels = images.decode(content)
    except RejectedImage:
        assert is_damaged, "a sound picture was rejected"
        return
    assert np.abs(pixels.astype(int) - astropy_pixels(content, images)).max(initial=0) <= 1


@fast_or_long
@pytest.mark.parametrize("check", [check_picture, check_fits])
def test_damaged_picture_is_rejected_or_has_the_pixels_of_the_library(check, seconds) -> None:
    repeat(check, seconds)
