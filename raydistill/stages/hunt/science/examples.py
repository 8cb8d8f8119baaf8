"""Collect labelled examples, real and synthetic, and weight them.

A synthetic set holds positives *and* negatives of the same source. With synthetic positives alone a
classifier learns to tell synthetic pictures from real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Features = npt.NDArray[np.float16]  # of `predict`


class Examples(NamedTuple):
    """Features of labelled objects, and what they are.

    Attributes
    ----------
    features_LF
        float [L, F], or pictures uint8 [L, H, W, 3].
    positive_L
        bool [L]: whether the object is of the wanted kind.
    weights_L
        float64 [L], positive.
    """

    features_LF: npt.NDArray[Any]
    positive_L: Bools
    weights_L: Floats

    @property
    def learnable(self) -> bool:
        """Return whether there is at least one positive and one negative example."""
        return bool(self.positive_L.any() and not self.positive_L.all())


class Group(NamedTuple):
    """Examples of one origin: real, presumed negatives, or from a synthetic source."""

    features_LF: npt.NDArray[Any]
    positive_L: Bools
    weight: float = 1.0  # of the group's positives together, and of its negatives together


def collect(groups: Sequence[Group]) -> Examples:
    """Return the examples of all groups.

    The positives of all groups together weigh as much as the negatives. Within a kind, each group
    has its own weight, however many examples it has.
    """
    groups = [group for group in groups if len(group.positive_L)]
    if not groups:
        return Examples(np.empty((0, 0)), np.empty(0, bool), np.empty(0))
    weights = [np.zeros(len(group.positive_L)) for group in groups]
    for kind in (True, False):
        members = [group.positive_L == kind for group in groups]
        total = sum(group.weight for group, own in zip(groups, members, strict=True) if own.any())
        for group, own, weight_L in zip(groups, members, weights, strict=True):
            if own.any():
                weight_L[own] = group.weight / total / own.sum()
    return Examples(
        np.concatenate([group.features_LF for group in groups]),
        np.concatenate([group.positive_L for group in groups]),
        np.concatenate(weights),
    )
