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
        Number of synthetic pictures; or their labels int64 [N], and the real ones get their
        proportions.
    held_out_labels, training_labels
        int64, labels of the real galaxies.
    largest
        Limit of the size.
    seed
        Decides the rows.

    Notes
    -----
    A class without synthetic pictures keeps its share of the held-out galaxies, so that it is
    missed.
    """
    if isinstance(synthetic, int):
        size = min(largest, synthetic, len(held_out_labels), len(training_labels))
        counts = (synthetic, len(held_out_labels), len(training_labels))
        return Samples(*(_rows(np.zeros(count, np.int64), np.array([size]), seed, n) for n, count in enumerate(counts)))
    labels = (synthetic, held_out_labels, training_labels)
    num_classes = max(one.max(initial=0) for one in labels) + 1
    available = np.stack([np.bincount(one, minlength=num_classes) for one in labels])
    shares_K = available[0] / available[0].sum()
    real_shares_K = available[1] / max(available[1].sum(), 1)
    absent_K = shares_K == 0
    real_shares_K = np.where(absent_K, real_shares_K, shares_K * (1 - real_shares_K[absent_K].sum()))
    wanted = np.stack([shares_K, real_shares_K, real_shares_K])
    size = largest
    while size and (_divide(size, wanted) > available).any():
        size -= 1
    counts_K = _divide(size, wanted)
    return Samples(*(_rows(one, count, seed, n) for n, (one, count) in enumerate(zip(labels, counts_K, strict=True))))


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
