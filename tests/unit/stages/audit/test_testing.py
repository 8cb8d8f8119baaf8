"""False alarm rate, power and intervals of the audit's tests, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.errors import RaydistillError
from raydistill.stages.audit.config import MIN_PICTURES
from raydistill.stages.audit.metrics.classes import linear_classifier, wrong_labels
from raydistill.stages.audit.metrics.comparison import FeatureArray, Features, compare
from raydistill.stages.audit.metrics.distances import wasserstein
from raydistill.stages.audit.metrics.realism import area_under_roc, classifier_auc
from raydistill.statistics.copies import twins
from raydistill.statistics.memorisation import (
    Neighbours,
    RealNeighbours,
    memorisation,
    picture_distances,
    shrink,
    two_generators,
)
from raydistill.statistics.permutation import two_groups
from raydistill.statistics.testing import Finding, adjusted_p_values, jackknife_error, tail_scores
from tests.unit.stages.audit.planted import of_samples

TRIALS = 200
# With 200 trials at a rate of 5 %, 18 or more alarms happen once in 80.
MOST_ALARMS = 18


def alarm(findings: list[Finding]) -> bool:
    """Return whether any finding is significant at 5 %.

    The level of an audit would take more trials.
    """
    return any(finding.p_value <= 0.05 and finding.beyond_floor for finding in findings)


def features(values: np.ndarray) -> Features:
    return Features({"space": FeatureArray(values, tuple("abc"))})


@pytest.mark.slow
@pytest.mark.long
def test_false_alarms_over_all_metrics_are_one_in_twenty() -> None:
    alarms = 0
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        three = [features(np.exp(rng.normal(size=(30, 3)))) for _ in range(3)]
        alarms += alarm(compare(*three, seed=seed, permutations=99))
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


def test_a_skewed_metric_hides_no_effect_of_another() -> None:
    """In standard deviations a skewed metric often lies beyond the effect."""
    rng = np.random.default_rng(0)
    null = np.concatenate([rng.normal(size=(999, 1)), rng.exponential(size=(999, 40)) ** 2], axis=1)
    assert (((null - null.mean(0)) / null.std(0)).max(1) > 6).mean() > 0.05
    p = adjusted_p_values(np.array([6.0, *np.ones(40)]), null, ["higher"] * 41)
    assert p[0] <= 0.02
    assert p[1:].min() > 0.5


def test_tail_scores_of_an_exponential_tail_are_its_logarithmic_chances() -> None:
    values = -np.log(np.arange(1, 10001) / 10001)[:, None]  # quantiles of an exponential distribution
    scores = tail_scores(np.concatenate([values, -3 * values], axis=1), ["higher", "lower"])
    np.testing.assert_allclose(0.1 * np.exp(-scores[10:1000, 0]), np.arange(11, 1001) / 10001, rtol=0.05)
    np.testing.assert_allclose(scores[:, 0], scores[:, 1])


def test_jackknife_gives_the_spread_over_samples() -> None:
    """Expect the spread of a difference of means.

    The Wasserstein distance of shifted samples has this spread.
    """
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
@pytest.mark.parametrize("num_training", [30, 45])  # of 60 real ones
def test_memorisation_raises_one_false_alarm_in_twenty(num_training: int) -> None:
    alarms = 0
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        distances = to_reference(clustered(rng, 150), clustered(rng, 60))
        neighbours = {"x": RealNeighbours.of(distances, num_training)}
        alarms += alarm(memorisation(neighbours, seed, permutations=99))
    assert 2 <= alarms < MOST_ALARMS


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1.0, 0.5])  # of the second generator: a worse one is no memorisation
def test_two_generators_raise_one_false_alarm_in_twenty(spread: float) -> None:
    alarms = 0
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        synthetic = np.concatenate([clustered(rng, 60), spread * clustered(rng, 60)])
        halves = RealNeighbours.of(to_reference(synthetic, clustered(rng, 70)), 40)
        alarms += alarm(two_generators(halves, 60, seed, permutations=99))
    assert 2 <= alarms < MOST_ALARMS


def test_two_generators_are_exchangeable() -> None:
    rng = np.random.default_rng(0)
    first, second, halves = clustered(rng, 30), clustered(rng, 30), clustered(rng, 80)
    one = RealNeighbours.of(to_reference(np.concatenate([first, second]), halves), 40)
    other = RealNeighbours.of(to_reference(np.concatenate([second, first]), np.roll(halves, 40, axis=0)), 40)
    values = [[f.value for f in two_generators(pair, 30, permutations=19)] for pair in (one, other)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-9)


@pytest.mark.slow
def test_wrong_labels_raise_one_false_alarm_in_twenty_and_are_found() -> None:
    """The sets differ in number and class proportions, and the classes overlap."""
    centres, alarms, found = np.random.default_rng(1).normal(size=(3, 4)), 0, 0

    def labelled(rng: np.random.Generator, *counts: int, wrong: int = 0) -> Features:
        labels = np.repeat(np.arange(3), counts)
        values = centres[labels] + rng.normal(size=(len(labels), 4))
        labels[:wrong] = (labels[:wrong] + 1) % 3
        return Features({"space": FeatureArray(values)}, labels, ("a", "b", "c"))

    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        training, real = labelled(rng, 60, 30, 20), labelled(rng, 90, 40, 20)
        alarms += alarm(wrong_labels(real, labelled(rng, 20, 20, 20), training, seed, 99))
        found += alarm(wrong_labels(real, labelled(rng, 100, 100, 100, wrong=60), training, seed, 99)[:1])
    assert 2 <= alarms < MOST_ALARMS
    assert found > 0.9 * TRIALS


def test_a_small_class_is_not_testable_and_unlabelled_sets_have_no_labels_to_test() -> None:
    rng = np.random.default_rng(0)

    def labelled(*counts: int) -> Features:
        labels = np.repeat(np.arange(3), counts)
        return Features({"space": FeatureArray(rng.normal(size=(len(labels), 4)))}, labels, ("a", "b", "c"))

    training, real = labelled(30, 20, 0), labelled(30, 30, 1)
    for synthetic in (labelled(30, 30, 1), labelled(30, 0, 20), labelled(1, 1, 1)):
        findings = wrong_labels(real, synthetic, training, permutations=99)
        assert [f.feature for f in findings] == ["all classes", "a", "b", "c"]
        assert synthetic.labels_N is not None
        counts = np.bincount(synthetic.labels_N, minlength=3)
        testable = [count >= 10 and name != "c" for name, count in zip("abc", counts, strict=True)]
        assert [f.testable for f in findings] == [any(testable), *testable]
        assert all(f.p_value == 1 and not f.significant for f in findings if not f.testable)
    assert wrong_labels(real, Features(real.spaces), training) == []
    one = Features(real.spaces, np.zeros(len(real), int), ("a",))
    assert wrong_labels(one, one, one) == []


def test_a_class_is_compared_on_its_own_and_a_small_one_is_not_testable() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (60, 60, 5))
    three = [rng.normal(size=(125, 3)) for _ in range(3)]
    three[1][labels == 1] *= 0.3  # of the synthetic pictures
    reference, synthetic, others = (Features({"x": FeatureArray(v)}, labels, ("a", "b", "c")) for v in three)
    of_class = {f.feature: f for f in compare(reference, synthetic, others) if f.metric == "class_kernel"}
    assert [of_class[f"{name}, x"].significant for name in "abc"] == [False, True, False]
    assert [of_class[f"{name}, x"].testable for name in "abc"] == [True, True, False]


def test_floors_of_matched_classes_are_those_of_matched_real_pictures() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    three = [rng.normal(size=(120, 3)) + 6 * labels[:, None] for _ in range(3)]
    three[1][:, 0] += 0.7  # of the synthetic pictures
    matched = [Features({"x": FeatureArray(v, tuple("abc"))}, labels, ("a", "b", "c")) for v in three]
    findings = {f"{f.metric} {f.feature}": f for f in compare(*matched)}
    assert findings["kernel x"].significant, "between well separated classes a shift within them is small"
    assert findings["kernel x"].floor_high < 0.02


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize(("num_training", "copies"), [(150, 15), (600, 75)])  # more training pictures need more copies
def test_memorisation_finds_copies(noise: float, num_training: int, copies: int) -> None:
    rng = np.random.default_rng(0)
    training, held_out, synthetic = (clustered(rng, count) for count in (num_training, 150, 150))
    synthetic[:copies] = training[-copies:] + noise * rng.normal(size=(copies, 4))
    neighbours = RealNeighbours.of(to_reference(synthetic, np.concatenate([training, held_out])), num_training)
    log_ratio = memorisation({"x": neighbours}, permutations=199)[1]
    assert log_ratio.metric == "memorisation"
    assert log_ratio.significant
    assert log_ratio.floor_high < log_ratio.value
    assert np.isin(neighbours.closest(10), np.arange(copies)).sum() >= 8
    assert (neighbours.training.rows_SK[:copies, 0] == np.arange(num_training)[-copies:]).mean() > 0.8


def test_twins_are_found_in_the_smallest_audit() -> None:
    """All other pictures are then among the nearest ones that are searched."""
    points = np.random.default_rng(0).normal(size=(2 * MIN_PICTURES, 8))
    points[-6:] = points[-12:-6] + 1e-3
    (finding,) = twins(to_reference(points, points), seed=0, permutations=199)
    assert finding.testable
    assert finding.significant


def test_merged_neighbours_of_blocks_are_those_of_all_pictures() -> None:
    distances = np.random.default_rng(0).integers(0, 20, size=(7, 50)).astype(float)  # with ties
    whole = Neighbours.of(distances, 6)
    merged = Neighbours.of(distances[:, :20], 6).merged(Neighbours.of(distances[:, 20:], 6, 20), 6)
    np.testing.assert_array_equal(merged.rows_SK, whole.rows_SK)
    np.testing.assert_array_equal(merged.distances_SK, whole.distances_SK)
    of_two_sets, is_training = RealNeighbours.of(distances, 20).pooled()
    np.testing.assert_array_equal(of_two_sets.rows_SK, Neighbours.of(distances, 50).rows_SK)
    assert is_training.sum() == 20


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


def test_classifier_auc_follows_the_shift() -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    auc = [of_samples(classifier_auc(rng.normal(size=(100, 5)), "x"), 50, 50)[0] for _ in range(100)]
    assert np.mean(auc) == pytest.approx(0.5, abs=0.02)
    shifted = np.concatenate([rng.normal(size=(2000, 1)), rng.normal(1, 1, size=(2000, 1))])
    assert of_samples(classifier_auc(shifted, "x"), 2000, 2000) == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.02)


def test_linear_classifier_equals_scikit_learn_on_separate_classes() -> None:
    discriminant = pytest.importorskip("sklearn.discriminant_analysis")
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 2, 3], 300)
    sample = rng.normal(size=(4, 5))[labels] * 2 + rng.normal(size=(300, 5))
    theirs = discriminant.LinearDiscriminantAnalysis().fit(sample, labels).predict(sample)
    ours = linear_classifier(sample, labels, 4, sample)
    assert (ours == theirs).mean() > 0.98
    assert 1 not in ours


def test_compare_rejects_few_pictures_and_unequal_samples() -> None:
    few, more = features(np.zeros((10, 3))), features(np.zeros((30, 3)))
    with pytest.raises(
        RaydistillError, match="the samples have 10, 10 and 10 pictures; give three samples of one size"
    ):
        compare(few, few, few)
    with pytest.raises(RaydistillError, match="the samples have 30, 10 and 30 pictures"):
        compare(more, few, more)


def test_compare_needs_no_labels_of_the_synthetic_set() -> None:
    """Compare without labels: the floor has the metrics of the other comparison.

    A classifier still sees the classes.
    """
    rng = np.random.default_rng(0)
    spaces = [{"space": FeatureArray(rng.normal(size=(40, 3)))} for _ in range(3)]
    labels = rng.integers(2, size=40)
    reference, others = (Features(space, labels, ("a", "b")) for space in (spaces[0], spaces[2]))
    findings = compare(reference, Features(spaces[1]), others, permutations=19)
    metrics = {f.metric for f in findings}
    assert "class_share" in metrics
    assert "total_variation" not in metrics
    without = compare(
        Features(spaces[0]), Features(spaces[1], labels, ("a", "b")), Features(spaces[2]), permutations=19
    )
    assert not metrics & {"total_variation"} | {f.metric for f in without} & {"class_share", "total_variation"}
