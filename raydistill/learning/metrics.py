"""Compute figures of a confusion matrix, and intervals over repeated trainings.

- Completeness (recall): the fraction of a class's members that are classified as such.
- Purity (precision): the fraction of the objects classified as a class that are members.
- F1: the harmonic mean of completeness and purity; 0 for a class that was never predicted. Macro-F1
  is its mean over the classes that occur.
- Balanced accuracy: the mean completeness over the classes; it does not depend on their
  frequencies.
- Calibration: whether a probability is the frequency with which the prediction is right.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from raydistill.statistics.intervals import half_width

if TYPE_CHECKING:  # figures are drawn without torch
    from torch import Tensor


def confusion(predicted_N: Tensor, true_N: Tensor, num_classes: int) -> np.ndarray:
    """Return the counts [K, K]; row: true class, column: predicted class."""
    flat = (true_N.long() * num_classes + predicted_N.long()).bincount(minlength=num_classes**2)
    return flat.view(num_classes, num_classes).cpu().numpy()


def accuracy(confusion_KK: np.ndarray) -> float:
    """Return the fraction of correct classifications; NaN if there are no objects."""
    return _ratio(np.trace(confusion_KK), confusion_KK.sum())


def balanced_accuracy(confusion_KK: np.ndarray) -> float:
    """Return the mean completeness over the classes that occur; NaN without objects."""
    occurring = confusion_KK.sum(axis=1) > 0
    return float(np.mean(completeness(confusion_KK)[occurring])) if occurring.any() else float("nan")


def completeness(confusion_KK: np.ndarray) -> np.ndarray:
    """Return the completeness per class [K]; NaN for a class that does not occur."""
    return np.array([_ratio(confusion_KK[k, k], confusion_KK[k].sum()) for k in range(len(confusion_KK))])


def purity(confusion_KK: np.ndarray) -> np.ndarray:
    """Return the purity per class [K]; NaN for a class that was never predicted."""
    return np.array([_ratio(confusion_KK[k, k], confusion_KK[:, k].sum()) for k in range(len(confusion_KK))])


class Reliability(NamedTuple):
    """Predictions in bins of confidence, the largest probability; NaN in empty bins.

    Attributes
    ----------
    count_B
        int64, predictions in each bin.
    confidence_B
        float64, their mean confidence.
    accuracy_B
        float64, the fraction of them that is right, or the mean agreement.
    """

    count_B: np.ndarray
    confidence_B: np.ndarray
    accuracy_B: np.ndarray

    @property
    def error(self) -> float:
        """Return the expected calibration error; NaN without predictions.

        It is the mean of |accuracy - confidence| over the bins, weighted with their counts (Naeini
        et al. 2015, AAAI 29, 2901).
        """
        distance_B = np.nan_to_num(np.abs(self.accuracy_B - self.confidence_B))
        return _ratio(float((self.count_B * distance_B).sum()), float(self.count_B.sum()))


def reliability(probabilities_NK: np.ndarray, true_N: np.ndarray, num_bins: int = 15) -> Reliability:
    """Return predictions in `num_bins` bins of confidence, (i, i + 1] / num_bins."""
    return in_bins(probabilities_NK.max(axis=1), probabilities_NK.argmax(axis=1) == true_N, num_bins)


def in_bins(
    confidence_N: np.ndarray, right_N: np.ndarray, num_bins: int = 15, *, equal_counts: bool = False
) -> Reliability:
    """Return predictions in bins of their confidence.

    Parameters
    ----------
    confidence_N
        Largest probability of each prediction.
    right_N
        1 where it is right, 0 where it is wrong, or how many people agree with it.
    num_bins
        Number of bins.
    equal_counts
        Give every bin nearly the same number of predictions, instead of the same width (Nguyen &
        O'Connor 2015, arXiv:1508.05154). Equal confidences share a bin.
    """
    if equal_counts:
        edges = np.quantile(confidence_N, np.linspace(0, 1, num_bins + 1)[1:-1])
        bin_N = np.searchsorted(edges, confidence_N)
    else:
        bin_N = np.clip(np.ceil(confidence_N * num_bins).astype(int) - 1, 0, num_bins - 1)
    count_B = np.bincount(bin_N, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        confidence_B, accuracy_B = (
            np.bincount(bin_N, values_N, num_bins) / count_B for values_N in (confidence_N, right_N)
        )
    return Reliability(count_B, confidence_B, accuracy_B)


def brier(probabilities_NK: np.ndarray, true_N: np.ndarray) -> float:
    """Return the Brier score, mean of sum_k (p_k - y_k)^2, in [0, 2]; NaN if empty."""
    if not len(true_N):
        return float("nan")
    return float(((probabilities_NK - np.eye(probabilities_NK.shape[1])[true_N]) ** 2).sum(axis=1).mean())


def f1(confusion_KK: np.ndarray) -> np.ndarray:
    """Return F1 per class [K]; NaN for a class that neither occurs nor was predicted."""
    either_K = confusion_KK.sum(axis=1) + confusion_KK.sum(axis=0)
    return np.array([_ratio(2 * confusion_KK[k, k], either_K[k]) for k in range(len(confusion_KK))])


def macro_f1(confusion_KK: np.ndarray) -> float:
    """Return the mean F1 over the classes that occur; NaN if there are no objects."""
    occurring = confusion_KK.sum(axis=1) > 0
    return float(np.mean(f1(confusion_KK)[occurring])) if occurring.any() else float("nan")


def summarise(values: list[float]) -> dict[str, Any]:
    """Return {mean, std, n, ci95} of repeated runs.

    ci95 is the half-width of the 95 % interval of the mean (Student's t). Values that are not
    finite are left out. std and ci95 are None for fewer than two values; mean is None for none.
    """
    finite = [v for v in values if math.isfinite(v)]
    n = len(finite)
    mean = float(np.mean(finite)) if n else None
    std, ci95 = (float(np.std(finite, ddof=1)), half_width(finite)) if n > 1 else (None, None)
    return {"mean": mean, "std": std, "n": n, "ci95": ci95}


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
