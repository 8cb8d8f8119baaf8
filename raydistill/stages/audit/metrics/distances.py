"""Measure how far two samples of features are apart: distances, coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raydistill.seeding import fold_in
from raydistill.statistics.permutation import REAL, SYNTHETIC, Floats, Groups, Metric, PooledStatistic, row_by_row

# Each function takes the pooled features float64 [N, D] and returns a `PooledStatistic`.
#
# - `frechet`: Eq. 6 of Heusel et al. 2017, arXiv:1706.08500.
# - `kernel_distance`: unbiased estimate of the squared maximum mean discrepancy, with the cubic
#   kernel of Bińkowski et al. 2018, arXiv:1801.01401.
# - `sliced_wasserstein`: mean Wasserstein-1 distance of random projections, Bonneel et al. 2015.
# - `wasserstein`: Wasserstein-1 distance of each feature.
# - `diversity`: mean distance between synthetic pictures, over that between real ones.

NUM_PROJECTIONS = 64  # of sliced Wasserstein: its Monte Carlo error is then 1/8 of the spread over directions


def frechet(pooled_ND: Floats, feature: str) -> PooledStatistic:
    r"""Return the Fréchet distance of Gaussians of the samples' means and covariances.

    Parameters
    ----------
    pooled_ND
        float64 [N, D].
    feature
        Name of the feature space.

    Returns
    -------
    PooledStatistic
        One metric, "frechet". It is biased upwards by about :math:`D^2/n`: compare it at equal n.

    Notes
    -----
    .. math:: |\mu_r - \mu_s|^2 + \mathrm{tr}(C_r) + \mathrm{tr}(C_s) - 2\,\mathrm{tr}\sqrt{C_r C_s}
    """

    def evaluate(groups_N: Groups) -> Floats:
        real, synthetic = pooled_ND[groups_N == REAL], pooled_ND[groups_N == SYNTHETIC]
        covariance_r, covariance_s = _covariance(real), _covariance(synthetic)
        values, vectors = np.linalg.eigh(covariance_r)
        root_r = (vectors * np.sqrt(values.clip(0))) @ vectors.T
        cross = np.sqrt(np.linalg.eigvalsh(root_r @ covariance_s @ root_r).clip(0)).sum()
        means = real.mean(0) - synthetic.mean(0)
        value = means @ means + np.trace(covariance_r) + np.trace(covariance_s) - 2 * cross
        return np.array([max(value, 0.0)])  # rounding of equal samples

    return PooledStatistic((Metric("frechet", feature, bounds=(0, np.inf)),), row_by_row(evaluate))


def _covariance(sample_ND: Floats) -> Floats:
    centred = sample_ND - sample_ND.mean(0)
    return centred.T @ centred / max(len(sample_ND) - 1, 1)


def kernel_distance(pooled_ND: Floats, feature: str) -> PooledStatistic:
    r"""Return the kernel distance, an unbiased estimate that may be negative.

    Parameters
    ----------
    pooled_ND
        float64 [N, D].
    feature
        Name of the feature space.

    Returns
    -------
    PooledStatistic
        One metric, "kernel".

    Notes
    -----
    The kernel is :math:`k(x, y) = (x \cdot y / D + 1)^3` (arXiv:1801.01401, Section 4).
    """
    kernel_NN = (pooled_ND @ pooled_ND.T / pooled_ND.shape[1] + 1) ** 3
    diagonal_N = np.diag(kernel_NN).copy()

    def evaluate(groups_BN: Groups) -> Floats:
        within, between, counts = _sums(kernel_NN, groups_BN)
        self_similarity = [within[g] - (groups_BN == group) @ diagonal_N for g, group in enumerate((REAL, SYNTHETIC))]
        real, synthetic = (self_similarity[g] / (counts[g] * (counts[g] - 1)) for g in (0, 1))
        return (real + synthetic - 2 * between / (counts[0] * counts[1]))[:, None]

    return PooledStatistic((Metric("kernel", feature),), evaluate)


def diversity(pooled_ND: Floats, feature: str) -> PooledStatistic:
    """Return the mean distance between synthetic pictures over that between real ones.

    Parameters
    ----------
    pooled_ND
        float64 [N, D].
    feature
        Name of the feature space.

    Returns
    -------
    PooledStatistic
        One metric, "diversity": 1 where both are equally diverse, 0 where all synthetic pictures
        are the same, NaN where all real ones are.
    """
    distances_NN = distance_matrix(pooled_ND)

    def evaluate(groups_BN: Groups) -> Floats:
        within, _, counts = _sums(distances_NN, groups_BN)
        real, synthetic = (within[g] / (counts[g] * (counts[g] - 1)) for g in (0, 1))
        return np.divide(synthetic, real, out=np.full(len(real), np.nan), where=real > 0)[:, None]

    return PooledStatistic((Metric("diversity", feature, "different", (0, np.inf)),), evaluate)


def _sums(pairs_NN: Floats, groups_BN: Groups) -> tuple[tuple[Floats, Floats], Floats, tuple[Floats, Floats]]:
    """Return sums of pairs within (real, synthetic) and between, and sizes, each [B]."""
    real_BN, synthetic_BN = (groups_BN == REAL).astype(float), (groups_BN == SYNTHETIC).astype(float)
    to_real_BN = real_BN @ pairs_NN
    within = (to_real_BN * real_BN).sum(1), ((synthetic_BN @ pairs_NN) * synthetic_BN).sum(1)
    return within, (to_real_BN * synthetic_BN).sum(1), (real_BN.sum(1), synthetic_BN.sum(1))


def distance_matrix(pooled_ND: Floats) -> Floats:
    """Return the Euclidean distances float64 [N, N]; the diagonal is exactly 0."""
    squares_N = (pooled_ND**2).sum(1)
    squared_NN = squares_N[:, None] + squares_N - 2 * pooled_ND @ pooled_ND.T
    np.fill_diagonal(squared_NN, 0)
    return np.sqrt(squared_NN.clip(0))


def sliced_wasserstein(pooled_ND: Floats, feature: str, seed: int = 0) -> PooledStatistic:
    """Return the mean Wasserstein-1 distance of the samples' random projections.

    Parameters
    ----------
    pooled_ND
        float64 [N, D].
    feature
        Name of the feature space.
    seed
        Decides the `NUM_PROJECTIONS` directions.

    Returns
    -------
    PooledStatistic
        One metric, "sliced_wasserstein", in units of the features.
    """
    rng = np.random.default_rng(fold_in(seed, "projections"))
    directions_DP = rng.normal(size=(pooled_ND.shape[1], NUM_PROJECTIONS))
    directions_DP /= np.linalg.norm(directions_DP, axis=0)
    projections = _ColumnDistances(pooled_ND @ directions_DP)

    def evaluate(groups_N: Groups) -> Floats:
        return projections(groups_N).mean(keepdims=True)

    return PooledStatistic((Metric("sliced_wasserstein", feature, bounds=(0, np.inf)),), row_by_row(evaluate))


def wasserstein(pooled_ND: Floats, features: Sequence[str]) -> PooledStatistic:
    """Return the Wasserstein-1 distance of each feature.

    Parameters
    ----------
    pooled_ND
        float64 [N, D].
    features
        Names of the D features.

    Returns
    -------
    PooledStatistic
        D metrics, "wasserstein", in the unit of each feature.
    """
    metrics = tuple(Metric("wasserstein", feature, bounds=(0, np.inf)) for feature in features)
    return PooledStatistic(metrics, row_by_row(_ColumnDistances(pooled_ND)))


class _ColumnDistances:
    """Map groups [N] to the Wasserstein-1 distance of each column.

    This is the area between the distributions.
    """

    def __init__(self, pooled_ND: Floats) -> None:
        self.order_DN = np.argsort(pooled_ND, axis=0, kind="stable").T
        self.gaps_DN = np.diff(np.take_along_axis(pooled_ND, self.order_DN.T, axis=0), axis=0).T

    def __call__(self, groups_N: Groups) -> Floats:
        real_N, synthetic_N = groups_N == REAL, groups_N == SYNTHETIC
        steps_N = synthetic_N / synthetic_N.sum() - real_N / real_N.sum()
        areas_DN = np.abs(np.cumsum(steps_N[self.order_DN], axis=1)[:, :-1]) * self.gaps_DN
        return areas_DN.sum(1)


# Measure fidelity and coverage by nearest neighbours.
#
# Precision and recall: Kynkäänniemi et al. 2019, arXiv:1904.06991. Density and coverage: Naeem et al.
# 2020, arXiv:2002.09797. A *ball* is centred on a picture and reaches to its k-th nearest neighbour
# of the same group.
#
# - Precision: share of synthetic pictures inside the ball of some real picture.
# - Recall: share of real pictures inside the ball of some synthetic picture.
# - Density: mean number of real balls around a synthetic picture, over k.
# - Coverage: share of real balls that hold a synthetic picture.

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
    is_known = last.any(1) | (groups_N == 0)
    rim = last.argmax(1)
    radii: Floats = sorted_[np.arange(len(rim)), rim]
    # A tie may continue beyond the neighbours given.
    return radii, bool(
        is_known.all() and (near.shape[1] == len(groups_N) or (sorted_[:, -1] > radii)[groups_N != 0].all())
    )
