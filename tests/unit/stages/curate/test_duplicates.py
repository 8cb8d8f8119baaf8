"""Pictures that occur in two splits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.errors import CatalogError
from raydistill.stages.curate.artifact import SPLITS
from raydistill.stages.curate.filter.duplicates import DuplicateFinder, check_duplicates, fingerprint


def test_fingerprint_depends_on_the_pixels_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    changed = pixels.copy()
    changed[3, 4, 1] ^= 1
    assert fingerprint(pixels) == fingerprint(np.asfortranarray(pixels)) != fingerprint(changed)
    assert 0 <= fingerprint(pixels) < 2**64


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0, 1, 5, 2**63, 2**64 - 1])), max_size=30))
def test_copies_are_those_of_earlier_splits(rows):
    rows = sorted(rows, key=lambda row: row[0])
    finder = DuplicateFinder(np.array([split for split, _ in rows], np.int8))
    expected: Counter[str] = Counter()
    for rank, (split, value) in enumerate(rows):
        original = finder.find(rank, value)
        finder.remember(rank, value)
        earlier = [row for row, other in rows if row < split and other == value]
        assert (original is None) == (not earlier)
        if original is not None:
            assert rows[original] == (min(earlier), value)
            expected[f"{SPLITS[min(earlier)]}/{SPLITS[split]}"] += 1
    assert finder.counts == expected


def test_dropped_copy_is_no_original():
    finder = DuplicateFinder(np.array([0, 1, 2], np.int8))
    finder.find(0, 7)  # rejected: not remembered
    assert finder.find(1, 7) is None
    finder.remember(1, 7)
    assert finder.find(2, 7) == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=30))
def test_repeated_pictures_are_those_earlier_in_their_split(rows):
    rows = sorted(rows, key=lambda row: row[0])
    finder = DuplicateFinder(np.array([split for split, _ in rows], np.int8))
    for rank, (_, value) in enumerate(rows):
        finder.remember(rank, value)
    copies = [(rank, rows.index(row)) for rank, row in enumerate(rows) if rows.index(row) < rank]
    expected = Counter(f"{SPLITS[rows[rank][0]]}/{SPLITS[rows[rank][0]]}" for rank, _ in copies)
    assert finder.repeated() == (expected, min(copies, default=None))


GALAXIES = pa.table(
    {"object_id": ["a", "b", "c", "d"], "split": pa.array([0, 0, 0, 2], pa.int8()), "label": [0, 1, 0, 1]}
)


def finder_of(values: list[int]) -> DuplicateFinder:
    finder = DuplicateFinder(GALAXIES["split"].to_numpy())
    for rank, value in enumerate(values):
        finder.find(rank, value)
        finder.remember(rank, value)
    return finder


@pytest.mark.parametrize("choice", ["keep", "drop", "reject"])
def test_pictures_repeated_in_a_split_are_reported_and_kept(caplog, choice):
    check_duplicates(finder_of([3, 1, 3, 2]), GALAXIES, choice)
    assert [record.getMessage() for record in caplog.records] == [
        "curate: pictures occur twice in a split: 1 in train (first: c equals a); each copy counts as a galaxy"
    ]


def test_pictures_of_two_splits_are_reported_by_choice(caplog):
    finder = finder_of([3, 1, 2, 1])
    check_duplicates(finder, GALAXIES, "keep")
    check_duplicates(finder, GALAXIES, "drop")
    what = "pictures occur in two splits: 1 train and test (first: d equals b)"
    assert [record.getMessage() for record in caplog.records] == [
        f"curate: {what}, so test results are too good; curate.duplicates=drop removes them",
        f"curate: {what}; they are left out",
    ]
    with pytest.raises(CatalogError) as caught:
        check_duplicates(finder, GALAXIES, "reject")
    assert str(caught.value) == f"curate.duplicates: {what}; remove them from the survey, or set it to drop"


def test_pictures_in_two_classes_are_reported(caplog):
    check_duplicates(finder_of([3, 3, 3, 2]), GALAXIES, "keep")
    what = "curate: 1 pictures have the label of one class and occur in another, too (first: b equals a)"
    assert what in caplog.messages
