"""Compare prototypes with class means and with the most similar real galaxies.

A prototype is a synthetic image for training a network, and need not be a plausible galaxy. The
class mean shows how it differs from an average; its nearest real neighbours show whether it is a
copy.

Images are numpy arrays [H, W, 3] with the first row on top, as in a JPEG.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raydistill.errors import CatalogError
from raydistill.statistics.memorisation import picture_distances

# Real galaxies compared at a time: 1024 pictures of 128 px are 400 MB in float64, of 32 px 25 MB.
NEIGHBOUR_BLOCK = 1024


def as_unit_float(images: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return images as float32: uint8 is divided by 255, floats keep their values."""
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images.astype(np.float32)


def class_means(
    images: npt.NDArray[np.generic], labels: npt.NDArray[np.integer], num_classes: int
) -> npt.NDArray[np.float32]:
    """Return the mean image of each class.

    Parameters
    ----------
    images
        [N, H, W, 3], uint8 or float in [0, 1].
    labels
        [N] integers in [0, num_classes).
    num_classes
        Number of classes of the result.

    Returns
    -------
    numpy.ndarray
        float32 [num_classes, H, W, 3] in [0, 1]; NaN for a class without images.

    Raises
    ------
    CatalogError
        Images and labels differ in number, or a label is out of range.
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
    """Return the `k` real images nearest to each prototype, by Euclidean distance.

    The distance is between pixels.

    Parameters
    ----------
    prototypes, real
        [N, …] and [M, …] of the same image shape (or flattened), uint8 or float in [0, 1].
    k
        Number of neighbours, at most M.

    Returns
    -------
    numpy.ndarray
        int64 [N, k], indices into `real`, nearest first; equal distances (to rounding) in order of
        index.

    Raises
    ------
    CatalogError
        `k` is not in [1, M], or the image shapes differ.

    Notes
    -----
    Rotations and shifts are not searched: a galaxy and its mirror image are far apart.
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


def distances_in_any_pose(
    prototypes_SHWC: npt.NDArray[np.generic], real_NHWC: npt.NDArray[np.generic]
) -> npt.NDArray[np.float64]:
    """Return the distance of each prototype to each real image, float64 [S, N].

    It is the root mean square difference of pixel values in [0, 1], for the best of eight flips and
    turns.

    Parameters
    ----------
    prototypes_SHWC, real_NHWC
        Images of the same size, uint8 or float in [0, 1].
    """
    queries = as_unit_float(prototypes_SHWC).astype(np.float64)
    blocks = (real_NHWC[start : start + NEIGHBOUR_BLOCK] for start in range(0, len(real_NHWC), NEIGHBOUR_BLOCK))
    return np.concatenate(
        [picture_distances(queries, as_unit_float(block).astype(np.float64)) for block in blocks], axis=1
    )


def nearest_real_means(
    prototypes: npt.NDArray[np.generic], real: npt.NDArray[np.generic], k: int
) -> npt.NDArray[np.float32]:
    """Return the mean of the `k` nearest real images of each prototype.

    The means are float32 [N, H, W, 3] in [0, 1].
    """
    return np.stack([as_unit_float(real[index]).mean(axis=0) for index in nearest_real(prototypes, real, k)])


def most_confident(
    labels: npt.NDArray[np.integer], confidence: npt.NDArray[np.floating], num_classes: int, count: int
) -> list[npt.NDArray[np.int64]]:
    """Return indices of the `count` most confident galaxies per class; ties by index."""
    order = np.argsort(-confidence, kind="stable")
    return [order[labels[order] == label][:count] for label in range(num_classes)]


def _flat(images: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    return as_unit_float(images).reshape(len(images), -1).astype(np.float64)


def _squared_distances(a_ND: npt.NDArray[np.float64], b_MD: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return |a|² - 2ab + |b|² in float64.

    Its cancellation (1e-13) is far below a step of 8-bit pixels.
    """
    squared_NM: npt.NDArray[np.float64] = (a_ND**2).sum(1)[:, None] - 2 * a_ND @ b_MD.T + (b_MD**2).sum(1)[None]
    return squared_NM
