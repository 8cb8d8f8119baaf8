"""Compare two sets of pictures by features: all metrics with intervals and floors.

Three samples of n pictures each take part: the synthetic pictures, the reference (real pictures
with which they are compared), and others of the real set. Reference against others is the *floor*:
the value that a perfect generator would reach at this n.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from raydistill.errors import RaydistillError
from raydistill.stages.audit.config import MIN_PICTURES, NUM_PERMUTATIONS
from raydistill.stages.audit.metrics.classes import class_distances, class_shares, total_variation
from raydistill.stages.audit.metrics.distances import (
    diversity,
    frechet,
    kernel_distance,
    neighbour_metrics,
    sliced_wasserstein,
    wasserstein,
)
from raydistill.stages.audit.metrics.realism import classifier_auc
from raydistill.statistics.permutation import (
    Floats,
    Frame,
    PooledStatistic,
    concatenate,
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

NUM_FLOORS = 40


@dataclass(frozen=True)
class FeatureArray:
    """Features of N pictures in one space.

    Attributes
    ----------
    values_ND
        float64 [N, D], finite.
    quantities
        Names of the D columns where each has a meaning of its own; empty otherwise. Each named
        quantity gets its own Wasserstein distance.
    """

    values_ND: Floats
    quantities: tuple[str, ...] = ()

    def take(self, rows: npt.NDArray[np.int64]) -> FeatureArray:
        """Return the features of some pictures."""
        return FeatureArray(self.values_ND[rows], self.quantities)


@dataclass(frozen=True)
class Features:
    """All that an audit knows of N pictures.

    Attributes
    ----------
    spaces
        Features by the name of their space, such as "scattering" and "morphology".
    labels_N
        int64 [N], classes; None where they are unknown or those of the two sets differ.
    class_names
        Names of the classes, of which `labels_N` are indices.
    """

    spaces: Mapping[str, FeatureArray]
    labels_N: npt.NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.spaces.values())).values_ND)

    def take(self, rows: npt.NDArray[np.int64]) -> Features:
        """Return the features of some pictures."""
        spaces = {name: array.take(rows) for name, array in self.spaces.items()}
        return Features(spaces, None if self.labels_N is None else self.labels_N[rows], self.class_names)

    def joined(self, other: Features) -> Features:
        """Return the features of these pictures, followed by those of others."""
        spaces = {
            name: FeatureArray(np.concatenate([array.values_ND, other.spaces[name].values_ND]), array.quantities)
            for name, array in self.spaces.items()
        }
        if self.labels_N is None or other.labels_N is None:
            return Features(spaces)
        return Features(spaces, np.concatenate([self.labels_N, other.labels_N]), self.class_names)


def compare(
    reference: Features, synthetic: Features, others: Features, seed: int = 0, permutations: int = NUM_PERMUTATIONS
) -> list[Finding]:
    """Return the findings of all metrics on three samples of equal size.

    Parameters
    ----------
    reference, synthetic, others
        Features of n pictures each: real ones, synthetic ones, and other real ones.
    seed
        Decides permutations, parts, folds and projections.
    permutations
        Number of permutations; the smallest p-value is its inverse.

    Returns
    -------
    list of Finding
        In a fixed order. The chance that any is significant for equal distributions is
        `testing.AUDIT_LEVEL`.

    Raises
    ------
    RaydistillError
        The samples differ in size, or have fewer than `MIN_PICTURES` pictures.
    """
    n = len(reference)
    if not n == len(synthetic) == len(others) or n < MIN_PICTURES:
        what = f"the samples have {n}, {len(synthetic)} and {len(others)} pictures"
        raise RaydistillError(what, "audit", f"give three samples of one size, at least {MIN_PICTURES}")
    groups_N = two_groups(n, n)
    if synthetic.labels_N is None or others.labels_N is None:  # the floor must have the same metrics
        reference = replace(reference, labels_N=None)
    statistic = prepare(reference.joined(synthetic), others, seed)
    values_M = statistic.evaluate(groups_N[None])[0]
    strata_N = matched_classes(reference.labels_N, synthetic.labels_N)
    null_BM = statistic.evaluate(permuted_groups(groups_N, permutations, seed, strata_N))
    ends = interval(values_M, jackknife_error(statistic, groups_N, seed), statistic.metrics)
    real_strata_N = None if strata_N is None else matched_classes(reference.labels_N, others.labels_N)
    floor_groups = permuted_groups(groups_N, NUM_FLOORS, seed, real_strata_N)
    floors = prepare(reference.joined(others), others, seed).evaluate(floor_groups)
    p_values_M = adjusted_p_values(values_M, null_BM, [metric.worse for metric in statistic.metrics])
    return make_findings(statistic.metrics, values_M, ends, floors, p_values_M)


def matched_classes(
    first_N: npt.NDArray[np.int64] | None, second_N: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64] | None:
    """Return the classes of both samples; None unless each class is equally frequent.

    Permutations within classes then keep what the samples were matched by.
    """
    if first_N is None or second_N is None or not np.array_equal(np.sort(first_N), np.sort(second_N)):
        return None
    return np.concatenate([first_N, second_N])


def prepare(pooled: Features, others: Features, seed: int) -> PooledStatistic:
    """Return all metrics of pooled pictures, in the frame of other real pictures."""
    parts, framed = [], []
    for space, array in pooled.spaces.items():
        frame = Frame.fit(others.spaces[space].values_ND)
        values_ND = frame.apply(array.values_ND)
        framed.append((values_ND, frame.apply(others.spaces[space].values_ND)))
        parts += [
            frechet(values_ND, space),
            kernel_distance(values_ND, space),
            sliced_wasserstein(values_ND, space, seed),
            neighbour_metrics(values_ND, space),
            diversity(values_ND, space),
            classifier_auc(values_ND, space, seed),
        ]
        if array.quantities:
            parts.append(wasserstein(array.values_ND, array.quantities))
        if pooled.labels_N is not None and len(others.class_names) > 1:
            parts.append(class_distances(values_ND, space, pooled.labels_N, others.class_names))
    if others.labels_N is not None and len(others.class_names) > 1:
        pooled_ND, others_MD = (np.concatenate(arrays, axis=1) for arrays in zip(*framed, strict=True))
        parts.append(class_shares(pooled_ND, others_MD, others.labels_N, others.class_names))
    if pooled.labels_N is not None:
        parts.append(total_variation(pooled.labels_N))
    return concatenate(parts)
