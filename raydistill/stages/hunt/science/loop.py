"""Run a hunt with a scripted labeller: rank, ask, learn, and rank again.

The loop knows nothing of pictures: a scorer maps labelled rows to scores of all objects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.seeding import fold_in
from raydistill.stages.hunt.science.examples import Bools, Floats
from raydistill.stages.hunt.science.ranking import WITHOUT_SCORES, Candidate, Quotas, Rows, Shortlist

# Maps labelled rows, their truth and a seed to the scores of all objects; None: nothing can be learnt.
Scorer = Callable[[Rows, Bools, int], Floats | None]
RANDOM_ONLY = Quotas(high_score=0, uncertain=0, diverse=0, random=1)
BLOCK = 8192  # objects of a survey that are considered at once


class Trace(NamedTuple):
    """The record of a hunt.

    Attributes
    ----------
    rows
        Rows that were labelled, in their order.
    found
        Whether each of them was of the wanted kind.
    reasons
        Why each of them was shown.
    first_N, last_N
        Scores before the first round and after the last one; None: nothing could be learnt.
    """

    rows: Rows
    found: Bools
    reasons: tuple[str, ...]
    first_N: Floats | None
    last_N: Floats | None


def choose(
    scores_N: Floats | None,
    features_NF: npt.NDArray[np.floating],
    shown_N: Bools,
    quotas: Quotas,
    count: int,
    seed: int,
) -> list[Candidate]:
    """Return the candidates of a round among the objects that have not been shown.

    Parameters
    ----------
    scores_N
        Scores of all objects; None: nothing can be learnt yet.
    features_NF
        Standardised features.
    shown_N
        Objects that a labeller has seen.
    quotas
        Shares of the reasons.
    count
        Candidates of the round.
    seed
        Decides the random ones.
    """
    shortlist = Shortlist(WITHOUT_SCORES if scores_N is None else quotas, count, seed)
    for first in range(0, len(shown_N), BLOCK):
        rows = first + np.flatnonzero(~shown_N[first : first + BLOCK])
        if len(rows):
            shortlist.add(rows, None if scores_N is None else scores_N[rows], features_NF[rows])
    return shortlist.candidates()


def hunt(
    score: Scorer | None,
    features_NF: npt.NDArray[np.floating],
    truth_N: Bools,
    start_rows: Rows,
    quotas: Quotas,
    rounds: int,
    per_round: int,
    seed: int,
) -> Trace:
    """Return the record of a hunt in which the truth answers every question.

    Parameters
    ----------
    score
        Learns from the labels; None: objects are drawn at random.
    features_NF
        Standardised features of all objects, for diversity.
    truth_N
        Whether each object is of the wanted kind.
    start_rows
        Rows whose labels are known at the start. They are not spent, and not shown.
    quotas
        Shares of the reasons.
    rounds, per_round
        Rounds, and labels of each.
    seed
        Root of the random candidates and of the learners.
    """
    rows, reasons = [int(row) for row in start_rows], list[str]()
    shown_N = np.zeros(len(truth_N), bool)
    shown_N[rows] = True
    first = scores_N = None
    blind = np.zeros(len(truth_N))  # equal scores, of which random quotas make no use
    for number in range(rounds):
        if score is not None:
            scores_N = score(np.array(rows, np.int64), truth_N[rows], number)
            first = scores_N if number == 0 else first
        ranked_N, shares = (blind, RANDOM_ONLY) if score is None else (scores_N, quotas)
        candidates = choose(ranked_N, features_NF, shown_N, shares, per_round, fold_in(seed, number))
        rows += [one.row for one in candidates]
        reasons += [one.reason.value for one in candidates]
        shown_N[[one.row for one in candidates]] = True
    if score is not None and rounds:
        scores_N = score(np.array(rows, np.int64), truth_N[rows], rounds)
    labelled = np.array(rows[len(start_rows) :], np.int64)
    return Trace(labelled, truth_N[labelled], tuple(reasons), first, scores_N)
