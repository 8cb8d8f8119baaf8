"""Find and read the files of pictures."""

from __future__ import annotations

import hashlib
import os
import string
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

import pyarrow as pa
import pyarrow.fs as pafs

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.catalog import read_filename_mapping
from raydistill.galaxies.folders import list_folder
from raydistill.galaxies.pictures.archives import MAX_BYTES, find_archive, read_bounded
from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.galaxies.tables.ids import Duplicates, check_repeated
from raydistill.log import get_logger
from raydistill.storage import CHECK_ACCESS, arrow_filesystem, compression_of, error_message, open_stream

log = get_logger(__name__)

PICTURE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".jp2", ".j2k", ".avif", ".npy",
)  # fmt: skip
FITS_SUFFIXES = (
    ".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fts.gz", ".fits.fz", ".fits.bz2", ".fit.bz2", ".fts.bz2",
)  # fmt: skip
ANY_SUFFIX = ".*"
_PACKED = ("gz", "fz", "bz2")

Source = bytes | str | None  # content of a file, its path, or None for a catalogue row without a picture


def check_pattern(pattern: str) -> None:
    """Raise ConfigError unless the pattern makes a file name of an object id."""
    fields = {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None}
    what, where = f"'{pattern}' is not a file name pattern", "survey.images.pattern"
    if fields != {"id"}:
        raise ConfigError(what, where, "write {id} in place of the object id")
    try:
        shown = pattern.format(id="q7")
    except (ValueError, LookupError, AttributeError):
        shown = ""
    if "q7" not in shown or "q70" in shown:  # ids are text, and {id:06} pads text with zeros on the right
        raise ConfigError(what, where, "write {id}, or {id:0>6} for six digits with leading zeros")


def locate(
    root: str,
    pattern: str,
    mapping: str | None,
    object_ids: Sequence[str],
    suffixes: Sequence[str] = PICTURE_SUFFIXES,
    bands: Sequence[str] = (),
    duplicates: Duplicates = "reject",
) -> list[str | None]:
    """Return the path of each object's file, or None if it has none.

    Parameters
    ----------
    root, pattern, mapping
        As in `FolderImages`. `{band}` in the pattern stands for each of `bands`.
    object_ids
        The objects.
    suffixes
        What `.*` at the end of a pattern may stand for, in lower case.
    bands
        Names of the files of one object. Its path then holds all of them: `m51-{i,r,g}.fits`.
    duplicates
        What happens to an object with several files, by several suffixes or asset ids: "reject", or
        "first", in the order of the mapping and then of the suffixes.

    Raises
    ------
    CatalogError
        If the folder cannot be listed, or objects with several files are rejected.
    """
    names = _candidates(pattern, mapping, object_ids, bands)
    listed = list_files(root, recursive="/" in pattern or any("/" in name for tried in names for name in tried))
    stored = {unicodedata.normalize("NFC", name): name for name in listed}
    if pattern.endswith(ANY_SUFFIX):
        stems = by_stem(stored, suffixes)
        files = [[file for name in tried for file in stems.get(name.removesuffix(ANY_SUFFIX), [])] for tried in names]
    else:
        files = [[name for name in tried if all(file in stored for file in band_files(name, bands))] for tried in names]
    several = {object_id: paths for object_id, paths in zip(object_ids, files, strict=True) if len(paths) > 1}
    example = " and ".join(next(iter(several.values()), [])[:2])
    check_repeated(list(several), f"have several pictures, such as {example}", root, duplicates, "keep one of each")
    if not bands:
        absent = [tried[0] for tried, matches in zip(names, files, strict=True) if tried and not matches]
        _warn_of_other_suffixes(pattern, absent, stored, suffixes)
    return [f"{root.rstrip('/')}/{stored.get(matches[0], matches[0])}" if matches else None for matches in files]


def expected_names(
    pattern: str, mapping: str | None, object_ids: Sequence[str], bands: Sequence[str] = ()
) -> list[str]:
    """Return the file name of each object below the folder; "" if it has none.

    An object has none if the mapping lacks it.
    """
    return [tried[0] if tried else "" for tried in _candidates(pattern, mapping, object_ids, bands)]


def _candidates(
    pattern: str, mapping: str | None, object_ids: Sequence[str], bands: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return the possible file names of each object: one, or one per asset id."""
    assets = None if mapping is None else read_filename_mapping(mapping)
    pattern = pattern.replace("{band}", "{" + _braces(bands) + "}")
    ids = [(object_id,) if assets is None else assets.get(object_id, ()) for object_id in object_ids]
    return [tuple(pattern.format(id=asset) for asset in assets) for assets in ids]


def band_files(name: str, bands: Sequence[str]) -> list[str]:
    """Return the files of all bands: `m51-{i,r,g}.fits` -> `m51-i.fits`, ..."""
    return [name.replace(_braces(bands), band) for band in bands] if bands else [name]


def _braces(bands: Sequence[str]) -> str:
    return "{" + ",".join(bands) + "}"


def by_stem(names: Collection[str], suffixes: Sequence[str]) -> dict[str, list[str]]:
    """Return the files with one of these suffixes, by their name without it.

    The files of one name are in the order of the suffixes.
    """
    stems: dict[str, list[str]] = {}
    for name in sorted(names):
        if suffix := suffix_of(name, suffixes):
            stems.setdefault(name[: -len(suffix)], []).append(name)
    for stem, files in stems.items():
        files.sort(key=lambda name: suffixes.index(name[len(stem) :].lower()))
    return stems


def suffix_of(name: str, suffixes: Sequence[str]) -> str:
    """Return the suffix of a file in lower case, or "" if it is none of `suffixes`."""
    last = name.rpartition("/")[2].lower()
    _, dot, first = last.rpartition(".")
    if first in _PACKED:
        return next((suffix for suffix in suffixes if last.endswith(suffix)), "")
    return dot + first if dot + first in suffixes else ""


def is_absolute(path: str) -> bool:
    """Return whether a path is a URI or begins at a disk's root, also a Windows one."""
    return path.startswith("/") or "://" in path or path[1:3] == ":/"


def below(root: str, path: str) -> str:
    """Return the place of a file below a folder; an absolute path is its own place."""
    return path if is_absolute(path) else f"{root.rstrip('/')}/{path}"


def _warn_of_other_suffixes(
    pattern: str, absent: Sequence[str], present: Collection[str], suffixes: Sequence[str]
) -> None:
    """Warn of missing pictures that are there under another suffix."""
    stem, dot, suffix = pattern.rpartition(".")
    if not absent or not dot or "/" in suffix:
        return
    stems = by_stem(present, suffixes)
    others = [stems[name.removesuffix(dot + suffix)][0] for name in absent if name.removesuffix(dot + suffix) in stems]
    if others:
        log.warning(
            "curate: %d pictures have another suffix than .%s, such as %s; survey.images.pattern='%s.*' finds them",
            len(others), suffix, others[0], stem,
        )  # fmt: skip


def list_files(root: str, recursive: bool, once: bool = False) -> dict[str, int]:
    """Return the sizes [bytes] of the files in a folder or zip, by path below it.

    Files of a zip with a folder around all of them also have the names below that folder.

    Parameters
    ----------
    root, recursive
        What to list.
    once
        Leave out links to what is listed already, with a warning. Else a file has the names through
        these links, too.
    """
    if located := find_archive(root):
        archive, folder = located
        inside = archive.sizes(folder) | ({} if folder else archive.sizes(archive.wrapper))
        return _not_empty(inside, root)
    try:
        listing = list_folder(root, recursive)
    except NotADirectoryError as error:
        raise CatalogError("this is a file, and no zip", root, "unpack it and give the folder") from error
    except FileNotFoundError as error:
        raise CatalogError(
            "there is no such image folder", root, "check survey.images.root, or download the images first"
        ) from error
    except OSError as error:
        raise CatalogError(f"the image folder cannot be listed ({error_message(error)})", root, CHECK_ACCESS) from error
    if not listing.files and listing.folders:
        fix = "name them in survey.images.pattern, or give survey.images.path_column"
        raise CatalogError("the image folder holds folders and no files", root, fix)
    return _not_empty(listing.files_once(root) if once else listing.with_aliases(), root)


def digest_files(root: str, names: Sequence[str]) -> str:
    """Return the digest of names and sizes of files below `root`, a folder or a zip.

    The contents of the files are not read.
    """
    sizes = list_files(root, recursive=True, once=True)
    return hashlib.sha256(repr([(name, sizes.get(name)) for name in names]).encode()).hexdigest()


def _not_empty(files: dict[str, int], root: str) -> dict[str, int]:
    if not files:
        raise CatalogError("the image folder is empty", root, "download the images first")
    return files


def _read(path: str) -> bytes:
    """Return the decompressed content of a file on a disk, at a URI or in a zip.

    The suffix of the file decides the compression.
    """
    located = find_archive(path)
    if located is None:
        with open_stream(path) as stream:
            if compression_of(path) is None:
                return read_bounded(stream, MAX_BYTES, path)
            system, at = arrow_filesystem(path)
            return read_bounded(stream, system.get_file_info(at).size or 0, path)
    archive, name = located
    content = archive.read(name, path)
    compression = compression_of(name)
    if compression is None:
        return content
    with pa.CompressedInputStream(pa.BufferReader(content), compression) as stream:
        return read_bounded(stream, len(content), path)


def read_source(source: Source) -> tuple[bytes, str]:
    """Return the content of a picture file, and its path for error messages.

    Raises
    ------
    RejectedImage
        With the reason missing, unreadable, empty, or wrong-size if it unpacks to far too much.
    CatalogError
        If a remote storage fails: that is not a fault of the picture.
    """
    where = source if isinstance(source, str) else ""
    if source is None:
        raise RejectedImage("missing", where, "no picture for this object")
    if isinstance(source, str):
        try:
            source = _read(source)
        except FileNotFoundError as error:
            raise RejectedImage("missing", where, "no such file") from error
        except OSError as error:
            if "://" in where:
                raise CatalogError(
                    f"cannot be read ({error_message(error)})", where, "run the command again"
                ) from error
            raise RejectedImage("unreadable", where, error_message(error)) from error
    if not source:
        raise RejectedImage("empty", where, "a file of 0 bytes")
    return bytes(source), where


# Reject pictures outside the folder that the config names.
#
# A path in a table, or a link in a folder, may name any picture of the machine. It would then be in
# the set that is shared. A config of one's own takes such pictures with `allow_outside: true`.

_ALLOW = "copy them into it, or set {}.allow_outside=true if you trust where the data come from"
ALLOW_IMAGES, ALLOW_DATA_SET = _ALLOW.format("survey.images"), _ALLOW.format("survey")


def check_links(root: str, names: Iterable[str], fix: str) -> None:
    """Raise CatalogError if links lead names below a local folder out of it."""
    system, at = arrow_filesystem(root)
    if not isinstance(system, pafs.LocalFileSystem) or not os.path.isdir(at):
        return
    base = os.path.realpath(at)
    by_folder: dict[str, list[str]] = {}
    for name in names:
        by_folder.setdefault(name.rpartition("/")[0], []).append(name)
    outside = [name for folder, paths in by_folder.items() for name in _led_outside(base, folder, paths)]
    if outside:
        first = os.path.realpath(f"{base}/{min(outside)}")
        what = f"links lead {len(outside)} pictures out of this folder (first: {min(outside)} to {first})"
        raise CatalogError(what, root, fix)


def _led_outside(base: str, folder: str, names: list[str]) -> list[str]:
    at = os.path.join(base, folder)
    if not _is_below(os.path.realpath(at), base):
        return names
    links: set[str] = set()
    with suppress(NotADirectoryError, FileNotFoundError), os.scandir(at) as entries:
        links = {entry.name for entry in entries if entry.is_symlink()}
    linked = [name for name in names if name.rpartition("/")[2] in links] if links else []
    return [name for name in linked if not _is_below(os.path.realpath(f"{base}/{name}"), base)]


def check_source(source: Source, root: str, where: str, fix: str) -> Source:
    """Return a picture. CatalogError if it is a path or URI that is not below `root`."""
    if not isinstance(source, str) or is_inside(source, root):
        return source
    raise CatalogError(f"a row names the picture {source:.300}, outside of {root}", where, fix)


def is_inside(path: str, root: str) -> bool:
    """Return whether a path or URI lies below a folder, also after its links."""
    system, at = arrow_filesystem(root)
    if not isinstance(system, pafs.LocalFileSystem):
        return path.startswith(f"{root.rstrip('/')}/") and ".." not in path.split("/")
    return "://" not in path and _is_below(os.path.realpath(os.path.expanduser(path)), os.path.realpath(at))


def _is_below(path: str, base: str) -> bool:
    return path == base or path.startswith(f"{base.rstrip('/')}/")
