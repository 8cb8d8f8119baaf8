"""Weighted logistic regression, the product of attributes, and example weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from raydistill.stages.hunt.learn.regression import (
    Examples,
    Group,
    collect,
    cross_fitted_scores,
    fit_fractions,
    fit_regression,
)
from raydistill.statistics.standardise import Standardiser

UNIT = Standardiser(np.zeros(2), np.ones(2))


def test_standardiser_does_not_depend_on_the_blocks():
    features = np.random.default_rng(0).normal(1e4, 3, (1000, 4)).astype(np.float32)
    features[:, 3] = 5
    whole = Standardiser.of([features])
    parts = Standardiser.of([*np.array_split(features, 13), features[:0]])
    np.testing.assert_allclose(parts.mean_F, features.astype(float).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(parts.std_F, whole.std_F, rtol=1e-9)
    assert whole.count == parts.count == 1000
    assert whole.std_F[3] == 0
    assert not whole.apply(features)[:, 3].any()
    np.testing.assert_allclose(whole.apply(features)[:, :3].std(axis=0), 1, rtol=1e-6)


def test_regression_minimises_penalty_plus_weighted_mean_loss():
    rng = np.random.default_rng(0)
    features, positive = rng.normal(size=(40, 2)), rng.random(40) < 0.3
    examples = Examples(features, positive, rng.random(40) + 0.1)
    scorer = fit_regression(examples, UNIT, 5.0)

    def objective(parameters):
        logits = features @ parameters[:2] + parameters[2]
        losses = np.log1p(np.exp(np.where(positive, -logits, logits)))
        return parameters[:2] @ parameters[:2] / 2 + 5.0 * np.average(losses, weights=examples.weights_L)

    best = optimize.minimize(objective, np.zeros(3)).x
    np.testing.assert_allclose([*scorer.slope_F, scorer.intercept], best, atol=2e-3)


def test_scores_do_not_depend_on_the_block():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(200, 2))
    scorer = fit_regression(Examples(features, features[:, 0] > 0, np.ones(200)), UNIT, 1.0)
    whole = scorer.score(features)
    np.testing.assert_array_equal(np.concatenate([scorer.score(features[:7]), scorer.score(features[7:])]), whole)


def test_groups_of_any_size_have_their_weight_and_both_kinds_weigh_the_same():
    real = Group(np.zeros((4, 2)), np.array([True, False, False, False]))
    synthetic = Group(np.ones((30, 2)), np.arange(30) < 20, weight=0.5)
    examples = collect([real, synthetic, Group(np.zeros((0, 2)), np.zeros(0, bool))])
    weights, positive = examples.weights_L, examples.positive_L
    assert weights[positive].sum() == pytest.approx(1)
    assert weights[~positive].sum() == pytest.approx(1)
    assert weights[0] == pytest.approx(2 / 3)
    assert weights[4:24].sum() == pytest.approx(1 / 3)


def test_examples_of_one_kind_are_not_learnable():
    assert not collect([Group(np.zeros((3, 2)), np.ones(3, bool))]).learnable
    assert not collect([]).learnable
    assert collect([Group(np.zeros((2, 2)), np.array([True, False]))]).learnable


def test_synthetic_negatives_remove_the_shortcut_of_synthetic_positives():
    """Column 0 marks the target class, column 1 marks synthetic pictures."""
    rng = np.random.default_rng(2)

    def pictures(count, wanted, synthetic):
        return rng.normal(size=(count, 2)) + np.array([1.5 * wanted, 6.0 * synthetic])

    background = Group(pictures(200, 0, 0), np.zeros(200, bool))
    positives = pictures(100, 1, 1)
    alone = collect([background, Group(positives, np.ones(100, bool))])
    both = Group(np.concatenate([positives, pictures(100, 0, 1)]), np.arange(200) < 100)
    scorers = [fit_regression(examples, UNIT, 10.0) for examples in (alone, collect([background, both]))]
    targets, others = pictures(500, 1, 0), pictures(500, 0, 0)
    gaps = [scorer.slope_F[0] / abs(scorer.slope_F[1]) for scorer in scorers]
    assert gaps[1] > 3 * gaps[0]
    assert np.mean(scorers[1].score(targets)[:, None] > scorers[1].score(others)) > 0.75


def test_product_of_heads_finds_a_combination_that_no_example_has():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(600, 2))
    smooth, dusty = features[:, 0] > 0, features[:, 1] > 0
    known = ~(smooth & dusty)
    heads = [fit_fractions(features[known], mark[known] * 0.9 + 0.05, UNIT, 20.0) for mark in (smooth, dusty)]
    scores = np.prod([head.score(features) for head in heads], axis=0)
    assert scores[~known].min() > np.quantile(scores[known], 0.5)
    with pytest.raises(ValueError, match="must not all be 0"):
        fit_fractions(features, np.zeros(600), UNIT, 1.0)


def test_cross_fitted_scores_never_use_the_label_of_the_object():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(400, 2))
    noise = rng.random(400) < 0.1  # labels without any relation to the features
    scores = cross_fitted_scores(features, noise, UNIT, 1000.0, 5, 0)
    auc = np.mean(scores[noise][:, None] > scores[~noise])
    assert 0.3 < auc < 0.7
    informed = cross_fitted_scores(features, features[:, 0] > 1, UNIT, 10.0, 5, 0)
    assert np.mean(informed[features[:, 0] > 1][:, None] > informed[features[:, 0] <= 1]) > 0.95
