r"""Match the outcome: the real-image loss of a network trained on synthetic images.

A fresh network takes W steps of SGD with momentum on the synthetic images, W drawn uniformly from
0 ... `max_warmup`. Then it takes N steps, and the cross entropy of real training images is
differentiated through these (`distillation.engines.adjoint` states the equations). This is backpropagation
through a random window of the training (RaT-BPTT, Feng et al. 2023, arXiv:2311.07025). Trajectory
matching leads networks along the experts' way; outcome matching knows nothing of experts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.distillation.matching import Batch, Matcher, MatchResult, Outcome
from raydistill.distillation.options import OutcomeMatching
from raydistill.learning.augment import Augmentation
from raydistill.learning.losses import LossFunction
from raydistill.learning.networks import Network, initial_parameters


class RealImages(NamedTuple):
    """Normalised training images and one-hot labels, on the synthetic images' device."""

    images_NCHW: Tensor
    targets_NK: Tensor


class OutcomeEvaluator:
    """Compute the outcome of a fresh network of one architecture, and its gradients.

    Parameters
    ----------
    options
        The options.
    network
        The student's network.
    matcher
        Trains the student.
    loss
        The loss on real images.
    real
        Real images.
    augmentation
        Of the real images.
    """

    def __init__(
        self,
        options: OutcomeMatching,
        network: Network,
        matcher: Matcher,
        loss: LossFunction,
        real: RealImages,
        augmentation: Augmentation,
    ) -> None:
        self._options, self._network, self._matcher, self._loss = options, network, matcher, loss
        self._real, self._augmentation = real, augmentation
        labels_N = real.targets_NK.argmax(dim=1).cpu()
        self._weights_N = (1 / labels_N.bincount().double())[labels_N]

    def measure(
        self, g: torch.Generator, seed: int, images_SCHW: Tensor, targets_SK: Tensor, lr: Tensor,
        batches: Callable[[int], list[Batch]],
    ) -> MatchResult:  # fmt: skip
        """Return the loss of one fresh network, and its gradients.

        Parameters
        ----------
        g
            Draws the steps before, and the real images.
        seed
            Of the fresh network.
        images_SCHW, targets_SK, lr
            As in `Matcher.match`.
        batches
            Return the batches of a number of steps.
        """
        options = self._options
        warmup = int(torch.randint(options.max_warmup + 1, (1,), generator=g))
        index_B = torch.multinomial(self._weights_N, options.batch_size, replacement=True, generator=g)
        augmentation = self._augmentation.sample(g, options.batch_size)
        index_B = index_B.to(images_SCHW.device)
        outcome = Outcome(self._loss, self._real.images_NCHW[index_B], self._real.targets_NK[index_B], augmentation)
        theta_P = initial_parameters(self._network, seed).to(images_SCHW)
        theta_P, velocity_P = self._matcher.train(
            theta_P, images_SCHW, targets_SK, lr, batches(warmup), options.momentum
        )
        return self._matcher.match_outcome(
            theta_P, outcome, images_SCHW, targets_SK, lr, batches(options.student_steps), options.momentum, velocity_P
        )
