"""Learn several classes from labels, and choose the objects to ask for next.

A regression gives each object probabilities of the classes. Its margin is the difference of the two
largest ones. Every object belongs to the list of its most probable class, in which (1 + margin) / 2
takes the place of a hunt's score: 1 is a typical object of the class, and 1/2 one that might as well
be of another. So a rare class is asked for as often as a frequent one.

Shapes: N objects, F features, K classes, L labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raydistill.learning.metrics import balanced_accuracy, confusion_of
from raydistill.seeding import fold_in
from raydistill.stages.hunt.learn.ranking import RANDOM_ONLY, WITHOUT_SCORES, Candidate, Quotas, Rows, Shortlist
from raydistill.stages.hunt.learn.regression import Floats, fit_model
from raydistill.statistics.standardise import Standardiser

FOLDS = 5  # of the accuracy on the labels
Features = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassHead:
    """A logistic regression of several classes, with classes of equal weight.

    Classes without a label have the probability 0.

    Parameters
    ----------
    standardiser
        Of the survey's features.
    slopes_KF, intercepts_K
        The linear map to log probabilities; -inf for classes without a label.
    """

    standardiser: Standardiser
    slopes_KF: Floats
    intercepts_K: Floats

    @classmethod
    def fit(
        cls, features_LF: Features, labels_L: Labels, num_classes: int, standardiser: Standardiser, strength: float
    ) -> ClassHead:
        """Return the head of labelled objects; `strength` as in `Regression`.

        There must be labels of at least two classes.
        """
        known, counts = np.unique(labels_L, return_counts=True)
        weights_L = (1 / counts)[np.searchsorted(known, labels_L)] / len(known)
        model = fit_model(standardiser.apply(features_LF), labels_L, weights_L, strength)
        slopes_KF, intercepts_K = np.zeros((num_classes, features_LF.shape[1])), np.full(num_classes, -np.inf)
        two = len(known) == 2  # of which sklearn stores the second alone
        slopes_KF[known] = np.concatenate([-model.coef_, model.coef_]) / 2 if two else model.coef_
        intercepts_K[known] = np.concatenate([-model.intercept_, model.intercept_]) / 2 if two else model.intercept_
        return cls(standardiser, slopes_KF, intercepts_K)

    def probabilities(self, features_NF: Features) -> Floats:
        """Return probabilities float64 [N, K]; a row does not depend on the others."""
        from scipy import special  # imported late, as sklearn is

        logits_NK = np.einsum("nf,kf->nk", self.standardiser.apply(features_NF), self.slopes_KF) + self.intercepts_K
        return np.asarray(special.softmax(logits_NK, axis=1))


class ClassShortlists:
    """Choose objects of all classes while the blocks of a survey pass.

    Parameters
    ----------
    quotas, count, seed
        As in `Shortlist`.
    num_classes
        K; 0: nothing can be learned yet.
    """

    def __init__(self, quotas: Quotas, count: int, seed: int, num_classes: int) -> None:
        self._count = count
        self._lists = [Shortlist(quotas, math.ceil(count / num_classes), fold_in(seed, k)) for k in range(num_classes)]
        self._others = Shortlist(RANDOM_ONLY if num_classes else WITHOUT_SCORES, count, seed)

    def add(self, rows_N: Rows, probabilities_NK: Floats | None, standard_NF: Features) -> None:
        """Consider a block of objects without a label; None: nothing can be learned yet."""
        self._others.add(rows_N, None, standard_NF)
        if probabilities_NK is None:
            return
        ordered_NK = np.sort(probabilities_NK, axis=1)
        scores_N, likely_N = (1 + ordered_NK[:, -1] - ordered_NK[:, -2]) / 2, probabilities_NK.argmax(axis=1)
        for k, shortlist in enumerate(self._lists):
            if (own := likely_N == k).any():
                shortlist.add(rows_N[own], scores_N[own], standard_NF[own])

    def candidates(self) -> list[Candidate]:
        """Return `count` objects, the classes by turns; random ones fill up."""
        lists = [shortlist.candidates() for shortlist in self._lists]
        turns = [one[n] for n in range(max(map(len, lists), default=0)) for one in lists if n < len(one)]
        chosen = {candidate.row: candidate for candidate in turns[: self._count]}
        for candidate in self._others.candidates():
            if len(chosen) < self._count:
                chosen.setdefault(candidate.row, candidate)
        return list(chosen.values())


def accuracy_on_labels(
    features_LF: Features, labels_L: Labels, num_classes: int, standardiser: Standardiser, strength: float, seed: int
) -> float:
    """Return the balanced accuracy of heads on labels that they have not seen.

    NaN if there are fewer than two classes with `FOLDS` labels each.
    """
    counts_K = np.bincount(labels_L, minlength=num_classes)
    kept = np.isin(labels_L, np.flatnonzero(counts_K >= FOLDS))
    features_LF, labels_L = features_LF[kept], labels_L[kept]
    if len(np.unique(labels_L)) < 2:
        return math.nan
    from sklearn.model_selection import StratifiedKFold

    probability_LK = np.empty((len(labels_L), num_classes))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=fold_in(seed, "folds") % 2**31)
    for train, test in folds.split(features_LF, labels_L):
        head = ClassHead.fit(features_LF[train], labels_L[train], num_classes, standardiser, strength)
        probability_LK[test] = head.probabilities(features_LF[test])
    return balanced_accuracy(confusion_of(probability_LK, labels_L))
