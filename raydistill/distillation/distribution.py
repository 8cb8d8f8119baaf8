r"""Distil images by distribution matching, a cheap baseline.

In untrained networks, the mean features of the images approach those of the real images of their
class:

    min over x of E_theta sum_c | mean_i psi(theta, A(real_ci)) - mean_j psi(theta, A(x_cj)) |^2

with psi a freshly initialised network without its last layer and A one augmentation, the same for
real and synthetic images (Eq. 6, Zhao & Bilen 2023, arXiv:2110.04181). There are no experts, no
student and no second derivatives.

If there are experts, psi can be one of them at a random epoch (TGDD, Ran et al. 2025,
arXiv:2512.02469; its additional loss that keeps classes apart is not implemented).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from raydistill.distillation import coreset
from raydistill.distillation.options import DistributionMatching
from raydistill.learning.augment import Augmentation
from raydistill.learning.augmenting import AugmentationParameters
from raydistill.learning.networks import Network, embedding, initial_parameters
from raydistill.seeding import fold_in, generator


def class_batches(
    images_NCHW: Tensor,
    members: list[Tensor],
    size: int,
    counts_K: Sequence[int],
    augmentation: Augmentation,
    g: torch.Generator,
) -> Iterator[tuple[Tensor, slice, AugmentationParameters]]:
    """Yield a batch of up to `size` random images of each class, with an augmentation.

    Real and synthetic images share it. A batch is the real images [B, C, H, W], the rows of the
    class among the synthetic images, and the parameters: one row for each image, all rows alike.
    """
    first = 0
    for rows, count in zip(members, counts_K, strict=True):
        real_BCHW = images_NCHW[rows[torch.randperm(len(rows), generator=g)[:size].to(rows.device)]]
        parameters = augmentation.sample(g, max(len(real_BCHW), count))
        yield real_BCHW, slice(first, first + count), parameters
        first += count


def augmented_features(
    psi: Network, theta_P: Tensor, images_BCHW: Tensor, augmentation: Augmentation, parameters: AugmentationParameters
) -> Tensor:
    """Return the features [B, D] of augmented images.

    `parameters` have B rows or more, all alike.
    """
    of_images = {name: values[: len(images_BCHW)] for name, values in parameters.items()}
    return psi(theta_P, augmentation.apply(images_BCHW, of_images)).flatten(1)


def distribution_matching(
    recipe: DistributionMatching,
    network: Network,
    images_NCHW: Tensor,
    labels_N: Tensor,
    counts_K: Sequence[int],
    seed: int,
    draw: Callable[[int], Tensor] | None = None,
) -> Iterator[tuple[int, float, Tensor]]:
    """Yield (iteration, loss, images [S, C, H, W]) after every iteration.

    The images are sorted by class, `counts_K` of each. The initial images are random real ones. All
    random numbers depend on `seed`. The images are one tensor, updated in place.

    draw: returns the parameters theta_P of `network` from the seed of an iteration. None: freshly
    initialised ones.

    Raises
    ------
    ValueError
        If a class has no images, or the network's last layer is not linear.
    """
    psi = embedding(network)

    def mean_features(images_BCHW: Tensor, theta_P: Tensor, parameters: AugmentationParameters) -> Tensor:
        return augmented_features(psi, theta_P, images_BCHW, recipe.augmentation, parameters).mean(dim=0)

    def distance(x_SCHW: Tensor, real_D: Tensor, theta_P: Tensor, parameters: AugmentationParameters) -> Tensor:
        return (real_D - mean_features(x_SCHW, theta_P, parameters)).square().sum()

    members = coreset.members(labels_N, len(counts_K))
    images = coreset.random_real(images_NCHW, labels_N, counts_K, generator(seed, "initial")).images_SCHW
    optimiser = torch.optim.SGD([images], lr=recipe.lr, momentum=recipe.momentum)
    for iteration in range(recipe.iterations):
        g = generator(seed, iteration)
        own_seed = fold_in(seed, iteration, "network")
        theta_P = (
            initial_parameters(psi, own_seed) if draw is None else without_last_layer(draw(own_seed), network, psi)
        )
        theta_P = theta_P.to(images)
        gradient, total = torch.zeros_like(images), 0.0
        for real, mine, parameters in class_batches(
            images_NCHW, members, recipe.batch_size, counts_K, recipe.augmentation, g
        ):
            with torch.no_grad():
                real_D = mean_features(real, theta_P, parameters)
            gradient[mine], value = torch.func.grad_and_value(distance)(images[mine], real_D, theta_P, parameters)
            total += float(value)
        images.grad = gradient
        optimiser.step()
        yield iteration + 1, total, images


def without_last_layer(theta_P: Tensor, network: Network, psi: Network) -> Tensor:
    """Return the network's parameters that its embedding `psi` also has."""
    return psi.layout.flatten(network.layout.split(theta_P))
