"""A file that is not a picture is rejected by name, even if Pillow reads a part."""

from __future__ import annotations

import io
import logging

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits

from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.images import RejectedImage, decode_picture, picture_extent
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.stages.curate.filter.rejections import fix_rejections, rejection
from raydistill.surveys.levels import resolve_levels

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 3\n"
FILES = {
    POINTER: "a pointer of Git LFS, not the picture",
    b"\n<!DOCTYPE html><title>404</title>": "a web page, not the picture",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>": "a drawing in SVG",
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40): "HEIC, which Pillow does not read",
    b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40): "JPEG XL, which Pillow does not read",
    b"%PDF-1.7\n": "a PDF file",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n": "a drawing in PostScript",
    b"\xc5\xd0\xd3\xc6" + bytes(28) + b"%!PS-Adobe-3.0": "a drawing in PostScript",
}


def fits_file(array: np.ndarray, **header: str) -> bytes:
    buffer = io.BytesIO()
    hdu = fits.PrimaryHDU(array)
    hdu.header.update(header)
    hdu.writeto(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("content", FILES, ids=FILES.values())
def test_file_that_is_no_picture_is_named(content):
    for read in (decode_picture, picture_extent, FitsImages("", channels=(0, 1, 2)).decode):
        with pytest.raises(RejectedImage) as caught:
            read(content)
        assert (caught.value.reason, caught.value.fix) == ("corrupt", FILES[content])


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_fits_file_needs_its_kind(dtype):
    """Pillow would read the first plane, upside down or not, and without BZERO."""
    content = fits_file(np.arange(3 * 40 * 40).reshape(3, 40, 40).astype(dtype))
    with pytest.raises(RejectedImage, match="corrupt; a FITS file"):
        decode_picture(content)
    assert FitsImages("", channels=(0, 1, 2)).decode(content).shape == (40, 40, 3)


@pytest.mark.parametrize(
    ("detail", "fix"),
    [
        ("a FITS file", "set survey.images.kind=fits"),
        ("a pointer of Git LFS, not the picture", "run 'git lfs pull'"),
        ("a web page, not the picture", "download the pictures themselves"),
    ],
)
def test_fix_follows_what_the_file_is(detail, fix):
    assert fix_rejections([rejection("g", "g.png", "corrupt", detail, 0)], FolderImages("x")) == fix


@pytest.mark.parametrize(("unit", "warns"), [("mag/arcsec2", True), ("mag", True), ("nanomaggy", False)])
def test_magnitudes_are_warned_of(tmp_path, caplog, unit, warns):
    light = np.random.default_rng(0).random((3, 40, 40)).astype("f4")
    (tmp_path / "1.fits").write_bytes(fits_file(light, BUNIT=unit))
    images = FitsImages(str(tmp_path), channels=(0, 1, 2), stretch="auto")
    with caplog.at_level(logging.WARNING):
        resolve_levels(images, pa.table({"path": ["1.fits"]}))
    assert ("light is low in magnitudes" in caplog.text) == warns
