r"""Distil images by matching gradients, a baseline that needs no experts.

The gradient of a network's loss on the synthetic images of a class approaches that on real ones:

    min over x of  E_theta sum_c D(grad_theta L(A(real_c)), grad_theta L(A(x_c)))

D is the sum over layers and output nodes of 1 - cos of the two gradients; biases and norms do not
count (DC, Zhao et al. 2021, arXiv:2006.05929, Eq. 9). A is one augmentation, the same for real and
synthetic images (DSA, Zhao & Bilen 2021, arXiv:2102.08259). theta begins anew after some steps of the
images; between them, it is trained on the synthetic images.

With tiles, images are parts of stored images, enlarged; networks are trained on real images, and D
is the squared difference of all weights but those of the last layer (IDC, Kim et al. 2022,
arXiv:2205.14959).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from raydistill.distillation import coreset
from raydistill.distillation.distribution import class_batches
from raydistill.distillation.initial import hard_labels
from raydistill.distillation.options import GradientMatching
from raydistill.distillation.space import Tiles
from raydistill.learning.augmenting import AugmentationParameters
from raydistill.learning.losses import student_loss
from raydistill.learning.networks import Network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import Training
from raydistill.learning.training import train
from raydistill.seeding import fold_in, generator

SMALLEST = 1e-6  # added to the product of norms, as in the authors' code
REAL_IMAGES = 500  # on which IDC trains a network between two steps of the images


def cosine_distance(network: Network, one_P: Tensor, other_P: Tensor) -> Tensor:
    """Return D of two gradients, a scalar; the module states it."""
    total = one_P.new_zeros(())
    ones, others = network.layout.split(one_P), network.layout.split(other_P)
    for name, one in ones.items():
        if one.dim() > 1:  # a weight: a row for each output node
            a, b = one.flatten(1), others[name].flatten(1)
            total = total + (1 - (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1) + SMALLEST)).sum()
    return total


def squared_distance(network: Network, one_P: Tensor, other_P: Tensor) -> Tensor:
    """Return the squared difference of two gradients.

    Biases and the last layer do not count.
    """
    ones, others = network.layout.split(one_P), network.layout.split(other_P)
    weights = [name for name, one in ones.items() if one.dim() > 1][:-1]
    return torch.stack([(ones[name] - others[name]).square().sum() for name in weights]).sum()


def gradient_matching(
    recipe: GradientMatching,
    network: Network,
    images_NCHW: Tensor,
    labels_N: Tensor,
    counts_K: Sequence[int],
    seed: int,
) -> Iterator[tuple[int, float, Tensor]]:
    """Yield (iteration, loss, images [S, C, H, W]) after every step of the images.

    A class has `counts_K` * tiles^2 images; they are sorted by class. The initial ones are random
    real ones. All random numbers depend on `seed`.

    Raises
    ------
    ValueError
        If a class has no images, or the side of the images is no multiple of `recipe.tiles`.
    """
    tiles, loss = Tiles(recipe.tiles), student_loss(network, recipe.augmentation)
    num_classes, shown_K = len(counts_K), [count * recipe.tiles**2 for count in counts_K]
    members = coreset.members(labels_N, num_classes)
    start = coreset.random_real(images_NCHW, labels_N, shown_K, generator(seed, "initial"))
    stored = tiles.encode(start.images_SCHW)
    targets_NK = one_hot(labels_N, num_classes).to(images_NCHW)
    own_SK = hard_labels(shown_K).to(images_NCHW)
    optimiser = torch.optim.SGD([stored], lr=recipe.lr, momentum=recipe.momentum)
    training = Training(
        epochs=recipe.network_epochs, lr=recipe.network_lr, momentum=recipe.network_momentum, batch_size=256,
        weight_decay=recipe.network_weight_decay, augmentation=replace(recipe.augmentation, shared=False),
    )  # fmt: skip
    theta_P = images_NCHW.new_zeros(0)

    def gradient(images: Tensor, theta_P: Tensor, targets: Tensor, parameters: AugmentationParameters) -> Tensor:
        of_images = {name: values[: len(images)] for name, values in parameters.items()}
        return torch.func.grad(loss)(theta_P, images, targets, of_images)

    def distance(
        x: Tensor, real_P: Tensor, theta_P: Tensor, targets: Tensor, parameters: AugmentationParameters
    ) -> Tensor:
        made_P = gradient(tiles.decode(x), theta_P, targets, parameters)
        return (squared_distance if recipe.tiles > 1 else cosine_distance)(network, real_P, made_P)

    for iteration in range(recipe.iterations):
        g = generator(seed, iteration)
        if iteration % recipe.steps_per_network == 0:
            theta_P = initial_parameters(network, fold_in(seed, iteration, "network")).to(images_NCHW)
        moved, total = torch.zeros_like(stored), 0.0
        batches = class_batches(images_NCHW, members, recipe.batch_size, shown_K, recipe.augmentation, g)
        for real, shown, parameters in batches:
            count = shown.stop - shown.start
            mine = slice(shown.start // recipe.tiles**2, shown.stop // recipe.tiles**2)
            targets = own_SK[shown.start].expand(max(len(real), count), -1)
            real_P = gradient(real, theta_P, targets[: len(real)], parameters)
            arguments = (real_P, theta_P, targets[:count], parameters)
            moved[mine], value = torch.func.grad_and_value(distance)(stored[mine], *arguments)
            total += float(value)
        stored.grad = moved
        optimiser.step()
        images = tiles.decode(stored)
        yield iteration + 1, total, images
        if (iteration + 1) % recipe.steps_per_network:
            rows = torch.randperm(len(images_NCHW), generator=g)[:REAL_IMAGES].to(labels_N.device)
            data = (images_NCHW[rows], targets_NK[rows]) if recipe.tiles > 1 else (images, own_SK)
            theta_P = train(
                network, theta_P, *data, training.with_even_batches(len(data[0])), fold_in(seed, iteration, "training")
            )
