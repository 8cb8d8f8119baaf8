"""Measure a classifier on groups: the galaxies of a class in a bin of a nuisance.

- Completeness per class and bin; the worst group is the one with the lowest completeness.
- Bias: the slope of p(true class) with the nuisance at fixed true class,

      s = sum_i (x_i - m(x | y_i)) (p_i - m(p | y_i)) / sum_i (x_i - m(x | y_i))^2,

  where m(. | y) is the mean over a class. A classifier that does not depend on the nuisance has a
  slope of 0.

Shape letters: N galaxies, K classes, M bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raydistill.learning.networks import Network

BATCH = 64

LOGARITHMIC = ("petro_r90",)  # columns whose slope is per decade


@dataclass(frozen=True)
class Groups:
    """The bins of one column.

    Attributes
    ----------
    column
        Name of the nuisance.
    values_N
        Its values; NaN where it is unknown.
    edges
        Lower and upper edges of all bins, M + 1 numbers.
    """

    column: str
    values_N: np.ndarray
    edges: tuple[float, ...]

    @staticmethod
    def of(column: str, values_N: np.ndarray, num_bins: int) -> Groups:
        """Return bins at the values' quantiles; ValueError if fewer than two differ."""
        known = values_N[np.isfinite(values_N)]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, num_bins + 1))) if len(known) else known
        if len(edges) < 2:
            raise ValueError(f"{'no' if not len(known) else 'only one'} value of {column} is known")
        return Groups(column, values_N, tuple(edges.tolist()))

    @property
    def bins(self) -> np.ndarray:
        """Return the bin of each galaxy; -1 where the value is unknown."""
        found = np.searchsorted(self.edges[1:-1], self.values_N, side="right")
        return np.where(np.isfinite(self.values_N), found, -1)


@torch.no_grad()
def predict_probabilities(network: Network, theta_P: Tensor, images_NCHW: Tensor) -> np.ndarray:
    """Return the class probabilities of each image, float64 [N, K]."""
    logits = [network(theta_P, images) for images in images_NCHW.split(BATCH)]
    return torch.cat(logits).double().softmax(dim=1).cpu().numpy()


def measure(groups: Groups, probabilities_NK: np.ndarray, labels_N: np.ndarray) -> dict[str, Any]:
    """Return the counts and the slope of one network.

    Returns
    -------
    dict
        `correct`: the right classifications, K lists of M integers; `slope`, None where it is undefined.
    """
    num_classes, num_bins = probabilities_NK.shape[1], len(groups.edges) - 1
    bins, right_N = groups.bins, probabilities_NK.argmax(axis=1) == labels_N
    correct = np.zeros((num_classes, num_bins), int)
    np.add.at(correct, (labels_N[(bins >= 0) & right_N], bins[(bins >= 0) & right_N]), 1)
    own = probabilities_NK[np.arange(len(labels_N)), labels_N]
    return {"column": groups.column, "correct": correct.tolist(), "slope": _slope(groups, own, labels_N)}


def counts(groups: Groups, labels_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the number of galaxies of each group, [K, M]."""
    bins = groups.bins
    total = np.zeros((num_classes, len(groups.edges) - 1), int)
    np.add.at(total, (labels_N[bins >= 0], bins[bins >= 0]), 1)
    return total


def _slope(groups: Groups, probabilities_N: np.ndarray, labels_N: np.ndarray) -> float | None:
    with np.errstate(divide="ignore", invalid="ignore"):
        x_N = np.log10(groups.values_N) if groups.column in LOGARITHMIC else groups.values_N
    known = np.isfinite(x_N)
    x, p, labels = x_N[known].astype(np.float64), probabilities_N[known].astype(np.float64), labels_N[known]
    for label in np.unique(labels):
        own = labels == label
        x[own] -= x[own].mean()
        p[own] -= p[own].mean()
    variance = float(x @ x)
    return float(x @ p) / variance if variance > 0 else None
