r"""Learn vote counts with the Dirichlet-multinomial likelihood of a decision tree.

Classes follow from it.

A network predicts one concentration alpha_a > 0 for each answer. Question q has the answers a in q,
to which volunteers gave k_a votes, n = sum_a k_a in all. With A = sum_{a in q} alpha_a,

    P(k | alpha) = n! Gamma(A) / Gamma(n + A)
                   prod_{a in q} Gamma(k_a + alpha_a) / (k_a! Gamma(alpha_a))

This is a multinomial whose fractions have a Dirichlet distribution. The mean of a fraction is
alpha_a / A, and A says how certain the network is. The loss of a galaxy is -sum_q log P. A question
without votes has P = 1, so it adds nothing to the loss or its gradient.

The output z_a of the last layer gives alpha_a = 1 + 100 sigmoid(z_a), as in Zoobot.

A class is a path of answers. Questions are independent given the network, so the mean probability
that a volunteer follows the path is the product of the mean fractions along it:

    c_k = prod_{steps s of k} sum_{a in s} alpha_a / A

`ClassReadout` returns log c_k as the logits of the classes, so that softmax divides by sum_k c_k.

Walmsley et al. 2022, MNRAS 509, 3966, arXiv:2102.08414.

Shape letters: B galaxies of a batch, A answers, Q questions, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raydistill.learning.architectures import Paths

SCALE = 100.0  # alpha lies between 1 and 1 + SCALE


def concentrations(outputs_BA: Tensor) -> Tensor:
    """Return alpha_a = 1 + 100 sigmoid(z_a), [B, A]."""
    return 1 + SCALE * outputs_BA.sigmoid()


def negative_log_likelihood(alpha_BA: Tensor, counts_BA: Tensor, questions: Sequence[int]) -> Tensor:
    """Return -log P of the votes on each question, [B, Q].

    Parameters
    ----------
    alpha_BA
        Concentrations, above 0.
    counts_BA
        Votes for each answer, at least 0.
    questions
        Number of answers of each question, in the order of the columns.
    """
    sizes = list(questions)
    answers_BA = torch.lgamma(counts_BA + 1) + torch.lgamma(alpha_BA) - torch.lgamma(counts_BA + alpha_BA)
    answers_BQ = _sums(answers_BA, sizes)
    total_BQ, votes_BQ = _sums(alpha_BA, sizes), _sums(counts_BA, sizes)
    return answers_BQ + torch.lgamma(votes_BQ + total_BQ) - torch.lgamma(votes_BQ + 1) - torch.lgamma(total_BQ)


def mean_fractions(alpha_BA: Tensor, questions: Sequence[int]) -> Tensor:
    """Return the mean fraction of each answer in its question, alpha_a / A, [B, A]."""
    return torch.cat([alpha / alpha.sum(dim=1, keepdim=True) for alpha in alpha_BA.split(list(questions), 1)], dim=1)


def class_logits(fractions_BA: Tensor, paths: Paths) -> Tensor:
    """Return the log product of the fractions along each class's path, [B, K]."""

    def log_confidence(path: tuple[tuple[int, ...], ...]) -> Tensor:
        steps = [torch.stack([fractions_BA[:, answer] for answer in step]).sum(dim=0) for step in path]
        return torch.stack(steps).log().sum(dim=0)

    return torch.stack([log_confidence(path) for path in paths], dim=1)


class ClassReadout(nn.Module):
    """Turn outputs for answers into logits of classes; it has no parameters.

    Parameters
    ----------
    questions
        Number of answers of each question.
    paths
        Path of each class, as columns of the outputs.
    """

    def __init__(self, questions: Sequence[int], paths: Paths) -> None:
        super().__init__()
        self.questions, self.paths = tuple(questions), paths

    def forward(self, outputs_BA: Tensor) -> Tensor:
        """Return log c_k, [B, K]."""
        return class_logits(mean_fractions(concentrations(outputs_BA), self.questions), self.paths)


def _sums(values_BA: Tensor, sizes: list[int]) -> Tensor:
    """Return the sum over the answers of each question, [B, Q]."""
    return torch.stack([values.sum(dim=1) for values in values_BA.split(sizes, 1)], dim=1)
