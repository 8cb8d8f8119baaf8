"""Find what a folder listing leaves out: dead links, empty and hidden folders.

A class may thus be missing without a word. Git-annex, DVC and clusters keep pictures as links.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow.fs as pafs

from raydistill.datasets.layout import Layout
from raydistill.errors import CatalogError
from raydistill.galaxies.hidden import SYSTEM_FOLDERS, is_hidden
from raydistill.galaxies.pictures.files import PICTURE_SUFFIXES
from raydistill.log import get_logger
from raydistill.storage import arrow_filesystem

log = get_logger(__name__)

DOWNLOAD = "download the files to which they lead (git annex get, dvc pull), or remove the links"


class Omissions(NamedTuple):
    """Paths below the root that a listing leaves out.

    Attributes
    ----------
    dead_links
        Links to nothing.
    empty
        Folders without a file.
    hidden
        Number of pictures in each hidden folder.
    """

    dead_links: list[str]
    empty: list[str]
    hidden: dict[str, int]


def find_omissions(root: str) -> Omissions:
    """Return what a listing leaves out; nothing for a remote folder.

    Raises
    ------
    CatalogError
        If a link leads to a folder around it: a listing would repeat its pictures.
    """
    system, path = arrow_filesystem(root)
    found = Omissions([], [], {})
    if isinstance(system, pafs.LocalFileSystem) and os.path.isdir(path):
        _search(path, "", (os.path.realpath(path),), found, root)
    return found


def _search(folder: str, inside: str, above: tuple[str, ...], found: Omissions, root: str) -> None:
    """Add a folder's omissions; `above` has the real paths of it and its parents."""
    num_visible = 0
    for entry in _entries(folder):
        path = inside + entry.name
        is_link, is_folder = entry.is_symlink(), entry.is_dir()
        num_visible += not is_hidden(entry.name)
        if is_folder and is_hidden(entry.name):
            if entry.name not in SYSTEM_FOLDERS and (count := _count_pictures(entry.path)):
                found.hidden[path] = count
        elif is_folder:
            real = os.path.realpath(entry.path) if is_link else f"{above[-1]}/{entry.name}"
            if is_link and real in above:
                what = f"the link '{path}' leads to a folder around it"
                raise CatalogError(what, root, "remove it")
            _search(entry.path, f"{path}/", (*above, real), found, root)
        elif is_link and not is_hidden(entry.name) and not os.path.exists(entry.path):
            found.dead_links.append(path)
    if not num_visible and inside:
        found.empty.append(inside.rstrip("/"))


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except OSError:  # the listing reports it
        return


def _count_pictures(folder: str) -> int:
    return sum(
        name.lower().endswith(PICTURE_SUFFIXES) and not is_hidden(name)
        for _, _, names in os.walk(folder)
        for name in names
    )


def check_omissions(found: Omissions, layout: Layout, pictures: Sequence[str], root: str) -> None:
    """Warn of what is left out. CatalogError for a class that only dead links hold."""
    places = {layout.place(path.split("/")) for path in pictures}
    for path in found.dead_links:
        steps = path.split("/")
        if len(steps) == layout.label + 1 and not path.lower().endswith(PICTURE_SUFFIXES):
            raise CatalogError(f"the class folder '{path}' is a link that leads nowhere", root, "repair or remove it")
        if len(steps) > layout.label + 1 and layout.place(steps) not in places:
            folder = "/".join(steps[: layout.label + 1])
            what = f"the class folder '{folder}' holds no picture, but links that lead nowhere (first: {path})"
            raise CatalogError(what, root, DOWNLOAD)
    if found.dead_links:
        what = "curate: links that lead nowhere are left out: %d (first: %s)"
        log.warning(what, len(found.dead_links), found.dead_links[0])
    classes = {label for _, label in places}
    for path in found.empty:
        steps = path.split("/")
        if len(steps) == layout.label + 1 and steps[layout.label] not in classes:
            log.warning("curate: the folder '%s' is empty, so '%s' is no class", path, steps[layout.label])
    for path, count in found.hidden.items():
        what = "curate: the hidden folder '%s' with %d pictures is left out; rename it if it is needed"
        log.warning(what, path, count)
