"""TIFF files of more than 8 bits have the stored pixels, whatever their layout."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raydistill.galaxies.pictures.images import RejectedImage, decode_picture, picture_extent
from raydistill.galaxies.pictures.levels import choose_range

RAMP = np.linspace(0, 1, 40 * 48).reshape(40, 48)
GREY = np.rint(255 * RAMP).astype(int)
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)


def tiff(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def assert_levels(content: bytes, expected: np.ndarray, value_range: Any = "auto") -> None:
    """Check the pixels, with the range of a survey of this picture."""
    if value_range == "auto":
        result = picture_extent(content)
        assert result is not None
        value_range = choose_range([result], "", "")
    levels = decode_picture(content, "", value_range)
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    assert levels.shape == expected.shape
    assert np.abs(levels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("dtype", "white"),
    [
        ("u2", 65535),
        ("u2", 4095),
        ("i2", 32767),
        ("i2", 4095),
        ("u4", 2**32 - 1),
        ("u4", 2**20 - 1),
        ("f4", 1),
        ("f8", 1),
        ("f4", 255),
    ],
)
def test_grey_of_any_type(dtype, white, byteorder, compression):
    values = RAMP * white if dtype.startswith("f") else np.rint(RAMP * white)
    assert_levels(tiff(values.astype(dtype), byteorder=byteorder, compression=compression), GREY)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize(
    ("dtype", "white"), [("u2", 65535), ("u2", 1023), ("f4", 1), ("f8", 1), ("i2", 32767), ("u4", 2**32 - 1)]
)
def test_colour_of_any_type(dtype, white, byteorder, planarconfig):
    values = COLOUR * white if dtype.startswith("f") else np.rint(COLOUR * white)
    stored = np.moveaxis(values, 2, 0) if planarconfig == "separate" else values
    content = tiff(stored.astype(dtype), byteorder=byteorder, photometric="rgb", planarconfig=planarconfig)
    assert_levels(content, np.rint(255 * COLOUR).astype(int))


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize(("dtype", "white"), [("u1", 255), ("u1", 60), ("u2", 65535), ("f4", 1)])
def test_three_planes_without_names_are_red_green_and_blue(dtype, white, planarconfig):
    """A TIFF may call its colours grey, with two extra samples of unknown meaning.

    tifffile writes such files.
    """
    values = (COLOUR * white).round(0 if dtype != "f4" else 9).astype(dtype)
    stored = np.moveaxis(values, 2, 0) if planarconfig == "separate" else values
    content = tiff(stored, photometric="minisblack", planarconfig=planarconfig)
    if dtype == "u1":
        np.testing.assert_array_equal(decode_picture(content, "", "auto"), values)
        assert picture_extent(content) is None
    else:
        assert_levels(content, np.rint(255 * COLOUR).astype(int))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_white_may_be_zero(dtype, byteorder):
    white = np.iinfo(dtype).max
    content = tiff((white - np.rint(RAMP * white)).astype(dtype), byteorder=byteorder, photometric="miniswhite")
    assert_levels(content, GREY, "full")


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_transparent_grey_of_16_bits_is_black(byteorder):
    opacity = np.where(np.arange(40) < 10, 0, 65535)[:, None] * np.ones(48)
    values = np.stack([65535 * RAMP, opacity], axis=-1)
    options: Any = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    expected = np.where(opacity > 0, GREY, 0)
    assert_levels(tiff(np.rint(values).astype("u2"), byteorder=byteorder, **options), expected, "full")


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "f4"])
def test_values_below_zero_need_a_range(dtype):
    content = tiff(np.rint(120 * RAMP - 100).astype(dtype))
    result = picture_extent(content)
    assert result is not None
    assert (result.lowest, result.highest) == (-100, 20)
    assert_levels(content, np.rint(np.rint(120 * RAMP) * 255 / 120).astype(int), (-100.0, 20.0))
    with pytest.raises(RejectedImage):
        decode_picture(content, "", "full")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["u2", "u4", "i2", "f4", "f8"]),
    st.sampled_from(["<", ">"]),
    st.sampled_from([1, 3]),
    st.sampled_from(["contig", "separate"]),
    st.integers(0, 2**32),
)
def test_any_layout_has_the_stored_values(dtype, byteorder, count, planarconfig, seed):
    values = np.random.default_rng(seed).integers(0, 30_000, (9, 13, count)).astype(dtype)
    stored = values[..., 0] if count == 1 else np.moveaxis(values, 2, 0) if planarconfig == "separate" else values
    options = {"photometric": "rgb", "planarconfig": planarconfig} if count == 3 else {}
    content = tiff(stored, byteorder=byteorder, **options)
    expected = np.rint(values.astype(float) * 255 / 30_000).astype(int)
    assert_levels(content, np.broadcast_to(expected, (9, 13, 3)), (0.0, 30_000.0))


@pytest.mark.parametrize("mode", ["grey", "colour"])
def test_transparent_value_of_a_16_bit_png_is_black(mode):
    values = np.rint(65535 * RAMP).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", transparency=int(values[20, 20]))
    expected = np.where(values == values[20, 20], 0, GREY)
    assert_levels(buffer.getvalue(), expected, "full" if mode == "grey" else (0.0, 65535.0))


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (
            tiff(np.zeros((9, 9, 5), "u2"), photometric="minisblack", planarconfig="contig"),
            "5 values of type uint16 in each pixel",
        ),
        (tiff(np.zeros((9, 9), "f8"))[:200], "a TIFF that cannot be read"),
        (tiff(np.zeros((9, 9), "c8")), "1 values of type complex64 in each pixel"),
    ],
)
def test_other_tiffs_are_rejected_with_one_sentence(content, detail):
    with pytest.raises(RejectedImage, match=detail) as raised:
        decode_picture(content, "q.tif", (0.0, 1.0))
    assert "\n" not in str(raised.value)
