"""Measure a hunt: how well a score finds rare objects, and what the labels yield.

The yield is the number of objects found for the labels spent.

Shape suffixes: N ranked objects, S seeds. Objects with equal scores count in the mean of all their
orders where that has a closed form, and else in the order of their rows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.stages.hunt.science.examples import Bools, Floats


class Ranked(NamedTuple):
    """How well a score ranks the objects of a survey.

    Attributes
    ----------
    average_precision
        Area below the curve of purity over completeness.
    recall_at_purity
        Largest completeness of a selection by score whose purity is at least the required one.
    purity_of_top
        Purity of the best percent of all objects.
    found_in_first
        Wanted objects among the first 100.
    """

    average_precision: float
    recall_at_purity: float
    purity_of_top: float
    found_in_first: float


FIRST = 100  # objects that a person can look at in a few minutes
TOP = 0.01


def rank_metrics(scores_N: Floats, positive_N: Bools, purity: float) -> Ranked:
    """Return how well scores find the positive objects.

    Parameters
    ----------
    scores_N
        Larger is more likely; float [N].
    positive_N
        The truth, bool [N], at least one.
    purity
        Required purity of `recall_at_purity`, in (0, 1].
    """
    order_N = np.lexsort((np.arange(len(scores_N)), -scores_N))
    top = max(1, math.ceil(TOP * len(scores_N)))
    sorted_N = positive_N[order_N]
    return Ranked(
        average_precision(scores_N, positive_N),
        recall_at_purity(scores_N, positive_N, purity),
        float(sorted_N[:top].mean()),
        float(sorted_N[:FIRST].sum()),
    )


def average_precision(scores_N: Floats, positive_N: Bools) -> float:
    """Return the sum of purity times the step of completeness, over all thresholds."""
    found, selected = _thresholds(scores_N, positive_N)
    steps = np.diff(found, prepend=0) / found[-1]
    return float((steps * found / selected).sum())


def recall_at_purity(scores_N: Floats, positive_N: Bools, purity: float) -> float:
    """Return the largest completeness at a purity of at least `purity`; 0 if none."""
    found, selected = _thresholds(scores_N, positive_N)
    pure = found >= purity * selected - 1e-9
    return float(found[pure].max() / found[-1]) if pure.any() else 0.0


def _thresholds(scores_N: Floats, positive_N: Bools) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return counts of positives and of all objects at or above each different score.

    The highest score comes first.
    """
    if not positive_N.any():
        raise ValueError("no object is of the wanted kind, so no ranking can be measured")
    order_N = np.argsort(-scores_N, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores_N[order_N]) != 0, True))
    return np.cumsum(positive_N[order_N], dtype=np.int64)[last], last.astype(np.int64) + 1


def discovery_curve(found_in_order: Bools, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the objects found after each number of labels spent.

    Parameters
    ----------
    found_in_order
        Whether the first, second, … labelled object was of the wanted kind.
    labels
        Numbers of labels, each from 0 to the length of `found_in_order`.
    """
    found = np.concatenate([[0], np.cumsum(found_in_order)])
    return np.asarray(found[labels], np.int64)
