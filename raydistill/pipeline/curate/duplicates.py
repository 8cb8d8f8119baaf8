"""Find pictures that occur in more than one split.

A picture of the test split that was used for training makes a result look better than it is. Rows
arrive in order of their split: train, validation, test.
"""

from __future__ import annotations

import hashlib

import numpy as np

from raydistill.galaxies.selection import SPLITS


def fingerprint(pixels: np.ndarray) -> int:
    """Return 64 bits that identify the pixels uint8 `[H, W, 3]` of a curated picture."""
    return int.from_bytes(hashlib.blake2b(pixels.tobytes(), digest_size=8).digest(), "big")


class DuplicateFinder:
    """Compare each picture with those of earlier splits, in 16 bytes of memory per galaxy.

    Parameters
    ----------
    split_of_rank : int8 `[N]`
        Index in `SPLITS` of each galaxy, in order of rank.
    """

    def __init__(self, split_of_rank: np.ndarray) -> None:
        self._split_of_rank = split_of_rank
        self._fingerprints = np.zeros(len(split_of_rank), np.uint64)
        self._is_written = np.zeros(len(split_of_rank), bool)
        self._finished: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by split: sorted fingerprints, their ranks
        self.counts: dict[str, int] = {}  # by pair of splits, such as "train/test"
        self.first: tuple[int, int] | None = None  # ranks of the first copy and of its original

    def find(self, rank: int, value: int) -> int | None:
        """Return the rank of an equal picture in an earlier split, or None; count it."""
        split = int(self._split_of_rank[rank])
        originals = (self._look_up(earlier, value) for earlier in range(split))
        original = next((found for found in originals if found is not None), None)
        if original is not None:
            pair = f"{SPLITS[int(self._split_of_rank[original])]}/{SPLITS[split]}"
            self.counts[pair] = self.counts.get(pair, 0) + 1
            self.first = self.first or (rank, original)
        return original

    def remember(self, rank: int, value: int) -> None:
        """Compare later pictures with this one."""
        self._fingerprints[rank], self._is_written[rank] = value, True

    def _look_up(self, split: int, value: int) -> int | None:
        """Return the rank of the picture in a finished split, or None."""
        if split not in self._finished:
            ranks = np.flatnonzero((self._split_of_rank == split) & self._is_written)
            ranks = ranks[np.argsort(self._fingerprints[ranks], kind="stable")]
            self._finished[split] = self._fingerprints[ranks], ranks
        values, ranks = self._finished[split]
        index = int(np.searchsorted(values, np.uint64(value)))
        return int(ranks[index]) if index < len(values) and int(values[index]) == value else None
