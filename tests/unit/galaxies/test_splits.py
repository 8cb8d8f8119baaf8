"""Splits of small classes: by hash rank where the hash alone leaves a split empty."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.galaxies.selection import assign_splits, hash_of_split
from raydistill.galaxies.splits import SMALLEST_CLASS, SPLITS, assign_class_splits

FRACTIONS = (0.7, 0.15, 0.15)


def counts(splits: list[str]) -> list[int]:
    counted = Counter(splits)
    return [counted[name] for name in SPLITS]


def test_class_of_three_training_galaxies_gets_one_galaxy_per_split():
    ids = [i for i in map(str, range(99)) if assign_splits([i], FRACTIONS)[0] == "train"][:3]
    splits, ranked = assign_class_splits(ids, [4] * 3, FRACTIONS)
    assert ranked == [4]
    assert counts(splits) == [1, 1, 1]
    by_hash = [split for _, split in sorted(zip(map(hash_of_split, ids), splits, strict=True))]
    assert by_hash == list(SPLITS)


def test_sizes_follow_the_fractions():
    ids = [i for i in map(str, range(999)) if assign_splits([i], FRACTIONS)[0] == "train"][:40]
    assert counts(assign_class_splits(ids, [0] * 40, FRACTIONS)[0]) == [28, 6, 6]


def test_other_classes_keep_the_split_of_the_hash():
    ids = [str(i) for i in range(1000)]
    labels = [i % 3 for i in range(1000)]
    splits, ranked = assign_class_splits(ids, labels, FRACTIONS)
    assert ranked == []
    assert splits == assign_splits(ids, FRACTIONS).tolist()


@pytest.mark.parametrize("parts", [FRACTIONS, (0.2, 0.2, 0.6), (0.2, 0.8, 0), (0.2, 0, 0.8)])
@pytest.mark.parametrize("count", [1, 2])
def test_class_of_one_or_two_has_a_training_galaxy(count, parts):
    others = [i for i in map(str, range(99)) if assign_splits([i], parts)[0] != "train"][:count]
    splits, ranked = assign_class_splits(others, [7] * count, parts)
    assert ranked == [7]
    assert counts(splits) == [1, int(count == 2 and not parts[2]), int(count == 2 and parts[2] > 0)]


def test_class_of_two_keeps_the_split_of_the_hash():
    for ids in ([str(2 * n), str(2 * n + 1)] for n in range(50)):
        hashed = assign_splits(ids, FRACTIONS).tolist()
        if "train" in hashed:
            assert assign_class_splits(ids, [0, 0], FRACTIONS) == (hashed, [])


def test_split_without_a_fraction_stays_empty():
    ids = [i for i in map(str, range(99)) if assign_splits([i], (0.8, 0.2, 0))[0] == "train"][:6]
    splits, ranked = assign_class_splits(ids, [0] * 6, (0.8, 0.2, 0.0))
    assert (counts(splits), ranked) == ([5, 1, 0], [0])
    assert counts(assign_class_splits(ids, [0] * 6, (1.0, 0.0, 0.0))[0]) == [6, 0, 0]
    assert counts(assign_class_splits(ids, [0] * 6, (0.0, 0.0, 1.0))[0]) == [0, 0, 6]


fractions = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.01, 1)).map(
    lambda parts: (1 - parts[1] / sum(parts) - parts[2] / sum(parts), parts[1] / sum(parts), parts[2] / sum(parts))
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.uuids().map(str), st.integers(0, 3)), max_size=40, unique_by=lambda row: row[0]),
    fractions,
    st.randoms(),
)
def test_every_class_of_three_has_every_split_in_any_order_of_the_table(rows, parts, random):
    ids, labels = [i for i, _ in rows], [label for _, label in rows]
    splits, ranked = assign_class_splits(ids, labels, parts)
    of, label_of = dict(zip(ids, splits, strict=True)), dict(rows)
    for label in set(labels):
        of_class = [i for i in ids if label_of[i] == label]
        if len(of_class) >= SMALLEST_CLASS:
            assert {of[i] for i in of_class} == set(SPLITS)
        assert "train" in {of[i] for i in of_class}
        if label not in ranked:
            assert [of[i] for i in of_class] == assign_splits(of_class, parts).tolist()
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled, same = assign_class_splits([ids[i] for i in order], [labels[i] for i in order], parts)
    assert dict(zip([ids[i] for i in order], shuffled, strict=True)) == of
    assert same == ranked


def test_galaxies_of_one_class_do_not_move_those_of_another():
    ids = [str(i) for i in range(200)]
    alone = assign_class_splits(ids[:100], [0] * 100, FRACTIONS)[0]
    both = assign_class_splits(ids, [0] * 100 + [1] * 97 + [2] * 3, FRACTIONS)[0]
    assert both[:100] == alone


@pytest.mark.parametrize("count", [0, 1])
def test_empty_and_single_tables(count):
    splits, ranked = assign_class_splits(["a"] * count, [0] * count, FRACTIONS)
    assert assign_splits(["a"], FRACTIONS) == ["validation"], "its hash alone leaves nothing for training"
    assert (splits, ranked) == (["train"] * count, [0] * count)


def test_many_classes_are_divided_in_one_pass():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 1000, 20_000)
    splits, _ = assign_class_splits([str(i) for i in range(20_000)], labels.tolist(), FRACTIONS)
    assert all(set(np.array(splits)[labels == label]) == set(SPLITS) for label in range(0, 1000, 50))
