"""Refuse pictures outside the folder that the config names.

A path in a table, or a link in a folder, may name any picture of the machine. It would then be in
the set that is shared. A config of one's own takes such pictures with `allow_outside: true`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

import pyarrow.fs as pafs

from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.files import Source
from raydistill.storage import arrow_filesystem

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
    outside = [name for folder, own in by_folder.items() for name in _led_outside(base, folder, own)]
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
