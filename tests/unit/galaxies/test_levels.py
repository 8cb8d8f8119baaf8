"""Test the range of pictures of more than 8 bits: PNG, TIFF, arrays, at any depth."""

import numpy as np
import pytest
from deep_files import npy, png_16, tiff_16, with_pillow
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.pictures.images import RejectedImage, decode_picture, picture_extent
from raydistill.galaxies.pictures.levels import choose_range
from raydistill.galaxies.pictures.sources import FolderImages

BITS = (8, 9, 10, 12, 14, 15, 16)


def ramp(bits: int, channels: int = 3) -> np.ndarray:
    """Return values from 0 to the largest of these bits, different in each channel."""
    steps = np.linspace(0, 2**bits - 1, 40 * 40 * channels)
    return np.rint(steps).astype(np.uint16).reshape(40, 40, channels)


def expected(values: np.ndarray, high: float) -> np.ndarray:
    return np.rint(values * 255.0 / high)


ENCODERS = {
    "grey png": lambda values: png_16(values[..., 0]),
    "colour png": png_16,
    "grey tiff": lambda values: with_pillow(values[..., 0].copy(), "TIFF"),
    "colour tiff": tiff_16,
    "big-endian tiff": lambda values: tiff_16(values, big=True),
    "deflated tiff": lambda values: tiff_16(values, packed=True),
    "npy": npy,
    "npy, planes first": lambda values: npy(np.moveaxis(values, 2, 0)),
}


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("bits", BITS)
def test_survey_of_any_depth_fills_the_levels(kind, bits):
    values = ramp(bits)
    content = ENCODERS[kind](values)
    chosen = choose_range([picture_extent(content)], "survey", "value_range")
    decoded = decode_picture(content, "", chosen)
    used = values[..., :1] if "grey" in kind else values
    high = {8: 255, 9: 1023, 10: 1023, 12: 4095, 14: 16383, 15: 65535, 16: 65535}[bits]
    assert np.abs(decoded.astype(float) - expected(used, high)).max() <= 1
    assert decoded.max() >= 63


def test_levels_of_a_chosen_range_are_exact():
    values = ramp(12)
    np.testing.assert_array_equal(decode_picture(png_16(values), "", (0, 4095)), expected(values, 4095))
    np.testing.assert_array_equal(decode_picture(png_16(values), "", (1000, 2000))[0, 0], [0, 0, 0])


@given(st.integers(0, 60000), st.integers(1, 5000), st.sampled_from(sorted(ENCODERS)))
@settings(max_examples=60, deadline=None)
def test_any_explicit_range_maps_low_to_black_and_high_to_white(low, width, kind):
    values = np.clip(low + ramp(16) / 65535 * width, 0, 65535).astype(np.uint16)
    decoded = decode_picture(ENCODERS[kind](values), "", (low, low + width))
    used = values[..., :1] if "grey" in kind else values
    want = np.clip(np.rint((used.astype(float) - low) * 255 / width), 0, 255)
    np.testing.assert_array_equal(decoded, np.broadcast_to(want, decoded.shape))


def test_opacity_of_16_bits_shows_black():
    values = np.full((40, 40, 2), 4095, np.uint16)
    values[..., 1] = 65535
    values[:20, :, 1] = 0
    decoded = decode_picture(png_16(values), "", (0, 4095))
    assert (decoded[:20] == 0).all()
    assert (decoded[20:] == 255).all()
    colour = np.concatenate([ramp(12), values[..., 1:]], axis=2)
    np.testing.assert_array_equal(decode_picture(png_16(colour), "", (0, 4095))[20:], expected(ramp(12), 4095)[20:])


def test_eight_bits_keep_their_levels_unless_the_range_fits_them():
    image = ramp(8).astype(np.uint8)
    for value_range in ("auto", "full", (0, 4095), (0, 255)):
        np.testing.assert_array_equal(decode_picture(with_pillow(image, "PNG"), "", value_range), image)
        np.testing.assert_array_equal(decode_picture(npy(image), "", value_range), image)
    dim = (image // 16).astype(np.uint8)
    np.testing.assert_array_equal(decode_picture(with_pillow(dim, "PNG"), "", (0, 15)), expected(dim, 15))
    assert picture_extent(with_pillow(image, "PNG")) is None
    assert picture_extent(with_pillow(image, "JPEG")) is None


@pytest.mark.parametrize("encode", [npy, lambda values: with_pillow(values[..., 0].copy(), "TIFF")])
@pytest.mark.parametrize(("high", "chosen"), [(1.0, (0, 1)), (0.4, (0, 1)), (255.0, (0, 255)), (180.5, (0, 255))])
def test_floats_have_the_range_that_their_values_show(encode, high, chosen):
    values = (ramp(16) / 65535 * high).astype(np.float32)
    content = encode(values)
    assert choose_range([picture_extent(content)], "survey", "value_range") == chosen
    decoded = decode_picture(content, "", chosen)
    used = values if decoded[..., 0].tolist() != decoded[..., 1].tolist() else values[..., :1]
    assert np.abs(decoded - expected(used, chosen[1])).max() <= 1


@pytest.mark.parametrize("values", [(0.0, 0.01), (-1.0, 1.0), (0.0, 3.7), (0.0, 9000.0)])
def test_range_of_other_floats_must_be_given(values):
    content = npy(np.linspace(*values, 1600).astype(np.float32).reshape(40, 40))
    with pytest.raises(CatalogError, match=r"survey: pixels reach from .* key: \[low, high\]"):
        choose_range([picture_extent(content)], "survey", "key")
    with pytest.raises(RejectedImage, match="range of float pixels is unknown"):
        decode_picture(content, "a.npy", "auto")
    assert np.ptp(decode_picture(content, "", values)) == 255


def test_integers_beyond_16_bits_and_below_zero():
    counts = npy(np.linspace(0, 200_000, 1600).astype(np.int64).reshape(40, 40))
    assert choose_range([picture_extent(counts)], "", "") == (0, 262143)
    signed = npy(np.linspace(-100, 100, 1600).astype(np.int16).reshape(40, 40))
    with pytest.raises(CatalogError, match="pixels reach from -100 to 100"):
        choose_range([picture_extent(signed)], "", "")
    with pytest.raises(RejectedImage, match="beyond 0 to 65535"):
        decode_picture(signed, "", "full")


def test_one_range_serves_pictures_of_unequal_brightness():
    """The brightest picture decides: a faint one stays faint."""
    extents = [picture_extent(png_16(ramp(bits))) for bits in (8, 12)]
    assert choose_range(extents, "", "") == (0, 4095)


@pytest.mark.parametrize("shape", [(40,), (3, 3, 40, 40), (40, 40, 4), (40, 40, 2)])
def test_arrays_of_other_shapes_are_rejected(shape):
    with pytest.raises(RejectedImage, match="wrong-bands; an array of uint8"):
        decode_picture(npy(np.zeros(shape, np.uint8)))


def test_array_files_that_are_damaged_or_hold_objects_are_rejected():
    for content in (npy(ramp(8))[:200], b"\x93NUMPYrubbish", npy(np.array([[{}]], dtype=object))):
        with pytest.raises(RejectedImage, match="corrupt"):
            decode_picture(content)
    with pytest.raises(RejectedImage, match="not-finite"):
        decode_picture(npy(np.full((40, 40), np.nan)), "", (0, 1))


@pytest.mark.parametrize(("value_range", "high"), [("auto", 65535), ("full", 65535), ((0, 4095), 4095)])
@pytest.mark.parametrize("packed", [False, True])
def test_planar_tiff_of_16_bits_has_its_values(packed, value_range, high):
    """Pillow reads the planes as 8 bits, which gives noise."""
    levels = decode_picture(tiff_16(ramp(16), planar=True, packed=packed), "", value_range)
    assert np.array_equal(levels, np.minimum(expected(ramp(16), high), 255))


def test_empty_range_is_rejected():
    with pytest.raises(ConfigError, match=r"survey\.images\.value_range: the range is \[5, 5\]"):
        FolderImages("x", value_range=(5, 5))


@pytest.mark.parametrize("kind", ENCODERS)
def test_dark_picture_of_16_bits_among_others_of_8_is_rejected(kind):
    content = ENCODERS[kind](ramp(12))
    with pytest.raises(RejectedImage, match=r"pixels reach 409\d of 65535.*set value_range") as error:
        decode_picture(content, "a.png", "auto")
    assert error.value.reason == "wrong-range"
    assert decode_picture(content, "a.png", (0, 4095)).max() == 255
    assert decode_picture(content, "a.png", "full").max() <= 16
