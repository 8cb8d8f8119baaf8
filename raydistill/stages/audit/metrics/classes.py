"""Compare real and synthetic pictures by class: shares, distances and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from raydistill.seeding import fold_in
from raydistill.stages.audit.metrics.distances import kernel_distance
from raydistill.statistics.permutation import (
    REAL,
    SYNTHETIC,
    Floats,
    Frame,
    Groups,
    Metric,
    PooledStatistic,
    row_by_row,
    two_groups,
)
from raydistill.statistics.testing import (
    Finding,
    adjusted_p_values,
    interval,
    jackknife_error,
    make_findings,
    permuted_groups,
)

if TYPE_CHECKING:
    from raydistill.stages.audit.metrics.comparison import Features

# Compare how often each class occurs, by given labels and by a classifier.

RIDGE = 0.01  # as of `realism`
MIN_OF_CLASS = 10  # real and as many synthetic pictures

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

    Notes
    -----
    K metrics, "class_share", in [-1, 1]. The classifier's errors are the same for both sets.
    """
    seen_N = linear_classifier(sample_MD, labels_M, len(class_names), pooled_ND)
    members_NK = np.eye(len(class_names))[seen_N]

    def evaluate(groups_N: Groups) -> Floats:
        return _share_differences(members_NK, groups_N)

    metrics = tuple(Metric("class_share", name, "different", (-1, 1)) for name in class_names)
    return PooledStatistic(metrics, row_by_row(evaluate))


def class_distances(values_ND: Floats, space: str, labels_N: Ints, class_names: Sequence[str]) -> PooledStatistic:
    """Return K metrics, "class_kernel": the kernel distance of each class.

    It is NaN, not testable, for a class with fewer than 2 `MIN_OF_CLASS` pictures.
    """
    metrics = tuple(Metric("class_kernel", f"{name}, {space}") for name in class_names)
    rows = [np.flatnonzero(labels_N == label) for label in range(len(class_names))]
    kernels = [kernel_distance(values_ND[rows_n], space) for rows_n in rows]

    def evaluate(groups_BN: Groups) -> Floats:
        values_BK = np.full((len(groups_BN), len(rows)), np.nan)
        for label, (rows_n, kernel) in enumerate(zip(rows, kernels, strict=True)):
            if len(rows_n) >= 2 * MIN_OF_CLASS:
                with np.errstate(invalid="ignore", divide="ignore"):  # a group without two pictures
                    values_BK[:, label] = kernel.evaluate(groups_BN[:, rows_n])[:, 0]
        return values_BK

    return PooledStatistic(metrics, evaluate)


def linear_classifier(sample_MD: Floats, labels_M: Ints, num_classes: int, pictures_ND: Floats) -> Ints:
    """Return the most probable classes int64 [N] by `log_probabilities`."""
    return log_probabilities(sample_MD, labels_M, num_classes, pictures_ND).argmax(1)


def log_probabilities(sample_MD: Floats, labels_M: Ints, num_classes: int, pictures_ND: Floats) -> Floats:
    """Return log class probabilities float64 [N, K] by Fisher's linear discriminant.

    It is trained on a labelled sample. Every class has the prior probability of the sample. An
    absent class has probability 0.
    """
    counts_K = np.bincount(labels_M, minlength=num_classes)
    means_KD = np.eye(num_classes)[labels_M].T @ sample_MD / np.maximum(counts_K, 1)[:, None]
    residuals = sample_MD - means_KD[labels_M]
    within = residuals.T @ residuals / max(len(sample_MD) - num_classes, 1)
    within[np.diag_indices_from(within)] += RIDGE * within.trace() / len(within) + 1e-12
    weights_DK = np.linalg.solve(within, means_KD.T)
    with np.errstate(divide="ignore"):
        offsets_K = np.log(counts_K / counts_K.sum()) - (means_KD * weights_DK.T).sum(1) / 2
    logits_NK = pictures_ND @ weights_DK + offsets_K
    logits_NK -= logits_NK.max(1, keepdims=True)
    return logits_NK - np.log(np.exp(logits_NK).sum(1, keepdims=True))


def _share_differences(members_NK: Floats, groups_N: Groups) -> Floats:
    return members_NK[groups_N == SYNTHETIC].mean(0) - members_NK[groups_N == REAL].mean(0)


# Test whether pictures show the classes of their labels.

WRONG = 0.1  # share of wrong labels for which the statistic is most powerful
LEAST_PROBABILITY = 1e-3  # of a label: a classifier of some hundred pictures is not surer
NUM_PERMUTATIONS = 1999
ALL_CLASSES = "all classes"


def wrong_labels(
    real: Features, synthetic: Features, training: Features, seed: int = 0, permutations: int = NUM_PERMUTATIONS
) -> list[Finding]:
    r"""Return K + 1 findings, "wrong_labels": of all classes, and of each.

    Their p-values are adjusted for their number. Without labels or with one class there are none.

    Parameters
    ----------
    real, synthetic
        Labelled pictures that are compared; their numbers may differ.
    training
        Other real pictures, on which a linear classifier is trained.
    seed, permutations
        Decide the permutations of real and synthetic pictures within each class.

    Notes
    -----
    If a share :math:`\varepsilon` of the labels is drawn from the other classes at random, label y of
    picture x has the probability
    :math:`(1 - \varepsilon)\,p(y|x) + \varepsilon\,(1 - p(y|x)) / (K - 1)`. The value is the mean
    logarithm of its ratio to p(y|x) for :math:`\varepsilon` = `WRONG`, synthetic less real: by the
    lemma of Neyman and Pearson the most powerful statistic if p is right. A wrong p raises no false
    alarm, because real pictures have the same p. The share of pictures that a classifier assigns to
    their label finds much less: its own errors hide the wrong labels.
    """
    names = training.class_names
    if real.labels_N is None or synthetic.labels_N is None or training.labels_N is None or len(names) < 2:
        return []
    frames = {space: Frame.fit(array.values_ND) for space, array in training.spaces.items()}
    sample_MD, *compared = (
        np.concatenate([frame.apply(pictures.spaces[space].values_ND) for space, frame in frames.items()], axis=1)
        for pictures in (training, real, synthetic)
    )
    labels_N = np.concatenate([real.labels_N, synthetic.labels_N])
    groups_N = two_groups(len(real), len(synthetic))
    logs_NK = log_probabilities(sample_MD, training.labels_N, len(names), np.concatenate(compared))
    own_N = np.exp(logs_NK[np.arange(len(labels_N)), labels_N]).clip(LEAST_PROBABILITY)
    evidence_N = np.log(1 - WRONG + WRONG * (1 - own_N) / ((len(names) - 1) * own_N))
    statistic = _class_differences(evidence_N, labels_N, groups_N, names)
    values_M = statistic.evaluate(groups_N[None])[0]
    null_BM = statistic.evaluate(permuted_groups(groups_N, permutations, fold_in(seed, "labels"), labels_N))
    ends = interval(values_M, jackknife_error(statistic, groups_N, seed), statistic.metrics)
    p_values_M = adjusted_p_values(values_M, null_BM, ["higher"] * len(values_M))
    return make_findings(statistic.metrics, values_M, ends, null_BM, p_values_M)


def _class_differences(
    evidence_N: Floats, labels_N: Ints, groups_N: Groups, class_names: Sequence[str]
) -> PooledStatistic:
    """Return synthetic less real means, of all classes and of each.

    A class with fewer than `MIN_OF_CLASS` pictures of either group is not testable. In the mean of
    all, a class counts by its synthetic pictures.
    """
    members_NK = np.eye(len(class_names))[labels_N]
    tested_K = np.minimum(*(members_NK[groups_N == group].sum(0) for group in (REAL, SYNTHETIC))) >= MIN_OF_CLASS

    def evaluate(groups_BN: Groups) -> Floats:
        real, synthetic = ((groups_BN == group).astype(float) for group in (REAL, SYNTHETIC))
        with np.errstate(invalid="ignore", divide="ignore"):
            means = [group @ (members_NK * evidence_N[:, None]) / (group @ members_NK) for group in (real, synthetic)]
            values_BK = np.where(tested_K, means[1] - means[0], 0.0)
            counts_BK = tested_K * (synthetic @ members_NK)
            of_all_B1 = (counts_BK * values_BK).sum(1, keepdims=True) / counts_BK.sum(1, keepdims=True)
        return np.concatenate([of_all_B1, np.where(tested_K, values_BK, np.nan)], axis=1)

    return PooledStatistic(tuple(Metric("wrong_labels", name) for name in (ALL_CLASSES, *class_names)), evaluate)
