"""A folder or zip of pictures with one subfolder per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from raydistill.datasets.base import EncodedDataSet, list_files
from raydistill.datasets.layout import check_class_folders, read_layout, warn_of_same_subfolders
from raydistill.datasets.local_folders import DOWNLOAD, Omissions, check_omissions, find_omissions
from raydistill.datasets.split_names import part_names
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.archives import find_archive
from raydistill.galaxies.pictures.files import PICTURE_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class ImageFolder(EncodedDataSet):
    """Picture files by class: `root/train/CLASS/*.png` and `root/test/CLASS/*.png`.

    Without an official split the layout is `root/CLASS/*.png`. Splits may also be below the
    classes, and one folder may be around all of them. A class may have subfolders. The id of a
    picture is its path below the root. Files without a picture's suffix are ignored, but a class
    needs a picture. The root may be a zip, which is read in place, or a folder in it.
    """

    kind: Literal["image-folder"] = "image-folder"

    def files(self) -> dict[str, int]:
        omissions = find_omissions(self.root)  # before the listing, which would follow links in circles
        return self._pictures(self._listed(), omissions)

    def _listed(self) -> dict[str, int]:
        """Return the sizes of all files of the folder or zip by name."""
        found = find_archive(self.root)
        return found[0].sizes(found[1]) if found else list_files(self.root)

    def _pictures(self, files: dict[str, int], omissions: Omissions) -> dict[str, int]:
        pictures = {name: size for name, size in files.items() if name.lower().endswith(PICTURE_SUFFIXES)}
        if not pictures and omissions.dead_links:
            what = f"there are no pictures in it, but links that lead nowhere (first: {omissions.dead_links[0]})"
            raise CatalogError(what, self.root, DOWNLOAD)
        if not pictures:
            fix = "put pictures into root/CLASS, or into root/train/CLASS and root/test/CLASS"
            raise CatalogError("there are no pictures in it", self.root, fix)
        return pictures

    def _rows(self) -> tuple[None, pa.Table]:
        omissions = find_omissions(self.root)
        files = self._listed()
        names = list(self._pictures(files, omissions))
        layout = read_layout(names, self.splits)
        check_omissions(omissions, layout, names, self.root)
        check_class_folders(
            layout, names, [name for name in files if not name.lower().endswith(PICTURE_SUFFIXES)], self.root
        )
        places = [layout.place(name.split("/")) for name in names]
        used = [part is None or self.splits.get(part, "train") is not None for part, _ in places]
        for name, (part, label), is_used in zip(names, places, used, strict=True):
            if label is None and is_used:
                raise self._without_class(name, part)
        warn_of_same_subfolders(layout, [name for name, is_used in zip(names, used, strict=True) if is_used])
        columns: dict[str, Sequence[str | int | None]] = {
            "object_id": names,
            "label": [label if is_used else None for (_, label), is_used in zip(places, used, strict=True)],
            "part": [part for part, _ in places],
            "path": names,
            "row_group": [0] * len(names),
            "row": [0] * len(names),
        }
        types = [pa.string()] * 4 + [pa.int64()] * 2
        return None, pa.table({key: pa.array(v, t) for (key, v), t in zip(columns.items(), types, strict=True)})

    def _without_class(self, name: str, part: str | None) -> CatalogError:
        fix = "move it into root/CLASS, or remove it"
        if part is not None:
            fix = "move it into root/train/CLASS, or remove it"
        if part is not None and "/" in name and part_names([part], self.splits).get(part) != "train":
            fix = f"move it into root/{part}/CLASS, or leave the split out with survey.splits.{part}=null"
        return CatalogError(f"'{name}' is not in the folder of a class", self.root, fix)
