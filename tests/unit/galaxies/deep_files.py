"""Encode pictures of more than 8 bits: Pillow writes none with colour."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def png_16(values: np.ndarray) -> bytes:
    """Encode `[H, W]` or `[H, W, C]` as a 16-bit PNG: C = 2 or 4 have opacity."""
    height, width, *channels = values.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels[0] if channels else 1]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff_16(values: np.ndarray, *, packed: bool = False, planar: bool = False, big: bool = False) -> bytes:
    """Encode `[H, W, 3]` as a 16-bit TIFF: deflated, in planes, or big-endian."""
    end, (height, width, count) = ">" if big else "<", values.shape
    data = values.astype(f"{end}u2")
    strips = [np.ascontiguousarray(data[..., c]).tobytes() for c in range(count)] if planar else [data.tobytes()]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    out = bytearray((b"MM\0*" if big else b"II*\0") + bytes(4))

    def append(block: bytes) -> int:
        out.extend(bytes(len(out) % 2) + block)
        return len(out) - len(block)

    offsets = [append(strip) for strip in strips]
    lengths = [len(strip) for strip in strips]
    many = len(strips) > 1
    at = {273: offsets[0], 279: lengths[0]}
    if many:
        at = {tag: append(struct.pack(f"{end}{count}I", *block)) for tag, block in ((273, offsets), (279, lengths))}
    bits = append(struct.pack(f"{end}{count}H", *[16] * count))
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, count, bits), (259, 3, 1, 8 if packed else 1), (262, 3, 1, 2),
        (273, 4, len(strips), at[273]), (277, 3, 1, count), (278, 4, 1, height), (279, 4, len(strips), at[279]),
        (284, 3, 1, 2 if planar else 1),
    ]  # fmt: skip
    directory = struct.pack(f"{end}H", len(entries))
    for tag, kind, number, value in entries:
        is_short = kind == 3 and number == 1
        directory += struct.pack(f"{end}HHI", tag, kind, number)
        directory += struct.pack(f"{end}HH", value, 0) if is_short else struct.pack(f"{end}I", value)
    out[4:8] = struct.pack(f"{end}I", append(directory + bytes(4)))
    return bytes(out)


def with_pillow(values: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()
