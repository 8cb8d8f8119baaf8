"""Draw the three samples of an audit: synthetic, held-out and training pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raydistill.seeding import fold_in

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """Rows of the three samples, n of each, sorted.

    Attributes
    ----------
    synthetic, held_out, training
        int64 [n], rows of the sets from which they are drawn.
    """

    synthetic: Ints
    held_out: Ints
    training: Ints

    def __len__(self) -> int:
        return len(self.synthetic)


def draw_samples(
    synthetic: int | Ints, held_out_labels: Ints, training_labels: Ints, largest: int, seed: int
) -> Samples:
    """Return samples of one size, as large as the sets allow.

    Parameters
    ----------
    synthetic
        Number of synthetic pictures; or their labels int64 [N], and all samples get the same class
        proportions.
    held_out_labels, training_labels
        int64, labels of the real galaxies.
    largest
        Limit of the size.
    seed
        Decides the rows.

    Notes
    -----
    The proportions are those of the synthetic or of the held-out pictures, whichever allows the
    larger samples. A class without synthetic pictures keeps its share of the real ones, so that it
    is missed.
    """
    if isinstance(synthetic, int):
        counts = (synthetic, len(held_out_labels), len(training_labels))
        size = min(largest, *counts)
        return Samples(*(_rows(np.zeros(count, np.int64), np.array([size]), seed, n) for n, count in enumerate(counts)))
    labels = (synthetic, held_out_labels, training_labels)
    num_classes = max(one.max(initial=0) for one in labels) + 1
    available = np.stack([np.bincount(one, minlength=num_classes) for one in labels])
    of_synthetic_K, of_held_out_K = available[:2] / np.maximum(available[:2].sum(1, keepdims=True), 1)
    absent_K = available[0] == 0
    absent = of_held_out_K[absent_K].sum()
    of_survey_K = np.where(absent_K, 0, of_held_out_K) / max(1 - absent, 1e-9)
    choices = [
        _largest(available, np.stack([present_K, real_K, real_K]), largest)
        for present_K in (of_synthetic_K, of_survey_K)
        for real_K in [np.where(absent_K, of_held_out_K, present_K * (1 - absent))]
    ]
    counts_K = max(choices, key=np.sum)
    return Samples(*(_rows(one, count, seed, n) for n, (one, count) in enumerate(zip(labels, counts_K, strict=True))))


def _largest(available: Ints, shares: npt.NDArray[np.float64], largest: int) -> Ints:
    """Return the counts [3, K] of the largest samples with these shares."""
    size = largest
    while size and (_divide(size, shares) > available).any():
        size -= 1
    return _divide(size, shares)


def _divide(size: int, shares: npt.NDArray[np.float64]) -> Ints:
    """Divide a size by the shares [..., K], by largest remainders."""
    exact = shares * size
    counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - counts), axis=-1, kind="stable")
    ranks = np.argsort(order, axis=-1, kind="stable")
    return counts + (ranks < size - counts.sum(-1, keepdims=True))


def _rows(labels_N: Ints, counts_K: Ints, seed: int, sample: int) -> Ints:
    """Return so many random rows of each label, sorted."""
    rng = np.random.default_rng(fold_in(seed, "sample", sample))
    order = rng.permutation(len(labels_N))
    drawn = [order[labels_N[order] == label][:count] for label, count in enumerate(counts_K)]
    return np.sort(np.concatenate(drawn))
