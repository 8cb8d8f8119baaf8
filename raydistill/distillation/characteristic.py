r"""Distil images by matching characteristic functions of features.

This is a baseline that needs no experts.

The characteristic function of features z at the frequency t is Phi(t) = E exp(i t . z). That of the
synthetic images of a class approaches that of the real ones, at frequencies where they differ most:

    min over x, max over p of  sum_c mean_t sqrt(C_c(t)),    t = s(u; p), u normal
    C(t) = a (|Phi_r| - |Phi_x|)^2 + (1 - a) 2 |Phi_r| |Phi_x| (1 - cos(arg Phi_r - arg Phi_x))

(NCFM, Wang et al. 2025, arXiv:2502.20653). The first term compares amplitudes, and the second
phases; with a = 1/2, C is half of |Phi_r - Phi_x|^2. s is a small network. As in the paper,
features have unit length, and come from networks between an untrained one and a trained one. Here
the trained ones are trained for a few epochs on the same images, and s has no batch norm and is
narrower.

Shape letters: N real and M synthetic images, D features, F frequencies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from raydistill.distillation import coreset
from raydistill.distillation.distribution import augmented_features, class_batches, without_last_layer
from raydistill.distillation.options import CharacteristicMatching
from raydistill.learning.augment import Augmentation
from raydistill.learning.augmenting import AugmentationParameters
from raydistill.learning.networks import Network, embedding, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import Training
from raydistill.learning.training import train
from raydistill.seeding import fold_in, generator

SMALLEST = 1e-12  # of C, whose root has no derivative at 0; as in the authors' code
HIDDEN = 128  # width of the network s


def characteristic_distance(real_ND: Tensor, synthetic_MD: Tensor, t_FD: Tensor, amplitude: float) -> Tensor:
    """Return the mean over the frequencies of sqrt(C), a scalar; the module states C.

    Parameters
    ----------
    real_ND, synthetic_MD
        Features.
    t_FD
        Frequencies.
    amplitude
        The weight a.
    """
    real_2F, synthetic_2F = _characteristic(real_ND, t_FD), _characteristic(synthetic_MD, t_FD)
    # The gradient of a norm is not defined at 0.
    real_F, synthetic_F = ((parts_2F.square().sum(dim=0) + SMALLEST).sqrt() for parts_2F in (real_2F, synthetic_2F))
    phase_F = 2 * (real_F * synthetic_F - (real_2F * synthetic_2F).sum(dim=0))
    c_F = amplitude * (real_F - synthetic_F).square() + (1 - amplitude) * phase_F
    return c_F.clamp_min(SMALLEST).sqrt().mean()


def _characteristic(features_ND: Tensor, t_FD: Tensor) -> Tensor:
    """Return real and imaginary parts of the characteristic function at t_FD, [2, F]."""
    angle_NF = features_ND @ t_FD.T
    return torch.stack([angle_NF.cos().mean(dim=0), angle_NF.sin().mean(dim=0)])


def sampler(num_features: int) -> Network:
    """Return the network s: noise [F, D] to frequencies [F, D] in (-1, 1)."""
    return Network.of(
        lambda: nn.Sequential(
            nn.Linear(num_features, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, HIDDEN), nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, num_features), nn.Tanh(),
        )
    )  # fmt: skip


def characteristic_matching(
    recipe: CharacteristicMatching,
    augmentation: Augmentation,
    network: Network,
    images_NCHW: Tensor,
    labels_N: Tensor,
    counts_K: Sequence[int],
    seed: int,
) -> Iterator[tuple[int, float, Tensor]]:
    """Yield (iteration, loss, images [S, C, H, W]) after every iteration.

    The images are sorted by class, `counts_K` of each. The initial images are random real ones. All
    random numbers depend on `seed`. The images are one tensor, updated in place. `augmentation` must
    be shared.

    Raises
    ------
    ValueError
        If a class has no images, or the network's last layer is not linear.
    """
    psi = embedding(network)
    ends = [
        _trained(
            network, images_NCHW, one_hot(labels_N, len(counts_K)), recipe.training_epochs, fold_in(seed, "ends", k)
        )
        for k in range(recipe.num_networks)
    ]
    members = coreset.members(labels_N, len(counts_K))
    images = coreset.random_real(images_NCHW, labels_N, counts_K, generator(seed, "initial")).images_SCHW
    num_features = psi(without_last_layer(ends[0][0], network, psi), images[:1]).flatten(1).shape[1]
    s = sampler(num_features)
    p = initial_parameters(s, fold_in(seed, "frequencies")).to(images)
    optimiser = torch.optim.Adam([images], lr=recipe.lr)
    ascent = torch.optim.Adam([p], lr=recipe.frequency_lr, maximize=True)

    def features(images_BCHW: Tensor, theta_P: Tensor, parameters: AugmentationParameters) -> Tensor:
        return nn.functional.normalize(augmented_features(psi, theta_P, images_BCHW, augmentation, parameters), dim=1)

    def distance(
        x_MCHW: Tensor, p: Tensor, real_ND: Tensor, noise_FD: Tensor, theta_P: Tensor, parameters: AugmentationParameters
    ) -> Tensor:  # fmt: skip
        t_FD = s(p, noise_FD) if recipe.frequency_lr else noise_FD
        return characteristic_distance(real_ND, features(x_MCHW, theta_P, parameters), t_FD, recipe.amplitude)

    for iteration in range(recipe.iterations):
        g = generator(seed, iteration)
        first_P, last_P = ends[int(torch.randint(len(ends), (1,), generator=g))]
        between_P = first_P.lerp(last_P, float(torch.rand(1, generator=g)))
        theta_P = without_last_layer(between_P, network, psi)
        gradient, ascending, total = torch.zeros_like(images), torch.zeros_like(p), 0.0
        for real, mine, parameters in class_batches(images_NCHW, members, recipe.batch_size, counts_K, augmentation, g):
            noise_FD = torch.randn(recipe.num_frequencies, num_features, generator=g).to(images)
            with torch.no_grad():
                real_ND = features(real, theta_P, parameters)
            (gradient[mine], upward), value = torch.func.grad_and_value(distance, argnums=(0, 1))(
                images[mine], p, real_ND, noise_FD, theta_P, parameters
            )
            ascending, total = ascending + upward, total + float(value)
        images.grad, p.grad = gradient, ascending
        optimiser.step()
        if recipe.frequency_lr:
            ascent.step()
        yield iteration + 1, total, images


def _trained(
    network: Network, images_NCHW: Tensor, targets_NK: Tensor, epochs: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the parameters of a network before and after a training."""
    first_P = initial_parameters(network, seed).to(images_NCHW)
    training = Training(epochs=epochs, batch_size=64, lr=0.01, momentum=0.9, sampling="balanced")
    return first_P, train(network, first_P, images_NCHW, targets_NK.to(images_NCHW), training, seed)
