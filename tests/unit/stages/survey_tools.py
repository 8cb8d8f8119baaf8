"""Write small surveys, and count what curate selects of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raydistill.config import CatalogSurvey, Curate
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.galaxies.selection import SPLITS
from raydistill.stages.curate.select.selection import Selection

SPLIT = (0.6, 0.2, 0.2)


def recipe(**curate: Any) -> Curate:
    return Curate(**{"classes": "all", "split": SPLIT} | curate)


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)


def catalog(root: Path, labels: dict[str, str]) -> CatalogSurvey:
    for object_id in labels:
        write_picture(root / "images" / f"{object_id}.png")
    (root / "table.csv").write_text("id,class\n" + "".join(f"{i},{label}\n" for i, label in labels.items()))
    return CatalogSurvey(
        catalog=str(root / "table.csv"), images=FolderImages(root=str(root / "images"), pattern="{id}.png")
    )


def count(selection: Selection) -> dict[str, list[int]]:
    """Return the numbers of training, validation and test pictures by class."""
    rows = zip(selection.galaxies["label"].to_pylist(), selection.galaxies["split"].to_pylist(), strict=True)
    counted = Counter(rows)
    return {
        name: [counted[label, split] for split in range(len(SPLITS))] for label, name in enumerate(selection.tree.names)
    }
