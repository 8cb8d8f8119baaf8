r"""Compare prototypes with their class's galaxies, and test all measures at once.

The tests cover all measures of all classes.

The null hypothesis of a class says that its S prototypes and N galaxies are exchangeable. So any S
of the S + N pictures could have been the prototypes, and the means of such choices give the exact
distribution of every measure's mean. For one prototype all choices are enumerated; for more they
are drawn at random.

The choices serve all measures of a class: the step-down maximum test of Westfall and Young (1993)
adjusts for the measures and uses their correlations. The adjusted p-values are then multiplied by
the number of tested classes (Bonferroni). Adjusting the single p-values by Holm's method instead
would find nothing with a few hundred galaxies, because no p-value of one measure is below
1 / (N + 1).

A class of so few galaxies that no p-value could reach the significance level is not testable, and
has none. The joint test of all classes has more power: in units of the galaxies' scatter, it asks
whether the prototypes deviate in the same direction in all classes. Its 95 % interval says which
deviations are excluded, also where no difference is found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.stats import binomtest

from raydistill.morphology.measures import is_valid, values_of
from raydistill.seeding import fold_in
from raydistill.statistics.intervals import Interval, mean_interval
from raydistill.statistics.permutation import SYNTHETIC, Bools, Floats, two_groups
from raydistill.statistics.testing import SIGNIFICANCE, adjusted_p_values, permuted_groups

MIN_GALAXIES = 5  # with a valid value, below which nothing is compared


@dataclass(frozen=True)
class Comparison:
    """One measure of a class's prototypes beside its galaxies.

    Attributes
    ----------
    name
        The measure.
    value
        Mean of the prototypes with a valid value; NaN without any.
    median, low, high
        Median, 16 % and 84 % quantile of the galaxies.
    percentile, percentile_low, percentile_high
        Place of the mean among the galaxies, in percent, and its 95 % interval (Wilson).
    num_prototypes, num_galaxies
        Numbers with a valid value.
    num_outside
        Prototypes outside the galaxies' 2.5 and 97.5 % quantiles. Single prototypes may lie far on
        both sides while their mean does not.
    p_value
        Two-sided, adjusted for all measures and classes; None where nothing was compared, or the
        class is not testable.
    """

    name: str
    value: float
    median: float
    low: float
    high: float
    percentile: float
    percentile_low: float
    percentile_high: float
    num_prototypes: int
    num_galaxies: int
    num_outside: int
    p_value: float | None


def compare_class(
    prototypes: pa.Table, galaxies: pa.Table, names: Sequence[str], num_classes: int, permutations: int, seed: int
) -> list[Comparison]:
    """Compare the prototypes of one class with its galaxies.

    Parameters
    ----------
    prototypes, galaxies
        Rows of `measures.measure`.
    names
        The measures.
    num_classes
        Number of classes that are tested, for the adjustment of p-values. 0: this class is not
        testable.
    permutations
        Random choices for more than one prototype.
    seed
        Decides them.

    Returns
    -------
    list of Comparison
        In the order of `names`.
    """
    selected, others = _valid_values(prototypes, names), _valid_values(galaxies, names)
    tested_M = np.isfinite(selected).any(0) & (np.isfinite(others).sum(0) >= MIN_GALAXIES)
    p_values_M = np.ones(len(names))
    if tested_M.any() and num_classes:
        adjusted = class_p_values(selected[:, tested_M], others[:, tested_M], permutations, seed)
        p_values_M[tested_M] = np.minimum(adjusted * num_classes, 1)
    return [
        _comparison(
            name, selected[:, m], others[:, m], bool(tested_M[m]), float(p_values_M[m]) if num_classes else None
        )
        for m, name in enumerate(names)
    ]


def find_testable(counts: Sequence[tuple[int, int]], permutations: int) -> list[bool]:
    """Return which classes can reach the significance level.

    The smallest p-value of a class is the number of tested classes divided by the number of choices
    of prototypes. So the classes with the fewest choices are left out until all others can.

    Parameters
    ----------
    counts
        Prototypes and galaxies of each class.
    permutations
        Random choices for more than one prototype.
    """
    choices = [float(n + 1 if s == 1 else min(permutations + 1, math.comb(s + n, s))) for s, n in counts]
    tested = [s > 0 and n > 0 for s, n in counts]
    while any(tested):
        fewest = min(choice for choice, kept in zip(choices, tested, strict=True) if kept)
        if sum(tested) <= SIGNIFICANCE * fewest:
            break
        tested = [kept and choice > fewest for choice, kept in zip(choices, tested, strict=True)]
    return tested


@dataclass(frozen=True)
class JointComparison:
    """One measure of the prototypes of all classes beside their galaxies.

    Attributes
    ----------
    name
        The measure.
    deviation
        Mean over the classes of the prototypes' deviation from their class, in standard deviations
        of its pictures, with its 95 % interval over the classes (Student's t).
    num_classes
        Number of classes with valid values.
    p_value
        Two-sided, of no deviation, adjusted for all measures. NaN where nothing was compared.
    """

    name: str
    deviation: Interval
    num_classes: int
    p_value: float


def compare_jointly(
    classes: Sequence[tuple[pa.Table, pa.Table]], names: Sequence[str], permutations: int, seed: int
) -> list[JointComparison]:
    """Compare the prototypes of all classes with their galaxies at once.

    Parameters
    ----------
    classes
        Prototypes and galaxies of each class, rows of `measures.measure`.
    names
        The measures.
    permutations
        Random choices of pictures of each class in place of its prototypes.
    seed
        Decides them.
    """
    observed, null = [], []
    for number, (prototypes, galaxies) in enumerate(classes):
        selected, others = _valid_values(prototypes, names), _valid_values(galaxies, names)
        known_M = np.isfinite(selected).any(0) & (np.isfinite(others).sum(0) >= MIN_GALAXIES)
        pooled = np.concatenate([others, selected])[:, known_M]
        pooled = np.where(np.isfinite(pooled), pooled, np.nanmean(pooled, axis=0))
        spread_M = pooled.std(axis=0)
        scaled = (pooled - pooled.mean(axis=0)) / np.where(spread_M > 0, spread_M, 1)
        groups_BN = permuted_groups(
            two_groups(len(others), len(selected)), permutations, fold_in(seed, "class", number)
        )
        values = np.full((permutations + 1, len(names)), np.nan)
        values[0, known_M] = scaled[len(others) :].mean(0)
        values[1:, known_M] = (groups_BN == SYNTHETIC).astype(float) @ scaled / len(selected)
        observed.append(values[0])
        null.append(values[1:])
    observed_KM, null_KBM = np.stack(observed), np.stack(null)
    known_KM = np.isfinite(observed_KM)
    usable_M = known_KM.any(0)
    p_values_M = np.full(len(names), np.nan)
    p_values_M[usable_M] = adjusted_p_values(
        np.nanmean(observed_KM[:, usable_M], axis=0), np.nanmean(null_KBM[:, :, usable_M], axis=0),
        ["different"] * int(usable_M.sum()),
    )  # fmt: skip
    return [
        JointComparison(
            name, mean_interval(observed_KM[known_KM[:, m], m]) if usable_M[m] else Interval(*(math.nan,) * 3),
            int(known_KM[:, m].sum()), float(p_values_M[m]),
        )
        for m, name in enumerate(names)
    ]  # fmt: skip


def class_p_values(prototypes_SM: Floats, galaxies_NM: Floats, permutations: int, seed: int) -> Floats:
    """Return two-sided p-values of the mean prototype, float64 [M].

    They are adjusted for the M measures. A value that is NaN counts as the mean of the others,
    which says nothing about its picture.
    """
    pooled = np.concatenate([galaxies_NM, prototypes_SM])
    pooled = np.where(np.isfinite(pooled), pooled, np.nanmean(pooled, axis=0))
    count = len(prototypes_SM)
    if count == 1:
        null_BM = pooled[:-1]
    else:
        groups_BN = permuted_groups(two_groups(len(galaxies_NM), count), permutations, seed)
        null_BM = (groups_BN == SYNTHETIC).astype(float) @ pooled / count
    return adjusted_p_values(pooled[-count:].mean(0), null_BM, ["different"] * pooled.shape[1])


def _valid_values(table: pa.Table, names: Sequence[str]) -> Floats:
    """Return the measures of all rows, float64 [N, M]; NaN where they are not valid."""
    return np.stack([np.where(is_valid(table, name), values_of(table, name), np.nan) for name in names], axis=1)


def _comparison(name: str, selected: Floats, others: Floats, compared: bool, p_value: float | None) -> Comparison:
    selected, others = selected[np.isfinite(selected)], others[np.isfinite(others)]
    value = float(selected.mean()) if len(selected) else math.nan
    low, median, high = np.quantile(others, (0.16, 0.5, 0.84)).tolist() if len(others) else (math.nan,) * 3
    place = (math.nan,) * 3
    if compared:
        share = float((others < value).mean() + (others == value).mean() / 2)
        wilson = binomtest(round(share * len(others)), len(others)).proportion_ci(method="wilson")
        place = (100 * share, 100 * min(wilson.low, share), 100 * max(wilson.high, share))
    ends = np.quantile(others, (0.025, 0.975)) if len(others) else (-math.inf, math.inf)
    outside = int(((selected < ends[0]) | (selected > ends[1])).sum())
    return Comparison(
        name, value, median, low, high, *place, len(selected), len(others), outside, p_value if compared else None
    )


def band(profiles_NR: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the 16 %, 50 % and 84 % quantile and number of values per ring, each [R].

    The values are those of the profiles. A ring in which fewer than `MIN_GALAXIES` galaxies have a
    value is NaN.
    """
    known_NR: Bools = np.isfinite(profiles_NR)
    count_R = known_NR.sum(0)
    quantiles = np.full((3, profiles_NR.shape[1]), np.nan)
    for ring in np.flatnonzero(count_R >= MIN_GALAXIES):
        quantiles[:, ring] = np.quantile(profiles_NR[known_NR[:, ring], ring], (0.16, 0.5, 0.84))
    return quantiles[0], quantiles[1], quantiles[2], count_R.astype(float)
