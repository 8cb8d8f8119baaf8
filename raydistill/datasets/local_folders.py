"""Report what a listing leaves out: dead links, empty and hidden folders.

A class may thus be missing without a word. Git-annex, DVC and clusters keep pictures as links.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from raydistill.datasets.layout import Layout
from raydistill.errors import CatalogError, listed
from raydistill.galaxies.folders import Listing
from raydistill.galaxies.hidden import SYSTEM_FOLDERS, is_hidden
from raydistill.galaxies.pictures.files import PICTURE_SUFFIXES
from raydistill.log import get_logger

log = get_logger(__name__)

DOWNLOAD = "download the files to which they lead (git annex get, dvc pull), or remove the links"


def check_omissions(listing: Listing, layout: Layout, pictures: Sequence[str], root: str) -> None:
    """Warn of empty and hidden folders.

    CatalogError for a class that only dead links hold.
    """
    places = {layout.place(path.split("/")) for path in pictures}
    for path in sorted(listing.dead_links):
        steps = path.split("/")
        if len(steps) == layout.label + 1 and not path.lower().endswith(PICTURE_SUFFIXES):
            raise CatalogError(f"the class folder '{path}' is a link that leads nowhere", root, "repair or remove it")
        if len(steps) > layout.label + 1 and layout.place(steps) not in places:
            folder = "/".join(steps[: layout.label + 1])
            what = f"the class folder '{folder}' holds no picture, but links that lead nowhere (first: {path})"
            raise CatalogError(what, root, DOWNLOAD)
    classes = {label for _, label in places}
    of_classes = [path for path in _empty_folders(listing) if path.count("/") == layout.label]
    if empty := [path for path in of_classes if path.split("/")[layout.label] not in classes]:
        log.warning("curate: empty folders are no classes: %s", listed(empty))
    if hidden := _hidden_pictures(listing.files):
        shown = listed([f"{path} ({count} pictures)" for path, count in hidden.items()])
        log.warning("curate: hidden folders are left out: %s; rename them if they are needed", shown)


def _empty_folders(listing: Listing) -> list[str]:
    """Return the visible folders without a visible file, folder or link."""
    inside = [name for names in (listing.files, listing.folders, listing.dead_links, listing.aliases) for name in names]
    filled = {name.rpartition("/")[0] for name in inside if not is_hidden(name)}
    return sorted(folder for folder in listing.folders if not is_hidden(folder) and folder not in filled)


def _hidden_pictures(files: Iterable[str]) -> Counter[str]:
    """Return the number of pictures in each hidden folder, except those of the system."""
    counts: Counter[str] = Counter()
    for name in files:
        *folders, last = name.split("/")
        hidden = next((n for n, folder in enumerate(folders) if is_hidden(folder)), None)
        is_picture = name.lower().endswith(PICTURE_SUFFIXES) and not is_hidden(last)
        if hidden is not None and is_picture and folders[hidden] not in SYSTEM_FOLDERS:
            counts["/".join(folders[: hidden + 1])] += 1
    return counts
