"""A folder of pictures, sorted into classes by the folders they lie in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from raydistill.datasets.base import DataSet, listing
from raydistill.errors import CatalogError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class ImageFolder(DataSet):
    """`root/train/CLASS/*.png`, `root/test/CLASS/*.png`, …, or `root/CLASS/*.png` without an official split; at any depth below CLASS.

    A picture's id is its path below the root. Files with another suffix than a picture's are passed over.
    """

    kind: Literal["image-folder"] = "image-folder"

    def files(self) -> dict[str, int]:
        found = {name: size for name, size in listing(self.root).items() if name.lower().endswith(SUFFIXES)}
        if not found:
            fix = "check survey.root; pictures lie in root/CLASS or root/train/CLASS and root/test/CLASS"
            raise CatalogError("there is no picture in it", self.root, fix)
        return found

    def _rows(self) -> tuple[None, pa.Table]:
        names = list(self.files())
        steps = [name.split("/") for name in names]
        split = self._official({step[0] for step in steps})
        for name, step in zip(names, steps, strict=True):
            if len(step) < 2 + split:
                below = "root/train/CLASS" if split else "root/CLASS"
                raise CatalogError(f"'{name}' lies in no folder of a class", self.root, f"put it into {below}")
        columns: dict[str, Sequence[str | int | None]] = {
            "object_id": names,
            "label": [step[split] for step in steps],
            "part": [step[0] if split else None for step in steps],
            "path": names,
            "piece": [0] * len(names),
            "row": [0] * len(names),
        }
        types = [pa.string()] * 4 + [pa.int64()] * 2
        return None, pa.table({key: pa.array(v, t) for (key, v), t in zip(columns.items(), types, strict=True)})
