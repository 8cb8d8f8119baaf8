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
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from raydistill.statistics.intervals import half_width, welch_half_width

if TYPE_CHECKING:
    from torch import Tensor


def confusion(predicted_N: Tensor, true_N: Tensor, num_classes: int) -> np.ndarray:
    """Return the counts [K, K]; row: true class, column: predicted class."""
    flat = (true_N.long() * num_classes + predicted_N.long()).bincount(minlength=num_classes**2)
    return flat.view(num_classes, num_classes).cpu().numpy()


def confusion_of(probabilities_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Return the confusion [K, K] of the most probable classes."""
    num_classes = probabilities_NK.shape[1]
    flat = labels_N * num_classes + probabilities_NK.argmax(axis=1)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


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


# Compute the two scores of DD-Ranking (Li et al. 2025, arXiv:2505.13300).
#
# Soft labels and augmentation raise the accuracy on any images, random real ones too. The scores
# therefore compare each accuracy with that of random real images under the same labels and training:
#
#     HLR = acc(real, hard) - acc(syn, hard)                       hard-label recovery: distance to all training data
#     IOR = acc(syn, its labels) - acc(random, such labels)        improvement over random
#     LRS = u(w IOR - (1 - w) HLR)                                 label-robust score
#     ARS = u(g (syn - random, augmented) + (1 - g) (syn - random, plain))    augmentation-robust score
#     u(x) = (e^x - e^-1) / (e - e^-1),  w = g = 1/2
#
# u maps [-1, 1] to [0, 1] and 0 to 1 / (e + 1) = .27, the ARS of random real images.
#
# The formulas and weights are those of the authors' package (v0.2.0). Differences from its code:
# - Accuracies are fractions, as u requires. The package passes percentages to u, so its scores can
#   leave [0, 1].
# - They are balanced accuracies, because surveys are not balanced; on the package's data sets both
#   are the same.
# - Each is taken after the last epoch, at a learning rate chosen on validation images. The package
#   takes the best of all epochs and rates on the test images.
# - A score is u of the mean accuracies, with an interval; the package gives mean and deviation of the
#   scores of single rounds.
# As in the package, the learned rate of the set is used with its own labels (with
# `learned_lr: only`); all other rates are searched.

WEIGHT = 0.5  # w and g of the paper and of its leaderboard


def label_robust(
    real_hard: Sequence[float], syn: Sequence[float], random: Sequence[float], syn_hard: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return the LRS from the accuracies of single networks, fractions in [0, 1].

    Parameters
    ----------
    real_hard
        Networks trained on all data with hard labels.
    syn, random
        Networks trained on the distilled images with their labels, and on random real images
        labelled in the same way.
    syn_hard
        Networks trained on the distilled images with hard labels. None: the labels of `syn` are
        hard, and it enters both terms.

    Returns
    -------
    dict
        {score, low, high, hard_label_recovery, improvement_over_random}; low and high are the ends
        of the 95 % interval.
    """
    of_synthetic = syn if syn_hard is None else syn_hard
    terms = [(-(1 - WEIGHT), real_hard), (-WEIGHT, random)]
    terms += [(1.0, syn)] if syn_hard is None else [(WEIGHT, syn), (1 - WEIGHT, syn_hard)]
    return _score(terms) | {
        "hard_label_recovery": _difference(real_hard, of_synthetic),
        "improvement_over_random": _difference(syn, random),
    }


def augmentation_robust(
    syn_augmented: Sequence[float],
    random_augmented: Sequence[float],
    syn_plain: Sequence[float],
    random_plain: Sequence[float],
) -> dict[str, Any]:
    """Return the ARS from single networks' accuracies.

    They are trained with augmentation and without ("plain").

    Returns
    -------
    dict
        {score, low, high, improvement_augmented, improvement_plain}; low and high are the ends of
        the 95 % interval.
    """
    terms = [(WEIGHT, syn_augmented), (-WEIGHT, random_augmented), (1 - WEIGHT, syn_plain), (WEIGHT - 1, random_plain)]
    return _score(terms) | {
        "improvement_augmented": _difference(syn_augmented, random_augmented),
        "improvement_plain": _difference(syn_plain, random_plain),
    }


def unit(x: float) -> float:
    """Return u(x), which maps [-1, 1] to [0, 1]."""
    return (math.exp(x) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def _score(terms: Sequence[tuple[float, Sequence[float]]]) -> dict[str, Any]:
    """Return u of a weighted sum of mean accuracies, and of its 95 % interval's ends.

    The interval is Welch's, clipped to [-1, 1]. The groups of networks are treated as independent.
    Networks with one seed share their initial weights, so the interval is conservative. low and
    high are None if a group has fewer than two networks; all three are None if a group is empty.
    """
    groups = [(weight, summarise(list(values))) for weight, values in terms]
    if any(group["mean"] is None for _, group in groups):
        return {"score": None, "low": None, "high": None}
    x = min(1.0, max(-1.0, sum(weight * group["mean"] for weight, group in groups)))  # rounding can exceed the limits
    if any(group["std"] is None for _, group in groups):
        return {"score": unit(x), "low": None, "high": None}
    variances = [(weight * group["std"]) ** 2 for weight, group in groups]
    half = welch_half_width(variances, [group["n"] for _, group in groups])
    return {"score": unit(x), "low": unit(max(-1.0, x - half)), "high": unit(min(1.0, x + half))}


def _difference(above: Sequence[float], below: Sequence[float]) -> float | None:
    a, b = (summarise(list(values))["mean"] for values in (above, below))
    return None if a is None or b is None else a - b
