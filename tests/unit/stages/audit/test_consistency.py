"""Classes and answers as experts see them: alarms, misses, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.stages.audit.metrics.realism import Seen, consistency, recognised_classes
from raydistill.statistics.testing import holm

NAMES, ANSWERS = ("a", "b"), ("smooth", "bar", "noise")


def seen(rng: np.random.Generator, count: int, quality: float = 1.0, accuracy: float = 0.9) -> Seen:
    """Return pictures whose features follow the first two answers.

    Their classes are mostly recognised.
    """
    votes = rng.uniform(size=(count, 3))
    features = np.concatenate([quality * votes[:, :2], np.zeros((count, 2))], axis=1) + rng.normal(0, 0.2, (count, 4))
    labels = rng.integers(2, size=count)
    recognised = np.where(rng.uniform(size=count) < accuracy, labels, 1 - labels)
    return Seen(np.eye(2)[recognised], features, labels, votes)


def test_real_pictures_raise_an_alarm_once_in_twenty() -> None:
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        findings = consistency(seen(rng, 150), seen(rng, 150), seen(rng, 150), NAMES, ANSWERS)
        alarms += any(f.significant for f in findings)
    assert alarms < 18  # 10 expected at most: once in 80


def test_lost_conditions_are_found() -> None:
    rng = np.random.default_rng(0)
    held_out, training = seen(rng, 300), seen(rng, 300)
    findings = consistency(seen(rng, 300, quality=0.1, accuracy=0.6), held_out, training, NAMES, ANSWERS)
    assert {(f.metric, f.feature) for f in findings if f.significant} == {
        ("class_recognised", "a"),
        ("class_recognised", "b"),
        ("answer_predicted", "smooth"),
        ("answer_predicted", "bar"),
    }
    for f in findings:
        assert f.low <= f.value <= f.high
        assert f.floor_low <= f.floor <= f.floor_high
        assert f.value < f.floor_low


def test_what_real_galaxies_do_not_show_is_left_out() -> None:
    """Leave out an unpredictable answer, a constant fraction, and a small class."""
    rng = np.random.default_rng(0)
    synthetic, held_out, training = (seen(rng, 200) for _ in range(3))
    assert synthetic.votes_NA is not None
    synthetic.votes_NA[:, 1] = 1.0
    assert {f.feature for f in consistency(synthetic, held_out, training, NAMES, ANSWERS)} == {"a", "b", "smooth"}
    few = Seen(np.eye(2)[np.zeros(30, int)], np.zeros((30, 4)), np.repeat([0, 1], [25, 5]))
    assert [f.feature for f in recognised_classes(few, held_out, NAMES)] == ["a"]
    assert consistency(Seen(few.probability_NK, few.features_ND), held_out, training, NAMES, ANSWERS) == []


def test_shares_have_wilson_intervals_and_fishers_p_value() -> None:
    synthetic = Seen(np.eye(2)[np.repeat([0, 1], [8, 12])], np.zeros((20, 1)), np.zeros(20, int))
    real = Seen(np.eye(2)[np.repeat([0, 1], [19, 1])], np.zeros((20, 1)), np.zeros(20, int))
    (result,) = recognised_classes(synthetic, real, NAMES)
    assert (result.value, result.floor) == (0.4, 0.95)
    assert (result.low, result.high) == pytest.approx(
        (0.2188, 0.6134), abs=1e-4
    )  # Newcombe 1998: (p + z²/2n ± …) / (1 + z²/n)
    assert result.p_value == pytest.approx(0.000204, abs=2e-5)


def test_holm_multiplies_the_smallest_p_value_by_their_number() -> None:
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03, 0.5])), [0.09, 0.04, 0.09, 0.5])
