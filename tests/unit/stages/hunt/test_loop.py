"""The hunt with a scripted labeller."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.stages.hunt.learn.ranking import Quotas, hunt
from raydistill.stages.hunt.learn.regression import Group, collect, fit_regression
from raydistill.statistics.standardise import Standardiser

QUOTAS = Quotas()


def survey(size=3000, seed=0):
    """Return features in which 2 % of the objects lie in a corner, and the truth."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(size, 4))
    truth = rng.random(size) < 0.02
    features[truth, :2] += 2.0
    return features, truth


def learner(features):
    unit = Standardiser.of([features])

    def score(rows, labels, seed):
        examples = collect([Group(features[rows], labels)])
        return fit_regression(examples, unit, 10.0).score(features) if examples.learnable else None

    return score


def test_hunt_finds_more_than_chance_and_shows_nothing_twice():
    features, truth = survey()
    start = np.concatenate([np.flatnonzero(truth)[:3], np.flatnonzero(~truth)[:20]])
    trace = hunt(learner(features), features, truth, start, QUOTAS, rounds=5, per_round=20, seed=0)
    blind = hunt(None, features, truth, start, QUOTAS, rounds=5, per_round=20, seed=0)
    assert len(set(trace.rows.tolist())) == 100
    assert not set(trace.rows.tolist()) & set(start.tolist())
    np.testing.assert_array_equal(trace.found, truth[trace.rows])
    assert trace.found.sum() > 3 * max(blind.found.sum(), 2)
    assert set(blind.reasons) == {"random"}
    assert blind.first_N is blind.last_N is None
    assert trace.reasons.count("high score") == 5 * 12


def test_hunt_is_the_same_for_the_same_seed():
    features, truth = survey()
    start = np.flatnonzero(truth)[:2]
    first, again, other = (
        hunt(learner(features), features, truth, start, QUOTAS, rounds=3, per_round=10, seed=seed) for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first.rows, again.rows)
    assert first.rows.tolist() != other.rows.tolist()


@pytest.mark.parametrize("known", [0, 2])
def test_hunt_explores_until_both_kinds_are_known(known):
    features, truth = survey()
    start = np.flatnonzero(truth)[:known]
    trace = hunt(learner(features), features, truth, start, QUOTAS, rounds=4, per_round=20, seed=0)
    assert set(trace.reasons[:20]) == {"diverse", "random"}
    assert trace.first_N is None
    if known:
        assert "high score" in trace.reasons[20:40]


def test_hunt_ends_when_the_survey_is_labelled():
    features, truth = survey(30)
    trace = hunt(learner(features), features, truth, np.arange(5), QUOTAS, rounds=5, per_round=10, seed=0)
    assert sorted(trace.rows.tolist()) == list(range(5, 30))
