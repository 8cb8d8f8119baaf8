"""Decide which counterfactual pictures show the requested change and no other.

A generator renders a galaxy twice from the same noise: with its own answers, and with one answer
changed. The pair is accepted only if a classifier sees the change. The classifier predicts vote
fractions and has seen neither the generator's training galaxies nor the pair:

    sign . (after - before) >= 0.5   for the changed answer,
    |after - before| <= 0.1          for every answer of the questions that should stay.

The other answers of the changed question must change, because their fractions sum to 1. The
questions that are asked after an answer of the changed question may change too. All others count.

Shape suffixes: N pairs, A answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from raydistill.galaxies.answers import replace_answers
from raydistill.galaxies.tree import DecisionTree
from raydistill.statistics.intervals import NO_INTERVAL, Interval

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SMALLEST_CHANGE = 0.5  # of the changed answer
LARGEST_SIDE_EFFECT = 0.1  # on an answer that should stay


@dataclass(frozen=True)
class Verdict:
    """The classifier's verdict on N pairs.

    Attributes
    ----------
    change_N
        float64, change of the changed answer's predicted fraction in the wanted direction.
    side_effect_N
        float64, largest absolute change of an answer that should stay; 0 if there is none.
    worst_N
        int64, that answer; -1 if there is none.
    """

    change_N: Floats
    side_effect_N: Floats
    worst_N: npt.NDArray[np.int64]

    @property
    def accepted(self) -> Bools:
        """Return which pairs are accepted, bool [N]."""
        return (self.change_N >= SMALLEST_CHANGE) & (self.side_effect_N <= LARGEST_SIDE_EFFECT)

    def rate(self) -> Interval:
        """Return the accepted pairs' share and Wilson 95 % interval; NaN without pairs."""
        if not len(self.accepted):
            return NO_INTERVAL
        number = int(self.accepted.sum())
        low, high = scipy.stats.binomtest(number, len(self.accepted)).proportion_ci(method="wilson")
        return Interval(number / len(self.accepted), float(low), float(high))


def answers_that_stay(changed: int, tree: DecisionTree) -> Bools:
    """Return which answers an edit should not change, bool [A].

    Parameters
    ----------
    changed
        Number of the changed answer.
    tree
        The questions of the survey.
    """
    question = tree.task_of[tree.answers[changed]]
    free = {question.number}
    for task in tree.tasks:  # a question stands after those that lead to it
        if task.asked_after and any(tree.task_of[stem].number in free for stem in task.asked_after):
            free.add(task.number)
    return np.array([tree.task_of[stem].number not in free for stem in tree.answers])


def with_answer(votes_A: Floats, changed: int, fraction: float, tree: DecisionTree) -> Floats:
    """Return votes in which one answer has a given fraction.

    The other answers of its question share the rest in their own proportion, or equally where they
    have no votes. Questions that can no longer be reached become unknown.

    Parameters
    ----------
    votes_A
        Fractions of a galaxy in the order of `tree.answers`; NaN where unknown.
    changed
        Number of the answer.
    fraction
        Its new fraction, in [0, 1].
    tree
        The questions of the survey.
    """
    columns = np.arange(len(votes_A))[tree.columns_of(tree.task_of[tree.answers[changed]])]
    others = columns[columns != changed]
    own = np.nan_to_num(votes_A[others])
    share = own / own.sum() if own.sum() > 0 else np.full(len(others), 1 / len(others))
    answers_A = np.full(len(votes_A), np.nan)
    answers_A[changed], answers_A[others] = fraction, (1 - fraction) * share
    edited: Floats = replace_answers(votes_A[None], answers_A, tree)[0].astype(np.float64)
    return edited


def verdict(before_NA: Floats, after_NA: Floats, changed: int, wanted_N: Floats, stay_A: Bools) -> Verdict:
    """Return the verdict on pairs of pictures.

    Parameters
    ----------
    before_NA, after_NA
        The classifier's fractions of both pictures. NaN: an answer of a pair that is not compared.
    changed
        Number of the changed answer.
    wanted_N
        The wanted change; its sign counts.
    stay_A
        The answers that should stay, see `answers_that_stay`.
    """
    difference_NA = np.asarray(after_NA, np.float64) - before_NA
    change_N = np.sign(wanted_N) * difference_NA[:, changed]
    effects_NA = np.where(stay_A & np.isfinite(difference_NA), np.abs(difference_NA), -1.0)
    largest_N, worst_N = effects_NA.max(axis=1), effects_NA.argmax(axis=1)
    return Verdict(change_N, np.maximum(largest_N, 0), np.where(largest_N >= 0, worst_N, -1))
