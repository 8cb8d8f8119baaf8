"""Choose coresets, a few images per class, for initialisation and as baselines.

All functions take normalised images [N, C, H, W], integer labels [N], and the number of images
wanted of each class, `counts_K`. They return a `Coreset`, sorted by class. A class with fewer
images than wanted repeats them; a class without images raises a ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydistill.statistics.clusters import k_means

LEAST_MEAN = 3  # images of a cluster
MARGIN_BATCH = 256  # images per forward pass, as in DATM's code


class Coreset(NamedTuple):
    """Images, each with its `origins`: the training rows that it is the mean of."""

    images_SCHW: Tensor
    origins: tuple[Tensor, ...]

    def mean(self, values_NK: Tensor) -> Tensor:
        """Return the mean over each image's origins [S, K] of training values [N, K]."""
        return torch.stack([values_NK[rows.to(values_NK.device)].mean(dim=0) for rows in self.origins])


def random_real(images_NCHW: Tensor, labels_N: Tensor, counts_K: Sequence[int], g: torch.Generator) -> Coreset:
    """Return training images of each class, drawn without replacement."""

    def draw(rows: Tensor, count: int) -> Tensor:
        return repeated(rows[torch.randperm(len(rows), generator=g)], count)

    return chosen(images_NCHW, labels_N, counts_K, draw)


def correctly_classified(
    images_NCHW: Tensor,
    labels_N: Tensor,
    counts_K: Sequence[int],
    g: torch.Generator,
    margin: Callable[[Tensor, Tensor], Tensor],
) -> Coreset:
    """Return images of each class with positive `margin`, in random order.

    If a class has fewer, the images with the largest margin among the others follow.
    """

    def draw(rows: Tensor, count: int) -> Tensor:
        order, margins, right = rows[torch.randperm(len(rows), generator=g)], [], 0
        for part in order.split(MARGIN_BATCH):
            margins.append(margin(images_NCHW[part], labels_N[part]))
            right += int((margins[-1] > 0).sum())
            if right >= count:
                break
        margin_M = torch.cat(margins)
        ranked = margin_M.where(margin_M <= 0, torch.inf).argsort(descending=True, stable=True)
        return repeated(order[ranked], count)

    return chosen(images_NCHW, labels_N, counts_K, draw)


def class_mean(
    images_NCHW: Tensor, labels_N: Tensor, counts_K: Sequence[int], g: torch.Generator, jitter: float = 0.1
) -> Coreset:
    """Return the mean images of disjoint random parts of each class.

    A class with fewer images than are wanted repeats its parts, with noise of `jitter` standard
    deviations.
    """

    def parts(rows: Tensor, count: int) -> Sequence[Tensor]:
        return rows[torch.randperm(len(rows), generator=g)].tensor_split(min(count, len(rows)))

    return _means(images_NCHW, labels_N, counts_K, g, parts, jitter)


def cluster_mean(images_NCHW: Tensor, labels_N: Tensor, counts_K: Sequence[int], g: torch.Generator) -> Coreset:
    """Return the mean images of clusters of each class: k-means of pixels.

    A cluster of one or two images takes the nearest others, so no image is a single galaxy. A class
    with fewer than three images for each wanted one repeats its clusters, as `class_mean` does.
    """

    def clusters(rows: Tensor, count: int) -> list[Tensor]:
        flat_NF = images_NCHW[rows].flatten(1).double().cpu().numpy()
        seed = int(torch.randint(2**31, (1,), generator=g))
        of_N, centres_KF = k_means(flat_NF, min(count, max(1, len(rows) // LEAST_MEAN)), seed)
        found = [np.flatnonzero(of_N == cluster) for cluster in range(len(centres_KF))]
        for cluster, centre_F in enumerate(centres_KF):
            if len(found[cluster]) < LEAST_MEAN:
                found[cluster] = ((flat_NF - centre_F) ** 2).sum(axis=1).argsort()[:LEAST_MEAN]
        return [rows[torch.from_numpy(members)] for members in found]

    return _means(images_NCHW, labels_N, counts_K, g, clusters)


def _means(
    images_NCHW: Tensor,
    labels_N: Tensor,
    counts_K: Sequence[int],
    g: torch.Generator,
    divide: Callable[[Tensor, int], Sequence[Tensor]],
    jitter: float = 0.1,
) -> Coreset:
    """Return the mean images of the rows into which `divide` divides those of a class."""
    images: list[Tensor] = []
    origins: list[Tensor] = []
    for rows, count in rows_and_counts(labels_N, counts_K):
        parts = divide(rows, count)
        means = [images_NCHW[part].mean(dim=0) for part in parts]
        noise = jitter * torch.randn(count, *images_NCHW.shape[1:], generator=g).to(images_NCHW)
        images += [means[i % len(parts)] + (noise[i] if i >= len(parts) else 0) for i in range(count)]
        origins += [parts[i % len(parts)] for i in range(count)]
    return Coreset(torch.stack(images), tuple(origins))


def k_center(images_NCHW: Tensor, labels_N: Tensor, counts_K: Sequence[int]) -> Coreset:
    """Return greedy k-centres in pixel space.

    Sener & Savarese 2018, arXiv:1708.00489. The first centre is the image nearest to the class
    mean.
    """

    def centres(rows: Tensor, count: int) -> Tensor:
        flat = images_NCHW[rows].flatten(1)
        found = [int((flat - flat.mean(dim=0)).square().sum(dim=1).argmin())]
        distance = (flat - flat[found[0]]).square().sum(dim=1)
        for _ in range(min(count, len(rows)) - 1):
            found.append(int(distance.argmax()))
            distance = torch.minimum(distance, (flat - flat[found[-1]]).square().sum(dim=1))
        return repeated(rows[found], count)

    return chosen(images_NCHW, labels_N, counts_K, centres)


def herding(
    images_NCHW: Tensor, labels_N: Tensor, counts_K: Sequence[int], features_NF: Tensor | None = None
) -> Coreset:
    """Return a herding selection in the space of some features; None: that of pixels.

    Welling 2009, doi:10.1145/1553374.1553517. Each image brings the mean of the selection nearest
    to the class mean.
    """
    points_NF = images_NCHW.flatten(1) if features_NF is None else features_NF

    def herd(rows: Tensor, count: int) -> Tensor:
        flat = points_NF[rows.to(points_NF.device)]
        mean, total, free = flat.mean(dim=0), torch.zeros_like(flat[0]), torch.ones(len(flat), dtype=torch.bool)
        found: list[int] = []
        for size in range(1, count + 1):
            distance = ((total + flat) / size - mean).square().sum(dim=1)
            distance[~free.to(distance.device)] = torch.inf
            found.append(int(distance.argmin()))
            total = total + flat[found[-1]]
            free[found[-1]] = False
            free |= ~free.any()  # all used: start over
        return rows[found]

    return chosen(images_NCHW, labels_N, counts_K, herd)


def noise(images_NCHW: Tensor, labels_N: Tensor, counts_K: Sequence[int], g: torch.Generator) -> Coreset:
    """Return standard normal pixels; the origins are the whole class."""
    pixels = torch.randn(sum(counts_K), *images_NCHW.shape[1:], generator=g).to(images_NCHW)
    return with_class_origins(pixels, labels_N, counts_K)


def with_class_origins(images_SCHW: Tensor, labels_N: Tensor, counts_K: Sequence[int]) -> Coreset:
    """Return images, sorted by class, with the whole class as their origins."""
    of_class = rows_and_counts(labels_N, counts_K)
    return Coreset(images_SCHW, tuple(rows for rows, count in of_class for _ in range(count)))


def classes_of(counts_K: Sequence[int]) -> Tensor:
    """Return the class of each image [S] of a set that is sorted by class."""
    return torch.arange(len(counts_K)).repeat_interleave(torch.tensor(counts_K))


def members(labels_N: Tensor, num_classes: int) -> list[Tensor]:
    """Return the rows of each class; ValueError for a class without images."""
    rows = [(labels_N == label).nonzero().flatten() for label in range(num_classes)]
    for label, class_rows in enumerate(rows):
        if not len(class_rows):
            raise ValueError(f"class {label} has no training image")
    return rows


def rows_and_counts(labels_N: Tensor, counts_K: Sequence[int]) -> list[tuple[Tensor, int]]:
    """Return the rows of each class and the number of images wanted of it."""
    return list(zip(members(labels_N, len(counts_K)), counts_K, strict=True))


def repeated(rows: Tensor, count: int) -> Tensor:
    """Return the first `count` rows, repeated if there are fewer."""
    return rows.repeat(-(-count // len(rows)))[:count]


def chosen(
    images_NCHW: Tensor, labels_N: Tensor, counts_K: Sequence[int], choose: Callable[[Tensor, int], Tensor]
) -> Coreset:
    """Return the coreset of the rows that `choose` takes of a class's rows."""
    rows_S = torch.cat([choose(rows, count) for rows, count in rows_and_counts(labels_N, counts_K)])
    return Coreset(images_NCHW[rows_S], rows_S.split(1))
