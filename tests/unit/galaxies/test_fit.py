"""Test pictures that are not square, and the formats JPEG 2000 and AVIF."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from raydistill.config import Curate
from raydistill.datasets.folder import ImageFolder
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.images import RejectedImage, decode_picture, pad_to_square
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.stages.curate.decoding import decode_row

WHOLE = Curate(image_size=64, crop_fraction=1.0)
WIDE = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)


def encoded(image: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(row: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"])))


SOURCES = {"folder": FolderImages("i"), "table": ParquetImages("i"), "data set": ImageFolder(root="i")}


@pytest.mark.parametrize("is_tall", [False, True])
@pytest.mark.parametrize("kind", SOURCES)
def test_pictures_that_are_not_square_are_cropped_or_padded(kind, is_tall):
    image = WIDE.swapaxes(0, 1).copy() if is_tall else WIDE
    padded = pixels(decode_row(0, encoded(image), "0", replace(SOURCES[kind], fit="pad"), WHOLE))
    padded = padded.swapaxes(0, 1) if is_tall else padded
    np.testing.assert_array_equal(padded[12:52], WIDE)
    assert not padded[:12].any()
    assert not padded[52:].any()
    crop = replace(SOURCES[kind], fit="crop")
    cropped = pixels(decode_row(0, encoded(image), "0", crop, replace(WHOLE, image_size=40)))
    np.testing.assert_array_equal(cropped.swapaxes(0, 1) if is_tall else cropped, WIDE[:, 12:52])


def test_default_rejects_pictures_of_a_survey_and_crops_those_of_a_data_set():
    for kind in ("folder", "table"):
        row = decode_row(0, encoded(WIDE), "0", SOURCES[kind], WHOLE)
        assert (row["reason"], row["detail"]) == ("wrong-size", "64 x 40 px, not square")
    row = decode_row(0, encoded(WIDE), "0", SOURCES["data set"], replace(WHOLE, image_size=40))
    np.testing.assert_array_equal(pixels(row), WIDE[:, 12:52])


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_almost_square_pictures_of_a_survey_do_not_change_by_cropping(fit):
    square = WIDE[:, :40]
    before = decode_row(0, encoded(square), "0", FolderImages("i"), WHOLE)
    assert decode_row(0, encoded(square), "0", FolderImages("i", fit=fit), WHOLE)["image"] == before["image"]


@given(st.integers(1, 40), st.integers(1, 40))
def test_padding_keeps_the_centre(height, width):
    padded = pad_to_square(np.ones((height, width, 3), np.uint8))
    assert padded.sum() == 3 * height * width
    assert abs(padded.shape[0] - padded.shape[1]) <= 1
    np.testing.assert_array_equal(padded, padded[::-1, ::-1])


def test_long_pictures_are_not_padded_to_gigabytes():
    with pytest.raises(RejectedImage, match="1000000 x 32 px, too long to pad"):
        pad_to_square(np.zeros((32, 1_000_000, 3), np.uint8))
    row = decode_row(0, encoded(np.zeros((9, 20_000, 3), np.uint8)), "0", ImageFolder(root="i", fit="pad"), WHOLE)
    assert row["reason"] == "wrong-size"


@pytest.mark.parametrize(("fit", "reason"), [("crop", None), ("pad", "not-finite")])
def test_missing_pixels_count_within_the_part_that_is_kept(tmp_path, fit, reason):
    light = np.random.default_rng(0).random((3, 40, 80)).astype(np.float32)
    light[:, :, :5] = np.nan
    fits.HDUList([fits.PrimaryHDU(light)]).writeto(tmp_path / "0.fits")
    images = FitsImages(str(tmp_path), channels=(0, 1, 2), fit=fit)
    row = decode_row(0, f"{tmp_path}/0.fits", "0.fits", images, replace(WHOLE, image_size=40))
    assert row.get("reason") == reason


MODERN = {"JPEG2000": ("jpg_2000", {}, 0), "AVIF": ("avif", {"quality": 100, "subsampling": "4:4:4"}, 4)}


@pytest.mark.parametrize("kind", MODERN)
def test_jpeg_2000_and_avif_have_their_pixels(tmp_path, kind):
    feature, options, error = MODERN[kind]
    suffix = {"JPEG2000": "jp2", "AVIF": "avif"}[kind]
    if not features.check(feature):
        pytest.skip(f"this Pillow is built without {feature}")
    (tmp_path / f"7.{suffix}").write_bytes(encoded(WIDE, kind, **options))
    for pattern in (f"{{id}}.{suffix}", "{id}.*"):
        images = FolderImages(str(tmp_path), pattern=pattern)
        (path,) = images.paths(["7"])
        assert np.abs(images.decode(path).astype(int) - WIDE).max() <= error


WITHOUT_AVIF = """
import sys
sys.modules["PIL._avif"] = None
from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.galaxies.pictures.sources import FolderImages
try:
    FolderImages("i").decode(sys.argv[1])
except RejectedImage as error:
    print(error)
"""


def test_pillow_without_avif_is_named(tmp_path):
    (tmp_path / "7.avif").write_bytes(encoded(WIDE, "AVIF"))
    command = [sys.executable, "-W", "error", "-c", WITHOUT_AVIF, str(tmp_path / "7.avif")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "corrupt; AVIF, which this Pillow cannot read; install Pillow 11.3 or later" in shown


def test_deep_jpeg_2000_keeps_its_bits():
    values = np.linspace(0, 4095, 40 * 40).reshape(40, 40).astype(np.uint16)
    decoded = decode_picture(encoded(values, "JPEG2000"), "", (0, 4095))
    np.testing.assert_array_equal(decoded[..., 0], np.rint(values / 4095 * 255))
