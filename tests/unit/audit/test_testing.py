"""The rate of false alarms, the power and the intervals of the audit's tests, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.audit.classes import linear_classifier
from raydistill.audit.comparison import FeatureArray, Features, compare
from raydistill.audit.distances import wasserstein
from raydistill.audit.memorisation import memorisation, nearest_pairs, picture_distances, shrink
from raydistill.audit.realism import area_under_roc, classifier_auc
from raydistill.audit.statistics import two_groups
from raydistill.audit.testing import adjusted_p_values, jackknife_error
from raydistill.errors import RaydistillError

TRIALS = 200
# With 200 trials at a rate of 5 %, 18 or more alarms happen once in 80.
MOST_ALARMS = 18


def features(values: np.ndarray) -> Features:
    return Features({"space": FeatureArray(values, tuple("abc"))})


@pytest.mark.slow
def test_false_alarms_over_all_metrics_are_one_in_twenty() -> None:
    alarms = 0
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        three = [features(np.exp(rng.normal(size=(30, 3)))) for _ in range(3)]
        alarms += any(finding.significant for finding in compare(*three, seed=seed, permutations=99))
    assert 2 <= alarms < MOST_ALARMS


def test_adjusted_p_values_control_the_error_of_dependent_skewed_metrics() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(12, 12)) + 2
    rejected = 0
    for _ in range(1000):
        values = np.exp(rng.normal(size=(100, 12)) @ mix / 8)
        rejected += adjusted_p_values(values[0], values[1:], ["higher", "lower", "different"] * 4).min() <= 0.05
    assert 30 < rejected < 70  # 50 expected: 3 standard deviations


def test_adjusted_p_values_find_the_true_effects_in_their_direction() -> None:
    null = np.random.default_rng(0).normal(size=(199, 4))
    p = adjusted_p_values(np.array([8.0, -8.0, -8.0, np.nan]), null, ["higher", "higher", "lower", "higher"])
    np.testing.assert_allclose(p, [1 / 200, 1, 1 / 200, 1])


def test_jackknife_gives_the_spread_over_samples() -> None:
    """The Wasserstein distance of shifted samples has the spread of a difference of means."""
    errors, values, groups = [], [], two_groups(80, 80)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        statistic = wasserstein(np.concatenate([rng.normal(size=(80, 1)), rng.normal(3, 1, size=(80, 1))]), ["a"])
        errors.append(jackknife_error(statistic, groups, seed)[0])
        values.append(statistic.evaluate(groups[None])[0, 0])
    assert np.mean(errors) == pytest.approx(np.sqrt(2 / 80), rel=0.1)
    inside = np.abs(np.array(values) - 3) < 1.96 * np.array(errors)
    assert inside.mean() > 0.88


def clustered(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return points near 10 centres, of which many share a neighbour."""
    centres = np.random.default_rng(1).normal(0, 5, size=(10, 4))
    return centres[rng.integers(10, size=count)] + rng.normal(size=(count, 4)) * rng.exponential(size=(count, 1))


def to_reference(synthetic: np.ndarray, real: np.ndarray) -> np.ndarray:
    return np.sqrt(((synthetic[:, None] - real[None]) ** 2).sum(-1))


@pytest.mark.slow
def test_memorisation_raises_one_false_alarm_in_twenty_although_neighbours_are_shared() -> None:
    alarms = 0
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        distances = to_reference(clustered(rng, 150), clustered(rng, 60))  # 150 pictures, 30 + 30 real ones
        alarms += any(one.significant for one in memorisation({"x": distances}, seed, permutations=99))
    assert 2 <= alarms < MOST_ALARMS


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_memorisation_finds_one_copy_in_ten(noise: float) -> None:
    rng = np.random.default_rng(0)
    training, held_out, synthetic = (clustered(rng, 150) for _ in range(3))
    synthetic[:15] = training[:15] + noise * rng.normal(size=(15, 4))
    distances = to_reference(synthetic, np.concatenate([training, held_out]))
    log_ratio = memorisation({"x": distances}, permutations=199)[1]
    assert log_ratio.metric == "memorisation"
    assert log_ratio.significant
    assert log_ratio.floor_high < log_ratio.value
    pairs = nearest_pairs(distances)
    assert np.isin(pairs.closest(10), np.arange(15)).sum() >= 8
    assert (pairs.training_S[:15] == np.arange(15)).sum() >= 13


def test_memorisation_refuses_reference_sets_of_different_size() -> None:
    with pytest.raises(RaydistillError, match="audit, x: the reference sets differ in size"):
        memorisation({"x": np.zeros((5, 7))})


def test_picture_distances_see_through_flips_and_turns() -> None:
    pictures = np.random.default_rng(0).uniform(size=(6, 32, 32, 3))
    turned = np.rot90(pictures, 3, axes=(1, 2))[:, :, ::-1]
    distances = picture_distances(turned, pictures)
    np.testing.assert_allclose(np.diag(distances), 0, atol=1e-7)
    assert (distances[~np.eye(6, dtype=bool)] > 0.05).all()
    plain = np.sqrt(((shrink(pictures)[0] - shrink(pictures)[1]) ** 2).mean())
    assert picture_distances(pictures[:1], pictures[1:2])[0, 0] <= plain + 1e-12


def test_area_under_roc_counts_ties_as_half() -> None:
    scores = np.array([[1.0, 2, 3, 4], [4, 3, 2, 1], [5, 5, 5, 5]])
    positive = np.array([[False, False, True, True]] * 3)
    np.testing.assert_allclose(area_under_roc(scores, positive), [1, 0, 0.5])


def test_classifier_auc_is_one_half_without_a_difference_and_follows_the_shift() -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    auc = [classifier_auc(rng.normal(size=(100, 5)), "x").of_samples(50, 50)[0] for _ in range(100)]
    assert np.mean(auc) == pytest.approx(0.5, abs=0.02)
    shifted = np.concatenate([rng.normal(size=(2000, 1)), rng.normal(1, 1, size=(2000, 1))])
    assert classifier_auc(shifted, "x").of_samples(2000, 2000) == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.02)


def test_linear_classifier_equals_scikit_learn_on_separate_classes() -> None:
    discriminant = pytest.importorskip("sklearn.discriminant_analysis")
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 2, 3], 300)
    sample = rng.normal(size=(4, 5))[labels] * 2 + rng.normal(size=(300, 5))
    theirs = discriminant.LinearDiscriminantAnalysis().fit(sample, labels).predict(sample)
    ours = linear_classifier(sample, labels, 4, sample)
    assert (ours == theirs).mean() > 0.98
    assert 1 not in ours


def test_compare_refuses_few_pictures_and_unequal_samples() -> None:
    few, more = features(np.zeros((10, 3))), features(np.zeros((30, 3)))
    with pytest.raises(
        RaydistillError, match="the samples have 10, 10 and 10 pictures; give three samples of one size"
    ):
        compare(few, few, few)
    with pytest.raises(RaydistillError, match="the samples have 30, 10 and 30 pictures"):
        compare(more, few, more)
