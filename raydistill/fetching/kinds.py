"""Recognise wrong files by their first bytes, and answers that are no galaxy.

Servers answer with a web page, and status 200, where a file has moved or a login is needed.
"""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image

from raydistill.errors import DownloadError

HEAD = 1024  # bytes that suffice

_MAGIC = {
    "zip archive": (b"PK\x03\x04", b"PK\x05\x06"),
    "gzip file": (b"\x1f\x8b",),
    "HDF5 file": (b"\x89HDF\r\n\x1a\n",),
    "FITS file": (b"SIMPLE  =",),
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
}
_KINDS = {
    ".zip": "zip archive", ".gz": "gzip file", ".tgz": "gzip file", ".h5": "HDF5 file", ".fits": "FITS file",
    ".jpg": "JPEG", ".png": "PNG",
}  # fmt: skip
_WEB_PAGE = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|\?xml)", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]*>([^<]{1,200})</title>|<message>([^<]{1,200})</message>", re.IGNORECASE)


def describe_wrong_kind(name: str, head: bytes) -> str:
    r"""Describe the first bytes if they do not fit a name's suffix; "" if they do.

    Examples
    --------
    >>> describe_wrong_kind("votes.csv", b"<html><title>404 Not Found</title>")
    "a web page ('404 Not Found')"
    >>> describe_wrong_kind("images.zip", b"PK\x03\x04")
    ''
    """
    if _WEB_PAGE.match(head):
        title = _TITLE.search(head)
        words = " ".join((title[1] or title[2]).decode("utf-8", "replace").split()) if title else ""
        return f"a web page ('{words}')" if words else "a web page"
    expected = _KINDS.get(name[name.rfind(".") :].lower())
    if expected is None:
        file_kind = next((kind for kind, starts in _MAGIC.items() if head.startswith(starts)), "")
        return f"a {file_kind}" if file_kind else ""
    return "" if head.startswith(_MAGIC[expected]) else f"no {expected}"


def check_kind(name: str, head: bytes, url: str) -> None:
    """Raise DownloadError if the first bytes do not fit the suffix of the file's name."""
    if wrong := describe_wrong_kind(name, head):
        what = f"the server sent {wrong} instead of {name}"
        raise DownloadError(what, url, "open the address in a browser, or give a mirror with --base-url")


# Recognise answers of cut-out services that are not a picture of a galaxy.

BLANK = 2  # levels of 255; sky noise alone has more


def describe_wrong_picture(content: bytes, pixels: int) -> str:
    """Return why the bytes are not a JPEG of a galaxy with this side [px], or "".

    A picture of one colour lies outside the survey: the services send it with status 200.
    """
    if wrong := describe_wrong_kind("x.jpg", content[:HEAD]):
        return f"the server sent {wrong}"
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as opened:
            if opened.size != (pixels, pixels):  # before its pixels take memory
                return f"the picture has {opened.width} × {opened.height} px"
            picture = np.asarray(opened.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"the JPEG is damaged ({' '.join(str(error).split())[:80]})"
    if int(picture.max()) - int(picture.min()) <= BLANK:
        return "the picture is blank; the position may be outside the survey"
    return ""
