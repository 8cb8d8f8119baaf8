"""Find pictures that look alike, by their perceptual hashes.

The hashes of two such pictures differ in at most `MAX_DISTANCE` bits, so at least one of their bands
is equal. Sorted tables of each band give the candidates, and their distance decides.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from raydistill.galaxies.pictures.perceptual_hash import BAND_BITS, BANDS, BYTES, MAX_DISTANCE

CANDIDATES_AT_ONCE = 2**16  # fits into the cache; a core compares 20 million a second
MAX_CANDIDATES = 2**31  # of all bands; 240,000 galaxies have 3e7

_WORDS = BYTES // 8


def find_nearest(
    queries: np.ndarray, references: np.ndarray, max_candidates: int = MAX_CANDIDATES
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Find the closest reference within `MAX_DISTANCE` of each query.

    Parameters
    ----------
    queries, references : uint8 `[Q, BYTES]` and `[R, BYTES]`
    max_candidates
        Number of pairs after which the search stops.

    Returns
    -------
    rows, others, distances : int64 `[N]`
        The queries with such a reference in order, the first of the closest ones, and its distance.
    used : int
        Number of pairs compared; more than `max_candidates` if the search was stopped.
    """
    count = max(1, len(references))
    best = np.full(len(queries), (MAX_DISTANCE + 1) * count, np.int64)  # distance * count + reference
    query_words, reference_words = (np.ascontiguousarray(one).view(np.uint64) for one in (queries, references))
    query_codes, reference_codes = _band_codes(queries), _band_codes(references)
    used = 0
    for band in range(BANDS):
        order = np.argsort(reference_codes[band], kind="stable")
        codes = reference_codes[band][order]
        first = np.searchsorted(codes, query_codes[band], "left")
        sizes = np.searchsorted(codes, query_codes[band], "right") - first
        used += int(sizes.sum())
        if used > max_candidates:
            break
        for part in _parts(sizes):
            rows = np.repeat(np.arange(part.start, part.stop), sizes[part])
            starts = np.repeat(first[part] - np.cumsum(sizes[part]) + sizes[part], sizes[part])
            others = order[starts + np.arange(len(rows))]
            distances = np.zeros(len(rows), np.int64)
            for word in range(_WORDS):
                distances += np.bitwise_count(query_words[rows, word] ^ reference_words[others, word])
            near = distances <= MAX_DISTANCE
            np.minimum.at(best, rows[near], distances[near] * count + others[near])
    found = np.flatnonzero(best < (MAX_DISTANCE + 1) * count)
    return found, best[found] % count, best[found] // count, used


def _band_codes(hashes: np.ndarray) -> np.ndarray:
    """Return the bands of hashes uint8 `[N, BYTES]` as uint16 `[BANDS, N]`."""
    bits = BAND_BITS * 2
    threes = hashes.reshape(len(hashes), BANDS // 2, bits // 8).astype(np.uint16)  # two bands in three bytes
    first = threes[..., 0] << 4 | threes[..., 1] >> 4
    second = (threes[..., 1] & 15) << 8 | threes[..., 2]
    return np.ascontiguousarray(np.stack([first, second], axis=2).reshape(len(hashes), BANDS).T)


def _parts(sizes: np.ndarray) -> list[slice]:
    """Return slices of queries with about `CANDIDATES_AT_ONCE` candidates each."""
    ends = np.cumsum(sizes)
    limits = np.arange(CANDIDATES_AT_ONCE, ends[-1] if len(ends) else 0, CANDIDATES_AT_ONCE)
    cuts = [0, *np.unique(np.searchsorted(ends, limits) + 1).tolist(), len(sizes)]
    return [slice(start, stop) for start, stop in pairwise(cuts) if start < stop]
