"""Find pictures by the paths in a column of the table.

A table may come from another machine, where its paths began in another folder. The end of such a
path is looked up below the folder of pictures.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property, partial
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow.fs as pafs

from raydistill.errors import CatalogError
from raydistill.galaxies.folders import list_folder
from raydistill.galaxies.numbers import MISSING
from raydistill.galaxies.pictures.files import (
    FITS_SUFFIXES,
    PICTURE_SUFFIXES,
    by_stem,
    is_absolute,
    list_files,
    suffix_of,
)
from raydistill.galaxies.tables.ids import Duplicates, check_repeated
from raydistill.log import get_logger
from raydistill.storage import CHECK_ACCESS, arrow_filesystem, error_message

log = get_logger(__name__)

_NO_PATH, _NO_FILE, _SHARED = "the table has no path", "no such file", "several paths of the table fit one file"
_OUTSIDE = "it lies outside of survey.images.root"
_LONGEST = 4096  # characters of a path
_FILE_URI = re.compile(r"file:(//[^/]*)?", re.IGNORECASE)
_WEB = re.compile(r"(https?|ftp)://", re.IGNORECASE)
_SUFFIXES = (*PICTURE_SUFFIXES, *FITS_SUFFIXES)
_PLAIN = re.compile(r"(?:[^\s\W][\w+-]*/)*[^\s\W][\w+-]*(?:\.\w+)?")  # a path that needs no cleaning


class FoundPaths(NamedTuple):
    """The picture of each row of a table.

    Attributes
    ----------
    files : list of str or None
        Path below the folder of pictures, or an absolute path or URI outside it.
    tried : list of str
        The path of the table, with slashes; "" if it has none.
    reasons : list of str
        Why there is no file; "" if there is one.
    """

    files: list[str | None]
    tried: list[str]
    reasons: list[str]


def find_paths(
    root: str, values: Sequence[str | None], column: str, table: str, suffixes: Sequence[str] = PICTURE_SUFFIXES,
    duplicates: Duplicates = "reject", allow_outside: bool = False,
) -> FoundPaths:  # fmt: skip
    """Find the picture of each row by its path. The folder is listed once.

    Parameters
    ----------
    root : str
        Path or URI of the folder of pictures, at which relative paths begin.
    values : sequence of str or None
        The paths: relative or absolute, with slashes or backslashes, or URIs.
    column, table : str
        Where the paths are from.
    suffixes : sequence of str
        Suffixes of pictures, which a path may lack.
    duplicates : {"reject", "first"}
        What happens to a path that fits several files with other suffixes; the order is that of
        `suffixes`.
    allow_outside : bool
        Find files outside the folder, too. Else no store is asked for them.

    Returns
    -------
    FoundPaths

    Raises
    ------
    CatalogError
        If a relative path leaves the folder by "..", if an absolute one does and that is not
        allowed, for addresses of the web, if the folder cannot be listed, or if paths that fit
        several files are rejected.
    """
    cleaner = _Cleaner(root, column, table)
    paths: dict[str | None, str] = {}
    for row, value in enumerate(values, start=1):
        if value not in paths:
            paths[value] = cleaner.clean(value, row)
    distinct = sorted({path for path in paths.values() if path})
    rivals: dict[str, list[str]] = {}
    listing = partial(_Listing, suffixes=suffixes, rivals=rivals)
    files = _find_below(root, [path for path in distinct if not is_absolute(path)], listing, column)
    files |= _find_absolute(root, [path for path in distinct if is_absolute(path)], listing, column, allow_outside)
    outside = sorted(path for path in files.values() if is_absolute(path))
    if outside and not allow_outside:
        what = f"column '{column}' names {len(outside)} pictures outside of {root} (first: {outside[0]})"
        fix = "set survey.images.root to a folder above all pictures, or survey.images.allow_outside=true if you trust the table"
        raise CatalogError(what, table, fix)
    if outside:
        log.info("curate: %d pictures lie outside survey.images.root, such as %s", len(outside), outside[0])
    shared = _drop_shared(files)
    _check_suffixes(root, files, rivals, column, duplicates)
    tried = [paths[value] for value in values]
    matches = [files.get(path) for path in tried]
    _warn_of_repeated(matches)
    absent = {
        path: _OUTSIDE if "://" in path and not allow_outside else _NO_FILE if path else _NO_PATH for path in tried
    }
    reasons = ["" if path in files else _SHARED if path in shared else absent[path] for path in tried]
    return FoundPaths(matches, tried, reasons)


class _Cleaner:
    """Turn the paths of a table into paths below the picture folder, or absolute ones."""

    def __init__(self, root: str, column: str, table: str) -> None:
        system, at = arrow_filesystem(root)
        self._is_local = isinstance(system, pafs.LocalFileSystem)
        self._root, self._column, self._table = root, column, table
        bases = (at, os.path.realpath(at)) if self._is_local else (root,)
        self._starts = tuple(f"{base.rstrip('/')}/" for base in bases)

    def clean(self, value: str | None, row: int) -> str:
        """Return a path; "" if the table has none."""
        text = (value or "").strip().strip("'\"").strip()
        if text.lower() in MISSING:
            return ""
        if _PLAIN.fullmatch(text):
            return text
        if len(text) > _LONGEST or text.startswith("data:"):
            what = f"column '{self._column}' holds encoded text, not paths (row {row}: {text[:20]}…)"
            raise CatalogError(what, self._table, "decode it into files, and give their folder")
        path = self._below(self._normal(text))
        if _WEB.match(path):
            what = f"column '{self._column}' holds addresses of the web (first: {path})"
            raise CatalogError(what, self._table, "download the pictures into a folder first, and give that folder")
        if path == ".." or path.startswith("../"):
            beside = posixpath.normpath(f"{arrow_filesystem(self._table)[1].rpartition('/')[0]}/{path}")
            path = self._below(beside)  # it may begin at the folder of the table
            if path == beside:
                what = f"the path '{text}' in row {row} of column '{self._column}' leaves the folder {self._root}"
                raise CatalogError(what, self._table, "set survey.images.root to a folder above all pictures")
        return "" if path == "." else path

    def _normal(self, text: str) -> str:
        """Return a path with single slashes, without `.` and without `..` between folders."""
        if match := _FILE_URI.match(text):
            return posixpath.normpath(unquote(text[match.end() :]).replace("\\", "/"))
        scheme, separator, rest = text.partition("://")
        if separator:
            return f"{scheme}://{posixpath.normpath(rest)}"
        return posixpath.normpath(text.replace("\\", "/"))

    def _below(self, path: str) -> str:
        """Return a path below the picture folder without this folder, others unchanged."""
        start = next((start for start in self._starts if path.startswith(start)), "")
        return path[len(start) :]


class _Listing:
    """Files by name, also by another Unicode form or case, or without a suffix.

    `rivals` gets the files of one name, by the first one, which is taken.
    """

    def __init__(self, names: Iterable[str], suffixes: Sequence[str], rivals: dict[str, list[str]]) -> None:
        self._exact = frozenset(names)
        self.names = {unicodedata.normalize("NFC", name): name for name in sorted(self._exact)}
        self.suffixes, self.rivals = suffixes, rivals

    def find(self, path: str) -> str | None:
        if path in self._exact:
            return path
        path = unicodedata.normalize("NFC", path)
        if path in self.names:
            return self.names[path]
        files = self._stems.get(path) or self._stems.get(_stem(path)) or self._only_other_case(path)
        if files:
            self.rivals[self.names[files[0]]] = files
            return self.names[files[0]]
        return self.find(unquote(path)) if "%" in path and unquote(path) != path else None

    def _only_other_case(self, path: str) -> list[str]:
        """Return the files whose name differs only in case, if these have one name."""
        stems = self._folded.get(_stem(path).casefold(), [])
        return self._stems[stems[0]] if len(stems) == 1 else []

    def find_all(self, paths: Iterable[str]) -> dict[str, str]:
        return {path: file for path in paths if (file := self.find(path))}

    @cached_property
    def folders(self) -> set[str]:
        """Return the folders of the files, in lower case."""
        return {folder.casefold() for folder in {name.rpartition("/")[0] for name in self.names}}

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return by_stem(self.names, self.suffixes)

    @cached_property
    def _folded(self) -> dict[str, list[str]]:
        folded: dict[str, list[str]] = {}
        for stem in self._stems:
            folded.setdefault(stem.casefold(), []).append(stem)
        return folded


def _stem(path: str) -> str:
    return path[: len(path) - len(suffix_of(path, _SUFFIXES))]


def _find_below(root: str, paths: list[str], make: Callable[..., _Listing], column: str) -> dict[str, str]:
    """Return the files of paths below the folder.

    If most are not there, a path may begin with folders that are not here, or lack its folders.
    """
    if not paths:
        return {}
    common = posixpath.commonpath([posixpath.dirname(paths[0]), posixpath.dirname(paths[-1])])
    listing = make(_list_common(root, common))
    files = listing.find_all(paths)
    if 2 * len(files) < len(paths):
        listing = make(list_files(root, recursive=True)) if common else listing
        missed = [path for path in paths if path not in files]
        return files | _find_tails(missed, listing, files, root, column) | _find_names(missed, listing, files, root)
    return files


def _list_common(root: str, common: str) -> Collection[str]:
    """Return the files in a folder below the root, or all files if it does not exist."""
    at = f"{root.rstrip('/')}/{common}"
    system, path = arrow_filesystem(at)
    if not common or system.get_file_info(path).type != pafs.FileType.Directory:
        return list_files(root, recursive=True)
    return {f"{common}/{name}" for name in list_files(at, recursive=True)}


def _find_absolute(
    root: str, paths: list[str], make: Callable[..., _Listing], column: str, allow_outside: bool
) -> dict[str, str]:
    """Return the files of absolute paths outside the folder, or of their ends in it.

    Unless `allow_outside`, URIs count as files that exist if no path has its end in the folder.
    """
    uris = {} if allow_outside else {path: path for path in paths if "://" in path}
    present, error = _list_parents(path for path in paths if path not in uris)
    files = make(present).find_all(paths)
    num_outside = len(files)
    if 2 * len(files) < len(paths):
        listing = make(list_files(root, recursive=True))
        files |= _find_tails([path for path in paths if path not in files], listing, files, root, column)
    if error is not None and (num_outside or not files):
        raise error  # else the pictures are below the folder, and the place of the table does not matter
    return files or uris


def _list_parents(paths: Iterable[str]) -> tuple[set[str], CatalogError | None]:
    """Return the files in the folders of these paths, up to a store's first error."""
    present: set[str] = set()
    error = None
    for folder in sorted({path.rpartition("/")[0] for path in paths}):
        try:
            present.update(f"{folder}/{name}" for name in list_folder(folder or "/", recursive=False).files)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except CatalogError as unknown_store:
            error = error or unknown_store
        except (OSError, ValueError) as failure:
            what = f"the image folder cannot be listed ({error_message(failure)})"
            error = error or CatalogError(what, folder, CHECK_ACCESS)
        if error is not None and "://" in folder:
            break  # each attempt may last a minute
    return present, error


def _find_tails(
    paths: Sequence[str], listing: _Listing, known: Collection[str], root: str, column: str
) -> dict[str, str]:
    """Return the files of paths whose first folders are not here.

    Folders are dropped from the front of a path as for most paths that begin with them. The paths
    in `known` need no such change, and fewer changed ones would be matches by chance.
    """
    cuts = {folder: _cuts(folder, listing.folders) for folder in {path.rpartition("/")[0] for path in paths}}
    counts: Counter[str] = Counter()
    tails: dict[tuple[str, str], str] = {}  # path, its dropped front -> file
    for path in paths:
        folder, _, name = path.rpartition("/")
        for front, rest in cuts[folder] if folder or path.startswith("/") else ():
            if file := listing.find(f"{rest}/{name}" if rest else name):
                counts[front] += 1
                tails[path, front] = file
    files, fronts = {}, Counter[str]()
    for path in paths:
        options = [front for front, _ in cuts[path.rpartition("/")[0]]]
        front = max(options, key=lambda front: counts[front], default="")
        if counts[front] > len(known) and (path, front) in tails:
            files[path] = tails[path, front]
            fronts[front] += 1
    if fronts:
        what = "curate: %d paths in column '%s' begin in a folder that is not here; '%s' is read as %s"
        log.info(what, len(files), column, fronts.most_common(1)[0][0] or "/", root)
    return files


def _cuts(folder: str, present: Collection[str]) -> list[tuple[str, str]]:
    """Return the ways to cut a folder in two whose rest is `present`.

    The longest rest comes first.
    """
    parts = folder.split("/")
    cuts = [("/".join(parts[:i]), "/".join(parts[i:])) for i in range(1, len(parts) + 1)]
    return [(front, rest) for front, rest in cuts if unicodedata.normalize("NFC", rest).casefold() in present]


def _find_names(paths: Sequence[str], listing: _Listing, known: Collection[str], root: str) -> dict[str, str]:
    """Return the files of names without a folder, if no two files have the same name."""
    by_name: dict[str, list[str]] = {}
    for name in listing.names:
        by_name.setdefault(name.rpartition("/")[2], []).append(name)
    single = [name for name, files in by_name.items() if len(files) == 1]
    rivals: dict[str, list[str]] = {}
    names = _Listing(single, listing.suffixes, rivals)
    bare = names.find_all(path for path in paths if "/" not in path)
    if len(bare) <= len(known):
        return {}
    files = {path: listing.names[by_name[name][0]] for path, name in bare.items()}
    listing.rivals.update({files[path]: rivals[name] for path, name in bare.items() if name in rivals})
    what = "curate: %d names without a folder are those of files in subfolders of %s, such as %s"
    log.info(what, len(files), root, min(files.values()))
    return files


def _drop_shared(files: dict[str, str]) -> set[str]:
    """Drop guesses that give one file to several paths, and return their paths."""
    claims = Counter(files.values())
    shared = {path for path, file in files.items() if claims[file] > 1 and path != file}
    for path in shared:
        del files[path]
    if shared:
        log.warning("curate: %d paths are left out: %s, such as %s", len(shared), _SHARED, min(shared))
    return shared


def _check_suffixes(
    root: str, files: dict[str, str], rivals: dict[str, list[str]], column: str, duplicates: Duplicates
) -> None:
    """Log files with another suffix than the path, and reject several files of a path."""
    changed = [(path, file) for path, file in files.items() if not path.endswith(file)]
    guessed = [(path, file) for path, file in changed if path[len(_stem(path)) :] != file[len(_stem(file)) :]]
    others = [(path, file) for path, file in guessed if path != _stem(path)]
    if others:
        what = "curate: %d pictures have another suffix than column '%s' says, such as %s for %s"
        log.info(what, len(others), column, others[0][1], others[0][0])
    several = {path: claims for path, file in guessed if len(claims := rivals.get(file, [])) > 1}
    example = " and ".join(next(iter(several.values()), [])[:2])
    fix = f"write the suffix in column '{column}'"
    check_repeated(list(several), f"fit several pictures, such as {example}", root, duplicates, fix, "paths")


def _warn_of_repeated(files: Sequence[str | None]) -> None:
    counts = Counter(file for file in files if file is not None)
    repeated = [file for file, count in counts.items() if count > 1]
    if repeated:
        what = "curate: %d pictures belong to several galaxies each, such as %s"
        log.warning(what, len(repeated), repeated[0])
