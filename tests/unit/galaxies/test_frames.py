"""A file of several frames or pages has one picture and its copies or is rejected."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raydistill.galaxies.pictures.formats import find_picture
from raydistill.galaxies.pictures.images import RejectedImage, decode_picture, picture_extent
from raydistill.stages.curate.filter.rejections import fix_rejections, rejection

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (48, 64), dtype=np.uint16)
MASK, REDUCED, PAGE = 4, 1, 2  # values of NewSubfileType


def pages(*arrays: tuple[np.ndarray, int], **options: Any) -> bytes:
    """Return a TIFF of pages, each with its NewSubfileType."""
    buffer = io.BytesIO()
    big, order = options.pop("bigtiff", False), options.pop("byteorder", "<")
    with tifffile.TiffWriter(buffer, bigtiff=big, byteorder=order) as file:
        for array, kind in arrays:
            file.write(array, subfiletype=kind, contiguous=False, metadata=None, **options)
    return buffer.getvalue()


def reason(content: bytes) -> RejectedImage:
    with pytest.raises(RejectedImage) as caught:
        decode_picture(content, "g.tif")
    with pytest.raises(RejectedImage):
        picture_extent(content)
    return caught.value


@pytest.mark.parametrize(
    ("byteorder", "bigtiff"), [("<", False), (">", False), ("<", True)]
)  # Pillow reads no big-endian BigTIFF
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("kind", [REDUCED, 0])
def test_picture_of_full_resolution_is_read_among_its_copies(byteorder, bigtiff, compression, is_first, kind):
    for picture in (COLOUR, DEEP):
        copies = [(picture[::2, ::2], kind), (picture[::5, ::5], kind)]  # 24 x 32 and 10 x 13
        ordered = [(picture, 0), *copies] if is_first else [*copies, (picture, 0)]
        content = pages(*ordered, byteorder=byteorder, bigtiff=bigtiff, compression=compression)
        expected = picture if picture.ndim == 3 else np.repeat(np.rint(picture / 257)[..., None], 3, axis=2)
        np.testing.assert_array_equal(decode_picture(content), expected)
    extent = picture_extent(content)
    assert extent is not None
    assert (extent.lowest, extent.highest) == (DEEP.min(), DEEP.max())


def test_mask_and_copy_of_another_shape_are_left_out():
    mask, map_ = np.ones((48, 64), bool), COLOUR[:7]
    np.testing.assert_array_equal(decode_picture(pages((COLOUR, 0), (mask, MASK), (map_, REDUCED))), COLOUR)
    np.testing.assert_array_equal(decode_picture(pages((mask, MASK), (COLOUR, PAGE))), COLOUR)
    np.testing.assert_array_equal(decode_picture(pages((COLOUR, REDUCED))), COLOUR)  # the only page


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.sampled_from([0, PAGE]), st.sampled_from(["u1", "u2", "f4"]), st.booleans(), st.booleans())
def test_pages_that_are_pictures_of_their_own_are_rejected(count, kind, dtype, has_copy, is_big):
    stored = [(np.full((20, 24), number, dtype), kind) for number in range(count)]
    copy = [(np.zeros((10, 12), dtype), REDUCED)] if has_copy else []
    error = reason(pages(*copy, *stored, bigtiff=is_big))
    assert (error.reason, str(error)) == ("several-frames", f"g.tif: several-frames; a TIFF of {count} pages")


def test_pages_of_other_proportions_are_rejected():
    assert "a TIFF of 2 pages" in str(reason(pages((COLOUR, 0), (COLOUR[:, :20], 0))))


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "minisblack", "truncate": True},
        {"imagej": True},
        {"photometric": "minisblack", "volumetric": True, "tile": (16, 16, 16)},
    ],
)
def test_stack_in_one_page_is_rejected(options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((3, 48, 48), "u2"), **options)
    assert "a TIFF of 3 pages" in str(reason(buffer.getvalue()))


def test_stack_of_imagej_beyond_4_gb_is_rejected():
    """ImageJ then writes the first page alone, and the others behind it."""
    buffer = io.BytesIO()
    text = "ImageJ=1.53t\nimages=5\nslices=5\n"
    tifffile.imwrite(buffer, DEEP, description=text, metadata=None)
    assert "a TIFF of 5 pages" in str(reason(buffer.getvalue()))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, COLOUR, description="ImageJ=1.53t\nmin=0\nmax=255\n", metadata=None)
    np.testing.assert_array_equal(decode_picture(buffer.getvalue()), COLOUR)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
def test_animation_is_rejected(kind):
    frames = [Image.fromarray(np.roll(COLOUR, shift)) for shift in range(4)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    error = reason(buffer.getvalue())
    assert (error.reason, error.fix) == ("several-frames", "an animation of 4 frames")
    single = io.BytesIO()
    frames[0].save(single, kind, save_all=True)
    assert decode_picture(single.getvalue()).shape == COLOUR.shape


def test_gif_that_ends_within_a_second_frame_is_rejected():
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, "GIF")
    frame = b"," + bytes(9)  # position and size
    error = reason(buffer.getvalue().removesuffix(b";") + frame)
    assert (error.reason, error.fix) == ("truncated", "the file ends within a frame")


def test_first_picture_of_a_camera_file_is_read():
    """A camera stores previews behind its JPEG (CIPA DC-007, MPO)."""
    grey = Image.fromarray(COLOUR[..., 0])
    buffer, plain = io.BytesIO(), io.BytesIO()
    grey.save(buffer, "MPO", save_all=True, append_images=[grey.resize((32, 24))])
    grey.save(plain, "JPEG")
    np.testing.assert_array_equal(decode_picture(buffer.getvalue()), decode_picture(plain.getvalue()))


def test_damaged_chain_of_pages_ends():
    whole = pages((COLOUR, 0), (COLOUR, 0))
    first = int.from_bytes(whole[4:8], "little")
    count = int.from_bytes(whole[first : first + 2], "little")
    at = first + 2 + 12 * count
    for following in (first, 2**32 - 1, len(whole) - 1):  # a loop, and pages beyond the end
        damaged = whole[:at] + following.to_bytes(4, "little") + whole[at + 4 :]
        assert find_picture(damaged) == (damaged, 1)
        np.testing.assert_array_equal(decode_picture(damaged), COLOUR)
    assert find_picture(whole[:6]) == (whole[:6], 1)


def test_fix_says_to_store_one_picture_per_file():
    rows = [rejection("g", "g.tif", "several-frames", "a TIFF of 3 pages", 0)]
    assert fix_rejections(rows, None) == "store one picture per file, with its colours as H x W x 3"
