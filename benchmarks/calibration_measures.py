r"""Measure whether class probabilities are frequencies of labels and of votes.

- Calibration error (`metrics.Reliability.error`) against labels: is a prediction of confidence p
  right in a fraction p of the cases? Against votes: does a fraction p of the volunteers agree?
- Likelihood of votes. Probabilities of classes imply fractions of answers: of those who reach a
  question, the fraction of outcome o is sum_{k through o} p_k / sum_{k through the question} p_k.
  An outcome is a step of a path; votes for answers that no path has are left out. Votes are
  multinomial with these fractions, or Dirichlet-multinomial with concentrations s times them, one s
  for all questions (`learning.dirichlet`).
- Temperature scaling, the baseline: p = softmax(logits / T) with one T, fitted on validation
  galaxies (Guo et al. 2017, arXiv:1706.04599).

Shape letters: N galaxies, K classes, A answers, O outcomes, Q questions, S networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special

from raydistill.learning.architectures import Paths
from raydistill.learning.calibration import minimise_positive
from raydistill.learning.dirichlet import negative_log_likelihood
from raydistill.statistics.intervals import Interval

RESAMPLES = 1000
TINY = 1e-12  # the smallest probability

_TEMPERATURES = (-3.0, 3.0)  # natural logarithms of the range that is searched
_SCALES = (-1.0, 9.0)


def scale_logits(logits_NK: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(logits / T), float64 [N, K]."""
    return np.asarray(special.softmax(np.asarray(logits_NK, np.float64) / temperature, axis=1))


def cross_entropy(probabilities_NK: np.ndarray, targets_NK: np.ndarray) -> np.ndarray:
    """Return -sum_k y_k log p_k of each galaxy, [N]."""
    return np.asarray(-(targets_NK * np.log(np.maximum(probabilities_NK, TINY))).sum(axis=1))


def fit_temperature(logits_NK: np.ndarray, targets_NK: np.ndarray) -> float:
    """Return the temperature in [0.05, 20] with the smallest mean cross entropy.

    Parameters
    ----------
    logits_NK
        Logits of galaxies that were not trained on.
    targets_NK
        Their labels, one-hot, or the volunteers' class probabilities.
    """
    return minimise_positive(
        lambda t: float(cross_entropy(scale_logits(logits_NK, t), targets_NK).mean()), _TEMPERATURES
    )


@dataclass(frozen=True)
class PathVotes:
    """Votes on the outcomes of the questions of classes' paths.

    Attributes
    ----------
    sizes
        Number of outcomes of each question.
    members_OK
        bool, whether the path of a class has the outcome.
    counts_NO
        Votes for each outcome.
    """

    sizes: tuple[int, ...]
    members_OK: np.ndarray
    counts_NO: np.ndarray

    @staticmethod
    def of(questions: Sequence[int], paths: Paths, counts_NA: np.ndarray) -> PathVotes:
        """Return the votes on outcomes from those for answers.

        Parameters
        ----------
        questions
            Number of answers of each question.
        paths
            Path of each class: its steps, each with the columns of alternative answers.
        counts_NA
            Votes for each answer.

        Raises
        ------
        ValueError
            If an answer belongs to two different steps.
        """
        steps = sorted({tuple(sorted(step)) for path in paths for step in path})
        answers = [answer for step in steps for answer in step]
        if len(set(answers)) < len(answers):
            raise ValueError("an answer belongs to two different steps")
        question_of = np.repeat(np.arange(len(questions)), questions)
        sizes = [sum(question_of[step[0]] == question for step in steps) for question in range(len(questions))]
        members = [[any(set(step) == set(own) for own in path) for path in paths] for step in steps]
        counts = np.stack([counts_NA[:, list(step)].sum(axis=1) for step in steps], axis=1)
        return PathVotes(tuple(int(size) for size in sizes if size), np.array(members), counts)

    def fractions(self, probabilities_NK: np.ndarray) -> np.ndarray:
        """Return the fraction of each outcome that class probabilities imply, [N, O]."""
        mass_NO = np.maximum(probabilities_NK @ self.members_OK.T, TINY)
        return np.asarray(mass_NO / np.repeat(self._sums(mass_NO), self.sizes, axis=1))

    def _sums(self, values_NO: np.ndarray) -> np.ndarray:
        """Return the sum over the outcomes of each question, [N, Q]."""
        return np.add.reduceat(values_NO, np.cumsum((0, *self.sizes))[:-1], axis=1)

    def multinomial_nll(self, probabilities_NK: np.ndarray) -> np.ndarray:
        """Return -log of the multinomial probability of each galaxy's votes, [N]."""
        counts_NO = self.counts_NO
        coefficient_N = special.gammaln(self._sums(counts_NO) + 1).sum(axis=1) - special.gammaln(counts_NO + 1).sum(
            axis=1
        )
        return np.asarray(cross_entropy(self.fractions(probabilities_NK), counts_NO) - coefficient_N)

    def dirichlet_nll(self, probabilities_NK: np.ndarray, scale: float) -> np.ndarray:
        """Return the negative Dirichlet-multinomial log likelihood [N].

        Its concentrations are `scale` times the fractions.
        """
        alpha = torch.from_numpy(scale * self.fractions(probabilities_NK)).clamp_min(TINY)
        nll = negative_log_likelihood(alpha, torch.from_numpy(self.counts_NO), self.sizes).sum(dim=1)
        return np.asarray(nll.numpy())

    def fit_scale(self, probabilities_NK: np.ndarray) -> float:
        """Return the scale s in [0.4, 8000] with the smallest mean `dirichlet_nll`."""
        return minimise_positive(lambda s: float(self.dirichlet_nll(probabilities_NK, s).mean()), _SCALES)


def bootstrap(
    figure: Callable[[int, np.ndarray], float],
    num_networks: int,
    num_galaxies: int,
    seed: int,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the mean of a figure over networks, with its basic bootstrap interval.

    A resample draws galaxies and networks with replacement. The calibration error of a sample is too
    large, and that of a resample still larger. The basic interval, [2 v - q97.5, 2 v - q2.5] with
    the quantiles q of the resampled values, corrects for this (Davison & Hinkley 1997, Sect. 5.2).

    Parameters
    ----------
    figure
        Returns the figure of one network, by its number, on the galaxies of these rows.
    num_networks, num_galaxies
        S and N.
    seed
        Seed of the resamples.
    resamples
        Their number.
    """
    rng, everyone = np.random.default_rng(seed), np.arange(num_galaxies)
    value = float(np.mean([figure(network, everyone) for network in range(num_networks)]))
    drawn = []
    for _ in range(resamples):
        rows = rng.integers(num_galaxies, size=num_galaxies)
        drawn.append(np.mean([figure(network, rows) for network in rng.integers(num_networks, size=num_networks)]))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(value, float(2 * value - high), float(2 * value - low))
