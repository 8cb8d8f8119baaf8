"""Train a network on few labelled and many unlabelled images: FixMatch.

A weakly augmented unlabelled image whose largest class probability exceeds a threshold gets that
class as its label. The network then has to predict it on a strongly augmented copy:

    L = CE(labelled) + weight · mean over unlabelled images of [max p(weak) >= threshold] CE(strong).

References
----------
Sohn et al. 2020, arXiv:2001.07685. For rare objects in surveys: AnomalyMatch, arXiv:2505.03509.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raydistill.learning.arithmetic import fill_auto
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import Network
from raydistill.learning.options import FixMatch
from raydistill.learning.sgd import descend, init_state
from raydistill.learning.weighted_training import loss_gradient
from raydistill.seeding import generator

NOTHING = Augmentation()  # images are augmented before the step


def fit_fixmatch(
    network: Network,
    theta_P: Tensor,
    images_NCHW: Tensor,
    targets_NK: Tensor,
    probabilities_N: Tensor,
    unlabelled_UCHW: Tensor,
    options: FixMatch,
    seed: int,
) -> Tensor:
    """Return the trained parameters [P].

    Parameters
    ----------
    network, theta_P
        The network, and its initial parameters.
    images_NCHW, targets_NK
        Normalised labelled images, and their target probabilities.
    probabilities_N
        Drawing probability of each labelled image.
    unlabelled_UCHW
        Normalised unlabelled images.
    options
        Hyper-parameters; "auto" means float32, not compiled.
    seed
        Root of batches and augmentations.

    Raises
    ------
    DivergenceError
        The loss or the parameters are not finite at the end.
    """
    g, count = generator(seed, "fixmatch"), options.batch_size * options.unlabelled
    arithmetic = fill_auto(options)
    gradient = loss_gradient(network, NOTHING, 0.0, arithmetic)
    unchanged = NOTHING.sample(generator(seed, "nothing"), options.batch_size + count)
    supervised, unsupervised = (
        (options.batch_size + count) / options.batch_size,  # the gradient is that of the mean over both kinds
        (options.batch_size + count) / count * options.weight,
    )
    reduced = arithmetic.precision == "bfloat16"

    def pseudo_gradient(theta_P: Tensor) -> tuple[Tensor, Tensor]:
        labelled = torch.multinomial(probabilities_N.double(), options.batch_size, replacement=True, generator=g)
        drawn = torch.randint(len(unlabelled_UCHW), (count,), generator=g)
        images, pool = images_NCHW[labelled], unlabelled_UCHW[drawn]
        weak = options.weak.apply(images, options.weak.sample(g, len(images)))
        weak_pool = options.weak.apply(pool, options.weak.sample(g, len(pool)))
        strong_pool = options.strong.apply(pool, options.strong.sample(g, len(pool)))
        with torch.no_grad(), torch.autocast(pool.device.type, torch.bfloat16, enabled=reduced):
            logits = network(theta_P, weak_pool)
        confidence_U, label_U = logits.to(theta_P).softmax(dim=1).max(dim=1)
        used_U = (confidence_U >= options.threshold).to(theta_P)
        pseudo_UK = used_U[:, None] * torch.nn.functional.one_hot(label_U, targets_NK.shape[1])
        weighted = torch.cat([supervised * targets_NK[labelled], unsupervised * pseudo_UK])
        return gradient(theta_P, torch.cat([weak, strong_pool]), weighted, unchanged, None)

    batches, start = [()] * options.steps, init_state(theta_P)
    return descend(start, pseudo_gradient, batches, lambda _: options.lr, options, options.average).average_P
