"""Choose coresets by what networks that know the classes say of the images.

The networks are experts, at the end of their training or on the way. As in `coreset`, images
[N, C, H, W] are normalised, labels are [N], and a coreset has `counts_K` images, sorted by class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, pad

from raydistill.distillation.coreset import Coreset, chosen, classes_of, repeated, rows_and_counts
from raydistill.learning.networks import Network
from raydistill.learning.normalise import one_hot
from raydistill.learning.training import predict, predict_logits

CROPS, CANDIDATES = 5, 300  # of an image, and images of a class, as in RDED's code
SMALLEST_CROP = 0.08  # of an image's area
WINDOWS = (0.0, 0.1, 0.25, 0.5, 0.75)  # shares of a class that are easier than a window
EARLY = 0.1  # of a training, where EL2N is measured: 20 of 200 epochs in the paper
LARGEST_WHOLE = 64  # px; larger images are made of four patches, as in RDED's scripts


def el2n_scores(network: Network, thetas_P: Sequence[Tensor], images_NCHW: Tensor, labels_N: Tensor) -> Tensor:
    """Return the error of each image [N], mean over networks early in training.

    | softmax f(x; theta) - y | (EL2N, Paul et al. 2021, arXiv:2107.07075, Definition 4.1).
    """
    errors = []
    for theta_P in thetas_P:
        logits_NK = predict_logits(network, theta_P.to(images_NCHW), images_NCHW)
        targets_NK = one_hot(labels_N, logits_NK.shape[1]).to(logits_NK)
        errors.append((logits_NK.softmax(dim=1) - targets_NK).norm(dim=1))
    return torch.stack(errors).mean(dim=0)


def forgetting_events(network: Network, thetas_P: Iterable[Tensor], images_NCHW: Tensor, labels_N: Tensor) -> Tensor:
    """Return how often each image was recognised and then not [N].

    `thetas_P` are the snapshots of one training, in order. An image that was never recognised has as many
    events as there are snapshots: more than any other (Toneva et al. 2019, arXiv:1812.05159).
    """
    right_TN = torch.stack([predict(network, theta.to(images_NCHW), images_NCHW) == labels_N for theta in thetas_P])
    events_N = (right_TN[:-1] & ~right_TN[1:]).sum(dim=0)
    return torch.where(right_TN.any(dim=0), events_N, len(right_TN)).to(images_NCHW)


def easiest(
    images_NCHW: Tensor,
    labels_N: Tensor,
    counts_K: Sequence[int],
    difficulty_N: Tensor,
    g: torch.Generator,
    after: float = 0.0,
) -> Coreset:
    """Return the easiest images of each class, equal ones in random order.

    Easy images are best where few are kept (Sorscher et al. 2022, arXiv:2206.14486). after: the share
    of the class that is easier still, and left out.
    """

    def pick(rows: Tensor, count: int) -> Tensor:
        shuffled = rows[torch.randperm(len(rows), generator=g)]
        first = min(int(after * len(rows)), max(len(rows) - count, 0))
        return repeated(shuffled[difficulty_N[shuffled].argsort(stable=True)][first:], count)

    return chosen(images_NCHW, labels_N, counts_K, pick)


def window_for_budget(
    images_NCHW: Tensor,
    labels_N: Tensor,
    counts_K: Sequence[int],
    difficulty_N: Tensor,
    g: torch.Generator,
    taught: Callable[[Coreset, Tensor], float],
) -> Coreset:
    """Return images of the difficulty that teaches most, for these numbers of images.

    Of a few windows of difficulty the best is kept: the more images and training there are, the harder
    they should be (the idea of CAD-Prune, arXiv:2604.18811). `taught` returns the accuracy of a network
    trained on a coreset and its labels [S].
    """
    labels_S = classes_of(counts_K).to(labels_N.device)
    found = [easiest(images_NCHW, labels_N, counts_K, difficulty_N, g, after) for after in WINDOWS]
    return max(found, key=lambda one: taught(one, labels_S))


def moderate(images_NCHW: Tensor, labels_N: Tensor, counts_K: Sequence[int], features_NF: Tensor) -> Coreset:
    """Return the images at the median distance to the mean feature of their class.

    Moderate coreset (Xia et al. 2023, https://openreview.net/forum?id=7D5EECbOaf9).
    """

    def pick(rows: Tensor, count: int) -> Tensor:
        distance = (features_NF[rows] - features_NF[rows].mean(dim=0)).norm(dim=1)
        return repeated(rows[(distance - distance.median()).abs().argsort(stable=True)], count)

    return chosen(images_NCHW, labels_N, counts_K, pick)


def rded(
    images_NCHW: Tensor,
    labels_N: Tensor,
    counts_K: Sequence[int],
    g: torch.Generator,
    network: Network,
    thetas_P: Sequence[Tensor],
) -> Coreset:
    """Return images of the crops that the networks recognise most surely.

    Of each of 300 images of a class, the crop with the least cross entropy is kept, of five. The best
    of these crops become the images: one each, or four in a square if images have more than 64 px
    (RDED, Sun et al. 2024, arXiv:2312.03526, Sect. 4.2). Labels and training are those of the evaluation.
    """
    side = images_NCHW.shape[-1]
    factor = 2 if side > LARGEST_WHOLE and side % 2 == 0 else 1
    images, origins = [], []
    for label, (rows, count) in enumerate(rows_and_counts(labels_N, counts_K)):
        candidates = rows[torch.randperm(len(rows), generator=g)[:CANDIDATES]]
        crops_MCHW = random_crops(images_NCHW[candidates], side // factor, g)
        loss_M = realism_loss(network, thetas_P, crops_MCHW, label, side)
        best_N = loss_M.view(-1, CROPS).min(dim=1)
        order = repeated(best_N.values.argsort(stable=True), count * factor**2)
        patches = crops_MCHW[order * CROPS + best_N.indices[order]]
        images.append(stitched(patches, factor))
        origins += list(candidates[order].view(factor**2, count).T)
    return Coreset(torch.cat(images), tuple(origins))


def realism_loss(network: Network, thetas_P: Sequence[Tensor], crops_MCHW: Tensor, label: int, side: int) -> Tensor:
    """Return the cross entropy of crops [M], mean over networks.

    Crops that are smaller than `side` get a border of zeros, the mean colour.
    """
    border = side - crops_MCHW.shape[-1]
    low, high = border // 2, border - border // 2
    padded = pad(crops_MCHW, (low, high, low, high))
    targets = torch.full((len(padded),), label, device=padded.device)
    losses = [
        cross_entropy(predict_logits(network, theta_P.to(padded), padded), targets, reduction="none")
        for theta_P in thetas_P
    ]
    return torch.stack(losses).mean(dim=0)


def stitched(patches: Tensor, factor: int) -> Tensor:
    """Return images of factor * factor patches.

    Patch n of I * factor^2 is the part n // I, row by row, of image n % I.
    """
    count = len(patches) // factor**2
    _, channels, height, width = patches.shape
    parts = patches.view(factor, factor, count, channels, height, width)
    return parts.permute(2, 3, 0, 4, 1, 5).reshape(count, channels, factor * height, factor * width)


def random_crops(images_NCHW: Tensor, size: int, g: torch.Generator) -> Tensor:
    """Return `CROPS` square crops of each image, resized [N * CROPS, C, size, size]."""
    side, crops = images_NCHW.shape[-1], []
    for image in images_NCHW:
        for area in torch.empty(CROPS).uniform_(SMALLEST_CROP, 1, generator=g).tolist():
            width = max(1, round(side * math.sqrt(area)))
            top, left = torch.randint(side - width + 1, (2,), generator=g).tolist()
            crop = image[None, :, top : top + width, left : left + width]
            crops.append(interpolate(crop, size=(size, size), mode="bilinear", antialias=True))
    return torch.cat(crops)
