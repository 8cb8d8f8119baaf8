"""List a folder: every folder in it once, and nothing is left out without a word.

Local folders hold links in circles, pipes, and names that are not UTF-8. A plain recursive listing
repeats the first, waits for the second, and fails at the third.
"""

from __future__ import annotations

import functools
import os
import stat
from bisect import bisect_left
from heapq import heappop, heappush
from typing import NamedTuple

import pyarrow.fs as pafs

from raydistill.errors import CatalogError
from raydistill.escaping import for_terminal, is_utf8
from raydistill.log import get_logger
from raydistill.storage import CHECK_ACCESS, arrow_filesystem, error_message

log = get_logger(__name__)

_AFTER_SLASH = chr(ord("/") + 1)
_SHOWN = 120  # characters of a path in a warning


class Listing(NamedTuple):
    """The contents of a folder, as paths below it.

    Attributes
    ----------
    files
        Sizes [bytes] by path, in the order of the paths.
    folders
        Folders, without those of `aliases`.
    dead_links
        Visible links to nothing.
    aliases
        Links to folders that are listed under another path, with that path.
    links
        Files that are links.
    """

    files: dict[str, int]
    folders: list[str]
    dead_links: list[str]
    aliases: dict[str, str]
    links: list[str]

    def with_aliases(self) -> dict[str, int]:
        """Return the files, also by their paths through the links of `aliases`."""
        names, again = list(self.files), dict(self.files)
        for link, folder in self.aliases.items():
            for name in names[bisect_left(names, f"{folder}/") : bisect_left(names, f"{folder}{_AFTER_SLASH}")]:
                again[f"{link}{name[len(folder) :]}"] = self.files[name]
        return again

    def files_once(self, root: str) -> dict[str, int]:
        """Return the files without links to others of them; warn of these."""
        self.warn_of_aliases(root)
        real = os.path.realpath(arrow_filesystem(root)[1])
        targets = {name: os.path.realpath(f"{real}/{name}").removeprefix(f"{real}/") for name in self.links}
        repeated = {
            name: target
            for name, target in targets.items()
            if target in self.files and target != name and not is_hidden(target)
        }
        if visible := [name for name in repeated if not is_hidden(name)]:
            what = "links to files that are read already are left out: %d (first: '%s' leads to '%s')"
            _warn(root, what, len(visible), _shown(visible[0]), _shown(repeated[visible[0]]))
        return {name: size for name, size in self.files.items() if name not in repeated}

    def warn_of_aliases(self, root: str) -> None:
        """Warn of the folders that are not read a second time."""
        if visible := [link for link in self.aliases if not is_hidden(link)]:
            what = "links to folders that are read already are left out: %d (first: '%s' leads to '%s')"
            _warn(root, what, len(visible), _shown(visible[0]), _shown(self.aliases[visible[0]]))


def list_folder(uri: str, recursive: bool = True) -> Listing:
    """Return the contents of a folder on a disk or at a URI.

    Links are followed. Warns of dead links, of pipes, sockets and devices, and of names that are not
    UTF-8; all are left out.

    Raises
    ------
    CatalogError
        A folder in it cannot be listed, or a link leads to a folder around it.
    OSError
        The folder itself cannot be listed.
    """
    system, path = arrow_filesystem(uri)
    if isinstance(system, pafs.LocalFileSystem):
        return _Walk(path, uri, recursive).run()
    infos = sorted(system.get_file_info(pafs.FileSelector(path, recursive=recursive)), key=lambda info: info.path)
    start = len(path.rstrip("/")) + 1
    files = {info.path[start:]: info.size for info in infos if info.type == pafs.FileType.File}
    return Listing(files, [info.path[start:] for info in infos if info.type == pafs.FileType.Directory], [], {}, [])


class _Walk:
    """List a local folder.

    Visible folders come first, then those behind links, then hidden ones: of several paths to one
    folder, the plainest is kept.
    """

    def __init__(self, path: str, root: str, recursive: bool) -> None:
        self._path, self._root, self._recursive = path, root, recursive
        self._found = Listing({}, [], [], {}, [])
        self._unnamed: list[str] = []  # names that are not UTF-8
        self._special: list[str] = []  # pipes, sockets and devices
        self._pending = [(False, False, "")]  # whether hidden, whether a link, path below the folder

    def run(self) -> Listing:
        first_paths: dict[tuple[int, int], str] = {}
        while self._pending:
            hidden, _, inside = heappop(self._pending)
            try:
                status = os.stat(self._at(inside))
                first = first_paths.setdefault((status.st_dev, status.st_ino), inside)
                if first != inside:
                    self._found.aliases[inside] = first
                    continue
                if inside:
                    self._found.folders.append(inside)
                if self._recursive or not inside:
                    self._add_entries(inside)
            except OSError as error:
                if not inside:
                    raise
                if not hidden:
                    what = f"the folder '{_shown(inside)}' cannot be listed ({error_message(error)})"
                    raise CatalogError(what, self._root, CHECK_ACCESS) from error
        self._warn()
        return self._found._replace(files=dict(sorted(self._found.files.items())))

    def _at(self, inside: str) -> str:
        return f"{self._path}/{inside}" if inside else self._path

    def _add_entries(self, folder: str) -> None:
        with os.scandir(self._at(folder)) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if not is_utf8(entry.name):
                    self._unnamed.append(name)
                elif (status := _status(entry)) is None:
                    self._found.dead_links.extend([] if is_hidden(name) else [name])
                elif stat.S_ISDIR(status.st_mode):
                    self._add_folder(entry, name, folder)
                elif stat.S_ISREG(status.st_mode):
                    self._found.files[name] = status.st_size
                    if entry.is_symlink():
                        self._found.links.append(name)
                elif not is_hidden(name):
                    self._special.append(name)

    def _add_folder(self, entry: os.DirEntry[str], name: str, folder: str) -> None:
        is_link, hidden = entry.is_symlink(), is_hidden(name)
        is_followed = is_link and self._recursive
        if is_followed and _is_around(os.path.realpath(entry.path), os.path.realpath(self._at(folder))):
            if hidden:
                return
            raise CatalogError(f"the link '{_shown(name)}' leads to a folder around it", self._root, "remove it")
        heappush(self._pending, (hidden, is_link, name))

    def _warn(self) -> None:
        for names, what in (
            (sorted(self._unnamed), "names that are not UTF-8 are left out: %d (first: '%s'); rename them"),
            (sorted(self._special), "pipes, sockets and devices are left out: %d (first: '%s')"),
            (sorted(self._found.dead_links), "links that lead nowhere are left out: %d (first: '%s')"),
        ):
            if names:
                _warn(self._root, what, len(names), _shown(names[0]))


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return the status of what an entry is or leads to; None of a link to nothing."""
    try:
        return entry.stat()
    except OSError:
        if entry.is_symlink():
            return None
        raise


def _is_around(folder: str, other: str) -> bool:
    """Return whether a folder is another one, or above it."""
    return f"{other}/".startswith(f"{folder.rstrip('/')}/")


def _shown(path: str) -> str:
    return for_terminal(path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…").replace("\n", "\\n")


def _warn(root: str, what: str, *values: object) -> None:
    _warn_once(f"{root}: {what % values}")


@functools.lru_cache(maxsize=1024)
def _warn_once(message: str) -> None:
    """Warn; a command lists its folders several times."""
    log.warning("%s", message)


# Tell apart the data and what systems and tools put beside it.

# Folders of macOS, of Synology's disks, of Windows and of Linux.
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")


def is_hidden(path: str) -> bool:
    """Return whether a path has a hidden part, or one that belongs to the system."""
    return any(part.startswith(".") or part in SYSTEM_FOLDERS for part in path.split("/"))
