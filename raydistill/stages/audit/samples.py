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
    Of each class, all samples have as many pictures as the smallest set, or in proportion if that
    exceeds the limit. A class without synthetic pictures keeps its share of the held-out ones, so
    that it is missed.
    """
    if isinstance(synthetic, int):
        counts = (synthetic, len(held_out_labels), len(training_labels))
        size = min(largest, *counts)
        return Samples(*(_rows(np.zeros(count, np.int64), np.array([size]), seed, n) for n, count in enumerate(counts)))
    labels = (synthetic, held_out_labels, training_labels)
    num_classes = max(one.max(initial=0) for one in labels) + 1
    available = np.stack([np.bincount(one, minlength=num_classes) for one in labels])
    common_K, absent_K = available.min(0), available[0] == 0
    share_K = np.where(absent_K, available[1:].min(0) / max(available[1].sum(), 1), 0.0)
    size = min(largest, int(common_K.sum()))
    present_K = common_K / max(common_K.sum(), 1)
    real_K = _divide(size, share_K + present_K * (1 - share_K.sum()))
    counts_K = (_divide(size, present_K), real_K, real_K)
    return Samples(*(_rows(one, count, seed, n) for n, (one, count) in enumerate(zip(labels, counts_K, strict=True))))


def _divide(size: int, shares_K: npt.NDArray[np.float64]) -> Ints:
    """Divide a size by shares that sum to 1, by largest remainders."""
    exact_K = shares_K * size
    counts_K = np.floor(exact_K + 1e-9).astype(np.int64)
    largest_first = np.argsort(-(exact_K - counts_K), kind="stable")
    counts_K[largest_first[: size - counts_K.sum()]] += 1
    return counts_K


def _rows(labels_N: Ints, counts_K: Ints, seed: int, sample: int) -> Ints:
    """Return so many random rows of each label, sorted."""
    rng = np.random.default_rng(fold_in(seed, "sample", sample))
    order = rng.permutation(len(labels_N))
    drawn = [order[labels_N[order] == label][:count] for label, count in enumerate(counts_K)]
    return np.sort(np.concatenate(drawn))
