"""Divide the galaxies of each class among train, validation and test.

The hash of its id places a galaxy, whatever else the table holds. A small class may then lack a
split, and nothing could be measured for it. The galaxies of such a class are ranked by their hashes
and divided by rank. A class of one or two is ranked if it would have no training galaxy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raydistill.galaxies.selection import SPLITS, assign_splits, hash_of_split

SMALLEST_CLASS = 3  # galaxies: one for each split


def assign_class_splits(
    object_ids: Sequence[str], labels: Sequence[int], fractions: tuple[float, float, float]
) -> tuple[list[str], list[int]]:
    """Assign splits to galaxies so that each class has all splits, or at least train.

    Parameters
    ----------
    object_ids : sequence of str
    labels : sequence of int
        Class of each galaxy.
    fractions : tuple of three floats
        Fractions of train, validation and test. A class needs no galaxy in a split whose fraction
        is zero.

    Returns
    -------
    splits : list of str
        As `assign_splits`, except for the galaxies of the classes in `ranked`.
    ranked : list of int
        The classes of three or more that lacked a split, and smaller ones that lacked train. Their
        galaxies are divided by the rank of their hash: each split has at least one galaxy, and
        sizes are as close to the fractions as possible. Two galaxies are for train and test.
    """
    splits = assign_splits(object_ids, fractions).astype("<U10")
    needed = [name for name, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]
    classes, own_class = np.unique(np.asarray(labels, np.int64), return_inverse=True)
    sizes = np.bincount(own_class, minlength=len(classes))
    lacks = {name: np.bincount(own_class[splits == name], minlength=len(classes)) == 0 for name in needed}
    lacks_one = np.any([*lacks.values()], axis=0)
    lacks_train = lacks.get("train", np.zeros(len(classes), bool))
    ranked = np.flatnonzero(np.where(sizes >= SMALLEST_CLASS, lacks_one, lacks_train))
    for index in ranked:
        rows = np.flatnonzero(own_class == index).tolist()
        rows.sort(key=lambda row: (hash_of_split(object_ids[row]), object_ids[row]))
        splits[rows] = np.repeat(SPLITS, _sizes(len(rows), fractions))
    return splits.tolist(), classes[ranked].tolist()


def _sizes(count: int, fractions: tuple[float, float, float]) -> list[int]:
    """Return the sizes of the splits, at least one where the fraction is positive."""
    sizes = [int(fraction > 0) for fraction in fractions]
    for split in (1, 2):  # with fewer galaxies than splits, validation has none, and then test
        sizes[split] *= sum(sizes) <= count
    for _ in range(count - sum(sizes)):
        deficits = [
            fraction * count - size if fraction > 0 else -np.inf
            for fraction, size in zip(fractions, sizes, strict=True)
        ]
        sizes[int(np.argmax(deficits))] += 1
    return sizes
