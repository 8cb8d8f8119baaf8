"""Choose the objects that a labeller sees next, and repeat: rank, ask, learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.learning.checks import not_negative
from raydistill.seeding import fold_in
from raydistill.stages.hunt.learn.regression import Bools, Floats

# A round shows objects with a high score, uncertain ones, diverse ones and random ones. The quotas
# say how many of each. Blocks of a survey may arrive in any order and size: the choice depends on
# the rows alone, and only a shortlist stays in memory.

Rows = npt.NDArray[np.int64]
POOL = 10  # diverse candidates are chosen among this many times their number, those with the highest scores


class Reason(StrEnum):
    """List the reasons why an object is shown, in the order in which they choose."""

    HIGH_SCORE = "high score"
    UNCERTAIN = "uncertain"
    DIVERSE = "diverse"
    RANDOM = "random"


@dataclass(frozen=True)
class Quotas:
    """Shares of a round, by reason. They are relative: only their ratios matter.

    Parameters
    ----------
    high_score
        Objects with the highest scores.
    uncertain
        Objects whose score is nearest to 0.5.
    diverse
        Objects far from one another in feature space, among those with high scores.
    random
        Objects drawn at random, which may show kinds that no example shows.
    """

    high_score: float = 0.6
    uncertain: float = 0.2
    diverse: float = 0.1
    random: float = 0.1

    def __post_init__(self) -> None:
        not_negative(self, *(field.name for field in fields(self)))
        if not any(getattr(self, field.name) for field in fields(self)):
            raise ValueError("at least one quota must be positive")

    def counts(self, total: int) -> dict[Reason, int]:
        """Return how many of `total` objects each reason chooses (largest remainders)."""
        shares = np.array([self.high_score, self.uncertain, self.diverse, self.random], float)
        exact = total * shares / shares.sum()
        counts = np.floor(exact + 1e-9).astype(int)
        for index in np.argsort(-(exact - counts), kind="stable")[: total - counts.sum()]:
            counts[index] += 1
        return dict(zip(Reason, counts.tolist(), strict=True))


FOR_CLASSES = Quotas(high_score=0, uncertain=1, diverse=0, random=1)  # the default of `hunt.classes`
WITHOUT_SCORES = Quotas(high_score=0, uncertain=0, diverse=1, random=1)  # nothing can be learned yet


class Candidate(NamedTuple):
    """An object to show: its row in the survey, its score (NaN: none), and the reason."""

    row: int
    score: float
    reason: Reason


class Shortlist:
    """Keep the best rows of each reason while the blocks of a survey pass.

    Parameters
    ----------
    quotas
        Shares of the reasons.
    count
        Number of candidates to choose.
    seed
        Decides the random ones.
    """

    def __init__(self, quotas: Quotas, count: int, seed: int) -> None:
        self._counts, self._count, self._seed = quotas.counts(count), count, seed
        # A reason may have to skip the rows that others have chosen, at most `count` in all.
        wanted = dict.fromkeys(Reason, count) | {Reason.DIVERSE: count + POOL * self._counts[Reason.DIVERSE]}
        self._best = {reason: _Best(size) for reason, size in wanted.items()}

    def add(self, rows_N: Rows, scores_N: Floats | None, features_NF: npt.NDArray[np.floating]) -> None:
        """Consider a block of objects that have not been shown.

        Parameters
        ----------
        rows_N
            Their rows in the survey.
        scores_N
            Their scores in [0, 1]; None: nothing can be learned yet.
        features_NF
            Their standardised features.
        """
        random_N = random_keys(rows_N, self._seed)
        scored_N = np.full(len(rows_N), np.nan) if scores_N is None else scores_N
        keys = {
            # Without scores diverse candidates are chosen among random ones.
            Reason.HIGH_SCORE: random_N if scores_N is None else -scores_N,
            Reason.UNCERTAIN: random_N if scores_N is None else abs(scores_N - 0.5),
            Reason.DIVERSE: random_N if scores_N is None else -scores_N,
            Reason.RANDOM: random_N,
        }
        for reason, best in self._best.items():
            best.add(keys[reason], rows_N, scored_N, features_NF)

    def candidates(self) -> list[Candidate]:
        """Return `count` different objects, or all of them if there are fewer."""
        chosen: dict[int, Candidate] = {}
        shown_CF: list[npt.NDArray[np.floating]] = []
        for reason, quota in self._counts.items():
            best = self._best[reason]
            free = [n for n in range(len(best.rows)) if int(best.rows[n]) not in chosen]
            if reason is Reason.DIVERSE and quota and free:
                free = free[: POOL * quota]
                centres_CF = np.array(shown_CF) if shown_CF else best.features[:0]
                free = [free[n] for n in farthest_first(best.features[free], centres_CF, quota)]
            for n in free[:quota]:
                row = int(best.rows[n])
                chosen[row] = Candidate(row, float(best.scores[n]), reason)
                shown_CF.append(best.features[n])
        return list(chosen.values())


class _Best:
    """The rows with the smallest keys; equal keys are ordered by row."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys = np.empty(0)
        self.rows: Rows = np.empty(0, np.int64)
        self.scores: Floats = np.empty(0)
        self.features: npt.NDArray[np.floating] = np.empty((0, 0))

    def add(self, keys_N: Floats, rows_N: Rows, scores_N: Floats, features_NF: npt.NDArray[np.floating]) -> None:
        if len(keys_N) > self._size:
            bound = np.partition(keys_N, self._size - 1)[self._size - 1]
            keep = keys_N <= bound
            keys_N, rows_N = keys_N[keep], rows_N[keep]
            scores_N, features_NF = scores_N[keep], features_NF[keep]
        keys, rows = np.concatenate([self._keys, keys_N]), np.concatenate([self.rows, rows_N])
        scores = np.concatenate([self.scores, scores_N])
        features = np.concatenate([self.features, features_NF]) if len(self._keys) else features_NF
        order = np.lexsort((rows, keys))[: self._size]
        self._keys, self.rows, self.scores, self.features = keys[order], rows[order], scores[order], features[order]


def farthest_first(
    features_NF: npt.NDArray[np.floating], centres_CF: npt.NDArray[np.floating], count: int
) -> list[int]:
    """Return `count` rows by greedy k-centre: each the farthest from earlier centres.

    Parameters
    ----------
    features_NF
        Objects to choose from, float [N, F].
    centres_CF
        Centres that exist already, float [C, F]; without any, the first row is the first centre.
    count
        Rows to choose, at most N.

    References
    ----------
    Gonzalez 1985, doi:10.1016/0304-3975(85)90224-5; Sener & Savarese 2018, arXiv:1708.00489.
    """
    points_NF = np.asarray(features_NF, np.float64)
    distance_N = np.full(len(points_NF), np.inf)
    for centre_F in centres_CF:
        distance_N = np.minimum(distance_N, np.square(points_NF - centre_F).sum(axis=1))
    chosen: list[int] = []
    while len(chosen) < min(count, len(points_NF)):
        distance_N[chosen] = -1.0
        chosen.append(int(distance_N.argmax()))
        distance_N = np.minimum(distance_N, np.square(points_NF - points_NF[chosen[-1]]).sum(axis=1))
    return chosen


def random_keys(rows_N: Rows, seed: int) -> Floats:
    """Return a random number in [0, 1) per row; it depends on row and seed alone.

    The hash is SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195).
    """
    start = np.array([seed & 0xFFFF_FFFF_FFFF_FFFF], np.uint64)
    x = _mix(_mix(start) + rows_N.astype(np.uint64))
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**53


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = x + np.uint64(0x9E37_79B9_7F4A_7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return x ^ (x >> np.uint64(31))


# Run a hunt with a scripted labeller: rank, ask, learn, and rank again.
#
# The loop knows nothing of pictures: a scorer maps labelled rows to scores of all objects.

# Maps labelled rows, their truth and a seed to the scores of all objects, or None if nothing can
# be learned.
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
        Whether each of them was of the target class.
    reasons
        Why each of them was shown.
    first_N, last_N
        Scores before the first round and after the last one; None: nothing could be learned.
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
        Scores of all objects; None: nothing can be learned yet.
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
        Whether each object is of the target class.
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
        rows += [candidate.row for candidate in candidates]
        reasons += [candidate.reason.value for candidate in candidates]
        shown_N[[candidate.row for candidate in candidates]] = True
    if score is not None and rounds:
        scores_N = score(np.array(rows, np.int64), truth_N[rows], rounds)
    labelled = np.array(rows[len(start_rows) :], np.int64)
    return Trace(labelled, truth_N[labelled], tuple(reasons), first, scores_N)
