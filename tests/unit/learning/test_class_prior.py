"""Test the change of class priors, its estimate by EM, and the temperature.

The references are Bayes' theorem for planted Gaussian classes, and frequencies of drawn galaxies.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from raydistill.learning.calibration import (
    Calibration,
    class_reliability,
    classwise_error,
    fit_temperature,
    frequencies,
    trained_prior,
)
from raydistill.learning.options import Training

CENTRES = np.array([-1.0, 0.0, 2.0])
RARE = (0.05, 0.25, 0.7)
UNIFORM = (1 / 3, 1 / 3, 1 / 3)


def survey(prior: tuple[float, ...], count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return galaxies of a prior: log posteriors under equal frequencies, and classes.

    A galaxy is one number, normal about the centre of its class.
    """
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=prior)
    x = rng.normal(CENTRES[labels])
    return stats.norm.logpdf(x[:, None], CENTRES), labels


def test_posterior_of_another_prior_is_that_of_bayes() -> None:
    logits, _ = survey(RARE, 200, 0)
    expected = np.exp(logits) * RARE
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(Calibration(UNIFORM, RARE).apply(logits), expected, rtol=1e-12)


def test_calibrated_classifier_stays_calibrated_under_a_change_of_prior() -> None:
    """Frequencies are within their binomial scatter; without the prior they are not."""
    logits, labels = survey(RARE, 40_000, 1)
    right, wrong = Calibration(UNIFORM, RARE).apply(logits), Calibration.none(3).apply(logits)
    scores = []
    for bins in class_reliability(right, labels, 10):
        expected = bins.confidence_B * (1 - bins.confidence_B) / bins.count_B
        scores += list((bins.accuracy_B - bins.confidence_B) / np.sqrt(expected))
    assert np.sqrt(np.mean(np.square(scores))) < 1.4
    assert wrong[:, 0].sum() > 3 * (labels == 0).sum(), "the rare class is overrated without the prior"
    assert right[:, 0].sum() == pytest.approx((labels == 0).sum(), rel=0.08)
    assert classwise_error(right, labels) < 0.01 < 0.05 < classwise_error(wrong, labels)


@pytest.mark.parametrize("seed", range(3))
def test_em_finds_the_frequencies_of_a_survey(seed: int) -> None:
    logits, labels = survey(RARE, 20_000, seed)
    estimated = Calibration(UNIFORM, UNIFORM).with_estimated_prior(logits).prior
    assert sum(estimated) == pytest.approx(1)
    np.testing.assert_allclose(estimated, frequencies(np.bincount(labels).tolist()), atol=0.02)


def test_em_leaves_a_class_that_never_occurs_without_frequency() -> None:
    logits, _ = survey((0.0, 0.5, 0.5), 20_000, 4)
    assert Calibration(UNIFORM, UNIFORM).with_estimated_prior(logits).prior[0] < 0.01


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_found_whatever_the_prior(temperature: float) -> None:
    """Logits that are T times too large are divided by T."""
    logits, labels = survey(RARE, 20_000, 5)
    fitted = fit_temperature(Calibration(UNIFORM, (0.8, 0.1, 0.1)), temperature * logits, labels)
    assert fitted.temperature == pytest.approx(temperature, rel=0.05)
    assert fitted.prior == (0.8, 0.1, 0.1)


def test_prior_of_zero_gives_probability_zero() -> None:
    logits, _ = survey(RARE, 10, 6)
    probability = Calibration(UNIFORM, (0.0, 0.5, 0.5)).apply(logits)
    assert (probability[:, 0] == 0).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("sampling", "class_weights", "expected"),
    [("balanced", False, (0.5, 0.5)), ("shuffle", True, (0.5, 0.5)), ("shuffle", False, (0.1, 0.9))],
)
def test_prior_of_a_training_is_that_of_its_sampling(
    sampling: str, class_weights: bool, expected: tuple[float, float]
) -> None:
    training = Training(sampling=sampling, class_weights=class_weights)  # type: ignore[arg-type]
    assert trained_prior(training, [10, 90]) == expected
