"""The rule for accepting counterfactual pictures, on the tree of Galaxy Zoo 2."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raydistill.galaxies.trees import GZ2
from raydistill.stages.analyse.science.counterfactuals import answers_that_stay, verdict, with_answer

BAR, SPIRAL = GZ2.index["t03_bar_a06_bar"], GZ2.index["t04_spiral_a08_spiral"]
NUM = len(GZ2.answers)


def changeable(stem: str) -> set[str]:
    """Return the questions that an edit of an answer may change."""
    stay_A = answers_that_stay(GZ2.index[stem], GZ2)
    return {GZ2.task_of[answer].key for answer, stay in zip(GZ2.answers, stay_A, strict=True) if not stay}


def test_the_changed_question_and_those_after_it_are_free() -> None:
    assert changeable("t03_bar_a06_bar") == {"bar"}
    assert changeable("t04_spiral_a08_spiral") == {"spiral", "arms_winding", "arms_number"}
    assert changeable("t06_odd_a14_yes") == {"odd", "odd_feature"}
    every = {task.key for task in GZ2.tasks}
    assert changeable("t01_smooth_or_features_a01_smooth") == every - {"odd", "odd_feature"}


@pytest.mark.parametrize(
    ("change", "side_effect", "accepted"),
    [(0.51, 0.09, True), (0.49, 0.0, False), (0.9, 0.11, False), (-0.6, 0.0, False)],
)
def test_pairs_need_the_change_and_no_other(change: float, side_effect: float, accepted: bool) -> None:
    stay = answers_that_stay(BAR, GZ2)
    before, after = np.full((1, NUM), 0.3), np.full((1, NUM), 0.3)
    after[0, BAR] += change
    worst = np.flatnonzero(stay)[4]
    after[0, worst] -= side_effect
    result = verdict(before, after, BAR, np.array([0.8]), stay)
    assert result.accepted.tolist() == [accepted]
    assert result.change_N[0] == pytest.approx(change)
    assert result.side_effect_N[0] == pytest.approx(side_effect)
    assert side_effect == 0 or result.worst_N[0] == worst


def test_answers_of_free_questions_may_change() -> None:
    stay = answers_that_stay(SPIRAL, GZ2)
    before = np.full((1, NUM), 0.2)
    after = np.where(stay, before, 0.9)
    assert verdict(before, after, SPIRAL, np.array([1.0]), stay).accepted.all()


def test_a_vote_may_be_asked_to_fall() -> None:
    stay, before = answers_that_stay(BAR, GZ2), np.full((2, NUM), 0.9)
    after = before.copy()
    after[:, BAR] = (0.2, 1.5)
    assert verdict(before, after, BAR, np.array([-1.0, -1.0]), stay).accepted.tolist() == [True, False]


def test_answers_without_prediction_are_left_out() -> None:
    stay, before = answers_that_stay(BAR, GZ2), np.full((1, NUM), 0.1)
    after = before + 0.8
    before[:, stay] = np.nan
    result = verdict(before, after, BAR, np.array([1.0]), stay)
    assert result.accepted.all()
    assert result.worst_N[0] == -1


def test_rate_has_wilsons_interval() -> None:
    stay, before = answers_that_stay(BAR, GZ2), np.zeros((40, NUM))
    after = before.copy()
    after[:10, BAR] = 0.7
    rate = verdict(before, after, BAR, np.ones(40), stay).rate()
    z, p, n = 1.959964, 0.25, 40
    centre, half = (
        (p + z**2 / (2 * n)) / (1 + z**2 / n),
        z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)),
    )
    assert rate == pytest.approx((0.25, centre - half, centre + half), abs=1e-4)
    assert math.isnan(verdict(before[:0], after[:0], BAR, np.ones(0), stay).rate().value)


def test_the_other_answers_share_the_rest_in_their_proportion() -> None:
    votes = np.full(NUM, np.nan)
    votes[GZ2.columns_of(GZ2.tasks[0])] = (0.2, 0.6, 0.2)
    votes[GZ2.columns_of(GZ2.tasks[1])] = (0.1, 0.9)
    edited = with_answer(votes, 1, 0.8, GZ2)
    assert edited[:3] == pytest.approx([0.1, 0.8, 0.1])
    assert edited[3:5] == pytest.approx([0.1, 0.9])
    unreachable = with_answer(votes, 1, 0.0, GZ2)
    assert unreachable[:3] == pytest.approx([0.5, 0.0, 0.5])
    assert np.isnan(unreachable[3:5]).all()  # no volunteer sees a disk, so none says how it lies
    certain = np.where(np.arange(NUM) < 3, [1.0, *[0.0] * (NUM - 1)], np.nan)
    assert with_answer(certain, 0, 0.4, GZ2)[:3] == pytest.approx([0.4, 0.3, 0.3])
