"""A folder of pictures with one subfolder per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from raydistill.datasets.base import DataSet, list_files
from raydistill.errors import CatalogError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class ImageFolder(DataSet):
    """Picture files in one folder per class: `root/train/CLASS/*.png` and `root/test/CLASS/*.png`.

    Without an official split the layout is `root/CLASS/*.png`. A class may have subfolders. The id
    of a picture is its path below the root. Files without a picture's suffix are ignored.
    """

    kind: Literal["image-folder"] = "image-folder"

    def files(self) -> dict[str, int]:
        files = {name: size for name, size in list_files(self.root).items() if name.lower().endswith(SUFFIXES)}
        if not files:
            fix = "put pictures into root/CLASS, or into root/train/CLASS and root/test/CLASS"
            raise CatalogError("there are no pictures in it", self.root, fix)
        return files

    def _rows(self) -> tuple[None, pa.Table]:
        names = list(self.files())
        steps = [name.split("/") for name in names]
        split = self._are_splits({step[0] for step in steps})
        for name, step in zip(names, steps, strict=True):
            if len(step) < 2 + split:
                below = "root/train/CLASS" if split else "root/CLASS"
                raise CatalogError(f"'{name}' is not in the folder of a class", self.root, f"move it into {below}")
        columns: dict[str, Sequence[str | int | None]] = {
            "object_id": names,
            "label": [step[split] for step in steps],
            "part": [step[0] if split else None for step in steps],
            "path": names,
            "row_group": [0] * len(names),
            "row": [0] * len(names),
        }
        types = [pa.string()] * 4 + [pa.int64()] * 2
        return None, pa.table({key: pa.array(v, t) for (key, v), t in zip(columns.items(), types, strict=True)})
