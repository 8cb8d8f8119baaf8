"""The Ray tasks of the detect stage that make fields, and find sources."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from torch import nn

from raydistill.artifacts.tables import decode_images
from raydistill.galaxies.pictures.images import encode_png
from raydistill.morphology.structure import box_of, find_sources
from raydistill.runtime.resources import Processor
from raydistill.seeding import fold_in
from raydistill.simulation.injections.base import to_light
from raydistill.stages.detect.artifact import read_detector
from raydistill.stages.detect.config import Detect, FieldModel
from raydistill.stages.detect.network import detect
from raydistill.stages.detect.scenes.fields import STAR, Field, Sky, annotation, make_field
from raydistill.stages.detect.scenes.pictures import FieldSplit, Stamps
from raydistill.storage import Folder, checked

# FieldMaker: {block, split, first, count}  ->  PNG files, a JSON file
# SourceFinder: {block, picture}            ->  a JSON file


@dataclass(frozen=True)
class FieldMaker:
    """Make the fields of a block. A field depends on its split and number alone.

    Parameters
    ----------
    folder
        URI of the artifact.
    stamps
        Galaxies of the split.
    origins
        Real galaxy of each picture, by id; it is missing where there is none.
    skies
        Skies of real frames.
    detect
        Fields and seed.
    star
        Category of stars.
    """

    folder: str
    stamps: Stamps
    origins: dict[str, str]
    skies: tuple[Sky, ...]
    detect: Detect
    star: int

    def __call__(self, block: pa.Table) -> int:
        """Make the fields of one block; its JSON file is written last."""
        (row,) = block.to_pylist()
        records = [self._make(row["split"], number) for number in range(row["first"], row["first"] + row["count"])]
        digests = {record["file_name"]: record["sha256"] for record in records}
        checked.record(Folder(self.folder), row["block"], digests, {"records": records})
        return len(records)

    def _make(self, split: FieldSplit, number: int) -> dict[str, Any]:
        rng = np.random.default_rng(fold_in(self.detect.seed, "field", split, number))
        sky = self.skies[int(rng.integers(len(self.skies)))]
        field = make_field(self.stamps, sky, self.detect.fields, rng)
        name, text = f"fields/{split}/{number:06d}.png", {"Software": "raydistill", "Comment": "synthetic field"}
        png = encode_png(field.picture, text)
        Folder(self.folder).write(name, png)
        side = self.detect.side
        return {
            "file_name": name,
            "width": side,
            "height": side,
            "sha256": hashlib.sha256(png).hexdigest(),
            "annotations": self._annotations(field),
        }

    def _annotations(self, field: Field) -> list[dict[str, Any]]:
        return [
            annotation(
                source.mask,
                box_of(source.mask),
                self.star if source.label == STAR else source.label + 1,
                {"origin": source.name, "galaxy": self.origins.get(source.name), "scale": source.scale},
            )
            for source in field.sources
        ]


@dataclass(frozen=True)
class SourceFinder:
    """Find the sources in a block's pictures with the detector and with photutils.

    Parameters
    ----------
    folder
        URI of the artifact.
    model
        Threshold of photutils.
    processor
        Torch threads and GPUs of a worker.
    """

    folder: str
    model: FieldModel
    processor: Processor

    def __call__(self, block: pa.Table) -> int:
        """Find the sources of one block, and write them to its JSON file."""
        device = self.processor.enter()
        name = block["block"][0].as_py()
        pictures_NHWC = decode_images(block["picture"], self.model.side).numpy()
        detections = detect(_detector(self.folder, device), pictures_NHWC)
        records = [
            {
                "boxes": source.boxes_D4.round(2).tolist(),
                "scores": source.scores_D.round(5).tolist(),
                "categories": source.categories_D.tolist(),
                "annotations": reference(picture, self.model),
            }
            for source, picture in zip(detections, pictures_NHWC, strict=True)
        ]
        checked.record(Folder(self.folder), name, {}, {"records": records})
        return len(records)


def reference(picture: np.ndarray, model: FieldModel) -> list[dict[str, Any]]:
    """Return photutils' sources in a picture, uint8 `[H, W, 3]`, as annotations.

    Their category is 0.
    """
    labels = find_sources(to_light(picture, model.contrast), model.sigmas, model.min_area)
    masks = [labels == number for number in np.unique(labels[labels > 0])]
    return [annotation(mask, box_of(mask), 0, {}) for mask in masks]


@lru_cache(maxsize=1)
def _detector(folder: str, device: str) -> nn.Module:
    return read_detector(Folder(folder)).to(device)
