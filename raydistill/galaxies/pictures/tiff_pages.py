"""Find the picture in a TIFF of several pages.

Pages may be the picture, smaller copies of it, and masks. A copy or mask says so in its tag
NewSubfileType; a smaller page of the same proportions is a copy too. Other pages are pictures of
their own, such as the bands or the times of a stack.
"""

from __future__ import annotations

import io
import logging
import re
import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF

_MAX_PAGES = 10_000
_SUBFILE_TYPE, _COPY = 255, 2  # an older tag, and its value for a copy
_COPY_OR_MASK = 1 | 4  # bits of NewSubfileType
# A stack may have one page and its other planes behind it: of ImageJ, or of tifffile.
_STACK = re.compile(r'ImageJ=.*?\bimages=(\d+)|\{"shape": \[(\d+),.*"truncated": true', re.DOTALL)


class _Page(NamedTuple):
    offset: int
    width: int
    height: int
    is_copy: bool
    num_planes: int

    def is_copy_of(self, other: _Page) -> bool:
        """Return whether this is a smaller page of the same proportions.

        The proportions may differ by the rounding of a side.
        """
        difference = abs(self.width * other.height - self.height * other.width)
        return self.is_copy or (self.width < other.width and difference <= max(other.width, other.height))


def find_picture(content: bytes) -> tuple[bytes, int]:
    """Return a TIFF with the full-resolution picture first, and how many there are.

    Parameters
    ----------
    content : bytes
        The file. A damaged one is left to its reader: it is returned as it is.

    References
    ----------
    TIFF 6.0 (Adobe, 1992), tags NewSubfileType and SubfileType.
    """
    pages = list(islice(_pages(content), _MAX_PAGES))
    if not pages:
        return content, 1
    shown = [page for page in pages if not page.is_copy] or pages
    picture = max(shown, key=lambda page: page.width * page.height)
    others = [page for page in shown if page is not picture and not page.is_copy_of(picture)]
    first = content if picture is pages[0] else _beginning_at(content, picture.offset)
    return first, max(1 + len(others), picture.num_planes)


def _beginning_at(content: bytes, offset: int) -> bytes:
    """Return a TIFF that begins with the page at an offset."""
    order = "<" if content.startswith(b"II") else ">"
    start, code = (8, "Q") if b"+" in content[:4] else (4, "I")
    changed = bytearray(content)
    struct.pack_into(order + code, changed, start, offset)
    return bytes(changed)


def _pages(content: bytes) -> Iterator[_Page]:
    """Yield the pages of a TIFF up to a damaged one or a loop."""
    from tifffile import TiffFile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # of damage, which is left to the reader
    seen: set[int] = set()
    try:
        with TiffFile(io.BytesIO(content)) as file:
            pages: Iterable[Any] = file.pages
            for page in pages:
                if page.offset in seen:
                    return
                seen.add(page.offset)
                is_copy = bool(page.subfiletype & _COPY_OR_MASK) or page.tags.valueof(_SUBFILE_TYPE) == _COPY
                stack = _STACK.match(page.description)
                planes = max(1, int(stack[1] or stack[2]) if stack else 0, page.imagedepth)
                yield _Page(page.offset, int(page.imagewidth), int(page.imagelength), is_copy, planes)
    except Exception:  # tifffile raises a dozen types for damaged files
        return
