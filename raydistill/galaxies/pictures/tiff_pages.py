"""Find the picture in a TIFF of several pages.

Pages may be the picture, smaller copies of it, and masks. A copy or mask says so in its tag
NewSubfileType; a smaller page of the same proportions is a copy too. Other pages are pictures of
their own, such as the bands or the times of a stack.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF

_MAX_PAGES = 10_000
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _HEIGHT, _DESCRIPTION, _DEPTH = 254, 255, 256, 257, 270, 32997  # tags
_COPY_OR_MASK = 1 | 4  # bits of NewSubfileType
_COPY = 2  # value of the older SubfileType
_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # integer types of tags
# A stack may have one page and its other planes behind it: of ImageJ, or of tifffile.
_STACK = re.compile(rb'ImageJ=.*?\bimages=(\d+)|\{"shape": \[(\d+),.*"truncated": true', re.DOTALL)


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
    try:
        pages = list(islice(_pages(content), _MAX_PAGES))
    except struct.error:
        return content, 1
    if not pages:
        return content, 1
    shown = [page for page in pages if not page.is_copy] or pages
    picture = max(shown, key=lambda page: page.width * page.height)
    others = [page for page in shown if page is not picture and not page.is_copy_of(picture)]
    first = content if picture is pages[0] else _beginning_at(content, picture.offset)
    return first, max(1 + len(others), picture.num_planes)


def _layout(content: bytes) -> tuple[str, bool]:
    """Return the byte order, and whether this is a BigTIFF."""
    return "<" if content.startswith(b"II") else ">", b"+" in content[:4]


def _beginning_at(content: bytes, offset: int) -> bytes:
    """Return a TIFF that begins with the page at an offset."""
    order, is_big = _layout(content)
    start, code = (8, "Q") if is_big else (4, "I")
    changed = bytearray(content)
    struct.pack_into(order + code, changed, start, offset)
    return bytes(changed)


def _pages(content: bytes) -> Iterator[_Page]:
    """Yield the pages of a TIFF. Pages behind a damaged one are left out."""
    order, is_big = _layout(content)
    code, count_code, entry_size = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    (offset,) = struct.unpack_from(order + code, content, 8 if is_big else 4)
    seen: set[int] = set()
    while offset and offset not in seen:
        seen.add(offset)
        try:
            (count,) = struct.unpack_from(order + count_code, content, offset)
            start = offset + struct.calcsize(order + count_code)
            tags = _tags(content, start, min(count, 1 << 16), entry_size, order)
            page = _Page(offset, *tags)
            (offset,) = struct.unpack_from(order + code, content, start + count * entry_size)
        except (struct.error, OverflowError):
            return
        yield page


def _tags(content: bytes, start: int, count: int, entry_size: int, order: str) -> tuple[int, int, bool, int]:
    """Return width, height, whether a page is a copy or mask, and number of planes."""
    values: dict[int, int] = {}
    stack = 0
    for at in range(start, start + count * entry_size, entry_size):
        tag, kind = struct.unpack_from(order + "HH", content, at)
        value_at = at + entry_size - (8 if entry_size == 20 else 4)
        if tag == _DESCRIPTION:
            stack = _planes_in_text(content, at, value_at, order)
        elif kind in _CODES:
            (values[tag],) = struct.unpack_from(order + _CODES[kind], content, value_at)
    is_copy = bool(values.get(_NEW_SUBFILE_TYPE, 0) & _COPY_OR_MASK) or values.get(_SUBFILE_TYPE) == _COPY
    planes = max(1, stack, values.get(_DEPTH, 1))
    return values.get(_WIDTH, 0), values.get(_HEIGHT, 0), is_copy, planes


def _planes_in_text(content: bytes, at: int, value_at: int, order: str) -> int:
    """Return the number of planes that the description of a page tells, or 0."""
    code = order + ("Q" if value_at - at == 12 else "I")
    (length,), (start,) = struct.unpack_from(code, content, at + 4), struct.unpack_from(code, content, value_at)
    match = _STACK.match(content[start : start + min(length, 4096)])
    return int(match[1] or match[2]) if match else 0
