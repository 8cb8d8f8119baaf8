"""Find pictures that look like one of another split, such as a copy that was compressed again.

The hashes of two such pictures differ in at most `MAX_DISTANCE` bits, so at least one of their bands
is equal. Sorted tables of each band give the candidates, and their distance decides.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.curated import NEAR_DUPLICATES, NEAR_DUPLICATES_SCHEMA
from raydistill.galaxies.pictures.perceptual_hash import BAND_BITS, BANDS, BYTES, MAX_DISTANCE
from raydistill.galaxies.selection import SPLITS
from raydistill.log import get_logger
from raydistill.storage import Folder

log = get_logger(__name__)

CANDIDATES_AT_ONCE = 2**16  # fits into the cache; a core compares 20 million a second
MAX_CANDIDATES = 2**31  # of all bands; 240,000 galaxies have 3e7

_WORDS = BYTES // 8


class Nearest(NamedTuple):
    """The closest picture of an earlier split, for each picture that has one.

    Attributes
    ----------
    ranks, others, distances : int64 `[N]`
        Rank of the picture and of the earlier one, and the number of different bits.
    is_complete
        False if so many pictures look alike that the search was stopped.
    """

    ranks: np.ndarray
    others: np.ndarray
    distances: np.ndarray
    is_complete: bool


class NearDuplicateFinder:
    """Collect hashes and compare those of different splits, in 25 bytes of memory per galaxy.

    Parameters
    ----------
    split_of_rank : int8 `[N]`
        Index in `SPLITS` of each galaxy, in order of rank.
    """

    def __init__(self, split_of_rank: np.ndarray) -> None:
        self._split_of_rank = split_of_rank
        self._hashes = np.zeros((len(split_of_rank), BYTES), np.uint8)
        self._has_hash = np.zeros(len(split_of_rank), bool)

    def remember(self, rank: int, value: bytes | None) -> None:
        """Compare this picture with those of other splits; None: it cannot be compared."""
        if value is not None:
            self._hashes[rank], self._has_hash[rank] = np.frombuffer(value, np.uint8), True

    def find(self) -> Nearest:
        """Return the pictures that look like one of an earlier split."""
        found, left = [], MAX_CANDIDATES
        for split in (1, 2):
            later = np.flatnonzero((self._split_of_rank == split) & self._has_hash)
            earlier = np.flatnonzero((self._split_of_rank < split) & self._has_hash)
            rows, others, distances, used = find_nearest(self._hashes[later], self._hashes[earlier], left)
            found.append((later[rows], earlier[others], distances))
            left -= used
        ranks, others, distances = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Nearest(ranks, others, distances, left >= 0)


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


def write_near_duplicates(folder: Folder, finder: NearDuplicateFinder, galaxies: pa.Table) -> dict[str, int]:
    """Write the pictures that look like one of an earlier split, and warn of them.

    Returns
    -------
    dict
        Their number by pair of splits, such as "train/test". If it is empty, nothing is written.
    """
    nearest = finder.find()
    if not nearest.is_complete:
        log.warning("curate: too many pictures look alike: not all were compared for near duplicates")
    columns = {}
    for prefix, ranks in (("", nearest.ranks), ("other_", nearest.others)):
        own = galaxies.take(ranks)
        columns[f"{prefix}id"] = own["object_id"]
        columns[f"{prefix}split"] = pa.array([SPLITS[split] for split in own["split"].to_pylist()], pa.string())
    pairs = Counter(zip(columns["other_split"].to_pylist(), columns["split"].to_pylist(), strict=True))
    for (earlier, later), count in sorted(pairs.items()):
        what = (
            "curate: %d pictures of %s look like one of %s (%s); look at the pairs, and remove copies from the survey"
        )
        log.warning(what, count, later, earlier, NEAR_DUPLICATES)
    if pairs:
        table = pa.table([*columns.values(), nearest.distances], names=NEAR_DUPLICATES_SCHEMA.names)
        with folder.writing(NEAR_DUPLICATES) as path:
            pq.write_table(table.cast(NEAR_DUPLICATES_SCHEMA), path)
    return {f"{earlier}/{later}": count for (earlier, later), count in sorted(pairs.items())}
