r"""Match the outcome: the real-image loss of a network trained on synthetic images.

A fresh network takes W steps of SGD with momentum on the synthetic images, W drawn uniformly from
0 ... `max_warmup`. Then it takes N steps, and the cross entropy of real training images is
differentiated through these (`core.engines.adjoint` states the equations). This is backpropagation
through a random window of the training (RaT-BPTT, Feng et al. 2023, arXiv:2311.07025). Trajectory
matching leads networks along the experts' way; outcome matching knows nothing of experts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.core.architectures import ClassifierArchitecture
from raydistill.core.augment import Augmentation
from raydistill.core.checks import at_least, at_least_0_below_1, positive
from raydistill.core.engines.base import LossFunction
from raydistill.core.matching import Batch, Matcher, MatchResult, Outcome
from raydistill.core.networks import Network, initial_parameters


@dataclass(frozen=True, kw_only=True)
class OutcomeMatching:
    """Set the iterations that match the outcome in place of trajectories.

    Parameters
    ----------
    after
        Iterations of trajectory matching before them. The schedule does not stop the run.
    student_steps
        N, the number of steps through which the loss is differentiated.
    max_warmup
        The largest W.
    momentum
        Momentum of the student's SGD.
    student_lr
        Its initial learning rate; the logarithm is learned.
    batch_size
        Real images of a segment, equally many of each class on average.
    image_step
        Factor of the image step. The gradient of one fresh network on some real images is noisier
        than that of a segment.
    networks
        Architectures that take turns, each with a learning rate of its own. Empty: the experts'.
        Images that several architectures learn from suit others better.
    """

    after: int = 0
    student_steps: int = 20
    max_warmup: int = 100
    momentum: float = 0.9
    student_lr: float = 0.005
    batch_size: int = 200
    image_step: float = 1.0
    networks: tuple[ClassifierArchitecture, ...] = ()

    @property
    def num_lrs(self) -> int:
        """Return the number of learning rates: one for each architecture."""
        return max(1, len(self.networks))

    def __post_init__(self) -> None:
        positive(self, "student_steps", "student_lr", "batch_size", "image_step")
        at_least(0, after=self.after, max_warmup=self.max_warmup)
        at_least_0_below_1(momentum=self.momentum)


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
