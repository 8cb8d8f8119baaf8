"""A folder or zip of pictures with one subfolder per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa

from raydistill.datasets.base import EncodedDataSet, list_root
from raydistill.datasets.layout import Layout, check_class_folders, read_layout, warn_of_same_subfolders
from raydistill.datasets.local_folders import DOWNLOAD, check_omissions
from raydistill.datasets.metadata import Metadata, read_metadata
from raydistill.datasets.other_forms import ARCHIVES, other_form
from raydistill.datasets.split_names import part_names
from raydistill.errors import CatalogError
from raydistill.galaxies.folders import Listing
from raydistill.galaxies.hidden import is_hidden
from raydistill.galaxies.pictures.archives import find_archive
from raydistill.galaxies.pictures.files import PICTURE_SUFFIXES
from raydistill.log import get_logger

log = get_logger(__name__)

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
        found = find_archive(self.root)
        return Listing(found[0].sizes(found[1]), [], [], {}, []) if found else list_root(self.root)

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
