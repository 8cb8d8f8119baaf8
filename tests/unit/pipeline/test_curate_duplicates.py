"""Pictures that occur in two splits."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raydistill.artifacts.curated import SPLITS, Summary
from raydistill.pipeline.curate.duplicates import DuplicateFinder, fingerprint


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
        earlier = [own for own, other in rows if own < split and other == value]
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


def test_summary_without_copies_has_the_bytes_of_older_sets():
    summary = Summary("x", False, 8, 1.0, (0.0,) * 3, (1.0,) * 3, (), {})
    assert b"duplicates" not in summary.to_json()
    assert (
        b'"duplicates": {\n  "train/test": 2' in Summary(**vars(summary) | {"duplicates": {"train/test": 2}}).to_json()
    )
