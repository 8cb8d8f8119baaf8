"""Number the images of each class, in headers, folders and pictures of a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raydistill.distillation.coreset import classes_of


def mosaic(images_SHWC: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Return images as one picture, a row per class; missing ones are black."""
    _, height, width, channels = images_SHWC.shape
    tiles = np.zeros((len(counts), max(counts), height, width, channels), images_SHWC.dtype)
    tiles[places_of(counts)] = images_SHWC
    return np.ascontiguousarray(tiles.swapaxes(1, 2).reshape(-1, max(counts) * width, channels))


def amount(counts: Sequence[int]) -> str:
    """Return how many images a class has, such as "1 to 18 images per class"."""
    least, most = min(counts), max(counts)
    number = str(most) if least == most else f"{least} to {most}"
    return f"{number} {'image' if most == 1 else 'images'} per class"


def header_of(counts: Sequence[int]) -> dict[str, Any]:
    """Return the entries of a header from which `counts_of` reads the counts."""
    return {"images_per_class": sum(counts) // len(counts)} | ({"counts": counts} if len(set(counts)) > 1 else {})


def counts_of(info: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the number of images of each class, from the header of an iterate."""
    return tuple(info.get("counts") or [info["images_per_class"]] * len(info["class_names"]))


def places_of(counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each image [S], and its number in this class [S]."""
    return classes_of(counts).numpy(), np.concatenate([np.arange(count) for count in counts])


def first_rows(counts: Sequence[int]) -> list[int]:
    """Return the row of the first image of each class."""
    return [0, *np.cumsum(counts)[:-1].tolist()]
