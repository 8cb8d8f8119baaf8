"""Find pictures that occur twice, or look like one of another split."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.perceptual_hash import BYTES, MAX_CANDIDATES, find_nearest
from raydistill.galaxies.selection import SPLITS
from raydistill.log import get_logger
from raydistill.stages.curate.artifact import NEAR_DUPLICATES, NEAR_DUPLICATES_SCHEMA
from raydistill.storage import Folder

# A picture of the test split that was used for training makes a result look better than it is. Rows
# arrive in order of their split: train, validation, test.

log = get_logger(__name__)


def fingerprint(pixels: np.ndarray) -> int:
    """Return 64 bits that identify the pixels uint8 `[H, W, 3]` of a curated picture."""
    return int.from_bytes(hashlib.blake2b(pixels.tobytes(), digest_size=8).digest(), "big")


class DuplicateFinder:
    """Compare pictures with those of earlier splits, in 16 bytes of memory per galaxy.

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
        original = next((original for original in originals if original is not None), None)
        if original is not None:
            pair = f"{SPLITS[int(self._split_of_rank[original])]}/{SPLITS[split]}"
            self.counts[pair] = self.counts.get(pair, 0) + 1
            self.first = self.first or (rank, original)
        return original

    def remember(self, rank: int, value: int) -> None:
        """Compare later pictures with this one."""
        self._fingerprints[rank], self._is_written[rank] = value, True

    def repeated(self) -> tuple[dict[str, int], tuple[int, int] | None]:
        """Return the pictures that occur earlier in their own split.

        Their number by pair of splits, such as "train/train", and the ranks of the first one and
        of its original, or None.
        """
        counts, pairs = {}, []
        for split, name in enumerate(SPLITS):
            values, ranks = self._sorted(split)
            copies = np.flatnonzero(values[1:] == values[:-1]) + 1
            if len(copies):
                counts[f"{name}/{name}"] = len(copies)
                first = copies[np.argmin(ranks[copies])]
                pairs.append((int(ranks[first]), int(ranks[np.searchsorted(values, values[first])])))
        return counts, min(pairs, default=None)

    def in_two_classes(self, label_of_rank: np.ndarray) -> tuple[int, tuple[int, int] | None]:
        """Count the copies whose original has another class, and return the first pair.

        Parameters
        ----------
        label_of_rank : int `[N]`
        """
        ranks = np.flatnonzero(self._is_written)
        _, first, group = np.unique(self._fingerprints[ranks], return_index=True, return_inverse=True)
        originals = ranks[first][group]
        wrong = np.flatnonzero(label_of_rank[ranks] != label_of_rank[originals])
        return len(wrong), (int(ranks[wrong[0]]), int(originals[wrong[0]])) if len(wrong) else None

    def _look_up(self, split: int, value: int) -> int | None:
        """Return the rank of the picture in a finished split, or None."""
        values, ranks = self._sorted(split)
        index = int(np.searchsorted(values, np.uint64(value)))
        return int(ranks[index]) if index < len(values) and int(values[index]) == value else None

    def _sorted(self, split: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the sorted fingerprints of a finished split, and their ranks."""
        if split not in self._finished:
            ranks = np.flatnonzero((self._split_of_rank == split) & self._is_written)
            ranks = ranks[np.argsort(self._fingerprints[ranks], kind="stable")]
            self._finished[split] = self._fingerprints[ranks], ranks
        return self._finished[split]


def check_duplicates(finder: DuplicateFinder, galaxies: pa.Table, choice: str) -> None:
    """Report pictures that occur twice; `choice` is `curate.duplicates`.

    CatalogError if it rejects those of two splits.
    """
    ids = galaxies["object_id"]
    numbers, first = finder.repeated()
    if first is not None:
        counts = ", ".join(f"{count} in {pair.partition('/')[0]}" for pair, count in numbers.items())
        copy, original = (ids[rank].as_py() for rank in first)
        what = "curate: pictures occur twice in a split: %s (first: %s equals %s); each copy counts as a galaxy"
        log.warning(what, counts, copy, original)
    count, pair = finder.in_two_classes(galaxies["label"].to_numpy())
    if pair is not None:
        copy, original = (ids[rank].as_py() for rank in pair)
        what = "curate: %d pictures have the label of one class and occur in another, too (first: %s equals %s)"
        log.warning(what, count, copy, original)
    if finder.first is None:
        return
    copy, original = (ids[rank].as_py() for rank in finder.first)
    counts = ", ".join(f"{count} {pair.replace('/', ' and ')}" for pair, count in finder.counts.items())
    what = f"pictures occur in two splits: {counts} (first: {copy} equals {original})"
    if choice == "reject":
        raise CatalogError(what, "curate.duplicates", "remove them from the survey, or set it to drop")
    consequence = ", so test results are too good; curate.duplicates=drop removes them"
    log.warning("curate: %s%s", what, "; they are left out" if choice == "drop" else consequence)


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

    def find(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """Return the pictures that look like one of an earlier split.

        Their ranks, those of the earlier ones, and the number of different bits, int64 [N] each;
        False if so many pictures look alike that the search was stopped.
        """
        pairs, left = [], MAX_CANDIDATES
        for split in (1, 2):
            later = np.flatnonzero((self._split_of_rank == split) & self._has_hash)
            earlier = np.flatnonzero((self._split_of_rank < split) & self._has_hash)
            rows, others, distances, used = find_nearest(self._hashes[later], self._hashes[earlier], left)
            pairs.append((later[rows], earlier[others], distances))
            left -= used
        ranks, others, distances = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        return ranks, others, distances, left >= 0


def write_near_duplicates(folder: Folder, finder: NearDuplicateFinder, galaxies: pa.Table) -> dict[str, int]:
    """Write the pictures that look like one of an earlier split, and warn of them.

    Returns
    -------
    dict
        Their number by pair of splits, such as "train/test". If it is empty, nothing is written.
    """
    nearest, other, distances, is_complete = finder.find()
    if not is_complete:
        log.warning("curate: too many pictures look alike: not all were compared for near duplicates")
    columns = {}
    for prefix, ranks in (("", nearest), ("other_", other)):
        kept = galaxies.take(ranks)
        columns[f"{prefix}id"] = kept["object_id"]
        columns[f"{prefix}split"] = pa.array([SPLITS[split] for split in kept["split"].to_pylist()], pa.string())
    pairs = Counter(zip(columns["other_split"].to_pylist(), columns["split"].to_pylist(), strict=True))
    for (earlier, later), count in sorted(pairs.items()):
        what = (
            "curate: %d pictures of %s look like one of %s (%s); look at the pairs, and remove copies from the survey"
        )
        log.warning(what, count, later, earlier, NEAR_DUPLICATES)
    if pairs:
        table = pa.table([*columns.values(), distances], names=NEAR_DUPLICATES_SCHEMA.names)
        with folder.writing(NEAR_DUPLICATES) as path:
            pq.write_table(table.cast(NEAR_DUPLICATES_SCHEMA), path)
    return {f"{earlier}/{later}": count for (earlier, later), count in sorted(pairs.items())}
