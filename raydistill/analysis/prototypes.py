"""What a prototype can be compared with: the mean of its class, and the real galaxies that it resembles most.

A prototype is a synthetic image that teaches a network; nothing makes it a plausible galaxy. Beside the class mean
one sees what distillation adds to averaging, and beside its nearest real neighbours whether it is a copy.
All images here are numpy, rows, columns, colour ([H, W, 3], first row on top, as in a JPEG); torch code elsewhere
holds them as [3, H, W].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raydistill.errors import CatalogError

# Real galaxies compared at a time: 1024 pictures of 128 px in float64 are 400 MB, of 32 px 25 MB.
NEIGHBOUR_BLOCK = 1024


def as_unit_float(images: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Images in display units, float32: uint8 [0, 255] becomes [0, 1]; floats are taken as being there already."""
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images.astype(np.float32)


def class_means(
    images: npt.NDArray[np.generic], labels: npt.NDArray[np.integer], num_classes: int
) -> npt.NDArray[np.float32]:
    """The mean image of each class.

    Parameters
    ----------
    images : [N, H, W, 3], uint8 or float in [0, 1].
    labels : [N] integers in [0, num_classes).
    num_classes : how many classes the result has.

    Returns
    -------
    [num_classes, H, W, 3] float32 in display units. A class without images is NaN (the figures leave it blank).

    Raises
    ------
    CatalogError : images and labels differ in number, or a label is outside the classes.
    """
    if len(images) != len(labels):
        raise CatalogError(f"{len(images)} images but {len(labels)} labels", "class_means", "give one label per image")
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        fix = f"labels count from 0 to {num_classes - 1}"
        raise CatalogError(f"labels run from {labels.min()} to {labels.max()}", "class_means", fix)
    means = np.full((num_classes, *images.shape[1:]), np.nan, dtype=np.float32)
    for label in np.unique(labels):
        means[label] = as_unit_float(images[labels == label]).mean(axis=0, dtype=np.float64)
    return means


def nearest_real(prototypes: npt.NDArray[np.generic], real: npt.NDArray[np.generic], k: int) -> npt.NDArray[np.int64]:
    """Indices of the `k` real images nearest to each prototype, by Euclidean distance between pixels.

    No rotation or shift is searched: a galaxy and its mirror image are far apart.

    Parameters
    ----------
    prototypes : [N, …] and real : [M, …] of the same image shape (or flattened), uint8 or float in [0, 1].
    k : neighbours per prototype, at most M.

    Returns
    -------
    [N, k] int64 into `real`, nearest first; equal distances (to rounding) in order of index.

    Raises
    ------
    CatalogError : `k` is not in [1, M], or the image shapes differ.
    """
    queries = _flat(prototypes)
    if not 1 <= k <= len(real):
        raise CatalogError(f"{k} neighbours of {len(real)} real images", "nearest_real", "ask for 1 to that many")
    if queries.shape[1] != int(np.prod(real.shape[1:])):
        what = f"prototypes are {prototypes.shape[1:]}, real images {real.shape[1:]}"
        raise CatalogError(what, "nearest_real", "resize one to the other")
    best_distance = np.empty((len(queries), 0))
    best_index = np.empty((len(queries), 0), dtype=np.int64)
    for start in range(0, len(real), NEIGHBOUR_BLOCK):
        distance = _squared_distances(queries, _flat(real[start : start + NEIGHBOUR_BLOCK]))
        index = np.broadcast_to(np.arange(start, start + distance.shape[1]), distance.shape)
        best_distance = np.concatenate([best_distance, distance], axis=1)
        best_index = np.concatenate([best_index, index], axis=1)
        order = np.argsort(best_distance, axis=1, kind="stable")[:, :k]
        best_distance = np.take_along_axis(best_distance, order, axis=1)
        best_index = np.take_along_axis(best_index, order, axis=1)
    return best_index


def nearest_real_means(
    prototypes: npt.NDArray[np.generic], real: npt.NDArray[np.generic], k: int
) -> npt.NDArray[np.float32]:
    """For each prototype the mean of its `k` nearest real images: [N, H, W, 3] float32 in display units."""
    return np.stack([as_unit_float(real[index]).mean(axis=0) for index in nearest_real(prototypes, real, k)])


def most_confident(
    labels: npt.NDArray[np.integer], confidence: npt.NDArray[np.floating], num_classes: int, count: int
) -> list[npt.NDArray[np.int64]]:
    """Per class, indices of up to `count` galaxies that the volunteers were surest of; ties in order of index."""
    surest_first = np.argsort(-confidence, kind="stable")
    return [surest_first[labels[surest_first] == label][:count] for label in range(num_classes)]


def _flat(images: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    return as_unit_float(images).reshape(len(images), -1).astype(np.float64)


def _squared_distances(a_ND: npt.NDArray[np.float64], b_MD: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """|a|² - 2ab + |b|² in float64, where its cancellation (1e-13) is far below the steps of 8-bit pixels."""
    squared_NM: npt.NDArray[np.float64] = (a_ND**2).sum(1)[:, None] - 2 * a_ND @ b_MD.T + (b_MD**2).sum(1)[None]
    return squared_NM
