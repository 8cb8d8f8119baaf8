"""A folder or zip of pictures with one subfolder per class."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa

from raydistill.datasets.base import EncodedDataSet, list_root
from raydistill.datasets.layout import Layout, check_class_folders, part_names, read_layout, warn_of_same_subfolders
from raydistill.datasets.metadata import Metadata, read_metadata
from raydistill.errors import CatalogError, listed
from raydistill.galaxies.folders import SYSTEM_FOLDERS, Listing, is_hidden
from raydistill.galaxies.pictures.archives import find_archive
from raydistill.galaxies.pictures.files import PICTURE_SUFFIXES
from raydistill.log import get_logger

# Report what a listing leaves out: dead links, empty and hidden folders.
#
# A class may thus be missing without a word. Git-annex, DVC and clusters keep pictures as links.

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
        log.warning("curate: empty folders are not classes: %s", listed(empty))
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


Place = tuple[str | None, str | None]  # split and class


@dataclass(frozen=True, kw_only=True)
class ImageFolder(EncodedDataSet):
    """Picture files by class: `root/train/CLASS/*.png` and `root/test/CLASS/*.png`.

    Without an official split the layout is `root/CLASS/*.png`. Splits may also be below the
    classes, and one folder may be around all of them. A class may have subfolders. The id of a
    picture is its path below the root. Files without a picture's suffix are ignored, but a class
    needs a picture. The root may be a zip, which is read in place, or a folder in it.

    Hugging Face's image folders have the labels in a table in place of folders: metadata.csv,
    metadata.jsonl or metadata.parquet beside the pictures, with the columns file_name and label.

    Parameters
    ----------
    layout
        "classes": the folders are classes, even if they are called train and test. "auto": such
        names are splits, if all folders beside them are or if they hold folders.
    label_column
        Column of the classes in the metadata.
    """

    layout: Literal["auto", "classes"] = "auto"
    label_column: str = "label"
    kind: Literal["image-folder"] = "image-folder"

    _if_no_split: ClassVar[str] = "; if the folders are classes, set survey.layout=classes"

    def files(self) -> dict[str, int]:
        listing = self._list()
        names, metadata = self._pictures(listing), self._metadata(listing)
        return {name: listing.files[name] for name in (*names, *(metadata.files if metadata else ()))}

    def _list(self) -> Listing:
        """Return what the folder or zip holds."""
        archive = find_archive(self.root)
        return Listing(archive[0].sizes(archive[1]), [], [], {}, []) if archive else list_root(self.root)

    def _metadata(self, listing: Listing) -> Metadata | None:
        return read_metadata(self.root, _visible(listing), self.label_column)

    def _pictures(self, listing: Listing) -> list[str]:
        """Return the names of the visible pictures. CatalogError if there are none."""
        pictures = [name for name in _visible(listing) if _is_picture(name)]
        if not pictures and listing.dead_links:
            what = f"there are no pictures in it, but links that lead nowhere (first: {min(listing.dead_links)})"
            raise CatalogError(what, self.root, DOWNLOAD)
        if not pictures:
            fix = "put pictures into root/CLASS, or into root/train/CLASS and root/test/CLASS"
            what, fix = other_form(self.root, _visible(listing)) or ("there are no pictures in it", fix)
            raise CatalogError(what, self.root, fix)
        return sorted(pictures)

    def _rows(self) -> tuple[None, pa.Table]:
        listing = self._list()
        names = self._pictures(listing)
        layout = read_layout(names, self.splits, self.layout == "classes")
        places = [layout.place(name.split("/")) for name in names]
        metadata = self._metadata(listing)
        if metadata is not None and metadata.has_labels:
            labels = metadata.labels_of(names, self.root)
            places = [(part, labels[name]) for name, (part, _) in zip(names, places, strict=True) if name in labels]
            names = [name for name in names if name in labels]
        else:
            self._check(listing, names, layout, places, metadata)
        columns: dict[str, Sequence[str | int | None]] = {
            "object_id": names,
            "label": [label if self._is_used(part) else None for part, label in places],
            "part": [part for part, _ in places],
            "path": names,
            "row_group": [0] * len(names),
            "row": [0] * len(names),
        }
        types = [pa.string()] * 4 + [pa.int64()] * 2
        return None, pa.table({key: pa.array(v, t) for (key, v), t in zip(columns.items(), types, strict=True)})

    def _is_used(self, part: str | None) -> bool:
        return part is None or self.splits.get(part, "train") is not None

    def _check(
        self, listing: Listing, names: list[str], layout: Layout, places: list[Place], metadata: Metadata | None
    ) -> None:
        """Raise CatalogError if a picture has no class; warn of doubtful folders."""
        check_omissions(listing, layout, names, self.root)
        others = [name for name in _visible(listing) if not _is_picture(name)]
        check_class_folders(layout, names, others, self.root)
        if archives := [name for name in others if name.lower().endswith(ARCHIVES)]:
            log.warning("curate: archives are not unpacked: %d (first: '%s')", len(archives), archives[0])
        used = [(name, *place) for name, place in zip(names, places, strict=True) if self._is_used(place[0])]
        flat = sorted({part for _, part, label in used if part is not None and label is None})
        if metadata is None and len(flat) > 1 and all(label is None for _, _, label in used):
            what = f"the folders {', '.join(flat)} hold no folders, so they are splits without classes, or classes"
            fix = "if splits, move pictures into root/train/CLASS"
            raise CatalogError(what, self.root, fix + self._if_no_split)
        for name, part, label in used:
            if label is None:
                raise self._without_class(name, part) if metadata is None else metadata.without_labels(self.root)
        warn_of_same_subfolders(layout, [name for name, _, _ in used])

    def _without_class(self, name: str, part: str | None) -> CatalogError:
        fix = "move it into root/CLASS, or remove it"
        if part is not None:
            fix = "move it into root/train/CLASS, or remove it"
        if part is not None and "/" in name:
            if part_names([part], self.splits).get(part) != "train":
                fix = f"move it into root/{part}/CLASS, or leave the split out with survey.splits.{part}=null"
            fix += self._if_no_split
        return CatalogError(f"'{name}' is not in the folder of a class", self.root, fix)


def _visible(listing: Listing) -> list[str]:
    return [name for name in listing.files if not is_hidden(name)]


def _is_picture(name: str) -> bool:
    return name.lower().endswith(PICTURE_SUFFIXES)


# Name the way to read data that are not a folder of pictures.

_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
ARCHIVES = (*_TARS, ".zip", ".rar", ".7z")
_KINDS = {
    "image-parquet": (".parquet", ".pq"),
    "arrays": (".npz", ".h5", ".hdf5"),
}
_SAVED = {"dataset_info.json", "dataset_dict.json", "state.json"}  # files of `datasets.save_to_disk`


def other_form(root: str, files: Collection[str]) -> tuple[str, str] | None:
    """Return what a folder without pictures is, and how to read it.

    It may be a file. None if that is unknown.
    """
    names = sorted(files)
    if saved := saved_to_disk(root, names):
        return saved
    is_file = names == [root.rstrip("/").rpartition("/")[2]]
    if tars := [name for name in names if name.lower().endswith(_TARS)]:
        first = root if is_file else f"{root}/{tars[0]}"
        what = "this is a tar archive" if is_file else f"there are no pictures in it, but tar archives ({_some(tars)})"
        fix = f"unpack it with 'tar -xf {shlex.quote(first)} -C FOLDER', and give the folder"
        return what, fix if is_file or len(tars) == 1 else f"unpack each, as {fix.removeprefix('unpack it with ')}"
    if zips := [name for name in names if name.lower().endswith(".zip")]:
        what = f"there are no pictures in it, but zips ({_some(zips)})"
        return what, "give one of them as survey.root, or unpack them and give the folder"
    for kind, suffixes in _KINDS.items():
        if others := [name for name in names if name.lower().endswith(suffixes)]:
            what = f"this is not a folder of pictures but '{others[0]}'"
            return what, f"set survey.kind={kind}"
    return None


def saved_to_disk(root: str, files: Collection[str]) -> tuple[str, str] | None:
    """Return what a folder of `datasets.save_to_disk` is, and how to read it.

    None for another folder.
    """
    last = {name.rpartition("/")[2] for name in files}
    if not last & _SAVED or not any(name.endswith(".arrow") for name in last):
        return None
    target = f"{root.rstrip('/')}-parquet"
    loaded = f"load_from_disk({root!r})"
    parts = f"{loaded}.items()" if "dataset_dict.json" in last else f"[('train', {loaded})]"
    write = f"[part.to_parquet(to + '/' + name + '.parquet') for name, part in {parts}]"
    command = f"import os; from datasets import load_from_disk; to = {target!r}; os.makedirs(to); {write}"
    quoted = shlex.quote(command) if set(command) & set('"$`\\!') else f'"{command}"'
    fix = f"run python -c {quoted}, and give survey={{kind: image-parquet, root: {target}}}"
    return "this is a data set that datasets.save_to_disk wrote", fix


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
