"""Remove or insert patches in an order, and measure the probability curve's area.

Deletion starts from the picture and replaces its patches; insertion starts from the replacement and
brings them back (RISE, Petsiuk et al. 2018, arXiv:1806.07421, Sect. 4.2). Where an order names the
patches that decide, the probability of the class falls early under deletion (small area), and rises
early under insertion (large area). A random order is the baseline: the area alone depends on the
picture, its replacement, and the network.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raydistill.seeding import fold_in
from raydistill.stages.analyse.science.occlusion import Classifier

Floats = npt.NDArray[np.float64]

PATCHES_AT_ONCE = 16  # to save memory


def patch_grid(height: int, width: int, side: int) -> Tensor:
    """Return the patch of each pixel, int64 [H, W].

    Patches are squares of `side` pixels, numbered in rows from the top left.
    """
    columns = -(-width // side)
    return (torch.arange(height) // side)[:, None] * columns + (torch.arange(width) // side)[None, :]


def patch_means(values_NHW: Tensor, patches_HW: Tensor) -> Tensor:
    """Return the mean of a map in each patch, [N, L]."""
    count_L = patches_HW.flatten().bincount()
    sums_NL = values_NHW.new_zeros(len(values_NHW), len(count_L))
    sums_NL.index_add_(1, patches_HW.flatten(), values_NHW.flatten(1))
    return sums_NL / count_L


def first_to_last(importance_NL: Tensor) -> Tensor:
    """Return the patches by importance, int64 [N, L]: the most important first.

    Equally important ones are in the order of their numbers.
    """
    return importance_NL.argsort(dim=1, descending=True, stable=True)


def random_order(num_pictures: int, num_patches: int, seed: int) -> Tensor:
    """Return a random order of patches for each picture, int64 [N, L]."""
    rng = np.random.default_rng(fold_in(seed, "random order"))
    return torch.from_numpy(rng.permuted(np.tile(np.arange(num_patches), (num_pictures, 1)), axis=1))


def centre_first(num_pictures: int, patches_HW: Tensor) -> Tensor:
    """Return patches by distance from the centre of the frame, int64 [N, L]."""
    height, width = patches_HW.shape
    y_H1, x_1W = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2 for size in (height, width))
    nearness_1HW = -torch.hypot(y_H1[:, None].expand(height, width), x_1W[None, :].expand(height, width))[None]
    return first_to_last(patch_means(nearness_1HW, patches_HW)).expand(num_pictures, -1)


def bright_first(pictures_NHWC: Tensor, patches_HW: Tensor) -> Tensor:
    """Return the order by the mean brightness of a patch, int64 [N, L]."""
    return first_to_last(patch_means(pictures_NHWC.mean(dim=3), patches_HW))


def occlusion_order(
    classify: Classifier, pictures_NHWC: Tensor, replacement_NHWC: Tensor, labels_N: Tensor, patches_HW: Tensor
) -> Tensor:
    """Return patches by the fall of the class's probability when replaced alone.

    This is the occlusion sensitivity of Zeiler & Fergus 2014 (arXiv:1311.2901).

    Parameters
    ----------
    classify
        Returns class probabilities.
    pictures_NHWC, replacement_NHWC
        The pictures, and what replaces their patches.
    labels_N
        int64, the class whose probability counts.
    patches_HW
        Patch of each pixel.

    Returns
    -------
    torch.Tensor
        int64 [N, L].
    """
    probabilities = []
    for patches in torch.arange(int(patches_HW.max()) + 1).split(PATCHES_AT_ONCE):
        alone = [
            torch.where((patches_HW == patch)[None, :, :, None], replacement_NHWC, pictures_NHWC) for patch in patches
        ]
        probabilities.append(_own(classify(torch.cat(alone)), labels_N.repeat(len(patches))).view(len(patches), -1))
    return first_to_last(-torch.cat(probabilities).T)


def replacement_curve(
    classify: Classifier,
    start_NHWC: Tensor,
    end_NHWC: Tensor,
    labels_N: Tensor,
    patches_HW: Tensor,
    order_NL: Tensor,
    num_points: int,
) -> Floats:
    """Return the class probability of pictures whose patches change from start to end.

    Parameters
    ----------
    classify
        Returns class probabilities.
    start_NHWC, end_NHWC
        Deletion: the pictures, and their replacements. Insertion: the reverse.
    labels_N
        int64, the class whose probability counts.
    patches_HW
        Patch of each pixel.
    order_NL
        Patches in the order in which they change.
    num_points
        Steps between both ends.

    Returns
    -------
    numpy.ndarray
        float64 [N, num_points + 1]. At point p, the first p / num_points of the patches have
        changed.
    """
    num_patches = order_NL.shape[1]
    rank_NHW = order_NL.argsort(dim=1)[:, patches_HW]
    steps = []
    for point in range(num_points + 1):
        changed_NHW1 = (rank_NHW < round(point * num_patches / num_points))[..., None]
        steps.append(torch.where(changed_NHW1, end_NHWC, start_NHWC))
    own = _own(classify(torch.cat(steps)), labels_N.repeat(len(steps)))
    return own.view(len(steps), -1).T.double().numpy()


def area(curve_NP: Floats) -> Floats:
    """Return the area under each curve, [N], by the trapezoidal rule over length 1."""
    areas_N: Floats = np.trapezoid(curve_NP, dx=1 / (curve_NP.shape[1] - 1), axis=1)
    return areas_N


def _own(probability_NK: Tensor, labels_N: Tensor) -> Tensor:
    return probability_NK.gather(1, labels_N[:, None])[:, 0]
