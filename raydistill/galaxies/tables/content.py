"""Read the bytes of a table's file behind gzip, bzip2, xz, zstd, lz4 or zip.

The first bytes of a file decide, not its name. Nothing is written to disk. A file that unpacks to
far more bytes than real tables do is rejected.
"""

from __future__ import annotations

import io
import lzma
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.fs as pafs

from raydistill.errors import CatalogError, nearest
from raydistill.galaxies.folders import is_hidden
from raydistill.storage import arrow_filesystem

HEAD = 1 << 20  # bytes from which formats, encodings and headers are found
MAX_LAYERS = 4  # for example gzip in zip in zip
MAX_MEMBERS = 1_000_000
MAX_RATIO, SMALL = 200, 1 << 28  # unpacked to packed bytes; an unpacked file up to 256 MiB is always read

_CODECS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x5d\x00\x00": "xz",  # the older .lzma
}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_SUFFIXES = (".gz", ".bz2", ".xz", ".lzma", ".zst", ".lz4", ".zip")


@dataclass(frozen=True)
class Content:
    """The unpacked bytes of a file.

    Attributes
    ----------
    name
        The file's name, without the suffix of its compression.
    open
        Returns a new stream from the first byte.
    path
        The file system and path, if the file is not compressed; else None.
    """

    uri: str
    name: str
    open: Callable[[], IO[bytes]]
    path: tuple[pafs.FileSystem, str] | None = None

    def head(self, size: int = HEAD) -> bytes:
        with self.open() as stream:
            return stream.read(size)

    def read(self) -> bytes:
        with self.open() as stream:
            return stream.read()


def open_content(uri: str, member: str | None = None) -> Content:
    """Return the unpacked bytes of a file.

    Parameters
    ----------
    uri : str
        Path or URI of a file.
    member : str, optional
        Name of the file to read from a zip that holds several tables.

    Raises
    ------
    CatalogError
        For a zip without a table or with several, an encrypted one, and a decompression bomb.
    FileNotFoundError, OSError
        If the file cannot be opened.
    """
    system, path = arrow_filesystem(uri)
    content = Content(uri, uri.rstrip("/").rpartition("/")[2], lambda: system.open_input_file(path), (system, path))
    size = system.get_file_info(path).size
    for _ in range(MAX_LAYERS):
        head = content.head(8)
        if head.startswith(_ZIP):
            content = _open_member(content, member)
        elif codec := next((codec for magic, codec in _CODECS.items() if head.startswith(magic)), None):
            content = _decompressed(content, codec, max(SMALL, MAX_RATIO * (size or 0)))
        else:
            return content
    raise CatalogError(f"the file is packed more than {MAX_LAYERS} times", uri, "unpack it and give the table")


def without_packing(name: str) -> str:
    """Return a file name in lower case, without the suffixes of compressions."""
    name = name.lower()
    while name.endswith(_SUFFIXES):
        name = name.rpartition(".")[0]
    return name


def _decompressed(packed: Content, codec: str, limit: int) -> Content:
    def open_stream() -> Any:
        stream: Any = packed.open()
        unpacked = lzma.open(stream) if codec == "xz" else pa.CompressedInputStream(stream, codec)  # noqa: SIM115
        return _Bounded(unpacked, stream, limit, packed.uri)

    return Content(packed.uri, packed.name, open_stream)


class _Bounded(io.RawIOBase):
    """A stream of an unpacked file, up to a limit [bytes]."""

    def __init__(self, unpacked: Any, packed: Any, limit: int, uri: str) -> None:
        self._unpacked, self._packed, self._left, self._uri = unpacked, packed, limit, uri

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        chunks = []
        while size is None or size != 0:
            chunk = self._unpacked.read(HEAD if size is None or size < 0 else min(size, HEAD))
            self._left -= len(chunk)
            if self._left < 0:
                raise _bomb(self._uri)
            chunks.append(chunk)
            if not chunk:
                break
            size = size if size is None or size < 0 else size - len(chunk)
        return b"".join(chunks)

    def close(self) -> None:
        if not self.closed:
            self._unpacked.close()
            self._packed.close()
        super().close()


def _bomb(uri: str) -> CatalogError:
    what = f"the file unpacks to more than {MAX_RATIO} times its size"
    return CatalogError(what, uri, "check where it comes from; if it is a table, unpack it and give the table")


# ---- zip ----


def _open_member(packed: Content, member: str | None) -> Content:
    """Return the only table of a zip, or the one that `member` names."""
    archive = zipfile.ZipFile(_seekable(packed))
    if len(archive.infolist()) > MAX_MEMBERS:
        raise CatalogError(f"the zip holds {len(archive.infolist())} files", packed.uri, "unpack it and give the table")
    info = _choose(archive, member, packed.uri)
    if info.flag_bits & 1:
        raise CatalogError("the zip is encrypted", packed.uri, "unpack it and give the table")
    if info.file_size > max(SMALL, MAX_RATIO * info.compress_size):
        raise _bomb(packed.uri)
    return Content(packed.uri, info.filename.rpartition("/")[2], lambda: archive.open(info))


def _choose(archive: zipfile.ZipFile, member: str | None, uri: str) -> zipfile.ZipInfo:
    infos = {info.filename: info for info in archive.infolist() if not info.is_dir() and not is_hidden(info.filename)}
    if twice := [name for name, count in Counter(archive.namelist()).items() if count > 1]:
        raise CatalogError(f"the zip holds two files '{twice[0]}'", uri, "unpack it and give the table")
    if any(name.startswith("xl/") for name in infos):
        raise CatalogError("this is an Excel workbook", uri, "save the sheet as CSV")
    tables = [name for name in infos if is_table_name(name)] or [name for name in infos if len(infos) == 1]
    named = [name for name in infos if member in (name, name.rpartition("/")[2])]
    if len(named) == 1 or member in infos:
        return infos[member] if member in infos else infos[named[0]]
    if len(tables) == 1:
        return infos[tables[0]]
    if not tables:
        raise CatalogError("there is no table in the zip", uri, "unpack it and give the table")
    raise CatalogError(
        f"the zip holds {len(tables)} tables",
        uri,
        f"name one with survey.hdu=NAME; {nearest(member or '', sorted(tables))}",
    )


def _seekable(packed: Content) -> Any:
    return packed.open() if packed.path else io.BytesIO(packed.read())


def is_ignored(path: str) -> bool:
    """Return whether a part of a file's path begins with a dot or underscore.

    Such a file in a folder is left out, as by pyarrow.
    """
    return any(part.startswith((".", "_")) for part in path.split("/"))


# Suffixes of tables in folders and zips.
TABLE_SUFFIXES = {
    ".csv": "text",
    ".tsv": "text",
    ".tab": "text",
    ".txt": "text",
    ".dat": "text",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".feather": "feather",
    ".arrow": "feather",
    ".fits": "fits",
    ".fit": "fits",
    ".fts": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".ecsv": "ecsv",
    ".mrt": "cds",
    ".tbl": "ipac",
}


def suffix_format(name: str) -> str | None:
    """Return the format that a file's suffix names, or None."""
    stem, dot, suffix = without_packing(name).rpartition(".")
    return TABLE_SUFFIXES.get(dot + suffix) if stem else None


def is_table_name(path: str) -> bool:
    """Return whether a file has a table's suffix, and not a README's name."""
    name = path.rpartition("/")[2].lower()
    packed_table = name.endswith(".zip") and "." not in without_packing(name)
    return not name.startswith(("readme", "license", "licence")) and (suffix_format(name) is not None or packed_table)
