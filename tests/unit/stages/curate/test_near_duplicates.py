"""Pictures that resemble one of another split: the search, its file and warnings."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.galaxies.pictures import perceptual_hash
from raydistill.galaxies.pictures.perceptual_hash import BYTES, MAX_DISTANCE, find_nearest
from raydistill.stages.curate.artifact import NEAR_DUPLICATES
from raydistill.stages.curate.filter import duplicates
from raydistill.stages.curate.filter.duplicates import NearDuplicateFinder, write_near_duplicates
from raydistill.storage import Folder


def random_hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, BYTES), dtype=np.uint8)


def flip(value: np.ndarray, bits: list[int]) -> np.ndarray:
    """Return a hash that differs in these bits."""
    changed = np.unpackbits(value)
    changed[bits] ^= 1
    return np.packbits(changed)


def brute_force(queries: np.ndarray, references: np.ndarray) -> list[tuple[int, int, int]]:
    result = []
    for row, query in enumerate(queries):
        distances = np.bitwise_count(query ^ references).sum(axis=1, dtype=int)
        if len(distances) and distances.min() <= MAX_DISTANCE:
            result.append((row, int(distances.argmin()), int(distances.min())))
    return result


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 191), max_size=20, unique=True))), st.integers(0, 9)
)
def test_search_finds_what_comparing_all_pairs_finds(changes, count):
    references = random_hashes(10)[:count]
    queries = np.array([flip(random_hashes(10)[i], bits) for i, bits in changes], np.uint8).reshape(-1, BYTES)
    rows, others, distances, _ = find_nearest(queries, references)
    result = list(zip(rows.tolist(), others.tolist(), distances.tolist(), strict=True))
    assert result == brute_force(queries, references)


@pytest.mark.parametrize("at_once", [1, 7, 2**16])
def test_search_in_parts_finds_the_same(monkeypatch, at_once):
    monkeypatch.setattr(perceptual_hash, "CANDIDATES_AT_ONCE", at_once)
    base = random_hashes(30)
    rng = np.random.default_rng(1)
    queries = np.array([flip(base[i % 30], rng.choice(192, i % 20, replace=False).tolist()) for i in range(200)])
    references = np.concatenate([base, base, base])  # many candidates per query
    rows, others, distances, used = find_nearest(queries, references)
    assert list(zip(rows.tolist(), others.tolist(), distances.tolist(), strict=True)) == brute_force(
        queries, references
    )
    assert others.max() < 30, "the first of equal pictures"
    assert used < 200 * 90 * 16


def test_bits_of_one_band_or_spread_over_all_do_not_matter():
    base = random_hashes(1)
    for bits in (list(range(MAX_DISTANCE)), list(range(0, 180, 12)), list(range(11, 191, 12))):
        assert find_nearest(flip(base[0], bits)[None], base)[2].tolist() == [MAX_DISTANCE]
    assert not len(find_nearest(flip(base[0], list(range(MAX_DISTANCE + 1)))[None], base)[0])


def finder_of(splits: list[int], hashes: list[bytes | None]) -> NearDuplicateFinder:
    finder = NearDuplicateFinder(np.array(splits, np.int8))
    for rank, value in enumerate(hashes):
        finder.remember(rank, value)
    return finder


def test_only_earlier_splits_are_compared():
    base = random_hashes(2)
    a, near_a, b = base[0].tobytes(), flip(base[0], [3, 100]).tobytes(), base[1].tobytes()
    *found, is_complete = finder_of([0, 0, 0, 1, 1, 2, 2, 2], [a, a, None, near_a, None, a, b, b]).find()
    assert list(zip(*(column.tolist() for column in found), strict=True)) == [
        (3, 0, 2),
        (5, 0, 0),
    ]
    assert is_complete


def test_search_stops_if_too_many_pictures_look_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(duplicates, "MAX_CANDIDATES", 1000)
    same = random_hashes(1)[0].tobytes()
    finder = finder_of([0] * 40 + [1] * 40, [same] * 80)
    galaxies = pa.table({"object_id": [str(n) for n in range(80)], "split": pa.array([0] * 40 + [1] * 40, pa.int8())})
    write_near_duplicates(Folder(tmp_path), finder, galaxies)
    assert "too many pictures look alike: not all were compared" in caplog.text


GALAXIES = pa.table({"object_id": ["a", "b", "c", "d", "e"], "split": pa.array([0, 0, 1, 2, 2], pa.int8())})


def test_pairs_are_written_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = random_hashes(2)
    hashes = [base[0], base[1], flip(base[1], [5]), flip(base[0], [1, 2, 3]), flip(base[1], [7])]
    finder = finder_of(GALAXIES["split"].to_pylist(), [hash_.tobytes() for hash_ in hashes])
    with caplog.at_level(logging.WARNING, "raydistill"):
        counts = write_near_duplicates(Folder(tmp_path), finder, GALAXIES)
    assert counts == {"train/test": 2, "train/validation": 1}
    rows = pq.read_table(io.BytesIO(Folder(tmp_path).read(NEAR_DUPLICATES))).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("c", "validation", "b", "train", 1),
        ("d", "test", "a", "train", 3),
        ("e", "test", "b", "train", 1),
    ]
    assert "2 pictures of test look like one of train (near_duplicates.parquet); look at the pairs, and" in caplog.text


def test_survey_without_pairs_has_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finder = finder_of(GALAXIES["split"].to_pylist(), [hash_.tobytes() for hash_ in random_hashes(5)])
    assert write_near_duplicates(Folder(tmp_path), finder, GALAXIES) == {}
    assert not Folder(tmp_path).exists(NEAR_DUPLICATES)
    assert not caplog.text
