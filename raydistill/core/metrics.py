"""Compute figures of a confusion matrix, and intervals over repeated trainings.

- Completeness (recall): the fraction of a class's members that are classified as such.
- Purity (precision): the fraction of the objects classified as a class that are members.
- Balanced accuracy: the mean completeness over the classes; it does not depend on their
  frequencies.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

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
    """Return the mean completeness over the classes that occur; NaN if there are no objects."""
    occurring = confusion_KK.sum(axis=1) > 0
    return float(np.mean(completeness(confusion_KK)[occurring])) if occurring.any() else float("nan")


def completeness(confusion_KK: np.ndarray) -> np.ndarray:
    """Return the completeness per class [K]; NaN for a class that does not occur."""
    return np.array([_ratio(confusion_KK[k, k], confusion_KK[k].sum()) for k in range(len(confusion_KK))])


def purity(confusion_KK: np.ndarray) -> np.ndarray:
    """Return the purity per class [K]; NaN for a class that was never predicted."""
    return np.array([_ratio(confusion_KK[k, k], confusion_KK[:, k].sum()) for k in range(len(confusion_KK))])


def summarise(values: list[float]) -> dict[str, Any]:
    """Return {mean, std, n, ci95} of repeated runs.

    ci95 is the half-width of the 95 % interval of the mean (Student's t). Values that are not
    finite are left out. std and ci95 are None for fewer than two values; mean is None for none.
    """
    finite = [v for v in values if math.isfinite(v)]
    n = len(finite)
    mean = float(np.mean(finite)) if n else None
    std = float(np.std(finite, ddof=1)) if n > 1 else None
    ci95 = float(special.stdtrit(n - 1, 0.975)) * std / math.sqrt(n) if std is not None else None
    return {"mean": mean, "std": std, "n": n, "ci95": ci95}


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
