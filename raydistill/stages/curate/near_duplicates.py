"""Find pictures that look like one of another split, such as a recompressed copy."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.galaxies.pictures.hash_search import MAX_CANDIDATES, find_nearest
from raydistill.galaxies.pictures.perceptual_hash import BYTES
from raydistill.galaxies.selection import SPLITS
from raydistill.log import get_logger
from raydistill.stages.curate.artifact import NEAR_DUPLICATES, NEAR_DUPLICATES_SCHEMA
from raydistill.storage import Folder

log = get_logger(__name__)


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
    """Collect and compare hashes of different splits, in 25 bytes per galaxy.

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
