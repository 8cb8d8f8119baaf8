"""How much of an accuracy is the distilled images' own: the two scores of DD-Ranking (Li et al. 2025, arXiv:2505.13300).

Soft labels and augmentation teach a network something on any images, random real ones too. So each accuracy is set beside that of
random real images with the same labels and training:

    HLR = acc(real, hard) - acc(syn, hard)                       hard-label recovery: how far below the survey itself
    IOR = acc(syn, its labels) - acc(random, such labels)        improvement over random
    LRS = u(w IOR - (1 - w) HLR)                                 label-robust score
    ARS = u(g (syn - random, augmented) + (1 - g) (syn - random, plain))    augmentation-robust score
    u(x) = (e^x - e^-1) / (e - e^-1),  w = g = 1/2

u takes [-1, 1] to [0, 1] and 0 to 1 / (e + 1) = .27, which is what random real images score in the ARS.

The formulas and weights are those of the authors' package (v0.2.0). Where this departs from its code:
- Accuracies are fractions, as u demands. The package puts percentages into u, so its own figures leave [0, 1].
- They are balanced, since surveys are not; on the package's balanced data sets the two are the same.
- An accuracy is that of the last epoch, at a learning rate chosen on validation images; the package takes the best of all epochs and
  rates on the test images.
- A score is u of the mean accuracies, with an interval; the package gives mean and deviation of the scores of single rounds.
As there, the set's own learning rate goes with its own labels (where `learned_lr` leaves it alone), and all else has its rate searched for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scipy import special

from raydistill.core import metrics

WEIGHT = 0.5  # w and g of the paper and of its leaderboard


def label_robust(
    real_hard: Sequence[float], syn: Sequence[float], random: Sequence[float], syn_hard: Sequence[float] | None = None
) -> dict[str, Any]:
    """LRS from the accuracies of single networks, fractions in [0, 1].

    Parameters
    ----------
    real_hard
        Trained on the whole survey with hard labels.
    syn, random
        Trained on the distilled images with their labels, and on random real ones that were labelled alike.
    syn_hard
        Trained on the distilled images with hard labels; None: those of `syn` are hard, and its networks count in both terms.

    Returns
    -------
    {score, low, high, hard_label_recovery, improvement_over_random}; low and high as in `_score`.
    """
    own = syn if syn_hard is None else syn_hard
    terms = [(-(1 - WEIGHT), real_hard), (-WEIGHT, random)]
    terms += [(1.0, syn)] if syn_hard is None else [(WEIGHT, syn), (1 - WEIGHT, syn_hard)]
    return _score(terms) | {
        "hard_label_recovery": _difference(real_hard, own),
        "improvement_over_random": _difference(syn, random),
    }


def augmentation_robust(
    syn_augmented: Sequence[float],
    random_augmented: Sequence[float],
    syn_plain: Sequence[float],
    random_plain: Sequence[float],
) -> dict[str, Any]:
    """ARS from the accuracies of single networks that were trained with augmentation and without ("plain").

    {score, low, high, improvement_augmented, improvement_plain}; low and high as in `_score`.
    """
    terms = [(WEIGHT, syn_augmented), (-WEIGHT, random_augmented), (1 - WEIGHT, syn_plain), (WEIGHT - 1, random_plain)]
    return _score(terms) | {
        "improvement_augmented": _difference(syn_augmented, random_augmented),
        "improvement_plain": _difference(syn_plain, random_plain),
    }


def unit(x: float) -> float:
    """u of the module's head: [-1, 1] to [0, 1], rising."""
    return (math.exp(x) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def _score(terms: Sequence[tuple[float, Sequence[float]]]) -> dict[str, Any]:
    """u of a weighted sum of mean accuracies, and u of the ends of that sum's 95 % interval (Welch's), cut to [-1, 1].

    The groups of networks count as independent: those of one seed share their initial weights, so the interval is rather too wide
    than too narrow. low and high are None where a group has fewer than two networks; all three where one has none.
    """
    groups = [(weight, metrics.summarise(list(values))) for weight, values in terms]
    if any(group["mean"] is None for _, group in groups):
        return {"score": None, "low": None, "high": None}
    x = min(1.0, max(-1.0, sum(weight * group["mean"] for weight, group in groups)))  # beyond by rounding alone
    if any(group["std"] is None for _, group in groups):
        return {"score": unit(x), "low": None, "high": None}
    variances = [(weight * group["std"]) ** 2 / group["n"] for weight, group in groups]
    half = 0.0
    if total := sum(variances):
        freedom = total**2 / sum(v**2 / (group["n"] - 1) for v, (_, group) in zip(variances, groups, strict=True))
        half = float(special.stdtrit(freedom, 0.975)) * math.sqrt(total)
    return {"score": unit(x), "low": unit(max(-1.0, x - half)), "high": unit(min(1.0, x + half))}


def _difference(above: Sequence[float], below: Sequence[float]) -> float | None:
    a, b = (metrics.summarise(list(values))["mean"] for values in (above, below))
    return None if a is None or b is None else a - b
