"""Compare how often each class occurs, by given labels and by a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from raydistill.statistics.permutation import REAL, SYNTHETIC, Floats, Groups, Metric, PooledStatistic, row_by_row

RIDGE = 0.01  # as of `realism`

Ints = npt.NDArray[np.int64]


def total_variation(labels_N: Ints) -> PooledStatistic:
    """Return the total variation distance of the label proportions, in [0, 1].

    It is the share of pictures whose class must change to make the proportions equal.
    """
    members_NK = np.eye(labels_N.max() + 1)[labels_N]

    def evaluate(groups_N: Groups) -> Floats:
        return np.atleast_1d(np.abs(_share_differences(members_NK, groups_N)).sum() / 2)

    return PooledStatistic((Metric("total_variation", "class", bounds=(0, 1)),), row_by_row(evaluate))


def class_shares(pooled_ND: Floats, sample_MD: Floats, labels_M: Ints, class_names: Sequence[str]) -> PooledStatistic:
    """Return how much more often synthetic than real pictures look like each class.

    Parameters
    ----------
    pooled_ND
        float64 [N, D], standardised features.
    sample_MD, labels_M
        Features and labels of other real pictures, on which a linear classifier is trained.
    class_names
        Names of the K classes.

    Returns
    -------
    PooledStatistic
        K metrics, "class_share": the share of synthetic pictures less that of real ones, in
        [-1, 1]. The classifier's errors are the same for both sets.
    """
    seen_N = linear_classifier(sample_MD, labels_M, len(class_names), pooled_ND)
    members_NK = np.eye(len(class_names))[seen_N]

    def evaluate(groups_N: Groups) -> Floats:
        return _share_differences(members_NK, groups_N)

    metrics = tuple(Metric("class_share", name, "different", (-1, 1)) for name in class_names)
    return PooledStatistic(metrics, row_by_row(evaluate))


def linear_classifier(sample_MD: Floats, labels_M: Ints, num_classes: int, pictures_ND: Floats) -> Ints:
    """Return the classes int64 [N] by Fisher's linear discriminant.

    It is trained on a labelled sample. Every class has the prior probability of the sample. An
    absent class is never predicted.
    """
    counts_K = np.bincount(labels_M, minlength=num_classes)
    means_KD = np.eye(num_classes)[labels_M].T @ sample_MD / np.maximum(counts_K, 1)[:, None]
    residuals = sample_MD - means_KD[labels_M]
    within = residuals.T @ residuals / max(len(sample_MD) - num_classes, 1)
    within[np.diag_indices_from(within)] += RIDGE * within.trace() / len(within) + 1e-12
    weights_DK = np.linalg.solve(within, means_KD.T)
    with np.errstate(divide="ignore"):
        offsets_K = np.log(counts_K / counts_K.sum()) - (means_KD * weights_DK.T).sum(1) / 2
    return (pictures_ND @ weights_DK + offsets_K).argmax(1)


def _share_differences(members_NK: Floats, groups_N: Groups) -> Floats:
    differences: Floats = members_NK[groups_N == SYNTHETIC].mean(0) - members_NK[groups_N == REAL].mean(0)
    return differences
