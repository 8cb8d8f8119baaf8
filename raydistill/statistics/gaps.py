"""Measure how much of a survey gap an adaptation closes, with bootstrap intervals.

With balanced accuracies A on the target of networks without adaptation, with it, and trained on the
target's labels (the ceiling),

    share = (A_with - A_without) / (A_ceiling - A_without).

A resample draws galaxies within their class, and networks, with replacement. All three kinds of
networks see the same galaxies, and those with and without adaptation are paired by their seed, so
the interval is that of a paired comparison.
"""

from __future__ import annotations

import numpy as np

from raydistill.statistics.intervals import NO_INTERVAL, Interval, percentile_interval

RESAMPLES = 2000


def bootstrap_accuracies(
    correct: list[np.ndarray], labels_N: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Return balanced accuracies of several kinds of networks, and of resamples.

    Parameters
    ----------
    correct
        For each of M kinds of networks, bool [S, N]: whether network s is right about galaxy n. All
        have the same seeds, in the same order.
    labels_N
        Classes of the galaxies; the accuracy is the mean over those that occur.
    seed
        Seed of the resamples.
    resamples
        Number R of resamples.

    Returns
    -------
    tuple of numpy.ndarray
        float64 [M] and [R, M].
    """
    stacked_MSN = np.stack(correct).astype(np.float64)
    num_seeds, rng = stacked_MSN.shape[1], np.random.default_rng(seed)
    members = [np.flatnonzero(labels_N == label) for label in np.unique(labels_N)]
    weights_RS = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), resamples) / num_seeds
    sums_RM = np.zeros((resamples, len(correct)))
    for rows in members:
        weights_RN = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), resamples) / len(rows)
        sums_RM += np.einsum("rs,msn,rn->rm", weights_RS, stacked_MSN[:, :, rows], weights_RN, optimize=True)
    plain_M = np.mean([stacked_MSN[:, :, rows].mean(axis=(1, 2)) for rows in members], axis=0)
    return plain_M, sums_RM / len(members)


def difference(first_SN: np.ndarray, second_SN: np.ndarray, labels_N: np.ndarray, seed: int) -> Interval:
    """Return the balanced accuracy of the first networks minus the second's, paired."""
    plain_M, resampled_RM = bootstrap_accuracies([first_SN, second_SN], labels_N, seed)
    return percentile_interval(float(plain_M[0] - plain_M[1]), resampled_RM[:, 0] - resampled_RM[:, 1])


def gap_closed(
    without_SN: np.ndarray, with_SN: np.ndarray, ceiling_SN: np.ndarray, labels_N: np.ndarray, seed: int
) -> Interval:
    """Return the share of the gap that the adaptation closes.

    All are NaN if the gap is not above 0 in 97.5 % of the resamples: there is no gap to close.
    """
    plain_M, resampled_RM = bootstrap_accuracies([without_SN, with_SN, ceiling_SN], labels_N, seed)
    gap_R = resampled_RM[:, 2] - resampled_RM[:, 0]
    if np.quantile(gap_R, 0.025) <= 0:
        return NO_INTERVAL
    share = (plain_M[1] - plain_M[0]) / (plain_M[2] - plain_M[0])
    usable = gap_R > 0
    resampled_R = (resampled_RM[usable, 1] - resampled_RM[usable, 0]) / gap_R[usable]
    return percentile_interval(float(share), resampled_R)
