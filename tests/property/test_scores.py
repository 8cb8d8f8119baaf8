"""Properties of the scores for any accuracies."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.learning.metrics import augmentation_robust, label_robust

groups = st.lists(st.floats(0, 1), min_size=1, max_size=5)
four = st.tuples(groups, groups, groups, groups)


def check(result: dict[str, Any]) -> None:
    assert 0 <= result["score"] <= 1
    if result["low"] is not None:
        assert 0 <= result["low"] <= result["score"] <= result["high"] <= 1


@settings(deadline=None)
@given(four)
def test_scores_and_intervals_lie_in_the_unit_range(accuracies: tuple[list[float], ...]) -> None:
    check(label_robust(*accuracies[:3]))
    check(label_robust(*accuracies))
    check(augmentation_robust(*accuracies))


@settings(deadline=None)
@given(four, st.integers(0, 3), st.floats(0, 1))
def test_scores_are_monotone_in_the_accuracies(accuracies: tuple[list[float], ...], which: int, share: float) -> None:
    raised = list(accuracies)
    raised[which] = [a + share * (1 - a) for a in accuracies[which]]
    tiny = 1e-12  # rounding of a mean
    for score, improving in ((label_robust, {1, 3}), (augmentation_robust, {0, 2})):
        before, after = score(*accuracies)["score"], score(*raised)["score"]
        assert after >= before - tiny if which in improving else after <= before + tiny
