"""What a confusion matrix says, in the words of astronomers, with intervals over repeated trainings.

Completeness (recall): of the true members of a class, the fraction found. Purity (precision): of those called members, the
fraction that are. Balanced accuracy: the mean completeness over classes, which a common class cannot buy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

if TYPE_CHECKING:  # pictures need no torch
    from torch import Tensor


def confusion(predicted_N: Tensor, true_N: Tensor, num_classes: int) -> np.ndarray:
    """[K, K] counts; row: true class, column: predicted class."""
    flat = (true_N.long() * num_classes + predicted_N.long()).bincount(minlength=num_classes**2)
    return flat.view(num_classes, num_classes).cpu().numpy()


def accuracy(confusion_KK: np.ndarray) -> float:
    """Fraction of right answers; NaN without any galaxy."""
    return _ratio(np.trace(confusion_KK), confusion_KK.sum())


def balanced_accuracy(confusion_KK: np.ndarray) -> float:
    """Mean completeness over the classes that occur; NaN without any galaxy."""
    occurring = confusion_KK.sum(axis=1) > 0
    return float(np.mean(completeness(confusion_KK)[occurring])) if occurring.any() else float("nan")


def completeness(confusion_KK: np.ndarray) -> np.ndarray:
    """[K]; NaN for a class that does not occur."""
    return np.array([_ratio(confusion_KK[k, k], confusion_KK[k].sum()) for k in range(len(confusion_KK))])


def purity(confusion_KK: np.ndarray) -> np.ndarray:
    """[K]; NaN for a class never predicted."""
    return np.array([_ratio(confusion_KK[k, k], confusion_KK[:, k].sum()) for k in range(len(confusion_KK))])


def summarise(values: list[float]) -> dict[str, Any]:
    """{mean, std, n, ci95}: standard deviation over runs and half-width of the 95 % interval of the mean (Student's t).

    Non-finite values are left out of all four; std and ci95 are None below two values.
    """
    finite = [v for v in values if math.isfinite(v)]
    n = len(finite)
    mean = float(np.mean(finite)) if n else None
    std = float(np.std(finite, ddof=1)) if n > 1 else None
    ci95 = float(special.stdtrit(n - 1, 0.975)) * std / math.sqrt(n) if std is not None else None
    return {"mean": mean, "std": std, "n": n, "ci95": ci95}


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
