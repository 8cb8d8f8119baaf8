"""Read files inside a zip in place. Nothing is unpacked to disk.

A path may lead into a zip: `data/x.zip/train/7.jpg`. Each process opens a zip once and keeps it
open, so its directory is read once. The directory is checked before any file is read.
"""

from __future__ import annotations

import functools
import io
import lzma
import os
import re
import struct
import weakref
import zipfile
import zlib
from collections.abc import Sequence
from typing import IO, Any

import pyarrow.fs as pafs

from raydistill.errors import CatalogError
from raydistill.galaxies.folders import is_hidden
from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.storage import arrow_filesystem, error_message

MAX_MEMBERS = 4_000_000
MAX_RATIO, SMALL = 200, 1 << 28  # unpacked to packed bytes; a zip of up to 256 MiB is always read
MAX_BYTES = 1 << 30  # of one picture's file, unpacked
HEAD = 1 << 20  # bytes to read at once

_ZIP = re.compile(r"(.+?\.zip)(?:/(.*))?", re.IGNORECASE | re.DOTALL)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_DOCUMENTS = (".txt", ".md", ".csv", ".html", ".pdf", ".json", "readme", "license")  # ends of names beside zips
_IS_UTF8 = 0x800  # flag of a name that is not in code page 437
_NUM_OPEN = 8  # zips that a process keeps open
# Errors of zipfile and its decompressors for damaged files.
DAMAGE = (
    OSError, EOFError, ValueError, NotImplementedError, OverflowError, struct.error, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip


class Archive:
    """An open zip.

    Parameters
    ----------
    uri
        Path or URI of the zip.

    Raises
    ------
    CatalogError
        If the zip is damaged or encrypted, holds paths outside it, or unpacks to far more bytes
        than pictures do.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        system, path = arrow_filesystem(uri)
        try:
            is_local = isinstance(system, pafs.LocalFileSystem)
            stream: Any = path if is_local else system.open_input_file(path)
            self._zip = zipfile.ZipFile(stream)
            size = system.get_file_info(path).size
        except FileNotFoundError as error:
            raise CatalogError("there is no such zip", uri, "check the path") from error
        except DAMAGE as error:
            what = f"cannot be read as a zip ({error_message(error)})"
            raise CatalogError(what, uri, "check the path, or download it again") from error
        # A rejected zip is in the traceback of its error, and Python may finalize its file before
        # it.
        weakref.finalize(self, self._zip.close)
        infos = {_name(info).replace("\\", "/"): info for info in self._zip.infolist()}
        if twice := repeated_names(self._zip.infolist()):
            raise self._rejected(f"the zip holds two files '{twice[0]}' that differ", "remove one of them")
        self._infos = {name: info for name, info in infos.items() if name and not name.endswith("/")}
        self._check(size)
        self._infos = {name: info for name, info in self._infos.items() if not is_hidden(name)}

    def _check(self, size: int) -> None:
        infos = list(self._infos.values())
        if len(infos) > MAX_MEMBERS:
            raise self._rejected(f"the zip holds {len(infos)} files, at most {MAX_MEMBERS} are read")
        outside = next((name for name in self._infos if _leads_outside(name)), None)
        if outside is not None:
            raise self._rejected(f"the zip holds '{outside}', a path outside of it", "check where it comes from")
        if any(info.flag_bits & 1 for info in infos):
            raise self._rejected("the zip is encrypted")
        if sum(info.file_size for info in infos) > max(SMALL, MAX_RATIO * size):
            raise self._rejected(
                f"the zip unpacks to more than {MAX_RATIO} times its size", "check where it comes from"
            )
        if other := next((info for info in infos if info.compress_type not in _METHODS), None):
            raise self._rejected(
                f"'{other.filename}' has a compression that cannot be read (type {other.compress_type})"
            )
        inner = [name for name in self._infos if name.lower().endswith(".zip")]
        if inner and all(name.lower().endswith((".zip", *_DOCUMENTS)) for name in self._infos):
            raise self._rejected(f"the zip holds zips and no pictures, such as '{inner[0]}'")

    def check_folder(self, path: str) -> None:
        """Raise CatalogError if a path in this zip leads into another one."""
        match = _ZIP.fullmatch(path)
        if match and match[1] in self._infos:
            raise self._rejected(f"'{match[1]}' is a zip in the zip")

    def _rejected(self, what: str, fix: str = "unpack it and give the folder") -> CatalogError:
        return CatalogError(what, self.uri, fix)

    @functools.cached_property
    def wrapper(self) -> str:
        """Return the path of the folder around all files that are in a folder, or ""."""
        folders = [name.rpartition("/")[0] for name in self._infos if "/" in name]
        return os.path.commonpath([min(folders), max(folders)]) if folders else ""

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return unpacked file sizes [bytes] below a folder, sorted by name below it.

        Hidden files are left out.
        """
        start = f"{folder}/" if folder else ""
        inside = {name.removeprefix(start): info for name, info in self._infos.items() if name.startswith(start)}
        return {name: inside[name].file_size for name in sorted(inside)}

    def open(self, name: str) -> IO[bytes]:
        """Open a file. KeyError if there is none of this name."""
        return self._zip.open(self._infos[name])

    def read(self, name: str, where: str) -> bytes:
        """Return a picture file's content, by its name in the zip or below `wrapper`.

        Raises
        ------
        RejectedImage
            With the reason missing, corrupt, or wrong-size if it unpacks to far too many bytes.
        OSError
            If a remote storage fails.
        """
        if name not in self._infos:
            name = f"{self.wrapper}/{name}"
        try:
            with self.open(name) as stream:
                return read_bounded(stream, self._infos[name].compress_size, where)
        except KeyError as error:
            raise RejectedImage("missing", where, "no such file in the zip") from error
        except DAMAGE as error:
            if isinstance(error, OSError) and "://" in where:  # the storage is at fault
                raise
            raise RejectedImage("corrupt", where, error_message(error)) from error


def _name(info: zipfile.ZipInfo) -> str:
    """Return a file's name. Zips of macOS have UTF-8 without the flag that says so."""
    try:
        return info.filename if info.flag_bits & _IS_UTF8 else info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename


def repeated_names(infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Return the names of a zip's files that occur twice with different contents."""
    contents: dict[str, tuple[int, int]] = {}
    return [
        info.filename for info in infos if contents.setdefault(info.filename, key := (info.CRC, info.file_size)) != key
    ]


def read_bounded(stream: IO[bytes], packed: int, where: str) -> bytes:
    """Return all bytes of a stream that unpacks `packed` bytes.

    RejectedImage if there are far more bytes than a picture has.
    """
    limit = min(MAX_BYTES, max(SMALL, MAX_RATIO * packed))
    content = io.BytesIO()
    while chunk := stream.read(HEAD):
        content.write(chunk)
        if content.tell() > limit:
            raise RejectedImage("wrong-size", where, f"it has more than {limit >> 20} MiB")
    return content.getvalue()


def find_archive(path: str) -> tuple[Archive, str] | None:
    """Return the zip on a path, and the path inside it; None if there is none.

    CatalogError if it leads into a zip in a zip.
    """
    match = _ZIP.fullmatch(path)
    if match is None or os.path.isdir(os.path.expanduser(match[1])):
        return None
    archive, inside = _open(match[1], file_version(match[1])), (match[2] or "").strip("/")
    archive.check_folder(inside)
    return archive, inside


@functools.lru_cache(maxsize=_NUM_OPEN)
def _open(uri: str, version: object) -> Archive:
    return Archive(uri)


def file_version(uri: str) -> object:
    """Return what changes with a local file; None for a URI or a missing file."""
    path = os.path.expanduser(uri)
    if "://" in uri or not os.path.exists(path):
        return None
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _leads_outside(name: str) -> bool:
    return name.startswith("/") or name[1:3] == ":/" or ".." in name.split("/")
