"""Small files that announce or unpack to too much are rejected in bounded memory."""

from __future__ import annotations

import gzip
import io
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from PIL import Image

from raydistill.datasets.table import ImageTable
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures import archives, cells
from raydistill.galaxies.pictures.files import read_source
from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.galaxies.pictures.sources import ParquetImages

MAX_GROWTH = 600_000  # kB

CHECK = """
import resource, sys, warnings
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.galaxies.pictures.sources import FolderImages
warnings.simplefilter("error")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
for source in sys.argv[1:]:
    images = FitsImages("x", channels=(0, 1, 2)) if ".fits" in source else FolderImages("x", value_range=(0, 1000))
    try:
        print("decoded", images.decode(source).shape)
    except RejectedImage as error:
        print(error)
    print(peak() - before)
"""


def png(width: int, height: int, bits: int = 8) -> bytes:
    """Announce a grey PNG of any size; its rows end early."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


def png_with_text() -> bytes:
    """Put a gigabyte of compressed text into a small PNG."""
    text = b"zTXtkey\0\0" + zlib.compress(bytes(1 << 26))
    content = io.BytesIO()
    Image.new("RGB", (40, 40)).save(content, "PNG")
    start, end = content.getvalue()[:33], content.getvalue()[33:]
    return start + struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text)) + end


def empty_picture(kind: str, **options: object) -> bytes:
    """Return a sound picture of 13000 x 13000 px, which compresses to little."""
    content = io.BytesIO()
    Image.new("1" if kind == "PNG" else "L", (13_000, 13_000)).save(content, kind, **options)
    return content.getvalue()


def huge(content: bytes, marker: bytes, skip: int, order: str) -> bytes:
    """Return a picture whose header announces 65500 x 65500 px."""
    at = content.index(marker) + skip
    return content[:at] + struct.pack(f"{order}HH", 65_500, 65_500) + content[at + 4 :]


def small_picture(kind: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, kind)
    return content.getvalue()


def compressed_fits(side: int) -> bytes:
    """Return a compressed plane of zeros that announces `side` x `side` pixels."""
    content = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((64, 64), np.uint8))]).writeto(content)
    return re.sub(rb"(ZNAXIS\d *= *)  64 ", lambda match: match[1] + b"%4d " % side, content.getvalue())


def long_fits_header() -> bytes:
    card = b"COMMENT".ljust(80)
    return fits_header(8, 8)[:2880].replace(b"END ".ljust(80), card) + card * 36 * 5000


def tiff(width: int, height: int) -> bytes:
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (278, 4, height),
        (279, 4, 64),
    ]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 72) + bytes(64) + struct.pack("<H", len(entries)) + directory + bytes(4)


def npy(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(1000)


def zeros_in_gzip(num_mebibytes: int) -> bytes:
    """Return gzip members that unpack to zeros; each has 16 MiB."""
    return gzip.compress(bytes(1 << 24)) * (num_mebibytes // 16)


def fits_header(*lengths: int) -> bytes:
    axes = {f"NAXIS{number}": length for number, length in enumerate(lengths, 1)}
    cards = fits.Header({"SIMPLE": True, "BITPIX": -64, "NAXIS": len(lengths)} | axes)
    return cards.tostring().encode() + bytes(2880)


def cube(side: int) -> bytes:
    content = io.BytesIO()
    fits.PrimaryHDU(np.zeros((3, side, side), np.uint8)).writeto(content)
    return content.getvalue()


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", content)
    return buffer.getvalue()


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "PNG of 50000 x 50000": ("a.png", lambda: png(50_000, 50_000), "wrong-size"),
    "PNG of 50000 x 50000 in 16 bits": ("a.png", lambda: png(50_000, 50_000, 16), "wrong-size"),
    "PNG with a text of 64 MiB": ("a.png", png_with_text, "corrupt"),
    "sound PNG of 13000 x 13000": ("a.png", lambda: empty_picture("PNG"), "wrong-size"),
    "sound GIF of 13000 x 13000": ("a.gif", lambda: empty_picture("GIF"), "wrong-size"),
    "sound TIFF of 13000 x 13000": ("a.tif", lambda: empty_picture("TIFF", compression="tiff_lzw"), "wrong-size"),
    "sound JPEG 2000 of 13000 x 13000": ("a.jp2", lambda: empty_picture("JPEG2000"), "wrong-size"),
    "JPEG of 65500 x 65500": ("a.jpg", lambda: huge(small_picture("JPEG"), b"\xff\xc0", 5, ">"), "wrong-size"),
    "GIF of 65500 x 65500": ("a.gif", lambda: huge(small_picture("GIF"), b"GIF8", 6, "<"), "wrong-size"),
    "TIFF of 100000 x 100000": ("a.tif", lambda: tiff(100_000, 100_000), "wrong-size"),
    "PPM of 60000 x 60000": ("a.ppm", lambda: b"P6 60000 60000 255\n" + bytes(100), "wrong-size"),
    "array of 10^12 values": ("a.npy", lambda: npy((10**6, 10**6, 3)), "corrupt"),
    "array of 10^9 values": ("a.npy", lambda: npy((30_000, 30_000, 3), "<f8"), "corrupt"),
    "array of 2^62 values": ("a.npy", lambda: npy((2**31, 2**31)), "corrupt"),
    "FITS of 10^12 values": ("a.fits", lambda: fits_header(10**6, 10**6), "wrong-size"),
    "FITS of 2 x 10^8 values": ("a.fits", lambda: fits_header(2 * 10**4, 10**4), "truncated"),
    "compressed FITS of 9000 x 9000": ("a.fits", lambda: compressed_fits(9000), "wrong-size"),
    "FITS of 3 x 8192 x 8192 in gzip": ("a.fits.gz", lambda: gzip.compress(cube(8192)), "wrong-size"),
    "FITS header of 14 MB in gzip": ("a.fits.gz", lambda: gzip.compress(long_fits_header()), "a header of more than"),
    "gzip of 2 GiB": ("a.fits.gz", lambda: zeros_in_gzip(2048), "it has more than"),
    "zip with a file of 200 MB in a picture of 200 kB": ("a.zip", lambda: zipped(bytes(200_000_000)), "corrupt"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int]]:
    """Return the sentence of each bomb, and the growth of the memory [kB] up to it."""
    sources = []
    for name, make, _ in BOMBS.values():
        path, content = tmp_path_factory.mktemp("bomb") / name, make()
        assert len(content) < 3_000_000
        path.write_bytes(content)
        sources.append(f"{path}/a.png" if name.endswith(".zip") else str(path))
    lines = subprocess.run([sys.executable, "-c", CHECK, *sources], capture_output=True, text=True, check=True).stdout
    sentences, growths = lines.splitlines()[::2], map(int, lines.splitlines()[1::2])
    return dict(zip(BOMBS, zip(sentences, growths, strict=True), strict=True))


@pytest.mark.parametrize("kind", BOMBS)
def test_small_file_that_announces_too_much_is_rejected(results: dict[str, tuple[str, int]], kind: str) -> None:
    sentence, growth = results[kind]
    assert BOMBS[kind][2] in sentence
    assert growth < MAX_GROWTH


def test_file_without_end_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 1 << 22)
    with (tmp_path / "a.png").open("wb") as stream:
        stream.truncate(1 << 42)  # it takes no space on the disk
    with pytest.raises(RejectedImage, match=r"wrong-size; it has more than 4 MiB"):
        read_source(str(tmp_path / "a.png"))


@pytest.mark.parametrize("kind", ["array", "bytes"])
def test_parquet_column_that_unpacks_to_too_much_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(cells, "SMALL", 1 << 20)
    size = 3_000_000
    lists = pa.ListArray.from_arrays([0, size], pa.array(np.zeros(size, np.uint8)))
    column = pa.ListArray.from_arrays([0, 1], lists) if kind == "array" else pa.array([bytes(size)])
    rows = pa.table({"id_str": ["a"], "image": column, "label": [0]})
    pq.write_table(rows, tmp_path / "v.parquet", compression="zstd")
    assert (tmp_path / "v.parquet").stat().st_size < 10_000
    with pytest.raises(CatalogError, match="column 'image' unpacks to more than 200 times its size"):
        ParquetImages(str(tmp_path / "v.parquet")).rows()
    with pytest.raises(CatalogError, match="column 'image' unpacks to more than 200 times its size"):
        ImageTable(root=str(tmp_path / "v.parquet")).index()
