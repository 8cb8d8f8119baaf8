"""Unpack zip, tar and gzip archives with safe names and size limits; resumable.

An archive is unpacked to `NAME.part`, which gets its name when every file is there. A second run
keeps the files that have their CRC; a tar has none, so all its files are written again. Names that
lead out of the folder, links and devices are rejected. Pictures of all subfolders go into one
folder, and files of macOS (`__MACOSX`, `._NAME`) are left out.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Self

from raydistill.errors import DownloadError
from raydistill.escaping import for_terminal, is_utf8
from raydistill.log import get_logger, progress
from raydistill.storage import disk_errors

log = get_logger(__name__)

CHUNK = 1 << 20
MAX_EXPANSION = 100  # a catalogue compresses to a tenth, a picture not at all
SMALLEST_LIMIT = 1 << 20  # bytes that any archive may expand to
MOST_PADDING = 1 << 20  # bytes after the last file of a tar
MOST_EXTENSION = 1 << 20  # bytes of a long name or other attributes in a tar, which are read at once
SUFFIXES = {"pictures": (".jpg", ".jpeg", ".png"), "text": (".txt", ".csv", ".tsv", ".dat", "README")}
DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
)  # fmt: skip
ELSEWHERE = "choose another folder with --to"


@dataclass(frozen=True)
class Unpacked:
    """Number of files of an archive, and their bytes."""

    files: int
    size: int


def unpack(archive: Path, kind: str, target: Path) -> Unpacked:
    """Unpack an archive.

    Parameters
    ----------
    archive
        A file whose suffix says its format: .zip, .tgz, .tar.gz or .gz.
    kind
        "pictures", "text" or "gzip", as in `RemoteFile`.
    target
        Folder to write, or the file for "gzip".

    Raises
    ------
    DownloadError
        If the archive is damaged, has a name that leads out of its folder, or is larger than the
        disk or than 100 times its compressed size.
    """
    with disk_errors(str(target), ELSEWHERE), _damage_named(archive):
        limit = _Limit(archive, target)
        if kind == "gzip":
            return _unpack_gzip(archive, target, limit)
        part = target.with_name(f"{target.name}.part")
        part.mkdir(parents=True, exist_ok=True)
        members = _zip_members if archive.suffix == ".zip" else _tar_members
        with progress(None, f"unpacking {archive.name}", "files") as bar:
            total = Unpacked(0, 0)
            names: set[str] = set()
            for member in members(archive, SUFFIXES[kind]):
                if not is_utf8(member.name):
                    log.warning("%s: '%s' is not UTF-8 and is left out", archive, for_terminal(member.name))
                    continue
                name = _safe_name(member.name, archive)
                if name.lower() in names:
                    raise DownloadError(f"the archive has two files '{name}'", str(archive), "report it to its authors")
                names.add(name.lower())
                limit.add(member.size, member.size - _size(part / name))
                if not _is_complete(part / name, member):
                    _write_member(member, part / name)
                total = Unpacked(total.files + 1, total.size + member.size)
                bar.advance()
        if not total.files:
            raise DownloadError(f"the archive has no {kind}", str(archive), "remove it and run the command again")
        _remove_others(part, names)
        if target.exists():
            shutil.rmtree(target)
        part.replace(target)
    return total


@dataclass(frozen=True)
class _Member:
    """One file of an archive; `crc` is None where the format has none."""

    name: str
    size: int
    crc: int | None
    open: Callable[[], Any]  # its stream of bytes


class _Limit:
    """Bytes still allowed: free disk space, and a multiple of the archive's size."""

    def __init__(self, archive: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._archive, self._size, self._written = archive, 0, 0
        self._free = shutil.disk_usage(target.parent).free
        self._most = max(archive.stat().st_size * MAX_EXPANSION, SMALLEST_LIMIT)

    def add(self, size: int, new: int) -> None:
        """Count the bytes of a file, of which `new` are about to be written."""
        self._size += size
        self._written += new
        if self._size > self._most:
            what = f"the archive expands to more than {MAX_EXPANSION} times its size"
            raise DownloadError(what, str(self._archive), "this is not astronomical data; remove the file")
        if self._written > self._free:
            what = f"the disk has {self._free // 1_000_000} MB free, and the archive needs more"
            raise DownloadError(what, str(self._archive), f"free some space and run the command again, or {ELSEWHERE}")


@contextmanager
def _damage_named(archive: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        fix = "remove it and run the same command again"
        raise DownloadError(f"the archive is damaged ({reason})", str(archive), fix) from error


def _zip_members(archive: Path, suffixes: tuple[str, ...]) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if not info.is_dir() and _is_wanted(info.filename, suffixes):
                if (info.external_attr >> 16) & 0o170000 == 0o120000:
                    raise _unsafe(info.filename, archive)
                if info.flag_bits & 1:
                    raise DownloadError("the archive is encrypted", str(archive), "fetch another copy")
                yield _Member(info.filename, info.file_size, info.CRC, partial(opened.open, info))


class _Header(tarfile.TarInfo):
    """A header of a tar, whose attributes may not fill the memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if not header.isreg() and header.size > MOST_EXTENSION:
            raise tarfile.ReadError(f"attributes of {header.size} bytes")
        return header


def _tar_members(archive: Path, suffixes: tuple[str, ...]) -> Iterator[_Member]:
    with gzip.open(archive) as packed, tarfile.open(fileobj=packed, mode="r|", tarinfo=_Header) as opened:
        for info in opened:
            if not info.isdir() and _is_wanted(info.name, suffixes):
                if not info.isfile():
                    raise _unsafe(info.name, archive)
                yield _Member(info.name, info.size, None, partial(opened.extractfile, info))
        if len(packed.read(MOST_PADDING)) == MOST_PADDING:  # the end of the stream verifies its CRC
            raise tarfile.ReadError("there is more after its end")


def _is_wanted(name: str, suffixes: tuple[str, ...]) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    from_macos = "__MACOSX" in path.parts or path.name.startswith("._")
    return path.name.lower().endswith(tuple(suffix.lower() for suffix in suffixes)) and not from_macos


def _safe_name(name: str, archive: Path) -> str:
    """Return a name's last part. DownloadError if the name leads out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
        raise _unsafe(name, archive)
    return path.name


def _unsafe(name: str, archive: Path) -> DownloadError:
    what = f"the archive has a name or a link that leads out of its folder ('{name}')"
    return DownloadError(what, str(archive), "do not use this file; remove it")


def _is_complete(path: Path, member: _Member) -> bool:
    """Return whether an earlier run wrote the file."""
    return member.crc is not None and _size(path) == member.size and member.crc == _crc(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _write_member(member: _Member, path: Path) -> None:
    with member.open() as stream, path.open("wb") as out:  # reading verifies the CRC of a zip
        shutil.copyfileobj(stream, out, CHUNK)


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            crc = zlib.crc32(block, crc)
    return crc


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove files that an earlier run of another archive left."""
    for path in folder.iterdir():
        if path.name.lower() not in names:
            path.unlink()


def _unpack_gzip(archive: Path, target: Path, limit: _Limit) -> Unpacked:
    part = target.with_name(f"{target.name}.part")
    with gzip.open(archive) as stream, part.open("wb") as out:  # the end of the stream verifies its CRC
        while block := stream.read(CHUNK):
            limit.add(len(block), len(block))
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    size = part.stat().st_size
    part.replace(target)
    return Unpacked(1, size)
