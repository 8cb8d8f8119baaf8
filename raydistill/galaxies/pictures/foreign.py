"""Name files that are no pictures, and picture formats that Pillow does not read."""

from __future__ import annotations

FITS_MAGIC = b"SIMPLE  ="

# Start of a file in lower case -> what it is.
_STARTS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the picture",
    b"<!doctype html": "a web page, not the picture",
    b"<html": "a web page, not the picture",
    b"<?xml": "a text in XML, such as SVG",
    b"<svg": "a drawing in SVG",
    b"%pdf": "a PDF file",
    b"%!ps": "a drawing in PostScript",  # for which Pillow would start Ghostscript
    b"\xc5\xd0\xd3\xc6": "a drawing in PostScript",
    b"\x89hdf": "an HDF5 file",
    b"\0\0\0\x0cjxl ": "JPEG XL, which Pillow does not read",
    b"\xff\x0a": "JPEG XL, which Pillow does not read",
}
# From the fifth byte on (ISO/IEC 23008-12, brands of HEIF).
_HEIC = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"))


def describe_foreign(content: bytes) -> str | None:
    """Return what a file is that Pillow cannot read; None if its start does not tell."""
    if content[4:12] in _HEIC:
        return "HEIC, which Pillow does not read"
    start = content[:64].lstrip().lower()
    return next((what for magic, what in _STARTS.items() if start.startswith(magic)), None)
