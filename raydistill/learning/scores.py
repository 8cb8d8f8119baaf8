"""Compute the two scores of DD-Ranking (Li et al. 2025, arXiv:2505.13300).

Soft labels and augmentation raise the accuracy on any images, random real ones too. The scores
therefore compare each accuracy with that of random real images under the same labels and training:

    HLR = acc(real, hard) - acc(syn, hard)                       hard-label recovery: distance to all training data
    IOR = acc(syn, its labels) - acc(random, such labels)        improvement over random
    LRS = u(w IOR - (1 - w) HLR)                                 label-robust score
    ARS = u(g (syn - random, augmented) + (1 - g) (syn - random, plain))    augmentation-robust score
    u(x) = (e^x - e^-1) / (e - e^-1),  w = g = 1/2

u maps [-1, 1] to [0, 1] and 0 to 1 / (e + 1) = .27, the ARS of random real images.

The formulas and weights are those of the authors' package (v0.2.0). Differences from its code:
- Accuracies are fractions, as u requires. The package passes percentages to u, so its scores can
  leave [0, 1].
- They are balanced accuracies, because surveys are not balanced; on the package's data sets both
  are the same.
- Each is taken after the last epoch, at a learning rate chosen on validation images. The package
  takes the best of all epochs and rates on the test images.
- A score is u of the mean accuracies, with an interval; the package gives mean and deviation of the
  scores of single rounds.
As in the package, the learned rate of the set is used with its own labels (with
`learned_lr: only`); all other rates are searched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from raydistill.learning import metrics

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
    groups = [(weight, metrics.summarise(list(values))) for weight, values in terms]
    if any(group["mean"] is None for _, group in groups):
        return {"score": None, "low": None, "high": None}
    x = min(1.0, max(-1.0, sum(weight * group["mean"] for weight, group in groups)))  # rounding can exceed the limits
    if any(group["std"] is None for _, group in groups):
        return {"score": unit(x), "low": None, "high": None}
    variances = [(weight * group["std"]) ** 2 / group["n"] for weight, group in groups]
    half = 0.0
    if total := sum(variances):
        from scipy import special

        freedom = total**2 / sum(v**2 / (group["n"] - 1) for v, (_, group) in zip(variances, groups, strict=True))
        half = float(special.stdtrit(freedom, 0.975)) * math.sqrt(total)
    return {"score": unit(x), "low": unit(max(-1.0, x - half)), "high": unit(min(1.0, x + half))}


def _difference(above: Sequence[float], below: Sequence[float]) -> float | None:
    a, b = (metrics.summarise(list(values))["mean"] for values in (above, below))
    return None if a is None or b is None else a - b
