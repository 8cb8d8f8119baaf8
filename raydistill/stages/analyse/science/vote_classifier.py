"""Train a small network that predicts volunteers' vote fractions from pictures.

Each question has its own softmax. The loss is the cross entropy between the fractions and the
prediction, averaged over all questions that enough volunteers reached:

    L = -1/|Q| sum_{(galaxy, question) in Q} sum_answers fraction log softmax(logits)

Shape suffixes: N pictures, A answers, P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import Network, initial_parameters
from raydistill.seeding import fold_in, generator


@dataclass(frozen=True, kw_only=True)
class VoteTraining:
    """Set the training of a vote classifier.

    Parameters
    ----------
    steps
        Steps of Adam, whose rate falls to 0 along a cosine.
    batch_size
        Pictures per step.
    lr
        Learning rate.
    augmentation
        Symmetries of the pictures.
    """

    steps: int = 600
    batch_size: int = 64
    lr: float = 0.003
    augmentation: Augmentation = Augmentation(("dihedral",))


@dataclass(frozen=True)
class VoteClassifier:
    """A trained network that predicts vote fractions.

    Attributes
    ----------
    network, theta_P
        The network with A outputs, and its parameters.
    questions
        The columns of each question.
    """

    network: Network
    theta_P: Tensor
    questions: tuple[tuple[int, ...], ...]

    @torch.inference_mode()
    def predict(self, images_NCHW: Tensor) -> Tensor:
        """Return fractions float32 [N, A] of normalised pictures; each question sums to 1."""
        logits_NA = torch.cat([self.network(self.theta_P, batch) for batch in images_NCHW.split(64)])
        fractions_NA = torch.empty_like(logits_NA)
        for columns in map(list, self.questions):
            fractions_NA[:, columns] = logits_NA[:, columns].softmax(dim=1)
        return fractions_NA


def vote_loss(logits_NA: Tensor, votes_NA: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
    """Return the mean cross entropy over the known questions of all pictures.

    NaN if no question is known.

    Parameters
    ----------
    logits_NA
        Of the network.
    votes_NA
        Fractions; NaN: the question is unknown.
    questions
        The columns of each question.
    """
    losses = []
    for columns in map(list, questions):
        own_NQ = votes_NA[:, columns]
        known_N = own_NQ.isfinite().all(dim=1)
        losses.append(-(own_NQ[known_N] * logits_NA[known_N][:, columns].log_softmax(dim=1)).sum(dim=1))
    return torch.cat(losses).mean()


def fit_votes(
    network: Network,
    images_NCHW: Tensor,
    votes_NA: Tensor,
    questions: Sequence[Sequence[int]],
    training: VoteTraining,
    seed: int,
) -> VoteClassifier:
    """Return a classifier trained on these pictures.

    Parameters
    ----------
    network
        With A outputs.
    images_NCHW
        Normalised pictures.
    votes_NA
        Their fractions; NaN where unknown.
    questions
        The columns of each question.
    training
        Steps and rate.
    seed
        Decides the initial parameters, the batches and the symmetries.
    """
    theta_P = initial_parameters(network, fold_in(seed, "initial")).requires_grad_(True)
    optimiser = torch.optim.Adam([theta_P], lr=training.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.steps)
    rows_of, symmetries = generator(seed, "batches"), generator(seed, "symmetries")
    for _ in range(training.steps):
        rows = torch.randint(len(images_NCHW), (training.batch_size,), generator=rows_of)
        parameters = training.augmentation.sample(symmetries, len(rows))
        logits_BA = network(theta_P, training.augmentation.apply(images_NCHW[rows], parameters))
        optimiser.zero_grad()
        vote_loss(logits_BA, votes_NA[rows], questions).backward()
        optimiser.step()
        schedule.step()
    return VoteClassifier(network, theta_P.detach(), tuple(map(tuple, questions)))
