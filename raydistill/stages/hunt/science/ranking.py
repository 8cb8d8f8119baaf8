"""Choose the objects that a labeller sees next, each with the reason for it.

A round shows objects with a high score, uncertain ones, diverse ones and random ones. The quotas
say how many of each. Blocks of a survey may arrive in any order and size: the choice depends on
the rows alone, and only a shortlist stays in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.learning.checks import not_negative
from raydistill.stages.hunt.science.examples import Floats

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


WITHOUT_SCORES = Quotas(high_score=0, uncertain=0, diverse=1, random=1)  # nothing can be learnt yet


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
            Their scores in [0, 1]; None: nothing can be learnt yet.
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
