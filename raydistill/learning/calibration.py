"""Turn class probabilities of networks into those of a survey.

Networks that are trained with every class equally often answer for a survey in which every class is
equally frequent. With their probabilities p_k = exp(z_k), the prior s of their training and the
prior t of a survey,

    p'_k = softmax_k(z_k / T + log(t_k / s_k)).

- Without T this is Bayes' theorem for new class frequencies (Saerens, Latinne & Decaestecker 2002,
  doi:10.1162/089976602753284446, Eq. 4).
- Their EM iteration estimates t from the survey's pictures alone (Eq. 9): t becomes the mean of p'.
- The temperature T corrects over- or underconfidence (Guo et al. 2017, arXiv:1706.04599). It is
  fitted on validation galaxies, with t their own class frequencies.

Shape letters: N galaxies, K classes, B bins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from raydistill.learning.metrics import Reliability, in_bins
from raydistill.learning.options import Training

Floats = npt.NDArray[np.float64]

TEMPERATURES = (0.05, 20.0)  # the range that is searched
EM_TOLERANCE = 1e-7  # largest change of a class's frequency in the last iteration
EM_ITERATIONS = 10_000
SMALLEST_LOG = -700.0  # of a probability, so that one galaxy cannot make the cross entropy infinite


@dataclass(frozen=True)
class Calibration:
    """The prior of networks' training, the prior of a survey, and a temperature.

    Parameters
    ----------
    trained
        Class frequencies to which the training corresponds; they sum to 1.
    prior
        Class frequencies of the survey; they sum to 1.
    temperature
        T; 1 changes nothing.
    """

    trained: tuple[float, ...]
    prior: tuple[float, ...]
    temperature: float = 1.0

    def __post_init__(self) -> None:
        sums = (sum(self.trained), sum(self.prior))
        if len(self.trained) != len(self.prior) or not all(abs(total - 1) < 1e-6 for total in sums):
            raise ValueError("trained and prior must be frequencies of the same classes, which sum to 1")
        if min(self.trained) <= 0 or min(self.prior) < 0:
            raise ValueError("frequencies must be at least 0, and those of a training above 0")
        if not 0 < self.temperature < np.inf:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    @classmethod
    def none(cls, num_classes: int) -> Self:
        """Return the calibration that changes nothing."""
        return cls((1 / num_classes,) * num_classes, (1 / num_classes,) * num_classes)

    def logits(self, logits_NK: npt.ArrayLike) -> Floats:
        """Return z / T + log(t / s), float64 [N, K]; -inf for a class of prior 0."""
        with np.errstate(divide="ignore"):
            shift_K = np.log(np.asarray(self.prior)) - np.log(np.asarray(self.trained))
        return np.asarray(logits_NK, np.float64) / self.temperature + shift_K

    def apply(self, logits_NK: npt.ArrayLike) -> Floats:
        """Return calibrated probabilities, float64 [N, K].

        Parameters
        ----------
        logits_NK
            Natural logarithms of the networks' probabilities, up to a constant per row.
        """
        from scipy import special  # imported late, as in `minimise_positive`

        return np.asarray(special.softmax(self.logits(logits_NK), axis=1))

    def with_prior(self, prior: Sequence[float] | npt.NDArray[np.float64]) -> Self:
        """Return the calibration for other class frequencies of the survey."""
        return replace(self, prior=tuple(float(value) for value in prior))

    def with_estimated_prior(self, logits_NK: npt.ArrayLike) -> Self:
        """Return the calibration with the prior that EM finds in a survey's pictures."""
        prior_K = np.asarray(self.trained)
        for _ in range(EM_ITERATIONS):
            before_K, prior_K = prior_K, self.with_prior(prior_K).apply(logits_NK).mean(axis=0)
            if np.abs(prior_K - before_K).max() < EM_TOLERANCE:
                break
        return self.with_prior(prior_K / prior_K.sum())


def trained_prior(training: Training, counts_K: Sequence[int]) -> tuple[float, ...]:
    """Return the class frequencies to which a training corresponds.

    Parameters
    ----------
    training
        Balanced sampling and class weights make every class count equally.
    counts_K
        Number of training galaxies of each class.
    """
    if training.sampling == "balanced" or training.class_weights:
        return (1 / len(counts_K),) * len(counts_K)
    return frequencies(counts_K)


def frequencies(counts_K: Sequence[float]) -> tuple[float, ...]:
    """Return counts as fractions of their sum."""
    total = sum(counts_K)
    return tuple(count / total for count in counts_K)


def fit_temperature(calibration: Calibration, logits_NK: npt.ArrayLike, labels_N: npt.NDArray[np.int64]) -> Calibration:
    """Return the calibration with the temperature of the least cross entropy.

    Parameters
    ----------
    calibration
        The priors; that of the survey need not be that of these galaxies.
    logits_NK, labels_N
        Log probabilities and classes of galaxies that were not trained on. Their own frequencies are
        the prior during the fit.
    """
    logits_NK, rows = np.asarray(logits_NK, np.float64), np.arange(len(labels_N))
    own = calibration.with_prior(frequencies(np.bincount(labels_N, minlength=logits_NK.shape[1]).tolist()))

    def loss(temperature: float) -> float:
        probability_NK = replace(own, temperature=temperature).apply(logits_NK)
        with np.errstate(divide="ignore"):
            return -float(np.log(probability_NK[rows, labels_N]).clip(SMALLEST_LOG).mean())

    low, high = np.log(TEMPERATURES).tolist()
    return replace(calibration, temperature=minimise_positive(loss, (low, high)))


def minimise_positive(loss: Callable[[float], float], log_range: tuple[float, float]) -> float:
    """Return the positive number of least loss, searched on a logarithmic scale."""
    from scipy import optimize  # a fifth of a second, which commands that open predictions do not need

    found = optimize.minimize_scalar(lambda log: loss(float(np.exp(log))), bounds=log_range, method="bounded")
    return float(np.exp(found.x))


def class_reliability(probabilities_NK: Floats, true_N: npt.NDArray[np.int64], num_bins: int = 15) -> list[Reliability]:
    """Return probability beside frequency of each class, in bins of equal counts."""
    return [
        in_bins(probabilities_NK[:, k], true_N == k, num_bins, equal_counts=True)
        for k in range(probabilities_NK.shape[1])
    ]


def classwise_error(probabilities_NK: Floats, true_N: npt.NDArray[np.int64], num_bins: int = 15) -> float:
    """Return the classwise calibration error: the mean of the classes' errors.

    Kull et al. 2019, arXiv:1910.12656, Eq. 3; here with bins of equal counts.
    """
    return float(np.mean([bins.error for bins in class_reliability(probabilities_NK, true_N, num_bins)]))
