"""Measure fidelity and coverage by nearest neighbours.

Precision and recall: Kynkäänniemi et al. 2019, arXiv:1904.06991. Density and coverage: Naeem et al.
2020, arXiv:2002.09797. A *ball* is centred on a picture and reaches to its k-th nearest neighbour
of the same group.

- Precision: share of synthetic pictures inside the ball of some real picture.
- Recall: share of real pictures inside the ball of some synthetic picture.
- Density: mean number of real balls around a synthetic picture, over k.
- Coverage: share of real balls that hold a synthetic picture.
"""

from __future__ import annotations

import numpy as np

from raydistill.stages.audit.science.distances import distance_matrix
from raydistill.statistics.permutation import REAL, SYNTHETIC, Floats, Groups, Metric, PooledStatistic, row_by_row

NUM_NEIGHBOURS = 5  # k: arXiv:2002.09797, Section 4


def neighbour_metrics(pooled_ND: Floats, feature: str, k: int = NUM_NEIGHBOURS) -> PooledStatistic:
    """Return precision, recall, density and coverage.

    Parameters
    ----------
    pooled_ND
        float64 [N, D]. Each group needs more than `k` pictures.
    feature
        Name of the feature space.
    k
        The neighbour to which a ball reaches.

    Returns
    -------
    PooledStatistic
        Four metrics, in the order above. Density is 1 in expectation for equal distributions and
        may exceed 1; the others lie in [0, 1].

    Notes
    -----
    A neighbour on the rim counts as inside, as in the authors' code.
    """
    distances_NN = distance_matrix(pooled_ND)
    np.fill_diagonal(distances_NN, -1)  # each picture comes first in its own order
    order_NN = np.argsort(distances_NN, axis=1, kind="stable")
    sorted_NN = np.take_along_axis(distances_NN, order_NN, axis=1)
    num_near = min(len(pooled_ND), 16 * k + 16)

    def evaluate(groups_N: Groups) -> Floats:
        for width in (num_near, len(groups_N)):  # few neighbours are enough where the groups mix
            near = groups_N[order_NN[:, :width]]
            radius_N, known = _radii(near, sorted_NN[:, :width], groups_N, k)
            if known:
                break
        inside = sorted_NN[:, :width] <= radius_N[:, None]
        real_N, synthetic_N = groups_N == REAL, groups_N == SYNTHETIC
        in_real = inside[real_N] & (near[real_N] == SYNTHETIC)
        in_synthetic = inside[synthetic_N] & (near[synthetic_N] == REAL)
        precise = np.unique(order_NN[real_N, :width][in_real]).size / synthetic_N.sum()
        recalled = np.unique(order_NN[synthetic_N, :width][in_synthetic]).size / real_N.sum()
        density = in_real.sum() / (k * synthetic_N.sum())
        return np.array([precise, recalled, density, in_real.any(1).mean()])

    metrics = (
        Metric("precision", feature, "lower", (0, 1)),
        Metric("recall", feature, "lower", (0, 1)),
        Metric("density", feature, "different", (0, np.inf)),
        Metric("coverage", feature, "lower", (0, 1)),
    )
    return PooledStatistic(metrics, row_by_row(evaluate))


def _radii(near: Groups, sorted_: Floats, groups_N: Groups, k: int) -> tuple[Floats, bool]:
    """Return each ball's radius [N], and whether all end among the neighbours given.

    Balls of pictures in neither group do not count.
    """
    same = near == groups_N[:, None]
    last = np.cumsum(same, axis=1) == k + 1  # the first of the same group is the picture itself
    found = last.any(1) | (groups_N == 0)
    rim = last.argmax(1)
    radii: Floats = sorted_[np.arange(len(rim)), rim]
    # A tie may continue beyond the neighbours given.
    return radii, bool(
        found.all() and (near.shape[1] == len(groups_N) or (sorted_[:, -1] > radii)[groups_N != 0].all())
    )
