"""Test calibration errors, temperature scaling and likelihoods of votes.

The references are theory and scipy.
"""

from __future__ import annotations

import numpy as np
import pytest
from calibration_measures import (
    PathVotes,
    bootstrap,
    cross_entropy,
    fit_temperature,
    scale_logits,
)
from scipy import special, stats

from raydistill.learning.metrics import in_bins

QUESTIONS = (3, 2, 3)
PATHS = (((0,),), ((1,), (3,)), ((1,), (4,), (5, 6)), ((1,), (4,), (7,)))


def drawn(seed: int, count: int = 4000, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and classes that are drawn with their probabilities."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((count, classes))
    chosen = (special.softmax(logits, axis=1).cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return logits, chosen.clip(max=classes - 1)


def path_votes(seed: int, count: int = 300) -> tuple[PathVotes, np.ndarray, np.ndarray]:
    """Return votes of 30 volunteers per galaxy, votes per answer, class probabilities."""
    rng = np.random.default_rng(seed)
    fractions = [rng.dirichlet(np.ones(size), count) for size in QUESTIONS]
    fractions[0][:, 2] = 0  # no volunteer says artifact, which no class has
    fractions[0] /= fractions[0].sum(axis=1, keepdims=True)
    flat = np.concatenate(fractions, axis=1)
    probabilities = np.stack(
        [np.prod([flat[:, list(step)].sum(axis=1) for step in path], axis=0) for path in PATHS], axis=1
    )
    counts = np.zeros((count, 8))
    for row in range(count):
        asked = 30
        for question, columns, leading in ((0, slice(0, 3), None), (1, slice(3, 5), 1), (2, slice(5, 8), 4)):
            asked = asked if leading is None else int(counts[row, leading])
            counts[row, columns] = rng.multinomial(asked, fractions[question][row])
    return PathVotes.of(QUESTIONS, PATHS, counts), counts, probabilities


def test_bins_of_equal_counts_hold_as_many_predictions_each() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.9, 1, 1000)
    result = in_bins(confidence, rng.random(1000) < 0.5, 10, equal_counts=True)
    assert result.count_B.tolist() == [100] * 10
    assert (np.diff(result.confidence_B) > 0).all()
    assert result.error == pytest.approx(confidence.mean() - 0.5, abs=0.05)
    assert in_bins(confidence, confidence, 10).count_B[-1] == 1000, "equal widths put all of them into one bin"
    constant = in_bins(np.full(1000, 0.5), rng.random(1000) < 0.5, 10, equal_counts=True)
    assert constant.count_B.max() == 1000, "equal confidences share a bin"


def test_calibration_error_against_votes_is_that_of_their_agreement() -> None:
    assert in_bins(np.full(10, 0.8), np.full(10, 0.65)).error == pytest.approx(0.15)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature_undoes_a_scale_of_the_logits(temperature: float) -> None:
    logits, true = drawn(1)
    assert fit_temperature(logits * temperature, np.eye(4)[true]) == pytest.approx(temperature, rel=0.06)
    soft = scale_logits(logits, 1.0)
    assert fit_temperature(logits * temperature, soft) == pytest.approx(temperature, rel=1e-3)
    np.testing.assert_array_equal(scale_logits(logits, 3.0).argmax(axis=1), logits.argmax(axis=1))


def test_cross_entropy_of_a_galaxy_is_that_of_scipy() -> None:
    logits, _ = drawn(2, count=5)
    soft = scale_logits(logits[::-1], 1.0)
    expected = [stats.entropy(q) + stats.entropy(q, p) for p, q in zip(scale_logits(logits, 1.0), soft, strict=True)]
    np.testing.assert_allclose(cross_entropy(scale_logits(logits, 1.0), soft), expected)
    assert np.isfinite(cross_entropy(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]))).all()


def test_implied_fractions_are_those_of_the_answers() -> None:
    votes, counts, probabilities = path_votes(0)
    assert votes.sizes == (2, 2, 2), "rounded and boxy are one outcome, and artifact is none"
    np.testing.assert_array_equal(votes.counts_NO[:, 4], counts[:, 5] + counts[:, 6])
    fractions = votes.fractions(probabilities)
    np.testing.assert_allclose(fractions[:, 0], probabilities[:, 0])
    np.testing.assert_allclose(fractions[:, 2], probabilities[:, 1] / probabilities[:, 1:].sum(axis=1))
    for columns in (slice(0, 2), slice(2, 4), slice(4, 6)):
        np.testing.assert_allclose(fractions[:, columns].sum(axis=1), 1)


def test_likelihoods_of_votes_equal_those_of_scipy() -> None:
    votes, _, probabilities = path_votes(1, count=4)
    fractions, columns = votes.fractions(probabilities), (slice(0, 2), slice(2, 4), slice(4, 6))
    for row in range(4):
        votes_of = [(votes.counts_NO[row, c].astype(int), fractions[row, c]) for c in columns]
        multinomial = -sum(stats.multinomial.logpmf(k, k.sum(), p) for k, p in votes_of)
        assert votes.multinomial_nll(probabilities)[row] == pytest.approx(multinomial)
        dirichlet = -sum(stats.dirichlet_multinomial.logpmf(k, 7.0 * p, k.sum()) for k, p in votes_of)
        assert votes.dirichlet_nll(probabilities, 7.0)[row] == pytest.approx(dirichlet)


def test_true_fractions_have_the_highest_likelihood_and_no_scatter() -> None:
    votes, _, probabilities = path_votes(2)
    wrong = scale_logits(np.log(probabilities), 2.0)
    assert votes.multinomial_nll(probabilities).mean() < votes.multinomial_nll(wrong).mean()
    assert votes.fit_scale(probabilities) > 300, "volunteers agree on the true fractions"
    assert votes.fit_scale(wrong) < 100
    best = votes.dirichlet_nll(wrong, votes.fit_scale(wrong)).mean()
    assert all(best < votes.dirichlet_nll(wrong, votes.fit_scale(wrong) * factor).mean() for factor in (0.5, 2.0))


def test_answer_in_two_steps_is_rejected() -> None:
    with pytest.raises(ValueError, match="an answer belongs to two different steps"):
        PathVotes.of((3,), (((0,),), ((0, 1),)), np.zeros((1, 3)))


def test_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(0).standard_normal((1, 400))
    result = bootstrap(lambda network, rows: float(values[network, rows].mean()), 1, 400, 0)
    assert result.value == pytest.approx(values.mean())
    assert result.high - result.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    spread = bootstrap(lambda network, rows: float(network), 2, 400, 0)
    assert spread.low == 0
    assert spread.high == 1, "networks are drawn too"


def test_interval_of_a_calibrated_prediction_reaches_zero() -> None:
    logits, true = drawn(3, count=300)
    probabilities = scale_logits(logits, 1.0)
    confidence, right = probabilities.max(axis=1), (probabilities.argmax(axis=1) == true).astype(float)
    result = bootstrap(lambda _, rows: in_bins(confidence[rows], right[rows]).error, 1, 300, 0, resamples=200)
    assert result.low <= 0 < result.value
    sharp = scale_logits(logits, 0.3)
    wrong = bootstrap(lambda _, rows: in_bins(sharp.max(axis=1)[rows], right[rows]).error, 1, 300, 0, resamples=200)
    assert wrong.low > 0.05
