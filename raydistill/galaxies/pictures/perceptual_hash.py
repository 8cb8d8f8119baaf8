"""Hash pictures so that altered copies of a picture differ in few bits.

Galaxies on a black sky share their symmetric light, and the usual hashes take many of them for
copies. This hash holds the signs of those cosine coefficients that change sign if the picture is
mirrored. They come from arms, neighbours and noise, which two galaxies do not share.

`benchmarks/near_duplicates.py` measures how many copies are found, and how many other galaxies.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np

BITS = 192
BYTES = BITS // 8
MAX_DISTANCE = 15  # bits; of 8.6e7 pairs of different galaxies the closest differ in 20
MIN_SIZE = 16  # px; smaller pictures have fewer coefficients

BANDS = 16
BAND_BITS = BITS // BANDS  # two hashes within MAX_DISTANCE < BANDS are equal in a band of 12 bits

_PIXELS_AT_ONCE = 2**16  # fit into the cache
_FREQUENCIES = 22  # in each direction
_AMPLITUDE = 31  # of the cosines, which are rounded: sums of integers are the same on every machine
_ROUNDING = 0.5  # standard deviation of the sum of three channels from rounding to levels


def perceptual_hashes(pixels_NHWC: np.ndarray) -> list[bytes | None]:
    """Return the hash of each curated picture.

    Parameters
    ----------
    pixels_NHWC : uint8 `[N, S, S, 3]`
        Pictures together take a fifth of the time that one after the other takes.

    Returns
    -------
    list of bytes or None
        `BYTES` bytes each. None if the picture is smaller than `MIN_SIZE`, or if more than half of
        the coefficients are as small as the rounding of its levels: it is flat, or symmetric and
        drawn.
    """
    count, size = pixels_NHWC.shape[:2]
    if size < MIN_SIZE:
        return [None] * count
    at_once = max(1, _PIXELS_AT_ONCE // size**2)
    hashes: list[bytes | None] = []
    for first in range(0, count, at_once):
        hashes += _hash_together(pixels_NHWC[first : first + at_once], size)
    return hashes


def _hash_together(pixels_NHWC: np.ndarray, size: int) -> list[bytes | None]:
    cosines, chosen = _basis(size)
    grey_NHW = pixels_NHWC[..., 0].astype(np.float32)
    grey_NHW += pixels_NHWC[..., 1]
    grey_NHW += pixels_NHWC[..., 2]
    rows_NHF = (grey_NHW.reshape(-1, size) @ cosines.T.astype(np.float32)).reshape(len(grey_NHW), size, -1)
    coefficients = (cosines @ rows_NHF).reshape(len(grey_NHW), -1)[:, chosen]
    rounding = _ROUNDING * size / 2 * _AMPLITUDE**2
    is_usable = (np.abs(coefficients) > rounding).sum(axis=1) >= BITS / 2
    packed = np.packbits(coefficients > 0, axis=1)
    return [row.tobytes() if usable else None for row, usable in zip(packed, is_usable, strict=True)]


@lru_cache
def _basis(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines `[frequencies, size]` and flat indices of `BITS` coefficients.

    The lowest frequencies come first. They are then dealt to the bands, so that every band has low
    and high ones.
    """
    count = min(_FREQUENCIES, size)
    u, v = np.meshgrid(range(count), range(count), indexing="ij")
    order = np.lexsort((u.ravel(), np.maximum(u, v).ravel(), (u + v).ravel()))
    is_odd = ((u | v) & 1).ravel() == 1
    chosen = order[is_odd[order]][:BITS].reshape(BAND_BITS, BANDS).T.ravel()
    phase = np.pi * np.arange(count)[:, None] * (np.arange(size) + 0.5) / size
    return np.rint(_AMPLITUDE * np.cos(phase)), chosen


# Find pictures that look alike, by their perceptual hashes.
#
# The hashes of two such pictures differ in at most `MAX_DISTANCE` bits, so at least one of their bands
# is equal. Sorted tables of each band give the candidates, and their distance decides.

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
    query_words, reference_words = (np.ascontiguousarray(hashes).view(np.uint64) for hashes in (queries, references))
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
    matched = np.flatnonzero(best < (MAX_DISTANCE + 1) * count)
    return matched, best[matched] % count, best[matched] // count, used


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
