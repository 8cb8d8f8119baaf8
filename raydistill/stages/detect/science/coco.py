"""Write annotations in the format of COCO (cocodataset.org/#format-data).

A mask is a run-length encoding, uncompressed: the lengths of runs of 0 and 1 in turn, column by
column, the first of 0. pycocotools reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raydistill.morphology.segmentation import Bools, Box

STAR_NAME = "star"


def encode_mask(mask: Bools) -> dict[str, Any]:
    """Return a mask `[H, W]` as a run-length encoding.

    >>> encode_mask(np.array([[False, True], [True, True]]))
    {'size': [2, 2], 'counts': [1, 3]}
    """
    pixels = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.flatnonzero(pixels[1:] != pixels[:-1])
    counts = np.diff(np.concatenate([[0], starts, [mask.size]]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


def decode_mask(encoding: dict[str, Any]) -> Bools:
    """Return the mask `[H, W]` of a run-length encoding."""
    values = np.repeat(np.arange(len(encoding["counts"])) % 2 == 1, encoding["counts"])
    return np.asarray(values.reshape(encoding["size"], order="F"), np.bool_)


def annotation(mask: Bools, box: Box, category: int, extra: dict[str, Any]) -> dict[str, Any]:
    """Return an annotation without its ids."""
    return {
        "category_id": category,
        "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
        "area": int(mask.sum()),
        "segmentation": encode_mask(mask),
        "iscrowd": 0,
        **extra,
    }


def categories(class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the classes, and then stars; ids begin at 1."""
    names = [(name, "galaxy") for name in class_names] + [(STAR_NAME, STAR_NAME)]
    return [{"id": n, "name": name, "supercategory": group} for n, (name, group) in enumerate(names, start=1)]


def document(
    images: Sequence[dict[str, Any]], class_names: Sequence[str], description: str, synthetic: bool
) -> dict[str, Any]:
    """Return a COCO document.

    Parameters
    ----------
    images
        Records of images. The key `annotations` has those of the image, which get their ids here.
    class_names
        Classes of galaxies.
    description
        One sentence.
    synthetic
        Whether the images are synthetic. The document and every image and annotation say so.
    """
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        records.append({"id": number, **{k: v for k, v in image.items() if k != "annotations"}, "synthetic": synthetic})
        for one in image["annotations"]:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **one, "synthetic": synthetic})
    return {
        "info": {"description": description, "synthetic": synthetic},
        "images": records,
        "annotations": annotations,
        "categories": categories(class_names),
    }


def boxes_of(image: dict[str, Any]) -> np.ndarray:
    """Return an image's boxes, float64 `[N, 4]`: left, top, right, bottom."""
    boxes = np.array([one["bbox"] for one in image["annotations"]], np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
